//! What a stream and its source task tell each other, and when.

use super::stream::lane_key;
use super::*;
use crate::codec::compression::Codecs;
use crate::flow::bench::{HERE, Stage, THERE, stream};
use crate::flow::exchange::{Outlet, Role, Route, Topics};
use crate::flow::{Halt, Intake, letters};
use crate::link::tests::bench::{soon, until};
use crate::outbox::Lane;
use culvert_proto::columns::{Columns, Made, Outcomes, Rejection};
use culvert_proto::frame::Frame;
use culvert_proto::message::{Start, TopicFilter};
use culvert_proto::origin::{self, Action};
use culvert_proto::record::RecordRef;
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Interval, Position};
use std::sync::atomic::{AtomicU64, Ordering};

const WRITER: u128 = 7;

fn sink() -> RouteId {
    RouteId::new(THERE, "sink")
}

/// A route of the test's site, which reads all of ours.
fn route() -> Route {
    let topics = TopicFilter {
        names: Vec::new(),
        pattern: Some(".*".into()),
    };
    Route {
        id: sink(),
        origin: HERE.into(),
        topics: Arc::new(Topics::new(topics).unwrap()),
        start: Start::Earliest,
        incarnation: 0,
        role: Role::Origin,
        downstream: None,
    }
}

/// A stream of this site that a task reads, the number of the assignment, and what the task is told.
fn read_stream(stage: &Stage) -> (Arc<OriginStream>, u64, mpsc::Receiver<Order>) {
    let stream = OriginStream::open(&stage.exchange, &stream(HERE, 0)).unwrap();
    let (orders, inbox) = mpsc::channel();
    let number = stream.assigned(Slot(0), orders, None);
    (stream, number, inbox)
}

/// The sink of the route says that it holds everything below `at`.
fn answered(stream: &OriginStream, at: u64) {
    let position = Position {
        at: Sequence(at),
        ..Position::beginning(0, Sequence(0), Guard::NONE)
    };
    let nonce = stream.act(|machine| {
        machine.linked(&sink());
        machine
            .take_actions()
            .into_iter()
            .find_map(|action| match action {
                Action::Ask { nonce, .. } => Some(nonce),
                _ => None,
            })
    });
    stream.act(|machine| machine.answer(&sink(), nonce.unwrap(), WRITER, Some(position)));
}

fn commits(inbox: &mpsc::Receiver<Order>) -> Vec<u64> {
    inbox
        .try_iter()
        .filter_map(|order| match order {
            Order::Commit(_, at) => Some(at.0),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_until_it_is_stored_that_the_sink_is_known() {
    let stage = Stage::with_full_disk().await;
    stage.exchange.put_route(route());
    let (stream, _, inbox) = read_stream(&stage);
    stream.register(&route()).unwrap();
    // On a full disk: the session that brings the answer goes on, and the group is told nothing that rests on it.
    let told = stream.clone();
    let answering = tokio::task::spawn_blocking(move || answered(&told, 5));
    soon("the answer to be taken in", answering).await.unwrap();
    assert_eq!(stream.applied(&sink()), Some(Sequence(5)));
    assert!(commits(&inbox).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_ordered_once_that_is_stored() {
    let stage = Stage::new().await;
    stage.exchange.put_route(route());
    let (stream, _, inbox) = read_stream(&stage);
    stream.register(&route()).unwrap();
    answered(&stream, 5);
    until("the commit", || commits(&inbox) == [5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_hears_late_that_it_lost_a_stream_takes_it_from_nobody() {
    let stage = Stage::new().await;
    let (stream, first, _inbox) = read_stream(&stage);
    let (orders, inbox) = mpsc::channel();
    let second = stream.assigned(Slot(0), orders, None);
    while inbox.try_recv().is_ok() {}
    stream.revoked(first);
    assert!(stream.is_read_here());
    stream.seek(origin::Place::Beginning);
    assert!(matches!(
        inbox.try_recv(),
        Ok(Order::Seek(Slot(0), Place::Earliest, _))
    ));
    stream.revoked(second);
    assert!(!stream.is_read_here());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lost_its_route_meanwhile_is_no_way_to_the_sink() {
    let stage = Stage::new().await;
    let (old, _old_posts) = Outlet::new(stage.link.clone());
    let (new, _new_posts) = Outlet::new(stage.link.clone());
    stage.exchange.link_up(&new, |_| None);
    let registered = Route {
        downstream: Some(new.clone()),
        ..route()
    };
    assert!(stage.exchange.put_route(registered));
    let (stream, ..) = read_stream(&stage);
    stream.register(&route()).unwrap();
    stream.linked(&sink(), &new);
    stream.linked(&sink(), &old);
    assert!(stream.outlets.lock().get(&sink()).unwrap().is(&new));
    stream.unlinked(&sink(), &old);
    assert!(stream.outlets.lock().contains_key(&sink()));
    stream.unlinked(&sink(), &new);
    assert!(stream.outlets.lock().is_empty());
}

/// A source that does what it is told, and remembers it.
#[derive(Default)]
struct Tame {
    told: Vec<(&'static str, Slot)>,
    committed: Arc<Mutex<Vec<(Slot, Sequence)>>>,
    fails: bool,
    assigns: Option<StreamId>,
    stops: Option<mpsc::Sender<Order>>,
}

impl Source for Tame {
    fn poll(&mut self, _: Duration, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if self.fails {
            return Err(SourceFault::Retry("the source is away".into()));
        }
        if let Some(stream) = self.assigns.take() {
            intake.assigned(Slot(0), stream, None);
        }
        if let Some(orders) = self.stops.take() {
            let _ = orders.send(Order::Stop);
        }
        Ok(())
    }

    fn seek(&mut self, slot: Slot, _: Place) -> Result<(), SourceFault> {
        self.told.push(("seek", slot));
        Ok(())
    }

    fn pause(&mut self, slot: Slot) -> Result<(), SourceFault> {
        self.told.push(("pause", slot));
        Ok(())
    }

    fn resume(&mut self, slot: Slot) -> Result<(), SourceFault> {
        self.told.push(("resume", slot));
        Ok(())
    }

    fn commit(&mut self, applied: &[(Slot, Sequence)]) -> Result<(), SourceFault> {
        self.committed.lock().extend(applied);
        Ok(())
    }

    fn close(&mut self) {}
}

fn desk(stage: &Stage) -> (Desk, mpsc::Receiver<Order>) {
    let (orders, inbox) = mpsc::channel();
    let desk = Desk {
        exchange: stage.exchange.clone(),
        orders,
        codec: Codec::None,
        quota: None,
        priority: Priority::Normal,
        chain: Chain::default(),
        slots: BTreeMap::new(),
        taken: 0,
        wanted: None,
    };
    (desk, inbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_assigned_while_the_outbox_is_full_is_paused_too() {
    let stage = Stage::new().await;
    let (mut desk, _inbox) = desk(&stage);
    let mut source = Tame::default();
    desk.assigned(Slot(0), stream(HERE, 0), None);
    desk.pause(&mut source, true).unwrap();
    desk.assigned(Slot(1), stream(HERE, 1), None);
    desk.pause(&mut source, true).unwrap();
    desk.pause(&mut source, false).unwrap();
    let told = [
        ("pause", Slot(0)),
        ("pause", Slot(1)),
        ("resume", Slot(0)),
        ("resume", Slot(1)),
    ];
    assert_eq!(source.told, told);
}

/// Reads `slot` from place 0 on.
fn place(stage: &Stage, desk: &mut Desk, slot: u32) -> Arc<OriginStream> {
    desk.assigned(Slot(slot), stream(HERE, slot), None);
    let reading = stage.exchange.stream(&stream(HERE, slot)).unwrap();
    reading.register(&route()).unwrap();
    answered(&reading, 0);
    assert!(desk.restart(Slot(slot), reading.seeks.load(Ordering::Acquire)));
    desk.placed(Slot(slot), Sequence(0), Guard::NONE);
    reading
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_at_its_quota_is_paused_alone_and_goes_on_once_it_is_freed() {
    let stage = Stage::new().await;
    stage.exchange.put_route(route());
    let (mut desk, _inbox) = desk(&stage);
    desk.quota = Some(10_000);
    let mut source = Tame::default();
    let (first, second) = (place(&stage, &mut desk, 0), place(&stage, &mut desk, 1));
    let value = "x".repeat(1_000);
    let mut next = 0;
    while !desk.slots[&Slot(0)].is_at_quota() {
        desk.record(Slot(0), Sequence(next), 0, &record(&value));
        desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
        next += 1;
    }
    desk.record(Slot(1), Sequence(0), 0, &record(&value));
    desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
    assert!(!desk.waits(), "the others do not wait");
    desk.pause(&mut source, false).unwrap();
    assert_eq!(source.told, [("pause", Slot(0))]);
    let held = first.quota_use().unwrap();
    assert!(held.used_bytes <= 10_000 && !held.has_room, "{held:?}");
    assert_eq!(second.lane.extent().tail, Sequence(1));

    // The sink has all of it: what waited follows, and the stream is read again.
    stage.exchange.outbox.synced().await.unwrap();
    let applied = first.lane.extent().durable;
    assert!(applied < Sequence(next), "the last record waits");
    first.lane.trim(applied).unwrap();
    until("room", || *first.quota_room().borrow()).await;
    desk.close_batches(Instant::now());
    desk.pause(&mut source, false).unwrap();
    assert_eq!(source.told.last(), Some(&("resume", Slot(0))));
    assert_eq!(
        first.lane.extent().tail,
        Sequence(next),
        "in order, and nothing left out"
    );
    stage.exchange.outbox.synced().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_an_overtaken_seek_went_halts_nothing() {
    let stage = Stage::new().await;
    let (mut desk, _inbox) = desk(&stage);
    let id = stream(HERE, 0);
    desk.assigned(Slot(0), id.clone(), None);
    let stream = stage.exchange.stream(&id).unwrap();
    assert!(desk.restart(Slot(0), 1));
    let halt = || Halt {
        code: "CULVERT-K003",
        reason: "the place is gone".into(),
    };
    stream.seek(origin::Place::Beginning);
    desk.halted(Slot(0), halt());
    assert_eq!(stage.exchange.halt_of(&id, &sink()), None);
    assert!(desk.restart(Slot(0), 2));
    desk.halted(Slot(0), halt());
    assert!(
        stage.exchange.halt_of(&id, &sink()).is_some(),
        "of the last seek it is told"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_be_committed_for_a_slot_is_forgotten_with_the_source_that_named_it() {
    let stage = Stage::new().await;
    let (desk, inbox) = desk(&stage);
    let orders = desk.orders.clone();
    orders.send(Order::Commit(Slot(0), Sequence(1_000))).unwrap();
    let committed: Arc<Mutex<Vec<(Slot, Sequence)>>> = Arc::default();
    let runner = Runner {
        name: "tame".into(),
        desk,
        inbox,
        beginning: Place::Earliest,
        commits: BTreeMap::new(),
        status: Arc::default(),
    };
    let seen = committed.clone();
    let made = AtomicU64::new(0);
    let running = tokio::task::spawn_blocking(move || {
        runner.run(&|| Ok(Chain::default()), &move || {
            let fails = made.fetch_add(1, Ordering::AcqRel) == 0;
            Ok(Box::new(Tame {
                committed: seen.clone(),
                fails,
                assigns: Some(stream(HERE, 1)),
                stops: Some(orders.clone()).filter(|_| !fails),
                ..Tame::default()
            }))
        });
    });
    soon("the task to end", running).await.unwrap();
    assert!(committed.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_ahead_only_while_somebody_takes_each_of_its_streams() {
    let stage = Stage::new().await;
    stage.exchange.put_route(route());
    let (mut desk, _inbox) = desk(&stage);
    desk.assigned(Slot(0), stream(HERE, 0), None);
    let reading = stage.exchange.stream(&stream(HERE, 0)).unwrap();
    reading.register(&route()).unwrap();
    answered(&reading, 0);
    assert!(desk.restart(Slot(0), reading.seeks.load(Ordering::Acquire)));
    desk.placed(Slot(0), Sequence(0), Guard::NONE);
    let record = RecordRef {
        timestamp: 0,
        key: None,
        value: Some(b"v"),
        headers: culvert_proto::record::Headers::NONE,
    };
    for sequence in 0..=AHEAD_PLACES {
        desk.record(Slot(0), Sequence(sequence), 0, &record);
    }
    desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
    assert!(!desk.is_ahead(), "nobody has asked for anything");
    reading.act(|machine| machine.want(&sink(), Sequence(0)));
    assert!(desk.is_ahead());
    desk.assigned(Slot(1), stream(HERE, 1), None);
    assert!(!desk.is_ahead(), "nobody takes the second stream");
    desk.revoked(Slot(1));
    assert!(desk.is_ahead());
    let taken = Interval::new(Sequence(0), Sequence(AHEAD_PLACES));
    reading.act(|machine| machine.sent(&sink(), taken));
    assert!(!desk.is_ahead());
    // The stage's folder goes with it: what is still to be written would end the process.
    stage.exchange.outbox.synced().await.unwrap();
}

// ----- stages ----------------------------------------------------------------------------------------------------

/// Doubles, drops, refuses or holds up what its name says, and keeps the rest.
struct Words {
    held_up: Arc<AtomicU64>,
}

impl crate::flow::stage::Stage for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        for (_, record) in batch.iter() {
            match record.value.unwrap_or_default() {
                b"drop" => outcomes.dropped(),
                b"refuse" => outcomes.reject(Rejection {
                    code: "word".into(),
                    reason: "it says so".into(),
                    field: None,
                }),
                b"later" if self.held_up.load(Ordering::Acquire) > 0 => {
                    self.held_up.fetch_sub(1, Ordering::AcqRel);
                    return Err(StageFault::Retry {
                        reason: "not now".into(),
                        after: None,
                    });
                }
                b"change" => outcomes.value(b"changed"),
                b"twice" => outcomes.rewrite(vec![made("first", None), made("second", Some("other"))]),
                _ => outcomes.keep(),
            }
        }
        Ok(outcomes)
    }
}

fn made(value: &str, topic: Option<&str>) -> Made {
    Made {
        topic: topic.map(String::from),
        value: Some(value.as_bytes().to_vec()),
        ..Made::default()
    }
}

/// A desk with a stage, and a stream that it reads from place 0.
struct Staged {
    stage: Stage,
    desk: Desk,
    _inbox: mpsc::Receiver<Order>,
    held_up: Arc<AtomicU64>,
}

impl Staged {
    async fn new() -> Staged {
        Staged::on(Stage::new().await)
    }

    /// A stream that keeps dead letters, whose writer never gets to them.
    async fn keeping_letters() -> Staged {
        let stage = Stage::new().await;
        let options = letters::Options {
            connector: "orders".into(),
            incarnation: 0,
            covers: Box::new(|_| true),
            make: Arc::new(|| Err(crate::flow::SinkFault::Retry("away".into()))),
        };
        let letters = letters::Letters::start(&stage.exchange, options).unwrap();
        stage.exchange.put_letters(letters);
        Staged::on(stage)
    }

    fn on(stage: Stage) -> Staged {
        stage.exchange.put_route(route());
        let (mut desk, inbox) = desk(&stage);
        let held_up = Arc::new(AtomicU64::new(0));
        desk.chain = Chain::new(vec![Box::new(Words {
            held_up: held_up.clone(),
        })]);
        desk.assigned(Slot(0), stream(HERE, 0), None);
        let reading = stage.exchange.stream(&stream(HERE, 0)).unwrap();
        reading.register(&route()).unwrap();
        answered(&reading, 0);
        assert!(desk.restart(Slot(0), reading.seeks.load(Ordering::Acquire)));
        desk.placed(Slot(0), Sequence(0), Guard::NONE);
        Staged {
            stage,
            desk,
            _inbox: inbox,
            held_up,
        }
    }

    fn give(&mut self, at: u64, epoch: i32, value: &str) {
        self.desk.record(Slot(0), Sequence(at), epoch, &record(value));
    }

    fn close(&mut self) {
        self.desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
    }

    fn reading(&self) -> Arc<OriginStream> {
        self.stage.exchange.stream(&stream(HERE, 0)).unwrap()
    }

    /// What the outbox holds, frame by frame.
    async fn frames(&self) -> Vec<Frame> {
        self.frames_in(&self.reading().lane).await
    }

    /// The dead letters that it holds.
    async fn letters(&self) -> Vec<Frame> {
        self.frames_in(&self.reading().aside().unwrap().lane).await
    }

    async fn frames_in(&self, lane: &Lane) -> Vec<Frame> {
        self.stage.exchange.outbox.synced().await.unwrap();
        let (mut frames, mut at) = (Vec::new(), lane.extent().base);
        while at < lane.extent().durable {
            let (interval, bytes) = lane.read(at, 1).unwrap().remove(0);
            frames.push(Frame::decode(bytes).unwrap());
            at = interval.to;
        }
        frames
    }
}

fn record(value: &str) -> RecordRef<'_> {
    RecordRef {
        timestamp: 0,
        key: None,
        value: Some(value.as_bytes()),
        headers: culvert_proto::record::Headers::NONE,
    }
}

fn held(frame: &Frame) -> Vec<(u64, String)> {
    let mut scratch = Vec::new();
    let codecs = Codecs::default();
    let records = frame
        .records(frame.interval().from, &mut scratch, &codecs)
        .unwrap();
    records
        .map(|item| item.unwrap())
        .map(|(at, record)| (at.0, String::from_utf8_lossy(record.value.unwrap()).into_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_change_what_goes_into_the_outbox_and_leave_every_place_accounted_for() {
    let mut scene = Staged::new().await;
    for (at, value) in (0..).zip(["a", "drop", "change", "drop"]) {
        scene.give(at, 3, value);
    }
    scene.desk.advanced(Slot(0), Sequence(7), 4);
    scene.close();
    let frames = scene.frames().await;
    let all: Vec<_> = frames.iter().flat_map(held).collect();
    assert_eq!(all, [(0, "a".to_owned()), (2, "changed".to_owned())]);
    assert_eq!(frames[0].interval().from, Sequence(0));
    assert_eq!(frames.last().unwrap().interval().to, Sequence(7));
    // Of a record that was dropped the epoch is known; it cannot be told from another of that epoch.
    assert_eq!(frames[0].guard_end(), Guard { epoch: 3, crc: 0 });
    // S6: a changed record is still known by what its source holds.
    let as_given = Guard {
        epoch: 3,
        crc: record("change").crc32c(),
    };
    let mut scratch = Vec::new();
    let codecs = Codecs::default();
    let mut records = frames[0].records(Sequence(0), &mut scratch, &codecs).unwrap();
    records.by_ref().for_each(drop);
    assert_eq!(records.guard(), as_given);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stage_makes_of_one_record_lies_in_its_place() {
    let mut scene = Staged::new().await;
    for (at, value) in (0..).zip(["a", "twice", "drop", "b"]) {
        scene.give(at, 3, value);
    }
    scene.close();
    let frames = scene.frames().await;
    let all: Vec<_> = frames.iter().flat_map(held).collect();
    let expected = [(0, "a"), (1, "first"), (1, "second"), (3, "b")];
    assert_eq!(all, expected.map(|(at, value)| (at, value.to_owned())));
    let mut scratch = Vec::new();
    let codecs = Codecs::default();
    let mut records = frames[0].records(Sequence(0), &mut scratch, &codecs).unwrap();
    let mut topics = Vec::new();
    while records.next().is_some() {
        topics.push(records.topic().map(String::from));
    }
    assert_eq!(topics, [None, None, Some("other".to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_cannot_now_holds_its_stream_up_and_loses_nothing() {
    let mut scene = Staged::new().await;
    scene.held_up.store(2, Ordering::Release);
    scene.give(0, 1, "a");
    scene.give(1, 1, "later");
    scene.close();
    assert!(scene.desk.waits(), "the source is paused meanwhile");
    assert!(scene.frames().await.is_empty());
    scene.give(2, 2, "b");
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.desk.waits() && Instant::now() < deadline {
        std::thread::sleep(STAGE_RETRY_MIN);
        scene.close();
    }
    scene.close();
    let all: Vec<_> = scene.frames().await.iter().flat_map(held).collect();
    let expected = [(0, "a"), (1, "later"), (2, "b")].map(|(at, value)| (at, value.to_owned()));
    assert_eq!(all, expected);
}

/// S10: without dead letters at the source, a refused record is still held, by its source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_stops_its_stream_before_it() {
    let mut scene = Staged::new().await;
    // In one batch: what comes before it goes on.
    scene.give(0, 1, "a");
    scene.give(1, 1, "refuse");
    scene.give(2, 1, "b");
    scene.close();
    let all: Vec<_> = scene.frames().await.iter().flat_map(held).collect();
    assert_eq!(all, [(0, "a".to_owned())]);
    let fault = scene.stage.exchange.halt_of(&stream(HERE, 0), &sink()).unwrap();
    let reading = scene.stage.exchange.stream(&stream(HERE, 0)).unwrap();
    assert!(
        !reading.act(|machine| machine.reads()),
        "it is not read again by itself"
    );
    assert_eq!(&*fault.code, "CULVERT-F013");
    assert!(
        fault.reason.contains("record 1") && fault.reason.contains("code word"),
        "{fault:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_stage_is_forgotten_when_the_stream_is_read_from_elsewhere() {
    let mut scene = Staged::new().await;
    scene.give(0, 1, "a");
    let reading = scene.stage.exchange.stream(&stream(HERE, 0)).unwrap();
    assert!(scene.desk.restart(Slot(0), reading.seeks.load(Ordering::Acquire)));
    scene.desk.placed(Slot(0), Sequence(0), Guard::NONE);
    scene.give(0, 1, "b");
    scene.close();
    let all: Vec<_> = scene.frames().await.iter().flat_map(held).collect();
    assert_eq!(all, [(0, "b".to_owned())]);
}

// ----- dead letters ----------------------------------------------------------------------------------------------

/// Gives records one behind the other from place `from` on, each with its epoch, and compares what lies in the outbox.
async fn check_letters(given: &[(i32, &str)], goes_on: &[u64], refused: &[u64]) {
    let mut scene = Staged::keeping_letters().await;
    for (at, (epoch, value)) in (0..).zip(given) {
        scene.give(at, *epoch, value);
    }
    scene.close();
    let frames = scene.frames().await;
    let letters = scene.letters().await;
    let places = |frames: &[Frame]| -> Vec<u64> { frames.iter().flat_map(held).map(|(at, _)| at).collect() };
    assert_eq!(places(&frames), goes_on, "{given:?}");
    assert_eq!(places(&letters), refused, "{given:?}");
    // S2: each place is accounted for in the stream, and letters reach no further than it.
    let reading = scene.reading();
    assert_eq!(
        reading.lane.extent().durable,
        Sequence(given.len() as u64),
        "{given:?}"
    );
    let last = refused.last().map_or(Sequence::ZERO, |last| Sequence(last + 1));
    assert_eq!(reading.aside().unwrap().lane.extent().durable, last, "{given:?}");
    for pair in letters.windows(2) {
        assert_eq!(pair[0].interval().to, pair[1].interval().from, "{given:?}");
    }
    // S6: a letter names what its source holds, under the epoch that it was written in.
    for letter in &letters {
        let place = letter.interval().to.0 - 1;
        let (epoch, value) = given[usize::try_from(place).unwrap()];
        let crc = record(value).crc32c();
        assert_eq!(letter.guard_end(), Guard { epoch, crc }, "{given:?}");
    }
    assert_eq!(scene.stage.exchange.halt_of(&stream(HERE, 0), &sink()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_is_a_letter_and_a_hole_wherever_it_stands() {
    let (fine, refuse, gone, two) = ((3, "a"), (3, "refuse"), (3, "drop"), (3, "twice"));
    check_letters(&[refuse, fine, fine], &[1, 2], &[0]).await;
    check_letters(&[fine, fine, refuse], &[0, 1], &[2]).await;
    check_letters(&[refuse, refuse], &[], &[0, 1]).await;
    check_letters(&[fine, gone, refuse, gone, fine], &[0, 4], &[2]).await;
    check_letters(&[two, refuse, two], &[0, 0, 2, 2], &[1]).await;
    check_letters(&[gone, fine], &[1], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_several_epochs_keep_theirs() {
    let given = [
        (1, "a"),
        (1, "refuse"),
        (2, "refuse"),
        (2, "a"),
        (3, "refuse"),
        (4, "refuse"),
    ];
    check_letters(&given, &[0, 3], &[1, 2, 4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_never_reach_beyond_their_stream() {
    let mut scene = Staged::keeping_letters().await;
    let reading = scene.reading();
    let aside = reading.aside().unwrap();
    let all = 3 * limits::FRAME_RECORDS_MAX as u64;
    for at in 0..all {
        scene.give(at, 0, if at % 3 == 0 { "refuse" } else { "a" });
        let (held, letters) = (reading.lane.extent().tail, aside.lane.extent().tail);
        assert!(
            letters <= held,
            "letters up to {letters}, and the stream up to {held}"
        );
    }
    scene.close();
    assert_eq!(
        scene.letters().await.iter().map(Frame::count).sum::<usize>() as u64,
        all / 3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_the_record_as_it_came_and_says_why() {
    let mut scene = Staged::keeping_letters().await;
    let mut own = culvert_proto::record::HeadersBuf::new();
    own.push("own", None);
    let given = RecordRef {
        timestamp: 5,
        key: Some(b"k"),
        value: Some(b"refuse"),
        headers: own.as_headers(),
    };
    scene.desk.record(Slot(0), Sequence(0), 0, &given);
    scene.close();
    let letter = scene.letters().await.remove(0);
    let (mut scratch, codecs) = (Vec::new(), Codecs::default());
    let mut records = letter.records(Sequence(0), &mut scratch, &codecs).unwrap();
    let (_, kept) = records.next().unwrap().unwrap();
    assert_eq!(
        (kept.timestamp, kept.key, kept.value),
        (5, Some(&b"k"[..]), Some(&b"refuse"[..]))
    );
    let headers: Vec<_> = kept.headers.iter().collect();
    assert_eq!(headers[0], ("own", None));
    let why = std::str::from_utf8(headers[1].1.unwrap()).unwrap();
    assert_eq!(why, r#"["words","word","it says so",null]"#);
}

/// The sink was restored and wants again what both lanes held: it is read again, and refused again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_doubles_no_letter() {
    let mut scene = Staged::keeping_letters().await;
    let reading = scene.reading();
    let read = |scene: &mut Staged, from: u64, to: u64| {
        answered(&reading, from);
        assert!(scene.desk.restart(Slot(0), reading.seeks.load(Ordering::Acquire)));
        scene.desk.placed(Slot(0), Sequence(from), Guard::NONE);
        for at in from..to {
            scene.give(at, 0, if at % 5 == 0 { "refuse" } else { "a" });
        }
        scene.close();
    };
    read(&mut scene, 10, 21);
    read(&mut scene, 4, 17);
    let places: Vec<u64> = scene
        .letters()
        .await
        .iter()
        .flat_map(held)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places, [5, 10, 15]);
    let aside = reading.aside().unwrap();
    assert_eq!(
        (reading.lane.extent().durable.0, aside.lane.extent().durable.0),
        (17, 16)
    );
    assert_eq!((reading.lane.extent().base.0, aside.lane.extent().base.0), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_has_no_room_for_its_reason_stops_its_stream() {
    let mut scene = Staged::keeping_letters().await;
    scene.give(0, 0, "a");
    let mut full = culvert_proto::record::HeadersBuf::new();
    (0..limits::HEADERS_MAX).for_each(|_| full.push("h", None));
    let given = RecordRef {
        headers: full.as_headers(),
        ..record("refuse")
    };
    scene.desk.record(Slot(0), Sequence(1), 0, &given);
    scene.close();
    let fault = scene.stage.exchange.halt_of(&stream(HERE, 0), &sink()).unwrap();
    assert_eq!(&*fault.code, "CULVERT-F015");
    assert!(fault.reason.contains("record 1"), "{fault:?}");
    let all: Vec<_> = scene.frames().await.iter().flat_map(held).collect();
    assert_eq!(all, [(0, "a".to_owned())], "what came before it goes on");
    assert!(scene.letters().await.is_empty());
}

/// As when dead letters were switched off, the stream was begun anew at an earlier place, and they were switched on again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_were_not_read_together_are_read_again() {
    let scene = Staged::keeping_letters().await;
    let id = stream(HERE, 1);
    let spelled = id.encode().unwrap();
    let outbox = &scene.stage.exchange.outbox;
    let (main, aside) = (
        outbox.lane(&lane_key(&spelled)).unwrap(),
        outbox.lane(&letters::lane_key(&spelled)).unwrap(),
    );
    let append = |lane: &Lane, from: u64| {
        let frame = crate::flow::bench::frame(&id, from, 10);
        lane.append(frame.interval(), frame.bytes().clone()).unwrap();
    };
    append(&main, 0);
    append(&aside, 30);
    outbox.synced().await.unwrap();
    let opened = OriginStream::open(&scene.stage.exchange, &id).unwrap();
    assert_eq!(opened.held(), None);
}
