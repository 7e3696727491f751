//! Which Kafka cluster a verb talks to: librdkafka's settings from a file and from the command line.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The arguments that name a cluster and how to talk to it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ClusterArgs {
    /// Brokers of the cluster, as host:port, separated by commas
    #[arg(long, value_name = "HOSTS")]
    pub(super) bootstrap: Option<String>,
    /// A librdkafka setting, for example security.protocol=ssl; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
    /// A file of librdkafka settings, one key=value a line, # before comments; for secrets
    #[arg(long, value_name = "FILE")]
    properties: Option<PathBuf>,
}

impl ClusterArgs {
    /// A cluster that other arguments name.
    pub(super) fn new(bootstrap: &str, properties: Option<&Path>) -> ClusterArgs {
        ClusterArgs {
            bootstrap: Some(bootstrap.to_owned()),
            settings: Vec::new(),
            properties: properties.map(Path::to_owned),
        }
    }

    /// The settings in force: those of the file, over them those of the command line.
    pub(super) fn settings(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut settings = BTreeMap::new();
        if let Some(path) = &self.properties {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            settings = parse_properties(&text).with_context(|| format!("read {}", path.display()))?;
        }
        settings.extend(
            self.settings
                .iter()
                .map(|Setting(key, value)| (key.clone(), value.clone())),
        );
        if let Some(brokers) = &self.bootstrap {
            settings.insert("bootstrap.servers".into(), brokers.clone());
        }
        if !settings.contains_key("bootstrap.servers") {
            bail!("no cluster is named\n\nName its brokers with --bootstrap host:port.");
        }
        Ok(settings)
    }
}

/// `key=value`. The value does not show up in debug output: it may be a password.
#[derive(Clone)]
struct Setting(String, String);

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.0)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Setting(key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err("expected KEY=VALUE".to_owned()),
        }
    }
}

fn parse_properties(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is not repeated: it may hold a secret.
        let Ok(Setting(key, value)) = line.parse() else {
            bail!("line {}: expected key=value", number + 1);
        };
        settings.insert(key, value);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file_and_secrets_do_not_show() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client.properties");
        std::fs::write(
            &file,
            "# ours\n\nssl.key.password = a=b\nbootstrap.servers=file:1\nlinger.ms=1\n",
        )
        .unwrap();
        let args = ClusterArgs {
            bootstrap: Some("host:2".into()),
            settings: vec!["linger.ms=7".parse().unwrap()],
            properties: Some(file.clone()),
        };
        let settings = args.settings().unwrap();
        let expected = [
            ("bootstrap.servers", "host:2"),
            ("linger.ms", "7"),
            ("ssl.key.password", "a=b"),
        ];
        assert!(
            settings
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .eq(expected)
        );
        let secret: Setting = "sasl.password=hush".parse().unwrap();
        assert!(!format!("{secret:?}").contains("hush"));

        std::fs::write(&file, "linger.ms=1\nhush\n").unwrap();
        let error = format!("{:#}", args.settings().unwrap_err());
        assert!(
            error.ends_with("line 2: expected key=value") && !error.contains("hush"),
            "{error}"
        );
        assert!(ClusterArgs::default().settings().is_err());
    }
}
