//! A small store of the connector's own, for sources. Needs a grant.
//!
//! What is put becomes durable together with the answer of the call in which it was put, or not at all.

use crate::Failure;
pub use crate::bindings::capabilities::culvert::plugin::state::Error;

/// The values of some keys, in their order.
///
/// # Errors
/// [`Error::TooLarge`] for a key above 1 KiB.
pub fn get(keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    #[cfg(target_family = "wasm")]
    {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        crate::bindings::capabilities::culvert::plugin::state::get(&keys)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::state_get(keys)
}

/// Sets keys; `None` removes one.
///
/// # Errors
/// [`Error::Quota`] above 4 MiB in all, [`Error::TooLarge`] for a key above 1 KiB or a value above 512 KiB.
pub fn put(entries: &[(&[u8], Option<&[u8]>)]) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        let owned = |&(key, value): &(&[u8], Option<&[u8]>)| (key.to_vec(), value.map(<[u8]>::to_vec));
        let entries: Vec<_> = entries.iter().map(owned).collect();
        crate::bindings::capabilities::culvert::plugin::state::put(&entries)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::state_put(entries)
}

/// State that does not fit needs a person.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::fatal(match error {
            Error::Quota => "the plugin's state is full: it holds at most 4 MiB",
            Error::TooLarge => {
                "a key above 1 KiB or a value above 512 KiB does not fit into the plugin's state"
            }
        })
    }
}
