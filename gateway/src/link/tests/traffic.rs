//! What a live link does: messages, lanes, limits.

use super::super::*;
use super::bench::{Bench, Gateway, converse, frame, lane, numbered, peer, soon, until, with_peers};
use culvert_proto::limits::FRAME_BYTES_MAX;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_frames_travel_both_ways_in_order() {
    let bench = Bench::new();
    let (north, south, here, there) = bench.pair().await;
    assert_eq!(here.peer().gateway.as_str(), "south");
    assert_eq!(&*there.peer().site, "north-site");
    assert_eq!(there.peer().version, 1);
    for (from, to) in [(&here, &there), (&there, &here)] {
        for number in 0..100 {
            from.send(&numbered(number)).await.unwrap();
        }
        for number in 0..100 {
            assert_eq!(soon("a message", to.recv()).await.unwrap(), numbered(number));
        }
        let mut sender = from.open_lane(&lane("orders")).await.unwrap();
        let (header, mut receiver) = soon("a lane", to.accept_lane()).await.unwrap();
        assert_eq!(header, lane("orders"));
        for (seed, size) in (0..).zip([0, 1, 200, 64 * 1024, 256 * 1024, 3 * 1024 * 1024]) {
            let frame = frame(seed, size);
            let (sent, received) = tokio::join!(sender.send(frame.clone()), receiver.recv());
            sent.unwrap();
            assert_eq!(received.unwrap(), Some(frame), "{size} bytes");
        }
        sender.finish();
        assert_eq!(soon("the end of the lane", receiver.recv()).await.unwrap(), None);
    }
    assert!(here.stats().received_bytes > 3 * 1024 * 1024 && here.stats().rtt > Duration::ZERO);
    south.stop().await;
    assert!(matches!(here.closed().await, Reason::Closed { .. }));
    north.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_nobody_reads_stops_neither_another_lane_nor_control() {
    let bench = Bench::new();
    let (_north, _south, here, there) = bench.pair().await;
    let mut stalled = here.open_lane(&lane("stalled")).await.unwrap();
    let (_, unread) = soon("the stalled lane", there.accept_lane()).await.unwrap();
    let sending = tokio::spawn(async move {
        loop {
            stalled.send(frame(1, 256 * 1024)).await?;
        }
        #[expect(unreachable_code)]
        Ok::<(), Fault>(())
    });
    // The stalled lane is full when it has stopped growing: its window is 16 MiB.
    until("the stalled lane to fill its window", || {
        there.stats().received_bytes >= 16 * 1024 * 1024
    })
    .await;
    let mut sender = here.open_lane(&lane("lively")).await.unwrap();
    let (header, mut receiver) = soon("the lively lane", there.accept_lane()).await.unwrap();
    assert_eq!(header, lane("lively"));
    for seed in 0..100 {
        let frame = frame(seed, 256 * 1024);
        let (sent, received) = soon("a frame beside a stalled lane", async {
            tokio::join!(sender.send(frame.clone()), receiver.recv())
        })
        .await;
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(frame));
    }
    converse(&here, &there).await;
    assert!(!sending.is_finished());
    drop(unread);
    assert_eq!(
        soon("the sender to be told", sending).await.unwrap(),
        Err(Fault::LaneStopped)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_half_way_is_not_lost() {
    let bench = Bench::new();
    let (_north, _south, here, there) = bench.pair().await;
    let reader = tokio::spawn(async move {
        let (_, mut receiver) = impatiently(|| there.accept_lane()).await.unwrap();
        let mut sizes = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_micros(50), receiver.recv()).await;
            match next {
                Err(_) => {}
                Ok(Ok(Some(frame))) => sizes.push(frame),
                Ok(Ok(None)) => return sizes,
                Ok(Err(fault)) => panic!("{fault}"),
            }
        }
    });
    let mut sender = here.open_lane(&lane("orders")).await.unwrap();
    for seed in 0..50 {
        sender.send(frame(seed, 100_000)).await.unwrap();
    }
    sender.finish();
    let frames = soon("all frames", reader).await.unwrap();
    assert_eq!(frames.len(), 50);
    assert!(
        frames
            .iter()
            .zip(0..)
            .all(|(got, seed)| *got == frame(seed, 100_000))
    );
}

/// Calls again and again, each time with no patience at all.
async fn impatiently<T, F: Future<Output = T>>(call: impl Fn() -> F) -> T {
    soon("an impatient call", async {
        loop {
            if let Ok(outcome) = tokio::time::timeout(Duration::from_micros(50), call()).await {
                return outcome;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_ends_its_lane_and_nothing_else() {
    let bench = Bench::new();
    let (_north, _south, here, there) = bench.pair().await;
    for size in [u32::try_from(FRAME_BYTES_MAX - 4).unwrap() + 1, u32::MAX] {
        let mut sender = here.open_lane(&lane("orders")).await.unwrap();
        let (_, mut receiver) = soon("a lane", there.accept_lane()).await.unwrap();
        sender.send(size.to_be_bytes().to_vec().into()).await.unwrap();
        let fault = soon("the fault", receiver.recv()).await.unwrap_err();
        assert_eq!(
            fault,
            Fault::FrameSize {
                size: size as usize,
                max: FRAME_BYTES_MAX - 4
            }
        );
        assert!(fault.to_string().starts_with("[CULVERT-L008]"));
    }
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_cut_inside_a_frame_is_no_end() {
    let bench = Bench::new();
    let (_north, _south, here, there) = bench.pair().await;
    for finish in [true, false] {
        let mut sender = here.open_lane(&lane("orders")).await.unwrap();
        let (_, mut receiver) = soon("a lane", there.accept_lane()).await.unwrap();
        sender.send(frame(1, 1000).slice(..500)).await.unwrap();
        if finish {
            sender.finish();
        } else {
            drop(sender);
        }
        assert_eq!(soon("the cut", receiver.recv()).await, Err(Fault::LaneCut));
    }
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_frames_flow_and_none_is_lost() {
    let bench = Bench::new();
    let (north, south, here, there) = bench.pair().await;
    let mut sender = here.open_lane(&lane("orders")).await.unwrap();
    let (_, mut receiver) = soon("a lane", there.accept_lane()).await.unwrap();
    let (renewed, mut seen) = watch::channel(0);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while *seen.borrow_and_update() < 20 || sent < 200 {
            sender.send(frame(sent, 10_000)).await.unwrap();
            sent += 1;
        }
        sender.finish();
        sent
    });
    let receiving = tokio::spawn(async move {
        let mut received = 0;
        while let Some(got) = receiver.recv().await.unwrap() {
            assert_eq!(got, frame(received, 10_000));
            received += 1;
        }
        received
    });
    let before = north.handle.certificate().fingerprint;
    for round in 1..=20 {
        for (gateway, name) in [(&north, "north"), (&south, "south")] {
            bench.renew(&bench.identity_at(name, bench.path().join(format!("gateways/{name}.pem"))));
            gateway.handle.reload().unwrap();
        }
        renewed.send_replace(round);
    }
    let (sent, received) = soon("all frames", async {
        (sending.await.unwrap(), receiving.await.unwrap())
    })
    .await;
    assert_eq!(sent, received);
    assert_ne!(north.handle.certificate().fingerprint, before);
    assert!(north.handle.links()[0].id() == here.id(), "the session stayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_wrong_leave_the_old_certificate_in_use() {
    let bench = Bench::new();
    let (north, _south, here, there) = bench.pair().await;
    let before = north.handle.certificate();
    std::fs::write(bench.path().join("gateways/north.pem"), "nothing").unwrap();
    assert!(
        north
            .handle
            .reload()
            .unwrap_err()
            .to_string()
            .starts_with("[CULVERT-P002]")
    );
    assert_eq!(north.handle.certificate(), before);
    converse(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_dial_exactly_one_session_stays() {
    for _ in 0..5 {
        let bench = Bench::new();
        let mut north = Gateway::start(bench.options("north"));
        let mut south = Gateway::start(bench.options("south"));
        let (there, here) = (south.address().to_string(), north.address().to_string());
        north.handle.set_peers(vec![peer("south", &[&there])]);
        south.handle.set_peers(vec![peer("north", &[&here])]);
        let (mut last_here, mut last_there) = (north.up().await, south.up().await);
        // Whatever comes after is a replacement; in the end both hold the two ends of one session.
        soon("agreement", async {
            while !is_one_session(&last_here, &last_there).await {
                take_newest(&mut north, &mut last_here);
                take_newest(&mut south, &mut last_there);
            }
        })
        .await;
        until("the other session to go", || {
            north.handle.0.endpoint.open_connections() == 1 && south.handle.0.endpoint.open_connections() == 1
        })
        .await;
        take_newest(&mut north, &mut last_here);
        take_newest(&mut south, &mut last_there);
        assert_ne!(last_here.side(), last_there.side());
        converse(&last_here, &last_there).await;
    }
}

/// Whether what is said at one end arrives at the other.
pub(super) async fn is_one_session(here: &Link, there: &Link) -> bool {
    let message = numbered(rand::random::<u32>().into());
    let arrives = async {
        here.send(&message).await?;
        while there.recv().await? != message {}
        Ok::<(), Fault>(())
    };
    matches!(
        tokio::time::timeout(Duration::from_millis(100), arrives).await,
        Ok(Ok(()))
    )
}

pub(super) fn take_newest(gateway: &mut Gateway, link: &mut Link) {
    while let Ok(event) = gateway.events.try_recv() {
        if let Event::Up(newer) = event {
            *link = newer;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_gateways_of_one_site_are_linked_side_by_side() {
    let bench = Bench::new();
    let site = PeerConfig {
        site: "south-site".into(),
        gateways: Arc::new(["south-1".parse().unwrap(), "south-2".parse().unwrap()].into()),
        addresses: Vec::new(),
    };
    let mut north = Gateway::start(with_peers(bench.options("north"), [site]));
    let address = north.address().to_string();
    let dial = |name: &str| {
        let options = Options {
            site: "south-site".into(),
            ..bench.options(name)
        };
        Gateway::start(with_peers(options, [peer("north", &[&address])]))
    };
    let _gateways = (dial("south-1"), dial("south-2"));
    let (first, second) = (north.up().await, north.up().await);
    assert_ne!(first.peer().gateway, second.peer().gateway);
    assert_eq!(north.handle.links().len(), 2);
}
