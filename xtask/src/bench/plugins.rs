//! `cargo xtask bench plugins`: what plugins cost, beside the same work natively, in one run.
//!
//! The bundled plugins and those that tests load, and one from each language's template, as `culvert plugin new` and `build`
//! make them. The tables are written into `docs/benchmarks.md` between marks of their own; the program is a release.

use crate::{plugins, steps};
use anyhow::Context;
use culvert_tests::workspace;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const LANGUAGES: [&str; 6] = ["rust", "c", "go", "js", "ts", "python"];

/// Of one call of a bench.
const KEPT: f64 = 500.0;
const ORDERS: f64 = 1_000.0;

const BEGIN: &str = "<!-- begin: written by cargo xtask bench plugins -->";
const END: &str = "<!-- end: written by cargo xtask bench plugins -->";

pub(super) fn run(quick: bool, out: Option<&Path>) -> anyhow::Result<()> {
    plugins::run(&plugins::Arguments::default())?;
    let program = steps::release()?;
    let built = languages(&program)?;
    parts(quick, &built)?;
    let folder = workspace().join("target/bench-plugins");
    let mut lab = steps::cargo(&[
        "bench",
        "--locked",
        "--package",
        "culvert-tests",
        "--bench",
        "lab",
    ]);
    lab.args(super::PROFILE)
        .args(["--", "plugins", "--out"])
        .arg(&folder);
    if quick {
        lab.arg("--quick");
    }
    lab.env("CULVERT_BIN", &program)
        .env("CULVERT_BENCH_PLUGINS", &built);
    steps::run(lab)?;
    let text = [table(&built)?, fs::read_to_string(folder.join("plugins.md"))?].join("\n");
    println!("{text}");
    match (out, quick) {
        (Some(folder), _) => Ok(fs::write(folder.join("plugins.md"), text)?),
        (None, true) => Ok(()),
        (None, false) => insert(&workspace().join("docs/benchmarks.md"), &text),
    }
}

/// One plugin from each template. Fails where a toolchain is missing: a table without a language would look whole.
fn languages(program: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace().join("target/bench-plugins");
    let (sources, built) = (folder.join("sources"), folder.join("built"));
    fs::create_dir_all(&built)?;
    for language in LANGUAGES {
        let component = built.join(format!("{language}.wasm"));
        let (name, project) = (format!("in-{language}"), sources.join(format!("in-{language}")));
        if !project.is_dir() {
            fs::create_dir_all(&sources)?;
            let mut new = std::process::Command::new(program);
            new.args(["plugin", "new", "--lang", language, &name])
                .current_dir(&sources);
            steps::run(new)?;
        }
        let mut build = std::process::Command::new(program);
        build.args(["plugin", "build"]).current_dir(&project);
        build.envs(culvert_tests::toolchains::offline());
        steps::run(build)?;
        fs::copy(project.join(format!("{name}.wasm")), component)?;
    }
    Ok(built)
}

/// The benches in one thread: components, then the same work natively.
fn parts(quick: bool, built: &Path) -> anyhow::Result<()> {
    let short = ["--warm-up-time", "0.5", "--measurement-time", "1"];
    let mut components = steps::cargo(&["bench", "--locked", "--package", "culvert-host"]);
    components
        .args(super::PROFILE)
        .env("CULVERT_BENCH_PLUGINS", built)
        .arg("--");
    let mut native = plugins::cargo(&["bench", "--locked", "--package", "order-check"]);
    native.arg("--");
    if quick {
        components.args(short);
        native.args(short);
    }
    steps::run(components)?;
    steps::run(native)
}

/// Nanoseconds of one iteration: the median that criterion wrote down.
fn median(target: &Path, bench: &str) -> anyhow::Result<f64> {
    let file = target.join("criterion").join(bench).join("new/estimates.json");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .with_context(|| format!("{} has no median", file.display()))
}

fn table(built: &Path) -> anyhow::Result<String> {
    let (ours, guests) = (workspace().join("target"), plugins::guest_target());
    let kept = (median(&ours, "keep/stage")? - median(&ours, "keep/none")?) / KEPT;
    let component = median(&ours, "json/component")? / ORDERS;
    let native = median(&guests, "json/native")? / ORDERS;
    let mut text = String::new();
    writeln!(
        text,
        "| per record | component | natively | of native |\n| --- | --- | --- | --- |"
    )?;
    writeln!(
        text,
        "| a stage that keeps everything, batches of 500, over no stage | {kept:.0} ns | | |"
    )?;
    writeln!(
        text,
        "| an order read, checked and made a row, batches of 1,000 | {component:.0} ns | {native:.0} ns | {:.2} |\n",
        native / component
    )?;
    writeln!(
        text,
        "| plugin in | size | loaded, compiled before | a fresh instance |\n| --- | --- | --- | --- |"
    )?;
    for name in ["order-check"].into_iter().chain(LANGUAGES) {
        let file = match name {
            "order-check" => workspace().join("target/plugins/order-check.wasm"),
            language => built.join(format!("{language}.wasm")),
        };
        let kib = fs::metadata(&file)?.len() as f64 / 1024.0;
        let ms = |what: &str| median(&ours, &format!("instances/{what}_{name}")).map(|ns| ns / 1e6);
        writeln!(
            text,
            "| {name} | {kib:.0} KiB | {:.2} ms | {:.2} ms |",
            ms("load")?,
            ms("fresh")?
        )?;
    }
    Ok(text)
}

fn insert(page: &Path, text: &str) -> anyhow::Result<()> {
    let before = fs::read_to_string(page)?;
    let (head, rest) = before
        .split_once(BEGIN)
        .context("the page has no place for the tables")?;
    let (_, tail) = rest
        .split_once(END)
        .context("the place for the tables has no end")?;
    Ok(fs::write(
        page,
        format!("{head}{BEGIN}\n{}\n{END}{tail}", text.trim()),
    )?)
}
