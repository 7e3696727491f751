//! What the container engine is asked: who runs and who stands where, and probes inside of containers' namespaces.
//!
//! The engine's HTTP interface (Docker Engine API, 1.40 or later; also Podman's) over its Unix socket, without a version in
//! the path, so that the engine takes its own. As HTTP/1.0: one request a connection, an answer ends with it.

use super::paths::{Attempt, Member, Network};
use super::probe::{Outcome, Seen, Try};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Far above the list of all containers of a demo.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long the engine may be silent: attempts take seconds, and a container starts in less than one.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long a probe may take to say what it sees, on a busy host.
const PROBE_TIME: Duration = Duration::from_secs(30);

/// Marks a probe, with the demo it belongs to.
const PROBE: &str = "io.culvert.demo.probe";

/// The engine's socket.
pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(super) fn new(socket: &Path) -> Engine {
        Engine {
            socket: socket.to_owned(),
        }
    }

    /// The running containers and the networks of a demo.
    ///
    /// # Errors
    /// The engine does not answer, or no such demo runs.
    pub(super) fn demo(&self, project: &str) -> anyhow::Result<(Vec<Member>, Vec<Network>)> {
        let ours = labelled(&format!("com.docker.compose.project={project}"));
        let containers = self.get(&format!("/containers/json?filters={ours}"))?;
        let members = members(&containers, project)?;
        let mut networks = Vec::new();
        for network in list(&self.get(&format!("/networks?filters={ours}"))?) {
            networks.push(self.network(&text(network, "Id"), project)?);
        }
        Ok((members, networks))
    }

    fn network(&self, id: &str, project: &str) -> anyhow::Result<Network> {
        let found = self.get(&format!("/networks/{id}"))?;
        let standing = found["Containers"].as_object().into_iter().flatten();
        Ok(Network {
            name: short(&text(&found, "Name"), project),
            internal: found["Internal"].as_bool().unwrap_or(false),
            standing: standing.map(|(id, it)| (id.clone(), text(it, "Name"))).collect(),
        })
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask("GET", path, None)?)?)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Vec<u8>> {
        let socket = self.socket.display();
        let mut stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "[CULVERT-D001] the container engine does not answer at {socket}\n\nhint: it may not run, or you may not \
                 open its socket; --engine names another one"
            )
        })?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = Vec::new();
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer))
            .with_context(|| format!("ask the container engine at {socket}: {method} {path}"))?;
        body_of(&answer).with_context(|| format!("ask the container engine: {method} {path}"))
    }
}

/// What stands behind the head of an answer that says that all went well.
fn body_of(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END);
    let (head, body) = answer.split_at(end.context("the answer has no end of its head")? + END.len());
    let head = String::from_utf8_lossy(head);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        bail!("{status} {}", said["message"].as_str().unwrap_or_default());
    }
    Ok(body.to_vec())
}

/// Those that belong to the demo, of which one at least is a gateway: else it does not run.
fn members(containers: &Value, project: &str) -> anyhow::Result<Vec<Member>> {
    let members: Vec<Member> = list(containers)
        .iter()
        .filter_map(|container| member(container, project))
        .collect();
    ensure!(
        members.iter().any(|member| member.tunnel.is_some()),
        "[CULVERT-D002] no gateway of a demo named {project} runs\n\nhint: start it with docker compose up, or name it \
         with --project."
    );
    Ok(members)
}

/// A container that says where it belongs; one that does not is a stranger to its networks.
fn member(container: &Value, project: &str) -> Option<Member> {
    let label = |name: &str| container["Labels"][name].as_str().map(str::to_owned);
    let stands = container["NetworkSettings"]["Networks"].as_object()?.iter();
    let addresses = stands
        .filter_map(|(network, it)| {
            let address: IpAddr = it["IPAddress"].as_str()?.parse().ok()?;
            Some((short(network, project), address))
        })
        .collect();
    let declared = label("io.culvert.demo.networks")?;
    Some(Member {
        id: text(container, "Id"),
        image: text(container, "ImageID"),
        service: label("com.docker.compose.service")?,
        container: container["Names"][0].as_str()?.trim_start_matches('/').to_owned(),
        home: label("io.culvert.demo.home")?,
        declared: declared.split_whitespace().map(str::to_owned).collect(),
        tunnel: label("io.culvert.demo.tunnel").and_then(|port| port.parse().ok()),
        opens: label("io.culvert.demo.opens"),
        addresses,
    })
}

/// Compose puts the project's name before that of a network.
fn short(network: &str, project: &str) -> String {
    network
        .strip_prefix(&format!("{project}_"))
        .unwrap_or(network)
        .to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// A filter by label, as a part of a path: a JSON object, its special characters escaped.
fn labelled(label: &str) -> String {
    let filter = json!({ "label": [label] }).to_string();
    filter
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A probe in the namespace of each member. Gone when this is.
pub(super) struct Probes<'a> {
    engine: &'a Engine,
    project: &'a str,
    members: &'a [Member],
    answering: Vec<Probe<'a>>,
}

impl<'a> Probes<'a> {
    /// Starts one that answers in each namespace, for `live`.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn join(
        engine: &'a Engine,
        project: &'a str,
        members: &'a [Member],
        live: Duration,
    ) -> anyhow::Result<Probes<'a>> {
        sweep(engine, project)?;
        let mut probes = Probes {
            engine,
            project,
            members,
            answering: Vec::new(),
        };
        let seconds = live.as_secs().to_string();
        let answer = |member: &Member| probes.start(member, &["answer", &seconds]);
        let started: anyhow::Result<Vec<_>> = at_once(members.iter(), answer).into_iter().collect();
        probes.answering = started?;
        Ok(probes)
    }

    /// What each sees in its namespace.
    ///
    /// # Errors
    /// One does not say it in time.
    pub(super) fn seen(&self) -> anyhow::Result<Vec<Seen>> {
        let first_line = |probe: &Probe<'_>| {
            let deadline = Instant::now() + PROBE_TIME;
            loop {
                let said = probe.said()?;
                if let Some((line, _)) = said.split_once('\n') {
                    return line
                        .trim()
                        .parse()
                        .with_context(|| format!("the probe says: {line}"));
                }
                ensure!(Instant::now() < deadline, "the probe says nothing: {said}");
                thread::sleep(Duration::from_millis(100));
            }
        };
        at_once(self.answering.iter(), first_line).into_iter().collect()
    }

    /// Makes the attempts of each member from its namespace; answers what came of each.
    ///
    /// # Errors
    /// A probe does not start, or does not say how it went.
    pub(super) fn attempt(&self, plans: &[Vec<Attempt>]) -> anyhow::Result<Vec<Vec<Outcome>>> {
        let attempt = |(member, plan): (&Member, &Vec<Attempt>)| {
            let tries: Vec<&Try> = plan.iter().map(|attempt| &attempt.what).collect();
            let probe = self.start(member, &["try", &serde_json::to_string(&tries)?])?;
            probe.wait()?;
            let said = probe.said()?;
            let outcomes: Vec<Outcome> = serde_json::from_str(said.trim())
                .with_context(|| format!("the probe at {} says: {said}", member.service))?;
            ensure!(
                outcomes.len() == plan.len(),
                "the probe at {} left some out",
                member.service
            );
            Ok(outcomes)
        };
        at_once(self.members.iter().zip(plans), attempt)
            .into_iter()
            .collect()
    }

    fn start(&self, member: &Member, arguments: &[&str]) -> anyhow::Result<Probe<'a>> {
        // Not every container has our program: all probes are of a gateway's image.
        let gateway = self.members.iter().find(|member| member.tunnel.is_some());
        let image = gateway.map_or(&member.image, |gateway| &gateway.image);
        let command: Vec<&str> = ["demo", "probe"].iter().chain(arguments).copied().collect();
        let container = json!({
            "Image": image,
            "Cmd": command,
            // Its output comes as it is, without frames around it.
            "Tty": true,
            "Labels": { PROBE: self.project },
            "HostConfig": {
                "NetworkMode": format!("container:{}", member.id),
                "CapDrop": ["ALL"],
                "ReadonlyRootfs": true,
                "Memory": 64 * 1024 * 1024,
            },
        });
        let made = self.engine.ask("POST", "/containers/create", Some(&container));
        let made: Value =
            serde_json::from_slice(&made.with_context(|| format!("probe {}", member.service))?)?;
        let probe = Probe {
            engine: self.engine,
            id: text(&made, "Id"),
        };
        self.engine
            .ask("POST", &format!("/containers/{}/start", probe.id), None)
            .with_context(|| format!("probe {}", member.service))?;
        Ok(probe)
    }
}

/// Removes what a run that was killed left behind.
fn sweep(engine: &Engine, project: &str) -> anyhow::Result<()> {
    let ours = labelled(&format!("{PROBE}={project}"));
    for left in list(&engine.get(&format!("/containers/json?all=true&filters={ours}"))?) {
        drop(Probe {
            engine,
            id: text(left, "Id"),
        });
    }
    Ok(())
}

/// A container of ours. Gone when this is.
struct Probe<'a> {
    engine: &'a Engine,
    id: String,
}

impl Probe<'_> {
    fn said(&self) -> anyhow::Result<String> {
        let logs = self.engine.ask(
            "GET",
            &format!("/containers/{}/logs?stdout=1&stderr=1", self.id),
            None,
        )?;
        Ok(String::from_utf8_lossy(&logs).into_owned())
    }

    fn wait(&self) -> anyhow::Result<()> {
        self.engine
            .ask("POST", &format!("/containers/{}/wait", self.id), None)
            .map(|_| ())
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // What stays is swept away the next time.
        let _ = self.engine.ask(
            "DELETE",
            &format!("/containers/{}?force=true&v=true", self.id),
            None,
        );
    }
}

/// Does it for all, each on a thread of its own: there are about ten.
fn at_once<T: Send, R: Send>(all: impl Iterator<Item = T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let each = &each;
    thread::scope(|scope| {
        let threads: Vec<_> = all.map(|one| scope.spawn(move || each(one))).collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end_and_a_refusal_is_told() {
        assert_eq!(body_of(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").unwrap(), b"{}");
        assert_eq!(body_of(b"HTTP/1.0 204 No Content\r\n\r\n").unwrap(), b"");
        let refused = body_of(b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"no such container\"}");
        assert_eq!(refused.unwrap_err().to_string(), "404 no such container");
        assert!(body_of(b"HTTP/1.0 200 OK\r\n").is_err());
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        let error = Engine::new(Path::new("/nowhere/engine.sock"))
            .demo("culvert")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("[CULVERT-D001] the container engine does not answer at /nowhere")
        );
    }

    #[test]
    fn a_demo_that_does_not_run_is_named() {
        let error = members(&json!([{ "Labels": {} }]), "nobody")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("[CULVERT-D002] no gateway of a demo named nobody runs"),
            "{error}"
        );
    }

    #[test]
    fn a_container_is_known_by_its_labels() {
        let container = json!({
            "Id": "abc", "ImageID": "sha256:1", "Names": ["/culvert-gw1-1"],
            "Labels": {
                "com.docker.compose.service": "gw1",
                "io.culvert.demo.home": "network1",
                "io.culvert.demo.networks": "network1 link12",
                "io.culvert.demo.tunnel": "7443",
            },
            "NetworkSettings": { "Networks": {
                "culvert_network1": { "IPAddress": "10.77.1.101" },
                "culvert_link12": { "IPAddress": "" },
            }},
        });
        let member = member(&container, "culvert").unwrap();
        assert_eq!(
            (member.service.as_str(), member.container.as_str()),
            ("gw1", "culvert-gw1-1")
        );
        assert_eq!(
            (member.home.as_str(), member.tunnel, member.declared.len()),
            ("network1", Some(7443), 2)
        );
        assert_eq!(
            member.addresses.keys().collect::<Vec<_>>(),
            ["network1"],
            "cut off from the other"
        );
        assert!(super::member(&json!({ "Labels": {} }), "culvert").is_none());
        assert_eq!(members(&json!([container]), "culvert").unwrap().len(), 1);
        assert_eq!(labelled("a=b"), "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    }
}
