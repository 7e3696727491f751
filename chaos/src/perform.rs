//! Does to a site what a schedule says.

use crate::disk::{self, Disks};
use crate::road::Road;
use crate::run::Plan;
use crate::schedule::{Kind, Place, Planned};
use crate::site::Site;
use anyhow::{Context, bail};
use culvert_tests::lossy_disk::Moment;
use culvert_tests::process::{Process, find_program};
use culvert_tests::relay::{Direction, Weather};
use culvert_tests::{Broker, Gateway, Scratch, wait_for};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A site and what else is there to break it with.
pub struct Stage<'a> {
    /// What is broken.
    pub site: &'a Site,
    /// Those of gateways 1 and 2.
    pub disks: Disks,
}

/// Why this host, or a run that is planned so, cannot do some kinds; those that are not here it can do.
pub fn lacking(kind: Kind, plan: &Plan, disks: &Disks) -> Option<&'static str> {
    match kind {
        Kind::Takeover if !plan.spare => Some("needs --spare"),
        Kind::NoUdp if !plan.tcp => Some("needs --tcp"),
        Kind::Unplug if !plan.apart => Some("needs network namespaces"),
        Kind::DiskFull if !matches!(disks, Disks::Small(_)) => {
            Some("needs loop devices and a mount namespace, engine `log`, and not --lossy")
        }
        Kind::PowerCut if !matches!(disks, Disks::Lossy(_)) => Some("needs --lossy, root and FUSE"),
        Kind::Fsync if find_program("strace").is_none() => Some("needs strace"),
        Kind::Clock if faketime().is_none() => Some("needs libfaketime (Debian: faketime)"),
        _ => None,
    }
}

impl Stage<'_> {
    /// Begins a fault, lets it last and ends it. Returns when it has ended: a broker serves again, a gateway has been
    /// started again.
    ///
    /// # Errors
    /// When the lab cannot do it, or a broker does not come back.
    pub fn perform(&self, fault: &Planned, seed: u64) -> anyhow::Result<()> {
        let acted = match fault.place {
            Place::West => weather(fault, &self.site.west),
            Place::East => weather(fault, &self.site.east),
            Place::Gw1 => self.gateway(fault, 1, seed),
            Place::Gw2 => self.gateway(fault, 2, seed),
            Place::Gw3 => self.gateway(fault, 3, seed),
            Place::Gateways => self.all(fault),
            Place::Net1 => self.unplug(fault, 1),
            Place::Net2 => self.unplug(fault, 2),
            Place::Net3 => self.unplug(fault, 3),
            Place::Source => broker(fault, &self.site.source),
            Place::Target => broker(fault, &self.site.target),
        };
        acted.with_context(|| format!("perform `{fault}`"))
    }

    fn gateway(&self, fault: &Planned, number: usize, seed: u64) -> anyhow::Result<()> {
        let gateway = self.site.gateway(number);
        match fault.kind {
            Kind::Kill => {
                gateway.kill9()?;
                thread::sleep(fault.lasts);
                gateway.launch()
            }
            Kind::KillAgain => kill_again(gateway, fault),
            Kind::Freeze => {
                gateway.pause()?;
                thread::sleep(fault.lasts);
                gateway.resume()
            }
            Kind::Restart => {
                stop(gateway)?;
                thread::sleep(fault.lasts);
                gateway.launch()
            }
            Kind::Garbage => self.garbage(fault, seed),
            Kind::Rotate => {
                self.site.renew(number)?;
                gateway.reload()
            }
            Kind::DiskFull => self.fill_disk(fault, number),
            Kind::PowerCut => self.cut_power(fault, number, seed),
            Kind::Clock => clock(gateway, fault),
            Kind::Fsync => fail_fsync(gateway, fault),
            Kind::Restore => restore(gateway, fault),
            Kind::Expire => {
                self.site.expire(number, SystemTime::now() + EXPIRES)?;
                gateway.reload()?;
                thread::sleep(fault.lasts);
                self.site.renew(number)?;
                gateway.reload()
            }
            Kind::Twin => twin(gateway, fault),
            Kind::Burn | Kind::Takeover => {
                gateway.kill9()?;
                clear(&gateway.directory().join("state"))?;
                thread::sleep(fault.lasts);
                gateway.launch()
            }
            kind => bail!("{kind:?} is not for a gateway"),
        }
    }

    fn all(&self, fault: &Planned) -> anyhow::Result<()> {
        let three = &self.site.gateways[..3];
        match fault.kind {
            Kind::KillAll => {
                for gateway in three {
                    gateway.kill9()?;
                }
                thread::sleep(fault.lasts);
                three.iter().try_for_each(Gateway::launch)
            }
            Kind::Roll => {
                for gateway in three {
                    stop(gateway)?;
                    gateway.launch()?;
                    thread::sleep(fault.lasts / 3);
                }
                Ok(())
            }
            kind => bail!("{kind:?} is not for all gateways"),
        }
    }

    fn unplug(&self, fault: &Planned, number: usize) -> anyhow::Result<()> {
        let networks = self.site.networks.as_ref();
        let network = &networks.context("the sites are not apart")?[number - 1];
        network.set_up(false)?;
        thread::sleep(fault.lasts);
        network.set_up(true)
    }

    fn fill_disk(&self, fault: &Planned, number: usize) -> anyhow::Result<()> {
        let disk = self.disks.small_of(number)?;
        disk.fill()?;
        thread::sleep(fault.lasts);
        disk.free()
    }

    /// The disk stops in the middle of what it does; the gateway may notice, and then it dies.
    fn cut_power(&self, fault: &Planned, number: usize, seed: u64) -> anyhow::Result<()> {
        let (disk, gateway) = (self.disks.lossy_of(number)?, self.site.gateway(number));
        let look = || disk.lock().unwrap_or_else(PoisonError::into_inner);
        look().cut_at(Moment::Acts(fault.amount));
        let until = Instant::now() + fault.lasts;
        while Instant::now() < until && !look().is_cut() {
            thread::sleep(Duration::from_millis(1));
        }
        gateway.kill9()?;
        disk::restore(disk, seed)?;
        gateway.launch()
    }

    /// Datagrams of random bytes, evenly over the fault's time.
    fn garbage(&self, fault: &Planned, seed: u64) -> anyhow::Result<()> {
        let networks = self.site.networks.as_ref();
        let from = networks.map_or(Ipv4Addr::LOCALHOST, |networks| networks[1].gate());
        let socket = UdpSocket::bind((from, 0))?;
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (mut bytes, began) = ([0; 1_500], Instant::now());
        for number in 0..fault.amount {
            let length = dice.random_range(1..bytes.len());
            dice.fill_bytes(&mut bytes[..length]);
            let _ = socket.send_to(&bytes[..length], self.site.tunnel);
            let due = fault.lasts.mul_f64(number as f64 / fault.amount as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(())
    }
}

/// How long a certificate is good that ends during a fault.
const EXPIRES: Duration = Duration::from_secs(1);

/// What is done to a link.
fn weather(fault: &Planned, road: &Road) -> anyhow::Result<()> {
    let share = fault.amount as f64 / 1_000.0;
    let time = Duration::from_millis(fault.amount);
    let (fair, link) = (Weather::default(), &road.udp);
    match fault.kind {
        Kind::Cut => road.cut(),
        Kind::CutIn => road.cut_one(Direction::ToServer),
        Kind::CutOut => road.cut_one(Direction::ToClients),
        Kind::NoUdp => link.cut(),
        Kind::Loss => link.set(Weather { loss: share, ..fair }),
        Kind::Delay => link.set(Weather { delay: time, ..fair }),
        Kind::Reorder => link.set(Weather { jitter: time, ..fair }),
        Kind::Duplicate => link.set(Weather {
            duplication: share,
            ..fair
        }),
        Kind::Damage => link.set(Weather {
            damage: share,
            ..fair
        }),
        Kind::Narrow => link.set(Weather {
            rate: fault.amount << 10,
            ..fair
        }),
        Kind::Flap | Kind::Rebind => return again_and_again(fault, road),
        kind => bail!("{kind:?} is not for a link"),
    }
    thread::sleep(fault.lasts);
    road.heal();
    Ok(())
}

fn again_and_again(fault: &Planned, road: &Road) -> anyhow::Result<()> {
    let times = u32::try_from(fault.amount.clamp(1, 1_000))?;
    for _ in 0..times {
        match fault.kind {
            Kind::Flap => road.cut(),
            _ => road.udp.rebind(),
        }
        thread::sleep(fault.lasts / times / 2);
        road.heal();
        thread::sleep(fault.lasts / times / 2);
    }
    Ok(())
}

fn broker(fault: &Planned, broker: &Broker) -> anyhow::Result<()> {
    match fault.kind {
        Kind::BrokerKill | Kind::BrokerStop => {
            match fault.kind {
                Kind::BrokerKill => broker.kill9()?,
                _ => broker.stop()?,
            }
            thread::sleep(fault.lasts);
            broker.restart()
        }
        Kind::BrokerFreeze => {
            broker.pause()?;
            thread::sleep(fault.lasts);
            broker.resume()
        }
        Kind::BrokerCut | Kind::BrokerStall => {
            match fault.kind {
                Kind::BrokerCut => broker.proxy().cut(),
                _ => broker.proxy().stall(),
            }
            thread::sleep(fault.lasts);
            broker.proxy().heal();
            Ok(())
        }
        kind => bail!("{kind:?} is not for a broker"),
    }
}

/// Kills within the fault's time, each life a little longer than the one before.
fn kill_again(gateway: &Gateway, fault: &Planned) -> anyhow::Result<()> {
    let times = u32::try_from(fault.amount.clamp(1, 1_000))?;
    let step = fault.lasts * 2 / (times * (times + 1));
    for life in 1..=times {
        gateway.kill9()?;
        gateway.launch()?;
        thread::sleep(step * life);
    }
    gateway.kill9()?;
    gateway.launch()
}

/// An orderly stop; a gateway that died of something else before is no fault of this one.
fn stop(gateway: &Gateway) -> anyhow::Result<()> {
    gateway.term().map(drop)
}

/// One life with another clock: `amount` seconds ahead when it is even, else behind.
fn clock(gateway: &Gateway, fault: &Planned) -> anyhow::Result<()> {
    let library = faketime().context("libfaketime is not installed")?;
    let sign = if fault.amount.is_multiple_of(2) { '+' } else { '-' };
    gateway.launch_with(&[
        ("LD_PRELOAD", &library.display().to_string()),
        ("FAKETIME", &format!("{sign}{}", fault.amount)),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ])?;
    thread::sleep(fault.lasts);
    gateway.launch()
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|file| file.is_file())
}

/// How long a gateway whose fsync failed may take to end.
const ENDS: Duration = Duration::from_secs(20);

/// The `amount`th fsync from now fails as a broken disk's does. Where none comes, because nothing flows, nothing fails.
fn fail_fsync(gateway: &Gateway, fault: &Planned) -> anyhow::Result<()> {
    let id = gateway.id().context("the gateway does not run")?.to_string();
    let scratch = Scratch::new("strace")?;
    let inject = format!("inject=fsync,fdatasync:error=EIO:when={}+", fault.amount);
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "-p",
            &id,
            "-e",
            "trace=fsync,fdatasync",
            "-e",
            &inject,
            "-o",
        ])
        .arg(scratch.path().join("trace"));
    let strace = Process::spawn("strace", &command, &scratch.path().join("log"))?;
    let said = || fs::read_to_string(scratch.path().join("trace")).unwrap_or_default();
    let until = Instant::now() + fault.lasts;
    while Instant::now() < until && !said().contains("INJECTED") {
        thread::sleep(Duration::from_millis(10));
    }
    if said().contains("INJECTED") {
        wait_for(ENDS, "the gateway to end after a failed fsync", || {
            gateway.has_ended().then_some(())
        })?;
    }
    // SIGTERM lets strace take its hands off a process that goes on.
    let _ = strace.term(ENDS);
    if gateway.has_ended() {
        gateway.launch()?;
    }
    Ok(())
}

/// A backup of the state is taken, and brought back when the gateway has gone on.
fn restore(gateway: &Gateway, fault: &Planned) -> anyhow::Result<()> {
    let (scratch, state) = (Scratch::new("backup")?, gateway.directory().join("state"));
    gateway.kill9()?;
    copy(&state, scratch.path())?;
    gateway.launch()?;
    thread::sleep(fault.lasts);
    gateway.kill9()?;
    clear(&state)?;
    copy(scratch.path(), &state)?;
    gateway.launch()
}

/// Both run until the clone is stopped; what the error pages ask for then is a start of the one that stays.
fn twin(gateway: &Gateway, fault: &Planned) -> anyhow::Result<()> {
    gateway.kill9()?;
    let twin = gateway.twin()?;
    gateway.launch()?;
    twin.launch()?;
    thread::sleep(fault.lasts);
    twin.kill9()?;
    gateway.launch()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .context("run cp")?;
    anyhow::ensure!(status.success(), "cp -a {} {}", from.display(), to.display());
    Ok(())
}

/// Removes what is in a folder, and leaves the folder and others in it that are mounts.
fn clear(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() {
            clear(&path)?;
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(fault) if fault.kind() == io::ErrorKind::ResourceBusy => {}
            removed => removed.with_context(|| format!("remove {}", path.display()))?,
        }
    }
    Ok(())
}
