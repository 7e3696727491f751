//! Looking at a store in a process of its own, because damage can make sled panic, loop or abort.

use super::error::Error;
use super::sled;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A store is read at some hundred MB/s; a child that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(600);

/// What the child says is shown to people up to here.
const SAID_BYTES_MAX: u64 = 4096;

/// Runs `<program> outbox verify <path> --parent <this process>` and waits for its verdict. It ends with this process: the
/// store is locked as long as it reads, and who is started next must not find it so.
///
/// # Errors
/// [`Error::Unverified`] when it finds damage, dies or does not come to an end; [`Error::Io`] when it cannot be run.
pub(super) fn verify_in_child(program: &Path, path: &Path) -> Result<(), Error> {
    let doing = || format!("run {} to verify outbox {}", program.display(), path.display());
    let mut child = Command::new(program)
        .args([OsStr::new("outbox"), OsStr::new("verify"), path.as_os_str()])
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(doing()))?;
    let said = child
        .stderr
        .take()
        .map(|stderr| std::thread::spawn(move || listen(stderr)));
    let ended = wait(&mut child).map_err(Error::io(doing()))?;
    let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
    let what = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("{status}: {}", said.trim()),
        None => format!("no verdict within {} s", DEADLINE.as_secs()),
    };
    Err(Error::Unverified {
        path: path.to_path_buf(),
        what,
    })
}

fn listen(mut stderr: impl std::io::Read) -> String {
    let mut said = Vec::new();
    let _ = stderr.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut said);
    // The child must not stand still because nobody listens.
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&said).into_owned()
}

/// `None` when it had to be ended.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What the hidden verb `culvert outbox verify <path>` does: opens the sled store in that directory and reads every
/// entry. `arguments` begin behind the verb. The caller prints the error and exits with a code that is not zero.
///
/// # Errors
/// What is wrong with the store, or with the arguments.
pub fn verify_main(arguments: &[OsString]) -> Result<(), String> {
    let [path] = arguments else {
        return Err("outbox verify takes one directory".into());
    };
    sled::walk(Path::new(path))
}
