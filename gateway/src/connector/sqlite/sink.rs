//! The SQLite file as a [`Sink`].

use super::config::SqliteConfig;
use super::error::Error;
use super::schema::{self, NUMBER_MAX, SELECT_POSITIONS, Stored};
use crate::flow::{DeadLetter, Sink, SinkFault};
use culvert_proto::record::RecordRef;
use culvert_proto::{Guard, Position, Sequence, StreamId};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The one shard of `io.culvert.sqlite.SqliteSink`.
///
/// A record SQLite cannot hold is refused alone; the records before it in the same call stay in the open write.
pub struct SqliteSink {
    config: SqliteConfig,
    shard: Option<Shard>,
}

impl SqliteSink {
    /// The sink of `config`. Nothing is opened before [`Sink::take`].
    #[must_use]
    pub fn new(config: SqliteConfig) -> SqliteSink {
        SqliteSink { config, shard: None }
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let shard = self.shard.as_ref().expect("taken");
        shard
            .connection
            .execute_batch(&format!("PRAGMA max_page_count = {pages}"))
            .expect("a limit is set");
    }

    /// Lets the shard act. After any fault but that of one record it is gone, and with it the open transaction.
    fn act(&mut self, act: impl FnOnce(&mut Shard) -> Result<(), SinkFault>) -> Result<(), SinkFault> {
        let Some(mut shard) = self.shard.take() else {
            return Err(SinkFault::Retry(format!(
                "database {}: not taken",
                self.config.path.display()
            )));
        };
        let outcome = act(&mut shard);
        if let Ok(()) | Err(SinkFault::Record { .. }) = outcome {
            self.shard = Some(shard);
        }
        outcome
    }
}

impl Sink for SqliteSink {
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        self.shard = None;
        let shard = Shard::take(&self.config)?;
        let positions = shard
            .streams
            .iter()
            .map(|(stream, held)| (stream.clone(), held.stored.position.clone()))
            .collect();
        self.shard = Some(shard);
        Ok(positions)
    }

    fn write(
        &mut self,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        self.act(|shard| shard.write(stream, records))
    }

    /// A row is known by its place.
    fn takes_parts(&self) -> bool {
        false
    }

    fn refuse(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        self.act(|shard| shard.refuse(stream, letters))
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        self.act(|shard| shard.commit(positions))
    }
}

/// What [`Sink::take`] has taken: a connection, and what it knows of the file.
struct Shard {
    connection: Connection,
    config: SqliteConfig,
    /// The file behind the connection, to notice when another one lies at the path.
    file: (u64, u64),
    writer: [u8; 16],
    streams: HashMap<StreamId, Held>,
    /// A transaction is open, and this writer was found in it.
    writing: bool,
    headers: Vec<u8>,
}

/// A stream this writer knows of.
struct Held {
    stored: Stored,
    /// The statement that inserts into its table.
    insert: String,
    /// Its table is there and has the right shape.
    ready: bool,
    /// Its row was made in the open transaction by a record that came before any position.
    unplaced: bool,
    /// Records were written in the open transaction.
    written: bool,
}

impl Shard {
    /// Fences every earlier writer, then reads the positions, in one transaction (C1).
    fn take(config: &SqliteConfig) -> Result<Shard, Error> {
        let connection = open(config)?;
        let writer = rand::random();
        let sql = |cause: rusqlite::Error| Error::of(&config.path, "take the shard", &cause);
        connection.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
        schema::prepare(&connection, &config.path)?;
        connection
            .execute(
                "INSERT INTO culvert_route (route, writer) VALUES (?, ?)
                 ON CONFLICT DO UPDATE SET writer = excluded.writer",
                params![config.name, writer],
            )
            .map_err(sql)?;
        let stored =
            positions(&connection, &config.name).map_err(|cause| unreadable(&config.path, &cause))?;
        connection.execute_batch("COMMIT").map_err(sql)?;
        let streams = stored
            .into_iter()
            .map(|stored| (stored.stream.clone(), Held::new(stored)))
            .collect();
        Ok(Shard {
            connection,
            config: config.clone(),
            file: file_at(&config.path)?,
            writer,
            streams,
            writing: false,
            headers: Vec::new(),
        })
    }

    fn write(
        &mut self,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        self.begin()?;
        self.know(stream)?;
        let Shard {
            connection,
            config,
            streams,
            headers,
            ..
        } = self;
        let Some(held) = streams.get_mut(stream) else {
            return Err(SinkFault::Retry(format!("{stream}: not known to this writer")));
        };
        held.make_ready(connection, config)?;
        held.written = true;
        held.insert_all(connection, &config.path, headers, records)
    }

    /// Dead letters go into a table of their own, in the transaction of the records that go on.
    fn refuse(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        self.begin()?;
        self.know(stream)?;
        let path = &self.config.path;
        schema::prepare_dead_letters(&self.connection, path)?;
        let Some(held) = self.streams.get_mut(stream) else {
            return Err(SinkFault::Retry(format!("{stream}: not known to this writer")));
        };
        held.written = true;
        let sql = |cause: rusqlite::Error| Error::of(path, "insert dead letters", &cause);
        let mut insert = self
            .connection
            .prepare_cached(schema::INSERT_DEAD_LETTER)
            .map_err(sql)?;
        for letter in letters {
            let (record, rejection) = (&letter.record, letter.rejection);
            schema::put_headers(&record.headers, &mut self.headers);
            insert
                .execute(params![
                    held.stored.number,
                    stream.partition,
                    letter.sequence.0.cast_signed(),
                    (record.timestamp >= 0).then_some(record.timestamp),
                    record.key,
                    record.value,
                    (!record.headers.is_empty()).then_some(self.headers.as_slice()),
                    letter.stage,
                    rejection.code,
                    rejection.reason,
                    rejection.field,
                ])
                .map_err(sql)?;
        }
        Ok(())
    }

    /// A stream without a position gets a row, which must have its position before the commit.
    fn know(&mut self, stream: &StreamId) -> Result<(), SinkFault> {
        if !self.streams.contains_key(stream) {
            let beginning = Position::beginning(0, Sequence::ZERO, Guard::NONE);
            self.insert(stream, &beginning)?.unplaced = true;
        }
        Ok(())
    }

    /// Opens the transaction, and looks whether this is still the route's writer. Nobody can overtake it from here
    /// to the commit: the transaction holds the file's only write lock.
    fn begin(&mut self) -> Result<(), SinkFault> {
        if self.writing {
            return Ok(());
        }
        let path = &self.config.path;
        let sql = |cause: rusqlite::Error| Error::of(path, "begin a transaction", &cause);
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
        let mut mine = self
            .connection
            .prepare_cached("SELECT 1 FROM culvert_route WHERE route = ? AND writer = ?")
            .map_err(sql)?;
        if !mine.exists(params![self.config.name, self.writer]).map_err(sql)? {
            return Err(SinkFault::Fenced(format!(
                "database {}: route {} was taken",
                path.display(),
                self.config.name
            )));
        }
        self.writing = true;
        Ok(())
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        self.begin()?;
        for (stream, position) in positions {
            self.place(stream, position)?;
        }
        if let Some((stream, _)) = self
            .streams
            .iter()
            .find(|(_, held)| held.written || held.unplaced)
        {
            return Err(batch(stream, "records came without a position"));
        }
        let path = &self.config.path;
        if file_at(path)? != self.file {
            return Err(SinkFault::Retry(format!(
                "database {}: another file lies there now",
                path.display()
            )));
        }
        self.connection
            .execute_batch("COMMIT")
            .map_err(|cause| commit_fault(path, &cause))?;
        self.writing = false;
        Ok(())
    }

    /// Stores one position, if the one before it is the one this writer knows. It goes forward only (S9).
    fn place(&mut self, stream: &StreamId, position: &Position) -> Result<(), SinkFault> {
        if position.at.0 > NUMBER_MAX {
            return Err(batch(
                stream,
                "the position is above 2^63 - 1, the largest number in SQLite",
            ));
        }
        let known = self.streams.get_mut(stream);
        let Some(held) = known.filter(|held| held.unplaced || held.incarnation() >= position.incarnation)
        else {
            return self.begin_incarnation(stream, position);
        };
        let from = held.stored.position.at;
        if !held.unplaced && (held.incarnation() > position.incarnation || from > position.at) {
            return Err(batch(stream, "the position goes back"));
        }
        let moved = held
            .stored
            .advance(&self.connection, position)
            .map_err(|cause| Error::of(&self.config.path, "store a position", &cause))?;
        (held.written, held.unplaced) = (false, false);
        if moved {
            return Ok(());
        }
        let path = self.config.path.display();
        Err(SinkFault::Fenced(format!(
            "database {path}: {stream} is no longer at {from}"
        )))
    }

    /// A stream that is new, or begins anew after a reset: what it held before stays, under its old number.
    fn begin_incarnation(&mut self, stream: &StreamId, position: &Position) -> Result<(), SinkFault> {
        if self.streams.get(stream).is_some_and(|held| held.written) {
            return Err(batch(
                stream,
                "its records came before the beginning of their incarnation",
            ));
        }
        self.insert(stream, position).map(|_| ())
    }

    /// Makes the row of a stream that has none in this incarnation.
    fn insert(&mut self, stream: &StreamId, position: &Position) -> Result<&mut Held, SinkFault> {
        let path = &self.config.path;
        let table = self.config.table.table(stream);
        let route = self.config.name.to_string();
        let mut stored = Stored {
            number: 0,
            route,
            stream: stream.clone(),
            table,
            position: position.clone(),
        };
        let number = stored
            .insert(&self.connection)
            .map_err(|cause| Error::of(path, "store a first position", &cause))?;
        if number.is_none() {
            let already = format!("database {}: {stream} has a position already", path.display());
            return Err(SinkFault::Fenced(already));
        }
        Ok(self
            .streams
            .entry(stream.clone())
            .insert_entry(Held::new(stored))
            .into_mut())
    }
}

impl Held {
    fn new(stored: Stored) -> Held {
        let insert = schema::insert_record(&stored.table);
        Held {
            stored,
            insert,
            ready: false,
            unplaced: false,
            written: false,
        }
    }

    fn incarnation(&self) -> u32 {
        self.stored.position.incarnation
    }

    fn make_ready(&mut self, connection: &Connection, config: &SqliteConfig) -> Result<(), Error> {
        if self.ready {
            return Ok(());
        }
        let (stream, wanted) = (&self.stored.stream, config.table.table(&self.stored.stream));
        if self.stored.table != wanted {
            return Err(Error::OtherTable {
                stream: stream.to_string(),
                held: self.stored.table.clone(),
                wanted,
            });
        }
        schema::prepare_table(connection, &config.path, &wanted)?;
        self.ready = true;
        Ok(())
    }

    fn insert_all(
        &self,
        connection: &Connection,
        path: &Path,
        headers: &mut Vec<u8>,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        let mut insert = connection
            .prepare_cached(&self.insert)
            .map_err(|cause| Error::of(path, "prepare to insert", &cause))?;
        for (sequence, record) in records {
            if sequence.0 > NUMBER_MAX {
                let reason = "its sequence is above 2^63 - 1, the largest number in SQLite".to_owned();
                return Err(SinkFault::Record { sequence, reason });
            }
            schema::put_headers(&record.headers, headers);
            insert
                .execute(params![
                    self.stored.number,
                    self.stored.stream.partition,
                    sequence.0.cast_signed(),
                    (record.timestamp >= 0).then_some(record.timestamp),
                    record.key,
                    record.value,
                    (!record.headers.is_empty()).then_some(headers.as_slice()),
                ])
                .map_err(|cause| self.insert_fault(path, sequence, &cause))?;
        }
        Ok(())
    }

    fn insert_fault(&self, path: &Path, sequence: Sequence, cause: &rusqlite::Error) -> SinkFault {
        match cause.sqlite_error_code() {
            Some(ErrorCode::TooBig) => SinkFault::Record {
                sequence,
                reason: cause.to_string(),
            },
            Some(ErrorCode::ConstraintViolation) => Error::Occupied {
                table: self.stored.table.clone(),
                stream: self.stored.stream.to_string(),
                sequence: sequence.0,
            }
            .into(),
            _ => Error::of(path, "insert records", cause).into(),
        }
    }
}

fn batch(stream: &StreamId, why: &'static str) -> SinkFault {
    Error::Batch {
        stream: stream.to_string(),
        why,
    }
    .into()
}

fn open(config: &SqliteConfig) -> Result<Connection, Error> {
    let path = &config.path;
    let sql = |cause: rusqlite::Error| Error::of(path, "open", &cause);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection.busy_timeout(config.busy_wait).map_err(sql)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))
        .map_err(sql)?;
    if mode != "wal" {
        return Err(Error::Journal {
            path: path.clone(),
            mode,
        });
    }
    // The cache holds a batch of the largest size without spilling; the log is cut back after a large one.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864",
        )
        .map_err(sql)?;
    Ok(connection)
}

/// The streams of `route`, each in its highest incarnation.
fn positions(connection: &Connection, route: &str) -> rusqlite::Result<Vec<Stored>> {
    let mut newest: HashMap<StreamId, Stored> = HashMap::new();
    let mut select = connection.prepare(&format!(
        "{SELECT_POSITIONS} WHERE route = ? ORDER BY incarnation"
    ))?;
    for stored in select.query_map([route], Stored::from_row)? {
        let stored = stored?;
        newest.insert(stored.stream.clone(), stored);
    }
    Ok(newest.into_values().collect())
}

/// What a row that cannot be read means: the file is damaged, unless SQLite itself says otherwise.
pub(super) fn unreadable(path: &Path, cause: &rusqlite::Error) -> Error {
    match cause.sqlite_error_code() {
        Some(_) => Error::of(path, "read its rows", cause),
        None => Error::Damaged {
            path: path.to_owned(),
            cause: cause.to_string(),
        },
    }
}

/// A transaction that could not even begin to be written is open still, and closing the connection rolls it back.
/// After an I/O error nobody knows which pages reached the disk: only a new connection can tell.
fn commit_fault(path: &Path, cause: &rusqlite::Error) -> SinkFault {
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
            Error::of(path, "commit", cause).into()
        }
        _ => SinkFault::Uncertain(format!("database {}: commit: {cause}", path.display())),
    }
}

/// Device and inode of the file at `path`.
fn file_at(path: &Path) -> Result<(u64, u64), Error> {
    let found = std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    found.map_err(|cause| Error::Environment {
        path: path.to_owned(),
        doing: "look whether it is still there",
        cause: cause.to_string(),
    })
}
