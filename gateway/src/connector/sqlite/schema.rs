//! The tables, and how a position, an identity and a record stand in their rows.

use super::error::Error;
use culvert_proto::digest::Digest;
use culvert_proto::hex::{bytes_of, hex};
use culvert_proto::record::Headers;
use culvert_proto::wire;
use culvert_proto::{Guard, Lineage, Position, Sequence, StreamId};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// The layout below. A file with a higher one was written by a newer program and is left alone.
pub(super) const VERSION: i64 = 1;

/// `stream` is the small number that stands for (route, identity, incarnation) in the tables of records. An
/// incarnation has a row of its own: after a reset the same sequences are other records.
const LAYOUT: &str = "
    CREATE TABLE culvert_schema (version INTEGER NOT NULL);
    INSERT INTO culvert_schema VALUES (1);
    CREATE TABLE culvert_route (route TEXT PRIMARY KEY NOT NULL, writer BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE culvert_position (
        stream INTEGER PRIMARY KEY,
        route TEXT NOT NULL REFERENCES culvert_route,
        site TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        lineage TEXT NOT NULL,
        incarnation INTEGER NOT NULL,
        table_name TEXT NOT NULL,
        start INTEGER NOT NULL,
        at INTEGER NOT NULL,
        guard_epoch INTEGER NOT NULL,
        guard_crc INTEGER NOT NULL,
        count INTEGER NOT NULL,
        digest_order BLOB NOT NULL,
        digest_set BLOB NOT NULL,
        resume_point BLOB NOT NULL,
        UNIQUE (route, site, topic, partition, lineage, incarnation)
    );";

/// Makes the tables, or checks that they are those of this program. Inside the caller's transaction.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<(), Error> {
    let sql = |cause: rusqlite::Error| Error::of(path, "prepare its tables", &cause);
    match version(connection).map_err(sql)? {
        None => connection.execute_batch(LAYOUT).map_err(sql),
        Some(VERSION) => Ok(()),
        Some(found) => Err(Error::Version {
            path: path.to_owned(),
            found,
        }),
    }
}

/// The version of the layout; none where nothing of ours is in the file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let known = connection
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'culvert_schema'")?
        .exists(())?;
    if !known {
        return Ok(None);
    }
    // Two rows, or none, are not ours either: they read as a version nobody knows.
    let versions: (i64, i64) = connection.query_row(
        "SELECT count(*), coalesce(max(version), 0) FROM culvert_schema",
        (),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(Some(if versions.0 == 1 { versions.1 } else { -1 }))
}

const COLUMNS: [&str; 7] = [
    "stream",
    "partition",
    "sequence",
    "timestamp",
    "key",
    "value",
    "headers",
];

/// Makes the table of records `table`, or checks that it is one. Inside the caller's transaction.
pub(super) fn prepare_table(connection: &Connection, path: &Path, table: &str) -> Result<(), Error> {
    let refuse = |why: &str| Error::Table {
        path: path.to_owned(),
        table: table.to_owned(),
        why: why.to_owned(),
    };
    let lower = table.to_ascii_lowercase();
    if table.is_empty() || table.contains('\0') {
        return Err(refuse("that is no name"));
    }
    if lower.starts_with("sqlite_") || lower.starts_with("culvert_") {
        return Err(refuse("names that begin with sqlite_ and culvert_ are taken"));
    }
    let sql = |cause: rusqlite::Error| Error::of(path, "prepare a table of records", &cause);
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {} (
                stream INTEGER NOT NULL REFERENCES culvert_position,
                partition INTEGER NOT NULL,
                sequence INTEGER NOT NULL,
                timestamp INTEGER,
                key BLOB,
                value BLOB,
                headers BLOB,
                PRIMARY KEY (stream, sequence)
            ) WITHOUT ROWID",
            quoted(table)
        ))
        .map_err(sql)?;
    let mut columns = connection
        .prepare_cached("SELECT name FROM pragma_table_info(?) ORDER BY cid")
        .map_err(sql)?;
    let columns: Vec<String> = columns
        .query_map([table], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(sql)?;
    if columns != COLUMNS {
        return Err(refuse("it is there already, with other columns"));
    }
    Ok(())
}

/// Records that a stage refused, as they came, with the stage's reason.
const DEAD_LETTERS: &str = "
    CREATE TABLE IF NOT EXISTS culvert_dead_letter (
        stream INTEGER NOT NULL REFERENCES culvert_position,
        partition INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        timestamp INTEGER,
        key BLOB,
        value BLOB,
        headers BLOB,
        stage TEXT NOT NULL,
        code TEXT NOT NULL,
        reason TEXT NOT NULL,
        field TEXT,
        PRIMARY KEY (stream, sequence)
    ) WITHOUT ROWID";

pub(super) const INSERT_DEAD_LETTER: &str = "INSERT INTO culvert_dead_letter
    (stream, partition, sequence, timestamp, key, value, headers, stage, code, reason, field)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Makes the table of dead letters, at the first of them. Inside the caller's transaction.
pub(super) fn prepare_dead_letters(connection: &Connection, path: &Path) -> Result<(), Error> {
    let sql = |cause: rusqlite::Error| Error::of(path, "prepare the table of dead letters", &cause);
    connection.execute_batch(DEAD_LETTERS).map_err(sql)
}

pub(super) fn insert_record(table: &str) -> String {
    format!(
        "INSERT INTO {} ({}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        quoted(table),
        COLUMNS.join(", ")
    )
}

pub(super) fn select_records(table: &str) -> String {
    format!(
        "SELECT sequence, timestamp, key, value, headers FROM {} WHERE stream = ? AND sequence >= ? AND sequence < ?
         ORDER BY sequence",
        quoted(table)
    )
}

/// Records and dead letters of a stream together: each place that the sink did not pass over holds one of them.
pub(super) fn select_records_and_letters(table: &str) -> String {
    const COLUMNS: &str = "sequence, timestamp, key, value, headers";
    const PLACES: &str = "WHERE stream = ?1 AND sequence >= ?2 AND sequence < ?3";
    format!(
        "SELECT {COLUMNS} FROM {} {PLACES} UNION ALL SELECT {COLUMNS} FROM culvert_dead_letter {PLACES} ORDER BY sequence",
        quoted(table)
    )
}

fn quoted(table: &str) -> String {
    format!("\"{}\"", table.replace('"', "\"\""))
}

/// A stream of one route as `culvert_position` holds it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The small number that stands for it in the tables of records.
    pub(super) number: i64,
    pub(super) route: String,
    pub(super) stream: StreamId,
    pub(super) table: String,
    pub(super) position: Position,
}

pub(super) const SELECT_POSITIONS: &str = "SELECT stream, route, site, topic, partition, lineage, incarnation,
    table_name, start, at, guard_epoch, guard_crc, count, digest_order, digest_set, resume_point FROM culvert_position";

impl Stored {
    /// From a row of [`SELECT_POSITIONS`].
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
        let lineage: String = row.get("lineage")?;
        let lineage = parse_lineage(&lineage).ok_or_else(|| {
            let cause = format!("lineage {lineage:?} is none that this program writes");
            rusqlite::Error::FromSqlConversionFailure(5, Type::Text, cause.into())
        })?;
        let stream = StreamId {
            site: row.get::<_, String>("site")?.into(),
            topic: row.get::<_, String>("topic")?.into(),
            partition: row.get("partition")?,
            lineage,
        };
        let position = Position {
            incarnation: row.get("incarnation")?,
            start: sequence(row, "start")?,
            at: sequence(row, "at")?,
            guard: Guard {
                epoch: row.get("guard_epoch")?,
                crc: row.get("guard_crc")?,
            },
            digest: Digest::from_parts(
                sequence(row, "count")?.0,
                u128::from_be_bytes(row.get("digest_order")?),
                u128::from_be_bytes(row.get("digest_set")?),
            ),
            resume_point: row.get("resume_point")?,
        };
        Ok(Stored {
            number: row.get("stream")?,
            route: row.get("route")?,
            stream,
            table: row.get("table_name")?,
            position,
        })
    }

    /// Makes its row, and takes its number from there. `None` when a row with this identity is there already.
    pub(super) fn insert(&mut self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        let Position {
            incarnation,
            start,
            at,
            guard,
            digest,
            resume_point,
        } = &self.position;
        let number = connection
            .prepare_cached(
                "INSERT INTO culvert_position (route, site, topic, partition, lineage, incarnation, table_name, start,
                    at, guard_epoch, guard_crc, count, digest_order, digest_set, resume_point)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING stream",
            )?
            .query_row(
                params![
                    self.route,
                    self.stream.site,
                    self.stream.topic,
                    self.stream.partition,
                    lineage_text(&self.stream.lineage),
                    incarnation,
                    self.table,
                    start.0.cast_signed(),
                    at.0.cast_signed(),
                    guard.epoch,
                    guard.crc,
                    digest.count.cast_signed(),
                    digest.order.to_be_bytes(),
                    digest.set.to_be_bytes(),
                    resume_point,
                ],
                |row| row.get(0),
            )
            .optional()?;
        self.number = number.unwrap_or(0);
        Ok(number)
    }

    /// Moves its row from the position last known to `to`; answers whether that one was there.
    pub(super) fn advance(&mut self, connection: &Connection, to: &Position) -> rusqlite::Result<bool> {
        let Position {
            incarnation,
            start,
            at,
            guard,
            digest,
            resume_point,
        } = to;
        let rows = connection
            .prepare_cached(
                "UPDATE culvert_position SET incarnation = ?, start = ?, at = ?, guard_epoch = ?, guard_crc = ?,
                    count = ?, digest_order = ?, digest_set = ?, resume_point = ?
                 WHERE stream = ? AND incarnation = ? AND at = ?",
            )?
            .execute(params![
                incarnation,
                start.0.cast_signed(),
                at.0.cast_signed(),
                guard.epoch,
                guard.crc,
                digest.count.cast_signed(),
                digest.order.to_be_bytes(),
                digest.set.to_be_bytes(),
                resume_point,
                self.number,
                self.position.incarnation,
                self.position.at.0.cast_signed(),
            ])?;
        self.position = to.clone();
        Ok(rows == 1)
    }
}

/// A number of ours in SQLite's signed integer. None above [`NUMBER_MAX`] is ever stored.
fn sequence(row: &Row<'_>, column: &str) -> rusqlite::Result<Sequence> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map(Sequence).map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(
            0,
            Type::Integer,
            Box::new(FromSqlError::OutOfRange(number)),
        )
    })
}

/// The largest sequence SQLite's integer holds.
pub(super) const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

/// `replayable/<topic>/<cluster>` or `run/<outbox>/<run>`, identities in hexadecimal. The cluster comes last: its
/// name may hold anything.
fn lineage_text(lineage: &Lineage) -> String {
    match lineage {
        Lineage::Replayable { cluster, topic } => format!("replayable/{}/{cluster}", hex(topic)),
        Lineage::Run { outbox, run } => format!("run/{}/{}", hex(outbox), hex(run)),
    }
}

fn parse_lineage(text: &str) -> Option<Lineage> {
    let (kind, rest) = text.split_once('/')?;
    let (first, second) = rest.split_once('/')?;
    match kind {
        "replayable" => Some(Lineage::Replayable {
            cluster: second.into(),
            topic: unhex(first)?,
        }),
        "run" => Some(Lineage::Run {
            outbox: unhex(first)?,
            run: unhex(second)?,
        }),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    bytes_of(text)?.try_into().ok()
}

/// Headers as one blob: their count as a varint, then Kafka's own form. NULL where there are none. Exact, unlike a
/// JSON form, since a header's value may be any bytes.
pub(super) fn put_headers(headers: &Headers<'_>, blob: &mut Vec<u8>) {
    blob.clear();
    wire::put_varint(blob, i64::try_from(headers.len()).unwrap_or(i64::MAX));
    blob.extend_from_slice(headers.as_bytes());
}

/// Reads back what [`put_headers`] wrote.
pub(super) fn parse_headers(blob: Option<&[u8]>) -> Result<Headers<'_>, wire::Malformed> {
    let Some(mut rest) = blob else {
        return Ok(Headers::NONE);
    };
    let count = wire::take_varint(&mut rest, "header count")?;
    let count = usize::try_from(count).map_err(|_| wire::Malformed::Invalid {
        what: "header count",
        why: "is negative",
    })?;
    match Headers::parse(count, rest)? {
        (headers, []) => Ok(headers),
        _ => Err(wire::Malformed::Invalid {
            what: "headers",
            why: "have bytes behind them",
        }),
    }
}
