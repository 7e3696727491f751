//! Which plugin a verb is about, and what it is opened with.

use super::project::Project;
use crate::cli::{Session, exit};
use crate::plugin::testing::{Case, Subject, cases_beside, read_cases};
use crate::plugin::{Description, Limits, Role, Shelf, examine};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A plugin and its settings.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Target {
    /// A component, a plugin's folder, or a name that `culvert plugin list` shows
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: PathBuf,
    /// A setting of the plugin; give it as often as there are settings
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("valid: KEY=VALUE".into()),
    }
}

/// A component and where it came from.
pub(super) struct Component {
    pub(super) bytes: Vec<u8>,
    /// Where it came from.
    pub(super) from: String,
    /// As a person would name it: the file or the plugin.
    pub(super) named: String,
    /// The file, where it is one.
    pub(super) file: Option<PathBuf>,
}

impl Component {
    /// A file, the component of a plugin's folder, or a plugin of the shelf.
    pub(super) fn find(plugin: &Path, session: &Session) -> anyhow::Result<Component> {
        if plugin.is_dir() {
            return Component::of_folder(plugin);
        }
        if !plugin.exists()
            && let Some(name) = plugin.to_str().filter(|name| is_name(name))
        {
            return Component::of_shelf(name, session);
        }
        Component::of_file(plugin)
    }

    fn of_folder(folder: &Path) -> anyhow::Result<Component> {
        let project = Project::open(folder)?;
        let file = folder.join(format!("{}.wasm", project.name));
        if !file.exists() {
            let folder = folder.display();
            let missing = format!(
                "{} is not there\n\nMake it: culvert plugin build {folder}",
                file.display()
            );
            return Err(exit::Absent(missing.into()).into());
        }
        Component::of_file(&file)
    }

    fn of_file(file: &Path) -> anyhow::Result<Component> {
        Ok(Component {
            bytes: std::fs::read(file).with_context(|| format!("read {}", file.display()))?,
            from: file.display().to_string(),
            named: file.display().to_string(),
            file: Some(file.to_owned()),
        })
    }

    /// A plugin of the shelf, whatever files there are.
    pub(super) fn of_shelf(name: &str, session: &Session) -> anyhow::Result<Component> {
        let shelf = match session.config_file() {
            Ok(_) => session.config()?.plugins,
            Err(_) => Shelf::open("plugins".as_ref()),
        };
        let Some(found) = shelf.get(name) else {
            let known: Vec<&str> = shelf
                .plugins()
                .map(|plugin| plugin.description.name.as_str())
                .collect();
            let missing = format!(
                "neither a file nor a plugin is called {name}\n\nPlugins that are there: {}",
                if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                }
            );
            return Err(exit::Absent(missing.into()).into());
        };
        Ok(Component {
            bytes: found.bytes()?.to_vec(),
            from: found.origin.to_string(),
            named: name.to_owned(),
            file: None,
        })
    }
}

fn role(component: &Component) -> anyhow::Result<Role> {
    let examined = examine(&component.bytes).with_context(|| component.named.clone())?;
    let role = examined.roles.first().copied();
    role.with_context(|| format!("{} has no role", component.named))
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_plain)
}

impl Target {
    /// The plugin, whatever it does.
    pub(super) fn component(&self, session: &Session) -> anyhow::Result<Component> {
        let component = Component::find(&self.plugin, session)?;
        role(&component)?;
        Ok(component)
    }

    /// The plugin, which must be a transform.
    pub(super) fn transform(&self, session: &Session) -> anyhow::Result<Component> {
        let component = Component::find(&self.plugin, session)?;
        match role(&component)? {
            role if role.is_transform() => Ok(component),
            role => bail!(
                "{} is a {role}, and only transforms are shown messages alone\n\nTry it: culvert plugin test {}",
                component.named,
                component.named
            ),
        }
    }

    /// Compiles the plugin, which takes seconds for an interpreter.
    pub(super) fn subject(component: &Component) -> anyhow::Result<Subject> {
        let subject = Subject::load(&component.bytes, None, Limits::default());
        subject.with_context(|| component.named.clone())
    }

    /// As the plugin takes them.
    pub(super) fn given(&self) -> Vec<(String, Option<String>)> {
        self.set
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.clone())))
            .collect()
    }

    /// As a person would type them again.
    pub(super) fn typed(&self) -> String {
        let mut typed = self.plugin.display().to_string();
        for (key, value) in &self.set {
            typed += &format!(" --set {key}={value}");
        }
        typed
    }
}

/// Where the cases of a plugin are.
#[derive(Debug, clap::Args)]
pub(super) struct Cases {
    /// Where its cases are [default: the folder cases beside the component]
    #[arg(long = "cases", value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Cases {
    /// The cases, by name. A plugin of the shelf has none unless their folder is named.
    pub(super) fn read(&self, component: &Component, description: &Description) -> anyhow::Result<Vec<Case>> {
        let folder = match (&self.folder, &component.file) {
            (Some(folder), _) if !folder.is_dir() => {
                return Err(exit::Absent(format!("{} is no folder", folder.display()).into()).into());
            }
            (Some(folder), _) => folder.clone(),
            (None, Some(file)) => cases_beside(file),
            (None, None) => return Ok(Vec::new()),
        };
        Ok(read_cases(&folder, description).map_err(exit::Invalid)?)
    }

    /// As a person would type it again.
    pub(super) fn typed(&self) -> String {
        let folder = self.folder.as_ref();
        folder.map_or(String::new(), |folder| format!(" --cases {}", folder.display()))
    }
}
