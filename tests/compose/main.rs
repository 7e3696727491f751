//! The compose demo: that its files say the same, and, where a container engine answers, the whole of it under faults.

use anyhow::{Context, bail, ensure};
use culvert_tests::gateway::program;
use culvert_tests::host::not_run;
use culvert_tests::workspace;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(workspace().join(path)).with_context(|| format!("read {path}"))
}

/// What follows `before` in `text`, each time, as long as its characters belong to a name.
fn names_after(text: &str, before: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(before)
        .skip(1)
        .map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_variable_is_explained_with_the_default_that_it_has() -> anyhow::Result<()> {
    let (compose, example) = (read("docker-compose.yml")?, read(".env.example")?);
    let mut used = names_after(&compose, "${");
    // Compose's own, and not one of ours.
    used.remove("COMPOSE_PROJECT_NAME");
    used.extend(["DEMO_RECORDS".to_owned(), "DEMO_RATE".to_owned()]);
    let explained: BTreeSet<String> = example
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .filter(|name| !name.starts_with('#'))
        .map(str::to_owned)
        .collect();
    ensure!(used == explained, "used {used:#?}, explained {explained:#?}");
    for line in example.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, default)) = line.split_once('=') else {
            continue;
        };
        let defaults: Vec<&str> = compose
            .split(&format!("${{{name}:-"))
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        ensure!(
            defaults.iter().all(|found| *found == default),
            "{name}: {default} or {defaults:?}"
        );
    }
    Ok(())
}

#[test]
fn dashboards_and_alerts_name_metrics_that_there_are() -> anyhow::Result<()> {
    let known = read("docs/reference/metrics.md")?;
    let known: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let mut expressions = vec![read("compose/prometheus/alerts.yml")?];
    let dashboard: Value = serde_json::from_str(&read("compose/grafana/dashboards/culvert.json")?)?;
    for panel in dashboard["panels"].as_array().context("a dashboard has panels")? {
        ensure!(panel["datasource"]["uid"] == "prometheus", "{panel}");
        for target in panel["targets"].as_array().context("a panel asks something")? {
            expressions.push(target["expr"].as_str().context("in PromQL")?.to_owned());
        }
    }
    let mut count = 0;
    for name in expressions
        .iter()
        .flat_map(|expression| names_after(expression, "culvert_"))
    {
        let name = format!("culvert_{name}");
        ensure!(
            known.contains(name.trim_end_matches("_bucket")),
            "there is no metric {name}"
        );
        count += 1;
    }
    ensure!(count > 15, "only {count} metrics were found");
    Ok(())
}

#[test]
fn every_alert_has_a_runbook() -> anyhow::Result<()> {
    let guide = read("docs/guide/compose.md")?;
    let alerts = names_after(&read("compose/prometheus/alerts.yml")?, "- alert: ");
    ensure!(alerts.len() > 5, "only {alerts:?} were found");
    let without: Vec<_> = alerts
        .iter()
        .filter(|alert| !guide.contains(&format!("| `{alert}` |")))
        .collect();
    ensure!(
        without.is_empty(),
        "docs/guide/compose.md says nothing of {without:?}"
    );
    Ok(())
}

#[test]
fn alerts_ring_when_they_should_and_only_then() -> anyhow::Result<()> {
    const NAME: &str = "alerts_ring_when_they_should_and_only_then";
    let folder = workspace().join("compose/prometheus");
    let here = |arguments: &[&str]| {
        Command::new("promtool")
            .args(arguments)
            .current_dir(&folder)
            .output()
    };
    let contained = |arguments: &[&str]| {
        let mount = format!("{}:/rules:ro", folder.display());
        let image = image_of("prom/prometheus");
        Command::new("docker")
            .args([
                "run",
                "--rm",
                "--pull",
                "never",
                "--network",
                "none",
                "--workdir",
                "/rules",
                "--volume",
                &mount,
            ])
            .args(["--entrypoint", "promtool", &image])
            .args(arguments)
            .output()
    };
    for arguments in [
        ["check", "config", "prometheus.yml"].as_slice(),
        &["test", "rules", "alerts.test.yml"],
    ] {
        let ran: Option<Output> = match here(arguments) {
            Ok(output) => Some(output),
            // 125: the engine could not start it.
            Err(_) => contained(arguments)
                .ok()
                .filter(|output| output.status.code() != Some(125)),
        };
        let Some(output) = ran else {
            not_run(
                NAME,
                "there is no promtool, and no engine with an image that has it",
            );
            return Ok(());
        };
        ensure!(
            output.status.success(),
            "promtool {arguments:?}: {}",
            said(&output)
        );
    }
    Ok(())
}

/// The image with the tag that `.env.example` gives as default.
fn image_of(name: &str) -> String {
    let compose = read("docker-compose.yml").unwrap_or_default();
    let tag = compose
        .split_once(&format!("image: {name}:${{"))
        .and_then(|(_, rest)| rest.split_once(":-")?.1.split('}').next());
    format!("{name}:{}", tag.unwrap_or("latest"))
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Minutes: all networks are cut, all services killed. Its own program, so that nothing runs beside it.
#[test]
fn records_cross_three_networks_once_through_every_fault() -> anyhow::Result<()> {
    let program = program()?;
    let binary = program
        .strip_prefix(workspace())
        .context("the program that is tested stands below the workspace")?;
    let output = Command::new(workspace().join("tests/docker_network_test.sh"))
        .env("CULVERT_BUILD", "prebuilt")
        .env("CULVERT_BINARY", binary)
        .env("CULVERT_TAG", "test")
        .output()
        .context("run the script")?;
    println!("{}", said(&output));
    match output.status.code() {
        Some(0) => Ok(()),
        Some(3) => {
            not_run(
                "records_cross_three_networks_once_through_every_fault",
                said(&output).trim(),
            );
            Ok(())
        }
        _ => bail!("{}: {}", output.status, said(&output)),
    }
}
