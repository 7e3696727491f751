//! A plugin takes two commands in each language: what `culvert plugin new` writes, `culvert plugin build` makes a component
//! of that a gateway links, with the language's own toolchain and without a network, and `culvert plugin test` finds nothing
//! wrong with it.

use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::gateway::program;
use culvert_tests::{Scratch, host, toolchains};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use wasmparser::{Parser, Payload};

/// `culvert plugin build` ends so when something of the toolchain is not there.
const ABSENT: i32 = 3;

/// What everything a plugin imports and exports begins with.
const CONTRACT: &str = "culvert:plugin/";

#[test]
fn a_plugin_in_rust_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_rust_takes_two_commands", "rust", "transform-columns")
}

#[test]
fn a_plugin_in_c_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_c_takes_two_commands", "c", "transform")
}

#[test]
fn a_plugin_in_go_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_go_takes_two_commands", "go", "transform")
}

#[test]
fn a_plugin_in_javascript_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_javascript_takes_two_commands", "js", "transform")
}

#[test]
fn a_plugin_in_typescript_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_typescript_takes_two_commands", "ts", "transform")
}

#[test]
fn a_plugin_in_python_takes_two_commands() -> anyhow::Result<()> {
    check("a_plugin_in_python_takes_two_commands", "python", "transform")
}

/// Makes and builds the plugin of a language, looks at the component, and tries it.
fn check(test: &str, language: &str, role: &str) -> anyhow::Result<()> {
    let author = Author::new(language)?;
    author.make(language)?;
    let output = author.culvert(&["plugin", "build", NAME, "--output", "json"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(ABSENT) {
        host::not_run(test, &said);
        return Ok(());
    }
    ensure!(output.status.success(), "{language}: {said}");
    let built: Value = serde_json::from_slice(&output.stdout).context("the answer is JSON")?;
    let component = fs::read(author.folder().join(format!("{NAME}.wasm")))?;
    ensure!(
        built["bytes"] == component.len(),
        "{built} of {} bytes",
        component.len()
    );

    let names = Names::of(&component)?;
    for interface in ["meta", role] {
        let is_exported = |name: &String| name.starts_with(&format!("{CONTRACT}{interface}@"));
        ensure!(
            names.exports.iter().any(is_exported),
            "{language} exports {:?}",
            names.exports
        );
    }
    let strange: Vec<_> = names
        .imports
        .iter()
        .filter(|name| !name.starts_with(CONTRACT))
        .collect();
    ensure!(strange.is_empty(), "{language} imports {strange:?}");
    ensure!(names.describes_itself, "{language} does not describe itself");
    let tried = author.tried()?;
    crate::plugins::marks_orders_in_a_real_flow(&author.folder(), NAME, language)?;
    figure(&format!(
        "plugin in {language}: {} bytes, {} as gzip, built in {} ms; {tried}",
        built["bytes"], built["gzip_bytes"], built["milliseconds"]
    ));
    Ok(())
}

/// No compiler is found where no program is.
#[test]
fn what_a_toolchain_lacks_is_named_with_the_way_to_get_it() -> anyhow::Result<()> {
    for (language, lack, way) in [
        ("rust", "wasm32-unknown-unknown", "rustup target add"),
        ("c", "clang 16", "apt-get install clang"),
        ("go", "go 1.25", "go.dev"),
        ("js", "npm", "nodejs.org"),
        ("ts", "npm", "nodejs.org"),
        ("python", "venv", "python3-venv"),
    ] {
        let author = Author::new("lacking")?;
        author.make(language)?;
        let output = author
            .command(&["plugin", "build", NAME])?
            .env("PATH", author.scratch.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(ABSENT), "{language}: {said}");
        ensure!(said.contains(lack) && said.contains(way), "{language}: {said}");
    }
    Ok(())
}

#[test]
fn a_folder_that_is_there_is_left_as_it_is() -> anyhow::Result<()> {
    let author = Author::new("there")?;
    author.make("c")?;
    let own = author.folder().join("src/plugin.c");
    fs::write(&own, "mine")?;
    let output = author.culvert(&["plugin", "new", "--lang", "go", NAME])?;
    ensure!(
        output.status.code() == Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(fs::read_to_string(&own)? == "mine" && !author.folder().join("go.mod").exists());
    Ok(())
}

const NAME: &str = "order-check";

/// Six compilers at once would be slower than one after the other, and their figures worth nothing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Someone who writes plugins, in a directory of their own.
struct Author {
    scratch: Scratch,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Author {
    fn new(name: &str) -> anyhow::Result<Author> {
        Ok(Author {
            _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
            scratch: Scratch::new(&format!("plugin-{name}"))?,
        })
    }

    fn folder(&self) -> PathBuf {
        self.scratch.path().join(NAME)
    }

    fn make(&self, language: &str) -> anyhow::Result<()> {
        let output = self.culvert(&["plugin", "new", "--lang", language, NAME])?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// The plugin holds its cases, its promises and against any message; says how much was tried.
    fn tried(&self) -> anyhow::Result<String> {
        let began = Instant::now();
        let output = self.culvert(&["plugin", "test", NAME, "--output", "json"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let tried: Value = serde_json::from_slice(&output.stdout).with_context(|| said.clone())?;
        ensure!(
            output.status.success() && tried["held"] == true,
            "{said}{tried:#}"
        );
        let cases = tried["cases"].as_array().context("it lists the cases")?;
        let promises = tried["promises"].as_array().context("it lists the promises")?;
        ensure!(cases.len() == 4, "{tried:#}");
        let declared: Vec<&Value> = promises
            .iter()
            .filter(|promise| promise["declared"] == true)
            .collect();
        let are_attacked = declared
            .iter()
            .all(|promise| promise["attacks"].as_u64() > Some(0));
        ensure!(declared.len() == 2 && are_attacked, "{tried:#}");
        let seconds = began.elapsed().as_secs_f64();
        Ok(format!(
            "held {} cases and {} messages in {seconds:.1} s",
            cases.len(),
            tried["messages"]
        ))
    }

    fn culvert(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments)?.output()?)
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program()?);
        command
            .args(arguments)
            .current_dir(self.scratch.path())
            .envs(toolchains::offline());
        Ok(command)
    }
}

/// What a component imports and exports, and whether its description lies in it.
#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
    describes_itself: bool,
}

impl Names {
    /// # Errors
    /// It is no component.
    fn of(bytes: &[u8]) -> anyhow::Result<Names> {
        ensure!(Parser::is_component(bytes), "no component");
        let mut names = Names::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if depth == 0 => {
                    names.describes_itself |= section.name() == "culvert:describe";
                }
                _ => {}
            }
        }
        Ok(names)
    }
}
