//! Networks that let no UDP pass.

use super::super::*;
use super::bench::{Bench, Gateway, converse, frame, lane, peer, soon, until, with_peers};
use super::relay::Relay;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn over_tcp(options: Options) -> Options {
    Options { tcp: true, ..options }
}

/// `north`, and `south`, which reaches it through a relay that passes TCP alone.
async fn blocked(bench: &Bench) -> (Gateway, Gateway, Relay) {
    let north = Gateway::start(over_tcp(with_peers(bench.options("north"), [peer("south", &[])])));
    let relay = Relay::to(north.address(), 0.0, 1).await.with_tcp().await;
    relay.cut(true);
    let address = relay.address.to_string();
    let south = with_peers(bench.options("south"), [peer("north", &[&address])]);
    let south = Gateway::start(over_tcp(south));
    (north, south, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_does_not_pass_a_link_goes_over_tcp_until_it_does() {
    let bench = Bench::new();
    let (mut north, mut south, relay) = blocked(&bench).await;
    let (here, there) = (north.up().await, south.up().await);
    assert!(here.is_carried() && there.is_carried());
    converse(&here, &there).await;
    let mut sender = there.open_lane(&lane("orders")).await.unwrap();
    let sending = tokio::spawn(async move {
        for seed in 0..100 {
            sender.send(frame(seed, 100_000)).await.unwrap();
        }
        sender.finish();
    });
    let (_, mut receiver) = soon("a lane", here.accept_lane()).await.unwrap();
    for seed in 0..100 {
        let got = soon("a frame", receiver.recv()).await.unwrap();
        assert_eq!(got, Some(frame(seed, 100_000)));
    }
    sending.await.unwrap();

    relay.cut(false);
    let better_here = north.up_after(|reason| *reason == Reason::Superseded).await;
    let better_there = south.up().await;
    assert!(!better_here.is_carried() && !better_there.is_carried());
    assert_eq!(there.closed().await, Reason::Superseded);
    converse(&better_here, &better_there).await;
    assert_eq!((north.handle.links().len(), south.handle.links().len()), (1, 1));

    // And down again.
    relay.cut(true);
    let (here, there) = (north.up().await, south.up().await);
    assert!(here.is_carried() && there.is_carried());
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_connection_that_ends_is_noticed_at_once_and_made_anew() {
    let bench = Bench::new();
    let (mut north, mut south, relay) = blocked(&bench).await;
    let (_, there) = (north.up().await, south.up().await);
    relay.hang_up();
    let reason = soon("the end", there.closed()).await;
    assert!(matches!(reason, Reason::Cut { .. }), "{reason}");
    assert!(matches!(south.down().await, Reason::Cut { .. }));
    // At the other end the next session may come before the old one is seen to have ended.
    let there = south.up().await;
    let here = north
        .up_after(|reason| matches!(reason, Reason::Cut { .. }))
        .await;
    assert!(here.is_carried());
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_so_over_tcp_too() {
    let bench = Bench::new();
    let (mut north, mut south, _relay) = blocked(&bench).await;
    let (_, _) = (north.up().await, south.up().await);
    north.stop().await;
    let reason = south.down().await;
    assert!(
        matches!(&reason, Reason::Closed { reason } if reason.contains("the gateway stops")),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_neither_dialled_nor_listened_to_unless_allowed() {
    let bench = Bench::new();
    for (here, there) in [(true, false), (false, true)] {
        let north = with_peers(bench.options("north"), [peer("south", &[])]);
        let north = Gateway::start(Options { tcp: here, ..north });
        assert_eq!(TcpStream::connect(north.address()).await.is_ok(), here);
        let relay = Relay::to(north.address(), 0.0, 1).await.with_tcp().await;
        relay.cut(true);
        let address = relay.address.to_string();
        let south = with_peers(bench.options("south"), [peer("north", &[&address])]);
        let mut south = Gateway::start(Options { tcp: there, ..south });
        // Far behind the attempt after which TCP is dialled where it may be.
        tokio::time::sleep(std::time::Duration::from_secs(8)).await;
        assert_eq!(relay.calls() > 0, there, "who may not does not dial TCP");
        assert!(!south.has_accepted());
        assert_eq!(south.refused("north-site").await.code(), Some("CULVERT-L006"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_peer_is_refused_over_tcp_and_told_why() {
    let bench = Bench::new();
    let (mut north, mut south, _relay) = blocked(&bench).await;
    let (_, _) = (north.up().await, south.up().await);
    north.handle.set_peers(vec![peer("west", &[])]);
    until("a refusal", || {
        let unreached = south.handle.unreached();
        let reason = unreached.get("north-site");
        reason.and_then(Reason::code) == Some("CULVERT-L005")
    })
    .await;
    let reason = south.refused("north-site").await.to_string();
    assert!(
        reason.contains("does not list this gateway as a peer"),
        "{reason}"
    );
    let turned_away = north.handle.last_turned_away().map(|reason| reason.to_string());
    assert!(turned_away.is_some_and(|reason| reason.contains("south")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_link_over_tcp_goes_on_beside_callers_who_speak_no_tls_or_nothing() {
    let bench = Bench::new();
    let (mut north, mut south, _relay) = blocked(&bench).await;
    let (here, there) = (north.up().await, south.up().await);
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    let mut silent = Vec::new();
    for nth in 0..200 {
        let mut stream = TcpStream::connect(north.address()).await.unwrap();
        if nth % 4 == 0 && silent.len() < 40 {
            silent.push(stream);
            continue;
        }
        let mut noise = vec![0; dice.random_range(1..5_000)];
        dice.fill(noise.as_mut_slice());
        let _ = stream.write_all(&noise).await;
        let _ = soon("to be turned away", stream.read(&mut noise)).await;
    }
    converse(&here, &there).await;
    // Those who say nothing are not waited for.
    for mut stream in silent {
        let ended = soon("to be turned away", stream.read(&mut [0; 100])).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    converse(&here, &there).await;
    assert_eq!(north.handle.links().len(), 1);
}
