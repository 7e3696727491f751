//! Networks of the lab's own: a network namespace each, joined to the lab's and to nothing else.
//!
//! ```text
//!   lab's namespace              network 1
//!   10.77.1.1 ────── veth ────── 10.77.1.2     outward: to other networks, through what the lab puts between
//!   10.78.1.1 ────── veth ────── 10.78.1.2     its own services, which the lab observes
//! ```
//!
//! - The lab itself runs in namespaces of its own ([`alone`]), so that the host's interfaces and mounts stay as they are.
//! - The kernel takes all of it away with the last process in it; there is no file and no name to clean up.
//! - Nothing is forwarded: from one network to another there is no way but through what the lab puts between them
//!   ([`crate::UdpRelay`], [`crate::TcpProxy`]).

use crate::process::{Process, find_program, under};
use crate::{Scratch, wait_for};
use anyhow::{Context, bail, ensure};
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// One network. Clones are the same network; it ends with the last of them and the last process in it.
#[derive(Clone)]
pub struct Network {
    number: u8,
    holder: Arc<Holder>,
}

/// A process that does nothing but keep the namespace.
struct Holder {
    process: Process,
    _scratch: Scratch,
}

/// How long the kernel may take to make a namespace.
const MADE: Duration = Duration::from_secs(10);

impl Network {
    /// A network of its own, joined to this process's namespace. `number`, from 1, names it and decides its addresses.
    ///
    /// # Errors
    /// When this process is not [`alone`], or the kernel refuses.
    pub fn new(number: u8) -> anyhow::Result<Network> {
        ensure!(
            is_alone(),
            "networks are made by a process that is alone in its own (network::alone)"
        );
        let scratch = Scratch::new("network")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "infinity"]);
        let process = Process::spawn("network", &command, &scratch.path().join("log"))?;
        let id = process.id();
        wait_for(MADE, "a network namespace", || {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
            (name.trim() == "sleep").then_some(())
        })?;
        let network = Network {
            number,
            holder: Arc::new(Holder {
                process,
                _scratch: scratch,
            }),
        };
        network.join(OUTWARD, network.gate(), network.outward())?;
        network.join(SERVICES, network.desk(), network.address())?;
        Ok(network)
    }

    /// Where its own services listen. The lab reaches them whatever is done to the way outward.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number, 2)
    }

    /// The lab's end of that cable: where a proxy stands before a service.
    pub fn desk(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number, 1)
    }

    /// Where it is reached from other networks.
    pub fn outward(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// The lab's end of that cable: whatever leads to other networks listens there.
    pub fn gate(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1)
    }

    /// The same command, run inside.
    pub fn inside(&self, command: &Command) -> Command {
        let namespace = format!("--net=/proc/{}/ns/net", self.holder.process.id());
        under("nsenter", &[&namespace, "--"], command)
    }

    /// Pulls the cable outward, or puts it back: those inside learn at once that there is no way out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up(&self, up: bool) -> anyhow::Result<()> {
        let state = if up { "up" } else { "down" };
        run(&self.inside(&ip(&["link", "set", OUTWARD, state])))
    }

    /// Lays a cable and gives both ends their addresses.
    fn join(&self, name: &str, here: Ipv4Addr, there: Ipv4Addr) -> anyhow::Result<()> {
        let outer = format!("{name}{}", self.number);
        let id = self.holder.process.id().to_string();
        run(&ip(&[
            "link", "add", "name", &outer, "type", "veth", "peer", "name", name, "netns", &id,
        ]))?;
        run(&ip(&["address", "add", &format!("{here}/24"), "dev", &outer]))?;
        run(&ip(&["link", "set", &outer, "up"]))?;
        for inner in [
            ip(&["link", "set", "lo", "up"]),
            ip(&["address", "add", &format!("{there}/24"), "dev", name]),
            ip(&["link", "set", name, "up"]),
        ] {
            run(&self.inside(&inner))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network {} ({})", self.number, self.address())
    }
}

/// The cables, by the names of their ends inside.
const OUTWARD: &str = "outward";
const SERVICES: &str = "services";

/// Set in the environment of a process that [`alone`] has started.
const ALONE: &str = "CULVERT_LAB_ALONE";

/// Whether this process has namespaces of its own.
pub fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// The same command in a network and a mount namespace of its own; without root in a user namespace too.
///
/// # Errors
/// When this host cannot do it: says what it lacks.
pub fn alone(command: &Command) -> anyhow::Result<Command> {
    for program in ["unshare", "nsenter", "ip", "mount"] {
        ensure!(
            find_program(program).is_some(),
            "{program} is not installed (util-linux, iproute2)"
        );
    }
    let mut namespaces = vec!["--net", "--mount", "--propagation", "private"];
    if !crate::host::is_root() {
        namespaces.extend(["--user", "--map-root-user"]);
    }
    namespaces.push("--");
    let trial = under("unshare", &namespaces, &trial());
    run(&trial).context("this host lets no network be made by this user (root, or user namespaces)")?;
    let mut alone = under("unshare", &namespaces, command);
    alone.env(ALONE, "1");
    Ok(alone)
}

/// Makes a cable: the kernel must know how.
fn trial() -> Command {
    ip(&["link", "add", "name", "a0", "type", "veth", "peer", "name", "b0"])
}

/// What a process that is alone does first.
///
/// # Errors
/// When the kernel refuses.
pub fn begin() -> anyhow::Result<()> {
    run(&ip(&["link", "set", "lo", "up"]))
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}

/// Runs a command to its end; what it said when it fails.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let mut again = under("env", &[], command);
    let output = again.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{}", output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_alone_sees_nothing_of_the_hosts_network() {
        let name = "a_command_that_is_alone_sees_nothing_of_the_hosts_network";
        let mut look = Command::new("sh");
        look.args(["-c", "tail -n +3 /proc/net/dev | cut -d: -f1"]);
        let mut alone = match alone(&look) {
            Ok(alone) => alone,
            Err(why) => return crate::host::not_run(name, &format!("{why:#}")),
        };
        let said = alone.output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.trim(), "lo");
    }
}
