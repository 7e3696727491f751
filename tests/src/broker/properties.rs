use super::{BrokerOptions, Ports, loopback};
use crate::{TcpProxy, TlsFiles};
use anyhow::Context;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Everything Kafka says goes to standard output, which is the log file.
pub(super) const LOG4J: &str = "\
Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: \"[%d] %p %m (%c)%n\"
  Loggers:
    Root:
      level: INFO
      AppenderRef:
        - ref: STDOUT
";

/// What every broker of the lab has in common.
///
/// - One copy of everything and few partitions of the internal topics: they are created in the first transaction and
///   the first commit, and their number is most of that wait.
/// - `broker.session.timeout.ms`: a node that was killed is refused by its own controller until its old session has
///   ended (measured: it is back after 11 s with the default of 9 s, after 4 s so; after an orderly stop in 1.7 s).
const COMMON: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,PROXIED:PLAINTEXT
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.partition.verification.enable=true
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=500
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=2097152
";

/// The text of `server.properties`. Later lines win, so the caller's own come last.
pub(super) fn server(
    options: &BrokerOptions,
    ports: &Ports,
    proxy: Option<&TcpProxy>,
    folder: &Path,
) -> anyhow::Result<String> {
    let mut text = COMMON.to_owned();
    let mut listeners = vec![format!("PLAINTEXT://{}", ports.at(ports.plain))];
    let mut advertised = listeners.clone();
    for (name, port) in [("SSL", ports.tls), ("SASL_PLAINTEXT", ports.sasl)] {
        let listener = port.map(|port| format!("{name}://{}", ports.at(port)));
        listeners.extend(listener.clone());
        advertised.extend(listener);
    }
    if let (Some(port), Some(proxy)) = (ports.proxied, proxy) {
        listeners.push(format!("PROXIED://{}", ports.at(port)));
        advertised.push(format!("PROXIED://{}", proxy.address()));
    }
    listeners.push(format!("CONTROLLER://{}", loopback(ports.controller)));
    writeln!(text, "controller.quorum.voters=1@{}", loopback(ports.controller))?;
    writeln!(text, "listeners={}", listeners.join(","))?;
    writeln!(text, "advertised.listeners={}", advertised.join(","))?;
    writeln!(text, "log.dirs={}", folder.join("data").display())?;
    if let Some(files) = &options.tls {
        text += &tls(files, folder)?;
    }
    if let Some(user) = &options.sasl {
        text += &sasl(&user.name, &user.password);
    }
    for (key, value) in &options.properties {
        writeln!(text, "{key}={value}")?;
    }
    Ok(text)
}

/// Mutual TLS from PEM files (KIP-651): the key store is the key and its certificate in one file.
fn tls(files: &TlsFiles, folder: &Path) -> anyhow::Result<String> {
    let read = |file: &Path| fs::read_to_string(file).with_context(|| format!("read {}", file.display()));
    let store = folder.join("keystore.pem");
    fs::write(&store, read(&files.key)? + &read(&files.certificate)?)?;
    let trusted = folder.join("truststore.pem");
    fs::write(&trusted, read(&files.ca)?)?;
    Ok(format!(
        "ssl.client.auth=required\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        store.display(),
        trusted.display(),
    ))
}

/// PLAIN knows the user from here; SCRAM knows it from the metadata that formatting wrote.
fn sasl(name: &str, password: &str) -> String {
    const LISTENER: &str = "listener.name.sasl_plaintext";
    const MODULES: &str = "org.apache.kafka.common.security";
    format!(
        "{LISTENER}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
         {LISTENER}.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required user_{name}=\"{password}\";\n\
         {LISTENER}.scram-sha-256.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;\n"
    )
}
