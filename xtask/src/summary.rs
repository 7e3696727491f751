//! What a run of tests came to.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

/// Counts what the test harness says, line by line, over all test programs.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) brokers: String,
    /// `test: reason`, for what could not run on this host.
    pub(crate) not_run: Vec<String>,
    /// What tests measured, a line each.
    pub(crate) figures: Vec<String>,
    passed: u64,
    failed: u64,
    programs: u64,
    /// A program has said how many tests it runs and not yet how they went.
    open: bool,
    failures: Vec<String>,
    faults: Vec<String>,
    times: Vec<(&'static str, Duration)>,
}

impl Tally {
    /// Takes one line of the harness's output.
    pub(crate) fn see(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.close();
            self.open = true;
            self.programs += 1;
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.open = false;
            self.passed += count(rest, "passed");
            self.failed += count(rest, "failed");
        } else if let Some(rest) = line.strip_prefix("test ") {
            match rest.split_once(" ... ") {
                Some((name, "FAILED")) => self.failures.push(name.to_owned()),
                Some((name, how)) if is_left_out(how) => self.not_run.push(format!("{name}: {how}")),
                _ => {}
            }
        }
    }

    /// The harness has ended; `clean` is what its exit status says.
    pub(crate) fn ended(&mut self, clean: bool) {
        self.close();
        if !clean && self.failed == 0 {
            self.fault("cargo test failed outside any test (see above)".into());
        }
    }

    /// Something other than a test went wrong; counts as one failure.
    pub(crate) fn fault(&mut self, what: String) {
        self.failed += 1;
        self.faults.push(what);
    }

    pub(crate) fn note(&mut self, what: &'static str, took: Duration) {
        self.times.push((what, took));
    }

    /// Success only when something ran, nothing failed and, with `all`, nothing was left out.
    pub(crate) fn verdict(&mut self, all: bool) -> ExitCode {
        if all && !self.not_run.is_empty() {
            self.fault(format!(
                "{} tests could not run on this host, and --all was asked for",
                self.not_run.len()
            ));
        }
        if self.passed == 0 && self.failed == 0 {
            self.fault("no test ran".into());
        }
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// A program that died before its result line is a failure of its own.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.fault("a test program ended without a result (it crashed or was killed)".into());
        }
    }
}

/// Whether "ignored, reason" leaves something untested. A measurement has no verdict, the child of a test is run by that test,
/// and a long run has a command of its own; each says so in its reason.
fn is_left_out(how: &str) -> bool {
    let runs_elsewhere = |reason: &str| {
        reason.starts_with("a measurement")
            || reason.starts_with("the child of")
            || reason.starts_with("a long run: cargo xtask")
    };
    how.strip_prefix("ignored")
        .is_some_and(|rest| !runs_elsewhere(rest.trim_start_matches([',', ' '])))
}

/// The number before `word` in "ok. 28 passed; 1 failed; 0 ignored".
fn count(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result
        .split([' ', ';', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nbrokers   {}", self.brokers)?;
        writeln!(f, "programs  {}", self.programs)?;
        for (what, took) in &self.times {
            writeln!(f, "{what:<9} {:.0} s", took.as_secs_f64())?;
        }
        for (title, lines) in [
            ("figures", &self.figures),
            ("not run on this host", &self.not_run),
            ("failed", &self.failures),
            ("faults", &self.faults),
        ] {
            if !lines.is_empty() {
                writeln!(f, "{title}:\n  {}", lines.join("\n  "))?;
            }
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, all: bool, last: &str) {
        let mut tally = Tally::default();
        for line in lines.lines() {
            tally.see(line);
        }
        tally.ended(true);
        let verdict = tally.verdict(all);
        let text = tally.to_string();
        assert_eq!(text.lines().last(), Some(last), "{text}");
        let clean = last.ends_with(", 0 failed");
        assert_eq!(
            format!("{verdict:?}"),
            format!(
                "{:?}",
                if clean {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            )
        );
    }

    const CLEAN: &str = "running 3 tests\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";

    #[test]
    fn results_of_all_programs_are_added_up() {
        check(&CLEAN.repeat(2), true, "6 passed, 0 failed");
        let failing = "running 2 tests\ntest a::b ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        check(&format!("{CLEAN}{failing}"), false, "4 passed, 1 failed");
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        check(&format!("running 9 tests\n{CLEAN}"), false, "3 passed, 1 failed");
        check(&format!("{CLEAN}running 9 tests\n"), false, "3 passed, 1 failed");
    }

    #[test]
    fn a_run_without_tests_is_a_failure() {
        check("", false, "0 passed, 1 failed");
    }

    #[test]
    fn what_did_not_run_is_listed_and_fails_when_all_is_asked_for() {
        let ignored = format!("{CLEAN}test slow ... ignored, takes an hour\n");
        check(&ignored, false, "3 passed, 0 failed");
        check(&ignored, true, "3 passed, 1 failed");
        let elsewhere = format!(
            "{CLEAN}test rate ... ignored, a measurement\ntest kid ... ignored, the child of x\n\
             test soak ... ignored, a long run: cargo xtask soak\n"
        );
        check(&elsewhere, true, "3 passed, 0 failed");
    }
}
