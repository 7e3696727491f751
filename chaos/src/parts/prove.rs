//! Part `prove`: ten million records from a generator into SQLite, proven in bounded memory; then a lost and a doubled
//! record are planted, and the proof must name them.
//!
//! ```text
//! generator ─► gw1 ══► gw2 (relay) ══► gw3 ─► out.db
//! ```

use super::Orders;
use crate::record::Figures;
use crate::sample::{forget_peak, mib, peak, resident};
use crate::site::head;
use anyhow::{Context, ensure};
use culvert_tests::{Gateway, TestCa, ports, wait_for};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const PARTITIONS: u64 = 4;

/// How long all records may take to arrive: 3,000 a second, which is a host that does much else.
const ALL: Duration = Duration::from_secs(3_600);

/// A proof keeps blocks of digests and a window of records; whatever the count, no gateway grows by more.
const GROWTH_MAX: u64 = 128 << 20;

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let records = if orders.quick { 400_000 } else { 10_000_000 };
    let line = Line::start(records / PARTITIONS, orders.seed)?;
    let outcome = line.play(records);
    if outcome.is_err() {
        line.keep(orders)?;
    }
    outcome
}

/// Three gateways in a row.
struct Line {
    gateways: [Gateway; 3],
    /// Its files are read again at each start of a gateway.
    _ca: TestCa,
}

impl Line {
    fn start(count: u64, seed: u64) -> anyhow::Result<Line> {
        let ca = TestCa::new("prove")?;
        let tunnel: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_udp()).into();
        let relay = format!("[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\naddress = [\"{tunnel}\"]\n");
        let source = json!({"name": "made", "config": {
            "connector.class": "io.culvert.generator.GeneratorSource",
            "topic": "orders",
            "partitions": PARTITIONS.to_string(),
            "count": count.to_string(),
            "seed": seed.to_string(),
        }});
        let sink = json!({"name": "stored", "config": {
            "connector.class": "io.culvert.sqlite.SqliteSink",
            "topics": "orders",
            "culvert.from": "site1",
            "culvert.via": "site2",
            "sqlite.path": FILE,
        }});
        let first = format!(
            "{}{relay}[[grant]]\nto = \"site3\"\ntopics = [\"*\"]\nvia = [\"site2\"]\n",
            head(&ca, "sled", "gw1", "site1", None)?
        );
        let middle = format!(
            "{}[[peer]]\nsite = \"site1\"\ngateways = [\"gw1\"]\n[[peer]]\nsite = \"site3\"\ngateways = [\"gw3\"]\n\
             [[relay]]\nfrom = \"site1\"\nto = \"site3\"\n",
            head(&ca, "sled", "gw2", "site2", Some(tunnel))?
        );
        let last = format!("{}{relay}", head(&ca, "sled", "gw3", "site3", None)?);
        let gateways = [
            Gateway::prepare("gw1", &first, &[("made", &source.to_string())])?,
            Gateway::prepare("gw2", &middle, &[])?,
            Gateway::prepare("gw3", &last, &[("stored", &sink.to_string())])?,
        ];
        for gateway in &gateways {
            gateway.launch()?;
        }
        Ok(Line { gateways, _ca: ca })
    }

    fn play(&self, records: u64) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let started = Instant::now();
        wait_for(ALL, "all records to arrive", || {
            (self.sink().metric("culvert_delivered_records_total").ok()? >= records as f64).then_some(())
        })?;
        let took = started.elapsed().as_secs_f64();
        figures.add(
            "delivered",
            format!(
                "{records} records in {took:.0} s, {:.0} records/s",
                records as f64 / took
            ),
        );

        let proof = self.prove("proof", records, &mut figures)?;
        ensure!(
            proof.code == Some(0),
            "prove ended with {:?}: {}",
            proof.code,
            proof.report
        );
        ensure!(proof.report["verdict"] == "complete", "{}", proof.report);

        let [lost, doubled] = self.plant(records / PARTITIONS)?;
        let proof = self.prove("proof of what was planted", records, &mut figures)?;
        ensure!(
            proof.code == Some(1),
            "prove ended with {:?}: {}",
            proof.code,
            proof.report
        );
        ensure!(proof.report["verdict"] == "broken", "{}", proof.report);
        let named = [
            (1, vec![("missing", lost)]),
            (2, vec![("doubled", doubled), ("missing", doubled + 1)]),
        ];
        for (partition, expected) in named {
            let found = &proof.report["streams"][partition]["differences"];
            let shown = |(what, sequence): &(&str, u64)| json!({"what": what, "sequence": sequence});
            let expected: Vec<Value> = expected.iter().map(shown).collect();
            ensure!(
                *found == json!(expected),
                "partition {partition}: {found} and not {expected:?}"
            );
        }
        figures.add(
            "planted and named",
            format!("record {lost} of partition 1 lost; record {doubled} of partition 2 doubled in place of its next"),
        );

        let verified = Instant::now();
        let said = self
            .sink()
            .cli(&["verify", "--sqlite", FILE, "--expect", &records.to_string()])?;
        ensure!(said.status.code() == Some(1), "verify ended with {}", said.status);
        figures.add(
            "verify",
            format!("finds them too, in {:.1} s", verified.elapsed().as_secs_f64()),
        );
        Ok(figures)
    }

    fn sink(&self) -> &Gateway {
        &self.gateways[2]
    }

    /// Proves, and notes what it took.
    fn prove(&self, name: &'static str, records: u64, figures: &mut Figures) -> anyhow::Result<Proof> {
        let mut before = Vec::new();
        for gateway in &self.gateways {
            before.push(resident(gateway)?);
            forget_peak(gateway)?;
        }
        let started = Instant::now();
        let said = self.sink().cli(&["prove", "--output", "json"])?;
        let took = started.elapsed().as_secs_f64();
        let mut peaks = Vec::new();
        for (gateway, before) in self.gateways.iter().zip(before) {
            let peak = peak(gateway)?;
            ensure!(
                peak <= before + GROWTH_MAX,
                "a gateway grew from {} to {} while proving",
                mib(before),
                mib(peak)
            );
            peaks.push(format!("{} of {} before", mib(peak), mib(before)));
        }
        figures.add(
            name,
            format!(
                "{took:.1} s, {:.0} records/s, memory at most {}",
                records as f64 / took,
                peaks.join(", ")
            ),
        );
        let report = serde_json::from_slice(&said.stdout)
            .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
        Ok(Proof {
            code: said.status.code(),
            report,
        })
    }

    /// Takes a record of partition 1 away, and writes one of partition 2 over the next: two rows of one sequence cannot
    /// be in the table. Answers their sequences.
    fn plant(&self, count: u64) -> anyhow::Result<[u64; 2]> {
        let (lost, doubled) = (count / 5, count / 2);
        let file = Connection::open(self.sink().directory().join(FILE))?;
        file.busy_timeout(Duration::from_secs(60))?;
        let stream = "(SELECT stream FROM culvert_position WHERE partition = ?1)";
        let deleted = file.execute(
            &format!("DELETE FROM orders WHERE stream = {stream} AND sequence = ?2"),
            (1, i64::try_from(lost)?),
        )?;
        let overwritten = file.execute(
            &format!(
                "UPDATE orders SET (key, value, headers) = (SELECT key, value, headers FROM orders
                 WHERE stream = {stream} AND sequence = ?2) WHERE stream = {stream} AND sequence = ?2 + 1"
            ),
            (2, i64::try_from(doubled)?),
        )?;
        ensure!((deleted, overwritten) == (1, 1), "the rows are there");
        Ok([lost, doubled])
    }

    /// Copies the logs where they outlive the line.
    fn keep(&self, orders: &Orders) -> anyhow::Result<()> {
        let folder = orders.keep.join(format!("prove-{}", orders.seed));
        fs::create_dir_all(&folder)?;
        for (number, gateway) in (1..).zip(&self.gateways) {
            fs::copy(
                gateway.directory().join("culvert.log"),
                folder.join(format!("gw{number}-culvert.log")),
            )?;
        }
        Ok(())
    }
}

/// The file that the sink writes.
const FILE: &str = "out.db";

/// What `culvert prove` said, and how it ended.
struct Proof {
    code: Option<i32>,
    report: Value,
}
