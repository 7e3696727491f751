//! Whoever reads a source under test, as a gateway does: what a page brought is kept as one, and the next instance is opened
//! from there.

use crate::plugin::testing::message::Message;
use crate::plugin::testing::place::Place;
use crate::plugin::testing::subject::{STILL_MS, Silent};
use culvert_host::{
    Changes, Cut, Limits, Now, Page, Plugin, ResumePoint, Source, SourceFault, Surroundings, Want,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a call is made that asks to be made again.
const ATTEMPTS_MAX: usize = 10;

/// About as many bytes as a gateway asks for.
const BYTES_WANTED: usize = 1 << 20;

/// A record, and its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) message: Message,
}

impl Record {
    pub(super) fn shown(&self) -> String {
        format!("{} ({})", self.message.shown(), self.topic)
    }
}

/// What an outbox would hold of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    points: BTreeMap<String, ResumePoint>,
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// How many records lie before.
    pub(super) records: usize,
}

impl Kept {
    fn apply(&mut self, changes: &Changes) {
        self.state.extend(changes.iter().cloned());
    }

    pub(super) fn points(&self) -> Vec<ResumePoint> {
        self.points.values().cloned().collect()
    }

    /// For a person.
    pub(super) fn shown(&self) -> String {
        let point = |point: &ResumePoint| format!("{} of {}", point.offset, point.partition);
        match self.points.len() {
            0 => "no resume point".into(),
            _ => self.points.values().map(point).collect::<Vec<_>>().join(", "),
        }
    }
}

/// What a reader is made from.
#[derive(Clone)]
pub(super) struct Maker {
    plugin: Plugin,
    limits: Limits,
    settings: Vec<(String, Option<String>)>,
    around: Surroundings,
}

impl Maker {
    pub(super) fn new(plugin: &Plugin, limits: &Limits, place: &Place) -> Maker {
        Maker {
            plugin: plugin.clone(),
            limits: limits.clone(),
            settings: place.settings.clone(),
            around: Surroundings::new(Arc::new(Silent))
                .granting(place.grants.clone())
                .at(Arc::new(|| STILL_MS)),
        }
    }

    /// The same, at another time.
    pub(super) fn at(&self, now: Now) -> Maker {
        Maker {
            around: self.around.clone().at(now),
            ..self.clone()
        }
    }

    /// A fresh instance, opened from what was kept and told that it is durable.
    pub(super) fn open(&self, kept: &mut Kept, cut: Option<Cut>) -> Result<Reader, String> {
        let mut around = self.around.clone();
        around.cut = cut;
        let state: Changes = kept
            .state
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let source = Source::new(&self.plugin, &self.settings, self.limits.clone(), around, &state);
        let mut reader = Reader {
            source: source.map_err(|error| error.to_string())?,
        };
        let points = kept.points();
        let opened =
            again(|| reader.source.open(&points)).map_err(|why| format!("it does not open: {why}"))?;
        reader.keep(kept, &opened);
        if !points.is_empty() {
            reader.commit(kept, &points)?;
        }
        Ok(reader)
    }
}

/// An instance that reads.
pub(super) struct Reader {
    source: Source,
}

impl Reader {
    fn keep(&self, kept: &mut Kept, changes: &Changes) {
        kept.apply(changes);
        self.source.kept(changes);
    }

    /// The next page, which nobody has kept yet.
    pub(super) fn page(&mut self, size: usize) -> Result<Page, String> {
        let want = Want {
            records: size,
            bytes: BYTES_WANTED,
            wait: Duration::ZERO,
        };
        again(|| self.source.poll(want))
    }

    /// Keeps a page as one.
    pub(super) fn kept(&self, kept: &mut Kept, page: &Page) {
        for point in &page.points {
            kept.points.insert(point.partition.clone(), point.clone());
        }
        kept.records += page.records.len();
        self.keep(kept, &page.changes);
    }

    /// Says that everything up to these points is durable.
    pub(super) fn commit(&mut self, kept: &mut Kept, points: &[ResumePoint]) -> Result<(), String> {
        let changes = again(|| self.source.committed(points)).map_err(|why| format!("committed: {why}"))?;
        self.keep(kept, &changes);
        Ok(())
    }
}

pub(super) fn records(page: &Page) -> impl Iterator<Item = Record> {
    page.records.iter().map(|produced| Record {
        topic: produced.topic.clone(),
        message: Message::of_made(&produced.record),
    })
}

fn again<T>(mut call: impl FnMut() -> Result<T, SourceFault>) -> Result<T, String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS_MAX {
        match call() {
            Ok(answer) => return Ok(answer),
            Err(SourceFault::Retry { reason, .. }) => last = reason,
            Err(fault) => return Err(fault.to_string()),
        }
    }
    Err(format!("it asks to be tried again, {ATTEMPTS_MAX} times: {last}"))
}
