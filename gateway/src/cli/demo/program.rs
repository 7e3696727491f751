//! Programs that the demo starts: other lives of this very executable. None outlives the demo.

use crate::config::Environment;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How `culvert` is started again: the executable and the environment it gets.
///
/// Whatever configures a gateway of the user's is taken out of the environment: it would configure all three of ours.
pub(super) struct Launcher {
    executable: PathBuf,
    environment: Vec<(String, String)>,
}

impl Launcher {
    /// For the running executable.
    pub(super) fn new(environment: &Environment) -> anyhow::Result<Launcher> {
        Ok(Launcher {
            executable: std::env::current_exe().context("find the running executable")?,
            environment: environment
                .without_overrides()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// Starts `culvert <arguments>` in `directory`; what it says goes to the ends of `<stem>.out` and `<stem>.log`
    /// there. Must be called on the main thread: the kernel ends the program together with the thread that made it.
    ///
    /// It is in a process group of its own: Ctrl-C on the terminal is for the demo alone.
    pub(super) fn start(
        &self,
        directory: &Path,
        stem: &str,
        arguments: &[String],
    ) -> anyhow::Result<Program> {
        let [out, log] = ["out", "log"].map(|ending| directory.join(format!("{stem}.{ending}")));
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("open {}", path.display()))
        };
        let child = Command::new(&self.executable)
            .args(["--parent", &std::process::id().to_string()])
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(open(&out)?)
            .stderr(open(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.executable.display()))?;
        Ok(Program { child, out, log })
    }
}

/// A running program. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

/// What a failure shows of a log.
const TAIL_LINES: usize = 12;

impl Program {
    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("look after a program")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.context("a process has an id")?;
        kill_process(id, signal).with_context(|| format!("send a signal to process {}", self.child.id()))
    }

    /// What it printed on standard output.
    pub(super) fn answer(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.out).with_context(|| format!("read {}", self.out.display()))
    }

    /// # Errors
    /// Always: `what` has gone wrong, and the last it said.
    pub(super) fn fail<T>(&self, what: &str) -> anyhow::Result<T> {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        bail!(
            "{what}\n\nThe last it said ({}):\n{}",
            self.log.display(),
            tail.join("\n")
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGKILL. One that has ended is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
