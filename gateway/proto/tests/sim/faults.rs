//! What goes wrong.

use super::net::Node;
use super::outbox::Outbox;
use super::source::{Entry, RecordKey};
use super::world::World;

impl World {
    /// One fault, if it can happen now.
    pub fn fault(&mut self) -> bool {
        let a = self.rng.below(self.a.len());
        let c = self.rng.below(self.c.len());
        let (happened, what) = match self.rng.below(36) {
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
            31 => (self.host_is_lost(a), "origin host lost, taken over"),
            32..34 => (
                self.topology.outbox_copies && self.outbox_is_copied(),
                "outbox copied",
            ),
            34 => (
                self.topology.outbox_copies && self.outbox_comes_from_copy(),
                "outbox restored or cloned",
            ),
            _ => (self.two_sinks_meet(), "shard taken over"),
        };
        if happened {
            *self.stats.faults.entry(what).or_default() += 1;
        }
        happened
    }

    fn origin_crashes(&mut self, a: usize, disk_lost: bool) -> bool {
        if !self.a[a].up {
            return false;
        }
        self.note(format_args!(
            "A{a} crashes{}",
            if disk_lost { ", its disk is lost" } else { "" }
        ));
        self.origin_is_cut_off(a);
        let disk = std::mem::take(&mut self.a[a].disk);
        if !disk_lost {
            self.a[a].disk = self.reopened(disk);
        }
        self.origin_starts(a);
        true
    }

    fn origin_is_cut_off(&mut self, a: usize) {
        self.origin_stops(a);
        self.cut_all_of(Node::A(a));
        self.registered.retain(|(gateway, _)| *gateway != a);
        self.oracle.origin_crashed(a);
    }

    /// What is found on a disk after a crash. Where something is missing that was acknowledged, the outbox most often
    /// knows, and does not open: somebody moves it away. Where what it knows by is gone too, it opens as it was once.
    fn reopened(&mut self, mut disk: Outbox) -> Outbox {
        let survive = self.rng.below(disk.at_risk() + 1);
        if !disk.crash(survive) {
            return disk;
        }
        *self.stats.faults.entry("durable that was none").or_default() += 1;
        let noticed = self.rng.chance(50);
        self.note(format_args!(
            "the disk had lied{}",
            if noticed { ": moved away" } else { "" }
        ));
        if noticed { Outbox::default() } else { disk }
    }

    /// A gateway and its disk are gone for a while; the group gives its partitions to the others.
    fn host_is_lost(&mut self, a: usize) -> bool {
        let others: Vec<usize> = (0..self.a.len())
            .filter(|other| *other != a && self.a[*other].up)
            .collect();
        if !self.a[a].up || others.is_empty() {
            return false;
        }
        let until = self.trace.step + 20 + self.rng.below(300) as u64;
        self.note(format_args!("the host of A{a} is lost until step {until}"));
        self.origin_is_cut_off(a);
        self.a[a].disk = Outbox::default();
        self.a[a].away_until = until;
        for p in 0..self.partitions.len() {
            if self.partitions[p].owner == a {
                let owner = self.rng.pick(&others).unwrap_or(a);
                self.partitions[p].owner = owner;
                self.partitions[p].generation += 1;
                self.note(format_args!("the group gives partition {p} to A{owner}"));
            }
        }
        true
    }

    fn outbox_is_copied(&mut self) -> bool {
        let node = self.some_outbox();
        let image = self.outbox_of(node).copy();
        self.note(format_args!("the outbox of {node:?} is copied"));
        self.copies.push((node, image));
        true
    }

    /// An outbox is put back from an older copy, or is a clone of another gateway's.
    fn outbox_comes_from_copy(&mut self) -> bool {
        let node = self.some_outbox();
        let same_kind = |other: Node| match (node, other) {
            (Node::A(_), Node::A(_)) => true,
            (Node::B(b), Node::B(other)) => self.b[b].route == self.b[other].route,
            _ => false,
        };
        let fitting: Vec<usize> = (0..self.copies.len())
            .filter(|copy| same_kind(self.copies[*copy].0))
            .collect();
        let Some(copy) = self.rng.pick(&fitting) else {
            return false;
        };
        let (of, image) = self.copies[copy].clone();
        self.note(format_args!(
            "{node:?} starts from an older copy of {of:?}'s outbox"
        ));
        match node {
            Node::A(a) => {
                self.origin_is_cut_off(a);
                self.a[a].disk = Outbox::of(image);
                self.origin_starts(a);
            }
            Node::B(b) => {
                self.relay_stops(b);
                self.cut_all_of(node);
                self.b[b].disk = Outbox::of(image);
                self.relay_starts(b);
            }
            Node::C(_) => {}
        }
        true
    }

    fn some_outbox(&mut self) -> Node {
        let which = self.rng.below(self.a.len() + self.b.len());
        match which.checked_sub(self.a.len()) {
            Some(b) => Node::B(b),
            None => Node::A(which),
        }
    }

    fn outbox_of(&self, node: Node) -> &Outbox {
        match node {
            Node::A(a) => &self.a[a].disk,
            Node::B(b) | Node::C(b) => &self.b[b].disk,
        }
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
        let disk = std::mem::take(&mut self.b[b].disk);
        if !disk_lost {
            self.b[b].disk = self.reopened(disk);
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
        let up: Vec<usize> = (0..self.a.len()).filter(|a| self.a[*a].up).collect();
        let Some(owner) = self.rng.pick(&up) else {
            return false;
        };
        let partition = &mut self.partitions[p];
        partition.owner = owner;
        partition.generation += 1;
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
        for a in 0..self.a.len() {
            self.origin_returns(a);
        }
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
