//! Sinks: what the outside system at the far end holds, and how it decides who may write.

use super::source::Rec;
use culvert_proto::Position;
use culvert_proto::traps::{Trap, planted};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Transactional ids with producer epochs, v1: an EndTxn that arrives late ends whatever transaction of its
    /// epoch is open then.
    Transactional,
    /// One row for each position, compared with the writer and the place from which was written.
    CompareAndSet,
}

/// What the sink holds of one stream, as a read_committed reader sees it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub position: Option<Position>,
    pub records: Vec<Rec>,
}

/// A transaction that is open at the broker.
#[derive(Clone, Debug, Default)]
struct Open {
    records: Vec<(usize, Rec)>,
    positions: Vec<(usize, Position)>,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: u64,
    open: Option<Open>,
}

/// An EndTxn that the network holds back.
#[derive(Clone, Copy, Debug)]
pub struct LateEnd {
    id: usize,
    epoch: u64,
}

/// Another writer has the shard, or the transaction is not there any more.
#[derive(Debug)]
pub struct Fenced;

pub struct Store {
    pub kind: Kind,
    pub streams: BTreeMap<usize, Content>,
    producers: [Producer; 2],
    pub late: Vec<LateEnd>,
    pub backups: Vec<BTreeMap<usize, Content>>,
    /// How often it was restored.
    pub restores: u32,
    /// Grows whenever something became visible, so that the oracle looks again.
    pub version: u64,
    /// Streams that changed since the oracle looked.
    pub touched: Vec<usize>,
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        let producer = Producer { epoch: 0, open: None };
        Store {
            kind,
            streams: BTreeMap::new(),
            producers: [producer.clone(), producer],
            late: Vec::new(),
            backups: Vec::new(),
            restores: 0,
            version: 0,
            touched: Vec::new(),
        }
    }

    /// Fences every earlier writer and aborts what it had open; the epoch of the new one.
    pub fn fence(&mut self, replica: usize) -> u64 {
        let producer = &mut self.producers[producer_of(replica)];
        producer.epoch += 1;
        producer.open = None;
        producer.epoch
    }

    pub fn positions(&self) -> Vec<(usize, Position)> {
        let position = |(id, content): (&usize, &Content)| Some((*id, content.position.clone()?));
        self.streams.iter().filter_map(position).collect()
    }

    /// Adds to the open transaction, opening one if there is none. A compare-and-set sink writes nothing before it
    /// commits, so there this only tells a fenced writer so.
    pub fn write(&mut self, replica: usize, epoch: u64, records: Vec<(usize, Rec)>) -> Result<(), Fenced> {
        let producer = self.current(replica, epoch)?;
        producer.open.get_or_insert_default().records.extend(records);
        Ok(())
    }

    pub fn write_positions(
        &mut self,
        replica: usize,
        epoch: u64,
        positions: Vec<(usize, Position)>,
    ) -> Result<(), Fenced> {
        let producer = self.current(replica, epoch)?;
        producer.open.get_or_insert_default().positions.extend(positions);
        Ok(())
    }

    /// Ends the open transaction; what was in it is visible from now on.
    pub fn end(&mut self, replica: usize, epoch: u64) -> Result<(), Fenced> {
        let open = self.current(replica, epoch)?.open.take().ok_or(Fenced)?;
        self.show(open.records, open.positions);
        Ok(())
    }

    /// The network holds the EndTxn back.
    pub fn delay_end(&mut self, replica: usize, epoch: u64) {
        let id = producer_of(replica);
        self.late.push(LateEnd { id, epoch });
    }

    /// An EndTxn that was held back arrives.
    pub fn late_end(&mut self, index: usize) -> bool {
        let late = self.late.swap_remove(index);
        let producer = &mut self.producers[late.id];
        if producer.epoch != late.epoch {
            return false;
        }
        let Some(open) = producer.open.take() else {
            return false;
        };
        self.show(open.records, open.positions);
        true
    }

    /// Stores positions without a transaction: only a naive sink does so.
    pub fn show(&mut self, records: Vec<(usize, Rec)>, positions: Vec<(usize, Position)>) {
        self.version += 1;
        for (stream, record) in records {
            self.streams.entry(stream).or_default().records.push(record);
            self.touched.push(stream);
        }
        for (stream, position) in positions {
            self.streams.entry(stream).or_default().position = Some(position);
            self.touched.push(stream);
        }
        self.touched.sort_unstable();
        self.touched.dedup();
    }

    /// Takes a backup away for later.
    pub fn backup(&mut self) {
        self.backups.push(self.streams.clone());
    }

    /// Data and positions go back together; writers and what they had open are gone.
    pub fn restore(&mut self, backup: usize) {
        self.streams = self.backups[backup].clone();
        self.backups.truncate(backup + 1);
        self.restores += 1;
        for producer in &mut self.producers {
            producer.epoch += 1;
            producer.open = None;
        }
    }

    fn current(&mut self, replica: usize, epoch: u64) -> Result<&mut Producer, Fenced> {
        let producer = &mut self.producers[producer_of(replica)];
        if producer.epoch == epoch {
            Ok(producer)
        } else {
            Err(Fenced)
        }
    }
}

/// One transactional id for the shard, whichever gateway writes it.
fn producer_of(replica: usize) -> usize {
    if planted(Trap::NoFence) { replica } else { 0 }
}
