//! What a shard says and gives back while its sink fails.

use super::*;
use crate::flow::bench::{Stage, THERE, frame_of, sink_route, stream};
use crate::link::tests::bench::{soon, until};
use culvert_proto::message::LaneHeader;
use culvert_proto::record::RecordRef;

/// A sink in memory, and what is wrong with it now.
#[derive(Default)]
struct Target {
    away: bool,
    fences_writes: bool,
    /// Commits are to be made again.
    is_busy: bool,
    commits_made_again: u32,
    takings: u32,
    positions: BTreeMap<StreamId, Position>,
}

struct TargetSink(Arc<Mutex<Target>>);

impl TargetSink {
    fn answers(&self) -> Result<parking_lot::MutexGuard<'_, Target>, SinkFault> {
        let target = self.0.lock();
        if target.away {
            Err(SinkFault::Retry("the target is away".into()))
        } else {
            Ok(target)
        }
    }
}

impl Sink for TargetSink {
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        self.0.lock().takings += 1;
        Ok(self.answers()?.positions.clone().into_iter().collect())
    }

    fn write(
        &mut self,
        _: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        records.for_each(drop);
        if self.answers()?.fences_writes {
            return Err(SinkFault::Fenced("another writer".into()));
        }
        Ok(())
    }

    fn refuse(&mut self, _: &StreamId, _: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        self.answers().map(drop)
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        let mut target = self.answers()?;
        if target.is_busy {
            target.commits_made_again += 1;
            let reason = "the target has enough for now".into();
            return Err(SinkFault::Again { reason, after: None });
        }
        target.positions.extend(positions.iter().cloned());
        Ok(())
    }
}

struct Scene {
    stage: Stage,
    target: Arc<Mutex<Target>>,
    delivery: Arc<Delivery>,
    route: RouteId,
}

impl Scene {
    /// A sink that holds the first five places of stream 0, or as `prepare` makes it. Not linked yet.
    async fn new(commit_interval: Duration, prepare: impl FnOnce(&mut Target)) -> Scene {
        let stage = Stage::new().await;
        let mut target = Target::default();
        target.positions.insert(stream(THERE, 0), position(5));
        prepare(&mut target);
        let target = Arc::new(Mutex::new(target));
        let route = sink_route("target");
        stage.exchange.put_route(route.clone());
        let options = Options {
            shards: 1,
            commit_interval,
            stages: Arc::new(|| Ok(Chain::default())),
            dead_letters: false,
        };
        let made = target.clone();
        let make: Arc<MakeSink> = Arc::new(move |_| Ok(Box::new(TargetSink(made.clone())) as Box<dyn Sink>));
        let delivery = Delivery::start(&stage.exchange, &route, &THERE.into(), &options, &make).unwrap();
        stage.exchange.put_delivery(delivery.clone());
        Scene {
            stage,
            target,
            delivery,
            route: route.id,
        }
    }

    async fn taken(&self) {
        until("the shard to be taken", || {
            !self.delivery.status().taken.is_empty()
        })
        .await;
    }

    /// Waits until the shard was tried in vain twice from now on: what had reached it before was looked at in between.
    async fn tried_in_vain(&self) {
        let before = self.target.lock().takings;
        until("two more attempts", || self.target.lock().takings >= before + 2).await;
    }

    /// Waits until a commit was asked for again twice from now on.
    async fn asked_for_again(&self) {
        let before = self.target.lock().commits_made_again;
        until("a commit to be made again", || {
            self.target.lock().commits_made_again >= before + 2
        })
        .await;
    }

    async fn offer(&self, from: u64, to: u64) {
        self.stage
            .say(Message::Offer {
                route: self.route.clone(),
                stream: stream(THERE, 0),
                held: Interval::new(Sequence(from), Sequence(to)),
                applied: None,
            })
            .await;
    }

    async fn ask(&self, nonce: u128, partition: u32) {
        let streams = vec![stream(THERE, partition)];
        let route = self.route.clone();
        self.stage
            .say(Message::Ask {
                nonce,
                route,
                streams,
            })
            .await;
    }

    async fn begin(&self, nonce: u128, partition: u32) {
        self.stage
            .say(Message::Begin {
                nonce,
                route: self.route.clone(),
                stream: stream(THERE, partition),
                start: Sequence(0),
                guard: Guard::NONE,
            })
            .await;
    }

    async fn hear_answer(&self, nonce: u128) {
        let is_it =
            |message| matches!(message, Message::Answer { nonce: of, .. } if of == nonce).then_some(());
        self.stage.hear("an answer", is_it).await;
    }

    async fn hear_want(&self) -> Sequence {
        let wanted = |message| match message {
            Message::Want { at, .. } => Some(at),
            _ => None,
        };
        self.stage.hear("a wish", wanted).await
    }
}

fn position(at: u64) -> Position {
    Position {
        at: Sequence(at),
        ..Position::beginning(0, Sequence(0), Guard::NONE)
    }
}

const SOON: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_offered_while_the_sink_was_away_is_wanted_when_it_is_back() {
    let scene = Scene::new(SOON, |target| target.away = true).await;
    scene.stage.serve();
    scene.offer(0, 10).await;
    scene.stage.heard().await;
    scene.tried_in_vain().await;
    scene.target.lock().away = false;
    assert_eq!(scene.hear_want().await, Sequence(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_came_while_the_sink_was_away_is_asked_for_again() {
    let scene = Scene::new(SOON, |_| {}).await;
    scene.stage.serve();
    scene.ask(1, 1).await;
    scene.hear_answer(1).await;
    scene.target.lock().away = true;
    scene.ask(2, 2).await;
    scene.stage.heard().await;
    scene.tried_in_vain().await;
    scene.begin(1, 1).await;
    scene.stage.heard().await;
    scene.tried_in_vain().await;
    scene.target.lock().away = false;
    scene.hear_answer(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_for_a_frame_is_given_back_when_its_write_fails() {
    const FRAMES: u64 = 20;
    let scene = Scene::new(SOON, |target| target.fences_writes = true).await;
    scene.taken().await;
    scene.stage.serve();
    let stream = stream(THERE, 0);
    let frame = frame_of(&stream, 5, 1, &[7; 300_000]);
    let sent = FRAMES * frame.bytes().len() as u64;
    let header = LaneHeader {
        route: scene.route.clone(),
        stream,
    };
    let mut lane = scene.stage.peer.open_lane(&header).await.unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..FRAMES {
            lane.send(frame.bytes().clone()).await.unwrap();
        }
        lane
    });
    // A quarter of the window may be kept back.
    let all = |message| matches!(message, Message::Credit { bytes, .. } if bytes >= sent + 3 * 1024 * 1024);
    scene
        .stage
        .hear("credit for all of them", |message| all(message).then_some(()))
        .await;
    drop(sending.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_to_be_made_again_keeps_its_writer_and_what_comes_meanwhile() {
    let scene = Scene::new(SOON, |target| target.is_busy = true).await;
    scene.taken().await;
    scene.stage.serve();
    let stream = stream(THERE, 0);
    let header = LaneHeader {
        route: scene.route.clone(),
        stream: stream.clone(),
    };
    let mut lane = scene.stage.peer.open_lane(&header).await.unwrap();
    for at in 5..8 {
        let frame = frame_of(&stream, at, 1, &[7; 10]);
        lane.send(frame.bytes().clone()).await.unwrap();
        scene.asked_for_again().await;
    }
    // A question that comes meanwhile is answered behind the commit.
    scene.ask(1, 0).await;
    let trouble = scene.delivery.status().trouble;
    assert!(
        matches!(trouble.get(&0), Some(Trouble::Retrying(reason)) if reason.contains("enough for now")),
        "{trouble:?}"
    );
    scene.target.lock().is_busy = false;
    scene.hear_answer(1).await;
    until("all frames to be applied", || {
        scene.target.lock().positions[&stream].at == Sequence(8)
    })
    .await;
    assert_eq!(scene.target.lock().takings, 1);
    assert!(scene.delivery.status().trouble.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_commit_is_made_again_stops_all_the_same() {
    let scene = Scene::new(SOON, |target| target.is_busy = true).await;
    scene.taken().await;
    scene.stage.serve();
    scene.begin(1, 1).await;
    scene.asked_for_again().await;
    let delivery = scene.delivery.clone();
    let stopping = tokio::task::spawn_blocking(move || delivery.stop());
    soon("the end of the shard", stopping).await.unwrap();
    assert_eq!(scene.target.lock().takings, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_less_than_is_needed_is_told_the_position_and_asked_for_nothing() {
    let scene = Scene::new(SOON, |_| {}).await;
    scene.taken().await;
    scene.stage.serve();
    scene.offer(8, 12).await;
    scene.offer(4, 12).await;
    let first = scene
        .stage
        .hear("a word about the stream", |message| match message {
            Message::PositionIs { position, .. } => Some(Ok(position.at)),
            Message::Want { at, .. } => Some(Err(at)),
            _ => None,
        });
    assert_eq!(first.await, Ok(Sequence(5)));
    assert_eq!(scene.hear_want().await, Sequence(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_writer_that_misses_a_stream_registers_anew_so_that_its_origin_asks() {
    let scene = Scene::new(SOON, |_| {}).await;
    scene.taken().await;
    scene.stage.serve();
    let registers = |message| matches!(message, Message::Register { .. }).then_some(());
    scene
        .stage
        .hear("the registration of the session", registers)
        .await;
    // The target comes back from an older backup, and the writer notices at its next commit.
    scene.target.lock().away = true;
    scene.ask(1, 0).await;
    scene.stage.heard().await;
    scene.tried_in_vain().await;
    {
        let mut target = scene.target.lock();
        target.positions.clear();
        target.away = false;
    }
    scene.stage.hear("another registration", registers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_last_commit_fails_stops_all_the_same() {
    let scene = Scene::new(Duration::from_secs(3600), |_| {}).await;
    scene.taken().await;
    scene.stage.serve();
    scene.begin(1, 1).await;
    scene.stage.heard().await;
    scene.target.lock().away = true;
    let delivery = scene.delivery.clone();
    let stopping = tokio::task::spawn_blocking(move || delivery.stop());
    soon("the end of the shard", stopping).await.unwrap();
}
