//! What plugins cost a gateway: memory of each when it is idle, what a looping one does to its neighbours, how soon a gateway
//! that has some is ready, and how fast a flow is with a stage of each language.

use crate::Sizes;
use crate::kafka::Cluster;
use crate::latency;
use crate::mirror::{self, Pair};
use anyhow::{Context, ensure};
use culvert_tests::{Gateway, TestCa, ports, workspace};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connectors of the gateway whose memory is measured.
const CONNECTORS: usize = 50;

/// How long a gateway is left alone before its memory counts.
const SETTLE: Duration = Duration::from_secs(4);

/// How long a start may take: the first one compiles.
const READY: Duration = Duration::from_secs(120);

/// Pairs of runs with an idle and with a looping neighbour.
const PAIRS: usize = 5;

/// What one connector more takes, idle, in MiB.
pub(crate) struct Memory {
    pub(crate) plugin: String,
    pub(crate) bare: f64,
    pub(crate) staged: f64,
}

impl Memory {
    pub(crate) fn each(&self) -> f64 {
        (self.staged - self.bare) / CONNECTORS as f64
    }
}

/// p99 in milliseconds, pair by pair: with an idle neighbour, with a looping one.
pub(crate) struct Neighbour {
    pub(crate) pairs: Vec<(f64, f64)>,
}

/// Records of the backlog that goes through a stage, from Kafka to Kafka.
const FLOW: u64 = 200_000;

/// Records a second from Kafka to Kafka; none is a flow without a stage.
pub(crate) struct Flow {
    pub(crate) plugin: Option<String>,
    pub(crate) rate: f64,
}

/// From the start of the process until it says that it is ready.
pub(crate) struct Start {
    pub(crate) cold: Duration,
    pub(crate) warm: Vec<Duration>,
    pub(crate) program_bytes: u64,
}

/// Everything measured here.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) memory: Vec<Memory>,
    pub(crate) neighbour: Option<Neighbour>,
    pub(crate) start: Option<Start>,
    pub(crate) flows: Vec<Flow>,
}

/// Measures what needs no broker.
pub(crate) fn alone(rows: &mut Rows) -> anyhow::Result<()> {
    let bare = idle_mib(None)?;
    let mut plugins = vec![(None, "order-check".to_owned())];
    if let Some(folder) = languages() {
        let names = names_in(&folder)?;
        plugins.extend(names.into_iter().map(|name| (Some(folder.clone()), name)));
    }
    for (folder, plugin) in plugins {
        let staged = idle_mib(Some((folder.as_deref(), &plugin)))?;
        eprintln!("{CONNECTORS} connectors with {plugin}: {bare:.1} MiB without, {staged:.1} with");
        rows.memory.push(Memory { plugin, bare, staged });
    }
    let start = start()?;
    eprintln!("start: cold {:?}, warm {:?}", start.cold, start.warm);
    rows.start = Some(start);
    Ok(())
}

/// The folder with a plugin in each language.
fn languages() -> Option<PathBuf> {
    std::env::var_os("CULVERT_BENCH_PLUGINS").map(PathBuf::from)
}

/// What the plugins there are called.
fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some(format!("in-{}", entry.path().file_stem()?.to_str()?)))
        .collect();
    names.sort();
    Ok(names)
}

/// A gateway with sinks whose origin is away; each has opened its file and its stage.
fn gateway(connectors: usize, stage: Option<(Option<&Path>, &str)>) -> anyhow::Result<(Gateway, TestCa)> {
    let ca = TestCa::new("bench")?;
    let tls = ca.gateway(mirror::DOMAIN, "many")?;
    let directory = match stage {
        Some((Some(folder), _)) => format!("[plugins]\ndirectory = {folder:?}\n"),
        _ => String::new(),
    };
    let config = format!(
        "gateway = \"many\"\nsite = \"east\"\nstate = \"state\"\n[identity]\ncertificate = {:?}\nkey = {:?}\nca = [{:?}]\n\
         trust_domain = \"{}\"\n[tunnel]\nlisten = \"127.0.0.1:{}\"\n{directory}[[peer]]\nsite = \"west\"\n\
         gateways = [\"origin\"]\naddress = [\"{}:{}\"]\n",
        tls.certificate,
        tls.key,
        tls.ca,
        mirror::DOMAIN,
        ports::free_udp(),
        Ipv4Addr::LOCALHOST,
        ports::free_udp(),
    );
    let files: Vec<(String, String)> = (0..connectors)
        .map(|number| {
            let name = format!("sink-{number}");
            let mut settings = json!({
                "connector.class": "io.culvert.sqlite.SqliteSink",
                "topics": "orders",
                "culvert.from": "west",
                "sqlite.path": format!("{name}.db"),
            });
            if let (Some((_, plugin)), Value::Object(settings)) = (stage, &mut settings) {
                settings.insert("transforms".into(), "check".into());
                settings.insert("transforms.check.type".into(), plugin.into());
                settings.insert("transforms.check.culvert.memory.max".into(), "256MiB".into());
            }
            (
                name.clone(),
                json!({"name": name, "config": settings}).to_string(),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    Ok((Gateway::prepare("many", &config, &files)?, ca))
}

fn ready(gateway: &Gateway) -> anyhow::Result<Duration> {
    let started = Instant::now();
    gateway.launch()?;
    while !gateway.is_ready() {
        ensure!(
            started.elapsed() < READY,
            "not ready\n{}",
            gateway.log().unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(started.elapsed())
}

fn idle_mib(stage: Option<(Option<&Path>, &str)>) -> anyhow::Result<f64> {
    let (gateway, _ca) = gateway(CONNECTORS, stage)?;
    // Twice: the first start compiles, which is not what an idle gateway holds.
    ready(&gateway)?;
    gateway.term()?;
    ready(&gateway)?;
    std::thread::sleep(SETTLE);
    let id = gateway.id().context("the gateway does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .context("no VmRSS")?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kib / 1024.0)
}

/// A gateway with one connector and one bundled plugin: cold, then with what the first start compiled.
fn start() -> anyhow::Result<Start> {
    let (gateway, _ca) = gateway(1, Some((None, "order-check")))?;
    let cold = ready(&gateway)?;
    let warm = (0..7)
        .map(|_| {
            gateway.term()?;
            ready(&gateway)
        })
        .collect::<anyhow::Result<_>>()?;
    let program_bytes = std::fs::metadata(culvert_tests::gateway::program()?)?.len();
    Ok(Start {
        cold,
        warm,
        program_bytes,
    })
}

/// The paced load through a connector, while another one of both gateways has nothing to do or a plugin that loops.
pub(crate) fn neighbour(source: &Cluster, target: &Cluster, sizes: &Sizes) -> anyhow::Result<Neighbour> {
    let (paced, looped) = ("neighboured", "looped");
    source.make(paced)?;
    source.make(looped)?;
    source.fill(paced, 1)?;
    let directory = workspace().join("target/plugins/tests");
    let stage = json!({
        "transforms": "obey",
        "transforms.obey.type": "hostile",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": "looped-dead",
        "errors.deadletterqueue.topic.replication.factor": "1",
    });
    let mut pair = Pair::prepare(source, target, paced, Some((looped, &directory, &stage)))?;
    pair.launch()?;
    let arriving = pair.target_topic();
    target.wait_stable(&arriving, |stable| stable > 0, Duration::from_millis(20), READY)?;
    let once = Sizes {
        paced_warm_up: 3,
        paced_run: sizes.paced_run.min(20),
        paced_runs: 1,
        ..*sizes
    };
    let run = || -> anyhow::Result<f64> {
        let runs = latency::load(source, paced, target, &arriving, &once)?;
        Ok(runs.first().context("one run")?.p99)
    };
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let idle = run()?;
        let ended = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            let spinner = scope.spawn(|| source.keep_saying(looped, b"spin", &ended));
            let busy = run();
            ended.store(true, Ordering::Release);
            spinner
                .join()
                .map_err(|_| anyhow::anyhow!("the spinner panicked"))??;
            busy
        })?;
        eprintln!("p99: {idle:.1} ms beside an idle neighbour, {busy:.1} ms beside a looping one");
        pairs.push((idle, busy));
    }
    Ok(Neighbour { pairs })
}

/// The same transform in each language as a stage at the sink, from Kafka to Kafka, and the same flow without one.
pub(crate) fn flows(source: &Cluster, target: &Cluster) -> anyhow::Result<Vec<Flow>> {
    let Some(folder) = languages() else {
        return Ok(Vec::new());
    };
    let plugins = names_in(&folder)?.into_iter().map(Some);
    std::iter::once(None)
        .chain(plugins)
        .map(|plugin| {
            let rate = flow(source, target, &folder, plugin.as_deref())?;
            eprintln!("{}: {rate:.0} records/s", plugin.as_deref().unwrap_or("no stage"));
            Ok(Flow { plugin, rate })
        })
        .collect()
}

fn flow(source: &Cluster, target: &Cluster, folder: &Path, plugin: Option<&str>) -> anyhow::Result<f64> {
    let name = plugin.unwrap_or("none");
    let (quiet, topic) = (format!("quiet-{name}"), format!("flow-{name}"));
    source.make(&quiet)?;
    source.make(&topic)?;
    source.fill_with(&topic, FLOW, |number| {
        format!("{{\"order\":{number},\"amount\":1,\"currency\":\"EUR\",\"shop\":\"north\",\"state\":\"shipped\"}}")
    })?;
    let stage = match plugin {
        Some(plugin) => json!({
            "transforms": "mark",
            "transforms.mark.type": plugin,
            "transforms.mark.culvert.memory.max": "256MiB",
        }),
        None => json!({}),
    };
    let mut pair = Pair::prepare(source, target, &quiet, Some((&topic, folder, &stage)))?;
    pair.launch()?;
    let every = Duration::from_millis(5);
    let (first, started) = target.wait_stable(&topic, |stable| stable >= FLOW / 10, every, READY)?;
    let (last, ended) = target.wait_stable(&topic, |stable| stable >= FLOW, every, READY)?;
    Ok((last - first) as f64 / (ended - started).as_secs_f64())
}

impl Rows {
    pub(crate) fn table(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        if !self.memory.is_empty() {
            writeln!(
                text,
                "| {CONNECTORS} idle connectors, each with a stage of | MiB without | MiB with | MiB each |\n| --- | --- | --- | --- |"
            )?;
            for row in &self.memory {
                writeln!(
                    text,
                    "| {} | {:.1} | {:.1} | {:.2} |",
                    row.plugin,
                    row.bare,
                    row.staged,
                    row.each()
                )?;
            }
            text.push('\n');
        }
        if let Some(bare) = self.flows.iter().find(|flow| flow.plugin.is_none()) {
            writeln!(
                text,
                "| Kafka to Kafka, at the sink a stage of | records/s | of none |\n| --- | --- | --- |"
            )?;
            for flow in &self.flows {
                let plugin = flow.plugin.as_deref().unwrap_or("none");
                writeln!(
                    text,
                    "| {plugin} | {:.0} | {:.2} |",
                    flow.rate,
                    flow.rate / bare.rate
                )?;
            }
            text.push('\n');
        }
        if let Some(neighbour) = &self.neighbour {
            let median = |take: fn(&(f64, f64)) -> f64| {
                let mut all: Vec<f64> = neighbour.pairs.iter().map(take).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            let (idle, busy) = (median(|pair| pair.0), median(|pair| pair.1));
            let each = neighbour
                .pairs
                .iter()
                .map(|(idle, busy)| format!("{idle:.1}/{busy:.1}"));
            writeln!(
                text,
                "| p99 at 10,000 records/s beside a neighbour that | is idle | loops | change | each pair, ms |\n\
                 | --- | --- | --- | --- | --- |\n| median of {} | {idle:.1} ms | {busy:.1} ms | {:+.0} % | {} |\n",
                neighbour.pairs.len(),
                (busy / idle - 1.0) * 100.0,
                each.collect::<Vec<_>>().join(" "),
            )?;
        }
        if let Some(start) = &self.start {
            let mut warm = start.warm.clone();
            warm.sort();
            writeln!(
                text,
                "| program | start to ready, nothing compiled | compiled, median of {} | worst |\n| --- | --- | --- | --- |\n\
                 | {:.1} MB | {} ms | {} ms | {} ms |\n",
                warm.len(),
                start.program_bytes as f64 / 1e6,
                start.cold.as_millis(),
                warm[warm.len() / 2].as_millis(),
                warm[warm.len() - 1].as_millis(),
            )?;
        }
        Ok(text)
    }
}
