//! `cargo xtask plugins`: builds the bundled plugins, and those that only tests load, as WebAssembly components.
//!
//! `plugins/` is a workspace of its own: a plugin is built by plain cargo for a bare WebAssembly target, whose module
//! imports nothing of a system, and is then wrapped as a component. What a plugin imports is what it may be granted, so
//! a build that imports anything outside of the contract fails.

use crate::steps;
use anyhow::{Context, bail, ensure};
use culvert_tests::workspace;
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::WorldItem;

/// A bare machine: no system interface, so that nothing is imported but what the contract has.
const TARGET: &str = "wasm32-unknown-unknown";

/// All that a plugin may import or export.
const CONTRACT: &str = "culvert:plugin/";

/// One folder of `plugins/` that becomes a component.
struct Plugin {
    name: &'static str,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    /// Goes into the gateway's own program.
    Bundled,
    /// Only tests load it.
    Tests,
}

/// Every plugin that is built here.
const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "order-check",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "field-policy",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "avro",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "protobuf",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "json",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "connect-json",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "connect-transforms",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "file-source",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "file-sink",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "http-poll",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "http-sink",
        purpose: Purpose::Bundled,
    },
    Plugin {
        name: "hostile",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "faulty",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "reach",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "tally",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "ledger",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "leaky-sink",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "shaky-codec",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "lines-in",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "file-each",
        purpose: Purpose::Tests,
    },
    Plugin {
        name: "table-codec",
        purpose: Purpose::Tests,
    },
];

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Formatting, lints and native tests of the plugins too, which are no members of the main workspace.
    #[arg(long)]
    check: bool,
    /// Build only these.
    names: Vec<String>,
}

/// # Errors
/// When a name is unknown, or a plugin does not build, is no component or imports what it must not.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let chosen = chosen(&arguments.names)?;
    if arguments.check {
        check()?;
    }
    let built = chosen
        .into_iter()
        .map(build)
        .collect::<anyhow::Result<Vec<_>>>()?;
    print!("{}", table(&built));
    Ok(())
}

/// The plugins' own tests, natively.
pub(crate) fn tests(filter: &Option<String>) -> Command {
    let mut tests = cargo(&["test", "--locked", "--workspace", "--no-fail-fast", "--"]);
    tests.args(filter);
    tests
}

/// Where the component of a plugin lies once it is built. The gateway's own build takes in what lies in the first folder
/// itself.
fn component_file(plugin: &Plugin) -> PathBuf {
    let folder = match plugin.purpose {
        Purpose::Bundled => "target/plugins",
        Purpose::Tests => "target/plugins/tests",
    };
    workspace().join(folder).join(plugin.name).with_extension("wasm")
}

/// The same before it was asked what it is.
fn unpacked_file(plugin: &Plugin) -> PathBuf {
    workspace()
        .join("target/plugins/unpacked")
        .join(plugin.name)
        .with_extension("wasm")
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Plugin>> {
    if names.is_empty() {
        return Ok(PLUGINS.iter().collect());
    }
    let find = |name: &String| {
        PLUGINS
            .iter()
            .find(|plugin| plugin.name == name)
            .with_context(|| {
                let known: Vec<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
                format!("there is no plugin {name}\n\none of: {}", known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

/// Formatting, lints for both targets, and the native tests.
fn check() -> anyhow::Result<()> {
    steps::run(cargo(&["fmt", "--all", "--check"]))?;
    steps::run(cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    require_target()?;
    steps::run(cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-features", // what only a component calls is seen by no native build
        "--target",
        TARGET,
        "--",
        "-D",
        "warnings",
    ]))?;
    steps::run(cargo(&["test", "--locked", "--workspace"]))
}

/// What was built: the figures of one row.
struct Built {
    plugin: &'static Plugin,
    bytes: usize,
    gzip_bytes: usize,
    took: Duration,
    imports: Vec<String>,
}

fn build(plugin: &'static Plugin) -> anyhow::Result<Built> {
    require_target()?;
    let started = Instant::now();
    let mut build = cargo(&[
        "build",
        "--locked",
        "--release",
        "--target",
        TARGET,
        "--package",
        plugin.name,
    ]);
    build.env("CARGO_ENCODED_RUSTFLAGS", flags()?);
    steps::run(build)?;
    let module = guest_target()
        .join(TARGET)
        .join("release")
        .join(plugin.name.replace('-', "_"))
        .with_extension("wasm");
    let module = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    let component = wrapped(&module).with_context(|| format!("make a component of {}", plugin.name))?;
    let imports = imports(&component).with_context(|| format!("look into {}", plugin.name))?;
    let packed = packed(plugin, &component)?;
    Ok(Built {
        plugin,
        bytes: packed.len(),
        gzip_bytes: gzip_bytes(&packed)?,
        took: started.elapsed(),
        imports,
    })
}

/// Each function entered is a look at the clock: what is inlined is looked at less. Measured: JSON work 12 % faster, files 8 %
/// larger.
const INLINING: &str = "-Cllvm-args=-inline-threshold=600";

/// Panics name files: by their place in the repository or in a crate, so that two machines build the same bytes.
fn flags() -> anyhow::Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("find cargo's home: neither CARGO_HOME nor HOME is set")?;
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    Ok([
        remap(&home.join("registry/src"), "crates"),
        remap(workspace(), "culvert"),
        INLINING.to_owned(),
    ]
    .join("\u{1f}"))
}

/// A core module as a component. The profile has stripped its names already; the wrapper gives it none.
fn wrapped(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .debug_names(false)
        .validate(true)
        .module(module)?
        .encode()
}

/// The capabilities that a component imports, by their short names.
fn imports(component: &[u8]) -> anyhow::Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is a WIT package, not a component");
    };
    let world = &resolve.worlds[world];
    let mut capabilities = Vec::new();
    for (key, item) in &world.imports {
        let name = resolve.name_world_key(key);
        let short = name.strip_prefix(CONTRACT).with_context(|| {
            format!("it imports {name}\n\na plugin may import nothing outside of {CONTRACT}: find the crate that asks for it")
        })?;
        let acts = match item {
            WorldItem::Interface { id, .. } => !resolve.interfaces[*id].functions.is_empty(),
            _ => true,
        };
        // Interfaces that only hold types come along with what uses them, and ask for nothing.
        if acts {
            capabilities.push(short.split('@').next().unwrap_or(short).to_owned());
        }
    }
    for key in world.exports.keys() {
        let name = resolve.name_world_key(key);
        ensure!(
            name.starts_with(CONTRACT),
            "it exports {name}, which no gateway knows"
        );
    }
    ensure!(
        !world.exports.is_empty(),
        "it exports nothing: is an export macro called?"
    );
    Ok(capabilities)
}

/// The component with what it says about itself in it. It is asked by the host that will run it, which is built for that
/// the first time.
fn packed(plugin: &Plugin, component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (unpacked, file) = (unpacked_file(plugin), component_file(plugin));
    if write_changed(&unpacked, component)? || !file.exists() {
        let folder = file.parent().context("a component lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let fresh = file.with_extension("fresh");
        let mut pack = Command::new(pack_program()?);
        pack.args([&unpacked, &fresh]);
        steps::run(pack).with_context(|| format!("ask {} what it is", plugin.name))?;
        fs::rename(&fresh, &file).with_context(|| format!("rename {}", fresh.display()))?;
    }
    fs::read(&file).with_context(|| format!("read {}", file.display()))
}

/// Builds the host's own tool with the features that the whole workspace asks of its libraries: with fewer, wasmtime would be
/// built once for this and once more for the gateway.
fn pack_program() -> anyhow::Result<PathBuf> {
    const NAME: &str = "culvert-pack";
    let build = ["build", "--locked", "--quiet", "--workspace", "--bin", NAME];
    steps::run(steps::cargo(&build))?;
    let targets = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace().join("target"), PathBuf::from);
    Ok(targets.join("debug").join(NAME))
}

/// Leaves a file that would not change alone, so that nothing which depends on it is built again. Says whether it changed.
fn write_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    match fs::read(path) {
        Ok(known) if known == bytes => return Ok(false),
        Ok(_) => {}
        Err(fault) if fault.kind() == ErrorKind::NotFound => {}
        Err(fault) => return Err(fault).with_context(|| format!("read {}", path.display())),
    }
    let folder = path.parent().context("a component lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    // Under another name until it is whole: a test may be reading.
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("rename {}", fresh.display()))?;
    Ok(true)
}

fn gzip_bytes(bytes: &[u8]) -> anyhow::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

/// `cargo` in the plugins' own workspace. Its target folder is named here too, because one in the environment, meant for
/// the main workspace, would win over the plugins' own configuration.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = steps::cargo(arguments);
    command
        .current_dir(workspace().join("plugins"))
        .env("CARGO_TARGET_DIR", guest_target());
    command
}

pub(crate) fn guest_target() -> PathBuf {
    workspace().join("target/guest")
}

/// Adds the target to the toolchain where it is missing.
fn require_target() -> anyhow::Result<()> {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(workspace());
    let libraries = steps::output(rustc)?;
    if Path::new(libraries.trim()).exists() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).current_dir(workspace());
    steps::run(rustup).with_context(|| {
        format!("Rust lacks the target {TARGET}\n\nwithout rustup: install your toolchain's standard library for it")
    })
}

fn table(built: &[Built]) -> String {
    let row = |cells: [&str; 6]| {
        let [name, size, gzip, seconds, purpose, imports] = cells;
        format!("{name:<14} {size:>10} {gzip:>10} {seconds:>8}  {purpose:<8}  {imports}\n")
    };
    let header = row(["PLUGIN", "SIZE", "GZIP", "SECONDS", "FOR", "IMPORTS"]);
    let rows = built.iter().map(|built| {
        row([
            built.plugin.name,
            &kib(built.bytes),
            &kib(built.gzip_bytes),
            &format!("{:.1}", built.took.as_secs_f64()),
            match built.plugin.purpose {
                Purpose::Bundled => "gateway",
                Purpose::Tests => "tests",
            },
            &built.imports.join(" "),
        ])
    });
    std::iter::once(header).chain(rows).collect()
}

fn kib(bytes: usize) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_plugins_and_a_strange_one_is_named() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let chosen = chosen(&names).map_err(|fault| fault.to_string())?;
            Ok::<_, String>(chosen.iter().map(|plugin| plugin.name).collect::<Vec<_>>())
        };
        assert_eq!(
            names(&["hostile", "order-check"]),
            Ok(vec!["hostile", "order-check"])
        );
        assert_eq!(names(&[]).map(|all| all.len()), Ok(PLUGINS.len()));
        let fault = names(&["hostile", "friendly"]).unwrap_err();
        assert!(
            fault.starts_with("there is no plugin friendly\n\none of: "),
            "{fault}"
        );
    }

    #[test]
    fn each_plugin_is_a_member_of_the_plugins_workspace() {
        let home = workspace().join("plugins");
        let read = |path: &str| fs::read_to_string(home.join(path)).unwrap();
        let workspace = read("Cargo.toml");
        let quoted = workspace.split('"');
        let members: Vec<String> = quoted
            .filter(|name| home.join(name).join("Cargo.toml").is_file())
            .map(|member| read(&format!("{member}/Cargo.toml")))
            .collect();
        for plugin in PLUGINS {
            let is_named = |manifest: &String| manifest.contains(&format!("name = \"{}\"", plugin.name));
            assert!(members.iter().any(is_named), "{}", plugin.name);
        }
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins/x.wasm");
        write_changed(&path, b"one").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        write_changed(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), old);
        write_changed(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn what_is_no_component_of_ours_is_refused() {
        let fault = imports(b"\0asm\x01\0\0\0").unwrap_err().to_string();
        assert!(!fault.is_empty());
        let empty = wrapped(b"\0asm\x01\0\0\0");
        let fault = empty.and_then(|component| imports(&component)).unwrap_err();
        assert!(fault.to_string().starts_with("it exports nothing"), "{fault:#}");
    }
}
