//! Every metric, declared once: the reference page and the exporter's help texts come from here.
//!
//! Names are `culvert_<noun>_<unit>[_total]` in base units (Prometheus, "Metric and label naming"). Labels are bound by
//! the configuration: routes, topics, connectors, peers; never partitions, keys or addresses. Counting is by batch, through a
//! handle that its owner keeps.

use super::Error;
use metrics::Label;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What is declared of a metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

impl Metric {
    fn key(&self, values: &[&str]) -> metrics::Key {
        debug_assert_eq!(
            values.len(),
            self.labels.len(),
            "{} has the labels {:?}",
            self.name,
            self.labels
        );
        let label = |(name, value): (&&'static str, &&str)| Label::new(*name, (*value).to_owned());
        metrics::Key::from_parts(
            self.name,
            self.labels.iter().zip(values).map(label).collect::<Vec<_>>(),
        )
    }
}

static METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new("culvert", metrics::Level::INFO, Some(module_path!()));

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Metric);

impl Counter {
    /// The counter for these label values, in the order of the declaration.
    pub fn with(&self, labels: &[&str]) -> metrics::Counter {
        metrics::with_recorder(|recorder| recorder.register_counter(&self.0.key(labels), &METADATA))
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge(Metric);

impl Gauge {
    /// The gauge for these label values, in the order of the declaration.
    pub fn with(&self, labels: &[&str]) -> metrics::Gauge {
        metrics::with_recorder(|recorder| recorder.register_gauge(&self.0.key(labels), &METADATA))
    }
}

/// A distribution of durations in seconds.
#[derive(Debug)]
pub struct Histogram(Metric);

impl Histogram {
    /// The histogram for these label values, in the order of the declaration.
    pub fn with(&self, labels: &[&str]) -> metrics::Histogram {
        metrics::with_recorder(|recorder| recorder.register_histogram(&self.0.key(labels), &METADATA))
    }
}

/// From half a millisecond, a flush of a good disk, to ten seconds, the longest commit; by eye, half a decade apart.
const SECONDS: [f64; 10] = [0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

macro_rules! declare {
    ($($constant:ident: $kind:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: $kind = $kind(Metric { name: $name, help: $help, labels: &[$($label),*] });
        )*

        /// Every metric with its kind, in the order of the declaration.
        pub const ALL: &[(&str, Metric)] = &[$((stringify!($kind), $constant.0)),*];
    };
}

declare! {
    BUILD_INFO: Gauge = "culvert_build_info" ["version"]
        "Always 1; the label tells the version that runs.";
    START_TIME: Gauge = "culvert_start_timestamp_seconds" []
        "When the process started, in Unix time.";
    TAKEN_IN_RECORDS: Counter = "culvert_taken_in_records_total" ["topic"]
        "Records that were taken in from a source and framed for the outbox.";
    OUTBOX_HELD_BYTES: Gauge = "culvert_outbox_held_bytes" []
        "Bytes of records that the outbox holds.";
    OUTBOX_QUOTA_BYTES: Gauge = "culvert_outbox_quota_bytes" []
        "Bytes of records that the outbox may hold; at the quota intake pauses.";
    OUTBOX_DISK_BYTES: Gauge = "culvert_outbox_disk_bytes" []
        "Bytes that the outbox takes on disk.";
    OUTBOX_MENDED: Counter = "culvert_outbox_mended_lanes_total" []
        "Lanes that were damaged when the outbox was opened, and were cut where something was missing.";
    OUTBOX_RUNWAY: Gauge = "culvert_outbox_runway_seconds" []
        "For how long records can be kept should none leave, at the rate of the last hour; +Inf where none comes in.";
    OUTBOX_FULL_IN: Gauge = "culvert_outbox_full_in_seconds" []
        "Until the outbox is full, at the growth of the last minutes; +Inf where it does not grow.";
    STREAMS_AT_QUOTA: Gauge = "culvert_streams_at_quota" ["connector"]
        "Streams that are read no further until some of what they hold is freed, because they are at `culvert.quota`.";
    QUOTA_USED: Gauge = "culvert_quota_used_ratio" ["connector"]
        "How much of `culvert.quota` the fullest stream of the connector uses, 1 at its quota.";
    LINK_UP: Gauge = "culvert_link_up" ["peer"]
        "1 while there is a live session with a gateway of the peer's site.";
    LINK_OVER_TCP: Gauge = "culvert_link_over_tcp" ["peer"]
        "1 while a session with a gateway of the peer's site goes over TCP, because UDP does not pass.";
    LINK_SENT_BYTES: Counter = "culvert_link_sent_bytes_total" []
        "Bytes of frames that were sent to peers.";
    LINK_RECEIVED_BYTES: Counter = "culvert_link_received_bytes_total" []
        "Bytes of frames that were received from peers.";
    DELIVERED_RECORDS: Counter = "culvert_delivered_records_total" ["route"]
        "Records that a sink has committed.";
    COMMIT_SECONDS: Histogram = "culvert_commit_seconds" ["route"]
        "How long a commit of a sink took.";
    BACKLOG_RECORDS: Gauge = "culvert_backlog_records" ["connector"]
        "Places of the connector's streams that are here and not applied.";
    STREAMS_HALTED: Gauge = "culvert_streams_halted" ["connector"]
        "Streams that stand still until an operator decides.";
    DEAD_LETTERS: Counter = "culvert_dead_letters_total" ["route"]
        "Records that a stage refused and that were written as dead letters. At a sink counted when written: a commit that fails counts again. Of a source the route is its site and name, and `#refused`.";
    STAGE_RECORDS: Counter = "culvert_stage_records_total" ["connector", "stage"]
        "Records that a stage was shown, also again after a fault.";
    STAGE_IN_BYTES: Counter = "culvert_stage_in_bytes_total" ["connector", "stage"]
        "Bytes of keys, values and headers that a stage was shown.";
    STAGE_OUT_BYTES: Counter = "culvert_stage_out_bytes_total" ["connector", "stage"]
        "Bytes that came back from a stage; what it keeps does not come back.";
    STAGE_CALLS: Counter = "culvert_stage_calls_total" ["connector", "stage"]
        "Calls of a stage's plugin.";
    STAGE_CPU: Gauge = "culvert_stage_cpu_seconds" ["connector", "stage"]
        "Processor time of a stage's calls since the start.";
    STAGE_MEMORY: Gauge = "culvert_stage_memory_peak_bytes" ["connector", "stage"]
        "The most memory an instance of a stage's plugin had.";
    STAGE_FAULTS: Counter = "culvert_stage_faults_total" ["connector", "stage", "fault"]
        "Calls that did not come back: `trap` (also a wrong answer), `timeout` or `memory`.";
    PLUGIN_COUNTED: Counter = "culvert_plugin_counted_total" ["connector", "stage", "name", "labels"]
        "A count of a plugin's own, under the `name` that it gave; `labels` are its own, as `a=b,c=d`.";
    PLUGIN_GAUGE: Gauge = "culvert_plugin_gauge" ["connector", "stage", "name", "labels"]
        "A gauge of a plugin's own, of the task that set it last.";
    PLUGIN_OBSERVED: Counter = "culvert_plugin_observed_total" ["connector", "stage", "name", "labels"]
        "How many values a plugin has observed under this name.";
    PLUGIN_OBSERVED_SUM: Gauge = "culvert_plugin_observed_sum" ["connector", "stage", "name", "labels"]
        "All values together that a plugin has observed under this name.";
    PLUGIN_LEFT_OUT: Counter = "culvert_plugin_figures_left_out_total" []
        "Figures of plugins above their limit of 100 names and 1,000 sets of labels for a stage of a task.";
    LOG_LINES: Counter = "culvert_log_lines_total" ["level"]
        "Log lines of the levels error and warn that were written.";
    LOG_SUPPRESSED: Counter = "culvert_log_suppressed_total" ["level"]
        "Log lines of the levels error and warn that were left out as repetitions.";
}

/// Starts collecting, for the whole process. The handle renders what was collected.
///
/// # Errors
/// [`Error::Twice`].
pub fn install() -> Result<PrometheusHandle, Error> {
    let mut builder = PrometheusBuilder::new();
    for (_, metric) in ALL.iter().filter(|(kind, _)| *kind == "Histogram") {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &SECONDS)
            .expect("the list of buckets is not empty");
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| Error::Twice("metrics"))?;
    describe();
    BUILD_INFO.with(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    START_TIME.with(&[]).set(now.as_secs_f64());
    Ok(handle)
}

fn describe() {
    metrics::with_recorder(|recorder| {
        for (kind, metric) in ALL {
            let (name, help) = (metric.name.into(), metric.help.into());
            match *kind {
                "Counter" => recorder.describe_counter(name, None, help),
                "Gauge" => recorder.describe_gauge(name, None, help),
                _ => recorder.describe_histogram(name, None, help),
            }
        }
    });
}

/// `docs/reference/metrics.md`. A test compares it with the file; `culvert config metrics` prints it.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from the program's own table by `culvert config metrics`; do not edit.\n\n\
         A running gateway answers `GET /metrics` at `telemetry.listen` in Prometheus' text format. A metric appears\n\
         once it has a value.\n\n| Name | Kind | Labels | |\n|---|---|---|---|\n",
    );
    for (kind, metric) in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        page += &format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            kind.to_lowercase(),
            labels.join(", "),
            metric.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for (kind, metric) in ALL {
            let name = metric.name;
            assert!(name.starts_with("culvert_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "Counter", "{name}");
            assert_eq!(
                ALL.iter().filter(|(_, other)| other.name == name).count(),
                1,
                "{name} is declared once"
            );
            assert!(metric.help.ends_with('.'), "{name}: the help is a sentence");
            assert!(
                *kind != "Histogram" || name.ends_with("_seconds"),
                "{name}: the buckets are for seconds"
            );
        }
    }

    #[test]
    fn what_is_counted_is_rendered_with_help_and_labels() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            DELIVERED_RECORDS.with(&["site3/orders"]).increment(3);
        });
        let text = handle.render();
        assert!(
            text.contains("culvert_delivered_records_total{route=\"site3/orders\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("# HELP culvert_delivered_records_total Records that a sink"),
            "{text}"
        );
    }
}
