//! Bytes that no gateway of ours would send.

use super::super::*;
use super::bench::{Bench, Gateway, converse, frame, lane, peer, soon, until, with_peers};
use super::relay::Relay;
use culvert_proto::message::Message;
use quinn::{Connection, Endpoint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_link_goes_on_under_garbage() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let relay = Relay::to(north.address(), 0.0, 1).await;
    let address = relay.address.to_string();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &[&address])]));
    let (here, there) = (north.up().await, south.up().await);
    let attack = tokio::spawn(garbage(north.address(), relay.first()));
    let mut sender = there.open_lane(&lane("orders")).await.unwrap();
    let (_, mut receiver) = soon("a lane", here.accept_lane()).await.unwrap();
    let mut frames = 0;
    while !attack.is_finished() || frames < 100 {
        let frame = frame(frames, 10_000);
        let (sent, received) = soon("a frame under attack", async {
            tokio::join!(sender.send(frame.clone()), receiver.recv())
        })
        .await;
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(frame));
        frames += 1;
    }
    attack.await.unwrap();
    converse(&here, &there).await;
    assert_eq!(north.handle.links().len(), 1);
    assert_eq!(north.handle.links()[0].id(), here.id(), "the session stayed");
    // The door is open again: half-made handshakes do not fill it for ever.
    south.stop().await;
    let address = north.address().to_string();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &[&address])]));
    south.up().await;
}

/// Half of it noise, half of it a true Initial with a few bytes changed.
async fn garbage(target: SocketAddr, initial: Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    for nth in 0..100_000u32 {
        let mut bytes = initial.clone();
        if nth % 2 == 0 {
            bytes.truncate(dice.random_range(1..1400));
            dice.fill(bytes.as_mut_slice());
        } else {
            for _ in 0..dice.random_range(1..4) {
                let at = dice.random_range(0..bytes.len());
                bytes[at] = dice.random();
            }
        }
        let _ = socket.send_to(&bytes, target).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_do_not_answer_do_not_shut_the_door() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let relay = Relay::to(north.address(), 0.0, 1).await;
    relay.mute(true);
    let options = Options {
        listen: None,
        ..bench.options("south")
    };
    let identity = Identity::load(&options.identity).unwrap();
    let (mute, transport) = (
        endpoint::open(&options, &identity).unwrap(),
        endpoint::transport(&options),
    );
    let calls: Vec<quinn::Connecting> = (0..200)
        .map(|_| {
            let (tls, _) = identity.dialling(Arc::new(["north".parse().unwrap()].into()));
            mute.connect_with(endpoint::client_config(tls, &transport), relay.address, "north")
                .unwrap()
        })
        .collect();
    until("the calls to fill what is free for them", || {
        north.handle.0.endpoint.stats().accepted_handshakes >= 16
    })
    .await;
    let address = north.address().to_string();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &[&address])]));
    south.up().await;
    north.up().await;
    let accepted = north.handle.0.endpoint.stats().accepted_handshakes;
    assert_eq!(accepted, 16 + 1, "from then on an address has to be proven first");
    drop(calls);
}

/// A connection with good certificates by somebody who does not keep to the protocol above them.
async fn rogue(bench: &Bench, target: SocketAddr) -> (Endpoint, Connection) {
    let options = bench.options("south");
    let identity = Identity::load(&options.identity).unwrap();
    let endpoint = endpoint::open(&options, &identity).unwrap();
    let (tls, _) = identity.dialling(Arc::new(["north".parse().unwrap()].into()));
    let config = endpoint::client_config(tls, &endpoint::transport(&options));
    let connection = endpoint
        .connect_with(config, target, "north")
        .unwrap()
        .await
        .unwrap();
    (endpoint, connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hello_makes_no_link() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let hello = |gateway: &str, instance: [u8; 16]| {
        let hello = Message::Hello {
            version_min: 1,
            version_max: 1,
            gateway: gateway.into(),
            site: "south-site".into(),
            instance,
            build: "rogue".into(),
        };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes).unwrap();
        bytes
    };
    let mut damaged = hello("south", [1; 16]);
    *damaged.last_mut().unwrap() ^= 1;
    let mut credit = Vec::new();
    super::bench::numbered(1).encode(&mut credit).unwrap();
    let cases = [
        ("CULVERT-L004", hello("west", [1; 16])),
        ("CULVERT-L007", damaged),
        ("CULVERT-L007", credit),
        ("CULVERT-L007", u32::MAX.to_be_bytes().to_vec()),
        (
            "CULVERT-L007",
            [hello("south", [1; 16]), hello("south", [2; 16])].concat(),
        ),
    ];
    for (code, bytes) in cases {
        *north.handle.0.last_turned_away.lock() = None;
        let (_endpoint, connection) = rogue(&bench, north.address()).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        until("the refusal", || north.handle.last_turned_away().is_some()).await;
        let refused = north.handle.last_turned_away().unwrap();
        assert_eq!(refused.code(), Some(code), "{refused}");
        let told = Reason::of(&soon("the close", connection.closed()).await);
        assert_eq!(told.code(), Some("CULVERT-L005"), "{told}");
    }
    assert!(!north.has_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_closes_the_link() {
    let bench = Bench::new();
    let mut cases = vec![
        u32::MAX.to_be_bytes().to_vec(),
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7],
    ];
    let mut damaged = Vec::new();
    super::bench::numbered(1).encode(&mut damaged).unwrap();
    damaged[10] ^= 1;
    cases.push(damaged);
    for bytes in cases {
        let (mut north, _south, here, there) = bench.pair().await;
        there.send_raw(&bytes).await;
        let fault = soon("the fault", here.recv()).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Closed(Reason::Protocol { .. })),
            "{fault}"
        );
        assert_eq!(north.down().await.code(), Some("CULVERT-L007"));
        assert_eq!(there.closed().await.code(), Some("CULVERT-L005"));
    }
}
