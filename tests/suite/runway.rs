//! How long the outbox lasts is told while there is time to act.

use crate::line::status;
use crate::pair::Pair;
use culvert_tests::{Gateway, wait_for, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

/// A minute of growth, and some for a busy machine.
const GROWN: Duration = Duration::from_secs(150);

const SOON: Duration = Duration::from_secs(60);

fn outbox(gateway: &Gateway) -> anyhow::Result<Value> {
    Ok(status(gateway)?["outbox"].clone())
}

#[test]
fn a_link_that_is_down_is_warned_of_before_the_outbox_is_full() -> anyhow::Result<()> {
    let source = json!({
        "connector.class": "io.culvert.generator.GeneratorSource",
        "topic": "orders",
        "rate": "400",
    });
    let sink = json!({
        "connector.class": "io.culvert.sqlite.SqliteSink",
        "topics": "orders",
        "sqlite.path": "delivered.db",
    });
    let mut pair = Pair::prepare("runway", &[source], &sink)?;
    pair.first.set_env("CULVERT_OUTBOX__QUOTA", "64 MiB");
    pair.first.set_env("CULVERT_OUTBOX__ALARM", "10d");
    pair.first.launch()?;
    pair.last.restart()?;
    let flowing = wait_for(SOON, "records to come in", || {
        let outbox = outbox(&pair.first).ok()?;
        outbox["runway_seconds"].as_u64().map(|_| outbox)
    })?;
    assert!(
        flowing["full_in_seconds"].is_null(),
        "it does not grow: {flowing}"
    );

    pair.last.kill9()?;
    let warned = || {
        let log = pair.first.log().unwrap_or_default();
        log.matches("CULVERT-O010").count()
    };
    wait_for(GROWN, "a warning", || (warned() > 0).then_some(()))?;
    let grows = outbox(&pair.first)?;
    let full_in = grows["full_in_seconds"].as_u64().expect("it grows");
    assert!((1..3_600).contains(&full_in), "{grows}");
    let shown = pair.first.cli_ok(&["status"])?;
    assert!(shown.contains("as it grows now"), "{shown}");
    assert!(pair.first.metric("culvert_outbox_full_in_seconds")? < 3_600.0);

    pair.last.restart()?;
    wait_until(SOON, "the all-clear", || {
        let log = pair.first.log().unwrap_or_default();
        log.contains("does not fill any more")
    });
    assert_eq!(warned(), 1, "once is enough");
    pair.first
        .assert_no_unlisted_alarms(&["CULVERT-O010", "CULVERT-L0"]);
    Ok(())
}
