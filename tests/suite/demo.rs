//! `culvert demo` proves what it shows, and leaves nothing behind, also when it is interrupted.

use culvert_tests::gateway::program;
use culvert_tests::process::Process;
use culvert_tests::{Scratch, wait_until};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A run is half a minute on a quiet host.
const SOON: Duration = Duration::from_secs(180);

/// A demo with a directory for temporary files of its own, so that what it leaves there can be seen.
struct Demo {
    scratch: Scratch,
    process: Process,
}

impl Demo {
    fn start(name: &str, arguments: &[&str]) -> Demo {
        let scratch = Scratch::new(name).expect("make a directory");
        let temporary = scratch.path().join("tmp");
        fs::create_dir(&temporary).expect("make a directory for temporary files");
        let mut command = Command::new(program().expect("culvert is built"));
        command
            .args(["demo", "--output", "json"])
            .args(arguments)
            .env("TMPDIR", &temporary);
        let process = Process::spawn(name, &command, &scratch.path().join("log")).expect("start the demo");
        Demo { scratch, process }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Its exit code, once it has ended.
    fn end(&self) -> Option<i32> {
        wait_until(SOON, "demo to end", || self.process.ended().is_some());
        self.process.ended().and_then(|status| status.code())
    }

    fn left_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch.path().join("tmp")).expect("the directory is there");
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// Ids of the processes that work below its directory.
    fn left_processes(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").expect("this host has /proc");
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|id: &u32| {
                let at = fs::read_link(Path::new("/proc").join(id.to_string()).join("cwd"));
                at.is_ok_and(|at| at.starts_with(self.scratch.path().join("tmp")))
            })
            .collect()
    }
}

#[test]
fn every_record_is_proven_and_nothing_stays() {
    let demo = Demo::start(
        "demo",
        &["--records", "20000", "--rate", "4000", "--engine", "log"],
    );
    let code = demo.end();
    let said = demo.said();
    assert_eq!(code, Some(0), "{said}");
    // Standard error stands before it in the log; the answer is the last thing that is said.
    let at = said.find("\n{").expect("there is a JSON object");
    let answer: serde_json::Value = serde_json::from_str(&said[at..]).expect("it is JSON");
    assert_eq!(answer["proven"], true, "{said}");
    assert_eq!(answer["verdict"], "complete", "{said}");
    assert_eq!(answer["records"], 20_000, "{said}");
    let killed = answer["kills"].as_array().expect("the kills are a list");
    let names: Vec<&str> = killed
        .iter()
        .filter_map(|kill| kill["gateway"].as_str())
        .collect();
    assert_eq!(names, ["gw1", "gw2", "gw3"]);
    assert!(
        answer["datagrams_dropped"].as_u64() > Some(0),
        "the link was cut: {said}"
    );
    assert!(
        answer["backlog_records_max"].as_u64() > Some(0),
        "records waited: {said}"
    );
    assert_eq!(demo.left_files(), Vec::<PathBuf>::new());
    assert_eq!(demo.left_processes(), Vec::<u32>::new());
}

#[test]
fn an_interrupted_demo_ends_its_gateways_and_removes_its_files() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let demo = Demo::start("interrupted", &["--rate", "1000"]);
        wait_until(SOON, "gateways to run", || demo.left_processes().len() == 3);
        wait_until(SOON, "signals to be heard", || demo.said().contains("taken in"));
        demo.process.signal(signal).expect("signal the demo");
        assert_eq!(demo.end(), Some(code), "{}", demo.said());
        assert_eq!(demo.left_files(), Vec::<PathBuf>::new());
        assert_eq!(demo.left_processes(), Vec::<u32>::new());
    }
}

#[test]
fn a_killed_demo_takes_its_gateways_along() {
    let demo = Demo::start("killed", &["--rate", "1000"]);
    wait_until(SOON, "gateways to run", || demo.left_processes().len() == 3);
    demo.process.kill9().expect("kill the demo");
    wait_until(SOON, "gateways to end with it", || {
        demo.left_processes().is_empty()
    });
}
