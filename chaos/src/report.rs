//! `report.md`, `timeline.svg` and `schedules.txt`: what a person reads of a run, whether it passed or not.

mod picture;

use crate::course::Course;
use crate::observer::Mark;
use crate::run::Plan;
use crate::sample::{mib, quantile};
use crate::schedule::word;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

/// Writes the three files into the course's folder.
///
/// # Errors
/// When they cannot be written.
pub fn write(plan: &Plan, course: &Course, outcome: &anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = &course.folder;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let schedules: String = course
        .schedules
        .iter()
        .map(|schedule| format!("{schedule}\n"))
        .collect();
    for (name, text) in [
        ("report.md", text(plan, course, outcome)?),
        ("timeline.svg", picture::draw(course)?),
        ("schedules.txt", schedules),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn text(plan: &Plan, course: &Course, outcome: &anyhow::Result<()>) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    let took = course
        .samples
        .last()
        .map_or(0.0, |sample| sample.at.as_secs_f64());
    writeln!(page, "# Chaos, seed {}\n", plan.seed)?;
    match outcome {
        Ok(()) => writeln!(
            page,
            "**Passed.** Every record arrived once, whole and in order.\n"
        )?,
        Err(fault) => writeln!(page, "**FAILED.**\n\n```text\n{fault:#}\n```\n")?,
    }
    if let Some(verdict) = &course.verdict {
        writeln!(page, "{verdict}\n")?;
    }
    writeln!(page, "| | |\n| --- | --- |")?;
    let schedules = course.schedules.len() as u64;
    let last = plan.seed.wrapping_add(schedules.saturating_sub(1));
    let kills = kills(course);
    for (name, value) in [
        ("schedules", format!("{schedules}, seeds {} to {last}", plan.seed)),
        ("faults", course.incidents.len().to_string()),
        ("kills of gateways (SIGKILL)", kills.to_string()),
        ("time", format!("{took:.0} s")),
        (
            "load",
            format!(
                "{} records/s asked for, {:.0} records/s came",
                plan.rate,
                came(course)
            ),
        ),
        (
            "sites",
            match plan.apart {
                true => "in network namespaces of their own".into(),
                false => "all on loopback".into(),
            },
        ),
        ("outbox", plan.engine.into()),
        ("commit", crate::record::commit()),
        ("machine", crate::record::machine()),
    ] {
        writeln!(page, "| {name} | {value} |")?;
    }
    writeln!(page, "\n![what was broken, and what came of it](timeline.svg)\n")?;
    recoveries(&mut page, course)?;
    slowest(&mut page, course)?;
    memory(&mut page, course)?;
    if !course.alarms.is_empty() {
        writeln!(
            page,
            "## What the gateways said\n\n```text\n{}\n```\n",
            course.alarms.join("\n")
        )?;
    }
    writeln!(
        page,
        "## Again\n\nThe schedules are in [schedules.txt](schedules.txt). One of them again, by its seed or as a file \
         with some of its lines:\n\n    cargo xtask chaos --seed {} --minutes 0\n    cargo xtask chaos --schedule FILE",
        plan.seed
    )?;
    Ok(page)
}

/// Records a second at the source.
fn came(course: &Course) -> f64 {
    match (course.samples.first(), course.samples.last()) {
        (Some(first), Some(last)) => {
            (last.sent - first.sent) as f64 / (last.at - first.at).as_secs_f64().max(1.0)
        }
        _ => 0.0,
    }
}

/// How often a gateway was killed.
pub fn kills(course: &Course) -> u64 {
    use crate::schedule::Kind;
    let of = |kind, amount| match kind {
        Kind::Kill | Kind::Burn | Kind::Takeover | Kind::PowerCut => 1,
        Kind::KillAll => 3,
        Kind::KillAgain => amount + 1,
        Kind::Restore | Kind::Clock | Kind::Twin => 2,
        _ => 0,
    };
    let faults = course.incidents.iter().map(|incident| incident.fault);
    faults.map(|fault| of(fault.kind, fault.amount)).sum()
}

/// How soon records flowed again, by what had been broken.
fn recoveries(page: &mut String, course: &Course) -> std::fmt::Result {
    let mut kinds: BTreeMap<String, Vec<&Mark>> = BTreeMap::new();
    for mark in course.marks.iter().filter(|mark| !mark.disturbed) {
        let kind = match mark.name.contains('+') {
            true => "several at once",
            false => mark.name.split(' ').next().unwrap_or_default(),
        };
        kinds.entry(kind.into()).or_default().push(mark);
    }
    let disturbed = course.marks.iter().filter(|mark| mark.disturbed).count();
    writeln!(
        page,
        "## How soon records flow again\n\nFrom the end of a fault (a gateway's being started, a broker's serving, a \
         link's healing) to the first record at the target that was sent after it, and until there was one in every \
         partition. What had waited goes before it; `any` is the time until something arrived at all, `behind` that from the source's having such a record, \
         as far as a reader sees it. {disturbed} more were broken again before that, and are not counted.\n"
    )?;
    writeln!(
        page,
        "| fault | times | any, p50 | any, p99 | behind, p50 | behind, p99 | p50 | p99 | longest | longest, every partition |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for (kind, marks) in &kinds {
        row(page, kind, marks)?;
    }
    let all: Vec<&Mark> = kinds.values().flatten().copied().collect();
    let brokers = |mark: &&&Mark| mark.of_a_broker();
    let killed_or_cut = all.iter().filter(|mark| mark.killed_or_cut()).copied();
    row(page, "**kills and cuts**", &killed_or_cut.collect::<Vec<_>>())?;
    row(
        page,
        "**all but brokers'**",
        &all.iter()
            .filter(|mark| !brokers(mark))
            .copied()
            .collect::<Vec<_>>(),
    )?;
    row(
        page,
        "**brokers'**",
        &all.iter().filter(brokers).copied().collect::<Vec<_>>(),
    )?;
    writeln!(page)
}

/// Where to look when something takes long.
fn slowest(page: &mut String, course: &Course) -> std::fmt::Result {
    let mut marks: Vec<&Mark> = course.marks.iter().filter(|mark| !mark.disturbed).collect();
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.first));
    writeln!(
        page,
        "| the slowest | seed | first record | every partition |\n| --- | --- | --- | --- |"
    )?;
    for mark in marks.iter().take(SLOWEST) {
        let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
        writeln!(
            page,
            "| {} | {} | {:.2} s | {:.2} s |",
            mark.name,
            mark.seed,
            seconds(mark.first),
            seconds(mark.all)
        )?;
    }
    writeln!(page)
}

/// How many of them are named.
const SLOWEST: usize = 10;

fn row(page: &mut String, kind: &str, marks: &[&Mark]) -> std::fmt::Result {
    let seconds = |of: fn(&Mark) -> Option<Duration>| -> Vec<f64> {
        marks
            .iter()
            .filter_map(|mark| of(mark))
            .map(|time| time.as_secs_f64())
            .collect()
    };
    if marks.is_empty() {
        return Ok(());
    }
    let (mut first, mut all) = (seconds(|mark| mark.first), seconds(|mark| mark.all));
    let mut any = seconds(|mark| mark.any);
    let mut behind = seconds(Mark::behind);
    writeln!(
        page,
        "| {kind} | {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.2} s |",
        first.len(),
        quantile(&mut any, 0.5),
        quantile(&mut any, 0.99),
        quantile(&mut behind, 0.5),
        quantile(&mut behind, 0.99),
        quantile(&mut first, 0.5),
        quantile(&mut first, 0.99),
        quantile(&mut first, 1.0),
        quantile(&mut all, 1.0)
    )
}

fn memory(page: &mut String, course: &Course) -> std::fmt::Result {
    writeln!(
        page,
        "## Memory\n\nResident, while a gateway ran. Growth is from the median of the third quarter of the run to that \
         of the last.\n\n| gateway | most | third quarter | last quarter | growth |\n| --- | --- | --- | --- | --- |"
    )?;
    let gateways = course.samples.first().map_or(0, |sample| sample.memory.len());
    for gateway in 0..gateways {
        let [most, third, last] = memory_of(course, gateway);
        writeln!(
            page,
            "| gw{} | {} | {} | {} | {:+.1} MiB |",
            gateway + 1,
            mib(most as u64),
            mib(third as u64),
            mib(last as u64),
            (last - third) / f64::from(1 << 20)
        )?;
    }
    writeln!(page)
}

/// The most, the median of the third quarter and that of the last, bytes.
fn memory_of(course: &Course, gateway: usize) -> [f64; 3] {
    let samples = &course.samples;
    let of = |part: &[crate::course::Sample]| -> Vec<f64> {
        let bytes = part.iter().filter_map(|sample| sample.memory.get(gateway));
        bytes
            .filter(|&&bytes| bytes > 0)
            .map(|&bytes| bytes as f64)
            .collect()
    };
    let (half, last) = (samples.len() / 2, samples.len() * 3 / 4);
    [
        quantile(&mut of(samples), 1.0),
        quantile(&mut of(&samples[half..last]), 0.5),
        quantile(&mut of(&samples[last..]), 0.5),
    ]
}

/// One line for a table of runs.
pub fn line(course: &Course) -> String {
    let times = |wanted: fn(&Mark) -> bool, of: fn(&Mark) -> Option<Duration>| {
        let marks = course.marks.iter().filter(|mark| !mark.disturbed && wanted(mark));
        let mut seconds: Vec<f64> = marks.filter_map(of).map(|time| time.as_secs_f64()).collect();
        match seconds.len() {
            0 => "none measured".into(),
            _ => format!(
                "p50 {:.2} s, p99 {:.2} s",
                quantile(&mut seconds, 0.5),
                quantile(&mut seconds, 0.99)
            ),
        }
    };
    let growth: Vec<String> = (0..3)
        .map(|gateway| {
            let [_, third, last] = memory_of(course, gateway);
            format!("{:+.1}", (last - third) / f64::from(1 << 20))
        })
        .collect();
    let sent = course.verdict.as_ref().map_or(0, |verdict| verdict.sent);
    let mut kinds: Vec<String> = course
        .incidents
        .iter()
        .map(|incident| word(&incident.fault.kind))
        .collect();
    kinds.sort();
    kinds.dedup();
    format!(
        "{} schedules, {} faults of {} kinds, {} kills; {sent} records ({:.0}/s), lost 0, doubled 0, reordered 0; \
         flows again: kills and cuts {}, all but brokers' {}, brokers' faults {}, of it behind the source {}; memory growth {} MiB",
        course.schedules.len(),
        course.incidents.len(),
        kinds.len(),
        kills(course),
        came(course),
        times(Mark::killed_or_cut, |mark| mark.first),
        times(|mark| !mark.of_a_broker(), |mark| mark.first),
        times(Mark::of_a_broker, |mark| mark.first),
        times(Mark::of_a_broker, Mark::behind),
        growth.join(" "),
    )
}
