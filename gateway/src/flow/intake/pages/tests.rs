//! A page is kept as a whole or not at all, and the next life goes on behind it.

use super::*;
use crate::flow::bench::Stage as Bench;
use crate::flow::stage::Stage;
use crate::link::tests::bench::until;
use culvert_proto::StreamId;
use culvert_proto::columns::{Made, Outcomes, Rejection};
use culvert_proto::message::Priority;
use culvert_proto::record::HeadersBuf;
use std::collections::VecDeque;

/// What a source was told.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Opened(Vec<String>),
    Committed(Vec<String>),
    Closed,
}

/// Brings the pages it was given, and remembers what it hears.
struct Scripted {
    pages: Arc<Mutex<VecDeque<Result<Page, PageFault>>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

fn offsets(points: &[ResumePoint]) -> Vec<String> {
    points.iter().map(|point| point.offset.clone()).collect()
}

impl PagedSource for Scripted {
    fn open(&mut self, resume: &[ResumePoint]) -> Result<Changes, PageFault> {
        self.heard.lock().push(Heard::Opened(offsets(resume)));
        Ok(Changes::new())
    }

    fn poll(&mut self, _: Duration) -> Result<Page, PageFault> {
        let idle = Page {
            idle: Some(Duration::from_millis(5)),
            ..Page::default()
        };
        self.pages.lock().pop_front().unwrap_or(Ok(idle))
    }

    fn committed(&mut self, points: &[ResumePoint]) -> Result<Changes, PageFault> {
        self.heard.lock().push(Heard::Committed(offsets(points)));
        Ok(Changes::new())
    }

    fn kept(&mut self, _: &Changes) {}

    fn close(&mut self) {
        self.heard.lock().push(Heard::Closed);
    }
}

/// Refuses the value `bad`, drops the value `gone`.
struct Picky;

impl Stage for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        for (_, record) in batch.iter() {
            match record.value {
                Some(b"bad") => outcomes.reject(Rejection {
                    code: "bad".into(),
                    ..Rejection::default()
                }),
                Some(b"gone") => outcomes.dropped(),
                _ => outcomes.keep(),
            }
        }
        Ok(outcomes)
    }
}

fn page(offset: &str, records: &[(&str, &str)]) -> Page {
    let record = |(topic, value): &(&str, &str)| {
        let made = Made {
            topic: None,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: HeadersBuf::new(),
            timestamp: -1,
        };
        ((*topic).to_owned(), made)
    };
    Page {
        points: vec![ResumePoint {
            partition: "{}".into(),
            offset: offset.into(),
        }],
        records: records.iter().map(record).collect(),
        idle: None,
        changes: vec![(b"key".to_vec(), Some(offset.as_bytes().to_vec()))],
    }
}

/// One life of a task.
struct Life {
    task: Task,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// What was in its store when it was made.
    state: Arc<Mutex<Changes>>,
}

fn life(bench: &Bench, pages: Vec<Result<Page, PageFault>>) -> Life {
    life_within(bench, None, pages)
}

/// One whose streams may each hold so many bytes.
fn life_within(bench: &Bench, quota: Option<u64>, pages: Vec<Result<Page, PageFault>>) -> Life {
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let state: Arc<Mutex<Changes>> = Arc::default();
    let pages = Arc::new(Mutex::new(VecDeque::from(pages)));
    let (told, stored) = (heard.clone(), state.clone());
    let make = move |state: &Changes| {
        stored.lock().clone_from(state);
        let (pages, heard) = (pages.clone(), told.clone());
        Ok(Box::new(Scripted { pages, heard }) as Box<dyn PagedSource>)
    };
    let stages = || Ok(Chain::new(vec![Box::new(Picky)]));
    let id = TaskId {
        connector: "scripted".into(),
        number: 0,
    };
    let terms = Terms {
        codec: Codec::None,
        beginning: Place::Earliest,
        quota,
        priority: Priority::Normal,
    };
    let task = start(&bench.exchange, id, terms, Arc::new(stages), Box::new(make)).unwrap();
    Life { task, heard, state }
}

/// Where the streams of these topics end on disk.
fn ends(bench: &Bench, topics: &[&str]) -> Vec<u64> {
    let streams = bench.exchange.streams();
    let end = |topic: &&str| {
        let stream = streams.iter().find(|stream| &*stream.id.topic == *topic);
        stream.map_or(0, |stream| stream.lane.extent().durable.0)
    };
    topics.iter().map(end).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_life_goes_on_behind_the_last_page() {
    let bench = Bench::new().await;
    let pages = vec![
        Ok(page("1", &[("a", "x"), ("b", "y"), ("a", "gone")])),
        Ok(page("2", &[("b", "z")])),
    ];
    let first = life(&bench, pages);
    until("both pages", || ends(&bench, &["a", "b"]) == [2, 2]).await;
    until("the source to be told", || {
        first.heard.lock().contains(&Heard::Committed(vec!["2".into()]))
    })
    .await;
    first.task.stop();
    assert_eq!(first.heard.lock().last(), Some(&Heard::Closed));

    let second = life(&bench, vec![Ok(page("3", &[("a", "x")]))]);
    until("the third page", || ends(&bench, &["a", "b"]) == [3, 2]).await;
    second.task.stop();
    assert_eq!(
        second.heard.lock().first(),
        Some(&Heard::Opened(vec!["2".into()]))
    );
    assert_eq!(*second.state.lock(), [(b"key".to_vec(), Some(b"2".to_vec()))]);
    let runs = bench.exchange.streams();
    assert!(
        runs.iter().all(|stream| stream.id.lineage == runs[0].id.lineage),
        "one run"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_a_refused_record_is_kept_neither_whole_nor_in_part() {
    let bench = Bench::new().await;
    let pages = vec![
        Ok(page("1", &[("a", "x")])),
        Ok(page("2", &[("b", "y"), ("a", "bad")])),
    ];
    let first = life(&bench, pages);
    until("the task to stand", || {
        matches!(first.task.status().trouble, Some(Trouble::Failed(fault)) if &*fault.code == "CULVERT-F013")
    })
    .await;
    // All that was asked for is on disk now: the first page, and nothing of the second.
    bench.exchange.outbox.synced().await.unwrap();
    assert_eq!(ends(&bench, &["a", "b"]), [1, 0]);
    first.task.stop();
    let second = life(&bench, Vec::new());
    until("the next life", || !second.heard.lock().is_empty()).await;
    assert_eq!(second.heard.lock()[0], Heard::Opened(vec!["1".into()]));
    second.task.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_breaks_is_opened_again_behind_what_was_kept() {
    let bench = Bench::new().await;
    let pages = vec![
        Ok(page("1", &[("a", "x")])),
        Err(PageFault::Broken("it broke".into())),
        Err(PageFault::Retry {
            reason: "not now".into(),
            after: None,
        }),
        Ok(page("2", &[("a", "y")])),
    ];
    let life = life(&bench, pages);
    until("both pages", || ends(&bench, &["a"]) == [2]).await;
    life.task.stop();
    let heard = life.heard.lock();
    let opened = heard.iter().filter(|heard| matches!(heard, Heard::Opened(_)));
    assert_eq!(
        opened.cloned().collect::<Vec<_>>(),
        [Heard::Opened(Vec::new()), Heard::Opened(vec!["1".into()])]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_keeps_the_page_and_asks_for_no_other() {
    let bench = Bench::with_full_disk().await;
    let pages: Vec<_> = (0..70)
        .map(|number| Ok(page(&number.to_string(), &[("a", &"x".repeat(1 << 20))])))
        .collect();
    let life = life(&bench, pages);
    until("the task to wait", || {
        matches!(life.task.status().trouble, Some(Trouble::Paused(_)))
    })
    .await;
    let heard = life.heard.lock().clone();
    assert_eq!(
        heard,
        [Heard::Opened(Vec::new())],
        "nothing is told that is not on disk"
    );
    life.task.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_at_its_quota_keeps_the_page_until_some_of_it_is_freed() {
    let bench = Bench::new().await;
    let pages: Vec<_> = (0..20)
        .map(|number| Ok(page(&number.to_string(), &[("a", &"x".repeat(100_000))])))
        .collect();
    let life = life_within(&bench, Some(1 << 20), pages);
    until("the task to wait", || {
        matches!(life.task.status().trouble, Some(Trouble::Paused(fault)) if &*fault.code == "CULVERT-O020")
    })
    .await;
    bench.exchange.outbox.synced().await.unwrap();
    assert_eq!(ends(&bench, &["a"]), [10], "what the quota takes");
    let stream = bench.exchange.streams().remove(0);
    assert!(
        stream
            .quota_use()
            .is_some_and(|quota| quota.used_bytes <= 1 << 20)
    );
    stream.lane.trim(stream.lane.extent().durable).unwrap();
    until("all pages", || ends(&bench, &["a"]) == [20]).await;
    life.task.stop();
    assert_eq!(
        life.task.status().trouble.map(|trouble| format!("{trouble:?}")),
        None
    );
}
