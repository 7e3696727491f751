//! Disks of gateways' own: small ones, which can be full, and ones that can lose their power.

use crate::site::Site;
use anyhow::{Context, bail};
use culvert_tests::lossy_disk::Survivors;
use culvert_tests::{LossyDisk, Scratch};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What gateways 1 and 2 keep on disks of their own.
pub enum Disks {
    /// Nothing.
    None,
    /// All their state, on disks that can be full.
    Small([Disk; 2]),
    /// Their outboxes, on disks that can lose their power.
    Lossy(Box<[Mutex<LossyDisk>; 2]>),
}

impl Disks {
    /// Small disks.
    ///
    /// # Errors
    /// When this host cannot: no root, or no loop devices.
    pub fn small(site: &Site) -> anyhow::Result<Disks> {
        let mount = |number| Disk::mount(&site.gateway(number).directory().join("state"));
        Ok(Disks::Small([mount(1)?, mount(2)?]))
    }

    /// Disks that can lose their power.
    ///
    /// # Errors
    /// When this host cannot: no root, or no FUSE.
    pub fn lossy(site: &Site) -> anyhow::Result<Disks> {
        let mount = |number| {
            let folder = site.gateway(number).directory().join("state/outbox");
            fs::create_dir_all(&folder)?;
            LossyDisk::mount_at(&folder).map(Mutex::new)
        };
        Ok(Disks::Lossy(Box::new([mount(1)?, mount(2)?])))
    }

    /// The small disk of a gateway.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn small_of(&self, number: usize) -> anyhow::Result<&Disk> {
        match self {
            Disks::Small(disks) => disks.get(number - 1),
            _ => None,
        }
        .context("this gateway has no small disk")
    }

    /// The disk of a gateway that can lose its power.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn lossy_of(&self, number: usize) -> anyhow::Result<&Mutex<LossyDisk>> {
        match self {
            Disks::Lossy(disks) => disks.get(number - 1),
            _ => None,
        }
        .context("this gateway has no disk that can lose its power")
    }
}

/// What a power cut leaves of what was not synced: by the seed nothing, all up to some act, or some of it.
///
/// # Errors
/// When the disk cannot be mounted again.
pub(crate) fn restore(disk: &Mutex<LossyDisk>, seed: u64) -> anyhow::Result<()> {
    let survivors = match seed % 3 {
        0 => Survivors::Synced,
        1 => Survivors::Prefix,
        _ => Survivors::Some,
    };
    let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    disk.restore(survivors, seed)
}

/// An ext4 file system in a file, mounted where a gateway keeps its state. It goes with the process that mounted it,
/// which has a mount namespace of its own, and the kernel frees its loop device then.
pub struct Disk {
    at: PathBuf,
    _scratch: Scratch,
}

/// Room for the backlog of a minute at 10,000 records a second, and for what an engine writes beside it.
const BYTES: u64 = 768 << 20;

/// What the ballast leaves: nothing. One byte is written until that fails.
const BALLAST: &str = "ballast";

impl Disk {
    /// Makes one and mounts it at `at`.
    ///
    /// # Errors
    /// When this host cannot: no root, or no loop devices.
    pub fn mount(at: &Path) -> anyhow::Result<Disk> {
        let scratch = Scratch::new("disk")?;
        let image = scratch.path().join("image");
        File::create(&image)?.set_len(BYTES)?;
        let image = image.display().to_string();
        run(
            "mkfs.ext4",
            &["-q", "-m", "0", "-E", "lazy_itable_init=0", &image],
        )?;
        fs::create_dir_all(at)?;
        run("mount", &["-o", "loop", &image, &at.display().to_string()])?;
        Ok(Disk {
            at: at.into(),
            _scratch: scratch,
        })
    }

    /// Takes all the room there is.
    ///
    /// # Errors
    /// When that fails for another reason than that there is no more.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.at.join(BALLAST))
            .context("open the ballast")?;
        let mut length = file.metadata()?.len();
        for step in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            while fallocate(&file, FallocateFlags::empty(), length, step).is_ok() {
                length += step;
            }
        }
        loop {
            match file.write(&[0; 512]) {
                Ok(_) => {}
                Err(fault) if fault.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(fault) => return Err(fault).context("fill the disk"),
            }
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When the ballast cannot be removed.
    pub fn free(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.at.join(BALLAST)) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault).context("remove the ballast"),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a gateway that still runs holds it a little longer.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
