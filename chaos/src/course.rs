//! What happened in a run: for the report, also of one that failed.

use crate::observer::Mark;
use crate::schedule::{Planned, Schedule};
use culvert_tests::Verdict;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// See the module. Times count from the first fault's schedule.
#[derive(Debug, Default)]
pub struct Course {
    /// Where the report and the logs of a run that failed go.
    pub folder: PathBuf,
    /// When it began.
    pub began: Option<SystemTime>,
    /// All that were begun.
    pub schedules: Vec<Schedule>,
    /// What was really broken, and when.
    pub incidents: Vec<Incident>,
    /// How soon records flowed again.
    pub marks: Vec<Mark>,
    /// In order of time.
    pub samples: Vec<Sample>,
    /// Of the ledger, at the end.
    pub verdict: Option<Verdict>,
    /// WARN and ERROR lines of all gateways, each kind with its count.
    pub alarms: Vec<String>,
    /// Whether it ended because nothing arrived any more.
    pub hung: bool,
}

/// A fault as it was performed.
#[derive(Clone, Copy, Debug)]
pub struct Incident {
    /// When it began.
    pub from: Duration,
    /// When it had ended: a gateway was started, a broker served.
    pub until: Duration,
    /// What it was.
    pub fault: Planned,
}

/// How things stood at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Records at the source.
    pub sent: u64,
    /// Records at the target.
    pub arrived: u64,
    /// Resident bytes of each gateway; 0 while it does not run.
    pub memory: Vec<u64>,
}

impl Course {
    /// Notes that it begins now.
    pub fn begin(&mut self) {
        self.began = Some(SystemTime::now());
    }
}
