//! Peers that die, networks that are cut.

use super::super::*;
use super::bench::{Bench, Gateway, converse, frame, lane, peer, soon, with_peers};
use super::relay::Relay;
use std::time::Duration;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Starts a gateway in a runtime of its own, so that it can be killed without a farewell.
fn mortal(options: Options) -> (Runtime, Gateway) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(async { Gateway::start(options) });
    (runtime, gateway)
}

#[test]
fn a_peer_that_was_killed_and_started_again_is_linked_within_a_second() {
    let bench = Bench::new();
    let living = Runtime::new().unwrap();
    for listener_dies in [true, false] {
        let north = with_peers(bench.options("north"), [peer("south", &[])]);
        let (survivor, mut mortals) = if listener_dies {
            let (life, north_gateway) = mortal(north.clone());
            let address = north_gateway.address();
            let south = with_peers(bench.options("south"), [peer("north", &[&address.to_string()])]);
            let again = Options {
                listen: Some(address.into()),
                instance: rand::random(),
                ..north
            };
            (
                living.block_on(async { Gateway::start(south) }),
                (life, north_gateway, again),
            )
        } else {
            let north_gateway = living.block_on(async { Gateway::start(north) });
            let address = north_gateway.address().to_string();
            let south = with_peers(bench.options("south"), [peer("north", &[&address])]);
            let (life, south_gateway) = mortal(south.clone());
            let again = Options {
                listen: Some(south_gateway.address().into()),
                instance: rand::random(),
                ..south
            };
            (north_gateway, (life, south_gateway, again))
        };
        let mut survivor = survivor;
        living.block_on(async {
            survivor.up().await;
            mortals.1.up().await;
        });
        drop((mortals.0, mortals.1)); // no farewell: the tasks that would send it die too
        let (life, mut reborn) = mortal(mortals.2);
        let since = Instant::now();
        living.block_on(async {
            let there = reborn.up().await;
            let here = loop {
                match soon("the new link", survivor.events.recv()).await.unwrap() {
                    Event::Up(link) if link.peer().instance == reborn.handle.0.instance => break link,
                    Event::Up(_) => panic!("a link with the dead"),
                    Event::Down { reason, .. } => assert_eq!(reason, Reason::Restarted),
                }
            };
            let took = since.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
            converse(&here, &there).await;
        });
        drop(life);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cut_of_three_seconds_the_link_is_back_within_two() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let relay = Relay::to(north.address(), 0.0, 1).await;
    let address = relay.address.to_string();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &[&address])]));
    let (mut here, mut there) = (north.up().await, south.up().await);
    relay.cut(true);
    // The length of the cut is the subject here: nothing else to wait for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    relay.cut(false);
    let since = Instant::now();
    // Either the old session comes back to life or a new one has taken its place.
    soon("a live link", async {
        loop {
            super::traffic::take_newest(&mut north, &mut here);
            super::traffic::take_newest(&mut south, &mut there);
            if super::traffic::is_one_session(&here, &there).await {
                break;
            }
        }
    })
    .await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!((north.handle.links().len(), south.handle.links().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_of_a_second_brings_a_new_session_beside_the_old() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    // The first path dies for good; the second is another way to the same gateway.
    let (first, second) = (
        Relay::to(north.address(), 0.0, 1).await,
        Relay::to(north.address(), 0.0, 2).await,
    );
    let addresses = [first.address.to_string(), second.address.to_string()];
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &addresses)]));
    let (_, old) = (north.up().await, south.up().await);
    first.cut(true);
    let since = Instant::now();
    let (here, there) = (north.up().await, south.up().await);
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(4),
        "{took:?}: a second of silence, a second for the dead address"
    );
    assert_ne!(there.id(), old.id());
    assert_eq!(old.closed().await, Reason::Superseded);
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_whole_and_in_order_over_a_lossy_network() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let relay = Relay::to(north.address(), 0.02, 7).await;
    let address = relay.address.to_string();
    let mut south = Gateway::start(with_peers(bench.options("south"), [peer("north", &[&address])]));
    let (here, there) = (north.up().await, south.up().await);
    let mut sender = there.open_lane(&lane("orders")).await.unwrap();
    let sending = tokio::spawn(async move {
        for seed in 0..100 {
            sender.send(frame(seed, 20_000)).await.unwrap();
        }
        sender.finish();
    });
    let (_, mut receiver) = soon("a lane", here.accept_lane()).await.unwrap();
    for seed in 0..100 {
        let got = soon("a frame", receiver.recv()).await.unwrap();
        assert_eq!(got, Some(frame(seed, 20_000)));
    }
    assert_eq!(soon("the end", receiver.recv()).await.unwrap(), None);
    sending.await.unwrap();
}
