use crate::process::{Process, find_program};
use crate::{Network, host, prepared, scratch};
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use testcontainers::core::{CmdWaitFor, ExecCommand, Mount};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, GenericImage, ImageExt};

/// The image that brokers run from where a container engine answers: name and tag.
pub const IMAGE: (&str, &str) = ("apache/kafka", "4.3.1");

/// On each of the lab's containers, so that `cargo xtask prepare` can remove those that a killed test left stopped.
pub const LABEL: (&str, &str) = ("io.culvert.lab", "broker");

/// What a broker runs from. The same properties, class and signals either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A process of this host's Java, with these jars.
    Jars(PathBuf),
    /// A container of [`IMAGE`] in the host's network.
    Container,
}

impl Runtime {
    /// `CULVERT_LAB_BROKERS` (`jars` or `container`) decides, then `KAFKA_HOME`, then what `cargo xtask prepare` found.
    ///
    /// # Errors
    /// When nothing is prepared; says what to run.
    pub fn choose() -> anyhow::Result<Runtime> {
        let wish = std::env::var("CULVERT_LAB_BROKERS").ok();
        let home = std::env::var_os("KAFKA_HOME").map(|home| PathBuf::from(home).join("libs"));
        let found = fs::read_to_string(Runtime::chosen_file()).unwrap_or_default();
        match (wish.as_deref(), home) {
            (Some("container"), _) => Ok(Runtime::Container),
            (None, None) if found.trim() == "container" => Ok(Runtime::Container),
            (None | Some("jars"), home) => Runtime::jars(home.unwrap_or_else(Runtime::prepared_jars)),
            (Some(other), _) => bail!("CULVERT_LAB_BROKERS={other}: must be `jars` or `container`"),
        }
    }

    /// Where `cargo xtask prepare` notes its choice.
    pub fn chosen_file() -> PathBuf {
        prepared().join("kafka/runtime")
    }

    /// Where `cargo xtask prepare` puts the jars.
    pub fn prepared_jars() -> PathBuf {
        prepared().join("kafka/libs")
    }

    fn jars(libs: PathBuf) -> anyhow::Result<Runtime> {
        let there = fs::read_dir(&libs).is_ok_and(|mut jars| jars.next().is_some());
        if !there {
            bail!(
                "no Kafka jars in {}\n\nrun `cargo xtask prepare`, or set KAFKA_HOME",
                libs.display()
            );
        }
        if find_program("java").is_none() {
            bail!("java is not installed\n\nrun `cargo xtask prepare`: it names the package");
        }
        Ok(Runtime::Jars(libs))
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Runtime::Jars(libs) => write!(f, "jars in {}", libs.display()),
            Runtime::Container => write!(f, "container image {}:{}", IMAGE.0, IMAGE.1),
        }
    }
}

fn chosen() -> anyhow::Result<&'static Runtime> {
    static CHOSEN: OnceLock<Result<Runtime, String>> = OnceLock::new();
    match CHOSEN.get_or_init(|| Runtime::choose().map_err(|fault| format!("{fault:#}"))) {
        Ok(runtime) => Ok(runtime),
        Err(fault) => bail!("{fault}"),
    }
}

/// One running JVM.
pub(super) enum Node {
    Process(Process),
    Contained(Box<Contained>),
}

impl Node {
    /// Starts `java` with `arguments`, in `network` where there is one; what it says is appended to `log`.
    pub(super) fn start(arguments: &[String], log: &Path, network: Option<&Network>) -> anyhow::Result<Node> {
        match (chosen()?, network) {
            (Runtime::Jars(libs), network) => {
                let mut java = java(libs, arguments);
                if let Some(network) = network {
                    java = network.inside(&java);
                }
                Ok(Node::Process(Process::spawn("kafka", &java, log)?))
            }
            (Runtime::Container, Some(_)) => bail!(
                "a container cannot run in the lab's own network\n\nset CULVERT_LAB_BROKERS=jars, with Java and `cargo xtask prepare`"
            ),
            (Runtime::Container, None) => Ok(Node::Contained(Box::new(Contained::start(arguments, log)?))),
        }
    }

    /// Runs `java` with `arguments` to its end and returns what it printed.
    pub(super) fn run(arguments: &[String], folder: &Path) -> anyhow::Result<String> {
        let log = folder.join("tool.log");
        fs::write(&log, "")?;
        let status = match chosen()? {
            Runtime::Jars(libs) => {
                let tool = Process::spawn("kafka tool", &java(libs, arguments), &log)?;
                crate::wait_for(TOOL, "Kafka's tool to end", || tool.ended())?.code()
            }
            Runtime::Container => Contained::start(arguments, &log)?.wait(TOOL)?,
        };
        let said = fs::read_to_string(&log)?;
        match status {
            Some(0) => Ok(said),
            status => bail!("ended with {status:?}:\n{said}"),
        }
    }

    pub(super) fn wait_ready(&self, deadline: Duration, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        match self {
            Node::Process(process) => process.wait_ready(deadline, ready),
            Node::Contained(contained) => contained.wait_ready(deadline, ready),
        }
    }

    pub(super) fn term(&self, deadline: Duration) -> anyhow::Result<()> {
        match self {
            Node::Process(process) => process.term(deadline).map(drop),
            Node::Contained(contained) => {
                contained.signal("TERM")?;
                contained.wait(deadline).map(drop)
            }
        }
    }

    pub(super) fn kill9(&self) -> anyhow::Result<()> {
        match self {
            Node::Process(process) => process.kill9(),
            Node::Contained(contained) => {
                contained.signal("KILL")?;
                contained.wait(TOOL).map(drop)
            }
        }
    }

    pub(super) fn pause(&self) -> anyhow::Result<()> {
        match self {
            Node::Process(process) => process.signal(Signal::STOP),
            Node::Contained(contained) => contained.signal("STOP"),
        }
    }

    pub(super) fn resume(&self) -> anyhow::Result<()> {
        match self {
            Node::Process(process) => process.signal(Signal::CONT),
            Node::Contained(contained) => contained.signal("CONT"),
        }
    }
}

/// How long one of Kafka's tools, or the end of a killed container, may take.
const TOOL: Duration = Duration::from_secs(120);

/// `java` with the jars in a fixed order, which a class-data archive insists on.
fn java(libs: &Path, arguments: &[String]) -> Command {
    let mut jars: Vec<PathBuf> = fs::read_dir(libs)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    jars.retain(|jar| jar.extension().is_some_and(|kind| kind == "jar"));
    jars.sort();
    let class_path: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
    let mut command = Command::new("java");
    let archive = super::class_archive::file(libs);
    // Not while it is being made: one JVM cannot both use and write one.
    if archive.exists() {
        command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
    }
    command.arg("-cp").arg(class_path.join(":")).args(arguments);
    command
}

/// A JVM in a container.
///
/// The container has the host's network and sees the lab's directory under the same path, so that one
/// `server.properties` serves both ways of running. Signals reach the JVM through a shell inside, and a second
/// process waits there for the lab's lifeline: when the test process dies without a word, its lock is free and the
/// JVM is killed.
pub(super) struct Contained {
    container: Option<Container<GenericImage>>,
    log: PathBuf,
}

const IN_CONTAINER: &str = r#"
log=$1 lifeline=$2; shift 2
java -cp '/opt/kafka/libs/*' "$@" >>"$log" 2>&1 &
jvm=$!
echo $jvm >/tmp/jvm
flock "$lifeline" kill -9 $jvm 2>/dev/null &
wait $jvm
"#;

impl Contained {
    fn start(arguments: &[String], log: &Path) -> anyhow::Result<Contained> {
        let lifeline = scratch::lifeline()?;
        let root = lifeline
            .parent()
            .context("the lifeline lies in the lab's directory")?
            .display()
            .to_string();
        let mut command = vec!["-c".to_owned(), IN_CONTAINER.to_owned(), "sh".into()];
        command.extend([log.display().to_string(), lifeline.display().to_string()]);
        command.extend_from_slice(arguments);
        let request = GenericImage::new(IMAGE.0, IMAGE.1)
            .with_entrypoint("sh")
            .with_cmd(command)
            .with_network("host")
            .with_label(LABEL.0, LABEL.1)
            .with_user(host::user())
            .with_startup_timeout(TOOL)
            .with_mount(Mount::bind_mount(root.clone(), root));
        let container =
            apart(|| request.start()).with_context(|| format!("start {}:{}", IMAGE.0, IMAGE.1))?;
        Ok(Contained {
            container: Some(container),
            log: log.to_owned(),
        })
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        if !self.runs() {
            return Ok(());
        }
        let kill = format!("kill -{signal} $(cat /tmp/jvm)");
        let kill = ExecCommand::new(["sh", "-c", &kill]).with_cmd_ready_condition(CmdWaitFor::exit());
        let sent = apart(|| self.container().exec(kill)?.exit_code())
            .with_context(|| format!("send {signal} into the container"))?;
        // Without a code the container has ended meanwhile.
        match sent {
            Some(0) | None => Ok(()),
            Some(code) => bail!("send {signal} into the container: kill ended with {code}"),
        }
    }

    fn wait(&self, deadline: Duration) -> anyhow::Result<Option<i32>> {
        crate::wait_for(deadline, "container to end", || (!self.runs()).then_some(()))?;
        let code = apart(|| self.container().exit_code())?;
        Ok(code.and_then(|code| i32::try_from(code).ok()))
    }

    fn wait_ready(&self, deadline: Duration, ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        let outcome = crate::wait_for(deadline, "kafka in its container", || match self.runs() {
            true => ready().then_some(true),
            false => Some(false),
        });
        match outcome.with_context(said)? {
            true => Ok(()),
            false => bail!("the container ended before Kafka was ready:\n{}", said()),
        }
    }

    fn runs(&self) -> bool {
        apart(|| self.container().is_running()).unwrap_or(false)
    }

    fn container(&self) -> &Container<GenericImage> {
        self.container.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // Its own drop removes the container.
        apart(|| drop(self.container.take()));
    }
}

/// Does `work` on a thread of its own: the blocking client may not be called from within an async test.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}
