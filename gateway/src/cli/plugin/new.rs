//! `culvert plugin new`: a folder with a plugin that works, to be changed into one's own.

use super::build::bindings;
use super::project::{Language, Name, Project};
use super::template;
use crate::cli::{Exit, Format, Session};
use anyhow::{Context, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is wanted.
#[derive(Debug, clap::Args)]
#[command(
    about = "Write a folder with a plugin that works, to be changed into one's own",
    after_help = "\
The plugin checks orders in JSON. Its folder holds the source, the contract with the gateway,
what the plugin is to do (cases/), and a README. Nothing is fetched.

Examples:
  culvert plugin new --lang go order-check
  culvert plugin build order-check"
)]
pub(in crate::cli) struct Args {
    /// rust, c, go, js, ts or python
    #[arg(
        long = "lang",
        value_name = "LANGUAGE",
        value_enum,
        hide_possible_values = true
    )]
    language: Language,
    /// What the plugin is to a gateway: transform
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    role: Role,
    /// Its name, lower-case words joined by `-`; the folder is named so too
    name: Name,
}

/// What a plugin is to a gateway.
#[derive(Clone, Copy, Debug, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Role {
    /// Changes, drops, multiplies or refuses messages.
    #[default]
    Transform,
}

#[derive(Serialize)]
struct Made {
    folder: PathBuf,
    language: Language,
    role: Role,
    files: Vec<String>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let folder = PathBuf::from(args.name.to_string());
    let files = write(&folder, args)?;
    bindings::write(&Project::open(&folder)?)?;
    let made = Made {
        folder,
        language: args.language,
        role: args.role,
        files,
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&made)?,
        Format::Text => session.terminal.answer(text(&made))?,
    }
    Ok(Exit::Ok)
}

fn write(folder: &Path, args: &Args) -> anyhow::Result<Vec<String>> {
    if folder.exists() {
        bail!(
            "{} is there already\n\nChoose another name, or remove it.",
            folder.display()
        );
    }
    let mut written = Vec::new();
    for (path, text) in template::files(args.language, &args.name) {
        let file = folder.join(&path);
        let parent = file.parent().context("a file of a template lies in its folder")?;
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        std::fs::write(&file, text.as_bytes()).with_context(|| format!("write {}", file.display()))?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}

fn text(made: &Made) -> String {
    let folder = made.folder.display();
    format!(
        "{folder}/ holds a transform in {}; its README says how to go on\n  culvert plugin build {folder}\n  culvert plugin test {folder}",
        made.language.title()
    )
}
