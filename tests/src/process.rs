//! Programs that the lab starts, and that never outlive it.
//!
//! A test ends in three ways, and a server must end with each: dropped or panicked ([`Process`] kills what it
//! started), or killed itself (the kernel kills the child: `PR_SET_PDEATHSIG`, set through `setpriv` of util-linux,
//! which then *becomes* the program, so that the process id is the program's own). The kernel counts the death of the
//! parent's *thread*, and tests run on threads that end early; so every child is born of one thread that stays.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

/// One running program. Its output goes to a file; dropping it kills it.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and error go to the end of the file `log`.
    ///
    /// # Errors
    /// When the program or the log cannot be opened.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> anyhow::Result<Process> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open log {}", log.display()))?;
        let mut tied = tied_to_this_process(command);
        tied.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = born_of_the_nursery(tied).with_context(|| format!("start {name}"))?;
        let pid = Pid::from_child(&child);
        Ok(Process {
            name: name.to_owned(),
            child: Mutex::new(child),
            pid,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.lock().try_wait().ok().flatten()
    }

    /// Sends `signal`; nothing happens when it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.lock();
        // An unreaped child keeps its id, so the signal cannot hit a stranger.
        if child.try_wait()?.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("signal {}", self.name))?;
        }
        Ok(())
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.lock().wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it still runs after `deadline`; its log's tail is part of the error.
    pub fn term(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let what = format!("{} to end after SIGTERM", self.name);
        crate::wait_for(deadline, &what, || self.ended()).with_context(|| self.tail())
    }

    /// Freezes it (SIGSTOP): its sockets stay open and silent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on (SIGCONT).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until `ready`; gives up early when the program ends.
    ///
    /// # Errors
    /// When it ended or is not ready by `deadline`; its log's tail is part of the error.
    pub fn wait_ready(&self, deadline: Duration, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let what = format!("{} to be ready", self.name);
        let outcome = crate::wait_for(deadline, &what, || match self.ended() {
            Some(status) => Some(Err(status)),
            None => ready().then_some(Ok(())),
        });
        match outcome.with_context(|| self.tail())? {
            Ok(()) => Ok(()),
            Err(status) => bail!(
                "{} ended before it was ready ({status})\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// The last lines of its log, under a line that names the file.
    pub fn tail(&self) -> String {
        format!(
            "last lines of {}:\n{}",
            self.log.display(),
            tail(&self.log, TAIL_BYTES_MAX)
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// What a failure shows of a log: a screen or two.
const TAIL_BYTES_MAX: u64 = 6_000;

fn tail(log: &Path, bytes_max: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(fault) => format!("(no log: {fault})"),
    }
}

/// The same command, with the kernel told to kill it when this process dies, and out of the reach of a terminal's Ctrl-C,
/// which is this process's to answer.
///
/// Hosts without `setpriv` get the command as it is: there only a killed test process leaves its servers behind.
fn tied_to_this_process(command: &Command) -> Command {
    match find_program("setpriv") {
        Some(_) => {
            let mut tied = under("setpriv", &["--pdeathsig", "KILL", "--"], command);
            tied.process_group(0);
            tied
        }
        None => under("env", &["--"], command),
    }
}

/// The same command, run by `program`, which takes it after its own `arguments` and then becomes it.
pub(crate) fn under(program: &str, arguments: &[&str], command: &Command) -> Command {
    // By its path: the command may be one that is to find nothing (`PATH` empty).
    let program = find_program(program).unwrap_or_else(|| program.into());
    let mut outer = Command::new(program);
    outer
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

/// The file that running `name` would run, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|folder| folder.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file()))
}

type Birth = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns on the one thread that lives as long as the process.
fn born_of_the_nursery(command: Command) -> std::io::Result<Child> {
    static NURSERY: OnceLock<Mutex<mpsc::Sender<Birth>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (births, wanted) = mpsc::channel::<Birth>();
        std::thread::spawn(move || {
            for (mut command, reply) in wanted {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(births)
    });
    let (reply, born) = mpsc::channel();
    nursery
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| std::io::Error::other("the thread that starts programs has ended"))?;
    born.recv()
        .map_err(|_| std::io::Error::other("the thread that starts programs has ended"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scratch, wait_until};

    const SOON: Duration = Duration::from_secs(10);

    fn sleeper(scratch: &Scratch) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::spawn("sleeper", &command, &scratch.path().join("log")).unwrap()
    }

    fn runs(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_panic_kills_exactly_what_the_test_started() {
        let scratch = Scratch::new("panic").unwrap();
        let bystander = sleeper(&scratch);
        let (tell, told) = mpsc::channel();
        let log = scratch.path().join("log");
        let panicked = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            let doomed = Process::spawn("doomed", &command, &log).unwrap();
            tell.send(doomed.id()).unwrap();
            panic!("planted");
        });
        assert!(panicked.join().is_err());
        let doomed = told.recv().unwrap();
        assert!(!runs(doomed), "the panicked test's program is gone");
        assert!(bystander.ended().is_none(), "the other one is not");
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let scratch = Scratch::new("thread").unwrap();
        let child = std::thread::scope(|scope| scope.spawn(|| sleeper(&scratch)).join().unwrap());
        // The kernel would have killed it by now if it were tied to that thread.
        child.pause().unwrap();
        child.resume().unwrap();
        assert!(child.ended().is_none());
    }

    #[test]
    fn a_killed_parent_takes_its_child_along() {
        if find_program("setpriv").is_none() {
            return crate::host::not_run(
                "a_killed_parent_takes_its_child_along",
                "setpriv is not installed",
            );
        }
        let scratch = Scratch::new("parent").unwrap();
        let mut command = tied_to_this_process(&{
            let mut inner = Command::new("sh");
            // The shell plays the test process: it starts a tied child, says its id, and waits.
            inner.args(["-c", "setpriv --pdeathsig KILL -- sleep 600 & echo $!; wait"]);
            inner
        });
        command.stdout(File::create(scratch.path().join("pid")).unwrap());
        let mut parent = born_of_the_nursery(command).unwrap();
        let child: u32 = crate::wait_for(SOON, "child's id", || {
            fs::read_to_string(scratch.path().join("pid"))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .unwrap();
        // Tied only once setpriv has become the program.
        wait_until(SOON, "setpriv to become sleep", || {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
        });
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait_until(SOON, "child to be killed with its parent", || !runs(child));
    }

    #[test]
    fn a_program_that_ends_early_says_why() {
        let scratch = Scratch::new("early").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 3"]);
        let process = Process::spawn("early", &command, &scratch.path().join("log")).unwrap();
        let fault = process.wait_ready(SOON, || false).unwrap_err().to_string();
        assert!(
            fault.contains("the reason") && fault.contains("exit status: 3"),
            "{fault}"
        );
    }
}
