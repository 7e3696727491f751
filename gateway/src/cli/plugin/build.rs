//! `culvert plugin build`: from a plugin's folder to one component.
//!
//! Whatever the language, the steps are the same: look at what the toolchain needs, have the author's own toolchain
//! compile the source, make a component of what it wrote, and look at that. The toolchain's commands are shown, and
//! what they say is passed on when they fail.

pub(super) mod bindings;
mod c;
mod component;
mod go;
mod javascript;
mod python;
mod rust;
mod tools;
mod typescript;

use super::project::{Budget, Language, Name, Project};
use crate::cli::words::bytes;
use crate::cli::{Exit, Format, Session, exit};
use crate::config::show_duration;
use crate::plugin::{self, Description, Examined};
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tools::{Lack, Tools};

/// What is to be built.
#[derive(Debug, clap::Args)]
#[command(
    about = "Make the component of a plugin's folder",
    after_help = "\
Compiles the source with the language's own toolchain, for release, and writes NAME.wasm into
the folder. What is missing on this host is named with the command that installs it.

Examples:
  culvert plugin build
  culvert plugin build order-check --output json

The exit code is 0 when the component is written, 1 when the source does not compile or the
component is beyond the budget in plugin.toml, 2 when plugin.toml is wrong, 3 when something of
the toolchain is not there."
)]
pub(in crate::cli) struct Args {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// What was built.
#[derive(Serialize)]
struct Built {
    name: Name,
    version: String,
    language: Language,
    file: PathBuf,
    bytes: u64,
    gzip_bytes: u64,
    /// What the component carries to run the source at all.
    interpreter: Option<&'static str>,
    /// The author's own files, where an interpreter reads them as they are.
    source_bytes: Option<u64>,
    milliseconds: u64,
    /// The interfaces of its roles.
    roles: Vec<&'static str>,
    /// What it imports, as it spells it.
    imports: Vec<String>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let project = Project::open(&args.folder)?;
    let built = build(&project, &Tools::new(&project.folder, &session.terminal))?;
    match session.terminal.format() {
        Format::Json => session.terminal.json(&built)?,
        Format::Text => session.terminal.answer(text(&built))?,
    }
    Ok(Exit::Ok)
}

fn build(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Built> {
    let lacks = lacks(project, tools);
    if !lacks.is_empty() {
        return Err(exit::Absent(missing(project, &lacks).into()).into());
    }
    let started = Instant::now();
    bindings::write(project)?;
    let component = compile(project, tools)?;
    let component = plugin::pack(&component).context("have the component describe itself")?;
    let examined = plugin::examine(&component).context("look at the component")?;
    if let Some(description) = &examined.description {
        agree(project, description)?;
    }
    let built = report(project, &component, examined, started.elapsed())?;
    within(&project.budget, &built, tools)?;
    write(&built.file, &component)?;
    Ok(built)
}

/// A plugin has one name and one version, wherever they are read.
fn agree(project: &Project, description: &Description) -> anyhow::Result<()> {
    let ours = (project.name.as_str(), project.version.as_str());
    let its = (description.name.as_str(), description.version.as_str());
    ensure!(
        ours == its,
        "plugin.toml says {} {}, and the plugin describes itself as {} {}\n\nMake them agree.",
        ours.0,
        ours.1,
        its.0,
        its.1
    );
    Ok(())
}

/// What the language's toolchain needs and this host lacks.
fn lacks(project: &Project, tools: &Tools<'_>) -> Vec<Lack> {
    match project.language {
        Language::Rust => rust::lacks(tools),
        Language::C => c::lacks(tools),
        Language::Go => go::lacks(tools),
        Language::Js | Language::Ts => javascript::lacks(tools),
        Language::Python => python::lacks(tools),
    }
}

/// The component, as the language's toolchain and our encoder make it.
fn compile(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    match project.language {
        Language::Rust => rust::compile(tools),
        Language::C => c::compile(project, tools),
        Language::Go => go::compile(project, tools),
        Language::Js => javascript::compile(project, tools),
        Language::Ts => javascript::compile_typescript(project, tools),
        Language::Python => python::compile(project, tools),
    }
}

fn missing(project: &Project, lacks: &[Lack]) -> String {
    let whats: Vec<&str> = lacks.iter().map(|lack| lack.what.as_str()).collect();
    let hints: Vec<&str> = lacks.iter().map(|lack| lack.install).collect();
    format!(
        "to build a plugin in {}, this host lacks {}\n\n{}",
        project.language.title(),
        whats.join(", "),
        hints.join("\n")
    )
}

fn report(project: &Project, component: &[u8], examined: Examined, took: Duration) -> anyhow::Result<Built> {
    let interpreter = project.language.interpreter();
    Ok(Built {
        name: project.name.clone(),
        version: project.version.clone(),
        language: project.language,
        file: project.folder.join(format!("{}.wasm", project.name)),
        bytes: component.len() as u64,
        gzip_bytes: zipped(component)?,
        interpreter,
        source_bytes: interpreter.map(|_| source_bytes(project)).transpose()?,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        roles: examined.roles.iter().map(|role| role.interface()).collect(),
        imports: examined.imports,
    })
}

/// How many bytes gzip makes of it.
pub(super) fn zipped(bytes: &[u8]) -> std::io::Result<u64> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

/// The files beside `plugin.toml` that the interpreter is given.
fn source_bytes(project: &Project) -> anyhow::Result<u64> {
    let endings: &[&str] = match project.language {
        Language::Python => &["py"],
        _ => &["js", "ts"],
    };
    let mut sum = 0;
    for entry in
        std::fs::read_dir(&project.folder).with_context(|| format!("list {}", project.folder.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        let ending = path.extension().unwrap_or_default();
        if entry.file_type()?.is_file() && endings.iter().any(|known| ending == *known) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

/// What of the budget was not kept: a size fails the build, a time depends on the host and on what is cached.
fn within(budget: &Budget, built: &Built, tools: &Tools<'_>) -> anyhow::Result<()> {
    if let Some(size) = budget.size.filter(|size| built.bytes > size.0) {
        bail!(
            "the component has {}; the budget is {size}\n\nFind what has grown, or raise size in [budget] of plugin.toml.",
            bytes(built.bytes)
        );
    }
    if let Some(time) = budget
        .time
        .filter(|time| u128::from(built.milliseconds) > time.as_millis())
    {
        tools.note(format_args!(
            "the build took {:.1} s; the budget is {}",
            Duration::from_millis(built.milliseconds).as_secs_f64(),
            show_duration(time)
        ));
    }
    Ok(())
}

/// Under another name until all of it is there: a gateway that reads the file finds the old component or the new one.
fn write(path: &Path, component: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("wasm.fresh");
    std::fs::write(&fresh, component).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("rename {} to {}", fresh.display(), path.display()))
}

fn text(built: &Built) -> String {
    let size = format!("{}, {} as gzip", bytes(built.bytes), bytes(built.gzip_bytes));
    let size = match (built.interpreter, built.source_bytes) {
        (Some(interpreter), Some(source)) => {
            format!(
                "{size}; your source is {} of it, the rest is {interpreter}",
                bytes(source)
            )
        }
        _ => size,
    };
    let imports = if built.imports.is_empty() {
        "nothing".to_owned()
    } else {
        built.imports.join(", ")
    };
    let rows = [
        (
            "plugin",
            format!("{} {}, in {}", built.name, built.version, built.language.title()),
        ),
        ("role", built.roles.join(", ")),
        ("imports", imports),
        ("size", size),
        (
            "built in",
            format!("{:.1} s", Duration::from_millis(built.milliseconds).as_secs_f64()),
        ),
    ];
    let mut text = built.file.display().to_string();
    for (label, value) in rows {
        text += &format!("\n  {label:<8}  {value}");
    }
    text
}
