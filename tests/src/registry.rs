//! One schema registry: Apicurio, which speaks Confluent's interface, as a plain process with a store of its own.

use crate::process::{Process, find_program};
use crate::{Scratch, ports, prepared, wait_for};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// How long a registry may take to be there on a busy host.
const READY: Duration = Duration::from_secs(120);

const REQUEST: Duration = Duration::from_secs(20);

/// What `cargo xtask prepare` unpacks.
pub const VERSION: &str = "3.0.9";

/// Where it does.
pub fn home() -> PathBuf {
    prepared().join("registry")
}

/// A registry that can be stopped and started again with what it holds.
pub struct Registry {
    scratch: Scratch,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl Registry {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    /// When it is not prepared, or does not start.
    pub fn start() -> anyhow::Result<Registry> {
        let registry = Registry {
            scratch: Scratch::new("registry")?,
            port: ports::free_tcp(),
            process: Mutex::new(None),
        };
        registry.launch()?;
        Ok(registry)
    }

    /// What a connector names as `schema.registry.url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn launch(&self) -> anyhow::Result<()> {
        let jar = home().join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
        if !jar.exists() {
            bail!("{} is not there\n\nrun `cargo xtask prepare`", jar.display());
        }
        if find_program("java").is_none() {
            bail!("java is not installed\n\nrun `cargo xtask prepare`: it names the package");
        }
        let store = self.scratch.path().join("store");
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={}", self.port))
            .arg(format!(
                "-Dapicurio.datasource.url=jdbc:h2:file:{}",
                store.display()
            ))
            .arg("-jar")
            .arg(jar)
            .current_dir(home());
        let process = Process::spawn("registry", &java, &self.scratch.path().join("registry.log"))?;
        process.wait_ready(READY, || self.ask("GET", "/subjects", None).is_ok())?;
        *self.lock() = Some(process);
        Ok(())
    }

    /// Stops it; its address refuses connections from then on.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> anyhow::Result<()> {
        if let Some(process) = self.lock().take() {
            process.term(READY)?;
        }
        Ok(())
    }

    /// Registers a schema of Avro and answers its number.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn register(&self, subject: &str, schema: &str) -> anyhow::Result<u32> {
        self.register_as(subject, &json!({ "schema": schema }))
    }

    /// Registers a schema as a request has it: its text, its language, what it refers to. Answers its number.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn register_as(&self, subject: &str, request: &Value) -> anyhow::Result<u32> {
        let made = self.ask("POST", &format!("/subjects/{subject}/versions"), Some(request))?;
        let id = made["id"].as_u64().context("no number")?;
        Ok(id.try_into()?)
    }

    /// Sets the rule by which new versions of a subject are judged.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn set_compatibility(&self, subject: &str, rule: &str) -> anyhow::Result<()> {
        let request = json!({ "compatibility": rule });
        self.ask("PUT", &format!("/config/{subject}"), Some(&request))
            .map(drop)
    }

    /// The text of a schema.
    ///
    /// # Errors
    /// When it is not there.
    pub fn schema(&self, id: u32) -> anyhow::Result<String> {
        let found = self.ask("GET", &format!("/schemas/ids/{id}"), None)?;
        Ok(found["schema"].as_str().context("no text")?.to_owned())
    }

    /// All subjects.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn subjects(&self) -> anyhow::Result<Vec<String>> {
        Ok(serde_json::from_value(self.ask("GET", "/subjects", None)?)?)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .build()
            .into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url()))
            .header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let mut answer = match body {
            Some(body) => agent.run(request.body(body.to_string())?)?,
            None => agent.run(request.body(())?)?,
        };
        Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Two of them, with other numbers: the second has schemas of its own.
///
/// # Errors
/// As [`Registry::start`].
pub fn pair() -> anyhow::Result<(Registry, Registry)> {
    let (origin, sink) = (Registry::start()?, Registry::start()?);
    for number in 0..5 {
        let schema = format!("{{\"type\":\"enum\",\"name\":\"Own{number}\",\"symbols\":[\"A\"]}}");
        wait_for(REQUEST, "a registry to take schemas", || {
            sink.register(&format!("own-{number}"), &schema).ok()
        })?;
    }
    Ok((origin, sink))
}
