//! A disk that can lose its power: a file system in memory (FUSE) that keeps apart what was synced and what was not.
//!
//! Constraints:
//! - Content and length of a file survive from its last fsync, names in a directory from the last fsync of the
//!   directory. Nothing else is promised, as in POSIX: a synced file whose name is not synced is lost. Real file
//!   systems keep more.
//! - The program `sync` and syncfs do nothing: the kernel does not pass them on, and there is no cache above the medium
//!   that they could write.
//! - A cut happens at one act (write, resize, create, rename, remove, fsync). From then on every call fails with EIO
//!   and nothing becomes durable, until [`LossyDisk::restore`].
//! - A name moves within its directory only; there are no links, no owners, no times.
//! - Needs `/dev/fuse` and root. A process that is killed leaves a dead mount behind, which the next one sweeps.

mod kernel;
mod medium;

pub use medium::Survivors;

use crate::dice::Dice;
use crate::{Scratch, wait_for};
use anyhow::{Context, ensure};
use fuser::{BackgroundSession, MountOption};
use kernel::Kernel;
use medium::Medium;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A process that was killed may take a moment to let go of its files.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(10);

/// The disk, mounted. Unmounted when dropped.
pub struct LossyDisk {
    mountpoint: PathBuf,
    _scratch: Option<Scratch>,
    power: Arc<Power>,
    session: Option<BackgroundSession>,
}

/// When the power goes. Acts are counted from the moment that this is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Behind so many acts.
    Acts(u64),
    /// So many acts behind the next rename to a name that begins with `to`.
    Rename {
        /// The begin of the new name, without its directory.
        to: &'static str,
        /// 0: right behind it.
        acts: u64,
    },
}

impl LossyDisk {
    /// A new, empty disk, somewhere.
    ///
    /// # Errors
    /// What this host lacks, when that is the reason; or why mounting failed.
    pub fn mount() -> anyhow::Result<LossyDisk> {
        let scratch = Scratch::new("lossy-disk")?;
        let mut disk = LossyDisk::mount_at(scratch.path())?;
        disk._scratch = Some(scratch);
        Ok(disk)
    }

    /// A new, empty disk on a directory that is there.
    ///
    /// # Errors
    /// As [`LossyDisk::mount`].
    pub fn mount_at(mountpoint: &Path) -> anyhow::Result<LossyDisk> {
        ensure!(crate::host::is_root(), "only root may mount a file system");
        ensure!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing; load the kernel's module fuse"
        );
        let mut disk = LossyDisk {
            mountpoint: mountpoint.to_owned(),
            _scratch: None,
            power: Arc::new(Power::new(Medium::new())),
            session: None,
        };
        disk.turn_on()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.mountpoint.clone()
    }

    /// Plans the power cut.
    pub fn cut_at(&self, moment: Moment) {
        let mut switch = self.power.switch();
        (switch.since, switch.moment) = (0, Some(moment));
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        !self.power.switch().on
    }

    /// How often something was renamed to `name`, whatever became of it.
    pub fn renames_to(&self, name: &str) -> u64 {
        let switch = self.power.switch();
        switch.renames.iter().filter(|to| *to == name).count() as u64
    }

    /// Cuts the power, if it is not gone yet, forgets what does not survive, and turns it on again. Nobody may have a
    /// file open.
    ///
    /// # Errors
    /// When the file system cannot be unmounted or mounted.
    pub fn restore(&mut self, survivors: Survivors, seed: u64) -> anyhow::Result<()> {
        self.power.switch().on = false;
        self.turn_off()?;
        let mut switch = self.power.switch();
        let medium = std::mem::replace(&mut switch.medium, Medium::new());
        switch.medium = medium.after_power_cut(survivors, &mut Dice(seed));
        (switch.moment, switch.on) = (None, true);
        drop(switch);
        self.turn_on()
    }

    fn turn_on(&mut self) -> anyhow::Result<()> {
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::FSName("lossy".into()), MountOption::NoAtime];
        let kernel = Kernel {
            power: self.power.clone(),
        };
        let session = fuser::spawn_mount(kernel, &self.mountpoint, &config).context("mount with FUSE")?;
        self.session = Some(session);
        Ok(())
    }

    fn turn_off(&mut self) -> anyhow::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        wait_for(UNMOUNT_WITHIN, "the disk to be let go", || {
            unmount(&self.mountpoint, &[]).ok()
        })?;
        session.join().context("end the file system")
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Lazily: what a failed test left running may still use it. Calls fail from now on.
            self.power.switch().on = false;
            let _ = unmount(&self.mountpoint, &["--lazy"]);
            drop(session);
        }
    }
}

fn unmount(mountpoint: &Path, how: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("umount")
        .args(how)
        .arg(mountpoint)
        .output()
        .context("run umount")?;
    ensure!(
        output.status.success(),
        "umount: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The medium and the switch that the kernel's questions go through.
struct Power(Mutex<Switch>);

struct Switch {
    on: bool,
    moment: Option<Moment>,
    /// Acts since the moment was planned.
    since: u64,
    renames: Vec<std::ffi::OsString>,
    medium: Medium,
}

impl Power {
    fn new(medium: Medium) -> Power {
        Power(Mutex::new(Switch {
            on: true,
            moment: None,
            since: 0,
            renames: Vec::new(),
            medium,
        }))
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switch {
    /// Counts an act. False when it does not happen for want of power.
    fn next_act(&mut self) -> bool {
        if let Some(Moment::Acts(end)) = self.moment {
            self.on &= self.since < end;
        }
        self.since += 1;
        self.on
    }

    /// Notes a rename that has happened.
    fn renamed(&mut self, name: &OsStr) {
        self.renames.push(name.to_owned());
        if let Some(Moment::Rename { to, acts }) = self.moment
            && name.as_encoded_bytes().starts_with(to.as_bytes())
        {
            (self.since, self.moment) = (0, Some(Moment::Acts(acts)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write as _;

    /// `None`, and a word about it, on hosts that cannot mount.
    fn mounted(test: &str) -> Option<LossyDisk> {
        match LossyDisk::mount() {
            Ok(disk) => Some(disk),
            Err(why) => {
                crate::host::not_run(test, &format!("{why:#}"));
                None
            }
        }
    }

    #[test]
    fn a_cut_takes_what_was_not_synced() {
        let Some(mut disk) = mounted("a_cut_takes_what_was_not_synced") else {
            return;
        };
        let path = disk.path();
        fs::create_dir(path.join("directory")).unwrap();
        let mut kept = File::create(path.join("directory/kept")).unwrap();
        kept.write_all(b"synced, ").unwrap();
        kept.sync_data().unwrap();
        for directory in ["directory", ""] {
            File::open(path.join(directory)).unwrap().sync_all().unwrap();
        }
        kept.write_all(b"not synced").unwrap();
        fs::write(path.join("directory/lost"), "never synced").unwrap();
        fs::rename(path.join("directory/kept"), path.join("directory/renamed")).unwrap();
        drop(kept);
        assert_eq!(disk.renames_to("renamed"), 1);

        disk.restore(Survivors::Synced, 0).unwrap();
        let names: Vec<_> = fs::read_dir(path.join("directory"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["kept"]);
        assert_eq!(fs::read(path.join("directory/kept")).unwrap(), b"synced, ");
        fs::remove_dir_all(path.join("directory")).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn the_program_sync_makes_nothing_durable() {
        let Some(mut disk) = mounted("the_program_sync_makes_nothing_durable") else {
            return;
        };
        let path = disk.path();
        fs::write(path.join("file"), "content").unwrap();
        let file = File::open(path.join("file")).unwrap();
        rustix::fs::syncfs(&file).unwrap();
        drop(file);
        disk.restore(Survivors::Synced, 0).unwrap();
        assert!(!path.join("file").exists());
    }

    #[test]
    fn without_power_nothing_is_answered() {
        let Some(mut disk) = mounted("without_power_nothing_is_answered") else {
            return;
        };
        let path = disk.path();
        disk.cut_at(Moment::Rename {
            to: "second",
            acts: 1,
        });
        let mut file = File::create(path.join("first")).unwrap();
        file.sync_all().unwrap();
        fs::rename(path.join("first"), path.join("second")).unwrap();
        file.write_all(b"the one act behind it").unwrap();
        assert!(!disk.is_cut());
        assert!(file.sync_all().is_err());
        assert!(disk.is_cut());
        assert!(file.write_all(b"more").is_err());
        drop(file);
        disk.restore(Survivors::Synced, 0).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::write(path.join("third"), "power again").unwrap();
    }
}
