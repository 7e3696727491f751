//! The programs of a toolchain: whether they are there, and running them where the author sees it.

use crate::cli::Terminal;
use anyhow::{Context, bail};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Something a toolchain needs and this host lacks.
#[derive(Debug)]
pub(super) struct Lack {
    /// A name for it, in a list.
    pub(super) what: String,
    /// A sentence or command that says how to get it.
    pub(super) install: &'static str,
}

impl Lack {
    pub(super) fn of(what: impl Into<String>, install: &'static str) -> Lack {
        Lack {
            what: what.into(),
            install,
        }
    }

    /// Of what is needed, whatever is not there: whether it is, its name, and how to get it.
    pub(super) fn of_all(needs: impl IntoIterator<Item = (bool, String, &'static str)>) -> Vec<Lack> {
        let lacking = needs.into_iter().filter(|(there, ..)| !there);
        lacking
            .map(|(_, what, install)| Lack::of(what, install))
            .collect()
    }
}

/// Programs, as they are run for one plugin.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    /// The plugin's folder: commands run in it, and name files from there.
    pub(super) folder: &'a Path,
    terminal: &'a Terminal,
}

impl<'a> Tools<'a> {
    pub(super) fn new(folder: &'a Path, terminal: &'a Terminal) -> Tools<'a> {
        Tools { folder, terminal }
    }

    /// Says something beside the answer.
    pub(super) fn note(&self, text: impl Display) {
        self.terminal.note(text);
    }

    /// What a program answers on standard output, if it is there and ends well. Nobody sees it run.
    pub(super) fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let output = self.command(program, arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// The first two numbers that a program answers when it is asked for its version.
    pub(super) fn version(&self, program: &str, arguments: &[&str]) -> Option<(u32, u32)> {
        first_version(&self.ask(program, arguments)?)
    }

    /// Shows a command and runs it.
    ///
    /// # Errors
    /// It cannot be started, or fails: then what it said is passed on.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        self.run_with(program, arguments, &[])
    }

    /// As [`Tools::run`], with variables.
    pub(super) fn run_with(
        &self,
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Output> {
        let set = variables.iter().map(|(name, value)| format!("{name}={value} "));
        let arguments_shown: Vec<String> = arguments.iter().map(|argument| shown(argument)).collect();
        self.terminal.note(format_args!(
            "$ {}{program} {}",
            set.collect::<String>(),
            arguments_shown.join(" ")
        ));
        let mut command = self.command(program, arguments);
        command.envs(variables.iter().copied());
        let output = command.output().with_context(|| format!("run {program}"))?;
        if !output.status.success() {
            for said in [&output.stdout, &output.stderr] {
                let said = String::from_utf8_lossy(said);
                if !said.trim().is_empty() {
                    self.terminal.note(said.trim_end());
                }
            }
            bail!("{program}: {}", output.status);
        }
        Ok(output)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        // A program of the plugin's own folder is looked for from there, whatever the system makes of it.
        let own = self.folder.join(program);
        let program = if program.contains('/') && own.exists() {
            std::path::absolute(&own).unwrap_or(own)
        } else {
            PathBuf::from(program)
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder)
            .stdin(std::process::Stdio::null());
        command
    }

    /// Makes `folder` inside the plugin's folder with the commands of `install`, unless it was made from the very
    /// same `lock` file before.
    pub(super) fn installed(
        &self,
        folder: &str,
        lock: &str,
        install: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (lock, note) = (
            self.folder.join(lock),
            self.folder.join(folder).join(".made-from"),
        );
        let wanted = std::fs::read(&lock).with_context(|| format!("read {}", lock.display()))?;
        if std::fs::read(&note).is_ok_and(|made| made == wanted) {
            return Ok(());
        }
        install()?;
        std::fs::write(&note, wanted).with_context(|| format!("write {}", note.display()))
    }

    /// The plugin's folder for what is made on the way, empty.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn scratch(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("build");
        renew(&folder)?;
        Ok(folder)
    }

    /// A file of the plugin's folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&self, file: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.folder.join(file);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    }
}

/// Makes a folder, and empties it if it is there.
///
/// # Errors
/// It cannot be made.
pub(super) fn renew(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
            return Err(fault).with_context(|| format!("remove {}", folder.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

/// An argument as a shell takes it.
fn shown(argument: &str) -> String {
    if argument.contains(char::is_whitespace) {
        format!("'{argument}'")
    } else {
        argument.to_owned()
    }
}

/// `1.26` of `go version go1.26.8 linux/amd64`.
fn first_version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[start..].split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    Some((
        major,
        numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Color, Format, Terminal};
    use crate::config::Environment;
    use std::cell::Cell;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("go version go1.26.8 linux/amd64", Some((1, 26))),
            ("Debian clang version 19.1.7 (3~deb12u1)", Some((19, 1))),
            ("v20.20.2", Some((20, 20))),
            ("Python 3.11.7", Some((3, 11))),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", Some((1, 95))),
            ("none", None),
        ] {
            assert_eq!(first_version(text), version, "{text}");
        }
    }

    #[test]
    fn packages_are_installed_again_when_their_list_has_changed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let terminal = Terminal::new(Format::Text, Color::Never, &Environment::of_process());
        let tools = Tools::new(folder.path(), &terminal);
        let count = Cell::new(0);
        let install = || {
            tools.installed("packages", "lock", || {
                count.set(count.get() + 1);
                renew(&folder.path().join("packages"))
            })
        };
        for (lock, installs) in [("a", 1), ("a", 1), ("b", 2)] {
            std::fs::write(folder.path().join("lock"), lock)?;
            install()?;
            assert_eq!(count.get(), installs);
        }
        Ok(())
    }
}
