//! Kafka connectors prove who they are the way their cluster wants it, by librdkafka's own settings.

use crate::cluster;
use crate::line::{CUTS, Line, Plan, account};
use anyhow::{Context, ensure};
use culvert_tests::broker::SaslUser;
use culvert_tests::{Broker, BrokerOptions, TestCa, TlsFiles, wait_for};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// One user and one authority for both clusters.
struct Secured {
    source: Broker,
    target: Broker,
    files: TlsFiles,
    _ca: TestCa,
}

impl Secured {
    fn start() -> anyhow::Result<Secured> {
        let ca = TestCa::new("kafka-ca")?;
        let start = || {
            let (tls, user) = (
                ca.server("kafka")?,
                SaslUser {
                    name: "culvert".into(),
                    password: "s3cret".into(),
                },
            );
            cluster::start_with(BrokerOptions {
                tls: Some(tls),
                sasl: Some(user),
                ..BrokerOptions::default()
            })
        };
        Ok(Secured {
            source: start()?,
            target: start()?,
            files: ca.client("culvert")?,
            _ca: ca,
        })
    }

    /// The test itself goes in by the plain listeners.
    fn plan(&self, name: &str) -> Plan {
        let mut plan = Plan::new(name);
        plan.source_cluster = self.source.bootstrap();
        plan.target_cluster = self.target.bootstrap();
        plan
    }

    fn mutual_tls(&self, broker: &Broker) -> Vec<(&'static str, String)> {
        let TlsFiles { certificate, key, ca } = &self.files;
        vec![
            ("kafka.bootstrap.servers", broker.bootstrap_tls()),
            ("kafka.security.protocol", "SSL".into()),
            ("kafka.ssl.ca.location", ca.display().to_string()),
            (
                "kafka.ssl.certificate.location",
                certificate.display().to_string(),
            ),
            ("kafka.ssl.key.location", key.display().to_string()),
        ]
    }
}

fn sasl(broker: &Broker, mechanism: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("kafka.bootstrap.servers", broker.bootstrap_sasl()),
        ("kafka.security.protocol", "SASL_PLAINTEXT".into()),
        ("kafka.sasl.mechanism", mechanism.into()),
        ("kafka.sasl.username", "culvert".into()),
        ("kafka.sasl.password", password.into()),
    ]
}

type Keys = [(&'static str, String)];

fn with(plan: Plan, source: &Keys, sink: &Keys) -> Plan {
    let plan = source
        .iter()
        .fold(plan, |plan, (key, value)| plan.source_key(key, value));
    sink.iter()
        .fold(plan, |plan, (key, value)| plan.sink_key(key, value))
}

fn check(plan: Plan) -> anyhow::Result<()> {
    let topic = plan.source();
    topic.create(2, &[])?;
    topic.write(2, 0, 200)?;
    let line = plan.start()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 200, "{verdict}");
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

#[test]
fn connectors_come_in_by_mutual_tls_by_plain_and_by_scram() -> anyhow::Result<()> {
    let clusters = Secured::start()?;
    let Secured { source, target, .. } = &clusters;
    check(with(
        clusters.plan("tls-scram"),
        &clusters.mutual_tls(source),
        &sasl(target, "SCRAM-SHA-256", "s3cret"),
    ))?;
    check(with(
        clusters.plan("plain-tls"),
        &sasl(source, "PLAIN", "s3cret"),
        &clusters.mutual_tls(target),
    ))?;
    let wrong = with(
        clusters.plan("wrong"),
        &sasl(source, "SCRAM-SHA-256", "guessed"),
        &sasl(target, "PLAIN", "guessed"),
    );
    wrong.source().create(1, &[])?;
    let line = wrong.prepare()?;
    [&line.relay, &line.last, &line.first]
        .into_iter()
        .try_for_each(|gateway| gateway.launch())?;
    says(&line, "uthentication failed")
}

/// Both ends name the reason, and never the password.
fn says(line: &Line, reason: &str) -> anyhow::Result<()> {
    for gateway in [&line.first, &line.last] {
        wait_for(DEADLINE, reason, || {
            gateway.log().ok().filter(|log| log.contains(reason))
        })
        .with_context(|| account(gateway))?;
        ensure!(!gateway.log()?.contains("guessed"), "a password is in the log");
    }
    Ok(())
}
