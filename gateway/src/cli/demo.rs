//! `culvert demo`: three networks on one host, nothing else needed.
//!
//! ```text
//! site1: generator ─► gateway gw1 ──► site2: gateway gw2 (relay) ──► site3: gateway gw3 ─► SQLite
//! ```
//!
//! Three gateways run as processes of their own, are killed while records are on their way, and started again; then
//! `prove` compares both ends. Everything lies in one directory, which stays for looking around.

use super::terminal::Tone;
use super::{Exit, Format, Session, prove};
use crate::identity::issue::{Authority, Kind};
use crate::identity::{Name, TrustDomain};
use crate::observe::control::{self, Prove};
use crate::observe::report::{ProofReport, Verdict};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  culvert demo
  culvert demo --records 1000000 --rate 50000
  culvert demo --stay                            leave the gateways running, to look around

The exit code is that of `culvert prove`.")]
pub(super) struct Args {
    /// How many records cross, rounded up to an even number: there are two partitions
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    records: u64,
    /// How many a second
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rate: u64,
    /// Where everything is put; made anew
    #[arg(long, value_name = "DIR", default_value = "culvert-demo")]
    directory: PathBuf,
    /// Leave the gateways running until they are interrupted
    #[arg(long)]
    stay: bool,
}

impl Args {
    fn records(&self) -> u64 {
        self.records.next_multiple_of(2)
    }
}

/// Processes start within a second; a busy host takes longer.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How long nothing may move before the demo gives up.
const STILL_TIME_MAX: Duration = Duration::from_secs(60);

/// How often the gateways are asked how far they are.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The file by which a directory is known for a demo's, and may be emptied.
const MARK: &str = "this-is-a-culvert-demo";

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut sites = prepare(args)?;
    let say = |text: &str| session.terminal.note(text);
    say(&format!(
        "three gateways in {}: gw1 makes {} orders, gw2 relays them, gw3 writes them to SQLite",
        args.directory.display(),
        args.records()
    ));
    for site in &mut sites {
        site.start()?;
    }
    sites.iter_mut().try_for_each(Site::wait_until_it_answers)?;
    let began = Instant::now();
    cross(args, session, &mut sites)?;
    say(&format!(
        "arrived after {:.1} s; comparing both ends",
        began.elapsed().as_secs_f64()
    ));

    let wait = Prove {
        wait_ms: 60_000,
        connector: None,
    };
    let report = control::prove(&sites[2].socket(), wait, &mut |_| {})?;
    show(&report, args, session)?;
    if args.stay {
        say("the gateways run until you press Ctrl-C");
        sites.iter_mut().try_for_each(Site::wait)?;
    } else {
        sites.iter_mut().rev().try_for_each(Site::stop)?;
    }
    let complete = report.verdict() == Verdict::Complete && arrived(&report) == args.records();
    Ok(if complete { Exit::Ok } else { Exit::Failed })
}

/// Waits until all has arrived, and meanwhile kills each gateway once.
fn cross(args: &Args, session: &Session, sites: &mut [Site; 3]) -> anyhow::Result<()> {
    let bar = if session.terminal.is_moving() {
        ProgressBar::new(args.records())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} orders in SQLite");
    bar.set_style(style.context("the template is a constant")?);
    // The relay first, then both ends: at a quarter, half and three quarters of the way.
    let mut kills = [(1, 1u64), (2, 2), (0, 3)].into_iter().peekable();
    let (mut moved, mut last) = (Instant::now(), 0);
    loop {
        let applied = applied(&sites[2]);
        bar.set_position(applied);
        if let Some((victim, _)) = kills.next_if(|(_, quarter)| applied >= args.records() * quarter / 4) {
            sites[victim].kill()?;
            sites[victim].start()?;
            let text = format!(
                "killed {} (SIGKILL) with {applied} orders in SQLite, and started it again",
                sites[victim].gateway
            );
            bar.suspend(|| session.terminal.note(text));
            sites[victim].wait_until_it_answers()?;
        } else if applied >= args.records() {
            bar.finish_and_clear();
            return Ok(());
        }
        if applied > last {
            (moved, last) = (Instant::now(), applied);
        }
        if moved.elapsed() > STILL_TIME_MAX {
            bar.finish_and_clear();
            bail!(
                "nothing arrived for {} s; the logs are in {}",
                STILL_TIME_MAX.as_secs(),
                args.directory.display()
            );
        }
        for site in sites.iter_mut() {
            site.lives()?;
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// How many records the sink is known to have applied; none while its gateway is starting.
fn applied(sink: &Site) -> u64 {
    let report = control::status(&sink.socket()).ok();
    let connectors = report.into_iter().flat_map(|report| report.connectors);
    connectors
        .flat_map(|connector| connector.streams)
        .filter_map(|stream| stream.applied)
        .sum()
}

fn arrived(report: &ProofReport) -> u64 {
    report
        .streams
        .iter()
        .filter_map(|stream| Some(stream.sink.as_ref()?.count))
        .sum()
}

fn show(report: &ProofReport, args: &Args, session: &Session) -> anyhow::Result<()> {
    prove::answer(report, session)?;
    if session.terminal.format() == Format::Text && !args.stay {
        let directory = args.directory.display();
        let look = format!("sqlite3 {directory}/site3/orders.db 'SELECT count(*) FROM orders'");
        session.terminal.note(format_args!(
            "\nlook around: {}",
            session.terminal.paint(&look, Tone::Strong)
        ));
    }
    Ok(())
}

/// One network: a directory with a configuration, and the gateway that runs in it.
struct Site {
    gateway: &'static str,
    directory: PathBuf,
    process: Option<Child>,
}

impl Site {
    fn socket(&self) -> PathBuf {
        self.directory.join("state").join("control.sock")
    }

    /// Starts the gateway, without our environment: the demo is what its files say.
    fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .context("open the log")?;
        let program = std::env::current_exe().context("find this program")?;
        let process = Command::new(program)
            .args(["run", "--config"])
            .arg(self.directory.join("culvert.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.gateway))?;
        self.process = Some(process);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("gateway.log")
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        while control::status(&self.socket()).is_err() {
            self.lives()?;
            if Instant::now() > deadline {
                bail!(
                    "{} does not answer; its log is {}",
                    self.gateway,
                    self.log().display()
                );
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    }

    /// A gateway that ended by itself ends the demo.
    fn lives(&mut self) -> anyhow::Result<()> {
        let ended = self
            .process
            .as_mut()
            .map_or(Ok(None), Child::try_wait)
            .context("look at the process")?;
        match ended {
            Some(status) => bail!(
                "{} ended by itself ({status}); its log is {}",
                self.gateway,
                self.log().display()
            ),
            None => Ok(()),
        }
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().with_context(|| format!("kill {}", self.gateway))?;
            process
                .wait()
                .with_context(|| format!("wait for {}", self.gateway))?;
        }
        Ok(())
    }

    /// Asks the gateway to end, as systemd would.
    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(process) = &self.process {
            let pid = rustix::process::Pid::from_child(process);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .with_context(|| format!("stop {}", self.gateway))?;
        }
        self.wait()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process
                .wait()
                .with_context(|| format!("wait for {}", self.gateway))?;
            if !status.success() {
                bail!(
                    "{} ended badly ({status}); its log is {}",
                    self.gateway,
                    self.log().display()
                );
            }
        }
        Ok(())
    }
}

/// A demo that fails leaves no process behind.
impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Makes the directory, the certificates and three configurations.
fn prepare(args: &Args) -> anyhow::Result<[Site; 3]> {
    empty(&args.directory)?;
    let domain: TrustDomain = "demo.culvert".parse()?;
    let certificates = args.directory.join("certs");
    let authority = Authority::init(&certificates, &domain, 30, false)?;
    let (first, second) = (free_port()?, free_port()?);
    let place = |number: usize, gateway: &'static str, more: &str, listen: u16| -> anyhow::Result<Site> {
        authority.issue(&Kind::Gateway(gateway.parse::<Name>()?), 30, false)?;
        let directory = args.directory.join(format!("site{number}"));
        std::fs::create_dir_all(directory.join("connectors"))?;
        let toml = format!(
            "gateway = \"{gateway}\"\nsite = \"site{number}\"\n{}{more}",
            common(gateway, listen)
        );
        std::fs::write(directory.join("culvert.toml"), toml)?;
        Ok(Site {
            gateway,
            directory,
            process: None,
        })
    };
    let sites = [
        place(1, "gw1", SITE1, first)?,
        place(2, "gw2", &SITE2.replace("{gw1}", &first.to_string()), second)?,
        place(3, "gw3", &SITE3.replace("{gw2}", &second.to_string()), 0)?,
    ];
    let source = SOURCE.replace("{count}", &(args.records() / 2).to_string());
    std::fs::write(
        sites[0].directory.join("connectors/orders.json"),
        source.replace("{rate}", &args.rate.to_string()),
    )?;
    let sink = SINK.replace(
        "{path}",
        &sites[2].directory.join("orders.db").display().to_string(),
    );
    std::fs::write(sites[2].directory.join("connectors/orders.json"), sink)?;
    Ok(sites)
}

/// Makes an empty directory. One that is not a demo's is not touched.
fn empty(directory: &Path) -> anyhow::Result<()> {
    let mark = directory.join(MARK);
    let is_empty = || std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    if directory.exists() && !mark.exists() && !is_empty() {
        bail!(
            "{} is there and is not a demo's: name another --directory",
            directory.display()
        );
    }
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    std::fs::write(mark, "").with_context(|| format!("write in {}", directory.display()))
}

fn free_port() -> anyhow::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .context("find a free port")?
        .port())
}

fn common(gateway: &str, listen: u16) -> String {
    format!(
        "state = \"state\"\n\n[identity]\ncertificate = \"../certs/gateways/{gateway}.pem\"\n\
         key = \"../certs/gateways/{gateway}.key\"\nca = \"../certs/ca.pem\"\ntrust_domain = \"demo.culvert\"\n\n\
         [tunnel]\nlisten = \"127.0.0.1:{listen}\"\n\n[telemetry]\nlisten = \"127.0.0.1:0\"\n\n"
    )
}

const SITE1: &str = r#"# The relay dials us.
[[peer]]
site = "site2"
gateways = ["gw2"]

# site3 may read our orders, and site2 may carry them there.
[[grant]]
to = "site3"
topics = ["orders"]
via = ["site2"]
"#;

const SITE2: &str = r#"[[peer]]
site = "site1"
gateways = ["gw1"]
address = "127.0.0.1:{gw1}"

# The sink's gateway dials us.
[[peer]]
site = "site3"
gateways = ["gw3"]

[[relay]]
from = "site1"
to = "site3"
"#;

const SITE3: &str = r#"[[peer]]
site = "site2"
gateways = ["gw2"]
address = "127.0.0.1:{gw2}"
"#;

const SOURCE: &str = r#"{
  "name": "orders",
  "config": {
    "connector.class": "io.culvert.generator.GeneratorSource",
    "topic": "orders",
    "kind": "orders",
    "partitions": "2",
    "count": "{count}",
    "rate": "{rate}"
  }
}
"#;

const SINK: &str = r#"{
  "name": "orders",
  "config": {
    "connector.class": "io.culvert.sqlite.SqliteSink",
    "topics": "orders",
    "culvert.from": "site1",
    "culvert.via": "site2",
    "sqlite.path": "{path}"
  }
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn args(directory: &Path) -> Args {
        Args {
            records: 10,
            rate: 5,
            directory: directory.to_owned(),
            stay: false,
        }
    }

    #[test]
    fn every_site_has_a_valid_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        for _again in 0..2 {
            let sites = prepare(&args(&directory.path().join("demo"))).expect("prepared");
            for site in &sites {
                let config = Config::load(&site.directory.join("culvert.toml"), &Environment::default());
                config
                    .and_then(|config| config.check_files())
                    .expect("it is valid");
            }
        }
    }

    #[test]
    fn somebody_elses_directory_is_not_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("thesis.tex"), "").expect("write");
        let error = prepare(&args(directory.path()))
            .err()
            .expect("it is refused")
            .to_string();
        assert!(error.contains("is not a demo's"), "{error}");
        assert!(directory.path().join("thesis.tex").exists());
    }
}
