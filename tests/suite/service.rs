//! Under a service manager: what the unit forbids is not needed, and sockets that are handed over are used.
//!
//! The service manager itself does not run where tests do. What it would do is done by its own tools: the unit is judged by
//! `systemd-analyze`, sockets come from `systemd-socket-activate`, and a gateway that runs is watched for system calls that
//! the unit's filter refuses.

use crate::pair::{Pair, generated, sqlite};
use culvert_tests::{Scratch, host, wait_for, wait_until, workspace};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const UNIT: &str = "systemd/culvert@.service";

/// The exposure that the unit may have, in tenths (`systemd-analyze security`); one without any limits has 96.
const EXPOSURE_MAX: u32 = 13;

const SOON: Duration = Duration::from_secs(20);
const ARRIVAL: Duration = Duration::from_secs(90);

#[test]
fn the_unit_leaves_little_of_the_host_open() {
    if !has(
        "the_unit_leaves_little_of_the_host_open",
        "systemd-analyze",
        "systemd",
    ) {
        return;
    }
    let unit = workspace().join(UNIT);
    assert!(is_tight(&unit), "{UNIT} is open above {EXPOSURE_MAX} tenths");
    // Without its filter of system calls it is not: the measure measures.
    let folder = Scratch::new("unit").expect("a folder");
    let text = fs::read_to_string(&unit).expect("read the unit");
    let lines = text.lines().filter(|line| !line.starts_with("SystemCallFilter="));
    let loose = folder.path().join("culvert@.service");
    fs::write(&loose, lines.collect::<Vec<_>>().join("\n")).expect("write");
    assert!(!is_tight(&loose), "a unit without a filter passes too");
}

fn is_tight(unit: &Path) -> bool {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager", &threshold])
        .arg(unit)
        .output()
        .expect("systemd-analyze, of the package systemd");
    let text = String::from_utf8_lossy(&judged.stdout);
    assert!(text.contains("Overall exposure level"), "{text}");
    judged.status.success()
}

/// The tunnel and the page of health, each on a socket that was open before the gateway: nothing else could listen there.
#[test]
fn sockets_that_the_service_manager_holds_are_used() {
    let test = "sockets_that_the_service_manager_holds_are_used";
    if !has(test, "systemd-socket-activate", "systemd") {
        return;
    }
    const ENVIRONMENT: [&str; 4] = [
        "-E",
        "CULVERT_TELEMETRY__LISTEN",
        "-E",
        "CULVERT_TELEMETRY__LOG_FORMAT",
    ];
    let mut pair = Pair::prepare("held", &[generated(500)], &sqlite()).expect("prepare");
    let tunnel = pair.tunnel.to_string();
    let held = ["systemd-socket-activate", "--datagram", "--listen", &tunnel];
    pair.first.run_within(&[&held[..], &ENVIRONMENT].concat());
    let health = pair.last.telemetry().to_string();
    let held = ["systemd-socket-activate", "--listen", &health];
    pair.last.run_within(&[&held[..], &ENVIRONMENT].concat());
    // Asking for its health starts the second, whose first datagram starts the first.
    pair.first.launch().expect("launch");
    pair.last.restart().expect("start");
    pair.delivered(500, ARRIVAL);
    pair.assert_no_unlisted_alarms(&[]);
}

/// Compiling and running plugins, both outboxes' work, a reload and a drain, with the /proc that the unit leaves.
#[test]
fn a_gateway_calls_nothing_that_the_unit_forbids() {
    let test = "a_gateway_calls_nothing_that_the_unit_forbids";
    if !has(test, "strace", "strace") || !has(test, "systemd-analyze", "systemd") {
        return;
    }
    let traces = Scratch::new("trace").expect("a folder");
    let trace = |name: &str| traces.path().join(name).display().to_string();
    let mut source = generated(500);
    source["transforms"] = json!("policy");
    source["transforms.policy.type"] = json!("field-policy");
    source["transforms.policy.drop"] = json!("/debug");
    let mut pair = Pair::prepare("watched", &[source], &sqlite()).expect("prepare");
    for (gateway, name) in [(&mut pair.first, "first"), (&mut pair.last, "last")] {
        let file = trace(name);
        // A tracer apart: the process that is started is the gateway.
        let traced = ["strace", "-D", "-f", "-c", "-o", &file];
        if host::is_root() {
            const VEILED: &str = "mount -t proc -o subset=pid,hidepid=invisible proc /proc && exec \"$@\"";
            let veil = ["unshare", "--mount", "sh", "-c", VEILED, "sh"];
            gateway.run_within(&[&veil[..], &traced].concat());
        } else {
            gateway.run_within(&traced);
        }
    }
    pair.first.launch().expect("launch");
    pair.last.restart().expect("start");
    pair.delivered(500, ARRIVAL);
    let id = pair.first.id().expect("it runs").to_string();
    let hung = Command::new("kill").args(["-HUP", &id]).status().expect("kill");
    assert!(hung.success());
    wait_until(SOON, "certificates to be read again", || {
        pair.first
            .log()
            .is_ok_and(|log| log.contains("certificates reloaded"))
    });
    assert_eq!(pair.last.term().expect("end"), 0);
    assert_eq!(pair.first.term().expect("end"), 0);

    let mut allowed = allowed();
    if host::is_root() {
        // SQLite gives its files to the owner of the database where it is root, and only there.
        allowed.insert("fchown".to_owned());
    }
    for name in ["first", "last"] {
        let file = trace(name);
        let called = wait_for(SOON, "the tracer's table", || {
            let called = table(&fs::read_to_string(&file).ok()?);
            called.contains("futex").then_some(called)
        });
        let called = called.expect("a table");
        let refused: Vec<&String> = called.difference(&allowed).collect();
        assert!(refused.is_empty(), "{name} calls {refused:?}");
    }
    assert!(!allowed.contains("mount") && allowed.contains("read"));
}

/// Whether the host has `program`; says so where it has not.
fn has(test: &str, program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        host::not_run(
            test,
            &format!("{program} is not there: apt-get install {package}"),
        );
    }
    found
}

/// The names in the last column of the table that `strace -c` makes.
fn table(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        // Share and seconds: a call that was under way when a thread ended is told of in a line of another kind.
        for _ in 0..2 {
            columns.next()?.parse::<f64>().ok()?;
        }
        columns.next_back().map(str::to_owned)
    });
    rows.filter(|name| name != "total").collect()
}

/// What the unit's `SystemCallFilter=` leaves, its lines in order.
fn allowed() -> BTreeSet<String> {
    let unit = fs::read_to_string(workspace().join(UNIT)).expect("read the unit");
    let mut allowed = members("@default");
    for line in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let (adds, words) = match line.strip_prefix('~') {
            Some(words) => (false, words),
            None => (true, line),
        };
        for name in words.split_whitespace().flat_map(members) {
            if adds {
                allowed.insert(name);
            } else {
                allowed.remove(&name);
            }
        }
    }
    allowed
}

/// The system calls of a set, those of sets in it too (systemd.exec(5)).
fn members(set: &str) -> BTreeSet<String> {
    if !set.starts_with('@') {
        return [set.to_owned()].into();
    }
    let listed = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager", set])
        .output()
        .expect("systemd-analyze, of the package systemd");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = text
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(members).collect()
}
