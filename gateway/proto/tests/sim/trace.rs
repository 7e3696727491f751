//! What happened: a hash of all of it, the last of it, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};

pub struct Trace {
    pub step: u64,
    pub hash: u64,
    last: VecDeque<String>,
    loud: bool,
    line: String,
}

/// How many lines a violation shows.
const LINES: usize = 40;

impl Trace {
    pub fn new(loud: bool) -> Trace {
        Trace {
            step: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            last: VecDeque::new(),
            loud,
            line: String::new(),
        }
    }

    pub fn loud(&self) -> bool {
        self.loud
    }

    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{:5} {what}", self.step);
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.loud {
            let mut out = std::io::stdout().lock();
            let _ = std::io::Write::write_all(&mut out, self.line.as_bytes());
            let _ = std::io::Write::write_all(&mut out, b"\n");
        }
        let mut reused = if self.last.len() == LINES {
            self.last.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        std::mem::swap(&mut reused, &mut self.line);
        self.last.push_back(reused);
    }

    pub fn last(&self) -> String {
        self.last
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    }
}

/// Counts over one schedule or many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub schedules: u64,
    pub steps: u64,
    pub calm_steps_max: u64,
    pub records: u64,
    pub delivered: u64,
    pub messages: u64,
    pub late: u64,
    pub bits_flipped: u64,
    pub commits: u64,
    pub commits_uncertain: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub halts: BTreeMap<&'static str, u64>,
    pub standing: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        self.calm_steps_max = self.calm_steps_max.max(other.calm_steps_max);
        self.records += other.records;
        self.delivered += other.delivered;
        self.messages += other.messages;
        self.late += other.late;
        self.bits_flipped += other.bits_flipped;
        self.commits += other.commits;
        self.commits_uncertain += other.commits_uncertain;
        for (mine, theirs) in [
            (&mut self.faults, &other.faults),
            (&mut self.halts, &other.halts),
            (&mut self.standing, &other.standing),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} schedules, {} steps, {} records written, {} deliveries, {} messages ({} late), {} commits ({} uncertain)",
            self.schedules,
            self.steps,
            self.records,
            self.delivered,
            self.messages,
            self.late,
            self.commits,
            self.commits_uncertain
        )?;
        writeln!(
            f,
            "{} frames spelled and damaged, none believed",
            self.bits_flipped
        )?;
        writeln!(
            f,
            "longest calm until all was delivered: {} steps",
            self.calm_steps_max
        )?;
        writeln!(f, "faults: {}", list(&self.faults))?;
        writeln!(f, "halts: {}", list(&self.halts))?;
        write!(
            f,
            "streams that rightly stood still at the end: {}",
            list(&self.standing)
        )
    }
}

fn list(counts: &BTreeMap<&'static str, u64>) -> String {
    let all: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}
