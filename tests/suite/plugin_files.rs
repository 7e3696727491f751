//! `file-source` and `file-sink` in two gateways: every line of a log that grows and is rotated is in the target once, in
//! order, whichever gateway is killed (S1, S2, S3, S8).

use crate::faults::Kills;
use crate::line::CUTS;
use crate::pair::Pair;
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Scratch, wait_for};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number.
const KILLS: usize = 12;

/// Lines of one file, before it is rotated.
const LINES_PER_FILE: u64 = 1_500;

/// What lies in the file that `file-sink` writes, as far as it holds.
fn held(out: &Path) -> String {
    let ledger = fs::read(out.with_extension("log.culvert")).unwrap_or_default();
    let ledger: Value = serde_json::from_slice(&ledger).unwrap_or_default();
    let length = ledger["length"]
        .as_u64()
        .and_then(|length| usize::try_from(length).ok());
    let mut bytes = fs::read(out).unwrap_or_default();
    bytes.truncate(length.unwrap_or(0));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How many records hold, as `file-sink` says: lines cannot be counted as fast.
fn delivered(out: &Path) -> u64 {
    let ledger = fs::read(out.with_extension("log.culvert")).unwrap_or_default();
    let ledger: Value = serde_json::from_slice(&ledger).unwrap_or_default();
    let streams = ledger["streams"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    streams.iter().filter_map(|stream| stream["to"].as_u64()).sum()
}

/// A program that writes a log, and what rotates it as logrotate does: `log.1` to `log.2` and so on, then the log itself,
/// while the program goes on writing to what it has open until it is told.
struct Program {
    log: PathBuf,
    open: File,
    next: u64,
    rotations: u64,
}

impl Program {
    fn start(log: PathBuf) -> anyhow::Result<Program> {
        let open = opened(&log)?;
        Ok(Program {
            log,
            open,
            next: 0,
            rotations: 0,
        })
    }

    /// Writes lines until it is to end; answers how many.
    fn run(mut self, is_over: &AtomicBool) -> anyhow::Result<(u64, u64)> {
        while !is_over.load(Ordering::Relaxed) {
            self.write(20)?;
            if self.next.is_multiple_of(LINES_PER_FILE) {
                self.rotate()?;
            }
            std::thread::sleep(Duration::from_millis(8));
        }
        Ok((self.next, self.rotations))
    }

    /// Some lines, the last of them in two halves.
    fn write(&mut self, lines: u64) -> anyhow::Result<()> {
        let last = self.next + lines - 1;
        let whole: String = (self.next..last)
            .map(|number| format!("line {number}\n"))
            .collect();
        self.open.write_all(whole.as_bytes())?;
        self.open.write_all(format!("line {last}").as_bytes())?;
        self.open.write_all(b"\n")?;
        self.next = last + 1;
        Ok(())
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        let name = |number: u64| self.log.with_extension(format!("log.{number}"));
        for number in (1..=self.rotations).rev() {
            fs::rename(name(number), name(number + 1))?;
        }
        fs::rename(&self.log, name(1))?;
        self.rotations += 1;
        // It has not been told yet.
        self.write(10)?;
        self.open = opened(&self.log)?;
        self.write(10)
    }
}

fn opened(log: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(log);
    file.with_context(|| log.display().to_string())
}

#[test]
fn lines_of_a_log_that_is_rotated_arrive_once_under_kills() -> anyhow::Result<()> {
    let mut kills = Kills::new("files", KILLS)?;
    let scratch = Scratch::new("files")?;
    let (log, out) = (scratch.path().join("in.log"), scratch.path().join("out.log"));
    let source = json!({
        "connector.class": "file-source", "file": log, "topic": "lines", "poll.interval": "20ms",
    });
    let sink = json!({ "connector.class": "file-sink", "file": out, "topics": "lines" });
    let mut program = Program::start(log)?;
    let pair = Pair::start("files", &[source], &sink)?;
    // A source without a resume point begins with the log as it is now.
    program.write(20)?;
    wait_for(DEADLINE, "the first lines", || {
        (delivered(&out) > 0).then_some(())
    })
    .with_context(|| pair.account())?;
    let is_over = AtomicBool::new(false);
    let started = Instant::now();
    let (count, rotations, took) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| program.run(&is_over));
        let victims = [&pair.first, &pair.first, &pair.last];
        let took = kills.carry_out(&victims, u64::MAX, || delivered(&out));
        is_over.store(true, Ordering::Relaxed);
        let written = writing.join().expect("the program does not panic");
        let (count, rotations) = written?;
        anyhow::Ok((count, rotations, took.with_context(|| pair.account())?))
    })?;
    wait_for(DEADLINE, "all lines in the target", || {
        (delivered(&out) >= count).then_some(())
    })
    .with_context(|| pair.account())?;
    let text = held(&out);
    let expected = (0..count).map(|number| format!("line {number}"));
    let wrong = text
        .lines()
        .zip(expected)
        .find(|(line, expected)| line != expected);
    ensure!(
        wrong.is_none() && text.lines().count() as u64 == count,
        "{count} lines written, {} arrived; the first that is wrong: {wrong:?} (seed {})",
        text.lines().count(),
        kills.seed
    );
    let (source, sink) = (pair.source()?, pair.sink()?);
    ensure!(source["guarantee"] == "exactly-once-while-disk-lives", "{source}");
    ensure!(sink["guarantee"] == "exactly-once", "{sink}");
    pair.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "files: {} kills and {rotations} rotations in {:.0} s, {count} lines in {:.0} s, each once and in order (seed {})",
        kills.count,
        took.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        kills.seed
    ));
    Ok(())
}
