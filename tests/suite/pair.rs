//! Two gateways and no broker: what a connector brings in at `gw1` another takes out at `gw2`.

use crate::line::{DOMAIN, account, head, status};
use culvert_tests::{Gateway, TestCa, ports, wait_for, workspace};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Two gateways that stand.
pub(crate) struct Pair {
    pub(crate) first: Gateway,
    pub(crate) last: Gateway,
    /// Where the second dials the first.
    pub(crate) tunnel: SocketAddr,
    /// Who signed both.
    pub(crate) ca: TestCa,
}

impl Pair {
    /// Starts both, with plugins of tests beside those of the program. The first source and the sink are called `name`.
    pub(crate) fn start(name: &str, sources: &[Value], sink: &Value) -> anyhow::Result<Pair> {
        let pair = Pair::prepare(name, sources, sink)?;
        pair.first.launch()?;
        pair.last.launch()?;
        Ok(pair)
    }

    /// As [`Pair::start`], and starts nothing.
    pub(crate) fn prepare(name: &str, sources: &[Value], sink: &Value) -> anyhow::Result<Pair> {
        let ca = TestCa::new("suite")?;
        let tunnel: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_udp()).into();
        let plugins = format!(
            "plugins.directory = {:?}\n",
            workspace().join("target/plugins/tests")
        );
        let first = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\n[[grant]]\nto = \"site2\"\ntopics = [\"*\"]\n",
            head = head(
                "gw1",
                "site1",
                &ca.gateway(DOMAIN, "gw1")?,
                Some(tunnel),
                &plugins
            ),
        );
        let last = format!(
            "{head}[[peer]]\nsite = \"site1\"\ngateways = [\"gw1\"]\naddress = [\"{tunnel}\"]\n",
            head = head("gw2", "site2", &ca.gateway(DOMAIN, "gw2")?, None, &plugins),
        );
        let names = (0..).map(|number: u32| match number {
            0 => name.to_owned(),
            _ => format!("{name}-{number}"),
        });
        let sources: Vec<(String, String)> = names
            .zip(sources)
            .map(|(name, source)| (name.clone(), named(&name, source).to_string()))
            .collect();
        let sources: Vec<(&str, &str)> = sources.iter().map(|(name, text)| (&**name, &**text)).collect();
        let mut sink = named(name, sink);
        sink["culvert.from"] = json!("site1");
        Ok(Pair {
            first: Gateway::prepare("gw1", &first, &sources)?,
            last: Gateway::prepare("gw2", &last, &[("sink", &sink.to_string())])?,
            tunnel,
            ca,
        })
    }

    /// The sink as `culvert status` shows it.
    pub(crate) fn sink(&self) -> anyhow::Result<Value> {
        Ok(status(&self.last)?["connectors"][0].clone())
    }

    /// The source as `culvert status` shows it.
    pub(crate) fn source(&self) -> anyhow::Result<Value> {
        Ok(status(&self.first)?["connectors"][0].clone())
    }

    /// No gateway has warned of anything but `expected`.
    #[track_caller]
    pub(crate) fn assert_no_unlisted_alarms(&self, expected: &[&str]) {
        self.first.assert_no_unlisted_alarms(expected);
        self.last.assert_no_unlisted_alarms(expected);
    }

    /// Waits until the file of [`sqlite`] holds `count` generated records, each once.
    #[track_caller]
    pub(crate) fn delivered(&self, count: u64, deadline: Duration) {
        let file = self.last.directory().join("delivered.db");
        let (database, expected) = (file.display().to_string(), count.to_string());
        let look = ["verify", "--sqlite", &database, "--expect", &expected];
        let arrived = wait_for(deadline, "records to arrive", || {
            let verified = file.is_file().then(|| self.last.cli(&look))?.ok()?;
            verified.status.success().then_some(())
        });
        arrived.unwrap_or_else(|fault| panic!("{fault:#}\n{}", self.account()));
    }

    /// What both say of themselves, for a failure.
    pub(crate) fn account(&self) -> String {
        format!("{}{}", account(&self.first), account(&self.last))
    }
}

fn named(name: &str, definition: &Value) -> Value {
    let mut definition = definition.clone();
    definition["name"] = json!(name);
    definition
}

/// A source of `count` records of topic `orders`.
pub(crate) fn generated(count: u64) -> Value {
    json!({
        "connector.class": "io.culvert.generator.GeneratorSource",
        "topic": "orders",
        "count": count.to_string(),
    })
}

/// A sink of topic `orders`, into the file that [`Pair::delivered`] looks at.
pub(crate) fn sqlite() -> Value {
    json!({
        "connector.class": "io.culvert.sqlite.SqliteSink",
        "topics": "orders",
        "sqlite.path": "delivered.db",
    })
}
