//! A small store of the connector's own.
//!
//! What a call puts lies on top of what is stored, and belongs to the call's answer: whoever made the call takes it with
//! [`Desk::take`] and keeps it with the answer, or forgets both.

use super::outside;
use crate::bindings::capabilities::culvert::plugin::state;
use crate::surroundings::Cut;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All keys and values of one connector's task. The outbox keeps its settings in memory, 64 MiB of them.
pub(crate) const STATE_BYTES_MAX: usize = 4 << 20;

/// The longest key.
pub(crate) const KEY_BYTES_MAX: usize = 1024;

/// The longest value. With its key it has to fit into a setting of the outbox.
pub(crate) const VALUE_BYTES_MAX: usize = 512 * 1024;

/// The most keys that are looked up at once, and that one call of the plugin puts altogether.
const KEYS_PER_CALL_MAX: usize = 1_000;

/// What a call put; without a value, the key is forgotten.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What is stored, shared by the instances that follow one another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl Stored {
    /// These were kept.
    pub(crate) fn apply(&self, changes: &Changes) {
        let mut table = self.0.lock();
        for (key, value) in changes {
            table.bytes -= table.size_of(key);
            match value {
                Some(value) => {
                    table.bytes += key.len() + value.len();
                    table.entries.insert(key.clone(), value.clone());
                }
                None => drop(table.entries.remove(key)),
            }
        }
    }
}

impl Table {
    fn size_of(&self, key: &[u8]) -> usize {
        size(key, self.entries.get(key))
    }
}

fn size(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    value.map_or(0, |value| key.len() + value.len())
}

/// The store as one instance sees it.
pub(crate) struct Desk {
    stored: Stored,
    puts: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    cut: Option<Cut>,
}

impl Desk {
    pub(crate) fn new(stored: Stored, cut: Option<Cut>) -> Desk {
        let puts = BTreeMap::new();
        Desk { stored, puts, cut }
    }

    /// What was put since this was last asked.
    pub(crate) fn take(&mut self) -> Changes {
        std::mem::take(&mut self.puts).into_iter().collect()
    }

    /// How much there would be with these on top: what they take the place of goes, and counts no more.
    fn bytes_with(&self, entries: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> usize {
        let table = self.stored.0.lock();
        let mut bytes = table.bytes;
        let on_top = self.puts.iter().filter(|(key, _)| !entries.contains_key(*key));
        for (key, value) in on_top.chain(entries) {
            bytes = bytes + size(key, value.as_ref()) - table.size_of(key);
        }
        bytes
    }
}

fn check_count(what: &str, count: usize) -> wasmtime::Result<()> {
    if count > KEYS_PER_CALL_MAX {
        wasmtime::bail!("state.{what}: {count} keys; at most {KEYS_PER_CALL_MAX} at once");
    }
    Ok(())
}

impl state::Host for Desk {
    fn get(&mut self, keys: Vec<Vec<u8>>) -> wasmtime::Result<Result<Vec<Option<Vec<u8>>>, state::Error>> {
        outside(self.cut.as_ref(), "state.get")?;
        check_count("get", keys.len())?;
        if keys.iter().any(|key| key.len() > KEY_BYTES_MAX) {
            return Ok(Err(state::Error::TooLarge));
        }
        let table = self.stored.0.lock();
        let look_up = |key: Vec<u8>| match self.puts.get(&key) {
            Some(put) => put.clone(),
            None => table.entries.get(&key).cloned(),
        };
        Ok(Ok(keys.into_iter().map(look_up).collect()))
    }

    fn put(
        &mut self,
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> wasmtime::Result<Result<(), state::Error>> {
        outside(self.cut.as_ref(), "state.put")?;
        check_count("put", entries.len())?;
        let is_large = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            key.len() > KEY_BYTES_MAX || value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX)
        };
        if entries.iter().any(is_large) {
            return Ok(Err(state::Error::TooLarge));
        }
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        if self.bytes_with(&entries) > STATE_BYTES_MAX {
            return Ok(Err(state::Error::Quota));
        }
        self.puts.extend(entries);
        check_count("put", self.puts.len())?;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::state::Host;
    use super::*;

    fn put(desk: &mut Desk, key: &[u8], value: Option<&[u8]>) -> Result<(), state::Error> {
        let entry = (key.to_vec(), value.map(<[u8]>::to_vec));
        desk.put(vec![entry]).expect("no trap")
    }

    fn get(desk: &mut Desk, key: &[u8]) -> Option<Vec<u8>> {
        let mut found = desk.get(vec![key.to_vec()]).expect("no trap").expect("no error");
        found.pop().flatten()
    }

    #[test]
    fn what_a_call_put_is_seen_by_it_and_forgotten_with_its_instance() {
        let stored = Stored::default();
        stored.apply(&vec![(b"a".to_vec(), Some(b"1".to_vec()))]);
        let mut desk = Desk::new(stored.clone(), None);
        put(&mut desk, b"a", None).expect("taken");
        put(&mut desk, b"b", Some(b"2")).expect("taken");
        assert_eq!(get(&mut desk, b"a"), None);
        assert_eq!(get(&mut desk, b"b").as_deref(), Some(&b"2"[..]));
        let mut fresh = Desk::new(stored.clone(), None);
        assert_eq!(get(&mut fresh, b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&mut fresh, b"b"), None);
        stored.apply(&desk.take());
        assert_eq!(get(&mut fresh, b"b").as_deref(), Some(&b"2"[..]));
        assert_eq!(get(&mut fresh, b"a"), None);
    }

    #[test]
    fn what_is_too_much_is_refused_and_changes_nothing() {
        let mut desk = Desk::new(Stored::default(), None);
        let large = vec![0; VALUE_BYTES_MAX + 1];
        assert!(matches!(
            put(&mut desk, b"a", Some(&large)),
            Err(state::Error::TooLarge)
        ));
        assert!(matches!(
            put(&mut desk, &large, None),
            Err(state::Error::TooLarge)
        ));
        let most = vec![0; VALUE_BYTES_MAX];
        let taken = (0..u8::MAX).take_while(|n| put(&mut desk, &[*n], Some(&most)).is_ok());
        assert_eq!(taken.count(), STATE_BYTES_MAX / (VALUE_BYTES_MAX + 1));
        assert!(matches!(
            put(&mut desk, b"z", Some(&most)),
            Err(state::Error::Quota)
        ));
        assert_eq!(get(&mut desk, b"z"), None);
        // What takes the place of something else counts once.
        put(&mut desk, &[0], Some(&most)).expect("taken");
        put(&mut desk, &[0], None).expect("taken");
        put(&mut desk, b"z", Some(&most)).expect("taken");
    }
}
