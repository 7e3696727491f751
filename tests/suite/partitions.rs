//! A record's target partition is the one that the connector's settings say, and a proof speaks for all of them.

use crate::cluster::Record;
use crate::line::{CUTS, Plan};
use anyhow::ensure;
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// Partitions of the source.
const SOURCE: i32 = 4;

const COUNT: u64 = 400;

/// Delivers orders with these keys of the sink, has the product prove it, and answers what arrived.
fn deliver(name: &str, keys: &[(&str, &str)]) -> anyhow::Result<Vec<Record>> {
    let plan = keys
        .iter()
        .fold(Plan::new(name), |plan, (key, value)| plan.sink_key(key, value));
    let topic = plan.source();
    topic.create(SOURCE, &[])?;
    topic.write(SOURCE, 0, COUNT)?;
    let line = plan.start()?;
    let arrived = line.arrived(COUNT, DEADLINE)?;
    let mut numbers: Vec<u64> = arrived.iter().filter_map(Record::number).collect();
    numbers.sort_unstable();
    ensure!(numbers == Vec::from_iter(0..COUNT), "{} arrived", arrived.len());
    line.proven(DEADLINE)?;
    line.assert_no_unlisted_alarms(CUTS);
    Ok(arrived)
}

#[test]
fn a_map_folds_partitions_and_keeps_the_order_of_each() -> anyhow::Result<()> {
    let map = [
        ("culvert.partitioner", "custom"),
        ("culvert.partitioner.map", "0-1:2, 2:0, *:same"),
        ("topic.creation.default.partitions", "4"),
    ];
    let arrived = deliver("mapped", &map)?;
    let mut last = BTreeMap::new();
    for record in &arrived {
        let number = record.number().unwrap_or_default();
        let from = number % SOURCE as u64;
        let expected = [2, 2, 0, 3][from as usize];
        ensure!(
            record.partition == expected,
            "{number} lies in {}",
            record.partition
        );
        ensure!(
            last.insert(from, number).is_none_or(|before| before < number),
            "{number} is out of order"
        );
    }
    Ok(())
}

/// More partitions than the source has: a proof must look into all of them.
#[test]
fn keys_spread_over_more_partitions_and_are_proven_together() -> anyhow::Result<()> {
    let keys = [
        ("culvert.partitioner", "key"),
        ("topic.creation.default.partitions", "7"),
    ];
    let arrived = deliver("keyed", &keys)?;
    let used: std::collections::BTreeSet<i32> = arrived.iter().map(|record| record.partition).collect();
    ensure!(used.len() == 7, "{used:?}");
    Ok(())
}
