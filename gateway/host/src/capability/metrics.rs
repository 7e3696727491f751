//! A plugin's own figures.

use crate::bindings::capabilities::culvert::plugin::metrics;
use std::collections::BTreeMap;

/// The most sets of name and labels of one instance.
const SERIES_MAX: usize = 1_000;

/// What one instance has counted since it was last asked.
#[derive(Default)]
pub(crate) struct Figures {
    series: BTreeMap<(String, Vec<(String, String)>), Figure>,
    left_out: u64,
}

enum Figure {
    Count(u64),
    Gauge(f64),
    Observed { count: u64, sum: f64 },
}

impl Figures {
    fn with(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        fresh: Figure,
        change: impl FnOnce(&mut Figure),
    ) {
        let key = (name, labels);
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        change(self.series.entry(key).or_insert(fresh));
    }
}

impl metrics::Host for Figures {
    fn count(&mut self, name: String, by: u64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.with(name, labels, Figure::Count(0), |figure| {
            if let Figure::Count(count) = figure {
                *count = count.saturating_add(by);
            }
        });
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.with(name, labels, Figure::Gauge(value), |figure| {
            if let Figure::Gauge(held) = figure {
                *held = value;
            }
        });
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.with(name, labels, Figure::Observed { count: 0, sum: 0.0 }, |figure| {
            if let Figure::Observed { count, sum } = figure {
                *count += 1;
                *sum += value;
            }
        });
        Ok(())
    }
}
