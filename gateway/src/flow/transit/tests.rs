//! What sessions, lanes and relay queues do when one takes another's place.

use super::*;
use crate::flow::bench::{HERE, NOT_GRANTED, Stage, THERE, frame, sink_route, stream};
use crate::link::tests::bench::{soon, until};
use culvert_proto::{Guard, Position};

const MULTI: &str = "relayed";

fn relayed() -> RouteId {
    RouteId::new("far-site", MULTI)
}

fn interval(from: u64, to: u64) -> Interval {
    Interval::new(Sequence(from), Sequence(to))
}

/// A relay's queue of a stream that comes from the test's site.
fn queue(stage: &Stage) -> Arc<RelayQueue> {
    stage.exchange.queue(&relayed(), &stream(THERE, 0)).unwrap()
}

/// Stores ten records from `from` on, and waits for the disk.
async fn store(stage: &Stage, queue: &RelayQueue, from: u64) {
    let (outlet, _posts) = Outlet::new(stage.link.clone());
    let header = LaneHeader {
        route: relayed(),
        stream: queue.stream.clone(),
    };
    let window = Window::open(outlet, header);
    let frame = frame(&queue.stream, from, 10);
    queue.store(&stage.exchange.outbox, frame, &window).await.unwrap();
    stage.exchange.outbox.synced().await.unwrap();
}

fn wants(posts: &mut mpsc::Receiver<Message>) -> Vec<u64> {
    std::iter::from_fn(|| posts.try_recv().ok())
        .filter_map(|message| match message {
            Message::Want { at, .. } => Some(at.0),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_session_keeps_its_place_whichever_task_runs_first() {
    let stage = Stage::new().await;
    let first = serve(stage.exchange.clone(), stage.link.clone());
    let [before] = &stage.exchange.outlets(THERE)[..] else {
        panic!("a session has its place before its task runs");
    };
    let second = serve(stage.exchange.clone(), stage.link.clone());
    assert!(!stage.exchange.is_present(before));
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_goes_before_anything_else_of_a_session() {
    let stage = Stage::new().await;
    let route = sink_route("sink");
    stage.exchange.put_route(route);
    let session = serve(stage.exchange.clone(), stage.link.clone());
    // A shard that commits before the session's task has run once.
    let word = Message::Forget {
        route: RouteId::new(HERE, "sink"),
    };
    stage.exchange.post_to_site(THERE, &word);
    tokio::spawn(session);
    let first = stage.hear("the first message", Some).await;
    assert!(matches!(first, Message::Register { .. }), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_over_moves_nothing_and_is_no_offence() {
    let stage = Stage::new().await;
    let (old, _old_posts) = Outlet::new(stage.link.clone());
    let (new, _new_posts) = Outlet::new(stage.link.clone());
    for outlet in [&old, &new] {
        stage.exchange.link_up(outlet, |_| None);
    }
    let register = |id: &RouteId| Message::Register {
        route: id.clone(),
        origin: HERE.into(),
        topics: TopicFilter::default(),
        start: Start::Earliest,
        incarnation: 0,
    };
    let id = RouteId::new(THERE, "sink");
    handle(&stage.exchange, &new, register(&id)).unwrap();
    handle(&stage.exchange, &old, register(&id)).unwrap();
    let downstream = stage.exchange.route(&id).unwrap().downstream.unwrap();
    assert!(downstream.is(&new), "the older session took the route");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_about_a_route_that_was_refused_does_not_cut_off_the_others() {
    let stage = Stage::new().await;
    stage.serve();
    stage
        .say(Message::PositionIs {
            route: RouteId::new(THERE, "refused"),
            stream: stream(HERE, 0),
            writer: 1,
            position: Position::beginning(0, Sequence(0), Guard::NONE),
        })
        .await;
    stage.heard().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_a_topic_that_is_not_granted_is_refused() {
    let stage = Stage::new().await;
    stage.serve();
    let (route, salaries) = (
        RouteId::new(THERE, "sink"),
        StreamId {
            topic: NOT_GRANTED.into(),
            ..stream(HERE, 0)
        },
    );
    stage
        .say(Message::Register {
            route: route.clone(),
            origin: HERE.into(),
            topics: TopicFilter::default(),
            start: Start::Earliest,
            incarnation: 0,
        })
        .await;
    stage
        .say(Message::DigestAsk {
            nonce: 7,
            route,
            stream: salaries,
            interval: interval(0, 100),
            block_records: 10,
            without_ids: Vec::new(),
        })
        .await;
    let answer = stage.hear("an answer", |message| match message {
        Message::DigestAnswer { blocks, fault, .. } => Some((blocks.len(), fault)),
        _ => None,
    });
    let (blocks, fault) = answer.await;
    assert_eq!((blocks, &*fault.unwrap().code), (0, "CULVERT-F004"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_route_waits_for_a_full_disk_and_nobody_else_does() {
    let stage = Stage::with_full_disk().await;
    stage.serve();
    let id = RouteId::new(THERE, "sink");
    stage
        .say(Message::Register {
            route: id.clone(),
            origin: HERE.into(),
            topics: TopicFilter::default(),
            start: Start::Earliest,
            incarnation: 0,
        })
        .await;
    stage.heard().await;
    assert!(stage.exchange.route(&id).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_offers_again_when_its_queue_begins_elsewhere() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    store(&stage, &queue, 20).await;
    let before = queue.restarts.load(Ordering::Acquire);
    let (below, _posts) = Outlet::new(stage.link.clone());
    queue.want(&below, Sequence(5)).unwrap();
    assert_eq!(queue.held(), Some(interval(5, 5)));
    assert_ne!(queue.restarts.load(Ordering::Acquire), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_asks_every_gateway_that_offers_the_stream() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    // Both ends of the bench's link stand for gateways of the origin's site: they have different names.
    let (reads, mut reads_posts) = Outlet::new(stage.link.clone());
    let (read_before, mut read_before_posts) = Outlet::new(stage.peer.clone());
    queue.offered(&reads, interval(0, 30), None);
    queue.offered(&read_before, interval(0, 10), None);
    let (below, _posts) = Outlet::new(stage.link.clone());
    store(&stage, &queue, 0).await;
    queue.want(&below, Sequence(7)).unwrap();
    queue.want(&below, Sequence(90)).unwrap();
    assert_eq!(wants(&mut reads_posts).last(), Some(&90));
    assert_eq!(wants(&mut read_before_posts).last(), Some(&90));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_outlives_the_end_of_the_session_before_and_counts_in_its_own_alone() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    store(&stage, &queue, 0).await;
    let (old, _old_posts) = Outlet::new(stage.link.clone());
    let (new, _new_posts) = Outlet::new(stage.link.clone());
    queue.want(&new, Sequence(0)).unwrap();
    queue.unlinked(&old);
    assert_eq!(queue.next(&new), Some(Sequence(0)));
    assert_eq!(queue.next(&old), None);
    queue.unlinked(&new);
    assert_eq!(queue.next(&new), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_comes_after_a_frame_was_taken_to_be_sent_wins() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    store(&stage, &queue, 0).await;
    let (below, _posts) = Outlet::new(stage.link.clone());
    let supply = Supply::Relay(queue.clone());
    queue.want(&below, Sequence(0)).unwrap();
    assert!(supply.take(&below, interval(0, 10)));
    assert!(!supply.take(&below, interval(0, 10)), "it is sent already");
    queue.want(&below, Sequence(3)).unwrap();
    assert_eq!(supply.next(&below), Some(Sequence(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sending_has_freed_is_freed_on_disk_though_a_frame_comes_right_behind() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    store(&stage, &queue, 0).await;
    let (below, _posts) = Outlet::new(stage.link.clone());
    queue.want(&below, Sequence(0)).unwrap();
    queue.position(&stage.exchange, Sequence(10)).unwrap();
    assert!(queue.take(&below, interval(0, 10)));
    store(&stage, &queue, 10).await;
    until("the first frame to be freed", || {
        queue.lane.extent().base == Sequence(10)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_goes_on_when_what_was_due_is_freed_before_it_is_read() {
    let stage = Stage::new().await;
    let queue = queue(&stage);
    store(&stage, &queue, 0).await;
    store(&stage, &queue, 10).await;
    let (outlet, _posts) = Outlet::new(stage.link.clone());
    let (route, stream) = (relayed(), queue.stream.clone());
    let sending = Sending {
        route,
        stream,
        outlet,
        supply: Supply::Relay(queue.clone()),
        schemas: stage.exchange.schemas.clone(),
        credit: AtomicU64::new(0),
        offer_due: AtomicBool::new(false),
        wake: Notify::new(),
    };
    queue.lane.trim(Sequence(10)).unwrap();
    until("the first frame to be freed", || {
        queue.lane.extent().base == Sequence(10)
    })
    .await;
    assert!(sending.read(Sequence(0)).unwrap().is_empty());
    assert_eq!(sending.read(Sequence(10)).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_spelled_stops_none_behind_it() {
    let stage = Stage::new().await;
    let (outlet, posts) = Outlet::new(stage.link.clone());
    let writer = tokio::spawn(write_posts(stage.link.clone(), posts));
    let long = "x".repeat(culvert_proto::limits::NAME_BYTES_MAX + 1);
    for name in [long.as_str(), "short"] {
        outlet.post(Message::Forget {
            route: RouteId(name.into()),
        });
    }
    let route = stage.hear("the second message", |message| match message {
        Message::Forget { route } => Some(route),
        _ => None,
    });
    assert_eq!(route.await, RouteId("short".into()));
    drop(outlet);
    soon("the writer to end", writer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_sends_on_as_urgently_as_it_was_told() {
    let stage = Stage::new().await;
    stage.exchange.put_route(Route {
        id: relayed(),
        role: Role::Relay,
        ..sink_route(MULTI)
    });
    let supply = Supply::Relay(queue(&stage));
    assert_eq!(supply.priority(), None);
    let (outlet, _posts) = Outlet::new(stage.link.clone());
    stage.exchange.link_up(&outlet, |_| None);
    let say = |site: &str, priority| {
        let message = Message::PriorityIs {
            route: relayed(),
            stream: stream(site, 0),
            priority,
        };
        handle(&stage.exchange, &outlet, message)
    };
    for priority in [Priority::Low, Priority::High, Priority::Normal] {
        say(THERE, priority).unwrap();
        assert_eq!(supply.priority(), Some(priority));
    }
    let refused = say("another-site", Priority::High);
    assert!(matches!(refused, Err(Error::Overstepped(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_hop_is_told_how_urgent_a_stream_is_once_its_source_has_said() {
    let stage = Stage::new().await;
    stage.serve();
    let id = stream(HERE, 0);
    let reading = OriginStream::open(&stage.exchange, &id).unwrap();
    stage
        .say(Message::Register {
            route: RouteId::new(THERE, "sink"),
            origin: HERE.into(),
            topics: TopicFilter {
                names: vec!["orders".into()],
                pattern: None,
            },
            start: Start::Earliest,
            incarnation: 0,
        })
        .await;
    stage
        .hear("the registration to be stored", |message| {
            matches!(message, Message::Registered { .. }).then_some(())
        })
        .await;
    for said in [Priority::High, Priority::Low] {
        reading.set_priority(said);
        let heard = stage
            .hear("the priority", |message| match message {
                Message::PriorityIs { stream, priority, .. } if stream == id => Some(priority),
                _ => None,
            })
            .await;
        assert_eq!(heard, said);
    }
}
