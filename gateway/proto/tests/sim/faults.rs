//! What goes wrong.

use super::net::Node;
use super::outbox::Outbox;
use super::source::{Entry, RecordKey};
use super::world::World;

impl World {
    /// One fault, if it can happen now.
    pub fn fault(&mut self) -> bool {
        let a = self.rng.below(2);
        let c = self.rng.below(self.c.len());
        let (happened, what) = match self.rng.below(32) {
            0..3 => (self.origin_crashes(a, false), "origin crash"),
            3 => (self.origin_crashes(a, true), "origin disk lost"),
            4..6 => (self.relay_crashes(false), "relay crash"),
            6 => (self.relay_crashes(true), "relay disk lost"),
            7..10 => (self.sink_crashes(c), "sink gateway crash"),
            10..15 => (self.session_cut(), "session cut"),
            15..19 => (self.rebalance(), "rebalance"),
            19..21 => (self.end_arrives_late(), "late EndTxn arrives"),
            21..23 => (self.compaction(), "compaction"),
            23 => (self.leader_change(), "leader change"),
            24 => (
                self.topology.history_changes && self.truncation(),
                "unclean truncation",
            ),
            25 => (
                self.topology.history_changes && self.recreation(),
                "topic recreated",
            ),
            26 => (
                self.topology.history_changes && self.retention_passes(),
                "retention passed",
            ),
            27 => (self.topology.sink_restores && self.sink_backup(), "sink backup"),
            28 => (
                self.topology.sink_restores && self.sink_restored(),
                "sink restored",
            ),
            29..31 => (self.origin_pauses(a), "origin pause"),
            _ => (self.two_sinks_meet(), "shard taken over"),
        };
        if happened {
            *self.stats.faults.entry(what).or_default() += 1;
        }
        happened
    }

    fn origin_crashes(&mut self, a: usize, disk_lost: bool) -> bool {
        self.note(format_args!(
            "A{a} crashes{}",
            if disk_lost { ", its disk is lost" } else { "" }
        ));
        self.origin_stops(a);
        self.cut_all_of(Node::A(a));
        self.registered.retain(|(gateway, _)| *gateway != a);
        let survive = self.rng.below(self.a[a].disk.pending() + 1);
        self.a[a].disk.crash(survive);
        if disk_lost {
            self.a[a].disk = Outbox::default();
        }
        self.oracle.origin_crashed(a);
        self.origin_starts(a);
        true
    }

    /// A gateway stands still, and believes what it believed when it goes on: the zombie of a consumer group.
    fn origin_pauses(&mut self, a: usize) -> bool {
        let until = self.trace.step + 20 + self.rng.below(300) as u64;
        self.note(format_args!("A{a} pauses until step {until}"));
        self.a[a].paused_until = until;
        true
    }

    fn relay_crashes(&mut self, disk_lost: bool) -> bool {
        if self.b.is_empty() {
            return false;
        }
        let b = self.rng.below(self.b.len());
        self.note(format_args!(
            "B{b} crashes{}",
            if disk_lost { ", its disk is lost" } else { "" }
        ));
        self.relay_stops(b);
        self.cut_all_of(Node::B(b));
        let survive = self.rng.below(self.b[b].disk.pending() + 1);
        self.b[b].disk.crash(survive);
        if disk_lost {
            self.b[b].disk = Outbox::default();
        }
        self.relay_starts(b);
        true
    }

    fn sink_crashes(&mut self, c: usize) -> bool {
        self.note(format_args!("C{c} crashes"));
        self.sink_stops(c);
        self.cut_all_of(Node::C(c));
        self.c[c].up = true;
        true
    }

    fn session_cut(&mut self) -> bool {
        let live: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.cut)
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.rng.pick(&live) else {
            return false;
        };
        self.cut(id);
        true
    }

    fn rebalance(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let partition = &mut self.partitions[p];
        partition.owner ^= self.rng.below(2);
        partition.generation += 1;
        let owner = partition.owner;
        self.note(format_args!("the group gives partition {p} to A{owner}"));
        true
    }

    fn end_arrives_late(&mut self) -> bool {
        let route = self.rng.below(self.stores.len());
        if self.stores[route].late.is_empty() {
            return false;
        }
        let index = self.rng.below(self.stores[route].late.len());
        let did = self.stores[route].late_end(index);
        self.note(format_args!(
            "a late EndTxn arrives at sink {route}, and {}",
            if did { "commits" } else { "is fenced" }
        ));
        self.check_store(route);
        true
    }

    fn compaction(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let log = &self.partitions[p].log;
        if log.len() < 2 {
            return false;
        }
        let keys: Vec<RecordKey> = log[..log.len() - 1]
            .iter()
            .map(|entry| entry.key)
            .filter(|key| *key != 0)
            .collect();
        let Some(key) = self.rng.pick(&keys) else {
            return false;
        };
        self.note(format_args!("compaction takes record {key} of partition {p}"));
        self.oracle.compacted.insert(key);
        true
    }

    fn leader_change(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        self.partitions[p].epoch += 1;
        true
    }

    /// An unclean leader election: the end of the log is gone, and its offsets are used again.
    fn truncation(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let partition = &mut self.partitions[p];
        let kept_min = partition.log_start.saturating_sub(partition.base) as usize;
        if partition.log.len() <= kept_min {
            return false;
        }
        let keep = kept_min + self.rng.below(partition.log.len() - kept_min);
        let stream = partition.stream;
        let branch = partition.log.clone();
        partition.log.truncate(keep);
        let gone = |entry: &Entry| self.oracle.is_compacted(entry.key);
        while partition.log.len() > kept_min && partition.log.last().is_some_and(gone) {
            partition.log.pop();
        }
        partition.epoch += 1;
        let end = partition.end();
        self.note(format_args!("partition {p} is truncated to {end}"));
        self.histories[stream].branches.push(branch);
        self.histories[stream].truncated = true;
        true
    }

    fn recreation(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let old = self.partitions[p].stream;
        let log = std::mem::take(&mut self.partitions[p].log);
        self.histories[old].alive = false;
        self.histories[old].last.clone_from(&log);
        self.histories[old].branches.push(log);
        let base = self.histories[old].base;
        let stream = self.new_stream(p, base);
        self.histories[stream].alive = true;
        let partition = &mut self.partitions[p];
        partition.stream = stream;
        partition.log_start = partition.base;
        partition.epoch = 0;
        self.group.committed.remove(&old);
        self.note(format_args!(
            "the topic of partition {p} is made anew: stream {stream}"
        ));
        true
    }

    /// Retention by time: deletes what nobody has applied yet.
    fn retention_passes(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let partition = &mut self.partitions[p];
        let left = (partition.end() - partition.log_start) as usize;
        if left == 0 || self.rng.chance(50) {
            return false;
        }
        partition.log_start += 1 + self.rng.below(left) as u64;
        let at = partition.log_start;
        self.note(format_args!("retention by time deletes partition {p} below {at}"));
        self.check_passed(p);
        true
    }

    fn sink_backup(&mut self) -> bool {
        let route = self.rng.below(self.stores.len());
        self.stores[route].backup();
        self.note(format_args!("sink {route} is backed up"));
        true
    }

    fn sink_restored(&mut self) -> bool {
        let route = self.rng.below(self.stores.len());
        let backups = self.stores[route].backups.len();
        if backups == 0 {
            return false;
        }
        let backup = self.rng.below(backups);
        self.stores[route].restore(backup);
        self.note(format_args!("sink {route} is restored from a backup"));
        self.oracle_sees_restore(route);
        // Whoever was connected to it is not any more.
        for c in [2 * route, 2 * route + 1] {
            if self.c[c].up {
                self.sink_lost(c, "the sink was restarted");
            }
        }
        true
    }

    /// Both gateways of the sink's site believe that they own the shard.
    fn two_sinks_meet(&mut self) -> bool {
        let route = self.rng.below(self.stores.len());
        let c = 2 * route + self.rng.below(2);
        if !self.sink_is_free(c) {
            return false;
        }
        self.c[c].receiver.lost();
        self.note(format_args!("C{c} is told to take the shard"));
        true
    }

    /// Faults end: every process is up, the group and the sink have one owner each, and what was under way arrives.
    pub fn calm_down(&mut self) {
        self.faults = false;
        for route in 0..self.routes.len() {
            while !self.stores[route].late.is_empty() {
                self.end_arrives_late();
            }
            let keep = 2 * route + self.rng.below(2);
            let gone = 4 * route + 1 - keep;
            self.sink_stops(gone);
            self.cut_all_of(Node::C(gone));
        }
        self.note(format_args!("calm"));
    }
}
