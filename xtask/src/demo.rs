//! `cargo xtask demo`: `culvert demo` between two real Kafka clusters that know nothing of each other.
//!
//! The clusters are the lab's: a broker each, with mutual TLS and an authority of its own. What is played, shown and
//! proven is `culvert demo`'s; here is only what stands around it.

use crate::{prepare, steps};
use anyhow::Context;
use culvert_tests::{Broker, BrokerOptions, Scratch, TestCa, workspace};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The profile that the program is built with. `bench-fast` is optimised as `release` is, without its last step.
    #[arg(long, default_value = "bench-fast")]
    profile: String,
    /// Without Kafka: generators at one end, SQLite at the other.
    #[arg(long)]
    embedded: bool,
    /// Everything else goes to `culvert demo` as it is: see `culvert demo --help`. With --bootstrap-source and
    /// --bootstrap-target the clusters are yours, and none is started.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS OF CULVERT DEMO"
    )]
    rest: Vec<String>,
}

/// How often the demo and the signals are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Builds, starts the clusters, and lets the demo run to its end; its exit status is ours.
///
/// # Errors
/// When something cannot be built or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let asked = Asked::listen()?;
    let program = build(&arguments.profile)?;
    let clusters = match arguments.own_clusters() {
        true => Clusters::start_if_possible()?,
        false => None,
    };
    let mut options = arguments.rest.clone();
    options.extend(clusters.iter().flat_map(|clusters| clusters.options.clone()));
    if asked.signal().is_some() {
        return Ok(asked.exit_code());
    }
    let status = play(&program, &options, &asked)?;
    Ok(status)
}

impl Arguments {
    /// Whether Kafka is wanted and nobody has named any.
    fn own_clusters(&self) -> bool {
        let named = |option: &String| option.starts_with("--bootstrap-");
        let only_reads = |option: &String| option == "--help" || option == "-h";
        !self.embedded && !self.rest.iter().any(|option| named(option) || only_reads(option))
    }
}

/// Builds the program and says where it is.
fn build(profile: &str) -> anyhow::Result<PathBuf> {
    steps::run(steps::cargo(&[
        "build",
        "--locked",
        "--package",
        "culvert",
        "--profile",
        profile,
    ]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let targets = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace().join("target"), PathBuf::from);
    Ok(targets.join(folder).join("culvert"))
}

/// Two clusters of one broker each, and the options that name them.
struct Clusters {
    options: Vec<String>,
    _brokers: [Cluster; 2],
}

/// A broker, the authority that it and its clients trust, and the clients' settings.
struct Cluster {
    broker: Broker,
    properties: PathBuf,
    _authority: TestCa,
    _scratch: Scratch,
}

impl Clusters {
    /// Nothing on a host that can run no broker; says why.
    fn start_if_possible() -> anyhow::Result<Option<Clusters>> {
        if let Err(why) = prepare::brokers(false) {
            eprintln!("no Kafka on this host, so the demo runs without: {why:#}\n");
            return Ok(None);
        }
        let [source, target] = thread::scope(|scope| {
            ["source", "target"]
                .map(|name| scope.spawn(move || Cluster::start(name)))
                .map(|starting| starting.join().expect("starting a broker returns its errors"))
        });
        let brokers = [source?, target?];
        let mut options = Vec::new();
        for (end, cluster) in ["source", "target"].into_iter().zip(&brokers) {
            let properties = cluster.properties.display().to_string();
            options.extend([format!("--bootstrap-{end}"), cluster.broker.bootstrap_tls()]);
            options.extend([format!("--properties-{end}"), properties]);
        }
        eprintln!("two Kafka clusters with mutual TLS run, each with an authority of its own");
        Ok(Some(Clusters {
            options,
            _brokers: brokers,
        }))
    }
}

impl Cluster {
    fn start(name: &str) -> anyhow::Result<Cluster> {
        let authority = TestCa::new(&format!("authority of the {name} cluster"))?;
        let broker = Broker::start(BrokerOptions {
            tls: Some(authority.server("broker")?),
            ..BrokerOptions::default()
        })
        .with_context(|| format!("start the {name} cluster"))?;
        let client = authority.client("culvert")?;
        let scratch = Scratch::new(name)?;
        let text = [
            ("ssl.ca.location", &client.ca),
            ("ssl.certificate.location", &client.certificate),
            ("ssl.key.location", &client.key),
        ]
        .map(|(key, file)| format!("{key}={}\n", file.display()));
        let text = format!("security.protocol=ssl\n{}", text.concat());
        Ok(Cluster {
            broker,
            properties: scratch.write("client.properties", &text)?,
            _authority: authority,
            _scratch: scratch,
        })
    }
}

/// Runs the demo, passes signals on, and waits until it has cleaned up behind itself.
fn play(program: &Path, options: &[String], asked: &Asked) -> anyhow::Result<ExitCode> {
    let mut demo = Demo(
        Command::new(program)
            // It ends with us, even if we are killed.
            .args(["--parent", &std::process::id().to_string(), "demo"])
            .args(options)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?,
    );
    let mut told = false;
    loop {
        if let Some(status) = demo.0.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        if let Some(signal) = asked.signal()
            && !told
        {
            kill_process(Pid::from_child(&demo.0), signal)?;
            told = true;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The running demo. Dropping it kills it.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The signal that asked us to end. Heard, so that what was started is ended before we are.
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn listen() -> anyhow::Result<Asked> {
        let asked = Arc::new(AtomicUsize::new(0));
        for signal in [Signal::INT, Signal::TERM] {
            let number = signal.as_raw();
            signal_hook::flag::register_usize(number, Arc::clone(&asked), usize::try_from(number)?)
                .context("listen to signals")?;
        }
        Ok(Asked(asked))
    }

    fn signal(&self) -> Option<Signal> {
        let number = self.0.load(Ordering::Relaxed);
        [Signal::INT, Signal::TERM]
            .into_iter()
            .find(|signal| usize::try_from(signal.as_raw()) == Ok(number))
    }

    /// 128 + n, as shells say it.
    fn exit_code(&self) -> ExitCode {
        let number = u8::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0);
        ExitCode::from(128 + number)
    }
}
