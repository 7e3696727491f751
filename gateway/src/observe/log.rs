//! Log lines, on standard error: one line an event, for people or as JSON.
//!
//! - What comes from outside cannot forge a line or move a terminal: control characters are escaped.
//! - A line has an end: values are cut at [`VALUE_BYTES_MAX`], and what does not fit into [`LINE_BYTES_MAX`] is left out.
//! - What repeats is counted instead of written: of one place in the code, at most [`REPEATS_MAX`] warnings and errors
//!   are written in [`REPEATS_WINDOW`]; the next one tells how many were left out.

use super::Error;
use super::metrics::{LOG_LINES, LOG_SUPPRESSED};
use crate::config::LogFormat;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The longest value; the rest is left out.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// The longest line, roughly: no value is begun behind it.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// How often one place in the code may warn within [`REPEATS_WINDOW`]: a burst that names a few streams is wanted, a
/// line for each record of a broken link is not. By eye.
pub const REPEATS_MAX: u32 = 20;

/// See [`REPEATS_MAX`].
pub const REPEATS_WINDOW: Duration = Duration::from_secs(10);

/// Sends this process's log lines to standard error.
///
/// # Errors
/// [`Error::Filter`], [`Error::Twice`].
pub fn install(format: LogFormat, filter: &str, color: bool) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).map_err(|e| Error::Filter(e.to_string()))?;
    tracing_subscriber::registry()
        .with(layer(format, color, std::io::stderr).with_filter(filter))
        .try_init()
        .map_err(|_| Error::Twice("logging"))
}

fn layer<S, W>(format: LogFormat, color: bool, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = Lines {
        format,
        color: color && format == LogFormat::Text,
        repeats: Repeats::default(),
    };
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(lines)
        .with_writer(writer)
}

/// Writes events as lines.
struct Lines {
    format: LogFormat,
    color: bool,
    repeats: Repeats,
}

impl<S> FormatEvent<S, DefaultFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    DefaultFields: for<'a> FormatFields<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut suppressed = 0;
        if *metadata.level() <= Level::WARN {
            match self.repeats.admit(metadata.callsite(), Instant::now()) {
                Some(count) => suppressed = count,
                None => {
                    LOG_SUPPRESSED.with(&[name(metadata.level())]).increment(1);
                    return Ok(());
                }
            }
            LOG_LINES.with(&[name(metadata.level())]).increment(1);
        }
        let mut line = Line {
            fields: Map::new(),
            bytes: 0,
        };
        event.record(&mut line);
        if suppressed > 0 {
            line.fields.insert("suppressed".into(), suppressed.into());
        }
        let message = match line.fields.shift_remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let entry = Entry {
            time,
            message,
            spans: spans(context),
            fields: line.fields,
        };
        match self.format {
            LogFormat::Text => self.text(&mut writer, metadata, &entry),
            LogFormat::Json => json(&mut writer, metadata, entry),
        }
    }
}

struct Entry {
    time: String,
    message: String,
    spans: String,
    fields: Map<String, Value>,
}

impl Lines {
    fn text(&self, writer: &mut Writer<'_>, metadata: &tracing::Metadata<'_>, entry: &Entry) -> fmt::Result {
        let level = name(metadata.level());
        let color = match *metadata.level() {
            Level::ERROR => "1;31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "2",
        };
        write!(writer, "{} ", entry.time)?;
        if self.color {
            write!(writer, "\x1b[{color}m{level:>5}\x1b[0m ")?;
        } else {
            write!(writer, "{level:>5} ")?;
        }
        write!(
            writer,
            "{}: {}{}",
            metadata.target(),
            escape(&entry.spans),
            escape(&entry.message)
        )?;
        for (key, value) in &entry.fields {
            match value {
                Value::String(text) if is_word(text) => write!(writer, " {key}={text}")?,
                Value::String(text) => write!(writer, " {key}=\"{}\"", escape(text).replace('"', "\\\""))?,
                other => write!(writer, " {key}={other}")?,
            }
        }
        writeln!(writer)
    }
}

fn json(writer: &mut Writer<'_>, metadata: &tracing::Metadata<'_>, entry: Entry) -> fmt::Result {
    let mut object = Map::new();
    object.insert("timestamp".into(), entry.time.into());
    object.insert("level".into(), name(metadata.level()).into());
    object.insert("target".into(), metadata.target().into());
    object.insert("message".into(), entry.message.into());
    if !entry.spans.is_empty() {
        object.insert("spans".into(), entry.spans.trim_end_matches([':', ' ']).into());
    }
    object.insert("fields".into(), Value::Object(entry.fields));
    writeln!(writer, "{}", Value::Object(object))
}

/// The spans around the event, outermost first: `link{peer=gw2}: `.
fn spans<S>(context: &FmtContext<'_, S, DefaultFields>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut text = String::new();
    for span in context
        .event_scope()
        .into_iter()
        .flat_map(|scope| scope.from_root())
    {
        text.push_str(span.name());
        if let Some(fields) = span.extensions().get::<FormattedFields<DefaultFields>>()
            && !fields.is_empty()
        {
            let _ = write!(text, "{{{fields}}}");
        }
        text.push_str(": ");
    }
    cut(text)
}

/// The fields of one event, cut to size.
struct Line {
    fields: Map<String, Value>,
    bytes: usize,
}

impl Line {
    fn put(&mut self, field: &Field, value: Value) {
        if self.bytes > LINE_BYTES_MAX {
            self.fields.insert("cut".into(), true.into());
            return;
        }
        self.bytes += field.name().len() + value.as_str().map_or(8, str::len);
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Capped(String::new());
        // Capped stops the formatting when it is full; what is there then is the value.
        let _ = write!(text, "{value:?}");
        self.put(field, cut(text.0).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let end = value.floor_char_boundary(VALUE_BYTES_MAX + 1);
        self.put(field, cut(value[..end].to_owned()).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// A text that takes no more than a little over [`VALUE_BYTES_MAX`].
struct Capped(String);

impl Write for Capped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = (VALUE_BYTES_MAX + 1).saturating_sub(self.0.len());
        self.0.push_str(&part[..part.floor_char_boundary(room)]);
        if part.len() > room {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX));
        text.push('…');
    }
    text
}

/// Control characters as Rust spells them; everything else as it is.
fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "-_./:[](),@+…".contains(c))
}

fn name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// How often each place in the code spoke lately. There are as many as there are places: bounded by the program.
#[derive(Default)]
struct Repeats(Mutex<HashMap<Identifier, Window>>);

struct Window {
    began: Instant,
    written: u32,
    suppressed: u64,
}

impl Repeats {
    /// Whether a line from here may be written now; if so, how many were left out before it.
    fn admit(&self, place: Identifier, now: Instant) -> Option<u64> {
        let mut places = self.0.lock();
        let window = places.entry(place).or_insert(Window {
            began: now,
            written: 0,
            suppressed: 0,
        });
        if now.duration_since(window.began) >= REPEATS_WINDOW {
            (window.began, window.written) = (now, 0);
        }
        if window.written >= REPEATS_MAX {
            window.suppressed += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// A log that is kept in memory, for tests of those who log; the clones are one.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Written(std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Written {
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).expect("lines are text");
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: LogFormat, act: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, act);
        written.lines()
    }

    #[test]
    fn a_text_line_reads_well_and_cannot_be_forged() {
        let lines = lines(LogFormat::Text, || {
            let span = tracing::info_span!("link", peer = "gw2");
            let _inside = span.enter();
            let evil = "x\n2026-01-01 ERROR \x1b[2J \"y\"";
            tracing::info!(
                attempt = 3,
                ok = true,
                stream = "site1/orders/0",
                evil,
                "peer is away"
            );
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let expected = " INFO culvert::observe::log::tests: link{peer=\"gw2\"}: peer is away attempt=3 ok=true \
                        stream=site1/orders/0 evil=\"x\\n2026-01-01 ERROR \\u{1b}[2J \\\"y\\\"\"";
        assert!(lines[0].ends_with(expected), "{}", lines[0]);
    }

    #[test]
    fn a_json_line_is_an_object() {
        let lines = lines(LogFormat::Json, || {
            tracing::warn!(peer = "gw2", rtt = 0.5, "peer is \"slow\"\n");
        });
        let object: Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "peer is \"slow\"\n");
        assert_eq!(object["fields"], serde_json::json!({"peer": "gw2", "rtt": 0.5}));
    }

    #[test]
    fn a_line_has_an_end() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let long = "ä".repeat(100_000);
            let lines = lines(format, || {
                tracing::info!(a = ?long, b = long, c = ?long, d = long, e = long, f = long, "x");
            });
            assert!(
                lines[0].len() < LINE_BYTES_MAX + 3 * VALUE_BYTES_MAX,
                "{} bytes",
                lines[0].len()
            );
            assert!(lines[0].contains("cut"), "{}", lines[0].len());
        }
    }

    #[test]
    fn warnings_that_repeat_are_counted_instead() {
        let lines = lines(LogFormat::Text, || {
            (0..100).for_each(|n| tracing::warn!(n, "again"));
        });
        assert_eq!(lines.len(), REPEATS_MAX as usize);
        let lines = self::lines(LogFormat::Text, || {
            (0..100).for_each(|n| tracing::info!(n, "again"));
        });
        assert_eq!(lines.len(), 100, "information is asked for by its level");
    }

    #[test]
    fn the_next_window_tells_what_was_left_out() {
        let repeats = Repeats::default();
        let place = tracing::callsite!(name: "x", kind: tracing::metadata::Kind::EVENT, fields: n)
            .metadata_callsite();
        let start = Instant::now();
        let admitted = (0..50)
            .filter(|_| repeats.admit(place.clone(), start).is_some())
            .count();
        assert_eq!(admitted, REPEATS_MAX as usize);
        assert_eq!(repeats.admit(place.clone(), start + REPEATS_WINDOW), Some(30));
        assert_eq!(repeats.admit(place, start + REPEATS_WINDOW), Some(0));
    }

    trait MetadataCallsite {
        fn metadata_callsite(&'static self) -> Identifier;
    }

    impl<T: tracing::Callsite> MetadataCallsite for T {
        fn metadata_callsite(&'static self) -> Identifier {
            self.metadata().callsite()
        }
    }
}
