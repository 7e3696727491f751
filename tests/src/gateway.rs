//! One running `culvert`, as a user runs it: a configuration file, connector files, a process.

use crate::process::Process;
use crate::{Network, Scratch, ports};
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A gateway process with its directory. Dropping it kills it.
///
/// ```text
/// culvert.toml        as given; relative paths in it start here
/// connectors/*.json   as given
/// culvert.log         standard error of all lives, one JSON object a line
/// ```
///
/// The lab gives the telemetry address and the log format through the environment (`CULVERT_TELEMETRY__LISTEN`,
/// `CULVERT_TELEMETRY__LOG_FORMAT`), which wins over the file.
pub struct Gateway {
    name: String,
    process: Mutex<Option<Process>>,
    telemetry: SocketAddr,
    environment: Vec<(String, String)>,
    within: Vec<String>,
    program: Option<PathBuf>,
    network: Option<Network>,
    scratch: Scratch,
}

/// How long a start may take until `/readyz` says yes.
const START: Duration = Duration::from_secs(30);

/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(30);

/// How long a request to the telemetry port may take.
const REQUEST: Duration = Duration::from_secs(5);

impl Gateway {
    /// Writes the files, starts the program and waits until it is ready.
    ///
    /// `connectors` are (file name without `.json`, text).
    ///
    /// # Errors
    /// When the program is not built, ends, or is not ready in time; its log's tail is part of the error.
    pub fn start(name: &str, config: &str, connectors: &[(&str, &str)]) -> anyhow::Result<Gateway> {
        let gateway = Gateway::prepare(name, config, connectors)?;
        gateway.restart()?;
        Ok(gateway)
    }

    /// Writes the files and starts nothing: for tests of what happens before or without a ready gateway.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn prepare(name: &str, config: &str, connectors: &[(&str, &str)]) -> anyhow::Result<Gateway> {
        let scratch = Scratch::new(name)?;
        scratch.write("culvert.toml", config)?;
        fs::create_dir_all(scratch.path().join("connectors"))?;
        for (connector, text) in connectors {
            scratch.write(&format!("connectors/{connector}.json"), text)?;
        }
        Ok(Gateway {
            name: name.to_owned(),
            process: Mutex::new(None),
            telemetry: (Ipv4Addr::LOCALHOST, ports::free_tcp()).into(),
            environment: Vec::new(),
            within: Vec::new(),
            program: None,
            network: None,
            scratch,
        })
    }

    /// Another gateway with the same name, certificates and state, which may run beside this one, as the clone of a host
    /// does. This one must not run meanwhile.
    ///
    /// # Errors
    /// When the files cannot be copied.
    pub fn twin(&self) -> anyhow::Result<Gateway> {
        let scratch = Scratch::new(&self.name)?;
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.directory().join("."))
            .arg(scratch.path())
            .status()
            .context("run cp")?;
        anyhow::ensure!(copied.success(), "copy the directory of {}", self.name);
        let outward = self.network.as_ref().map(Network::outward);
        let listen = SocketAddr::from((outward.unwrap_or(Ipv4Addr::LOCALHOST), ports::free_udp()));
        let mut environment = self.environment.clone();
        environment.push(("CULVERT_TUNNEL__LISTEN".into(), listen.to_string()));
        Ok(Gateway {
            name: self.name.clone(),
            process: Mutex::new(None),
            telemetry: (self.telemetry.ip(), ports::free_tcp()).into(),
            environment,
            within: self.within.clone(),
            program: self.program.clone(),
            network: self.network.clone(),
            scratch,
        })
    }

    /// The name in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds to the environment of the process and of the command line, from the next start on.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Lets `wrapper`, a command line that ends in the program to run and becomes it, start the gateway, from the next start
    /// on. The command line's verbs are not wrapped.
    pub fn run_within(&mut self, wrapper: &[&str]) {
        self.within = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// Lets it run `program` in place of the one that is built, from the next start on. The command line's verbs keep that.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// Lets it run in this network, from the next start on. Its command line stays with the lab.
    pub fn set_network(&mut self, network: &Network) {
        self.telemetry.set_ip(network.address().into());
        self.network = Some(network.clone());
    }

    /// Starts it and does not wait; for a gateway that is expected not to become ready. Kills it first if it runs.
    ///
    /// # Errors
    /// When the program is not built or cannot be started.
    pub fn launch(&self) -> anyhow::Result<()> {
        self.launch_with(&[])
    }

    /// As [`Gateway::launch`], with more environment for this one life.
    ///
    /// # Errors
    /// As [`Gateway::launch`].
    pub fn launch_with(&self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        self.kill9()?;
        let program = self.program.clone().map_or_else(program, Ok)?;
        let mut command = match self.within.split_first() {
            None => Command::new(program),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
        };
        self.equip(&mut command);
        command.arg("run").envs(environment.iter().copied());
        if let Some(network) = &self.network {
            command = network.inside(&command);
        }
        let process = Process::spawn(&self.name, &command, &self.log_file())?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Starts it again on the same files and waits until it is ready. Kills it first if it runs.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn restart(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.with_process(|process| process.wait_ready(START, || self.is_ready()))
    }

    /// Kills it as the kernel would (SIGKILL).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.map_or(Ok(()), |process| process.kill9())
    }

    /// Asks it to end (SIGTERM), waits, and returns its exit code.
    ///
    /// # Errors
    /// When it does not run, does not end in time, or is ended by a signal.
    pub fn term(&self) -> anyhow::Result<i32> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        let process = process.with_context(|| format!("{} does not run", self.name))?;
        let status = process.term(STOP)?;
        status
            .code()
            .with_context(|| format!("{} ended with {status}", self.name))
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.with_process(Process::pause)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.with_process(Process::resume)
    }

    /// Lets it read its certificates again (SIGHUP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.with_process(|process| process.signal(Signal::HUP))
    }

    /// Whether it has ended by itself, in whatever way.
    pub fn has_ended(&self) -> bool {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_ref().is_some_and(|process| process.ended().is_some())
    }

    /// The exit code, when it has ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()?
            .ended()?
            .code()
    }

    /// Its process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Process::id)
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok()
    }

    /// The body of a page of the telemetry port, for example `/healthz`.
    ///
    /// # Errors
    /// When nothing answers or the status is not 2xx.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .build()
            .into();
        let url = format!("http://{}{path}", self.telemetry);
        let mut answer = agent
            .get(&url)
            .call()
            .with_context(|| format!("get {path} of {}", self.name))?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// The sum of all samples of a metric (all label values), as scraped now; 0 when it has none.
    ///
    /// # Errors
    /// As [`Gateway::get`].
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Ok(sum_samples(&self.get("/metrics")?, name))
    }

    /// Runs a verb of the command line with this gateway's configuration, for example `["status", "--output", "json"]`.
    ///
    /// # Errors
    /// When the program cannot be started. Its exit status is the caller's to judge.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command()?
            .args(arguments)
            .output()
            .with_context(|| format!("run culvert {arguments:?}"))
    }

    /// As [`Gateway::cli`] for a verb that must succeed; returns what it printed on standard output.
    ///
    /// # Errors
    /// When it fails; both outputs are part of the error.
    pub fn cli_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.cli(arguments)?;
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        if !output.status.success() {
            bail!("culvert {arguments:?}: {}\n{out}{err}", output.status);
        }
        Ok(out.into_owned())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Where health and metrics are served.
    pub fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }

    /// Everything it has logged in all its lives.
    ///
    /// # Errors
    /// When it has never been started.
    pub fn log(&self) -> anyhow::Result<String> {
        let bytes = fs::read(self.log_file()).with_context(|| format!("read the log of {}", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// WARN and ERROR ask a person to look, so a test that expects one lists it.
    ///
    /// # Panics
    /// When the log holds one that contains none of the `expected` texts.
    #[track_caller]
    pub fn assert_no_unlisted_alarms(&self, expected: &[&str]) {
        let log = self.log().unwrap_or_default();
        let unlisted = unlisted_alarms(&log, expected);
        assert!(
            unlisted.is_empty(),
            "{} logged:\n{}",
            self.name,
            unlisted.join("\n")
        );
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(program()?);
        self.equip(&mut command);
        Ok(command)
    }

    fn equip(&self, command: &mut Command) {
        command
            .arg("--config")
            .arg(self.scratch.path().join("culvert.toml"))
            .current_dir(self.scratch.path())
            .env("CULVERT_TELEMETRY__LISTEN", self.telemetry.to_string())
            .env("CULVERT_TELEMETRY__LOG_FORMAT", "json")
            .env_remove("RUST_LOG")
            // Of the tests, and no keys of a gateway.
            .env_remove("CULVERT_SUITE_SEED")
            .env_remove("CULVERT_SUITE_KILLS")
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("culvert.log")
    }

    fn with_process(&self, act: impl FnOnce(&Process) -> anyhow::Result<()>) -> anyhow::Result<()> {
        match &*self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(process) => act(process),
            None => bail!("{} does not run", self.name),
        }
    }
}

/// The `culvert` program: `CULVERT_BIN`, or the one built beside this test (`target/<profile>/culvert`).
///
/// # Errors
/// When it is not there; says how to build it.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(set) = std::env::var_os("CULVERT_BIN") {
        return Ok(set.into());
    }
    let test = std::env::current_exe().context("find the running test")?;
    // target/<profile>/deps/<test>, or target/<profile>/<program>.
    let built = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("culvert"))
        .find(|file| file.is_file());
    built.with_context(|| {
        format!(
            "no culvert beside {}\n\nrun `cargo build -p culvert`, or set CULVERT_BIN",
            test.display()
        )
    })
}

/// Adds up a metric in Prometheus' text format.
fn sum_samples(page: &str, name: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn unlisted_alarms<'a>(log: &'a str, expected: &[&str]) -> Vec<&'a str> {
    log.lines()
        .filter(|line| is_alarm(line) && !expected.iter().any(|listed| line.contains(listed)))
        .collect()
}

/// A JSON line by its level; any other line (a panic, a library that writes on its own) by the words.
fn is_alarm(line: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(event) => matches!(event["level"].as_str(), Some("WARN" | "ERROR")),
        Err(_) => [" WARN ", " ERROR ", "panicked at"]
            .iter()
            .any(|word| line.contains(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_are_added_up() {
        let page = "# HELP culvert_records_total records\n\
                    culvert_records_total{route=\"a b\"} 3\n\
                    culvert_records_total{route=\"c\"} 4.5\n\
                    culvert_records_total_bytes 100\n";
        assert_eq!(sum_samples(page, "culvert_records_total"), 7.5);
        assert_eq!(sum_samples(page, "culvert_absent"), 0.0);
    }

    #[test]
    fn unlisted_alarms_are_found_in_both_formats() {
        let log = "{\"level\":\"INFO\",\"message\":\"a WARN in words\"}\n\
                   {\"level\":\"WARN\",\"message\":\"link down\"}\n\
                   {\"level\":\"ERROR\",\"message\":\"halted\"}\n\
                   thread 'main' panicked at src/main.rs:1\n";
        assert_eq!(unlisted_alarms(log, &["link down"]).len(), 2);
        assert_eq!(
            unlisted_alarms(log, &["link down", "halted", "panicked"]).len(),
            0
        );
    }
}
