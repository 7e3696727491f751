//! The settings of `io.culvert.sqlite.SqliteSink`.

use crate::connector::Mistake;
use crate::connector::settings::Settings;
use culvert_proto::StreamId;
use culvert_proto::message::TopicFilter;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A checked configuration of a SQLite sink.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The connector's name, which is what the file knows its route by.
    pub name: Arc<str>,
    /// `topics` or `topics.regex`: what it reads.
    pub topics: TopicFilter,
    /// `sqlite.path`: the file, made when it is not there. A relative path is one below `culvert.toml`'s directory.
    pub path: PathBuf,
    /// `sqlite.table`: which table a stream's records go to. Default `${topic}`.
    pub table: TablePattern,
    /// `sqlite.busy.timeout.ms`: how long to wait for another program's lock before the batch is tried again later.
    /// Default 5000.
    pub busy_wait: Duration,
}

impl SqliteConfig {
    /// Checks the settings of the connector `name`.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn from_map(name: &str, map: &BTreeMap<String, String>) -> Result<SqliteConfig, Vec<Mistake>> {
        let mut settings = Settings::new(map);
        let topics = settings.topics();
        let path = settings.required("sqlite.path", "/var/lib/culvert/orders.db");
        let table = settings.text("sqlite.table").unwrap_or("${topic}");
        let table = TablePattern::parse(table).map_err(|(problem, hint)| {
            settings.mistake("sqlite.table", problem, Some(hint));
        });
        let valid = "a number of milliseconds up to 600000";
        let busy_ms = settings.parsed("sqlite.busy.timeout.ms", valid, |wait: &u64| *wait <= 600_000);
        settings.one_task("a SQLite file has one writer at a time");
        match (settings.finish(), topics, path, table) {
            (mistakes, Some(topics), Some(path), Ok(table)) if mistakes.is_empty() => Ok(SqliteConfig {
                name: name.into(),
                topics,
                path: path.into(),
                table,
                busy_wait: Duration::from_millis(busy_ms.unwrap_or(5_000)),
            }),
            (mistakes, ..) => Err(mistakes),
        }
    }
}

impl SqliteConfig {
    /// The same, with a relative path taken below `base`.
    #[must_use]
    pub fn below(mut self, base: &std::path::Path) -> SqliteConfig {
        self.path = base.join(self.path);
        self
    }
}

/// A table's name with places for what a stream is called: `${topic}`, `${site}`, `${partition}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Site,
    Partition,
}

impl TablePattern {
    /// Reads a pattern; the error is the problem and a hint.
    pub(super) fn parse(pattern: &str) -> Result<TablePattern, (String, String)> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some((text, behind)) = rest.split_once("${") {
            let (name, behind) = behind.split_once('}').ok_or_else(|| {
                (
                    "has a ${ without its }".to_owned(),
                    "for example ${topic}".to_owned(),
                )
            })?;
            pieces.push(Piece::Text(text.to_owned()));
            pieces.push(match name {
                "topic" => Piece::Topic,
                "site" => Piece::Site,
                "partition" => Piece::Partition,
                other => {
                    let hint = "valid is ${topic}, ${site}, ${partition}".to_owned();
                    return Err((format!("names ${{{other}}}"), hint));
                }
            });
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(TablePattern(pieces))
    }

    /// The table for `stream`.
    #[must_use]
    pub fn table(&self, stream: &StreamId) -> String {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Topic => name.push_str(&stream.topic),
                Piece::Site => name.push_str(&stream.site),
                Piece::Partition => name.push_str(&stream.partition.to_string()),
            }
        }
        name
    }
}
