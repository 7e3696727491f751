use super::*;
use crate::{TestCa, TlsFiles};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(30);

/// One client's view of a listener: who leads, and what a group of settings is worth there.
fn check_answers(settings: &[(&str, &str)]) {
    let client = client(settings);
    let metadata = client.fetch_metadata(None, SOON).unwrap();
    assert_eq!(metadata.brokers().len(), 1);
}

fn check_refuses(settings: &[(&str, &str)]) {
    let refused = client(settings).fetch_metadata(None, Duration::from_secs(2));
    assert!(refused.is_err(), "{settings:?}");
}

fn client(settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("log_level", "0");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

fn create_topic(broker: &Broker, name: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .create()
        .unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let created = runtime
        .block_on(admin.create_topics([&topic], &AdminOptions::new()))
        .unwrap();
    assert_eq!(created, vec![Ok(name.to_owned())]);
}

fn produce(bootstrap: &str, topic: &str, records: u32) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    for n in 0..records {
        producer
            .send(BaseRecord::<(), str>::to(topic).payload(&n.to_string()))
            .unwrap();
    }
    producer.flush(SOON).unwrap();
}

fn end_of(broker: &Broker, topic: &str) -> Option<i64> {
    let client = client(&[("bootstrap.servers", &broker.bootstrap())]);
    client
        .fetch_watermarks(topic, 0, Duration::from_secs(2))
        .ok()
        .map(|(_, end)| end)
}

#[test]
fn the_shared_broker_is_one_and_answers() {
    let broker = shared_broker();
    check_answers(&[("bootstrap.servers", &broker.bootstrap())]);
    assert!(std::ptr::eq(broker, shared_broker()));
}

#[test]
fn mutual_tls_and_sasl_let_in_whom_they_know() {
    let ca = TestCa::new("broker-ca").unwrap();
    let other_ca = TestCa::new("other-ca").unwrap();
    let broker = Broker::start(BrokerOptions {
        tls: Some(ca.server("kafka").unwrap()),
        sasl: Some(SaslUser {
            name: "alice".into(),
            password: "wonder".into(),
        }),
        ..BrokerOptions::default()
    })
    .unwrap();

    let known = ca.client("alice").unwrap();
    let stranger = TlsFiles {
        ca: known.ca.clone(),
        ..other_ca.client("mallory").unwrap()
    };
    let with_tls = |check: fn(&[(&str, &str)]), files: &TlsFiles| {
        let [ca, certificate, key] =
            [&files.ca, &files.certificate, &files.key].map(|f| f.display().to_string());
        check(&[
            ("bootstrap.servers", &broker.bootstrap_tls()),
            ("security.protocol", "ssl"),
            ("ssl.ca.location", &ca),
            ("ssl.certificate.location", &certificate),
            ("ssl.key.location", &key),
        ]);
    };
    with_tls(check_answers, &known);
    with_tls(check_refuses, &stranger);

    let with_sasl = |check: fn(&[(&str, &str)]), mechanism: &str, password: &str| {
        check(&[
            ("bootstrap.servers", &broker.bootstrap_sasl()),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", "alice"),
            ("sasl.password", password),
        ]);
    };
    with_sasl(check_answers, "PLAIN", "wonder");
    with_sasl(check_answers, "SCRAM-SHA-256", "wonder");
    with_sasl(check_refuses, "SCRAM-SHA-256", "blunder");
}

#[test]
fn a_killed_broker_comes_back_with_its_records() {
    let broker = Broker::start(BrokerOptions::default()).unwrap();
    create_topic(&broker, "kept");
    produce(&broker.bootstrap(), "kept", 100);

    broker.kill9().unwrap();
    assert_eq!(end_of(&broker, "kept"), None, "nobody answers");
    broker.restart().unwrap();
    crate::wait_until(SOON, "the log's end", || end_of(&broker, "kept") == Some(100));

    broker.stop().unwrap();
    broker.restart().unwrap();
    crate::wait_until(SOON, "the log's end", || end_of(&broker, "kept") == Some(100));
}

#[test]
fn a_paused_broker_is_silent_and_goes_on() {
    let broker = Broker::start(BrokerOptions::default()).unwrap();
    create_topic(&broker, "paused");
    broker.pause().unwrap();
    assert_eq!(end_of(&broker, "paused"), None);
    broker.resume().unwrap();
    crate::wait_until(SOON, "the broker to answer", || {
        end_of(&broker, "paused") == Some(0)
    });
}

#[test]
fn clients_of_the_proxied_listener_stay_behind_the_proxy() {
    let broker = Broker::start(BrokerOptions {
        proxied: true,
        ..BrokerOptions::default()
    })
    .unwrap();
    create_topic(&broker, "proxied");
    produce(&broker.bootstrap_proxied(), "proxied", 10);
    assert_eq!(end_of(&broker, "proxied"), Some(10));
    assert!(broker.proxy().requests(crate::proxy::api::PRODUCE) > 0);
}

#[test]
fn kafkas_own_tools_run() {
    let broker = shared_broker();
    let said = broker
        .tool(
            "org.apache.kafka.tools.BrokerApiVersionsCommand",
            &["--bootstrap-server", &broker.bootstrap()],
        )
        .unwrap();
    assert!(said.contains("Produce(0)"), "{said}");
}

#[test]
fn a_broker_that_cannot_start_shows_why() {
    let options = BrokerOptions {
        properties: vec![("log.segment.bytes".into(), "not-a-number".into())],
        ..BrokerOptions::default()
    };
    let Err(fault) = Broker::start(options) else {
        panic!("started with nonsense")
    };
    assert!(format!("{fault:#}").contains("log.segment.bytes"), "{fault:#}");
}
