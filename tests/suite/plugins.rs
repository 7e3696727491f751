//! Plugins on the way of records: what they make of them arrives, what they refuse is kept, and what they do wrong costs
//! one record and no more (S1, S2, S8, S10).

use crate::cluster::{Load, Record, Topic, send};
use crate::line::{CUTS, Line, Plan, status};
use anyhow::{Context, bail, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{wait_for, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

const PARTITIONS: i32 = 3;

/// A line whose sink passes records through `hostile`, which does what a record's value says, and keeps dead letters.
fn hostile_sink(name: &str) -> Plan {
    let directory = workspace().join("target/plugins/tests");
    Plan::new(name)
        .setting(3, &format!("plugins.directory = {directory:?}"))
        .sink_key("transforms", "obey")
        .sink_key("transforms.obey.type", "hostile")
        .sink_key("transforms.obey.culvert.memory.max", "16MiB")
        .sink_key("transforms.obey.culvert.time.max", "300ms")
        .sink_key("errors.tolerance", "all")
        .sink_key("errors.deadletterqueue.topic.name", &dead_letters_of(name))
}

fn dead_letters_of(name: &str) -> String {
    format!("{name}-dead")
}

/// Where `hostile` sends records that say `rewrite`.
fn elsewhere(plan: &Plan) -> Topic {
    Topic::new(&plan.target_cluster, &format!("{}-elsewhere", plan.name))
}

fn dead_letters(plan: &Plan) -> Topic {
    Topic::new(&plan.target_cluster, &dead_letters_of(&plan.name))
}

/// An order with a value of its own.
fn order(number: u64, value: &str) -> Record {
    Record {
        value: Some(value.as_bytes().to_vec()),
        ..Record::order(number, PARTITIONS)
    }
}

fn write(topic: &Topic, records: impl IntoIterator<Item = Record>) -> anyhow::Result<()> {
    let producer = topic.producer(&[])?;
    for record in records {
        send(&producer, &topic.name, &record)?;
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE)?;
    Ok(())
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(known, _)| known == name)?;
    std::str::from_utf8(value.as_ref()?).ok()
}

/// The numbers of the records, in the order of each partition.
fn in_order(records: &[Record]) -> anyhow::Result<Vec<u64>> {
    let mut last = BTreeMap::new();
    let mut numbers = Vec::new();
    for record in records {
        let number = record.number().context("a record of the test has a number")?;
        let before = last.insert(record.partition, number);
        ensure!(
            before.is_none_or(|before| before < number),
            "{number} is out of order, or twice"
        );
        numbers.push(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// One record at fault in 10,000: 9,999 arrive in order, one dead letter says why.
#[test]
fn one_poison_record_in_ten_thousand_costs_one_dead_letter() -> anyhow::Result<()> {
    const COUNT: u64 = 10_000;
    let faults = [
        (2_000, "panic", "plugin-trap"),
        (5_000, "spin", "plugin-timeout"),
        (8_000, "bomb", "plugin-memory"),
    ];
    for (at, fault, code) in faults {
        let plan = hostile_sink(&format!("poison-{fault}")).setting(3, "plugins.record_failures = 3");
        let source = plan.source();
        source.create(PARTITIONS, &[])?;
        write(
            &source,
            (0..COUNT).map(|number| order(number, if number == at { fault } else { "fine" })),
        )?;
        let line = plan.start()?;
        let started = Instant::now();
        let arrived = line.arrived(COUNT - 1, DEADLINE)?;
        let expected: Vec<u64> = (0..COUNT).filter(|number| *number != at).collect();
        ensure!(
            in_order(&arrived)? == expected,
            "{fault}: {} arrived",
            arrived.len()
        );
        let letter = only_dead_letter(&line)?;
        ensure!(
            letter.number() == Some(at) && letter.value.as_deref() == Some(fault.as_bytes()),
            "{letter:?}"
        );
        ensure!(header(&letter, "culvert.code") == Some(code), "{letter:?}");
        ensure!(
            header(&letter, "__connect.errors.class.name") == Some("obey"),
            "{letter:?}"
        );
        ensure!(
            header(&letter, "__connect.errors.topic") == Some(&*line.plan.name),
            "{letter:?}"
        );
        fails_alike_when_it_is_played(&line, fault)?;
        line.assert_no_unlisted_alarms(CUTS);
        figure(&format!(
            "plugins: 1 record of {COUNT} with {fault}: {} arrived in order, 1 dead letter {code}, {:.1} s",
            arrived.len(),
            started.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

/// The log names the one failure that was recorded, of the one record at fault, and it is the same when it is played again.
fn fails_alike_when_it_is_played(line: &Line, fault: &str) -> anyhow::Result<()> {
    let log = line.last.log()?;
    let told = log
        .lines()
        .filter_map(|told| serde_json::from_str(told).ok())
        .filter(|told: &Value| told["message"] == "a failing batch is recorded");
    let files: Vec<String> = told
        .filter_map(|told| told["fields"]["file"].as_str().map(str::to_owned))
        .collect();
    let [file] = files.as_slice() else {
        bail!("{fault}: recorded are {files:?}");
    };
    let text = line
        .last
        .cli_ok(&["plugin", "replay", file, "--output", "json"])?;
    let replayed: Value = serde_json::from_str(&text)?;
    ensure!(
        replayed["is_same"] == true && replayed["records"] == 1 && replayed["connector"] == *line.plan.name,
        "{fault}: {text}"
    );
    Ok(())
}

fn only_dead_letter(line: &Line) -> anyhow::Result<Record> {
    let topic = dead_letters(&line.plan);
    let mut letters = wait_for(DEADLINE, "a dead letter", || {
        topic.read().ok().filter(|letters| !letters.is_empty())
    })
    .with_context(|| line.statuses())?;
    ensure!(letters.len() == 1, "{} dead letters", letters.len());
    letters.pop().context("there is one")
}

#[test]
fn each_record_becomes_what_its_stage_says() -> anyhow::Result<()> {
    let plan = hostile_sink("outcomes");
    let source = plan.source();
    source.create(1, &[])?;
    let words = ["keep", "drop", "replace", "reject", "expand", "rewrite", "keep"];
    elsewhere(&plan).create(1, &[])?;
    let on_one = |(number, word)| Record {
        partition: 0,
        ..order(number, word)
    };
    write(&source, (0..).zip(words).map(on_one))?;
    let line = plan.start()?;
    let arrived = line.arrived(6, DEADLINE)?;
    let values: Vec<&[u8]> = arrived
        .iter()
        .filter_map(|record| record.value.as_deref())
        .collect();
    ensure!(
        values.first() == Some(&&b"keep"[..]) && values.last() == Some(&&b"keep"[..]),
        "{arrived:?}"
    );
    ensure!(
        !values.contains(&&b"drop"[..]) && !values.contains(&&b"reject"[..]),
        "{arrived:?}"
    );
    let topic = dead_letters(&line.plan);
    let letters = wait_for(DEADLINE, "the dead letter", || {
        topic.read().ok().filter(|letters| !letters.is_empty())
    })?;
    let codes: Vec<Option<&str>> = letters
        .iter()
        .map(|letter| header(letter, "culvert.code"))
        .collect();
    ensure!(
        letters[0].number() == Some(3) && codes == [Some("told-to")],
        "{letters:?}"
    );
    let elsewhere = elsewhere(&line.plan);
    let sent = wait_for(DEADLINE, "the record that was sent to another topic", || {
        elsewhere.read().ok().filter(|sent| !sent.is_empty())
    })
    .with_context(|| line.statuses())?;
    ensure!(
        sent.len() == 1 && sent[0].value.as_deref() == Some(b"rewritten"),
        "{sent:?}"
    );
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

/// S3: records, dead letters and positions are one write, so that none of them is there twice.
#[test]
fn killing_gateways_doubles_neither_records_nor_dead_letters() -> anyhow::Result<()> {
    const COUNT: u64 = 6_000;
    let word = |number: u64| match number % 20 {
        7 => "reject",
        11 => "panic",
        13 => "drop",
        _ => "fine",
    };
    let plan = hostile_sink("killed-staged");
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    for part in 0..6 {
        let numbers = part * COUNT / 6..(part + 1) * COUNT / 6;
        write(&source, numbers.map(|number| order(number, word(number))))?;
        let victim = line.gateways()[(part % 3) as usize];
        victim.kill9()?;
        victim.launch()?;
    }
    let of = |words: &[&str]| {
        let is_of = |number: &u64| words.contains(&word(*number));
        (0..COUNT).filter(is_of).collect::<Vec<u64>>()
    };
    let (fine, refused) = (of(&["fine"]), of(&["reject", "panic"]));
    let arrived = line.arrived(fine.len() as u64, DEADLINE)?;
    ensure!(
        in_order(&arrived)? == fine,
        "{} arrived of {}",
        arrived.len(),
        fine.len()
    );
    let topic = dead_letters(&line.plan);
    let letters = wait_for(DEADLINE, "all dead letters", || {
        topic.read().ok().filter(|letters| letters.len() >= refused.len())
    })
    .with_context(|| line.statuses())?;
    let mut numbers: Vec<u64> = letters.iter().filter_map(Record::number).collect();
    numbers.sort_unstable();
    ensure!(
        numbers == refused,
        "{} dead letters for {} refused records",
        letters.len(),
        refused.len()
    );
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugins: 6 kills, {} records and {} dead letters, each once",
        arrived.len(),
        letters.len()
    ));
    Ok(())
}

/// A bundled plugin before the outbox: what it refuses does not leave the site, and its stream stands until someone decides.
#[test]
fn a_record_refused_at_its_source_stops_its_stream_and_says_why() -> anyhow::Result<()> {
    let plan = Plan::new("checked")
        .source_key("transforms", "check")
        .source_key("transforms.check.type", "order-check");
    let source = plan.source();
    source.create(1, &[])?;
    let good = |number: u64| {
        format!(
            "{{\"order_id\":\"o-{number}\",\"customer_id\":\"c-1\",\"restaurant_id\":\"r-1\",\"items\":[{{\"sku\":\"s\",\
             \"quantity\":2,\"price_cents\":150}}],\"total_cents\":300,\"currency\":\"EUR\"}}"
        )
    };
    let bad = good(3).replace("300", "301");
    let on_one = |number, value: &str| Record {
        partition: 0,
        ..order(number, value)
    };
    write(&source, (0..3).map(|number| on_one(number, &good(number))))?;
    write(&source, [on_one(3, &bad), on_one(4, &good(4))])?;
    let line = plan.start()?;
    let arrived = line.arrived(3, DEADLINE)?;
    ensure!(in_order(&arrived)? == [0, 1, 2], "{arrived:?}");
    let told = wait_for(DEADLINE, "the stream to stand", || {
        let status = status(&line.first).ok()?.to_string();
        status.contains("CULVERT-F013").then_some(status)
    })
    .with_context(|| line.statuses())?;
    ensure!(told.contains("check") && told.contains("total"), "{told}");
    Ok(())
}

/// Records that a stage at the source leaves out are holes: they hold nothing up, and nothing comes twice.
#[test]
fn a_stage_at_the_source_under_kills_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let directory = workspace().join("target/plugins/tests");
    let plan = Plan::new("source-staged")
        .setting(1, &format!("plugins.directory = {directory:?}"))
        .source_key("transforms", "obey")
        .source_key("transforms.obey.type", "hostile");
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let load = Load::start(&source, PARTITIONS, 0, 1_000);
    for kill in 0..6 {
        std::thread::sleep(Duration::from_millis(400));
        let victim = line.gateways()[kill % 3];
        victim.kill9()?;
        victim.launch()?;
    }
    let count = load.stop()?;
    let arrived = line.arrived(count, DEADLINE)?;
    ensure!(
        in_order(&arrived)? == Vec::from_iter(0..count),
        "{} arrived of {count}",
        arrived.len()
    );
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

/// S3: the parts of a record and those sent to other topics lie in one frame and go into one commit, whoever dies.
#[test]
fn a_stage_at_the_source_expands_and_routes_under_kills() -> anyhow::Result<()> {
    const COUNT: u64 = 3_000;
    let directory = workspace().join("target/plugins/tests");
    let plan = Plan::new("source-expanded")
        .setting(1, &format!("plugins.directory = {directory:?}"))
        .source_key("transforms", "obey")
        .source_key("transforms.obey.type", "hostile");
    let source = plan.source();
    source.create(1, &[])?;
    let elsewhere = elsewhere(&plan);
    elsewhere.create(1, &[])?;
    let line = plan.start()?;
    let word = |number: u64| match number % 10 {
        3 => "expand",
        6 => "rewrite",
        _ => "keep",
    };
    for part in 0..6 {
        let numbers = part * COUNT / 6..(part + 1) * COUNT / 6;
        let on_one = |number| Record {
            partition: 0,
            ..order(number, word(number))
        };
        write(&source, numbers.map(on_one))?;
        let victim = line.gateways()[(part % 3) as usize];
        victim.kill9()?;
        victim.launch()?;
    }
    let (kept, parts, routed) = (COUNT * 8 / 10, COUNT * 3 / 10, COUNT / 10);
    let arrived = line.arrived(kept + parts, DEADLINE)?;
    ensure!(arrived.len() as u64 == kept + parts, "{} arrived", arrived.len());
    let values = arrived
        .iter()
        .map(|record| record.value.as_deref().unwrap_or_default());
    let expected = (0..COUNT).flat_map(|number| match word(number) {
        "expand" => vec![&b"first"[..], b"second", b"third"],
        "rewrite" => Vec::new(),
        _ => vec![&b"keep"[..]],
    });
    ensure!(values.eq(expected), "the parts of a record stand in its place");
    let sent = wait_for(DEADLINE, "all records that were sent to another topic", || {
        elsewhere.read().ok().filter(|sent| sent.len() as u64 >= routed)
    })
    .with_context(|| line.statuses())?;
    ensure!(sent.len() as u64 == routed, "{} in the other topic", sent.len());
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

/// The transform that every template holds, between two clusters: orders below 0 become dead letters, the others are marked.
pub(crate) fn marks_orders_in_a_real_flow(
    directory: &Path,
    plugin: &str,
    language: &str,
) -> anyhow::Result<()> {
    const COUNT: u64 = 1_000;
    let name = format!("marked-{language}");
    let plan = Plan::new(&name)
        .setting(3, &format!("plugins.directory = {directory:?}"))
        .sink_key("transforms", "mark")
        .sink_key("transforms.mark.type", plugin)
        .sink_key("transforms.mark.culvert.memory.max", "256MiB")
        .sink_key("transforms.mark.culvert.time.max", "20s")
        .sink_key("errors.tolerance", "all")
        .sink_key("errors.deadletterqueue.topic.name", &dead_letters_of(&name));
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let is_refused = |number: &u64| number % 10 == 9;
    let amount = |number: u64| if is_refused(&number) { -1 } else { 1 };
    let orders = (0..COUNT).map(|number| {
        order(
            number,
            &format!("{{\"order\":{number},\"amount\":{}}}", amount(number)),
        )
    });
    write(&source, orders)?;
    let line = plan.start()?;
    let (refused, good): (Vec<u64>, Vec<u64>) = (0..COUNT).partition(is_refused);
    let arrived = line.arrived(good.len() as u64, DEADLINE)?;
    ensure!(
        in_order(&arrived)? == good,
        "{language}: {} arrived",
        arrived.len()
    );
    for record in &arrived {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        ensure!(
            value["checked"] == true && value["amount"] == 1,
            "{language}: {value}"
        );
    }
    let topic = dead_letters(&line.plan);
    let letters = wait_for(DEADLINE, "all dead letters", || {
        topic.read().ok().filter(|letters| letters.len() >= refused.len())
    })
    .with_context(|| line.statuses())?;
    ensure!(
        letters.len() == refused.len(),
        "{language}: {} dead letters",
        letters.len()
    );
    let told = |letter: &Record| header(letter, "culvert.code") == Some("negative-amount");
    ensure!(letters.iter().all(told), "{language}: {:?}", letters.first());
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}
