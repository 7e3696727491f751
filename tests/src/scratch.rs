use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory of one test: removed when dropped, kept (and named on stderr) when the test panicked.
///
/// ```text
/// $TMPDIR/culvert-lab/
///   <random>/        one for each test process
///     lock           held (flock) as long as the process lives: also the lifeline of its containers
///     kept           there when a failed test left something to look at
///     <n>-<name>/    one Scratch
/// ```
///
/// What a process left behind is swept by the next one that starts; where a test failed, after a day.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty directory whose name ends in `name`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(name: &str) -> anyhow::Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = root()?.join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Scratch { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let file = self.path.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    #[allow(clippy::print_stderr, reason = "the test harness shows it beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
            let _ = root().map(|root| File::create(root.join(KEPT)));
        } else {
            // Best effort: what stays is swept by the next process.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The file that this process keeps locked for its whole life.
pub(crate) fn lifeline() -> anyhow::Result<PathBuf> {
    Ok(root()?.join("lock"))
}

/// Marks the directory of a process in which a test failed.
const KEPT: &str = "kept";

/// How long what a failed test kept is left for a person to look at.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory younger than this may belong to a process that has not locked it yet.
const BEING_BORN: Duration = Duration::from_secs(60);

fn root() -> anyhow::Result<&'static Path> {
    static ROOT: OnceLock<Result<(PathBuf, File), String>> = OnceLock::new();
    match ROOT.get_or_init(|| claim_root().map_err(|fault| format!("{fault:#}"))) {
        Ok((path, _locked)) => Ok(path),
        Err(fault) => anyhow::bail!("{fault}"),
    }
}

fn claim_root() -> anyhow::Result<(PathBuf, File)> {
    let all = std::env::temp_dir().join("culvert-lab");
    fs::create_dir_all(&all).with_context(|| format!("create {}", all.display()))?;
    sweep(&all);
    let path = all.join(format!("{:016x}", crate::random_bits() as u64));
    fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
    let lock = File::create(path.join("lock")).context("create lock")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).context("lock the lab's directory")?;
    Ok((path, lock))
}

/// Removes what processes that are gone left behind.
fn sweep(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let age = fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        let grace = if path.join(KEPT).exists() {
            KEEP
        } else {
            BEING_BORN
        };
        if age.is_some_and(|age| age > grace) && owner_is_gone(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn owner_is_gone(root: &Path) -> bool {
    match File::open(root.join("lock")) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => root.is_dir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_directory_is_gone_and_a_panicked_one_is_kept() {
        let dropped = Scratch::new("dropped").unwrap();
        let path = dropped.path().to_owned();
        dropped.write("sub/file", "x").unwrap();
        drop(dropped);
        assert!(!path.exists());

        let (tell, told) = std::sync::mpsc::channel();
        let panicked = std::thread::spawn(move || {
            let kept = Scratch::new("kept").unwrap();
            tell.send(kept.path().to_owned()).unwrap();
            panic!("planted");
        });
        assert!(panicked.join().is_err());
        let kept = told.recv().unwrap();
        assert!(kept.exists());
        fs::remove_dir_all(kept).unwrap();
    }

    #[test]
    fn a_directory_in_use_is_not_swept() {
        let mine = root().unwrap();
        assert!(!owner_is_gone(mine), "this process holds the lock");
    }
}
