//! From a core module to a component.

use super::bindings::World;
use anyhow::Context;
use wit_component::{ComponentEncoder, StringEncoding};

/// Answers what language runtimes ask of WASI; its source and reasons: `quiet.wat`. The test below makes it anew.
const QUIET: &[u8] = include_bytes!("quiet.wasm");

/// The name under which modules import what [`QUIET`] answers.
const WASI: &str = "wasi_snapshot_preview1";

/// A component of a core module that says itself which world it is of.
///
/// # Errors
/// The module does not hold what its world asks for.
pub(super) fn of_module(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.adapter(WASI, QUIET))
        .and_then(|mut encoder| encoder.encode())
        .context("make a component of the module")
}

/// A component of a core module that has the functions of `world`, and does not say so.
///
/// # Errors
/// The module does not hold what the world asks for.
pub(super) fn of_module_for(world: &World, mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    wit_component::embed_component_metadata(&mut module, &world.resolve, world.id, StringEncoding::UTF8)
        .context("tell the module its world")?;
    of_module(&module)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_quiet_system_is_built_from_its_source() -> anyhow::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/plugin/build");
        let built = wat::parse_file(folder.join("quiet.wat"))?;
        let file = folder.join("quiet.wasm");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &built)?;
        }
        assert!(
            std::fs::read(&file)? == built,
            "UPDATE_GOLDEN=1 writes quiet.wasm anew"
        );
        Ok(())
    }
}
