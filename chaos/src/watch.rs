//! Looks at network 3's topic all the time: how far it is, and whether anything is wrong the moment it is.

use crate::kafka::Reader;
use crate::site::{Site, TOPIC};
use anyhow::bail;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A reader on a thread of its own. Dropping it ends it.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    seen: Mutex<View>,
    ended: AtomicBool,
}

/// How far a topic is.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The sequence that comes next in each partition.
    pub next: Vec<u64>,
    /// Records in all.
    pub total: u64,
    /// The first thing that was wrong.
    pub fault: Option<String>,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// When the reader cannot be made.
    pub fn start(site: &Site) -> anyhow::Result<Watch> {
        let reader = Reader::open(&site.target.bootstrap(), TOPIC, site.partitions)?;
        let next = vec![0; usize::try_from(site.partitions)?];
        let shared = Arc::new(Shared {
            seen: Mutex::new(View {
                next,
                ..View::default()
            }),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || look(&reader, &shared)
        });
        Ok(Watch {
            shared,
            thread: Some(thread),
        })
    }

    /// How far it is now.
    pub fn view(&self) -> View {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until each partition has come to `ends`, and says how long that took.
    ///
    /// # Errors
    /// When it takes longer than `deadline`, or something is wrong with what arrives.
    pub fn reaches(&self, ends: &[u64], deadline: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            let view = self.view();
            if let Some(fault) = view.fault {
                bail!("{fault}");
            }
            if view.next.iter().zip(ends).all(|(next, end)| next >= end) {
                return Ok(started.elapsed());
            }
            if started.elapsed() > deadline {
                bail!("waited {deadline:?} for {ends:?}, {:?} arrived", view.next);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(reader: &Reader, shared: &Shared) {
    while !shared.ended.load(Ordering::Relaxed) {
        let seen = reader.next(Duration::from_millis(50));
        let mut view = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok(None) => {}
            Ok(Some(seen)) => view.enter(seen.partition, seen.sequence),
            Err(fault) => view.fault = Some(format!("{fault:#}")),
        }
    }
}

impl View {
    fn enter(&mut self, partition: i32, sequence: u64) {
        self.total += 1;
        let next = usize::try_from(partition)
            .ok()
            .and_then(|place| self.next.get_mut(place));
        let Some(next) = next else {
            self.fault = Some(format!(
                "a record in partition {partition}, which nobody wrote to"
            ));
            return;
        };
        if sequence != *next && self.fault.is_none() {
            self.fault = Some(format!(
                "partition {partition}: {sequence} arrived where {next} was due"
            ));
        }
        *next = (*next).max(sequence + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_a_duplicate_and_a_stranger_are_seen_at_once() {
        let fault = |records: &[(i32, u64)]| {
            let mut view = View {
                next: vec![0; 2],
                ..View::default()
            };
            for &(partition, sequence) in records {
                view.enter(partition, sequence);
            }
            view.fault
        };
        assert_eq!(fault(&[(0, 0), (1, 0), (0, 1)]), None);
        assert_eq!(
            fault(&[(0, 0), (0, 2)]).unwrap(),
            "partition 0: 2 arrived where 1 was due"
        );
        assert_eq!(
            fault(&[(1, 0), (1, 0)]).unwrap(),
            "partition 1: 0 arrived where 1 was due"
        );
        assert!(fault(&[(2, 0)]).is_some());
    }
}
