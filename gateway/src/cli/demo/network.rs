//! Three gateways, each with files of its own, as three hosts would have them:
//!
//! ```text
//! <directory>/certs/         the authority, and a certificate for each gateway
//!             gw1/           culvert.toml  connectors/*.json  state/  run.log
//!             gw2/  gw3/     likewise; all paths in them are relative
//! ```

use super::ends::{Connector, Ends};
use super::program::{Launcher, Program};
use super::wire::Wire;
use super::{Plan, ends::words};
use crate::identity::issue::{Authority, Kind};
use crate::observe::control;
use crate::observe::report::StatusReport;
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The gateways, in the order in which records pass them.
pub(super) const GATEWAYS: usize = 3;

/// Their networks.
const SITES: [&str; GATEWAYS] = ["site1", "site2", "site3"];

/// Longer than anyone keeps a demo.
const CERTIFICATE_DAYS: u32 = 30;

const TRUST_DOMAIN: &str = "demo.culvert";

/// What the outboxes may hold: so little that the runway of a cut link is a matter of minutes.
const QUOTA: &str = "256 MiB";

/// A gateway finishes the commit under way; Kafka may let it wait.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// Three gateways and the wires by which the first and the last dial the second.
pub(super) struct Network {
    pub(super) gateways: [Gateway; GATEWAYS],
    pub(super) wires: [Wire; 2],
    pub(super) launcher: Launcher,
    files: Vec<Files>,
}

/// One gateway: its files, and its process while it runs.
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    process: Option<Program>,
    /// It stands still (SIGSTOP), and answers nobody.
    frozen: bool,
}

/// What one gateway's `culvert.toml` is made of.
struct Files {
    tunnel: SocketAddr,
    telemetry: SocketAddr,
    kafka: String,
    connectors: Vec<Connector>,
}

impl Network {
    /// Writes everything below `directory` and starts the wires, but no gateway.
    pub(super) fn lay(
        directory: &Path,
        ends: &Ends,
        plan: &Plan,
        launcher: Launcher,
        runtime: &Handle,
    ) -> anyhow::Result<Network> {
        issue(&directory.join("certs"))?;
        let [first, last] = ends.tables();
        let files = [
            Files::new(first, ends.sources(plan))?,
            Files::new(String::new(), Vec::new())?,
            Files::new(last, vec![ends.sink(SITES[0], SITES[1])])?,
        ];
        let wire = |seed| Wire::start(runtime, files[1].tunnel, seed);
        let wires = [wire(plan.seed)?, wire(plan.seed.wrapping_add(1))?];
        let gateways = [0, 1, 2].map(|index| Gateway::new(directory, index));
        let network = Network {
            gateways,
            wires,
            launcher,
            files: files.into(),
        };
        let addresses = network.wires.each_ref().map(Wire::address);
        for index in 0..GATEWAYS {
            network.write(index, addresses, plan)?;
        }
        Ok(network)
    }

    /// Starts gateway `index` on the files it has.
    pub(super) fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let gateway = &mut self.gateways[index];
        let process = self
            .launcher
            .start(&gateway.directory, "run", &words(&["run"]))
            .with_context(|| format!("start {}", gateway.name))?;
        gateway.process = Some(process);
        gateway.frozen = false;
        Ok(())
    }

    /// # Errors
    /// A gateway has ended that nobody killed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for gateway in &mut self.gateways {
            if let Some(process) = &mut gateway.process
                && let Some(status) = process.ended()?
            {
                return process.fail(&format!("{} ended by itself: {status}", gateway.name));
            }
        }
        Ok(())
    }

    /// Ends the gateways, and leaves files with which they can be started by hand: without the wires between them.
    pub(super) fn leave(mut self, plan: &Plan) -> anyhow::Result<()> {
        for gateway in &mut self.gateways {
            gateway.kill();
        }
        let relay = self.files[1].tunnel;
        (0..GATEWAYS).try_for_each(|index| self.write(index, [relay; 2], plan))
    }

    /// Writes the files of gateway `index`. Gateways 1 and 3 dial gateway 2 at `addresses`.
    fn write(&self, index: usize, addresses: [SocketAddr; 2], plan: &Plan) -> anyhow::Result<()> {
        let (gateway, files) = (&self.gateways[index], &self.files[index]);
        let text = files.config(index, plan.engine.name()) + &peers(index, addresses);
        write(&gateway.directory.join("culvert.toml"), &text)?;
        for Connector { name, config } in &files.connectors {
            let text = serde_json::to_string_pretty(&serde_json::json!({ "name": name, "config": config }))?;
            write(
                &gateway.directory.join("connectors").join(format!("{name}.json")),
                &(text + "\n"),
            )?;
        }
        Ok(())
    }
}

impl Gateway {
    fn new(directory: &Path, index: usize) -> Gateway {
        let name = name(index);
        Gateway {
            directory: directory.join(&name),
            name,
            process: None,
            frozen: false,
        }
    }

    /// Kills it as the kernel would (SIGKILL).
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// Lets it stand still, with its sockets open, until it is thawed.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn freeze(&mut self) -> anyhow::Result<()> {
        self.frozen = true;
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn thaw(&mut self) -> anyhow::Result<()> {
        self.frozen = false;
        self.signal(Signal::CONT)
    }

    /// Ends it in good order (SIGTERM), and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end as it should.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let began = Instant::now();
        loop {
            match process.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return process.fail(&format!("{} was asked to end: {status}", self.name)),
                None if began.elapsed() > ENDED_WITHIN => {
                    let seconds = ENDED_WITHIN.as_secs();
                    return process.fail(&format!("{} did not end within {seconds} s", self.name));
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref();
        let process = process.with_context(|| format!("{} does not run", self.name))?;
        process.signal(signal)
    }

    /// Where it answers.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("state/control.sock")
    }

    /// What it says it is doing; nothing while it is not there.
    pub(super) fn status(&self) -> Option<StatusReport> {
        self.process.as_ref().filter(|_| !self.frozen)?;
        control::status(&self.socket()).ok()
    }
}

impl Files {
    fn new(kafka: String, connectors: Vec<Connector>) -> anyhow::Result<Files> {
        Ok(Files {
            tunnel: free_port(|address| UdpSocket::bind(address).is_ok())?,
            telemetry: free_port(|address| TcpListener::bind(address).is_ok())?,
            kafka,
            connectors,
        })
    }

    fn config(&self, index: usize, engine: &str) -> String {
        let (name, site) = (name(index), SITES[index]);
        let Files {
            tunnel,
            telemetry,
            kafka,
            ..
        } = self;
        format!(
            "\
gateway = \"{name}\"
site = \"{site}\"
state = \"state\"

[outbox]
engine = \"{engine}\"
quota = \"{QUOTA}\"

[identity]
certificate = \"../certs/gateways/{name}.pem\"
key = \"../certs/gateways/{name}.key\"
ca = [\"../certs/ca.pem\"]
trust_domain = \"{TRUST_DOMAIN}\"

[tunnel]
listen = \"{tunnel}\"

[telemetry]
listen = \"{telemetry}\"
{kafka}"
        )
    }
}

/// Whom gateway `index` knows, and what it lets them have.
fn peers(index: usize, [west, east]: [SocketAddr; 2]) -> String {
    let peer = |of: usize, address: &str| {
        let (site, gateway) = (SITES[of], name(of));
        format!("\n[[peer]]\nsite = \"{site}\"\ngateways = [\"{gateway}\"]\n{address}")
    };
    let dial = |address: SocketAddr| format!("address = [\"{address}\"]\n");
    let [first, second, third] = SITES;
    match index {
        0 => {
            peer(1, &dial(west))
                + &format!("\n[[grant]]\nto = \"{third}\"\ntopics = [\"*\"]\nvia = [\"{second}\"]\n")
        }
        1 => peer(0, "") + &peer(2, "") + &format!("\n[[relay]]\nfrom = \"{first}\"\nto = \"{third}\"\n"),
        _ => peer(1, &dial(east)),
    }
}

fn name(index: usize) -> String {
    format!("gw{}", index + 1)
}

fn issue(directory: &Path) -> anyhow::Result<()> {
    let authority = Authority::init(directory, &TRUST_DOMAIN.parse()?, CERTIFICATE_DAYS, false)?;
    for index in 0..GATEWAYS {
        authority.issue(&Kind::Gateway(name(index).parse()?), CERTIFICATE_DAYS, false)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Below what Linux gives to outgoing connections (32768 and up), so that a gateway that was killed finds its port
/// again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Far more than there are demos on one host.
const PORTS_TRIED: usize = 1_000;

fn free_port(is_free: impl Fn(SocketAddr) -> bool) -> anyhow::Result<SocketAddr> {
    let tried = (0..PORTS_TRIED).map(|_| (Ipv4Addr::LOCALHOST, rand::random_range(PORTS)).into());
    match tried.into_iter().find(|address| is_free(*address)) {
        Some(address) => Ok(address),
        None => bail!("no port between {} and {} is free", PORTS.start, PORTS.end),
    }
}
