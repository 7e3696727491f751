//! What the bundled plugins read and write, beside the reference implementations of their formats in Python.
//!
//! [`Python`] is an environment of its own below `.lab`, made once for each version of `python/requirements.txt`. That
//! takes a network; a host without one is told so, and its test does not run.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The file that `cargo xtask test` collects in what could not run.
const NOT_RUN: &str = "CULVERT_LAB_NOT_RUN";

/// Set to 1: what cannot run fails.
const ALL: &str = "CULVERT_ALL";

/// Says that `test` did not run on this host, and `why`.
///
/// # Panics
/// When everything is to run, or the note cannot be written.
#[allow(clippy::print_stderr, reason = "a test speaks to a person")]
pub fn not_run(test: &str, why: &str) {
    let line = format!("{test}: {}\n", why.replace('\n', " "));
    if let Some(file) = env::var_os(NOT_RUN) {
        File::options()
            .create(true)
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|fault| panic!("note in {}: {fault}", file.display()));
        return;
    }
    assert!(
        env::var_os(ALL).is_none_or(|all| all != "1"),
        "{test} cannot run on this host: {why}"
    );
    eprintln!("NOT RUN: {line}{ALL}=1 makes this a failure");
}

/// An interpreter with the packages of `python/requirements.txt`.
pub struct Python {
    program: PathBuf,
}

/// One environment is made at a time.
static MAKING: Mutex<()> = Mutex::new(());

impl Python {
    /// Makes the environment, unless it is there already.
    ///
    /// # Errors
    /// What is missing on this host.
    pub fn ready() -> Result<Python, String> {
        let _alone = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.lab/python");
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
        let wanted =
            fs::read(&requirements).map_err(|fault| format!("read {}: {fault}", requirements.display()))?;
        let python = Python {
            program: home.join("bin/python"),
        };
        let note = home.join("made-of.txt");
        if fs::read(&note).is_ok_and(|had| had == wanted) {
            return Ok(python);
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&home);
        run(make)?;
        let mut install = Command::new(&python.program);
        install
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(&requirements);
        run(install)?;
        fs::write(&note, wanted).map_err(|fault| format!("write {}: {fault}", note.display()))?;
        Ok(python)
    }

    /// Runs a script of `python/` with some arguments and input, and returns what it wrote.
    ///
    /// # Panics
    /// When it fails: what it said is shown.
    #[must_use]
    pub fn run(&self, script: &str, arguments: &[&str], input: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let mut child = Command::new(&self.program)
            .arg(&script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|fault| panic!("start {}: {fault}", self.program.display()));
        let mut stdin = child.stdin.take().expect("input is piped");
        // The script may write before it has read all: each has its thread.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A script that ended early says why itself.
                let _ = stdin.write_all(input.as_bytes());
            });
            child.wait_with_output()
        });
        let output = output.expect("its output is read");
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            script.display(),
            output.status
        );
        String::from_utf8(output.stdout).expect("a script writes UTF-8")
    }
}

/// # Errors
/// The command, and the end of what it said.
fn run(mut command: Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|fault| format!("{shown}: {fault}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.is_empty())
        .unwrap_or("it said nothing");
    Err(format!("{shown}: {}: {last}", output.status))
}
