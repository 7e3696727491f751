//! The contract in the plugin's language: what `wit/` says, as code that the author's own calls and is called by.
//!
//! Made from the world in the plugin's own folder, each time, by the generators that are linked into this program. So a
//! plugin that imports one capability more gets its functions with the next build, and nobody installs a generator.
//! Python's and Rust's toolchains make theirs themselves.

use super::tools::renew;
use super::{go, javascript};
use crate::cli::plugin::project::{Language, Project};
use anyhow::Context;
use std::path::Path;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::{Resolve, WorldId};

/// Where they lie in the plugin's folder. It holds nothing else.
const FOLDER: &str = "bindings";

/// The world that a plugin's component is of, with all that it names.
pub(super) struct World {
    pub(super) resolve: Resolve,
    pub(super) id: WorldId,
}

impl World {
    /// The world that `plugin.toml` names, of the package in `wit/`.
    ///
    /// # Errors
    /// The files are not there or not WIT, or have no such world.
    pub(super) fn of(project: &Project) -> anyhow::Result<World> {
        let folder = project.folder.join("wit");
        let mut resolve = Resolve::default();
        let (package, _) = resolve
            .push_dir(&folder)
            .with_context(|| format!("read {}", folder.display()))?;
        let id = resolve
            .select_world(&[package], Some(&project.world))
            .with_context(|| format!("world = {:?} of plugin.toml", project.world))?;
        Ok(World { resolve, id })
    }
}

/// Writes the bindings anew, where the language's toolchain does not do it itself.
///
/// # Errors
/// The contract cannot be read, or the files cannot be written.
pub(in crate::cli::plugin) fn write(project: &Project) -> anyhow::Result<()> {
    if matches!(project.language, Language::Rust | Language::Python) {
        return Ok(());
    }
    let mut world = World::of(project)?;
    let files = match project.language {
        Language::C => generate(wit_bindgen_c::Opts::default().build().as_mut(), &mut world)?,
        Language::Go => go::bindings(project, &mut world)?,
        _ => javascript::bindings(project.language, &world),
    };
    let folder = project.folder.join(FOLDER);
    renew(&folder)?;
    for (path, content) in files.iter() {
        write_file(&folder.join(path), content)?;
    }
    Ok(())
}

/// Runs a generator of wit-bindgen.
pub(super) fn generate(generator: &mut dyn WorldGenerator, world: &mut World) -> anyhow::Result<Files> {
    let mut files = Files::default();
    generator
        .generate(&mut world.resolve, world.id, &mut files)
        .context("make the bindings")?;
    Ok(files)
}

fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let parent = path
        .parent()
        .context("a file of the bindings lies in their folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    std::fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
