//! What a plugin itself thinks of its settings, beside the checks that are data: two keys that exclude each other, say.

use crate::bindings::meta;
use crate::component::Plugin;
use crate::fault::{LoadError, OpenError, Poison};
use crate::guest::{self, Limits, Nursery};
use crate::surroundings::Surroundings;
use crate::transform::settings_of;

/// The most errors that are taken. By eye: nobody reads more.
const ERRORS_MAX: usize = 100;

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key. Whether the plugin has one of that name is not looked at.
    pub key: String,
    /// The plugin's own words, without passwords, at most 4 KiB.
    pub problem: String,
}

/// Asks a plugin about its settings, in an instance of its own that nothing is granted to. At most 100 answers.
///
/// # Errors
/// When it cannot be linked or does not come back.
pub fn validate(
    plugin: &Plugin,
    settings: &[(String, Option<String>)],
    limits: Limits,
) -> Result<Vec<Wrong>, OpenError> {
    let around = Surroundings::bare();
    let veil = around.veil(plugin, settings);
    let linked = guest::link(&plugin.engine, &plugin.component)?;
    let pre = meta::MetaPre::new(linked).map_err(|error| LoadError::MissingExport {
        missing: format!("what culvert:plugin/meta holds ({error:#})"),
    })?;
    let time = limits.call_time_max;
    let nursery = Nursery::new(plugin.engine.clone(), limits, around, veil);
    let failed = |poison: Poison| OpenError::Poison(poison);
    let mut instance = nursery
        .instantiate(|store| pre.instantiate(store))
        .map_err(failed)?;
    let values = settings_of(settings);
    let verdicts = nursery
        .call(&mut instance, time, |exports, store| {
            exports.culvert_plugin_meta().call_validate(store, &values)
        })
        .map_err(failed)?;
    let mut wrong = Vec::new();
    for verdict in verdicts {
        for error in verdict.errors {
            if wrong.len() < ERRORS_MAX {
                wrong.push(Wrong {
                    key: nursery.words(verdict.name.clone()),
                    problem: nursery.words(error),
                });
            }
        }
    }
    Ok(wrong)
}
