//! Reads back what a SQLite file holds, for `prove` and `verify`.

use super::error::Error;
use super::schema::{self, SELECT_POSITIONS, Stored};
use super::sink::unreadable;
use crate::flow::{Reader, SourceFault};
use culvert_proto::record::RecordRef;
use culvert_proto::{Position, Sequence, StreamId};
use rusqlite::{Connection, OpenFlags, Row};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A reader beside a running sink. It sees what was committed and never blocks the writer; as long as it holds a
/// [`SqliteReader::pin`], the file's log cannot be cut back.
pub struct SqliteReader {
    path: PathBuf,
    connection: Connection,
}

/// A stream of one route, and where its records are.
#[derive(Clone, Debug)]
pub struct Held(Stored);

impl Held {
    /// The route it was delivered by: the connector's name.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.0.route
    }

    /// Which stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.0.stream
    }

    /// The table with its records.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.0.table
    }

    /// The position stored with them.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.0.position
    }
}

impl SqliteReader {
    /// Opens the database at `path` for reading.
    ///
    /// # Errors
    /// When it is not there, is no database, holds nothing of Culvert's, or was written by a newer version.
    pub fn open(path: &Path) -> Result<SqliteReader, Error> {
        let sql = |cause: rusqlite::Error| Error::of(path, "open", &cause);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
        // By eye: longer than a commit of the largest batch.
        connection.busy_timeout(Duration::from_secs(5)).map_err(sql)?;
        match schema::version(&connection).map_err(sql)? {
            Some(schema::VERSION) => Ok(SqliteReader {
                path: path.to_owned(),
                connection,
            }),
            Some(found) => Err(Error::Version {
                path: path.to_owned(),
                found,
            }),
            None => Err(Error::Empty {
                path: path.to_owned(),
            }),
        }
    }

    /// From here on every read sees the file as it is now.
    ///
    /// # Errors
    /// As SQLite's own.
    pub fn pin(&mut self) -> Result<(), Error> {
        // A deferred transaction sees nothing before its first read, so it reads.
        let begun = self
            .connection
            .execute_batch("BEGIN; SELECT count(*) FROM culvert_schema;");
        begun.map_err(|cause| Error::of(&self.path, "begin to read", &cause))
    }

    /// Every stream of every route, in the order in which the file first saw them.
    ///
    /// # Errors
    /// As SQLite's own, and when a row is none that a sink writes.
    pub fn streams(&self) -> Result<Vec<Held>, Error> {
        let read = || -> rusqlite::Result<Vec<Held>> {
            let mut select = self
                .connection
                .prepare(&format!("{SELECT_POSITIONS} ORDER BY stream"))?;
            select
                .query_map((), |row| Stored::from_row(row).map(Held))?
                .collect()
        };
        read().map_err(|cause| unreadable(&self.path, &cause))
    }

    /// Hands over the records of one stream in `[from, to)` in order, until `each` says stop.
    ///
    /// # Errors
    /// As SQLite's own, and when a row is none that a sink writes.
    pub fn read_stream(
        &self,
        held: &Held,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if !self.has_table(held.table())? {
            return Ok(());
        }
        self.read_rows(&schema::select_records(held.table()), held, from, to, each)
    }

    /// As [`SqliteReader::read_stream`], and between the records those that a stage refused, as they came.
    ///
    /// # Errors
    /// As [`SqliteReader::read_stream`].
    pub fn read_stream_with_letters(
        &self,
        held: &Held,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let from = Sequence::ZERO;
        match (
            self.has_table(held.table())?,
            self.has_table("culvert_dead_letter")?,
        ) {
            (true, true) => {
                let select = schema::select_records_and_letters(held.table());
                self.read_rows(&select, held, from, None, each)
            }
            (false, true) => {
                let select = schema::select_records("culvert_dead_letter");
                self.read_rows(&select, held, from, None, each)
            }
            (_, false) => self.read_stream(held, from, None, each),
        }
    }

    fn read_rows(
        &self,
        select: &str,
        held: &Held,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut read = || -> rusqlite::Result<()> {
            let mut select = self.connection.prepare_cached(select)?;
            let to = to.map_or(i64::MAX, clamped);
            let mut rows = select.query((held.0.number, clamped(from), to))?;
            while let Some(row) = rows.next()? {
                if hand_over(row, each)?.is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|cause| unreadable(&self.path, &cause))
    }

    /// A stream whose beginning is stored and that has no record yet may have no table.
    fn has_table(&self, table: &str) -> Result<bool, Error> {
        self.connection
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE")
            .and_then(|mut select| select.exists([table]))
            .map_err(|cause| unreadable(&self.path, &cause))
    }
}

/// The numbers are sequences. Where several streams of this topic and partition lie in the file (other origins,
/// other routes, a recreated topic), they follow each other, and the numbers begin anew with each.
impl Reader for SqliteReader {
    fn read(
        &mut self,
        topic: &str,
        partition: u32,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        let wanted = |held: &Held| &*held.stream().topic == topic && held.stream().partition == partition;
        let mut stopped = false;
        for held in self.streams()?.iter().filter(|held| wanted(held)) {
            self.read_stream(held, from, to, &mut |sequence, record| {
                let flow = each(sequence, record);
                stopped = flow.is_break();
                flow
            })?;
            if stopped {
                break;
            }
        }
        Ok(())
    }
}

fn hand_over(
    row: &Row<'_>,
    each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
) -> rusqlite::Result<ControlFlow<()>> {
    let sequence: i64 = row.get(0)?;
    let headers = schema::parse_headers(row.get_ref(4)?.as_blob_or_null()?).map_err(|cause| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, Box::new(cause))
    })?;
    let record = RecordRef {
        timestamp: row.get::<_, Option<i64>>(1)?.unwrap_or(-1),
        key: row.get_ref(2)?.as_blob_or_null()?,
        value: row.get_ref(3)?.as_blob_or_null()?,
        headers,
    };
    Ok(each(Sequence(sequence.unsigned_abs()), &record))
}

fn clamped(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}
