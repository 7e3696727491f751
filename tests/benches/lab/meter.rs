//! CPU and memory of processes, from `/proc`.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Linux counts processor time for programs in hundredths of a second, whatever its own clock is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Processor time at one moment.
pub(crate) struct Moment {
    at: Instant,
    /// By process id, user and system time together.
    by_process: BTreeMap<u32, Duration>,
    /// Of this process and all below it.
    ours: Duration,
    /// Of the whole machine.
    busy: Duration,
}

/// What was used between two moments.
pub(crate) struct Used {
    /// The time between.
    pub(crate) wall: Duration,
    /// Of the processes that were asked for.
    pub(crate) cpu: Duration,
    /// The share of the machine that strangers used, 0 to 1.
    pub(crate) others: f64,
}

impl Moment {
    /// Now, for `processes`.
    pub(crate) fn now(processes: &[u32]) -> anyhow::Result<Moment> {
        let all = all_processes();
        let by_process = processes
            .iter()
            .map(|id| {
                let found = all.get(id).with_context(|| format!("process {id} is gone"))?;
                Ok((*id, found.cpu))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Moment {
            at: Instant::now(),
            by_process,
            ours: below(&all, std::process::id()),
            busy: busy()?,
        })
    }

    /// What was used from `earlier` to this moment.
    pub(crate) fn since(&self, earlier: &Moment) -> Used {
        let cpu = self.by_process.iter().map(|(id, now)| {
            let before = earlier.by_process.get(id).copied().unwrap_or_default();
            now.saturating_sub(before)
        });
        let wall = self.at - earlier.at;
        let strangers = (self.busy - earlier.busy).saturating_sub(self.ours.saturating_sub(earlier.ours));
        Used {
            wall,
            cpu: cpu.sum(),
            others: strangers.as_secs_f64() / wall.as_secs_f64() / cores(),
        }
    }
}

/// The most memory a process has held since its start or since [`forget_peak`], in MiB.
pub(crate) fn peak_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("/proc/<pid>/status has no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Begins a new peak at what the process holds now.
pub(crate) fn forget_peak(process: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("reset the peak of a process")
}

/// How many processors there are.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// The machine in a line: processors, memory, kernel, and how busy it was before anything began.
pub(crate) fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let memory: f64 = field(&memory, "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0.0);
    format!(
        "{} cores ({}), {:.0} GiB, Linux {}, load {} at the start",
        cores(),
        field(&cpu, "model name"),
        memory / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}

struct Running {
    parent: u32,
    cpu: Duration,
}

fn all_processes() -> BTreeMap<u32, Running> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| Some((id, parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?)))
        .collect()
}

/// `proc(5)`: behind the name, which is in parentheses and may hold anything, the fields are numbered from 3.
fn parse(stat: &str) -> Option<Running> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
    Some(Running {
        parent: number(4)?,
        cpu: TICK * (number(14)? + number(15)?),
    })
}

fn below(all: &BTreeMap<u32, Running>, root: u32) -> Duration {
    let is_below = |id: &u32| {
        let mut id = *id;
        while id != root && id > 1 {
            id = all.get(&id).map_or(0, |running| running.parent);
        }
        id == root
    };
    all.iter()
        .filter(|(id, _)| is_below(id))
        .map(|(_, running)| running.cpu)
        .sum()
}

/// Everything but idle and waiting for disks (`proc(5)`, fields 4 and 5 of the first line).
fn busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().context("/proc/stat is empty")?;
    let fields = first.split_whitespace().skip(1).take(8).map(str::parse::<u32>);
    let fields: Vec<u32> = fields.collect::<Result<_, _>>()?;
    let idle = fields[3] + fields[4];
    Ok(TICK * (fields.iter().sum::<u32>() - idle))
}
