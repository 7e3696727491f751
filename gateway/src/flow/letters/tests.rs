//! What a writer of dead letters writes while its sink fails, stops and goes back.

use super::*;
use crate::flow::bench::{HERE, Stage, stream};
use crate::link::tests::bench::until;
use culvert_proto::Guard;
use culvert_proto::batch::{Codec, NoCompression};
use culvert_proto::frame::FrameBuilder;
use culvert_proto::record::Headers;
use std::collections::BTreeMap;

/// A topic of letters in memory, and what is wrong with it now.
#[derive(Default)]
struct Topic {
    away: bool,
    /// The next commits: done or not, and their outcome is not known.
    uncertain: Vec<bool>,
    refuses: Option<u64>,
    takings: u32,
    commits: u32,
    positions: BTreeMap<StreamId, Position>,
    /// Place, code, own headers.
    letters: Vec<(u64, String, usize)>,
    open: Vec<(u64, String, usize)>,
}

struct TopicSink(Arc<Mutex<Topic>>);

impl TopicSink {
    fn answers(&self) -> Result<parking_lot::MutexGuard<'_, Topic>, SinkFault> {
        let topic = self.0.lock();
        if topic.away {
            Err(SinkFault::Retry("the cluster is away".into()))
        } else {
            Ok(topic)
        }
    }
}

impl Sink for TopicSink {
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        let mut topic = self.answers()?;
        topic.takings += 1;
        topic.open.clear();
        Ok(topic.positions.clone().into_iter().collect())
    }

    fn write(
        &mut self,
        _: &StreamId,
        _: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        panic!("only letters are written");
    }

    fn refuse(&mut self, _: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        let mut topic = self.answers()?;
        for letter in letters {
            let sequence = letter.sequence;
            if topic.refuses == Some(sequence.0) {
                let reason = "too large".into();
                return Err(SinkFault::Record { sequence, reason });
            }
            let own = letter.record.headers.len();
            topic.open.push((sequence.0, letter.rejection.code.clone(), own));
        }
        Ok(())
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        let mut topic = self.answers()?;
        let outcome = topic.uncertain.pop();
        if outcome != Some(false) {
            let open = std::mem::take(&mut topic.open);
            topic.letters.extend(open);
            topic.positions.extend(positions.iter().cloned());
            topic.commits += 1;
        }
        match outcome {
            Some(_) => Err(SinkFault::Uncertain("nobody knows".into())),
            None => Ok(()),
        }
    }
}

struct Scene {
    stage: Stage,
    topic: Arc<Mutex<Topic>>,
    letters: Arc<Letters>,
    stream: Arc<OriginStream>,
}

impl Scene {
    /// A stream that keeps its letters in `topic`, as another gateway may have left it.
    async fn new(topic: Topic) -> Scene {
        let stage = Stage::new().await;
        let topic = Arc::new(Mutex::new(topic));
        let letters = Scene::writer(&stage, &topic);
        stage.exchange.put_letters(letters.clone());
        let stream = OriginStream::open(&stage.exchange, &stream(HERE, 0)).unwrap();
        stream.ask_aside();
        Scene {
            stage,
            topic,
            letters,
            stream,
        }
    }

    fn writer(stage: &Stage, topic: &Arc<Mutex<Topic>>) -> Arc<Letters> {
        let topic = topic.clone();
        let options = Options {
            connector: "orders".into(),
            incarnation: 0,
            covers: Box::new(|_| true),
            make: Arc::new(move || Ok(Box::new(TopicSink(topic.clone())) as Box<dyn Sink>)),
        };
        Letters::start(&stage.exchange, options).unwrap()
    }

    /// What intake appends of `[from, to)`: one frame, and those of its places that are letters.
    fn append(&self, from: u64, to: u64, letters: &[u64]) {
        let mut group = outbox::Group::default();
        let interval = culvert_proto::Interval::new(Sequence(from), Sequence(to));
        let main = frame(
            from,
            to,
            &(from..to).filter(|at| !letters.contains(at)).collect::<Vec<_>>(),
        );
        group
            .append(&self.stream.lane, interval, main.bytes().clone())
            .unwrap();
        let aside = self.stream.aside().unwrap();
        if let Some(last) = letters.last() {
            let tail = aside.lane.extent().tail.0;
            let frame = frame(tail, last + 1, letters);
            group
                .append(&aside.lane, frame.interval(), frame.bytes().clone())
                .unwrap();
        }
        self.stream
            .act(|_| self.stage.exchange.outbox.together(group))
            .unwrap();
    }

    fn written(&self) -> Vec<u64> {
        self.topic.lock().letters.iter().map(|(at, ..)| *at).collect()
    }

    fn position(&self) -> Option<u64> {
        let topic = self.topic.lock();
        topic.positions.values().next().map(|position| position.at.0)
    }

    async fn position_becomes(&self, at: u64) {
        until("the position to move", || self.position() == Some(at)).await;
    }

    async fn end(self) {
        let letters = self.letters.clone();
        tokio::task::spawn_blocking(move || letters.stop()).await.unwrap();
        // The stage's folder goes with it: what is still to be written would end the process.
        self.stage.exchange.outbox.synced().await.unwrap();
    }
}

/// A frame of `[from, to)` with records at these places, each of them as a letter is kept.
fn frame(from: u64, to: u64, at: &[u64]) -> Frame {
    let mut builder = FrameBuilder::new(&stream(HERE, 0), Sequence(from), Guard::NONE).unwrap();
    let mut own = HeadersBuf::new();
    own.push(REFUSED, Some(b"a user's own"));
    let record = RecordRef {
        timestamp: 1,
        key: None,
        value: Some(b"v"),
        headers: own.as_headers(),
    };
    let rejection = Rejection {
        code: "word".into(),
        reason: "it says so".into(),
        field: Some("/a".into()),
    };
    let headers = headers_with(&record, "check", &rejection);
    let letter = RecordRef {
        headers: headers.as_headers(),
        ..record
    };
    for at in at {
        builder.confirm_hole(Sequence(*at));
        let _ = builder.push(Sequence(*at), 3, &letter).unwrap();
    }
    let _ = builder.advance_in(Sequence(to), 3).unwrap();
    builder.finish(Codec::None, &NoCompression).unwrap().unwrap()
}

fn position(at: u64) -> Position {
    Position {
        at: Sequence(at),
        ..Position::beginning(0, Sequence(0), Guard::NONE)
    }
}

fn held_at(at: u64) -> Topic {
    Topic {
        positions: BTreeMap::from([(stream(HERE, 0), position(at))]),
        ..Topic::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_and_holes_move_the_position_and_each_letter_is_written_once() {
    let scene = Scene::new(held_at(0)).await;
    scene.append(0, 10, &[3, 4]);
    scene.append(10, 20, &[]);
    scene.position_becomes(20).await;
    scene.append(20, 30, &[29]);
    scene.position_becomes(30).await;
    assert_eq!(scene.written(), [3, 4, 29]);
    let (_, code, own) = scene.topic.lock().letters[0].clone();
    assert_eq!(
        (code.as_str(), own),
        ("word", 1),
        "a user's own header stays, ours goes"
    );
    assert_eq!(scene.stream.applied(&scene.letters.route), Some(Sequence(30)));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_outcome_is_not_known_is_looked_up_and_not_repeated() {
    for was_done in [true, false] {
        let topic = Topic {
            uncertain: vec![was_done],
            ..held_at(0)
        };
        let scene = Scene::new(topic).await;
        scene.append(0, 10, &[0, 9]);
        let heard = || scene.stream.applied(&scene.letters.route) == Some(Sequence(10));
        until("the next writer to say where it stands", heard).await;
        assert!(scene.topic.lock().takings >= 2);
        assert_eq!(scene.written(), [0, 9], "done: {was_done}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_wait_while_their_sink_is_away() {
    let scene = Scene::new(Topic {
        away: true,
        ..held_at(0)
    })
    .await;
    scene.append(0, 10, &[5]);
    until("trouble to be told", || scene.letters.status().trouble.is_some()).await;
    assert!(scene.written().is_empty());
    scene.topic.lock().away = false;
    scene.position_becomes(10).await;
    assert_eq!(scene.written(), [5]);
    assert!(scene.letters.status().trouble.is_none());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_begins_behind_the_position_is_left_alone() {
    let scene = Scene::new(held_at(0)).await;
    // As when another sink answers first, and is read for from its place.
    let (stream, aside) = (&scene.stream, scene.stream.aside().unwrap());
    stream
        .act(|_| {
            (
                stream.lane.restart(Sequence(50)),
                aside.lane.restart(Sequence(50)),
            )
        })
        .0
        .unwrap();
    scene.append(50, 60, &[55]);
    scene.stage.exchange.outbox.synced().await.unwrap();
    tokio::time::sleep(2 * MOVE_EVERY).await;
    assert_eq!((scene.position(), scene.written()), (Some(0), vec![]));
    // And then it is read from where the letters are wanted.
    stream
        .act(|_| (stream.lane.restart(Sequence(0)), aside.lane.restart(Sequence(0))))
        .0
        .unwrap();
    scene.append(0, 60, &[7, 55]);
    scene.position_becomes(60).await;
    assert_eq!(scene.written(), [7, 55]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_started_again_goes_on_behind_what_was_written() {
    let scene = Scene::new(held_at(0)).await;
    scene.append(0, 10, &[5]);
    scene.position_becomes(10).await;
    let first = scene.letters.clone();
    tokio::task::spawn_blocking(move || first.stop()).await.unwrap();
    scene.append(10, 20, &[15]);
    let again = Scene::writer(&scene.stage, &scene.topic);
    scene.position_becomes(20).await;
    assert_eq!(scene.written(), [5, 15]);
    tokio::task::spawn_blocking(move || again.stop()).await.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_cannot_be_written_stops_its_stream_and_is_kept() {
    let scene = Scene::new(Topic {
        refuses: Some(5),
        ..held_at(0)
    })
    .await;
    scene.append(0, 10, &[4, 5]);
    let halt = || {
        scene
            .stage
            .exchange
            .halt_of(&stream(HERE, 0), &scene.letters.route)
    };
    until("the stream to stand", || halt().is_some()).await;
    let fault = halt().unwrap();
    assert_eq!(&*fault.code, "CULVERT-F015");
    assert!(fault.reason.contains("record 5"), "{fault:?}");
    assert!(!scene.stream.act(|machine| machine.reads()));
    tokio::time::sleep(2 * MOVE_EVERY).await;
    assert_eq!((scene.position(), scene.written()), (Some(0), vec![]));
    let kept = scene.stream.aside().unwrap().lane.extent();
    assert_eq!((kept.base, kept.durable), (Sequence(0), Sequence(6)));
    // A source that comes back does not help the letter: the stream stands again, and says so.
    scene.stage.exchange.resumed(&stream(HERE, 0), None);
    scene.stream.act(|machine| machine.assigned(Some(Sequence(0))));
    until("the stream to stand again", || halt().is_some()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_never_read_begins_and_its_letters_with_it() {
    let scene = Scene::new(Topic::default()).await;
    assert_eq!(scene.position(), None);
    scene.stream.act(|machine| machine.assigned(None));
    let asked = || {
        scene.stream.act(|machine| {
            machine.placed(Sequence(40), Guard::NONE);
            machine.reads()
        })
    };
    until("the beginning to be decided", asked).await;
    scene.position_becomes(40).await;
    assert_eq!(scene.stream.applied(&scene.letters.route), Some(Sequence(40)));
    scene.end().await;
}

#[test]
fn what_a_letter_is_kept_with_is_read_as_it_was_written() {
    let check = |stage: &str, code: &str, reason: &str, field: Option<&str>| {
        let rejection = Rejection {
            code: code.into(),
            reason: reason.into(),
            field: field.map(String::from),
        };
        let record = RecordRef {
            timestamp: 1,
            key: None,
            value: None,
            headers: Headers::NONE,
        };
        let headers = headers_with(&record, stage, &rejection);
        let kept = RecordRef {
            headers: headers.as_headers(),
            ..record
        };
        let opened = Opened::of(Sequence(7), kept).unwrap();
        assert_eq!((opened.stage.as_str(), &opened.rejection), (stage, &rejection));
        assert!(opened.headers.as_headers().is_empty());
        assert!(
            Opened::of(Sequence(7), record).is_err(),
            "without it, it is no letter"
        );
    };
    check("check", "word", "it says so", Some("/a/0"));
    check("", "", "line\nbreak \"quoted\" \u{1f4e8}", None);
}

#[test]
fn a_reason_without_end_is_cut() {
    let rejection = Rejection {
        code: "word".into(),
        reason: "\u{e9}".repeat(1 << 20),
        field: None,
    };
    let record = RecordRef {
        timestamp: 1,
        key: None,
        value: None,
        headers: Headers::NONE,
    };
    let headers = headers_with(&record, "check", &rejection);
    assert!(headers.as_headers().as_bytes().len() < REASON_MAX);
}
