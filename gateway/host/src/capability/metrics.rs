//! A plugin's own figures, over all instances of a stage: counts go on where an instance that failed left them.

use crate::bindings::capabilities::culvert::plugin::metrics;
use crate::guest::Meter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most sets of name and labels.
const SERIES_MAX: usize = 1_000;

/// The most names.
const NAMES_MAX: usize = 100;

/// The longest name, name of a label and value of one, in bytes. By eye: a series is kept for as long as its stage.
const TEXT_BYTES_MAX: usize = 128;

/// The most labels of one figure.
const LABELS_MAX: usize = 10;

/// Names and values of labels, as the plugin gave them.
pub type Labels = Vec<(String, String)>;

/// All figures of a stage.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    series: BTreeMap<(String, Labels), Figure>,
    left_out: u64,
}

/// What a plugin has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Only grows.
    Count(u64),
    /// The last value.
    Gauge(f64),
    /// Values that were observed.
    Observed {
        /// How many.
        count: u64,
        /// All of them together.
        sum: f64,
    },
}

impl Figures {
    /// All of them, and how many calls were above a limit.
    pub(crate) fn read(&self) -> (Vec<(String, Labels, Figure)>, u64) {
        let one =
            |((name, labels), figure): (&(String, Labels), &Figure)| (name.clone(), labels.clone(), *figure);
        (self.series.iter().map(one).collect(), self.left_out)
    }

    fn with(&mut self, name: String, labels: Labels, fresh: Figure, change: impl FnOnce(&mut Figure)) {
        let key = (name, labels);
        if !self.series.contains_key(&key) && !self.has_room(&key.0, &key.1) {
            self.left_out += 1;
            return;
        }
        change(self.series.entry(key).or_insert(fresh));
    }

    fn has_room(&self, name: &str, labels: &Labels) -> bool {
        let is_short = |text: &str| text.len() <= TEXT_BYTES_MAX;
        let names: BTreeSet<&str> = self.series.keys().map(|(name, _)| name.as_str()).collect();
        self.series.len() < SERIES_MAX
            && (names.len() < NAMES_MAX || names.contains(name))
            && is_short(name)
            && labels.len() <= LABELS_MAX
            && labels
                .iter()
                .all(|(name, value)| is_short(name) && is_short(value))
    }
}

/// Where an instance counts.
pub(crate) struct Counted(pub(crate) Arc<Meter>);

impl metrics::Host for Counted {
    fn count(&mut self, name: String, by: u64, labels: Labels) -> wasmtime::Result<()> {
        self.0
            .figures
            .lock()
            .with(name, labels, Figure::Count(0), |figure| {
                if let Figure::Count(count) = figure {
                    *count = count.saturating_add(by);
                }
            });
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64, labels: Labels) -> wasmtime::Result<()> {
        self.0
            .figures
            .lock()
            .with(name, labels, Figure::Gauge(value), |figure| {
                if let Figure::Gauge(held) = figure {
                    *held = value;
                }
            });
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64, labels: Labels) -> wasmtime::Result<()> {
        let fresh = Figure::Observed { count: 0, sum: 0.0 };
        self.0.figures.lock().with(name, labels, fresh, |figure| {
            if let Figure::Observed { count, sum } = figure {
                *count += 1;
                *sum += value;
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(figures: &mut Figures, name: &str, label: &str) {
        let labels = vec![("of".to_owned(), label.to_owned())];
        figures.with(name.into(), labels, Figure::Count(0), |figure| {
            if let Figure::Count(count) = figure {
                *count += 1;
            }
        });
    }

    #[test]
    fn names_and_labels_have_limits_and_what_is_above_is_counted() {
        let mut figures = Figures::default();
        for n in 0..NAMES_MAX + 5 {
            count(&mut figures, &n.to_string(), "x");
        }
        assert_eq!((figures.series.len(), figures.left_out), (NAMES_MAX, 5));
        for n in 0..SERIES_MAX {
            count(&mut figures, "0", &n.to_string());
        }
        assert_eq!(
            (figures.series.len(), figures.left_out),
            (SERIES_MAX, 5 + NAMES_MAX as u64)
        );
        count(&mut figures, "0", "x");
        let (read, _) = figures.read();
        let known = read
            .iter()
            .find(|(name, labels, _)| name == "0" && labels[0].1 == "x");
        assert_eq!(known.map(|(_, _, figure)| *figure), Some(Figure::Count(2)));
        count(&mut Figures::default(), &"x".repeat(TEXT_BYTES_MAX + 1), "x");
    }
}
