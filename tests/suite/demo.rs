//! `culvert demo` and `culvert chaos` prove what they show, and leave nothing behind, also when they are interrupted.

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
    /// `arguments` begin with the verb.
    fn start(name: &str, arguments: &[&str]) -> Demo {
        let scratch = Scratch::new(name).expect("make a directory");
        let temporary = scratch.path().join("tmp");
        fs::create_dir(&temporary).expect("make a directory for temporary files");
        let mut command = Command::new(program().expect("culvert is built"));
        command
            .args(arguments)
            .args(["--output", "json"])
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

    /// What it answered: standard error stands before it in the log.
    fn answer(&self) -> serde_json::Value {
        let said = self.said();
        let at = said
            .find("\n{")
            .unwrap_or_else(|| panic!("no JSON object: {said}"));
        serde_json::from_str(&said[at..]).expect("it is JSON")
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
        &["demo", "--records", "20000", "--rate", "4000", "--engine", "log"],
    );
    let code = demo.end();
    let said = demo.said();
    assert_eq!(code, Some(0), "{said}");
    let answer = demo.answer();
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
fn chaos_breaks_what_its_seed_says_and_every_record_is_proven() {
    const CHAOS: [&str; 5] = ["chaos", "--seed", "11", "--minutes", "0.5"];
    let demo = Demo::start("chaos", &[&CHAOS[..], &["--rate", "2000"]].concat());
    let code = demo.end();
    let said = demo.said();
    assert_eq!(code, Some(0), "{said}");
    let answer = demo.answer();
    assert_eq!(answer["proven"], true, "{said}");
    assert!(answer["records"].as_u64() >= Some(70_000), "{said}");
    let faults = answer["faults"].as_array().expect("a list");
    let mut done: Vec<(u64, String)> = faults
        .iter()
        .map(|fault| {
            let at = fault["at_seconds"].as_f64().expect("a number");
            let text = |name: &str| fault[name].as_str().expect("a text").to_owned();
            (
                (at * 1000.0).round() as u64,
                format!("{} {}", text("kind"), text("place")),
            )
        })
        .collect();
    done.sort();
    assert!(
        faults.iter().any(|fault| fault["flows_after_seconds"].is_f64()),
        "{said}"
    );

    let dry = Demo::start("chaos-dry", &[&CHAOS[..], &["--dry"]].concat());
    assert_eq!(dry.end(), Some(0), "{}", dry.said());
    let schedule: serde_json::Value = serde_json::from_str(&dry.said()).expect("it is JSON");
    let drawn = schedule["faults"].as_array().expect("a list");
    assert_eq!(done.len(), drawn.len(), "{said}");
    assert!(done.len() >= 5, "{drawn:?}");
    for ((at, what), drawn) in done.iter().zip(drawn) {
        let line = drawn.as_str().expect("a text");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            (words[1].to_owned(), format!("{} {}", words[6], words[7])),
            (format!("{:.3}", *at as f64 / 1000.0), what.clone()),
            "{line}"
        );
    }
    for demo in [demo, dry] {
        assert_eq!(demo.left_files(), Vec::<PathBuf>::new());
        assert_eq!(demo.left_processes(), Vec::<u32>::new());
    }
}

#[test]
fn an_interrupted_demo_ends_its_gateways_and_removes_its_files() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let demo = Demo::start("interrupted", &["demo", "--rate", "1000"]);
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
    let demo = Demo::start("killed", &["demo", "--rate", "1000"]);
    wait_until(SOON, "gateways to run", || demo.left_processes().len() == 3);
    demo.process.kill9().expect("kill the demo");
    wait_until(SOON, "gateways to end with it", || {
        demo.left_processes().is_empty()
    });
}
