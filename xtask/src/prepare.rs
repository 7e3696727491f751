//! `cargo xtask prepare`: after it no test needs a network.
//!
//! Brokers run from the image where a container engine answers and has or gets it, else from jars that Maven copies to
//! `.lab/kafka/libs`. `KAFKA_HOME` overrides both. The choice is noted in `.lab/kafka/runtime`, where the lab reads it.

use crate::steps;
use anyhow::{Context, bail};
use culvert_tests::broker::{IMAGE, LABEL, Runtime, class_archive};
use culvert_tests::process::find_program;
use culvert_tests::workspace;
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

/// # Errors
/// When something is missing (named, with the command that installs it) or cannot be fetched.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    require(TO_BUILD, arguments.install)?;
    let runtime = brokers(arguments.install)?;
    eprintln!("brokers run from: {runtime}");
    Ok(())
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
