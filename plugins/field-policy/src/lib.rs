#![doc = include_str!("../README.md")]

mod json;
mod policy;
mod rules;

use culvert_plugin::prelude::*;
use policy::Policy;
use rules::{Action, Pointer, Rules};

/// The settings.
#[derive(Config)]
struct Settings {
    /// Paths of fields that must not be there: a message that has one becomes a dead letter.
    #[config(default = "", importance = "high", group = "Rules", example = "/card/number")]
    deny: Vec<Pointer>,
    /// Paths of fields that are left out.
    #[config(default = "", importance = "high", group = "Rules", example = "/debug")]
    drop: Vec<Pointer>,
    /// Paths of fields whose content is covered.
    #[config(
        default = "",
        importance = "high",
        group = "Rules",
        example = "/customer/name,/items/*/note"
    )]
    mask: Vec<Pointer>,
    /// Paths of fields that are replaced by their HMAC-SHA-256.
    #[config(
        default = "",
        importance = "high",
        group = "Rules",
        example = "/customer/email",
        dependents = ["hash.key"]
    )]
    hash: Vec<Pointer>,
    /// What covers a masked field.
    #[config(name = "mask.text", default = "***", importance = "low", group = "How")]
    mask_text: String,
    /// The key of the HMAC: needed where `hash` has paths. Who knows it can try out what was hashed.
    #[config(name = "hash.key", min_length = 16, importance = "high", group = "How")]
    hash_key: Option<Secret>,
}

/// The plugin.
struct FieldPolicy {
    policy: Policy,
}

impl Transform for FieldPolicy {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .needs(Needs::VALUE)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<FieldPolicy, Failure> {
        let mut rules = Rules::default();
        let lists = [
            (Action::Deny, &settings.deny),
            (Action::Drop, &settings.drop),
            (Action::Mask, &settings.mask),
            (Action::Hash, &settings.hash),
        ];
        for (action, pointers) in lists {
            for pointer in pointers {
                rules.add(pointer, action);
            }
        }
        let key = settings.hash_key.as_ref().map(Secret::reveal);
        Ok(FieldPolicy {
            policy: Policy::new(rules, &settings.mask_text, key),
        })
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let Some(value) = message.value() else {
            return Ok(Outcome::Keep);
        };
        Ok(self.policy.apply(value)?.map_or(Outcome::Keep, Outcome::Value))
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        let lacks_key = !settings.hash.is_empty() && settings.hash_key.is_none();
        let verdict = || Verdict::error("hash.key", "is needed where `hash` has paths, and not set");
        lacks_key.then(verdict).into_iter().collect()
    }
}

culvert_plugin::export_transform!(FieldPolicy);

#[cfg(test)]
mod tests;
