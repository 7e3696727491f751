//! `http-poll` and `http-sink` in two gateways, and a server that fails in every way that servers do: nothing is lost, and a
//! server that honours the key of a request applies each record once (S2, S8, S10).

use crate::faults::Kills;
use crate::line::CUTS;
use crate::pair::Pair;
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Scratch, WebAnswer, WebRequest, WebServer, wait_for};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number.
const KILLS: usize = 8;

/// What gateways warn of besides: the server is away, or says that it is not able.
const TROUBLE: &[&str] = &[CUTS[0], CUTS[1], CUTS[2], "source cannot now, trying again"];

fn given(status: u16, body: String) -> WebAnswer {
    WebAnswer::Given(status, Vec::new(), body)
}

// ----- a source ------------------------------------------------------------------------------------------------------

/// Items of one answer.
const ITEMS: u64 = 50;

/// Answers with the items behind the cursor, and fails one time in four.
fn api(count: u64, seed: u64) -> impl FnMut(&WebRequest) -> WebAnswer {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    move |request| match dice.random_range(0..40) {
        0..3 => given(500, "out of order".into()),
        3..5 => WebAnswer::Given(429, vec![("Retry-After", "0".into())], String::new()),
        5..8 => WebAnswer::Nothing,
        // The plugin waits for 300 ms.
        8 => WebAnswer::Late(Duration::from_millis(600), 200),
        // Cut off in the middle.
        9 => given(503, "{\"items\": [".into()),
        _ => {
            let from: u64 = request
                .parameter("since")
                .map_or(0, |since| since.parse().unwrap_or(0));
            let to = (from + ITEMS).min(count);
            let items: Vec<Value> = (from..to).map(|number| json!({ "number": number })).collect();
            given(200, json!({ "items": items, "next": to }).to_string())
        }
    }
}

/// The numbers in the file of `file-sink`, in order.
fn numbers(out: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let number = |line: &str| serde_json::from_str::<Value>(line).ok()?["number"].as_u64();
    text.lines().filter_map(number).collect()
}

#[test]
fn an_address_that_fails_and_goes_away_is_polled_to_its_end_under_kills() -> anyhow::Result<()> {
    let mut kills = Kills::new("http-poll", KILLS)?;
    let count = (kills.count as u64 + 2) * 40 * ITEMS;
    let server = WebServer::start(api(count, kills.seed))?;
    let scratch = Scratch::new("http-poll")?;
    let out = scratch.path().join("out.jsonl");
    let source = json!({
        "connector.class": "http-poll", "url": server.url("/items"), "topic": "items", "interval": "50ms",
        "records": "/items", "key": "/number", "cursor.pointer": "/next", "cursor.parameter": "since",
        "timeout": "300ms",
    });
    let sink = json!({ "connector.class": "file-sink", "file": out, "topics": "items" });
    let started = Instant::now();
    let pair = Pair::start("http-poll", &[source], &sink)?;
    let arrived = || numbers(&out).len() as u64;
    let victims = [&pair.first, &pair.first, &pair.last];
    kills
        .carry_out(&victims, count, arrived)
        .with_context(|| pair.account())?;
    server.go_away();
    wait_for(DEADLINE, "the source to say that its address is away", || {
        let source = pair.source().ok()?;
        (source["fault"]["code"] == "CULVERT-F040").then_some(())
    })
    .with_context(|| pair.account())?;
    server.come_back();
    wait_for(DEADLINE, "all items in the file", || {
        (arrived() >= count).then_some(())
    })
    .with_context(|| pair.account())?;
    let numbers = numbers(&out);
    let wrong = numbers.iter().zip(0..).find(|(number, wanted)| *number != wanted);
    ensure!(
        wrong.is_none() && numbers.len() as u64 == count,
        "{count} items, {} arrived; the first that is wrong: {wrong:?} (seed {})",
        numbers.len(),
        kills.seed
    );
    pair.assert_no_unlisted_alarms(TROUBLE);
    figure(&format!(
        "http-poll: {} kills and an outage in {:.0} s, a fault in every fourth answer, {count} items once and in order (seed {})",
        kills.count,
        started.elapsed().as_secs_f64(),
        kills.seed
    ));
    Ok(())
}

// ----- a sink --------------------------------------------------------------------------------------------------------

/// What a webhook has applied: of each stream, places and numbers in the order in which they were applied first.
#[derive(Default)]
struct Applied {
    bodies: BTreeMap<String, String>,
    streams: BTreeMap<String, Vec<(u64, u64)>>,
    /// Requests whose key was known.
    again: u64,
    /// Requests whose key came with another body than before.
    changed: u64,
}

impl Applied {
    /// As a server does that honours the key.
    fn apply(&mut self, request: &WebRequest) {
        let key = request.header("idempotency-key").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if let Some(known) = self.bodies.get(&key) {
            self.again += 1;
            self.changed += u64::from(*known != body);
            return;
        }
        let number = serde_json::from_str::<Value>(&body)
            .ok()
            .and_then(|value| value["number"].as_u64());
        if let (Some((stream, place)), Some(number)) = (key.rsplit_once('/'), number)
            && let Ok(place) = place.parse()
        {
            let applied = self.streams.entry(stream.to_owned()).or_default();
            applied.push((place, number));
        }
        self.bodies.insert(key, body);
    }

    /// Every number below `count` once, and of each stream every place once, in order.
    fn judge(&self, count: u64) -> anyhow::Result<()> {
        let mut numbers = Vec::new();
        for (stream, applied) in &self.streams {
            ensure!(
                applied
                    .iter()
                    .map(|(place, _)| *place)
                    .eq(0..applied.len() as u64),
                "{stream}: places are {applied:?}"
            );
            ensure!(
                applied.is_sorted_by(|one, other| one.1 < other.1),
                "{stream}: out of order: {applied:?}"
            );
            numbers.extend(applied.iter().map(|(_, number)| *number));
        }
        numbers.sort_unstable();
        ensure!(
            numbers.iter().copied().eq(0..count) && self.bodies.len() as u64 == count,
            "{} numbers applied of {count}, under {} keys",
            numbers.len(),
            self.bodies.len()
        );
        ensure!(self.changed == 0, "{} keys came with another body", self.changed);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Applied>>);

impl Webhook {
    fn lock(&self) -> std::sync::MutexGuard<'_, Applied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> u64 {
        self.lock().bodies.len() as u64
    }

    /// A pair whose source is `ledger`, which counts to `count`.
    fn pair(&self, name: &str, url: &str, count: u64, more: &[(&str, &str)]) -> anyhow::Result<Pair> {
        let topics = [0, 1, 2].map(|number| format!("{name}-{number}")).join(",");
        let source = json!({
            "connector.class": "ledger", "topics": topics, "count": count.to_string(), "page": "20", "pause": "20ms",
            "culvert.grant.state": "true",
        });
        let mut sink = json!({ "connector.class": "http-sink", "topics": topics, "url": url });
        for (key, value) in more {
            sink[*key] = json!(value);
        }
        Pair::start(name, &[source], &sink)
    }

    fn wait(&self, pair: &Pair, count: u64) -> anyhow::Result<()> {
        wait_for(DEADLINE, "all records at the webhook", || {
            (self.applied() >= count).then_some(())
        })
        .with_context(|| pair.account())
    }
}

#[test]
fn a_webhook_that_honours_the_key_applies_each_record_once_under_kills() -> anyhow::Result<()> {
    let mut kills = Kills::new("http-sink", KILLS)?;
    let count = (kills.count as u64 + 2) * 200;
    let hook = Webhook::default();
    let (heard, mut dice) = (hook.clone(), ChaCha8Rng::seed_from_u64(kills.seed));
    let server = WebServer::start(move |request| {
        let mut applied = heard.lock();
        match dice.random_range(0..100) {
            0..3 => given(503, "not now".into()),
            3 => WebAnswer::Given(429, vec![("Retry-After", "0".into())], String::new()),
            // It does what it was asked for, and nobody hears of it.
            4..6 => {
                applied.apply(request);
                WebAnswer::Nothing
            }
            // And the same, with an answer that comes too late.
            6 => {
                applied.apply(request);
                WebAnswer::Late(Duration::from_millis(500), 200)
            }
            7 => WebAnswer::Nothing,
            _ => {
                applied.apply(request);
                given(201, String::new())
            }
        }
    })?;
    let started = Instant::now();
    let pair = hook.pair("http-sink", &server.url("/hook"), count, &[("timeout", "200ms")])?;
    let victims = [&pair.first, &pair.last, &pair.last];
    kills
        .carry_out(&victims, count, || hook.applied())
        .with_context(|| pair.account())?;
    server.go_away();
    wait_for(DEADLINE, "the sink to say that its address is away", || {
        let sink = pair.sink().ok()?;
        (sink["fault"]["code"] == "CULVERT-F040").then_some(())
    })
    .with_context(|| pair.account())?;
    server.come_back();
    hook.wait(&pair, count)?;
    hook.lock()
        .judge(count)
        .with_context(|| format!("seed {}", kills.seed))?;
    let again = hook.lock().again;
    ensure!(
        again > 0,
        "nothing was sent twice: the faults of the server hit nothing"
    );
    let sink = pair.sink()?;
    ensure!(sink["guarantee"] == "at-least-once-idempotent", "{sink}");
    pair.assert_no_unlisted_alarms(TROUBLE);
    figure(&format!(
        "http-sink: {} kills and an outage in {:.0} s, {count} records in 3 streams, {again} sent again, each applied once and \
         in order (seed {})",
        kills.count,
        started.elapsed().as_secs_f64(),
        kills.seed
    ));
    Ok(())
}

/// What one commit holds takes the server longer than a call may take, and then it has enough for a while: what it took
/// counts, and nothing of it is sent from the beginning again.
#[test]
fn a_webhook_that_takes_a_little_at_a_time_gets_all_of_a_backlog() -> anyhow::Result<()> {
    const COUNT: u64 = 1_200;
    /// Taken before it has enough.
    const AT_ONCE: u64 = 100;
    let hook = Webhook::default();
    let (heard, mut asked) = (hook.clone(), 0);
    let server = WebServer::start(move |request| {
        asked += 1;
        if asked % (AT_ONCE + 1) == 0 {
            return given(429, String::new());
        }
        std::thread::sleep(Duration::from_millis(4));
        heard.lock().apply(request);
        given(200, String::new())
    })?;
    // All of it waits, for one commit.
    server.go_away();
    let more = [("culvert.time.max", "1s"), ("timeout", "900ms")];
    let pair = hook.pair("http-slow", &server.url("/hook"), COUNT, &more)?;
    wait_for(DEADLINE, "all records at the sink's gateway", || {
        (pair.first.metric("culvert_taken_in_records_total").ok()? >= COUNT as f64).then_some(())
    })
    .with_context(|| pair.account())?;
    // The commit that fails now holds only what came first: the next writer takes all.
    pair.last.restart()?;
    server.come_back();
    hook.wait(&pair, COUNT)?;
    let applied = hook.lock();
    applied.judge(COUNT)?;
    ensure!(
        applied.again < COUNT / 10,
        "{} of {COUNT} records were sent again",
        applied.again
    );
    drop(applied);
    wait_for(DEADLINE, "positions to move", || {
        let sink = pair.sink().ok()?;
        (sink["state"] == "running").then_some(())
    })
    .with_context(|| pair.account())?;
    pair.assert_no_unlisted_alarms(TROUBLE);
    Ok(())
}

/// What the server refuses for good stops its stream in front of it, and others go on (L3).
#[test]
fn a_record_that_a_webhook_refuses_stops_its_stream_and_no_other() -> anyhow::Result<()> {
    const COUNT: u64 = 300;
    let hook = Webhook::default();
    let heard = hook.clone();
    let server = WebServer::start(move |request| {
        if request.body.starts_with(b"{\"number\":100,") {
            return given(422, "no such article".into());
        }
        heard.lock().apply(request);
        given(200, String::new())
    })?;
    let pair = hook.pair("http-refused", &server.url("/hook"), COUNT, &[])?;
    let fault = wait_for(DEADLINE, "the stream to stand", || {
        let sink = pair.sink().ok()?;
        let streams = sink["streams"].as_array()?.iter();
        let mut halted = streams.filter(|stream| stream["fault"]["code"] == "CULVERT-F012");
        halted.next().cloned()
    })
    .with_context(|| pair.account())?
    .to_string();
    // Number 100 is place 33 of the second topic.
    ensure!(
        fault.contains("http-refused-1") && fault.contains("record 33 ") && fault.contains("no such article"),
        "{fault}"
    );
    wait_for(DEADLINE, "all records of the other streams", || {
        let applied = hook.lock();
        let whole = applied
            .streams
            .values()
            .filter(|places| places.len() as u64 == COUNT / 3);
        (whole.count() == 2).then_some(())
    })
    .with_context(|| pair.account())?;
    Ok(())
}
