//! The outbox: frames are durable here before they are sent, answered or acknowledged (A2).
//!
//! Constraints:
//! - Durable means fsync returned. A failed fsync ends the process without acknowledging; it is never tried again.
//! - Frames of a lane have no gaps: each begins where the one before it ends. What was acknowledged is there, in
//!   order and unchanged, or the open or read says that it is not.
//! - Everything asked for becomes durable in the order it was asked for, so a cursor is never ahead of its data. What was
//!   asked for as one ([`Group`]) is durable as one.
//! - Freeing space needs no space (L2): on a full disk trims go ahead of everything, and a reserve is given up for
//!   them.
//! - To the outbox a frame is opaque bytes.
//! - Everything is limited: frames, names, settings, lanes, bytes held, bytes waiting.
//!
//! ```text
//! Lane, Outbox ──ask──▶ state (asked view, queue) ──▶ flush thread ──▶ engine: log | sled ──▶ disk
//!       ▲                                                  │
//!       └──────────── state (held view), cache, shelf ◀────┘
//! ```

mod cache;
mod change;
mod disk;
mod engine;
mod entry;
mod error;
mod flush;
mod group;
mod home;
mod lane;
mod log;
mod options;
mod quota;
mod recover;
mod salvage;
mod sled;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

pub use error::{Error, Full};
pub use group::{GROUP_BYTES_MAX, GROUP_STEPS_MAX, Group};
pub use lane::{Extent, Lane};
#[doc(hidden)]
pub use log::read_segment;
pub use options::{EngineKind, Fatal, Options};
pub use quota::QuotaUse;
pub use salvage::{Damage, Salvage, SalvagedLane, append, resume};
pub use stats::{FLUSH_SECONDS_BOUNDS, Flushes, Stats};
pub use verify::verify_main;

use bytes::Bytes;
use disk::{Disk, RealDisk};
use engine::Recovered;
use flush::Flusher;
use home::Home;
use state::{Phase, Shared};
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The longest name of a lane, and the longest key of a setting, in bytes. An encoded stream id of two names of
/// the largest size fits.
pub const LANE_BYTES_MAX: usize = 1024;

/// The largest value of a setting. A schema is the largest thing stored as one.
pub const SETTING_BYTES_MAX: usize = 1024 * 1024;

/// All settings together; they are kept in memory.
pub const SETTINGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most lanes. Far above the partitions a gateway can serve.
pub const LANES_MAX: usize = 100_000;

/// A durable store of queues ([`Lane`]) and settings, in one directory, for one process. Cheap to clone.
///
/// When the last handle is dropped everything asked for is flushed in the background; [`Outbox::close`] waits for it.
#[derive(Clone)]
pub struct Outbox {
    handle: Arc<Handle>,
}

/// What keeps the flush thread going.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.state.lock().phase == Phase::Open {
            self.shared.enter(Phase::Closing);
        }
    }
}

impl Outbox {
    /// Opens the outbox in a directory, or makes it: takes the lock, checks format and content, and starts the flush
    /// thread. Blocks; reading back a large store takes time.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Format`], [`Error::Engine`], [`Error::Damaged`], [`Error::Shorter`],
    /// [`Error::Unverified`], [`Error::Io`]. In each case the directory is left as it was.
    pub fn open(options: &Options) -> Result<Outbox, Error> {
        let lock = home::lock(&options.path)?;
        Outbox::open_on(Arc::new(RealDisk::new(&options.path)), options, Some(lock))
    }

    fn open_on(disk: Arc<dyn Disk>, options: &Options, lock: Option<File>) -> Result<Outbox, Error> {
        let (mut home, recovered) = read_back(disk, options)?;
        let engine = recovered.engine;
        home.establish()?;
        let doing = || format!("write mark of outbox {}", options.path.display());
        home.acknowledge(engine.commits()).map_err(Error::io(doing()))?;
        home.sync_mark().map_err(Error::io(doing()))?;
        let shared = Arc::new(Shared::new(
            recovered.catalog,
            recovered.held,
            engine.shelf(),
            options,
        ));
        let now = Instant::now();
        let flusher = Flusher {
            shared: shared.clone(),
            engine,
            home,
            lock,
            flush_every: options.flush_every,
            fatal: options.fatal.clone(),
            not_before: now,
            next_tick: now,
            mark_due: now,
        };
        std::thread::Builder::new()
            .name("outbox-flush".into())
            .spawn(move || flusher.run())
            .map_err(Error::io("start the flush thread of the outbox"))?;
        Ok(Outbox {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// The lane of this name, made if there is none. The name is opaque bytes, at most [`LANE_BYTES_MAX`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Stopped`], [`Error::Closed`].
    pub fn lane(&self, name: &[u8]) -> Result<Lane, Error> {
        lane::check_name(name)?;
        let id = self.shared().ask(|state| state.open_lane(name))?;
        Ok(Lane::new(self.handle.clone(), id))
    }

    /// All lanes with their names, also those of earlier processes.
    #[must_use]
    pub fn lanes(&self) -> Vec<(Bytes, Lane)> {
        let known = self.shared().state.lock().known_lanes();
        known
            .into_iter()
            .map(|(name, id)| (name, Lane::new(self.handle.clone(), id)))
            .collect()
    }

    /// Forgets a lane with all its frames. Its name may be used for a new one at once.
    ///
    /// # Errors
    /// [`Error::Removed`] when it was removed before, [`Error::Stopped`], [`Error::Closed`].
    pub fn remove_lane(&self, lane: &Lane) -> Result<(), Error> {
        debug_assert!(
            Arc::ptr_eq(&self.handle, lane.handle()),
            "a lane of another outbox"
        );
        self.shared().ask(|state| state.remove_lane(lane.id()))
    }

    /// Sets a small value: a cursor, a route, a schema. [`Outbox::get`] sees it at once; it is durable with the next
    /// flush, never before what was asked for earlier.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`LANE_BYTES_MAX`] for the key, [`SETTING_BYTES_MAX`] for the value or
    /// [`SETTINGS_BYTES_MAX`] for all; [`Error::Stopped`], [`Error::Closed`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_size("key of a setting", key, LANE_BYTES_MAX)?;
        check_size("value of a setting", value, SETTING_BYTES_MAX)?;
        self.shared().ask(|state| state.put(key, value))
    }

    /// [`Outbox::put`] and [`Outbox::sync`].
    ///
    /// # Errors
    /// As both.
    pub fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.put(key, value)?;
        self.sync()
    }

    /// The value that was last set.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.shared().state.lock().get(key)
    }

    /// All settings whose key begins with `prefix`, by key.
    #[must_use]
    pub fn scan(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.shared().state.lock().scan(prefix)
    }

    /// Forgets a setting, as [`Outbox::put`] sets one.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn delete(&self, key: &[u8]) -> Result<(), Error> {
        self.shared().ask(|state| {
            state.delete(key);
            Ok(())
        })
    }

    /// Asks for all steps of a group. They are durable in one commit or not at all, in this order with everything else
    /// that was asked of the outbox.
    ///
    /// # Errors
    /// As [`Lane::append`] and [`Outbox::put`]. Nothing is changed by any of them.
    pub fn together(&self, group: Group) -> Result<(), Error> {
        self.shared().ask(|state| state.together(group))
    }

    /// Waits until everything asked for so far is durable. Blocks; a full disk makes it wait until there is space.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`] when it ended before.
    pub fn sync(&self) -> Result<(), Error> {
        self.shared().sync()
    }

    /// [`Outbox::sync`] without a thread. Cancel safe.
    ///
    /// # Errors
    /// As [`Outbox::sync`].
    pub async fn synced(&self) -> Result<(), Error> {
        let mut durable = self.shared().durable.subscribe();
        let stamp = self.shared().stamp();
        while *durable.borrow_and_update() < stamp {
            self.shared().state.lock().alive()?;
            if durable.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
        Ok(())
    }

    /// What it holds and how it fares.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().state.lock().stats()
    }

    /// Whether appends are welcome: false while the quota, the disk or the queue to the disk is full; true again
    /// when there is room worth speaking of.
    #[must_use]
    pub fn room(&self) -> watch::Receiver<bool> {
        self.shared().room.subscribe()
    }

    /// Makes everything durable and lets go of the directory. All handles and lanes are dead afterwards.
    ///
    /// # Errors
    /// [`Error::Full`] when a full disk did not take all of it, [`Error::Stopped`].
    pub async fn close(self) -> Result<(), Error> {
        let mut changes = self.shared().durable.subscribe();
        self.begin_closing();
        loop {
            changes.borrow_and_update();
            if let Some(ended) = self.ended() {
                return ended;
            }
            if changes.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// [`Outbox::close`] for callers that may block.
    ///
    /// # Errors
    /// As [`Outbox::close`].
    pub fn close_blocking(self) -> Result<(), Error> {
        self.begin_closing();
        self.wait_for_end()
    }

    fn begin_closing(&self) {
        let phase = self.shared().state.lock().phase.clone();
        if phase == Phase::Open {
            self.shared().enter(Phase::Closing);
        }
    }

    fn wait_for_end(&self) -> Result<(), Error> {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let mut state = self.shared().state.lock();
            if !matches!(state.phase, Phase::Closed | Phase::Stopped(_)) {
                self.shared().settled.wait(&mut state);
            }
        }
    }

    fn ended(&self) -> Option<Result<(), Error>> {
        let state = self.shared().state.lock();
        match &state.phase {
            Phase::Closed if state.has_work() => Some(Err(Error::Full(Full::Disk))),
            Phase::Closed => Some(Ok(())),
            Phase::Stopped(why) => Some(Err(Error::Stopped(why.clone()))),
            _ => None,
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

/// Reads back what lies on the disk, or makes what an empty one needs. The store exists once its home is established.
fn read_back(disk: Arc<dyn Disk>, options: &Options) -> Result<(Home, Recovered), Error> {
    let home = Home::open(disk, options.engine, options.reserve_bytes)?;
    let recovered = match options.engine {
        EngineKind::Log => log::open(&home, options.reads_all)?,
        EngineKind::Sled => sled::open(&home, options)?,
    };
    Ok((home, recovered))
}

fn check_size(what: &'static str, bytes: &[u8], max: usize) -> Result<(), Error> {
    let size = bytes.len();
    if size > max {
        Err(Error::TooLarge { what, size, max })
    } else {
        Ok(())
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({:?})", self.stats())
    }
}
