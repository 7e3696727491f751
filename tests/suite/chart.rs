//! The chart for Kubernetes renders, refuses what is missing, and makes a configuration that a gateway takes.

use anyhow::{Context, ensure};
use culvert_tests::{Scratch, gateway, host, toolchains, workspace};
use std::process::{Command, Output};

/// Helm built from its module knows of no newer version than 1.20 by itself.
const KUBERNETES: &str = "1.30";

const FEW: &str = "site: plant\n";

const ALL: &str = r#"site: plant
replicas: 2
identity:
  secret: plant-identity
  trustDomain: example.org
secrets: [kafka]
config: |
  [[peer]]
  site = "cloud"
  gateways = ["cloud"]
  address = ["cloud.example.org:7443"]

  [[grant]]
  to = "cloud"
  topics = ["orders"]

  [kafka]
  bootstrap.servers = "kafka:9092"
connectors:
  orders.json: |
    {"name": "orders", "connector.class": "io.culvert.kafka.KafkaSource", "topics": "orders"}
tunnel:
  service: {enabled: true, annotations: {a: b}}
telemetry: {serviceMonitor: true}
autoscaling: {enabled: true}
storage: {className: fast}
nodeSelector: {disk: local}
podAnnotations: {team: edge}
"#;

fn helm(verb: &[&str], values: &str) -> anyhow::Result<Output> {
    let scratch = Scratch::new("chart")?;
    scratch.write("values.yaml", values)?;
    let helm = toolchains::helm().context("helm is there")?;
    let output = Command::new(helm)
        .args(verb)
        .arg(workspace().join("packaging/helm/culvert"))
        .arg("--values")
        .arg(scratch.path().join("values.yaml"))
        .output()?;
    Ok(output)
}

fn rendered(values: &str) -> anyhow::Result<String> {
    let output = helm(&["template", "plant", "--kube-version", KUBERNETES], values)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The text behind `key: |`, without its indentation.
fn block(document: &str, key: &str) -> anyhow::Result<String> {
    let start = document
        .find(&format!("{key}: |\n"))
        .context("the block begins")?;
    let lines = document[start..].lines().skip(1);
    let inside = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    Ok(inside
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n"))
}

#[test]
fn the_chart_makes_a_configuration_that_a_gateway_takes() -> anyhow::Result<()> {
    if toolchains::helm().is_none() {
        host::not_run(
            "the_chart_makes_a_configuration_that_a_gateway_takes",
            "helm is not there: cargo xtask prepare --install",
        );
        return Ok(());
    }
    for values in [FEW, ALL] {
        let linted = helm(&["lint", "--strict", "--kube-version", KUBERNETES], values)?;
        let said = String::from_utf8_lossy(&linted.stdout);
        ensure!(linted.status.success(), "{said}");
        let text = rendered(values)?;
        let toml = block(&text, "culvert.toml")?;
        let scratch = Scratch::new("rendered")?;
        scratch.write("culvert.toml", &toml)?;
        std::fs::create_dir(scratch.path().join("connectors"))?;
        let mut check = Command::new(gateway::program()?);
        check
            .args(["check", "--config", "culvert.toml", "--output", "json"])
            .current_dir(scratch.path())
            .env("CULVERT_GATEWAY", "plant-culvert-0");
        if values == ALL {
            let connector = text
                .lines()
                .find_map(|line| line.strip_prefix("  orders.json: "))
                .context("the connector is there")?;
            let connector: String = serde_json::from_str(connector)?;
            scratch.write("connectors/orders.json", &connector)?;
            for (name, file) in [("CERTIFICATE", "a.pem"), ("KEY", "a.key"), ("CA", "ca.pem")] {
                check.env(format!("CULVERT_IDENTITY__{name}"), file);
                scratch.write(file, "")?;
            }
            ensure!(
                text.contains("kind: HorizontalPodAutoscaler") && !text.contains("replicas: 2"),
                "{text}"
            );
        } else {
            ensure!(
                text.contains("replicas: 1") && !text.contains("CULVERT_IDENTITY"),
                "{text}"
            );
        }
        let checked = check.output()?;
        ensure!(
            checked.status.success(),
            "{}\n{toml}",
            String::from_utf8_lossy(&checked.stdout)
        );
    }
    for (wrong, names) in [
        ("replicas: 1\n", "site"),
        ("site: plant\nreplicas: many\n", "replicas"),
        ("site: plant\nreplica: 1\n", "replica"),
    ] {
        let refused = helm(&["template", "plant", "--kube-version", KUBERNETES], wrong)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            !refused.status.success() && said.contains(names),
            "{wrong}: {said}"
        );
    }
    Ok(())
}
