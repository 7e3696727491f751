//! What a user of a plugin notices of a new version of it, and which version number says so.
//!
//! - *Breaking*: a connector that works with the old file may be refused, ask for a new grant or do something else.
//! - *Added*: everything that worked goes on, and more is possible or wanted.
//! - *Unseen*: words, wishes, code.

use culvert_host::{Description, Examined, Field, FieldType, Validator};
use semver::Version;
use serde::Serialize;
use std::fmt;

/// How much it matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Unseen.
    Patch,
    /// Added.
    Minor,
    /// Breaking.
    Major,
}

use Weight::{Major, Minor, Patch};

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Patch => "patch",
            Minor => "minor",
            Major => "major",
        })
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How much it matters.
    pub weight: Weight,
    /// Of what: `key mode`, `capability http`.
    pub of: String,
    /// In words.
    pub what: String,
}

/// All differences, the weightiest first, in the order of the new description.
#[must_use]
pub fn diff(old: (&Examined, &Description), new: (&Examined, &Description)) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.files(old.0, new.0);
    let (old, new) = (old.1, new.1);
    changes.about(old, new);
    changes.capabilities(old, new);
    changes.promises(old, new);
    changes.needs(old, new);
    changes.fields(&old.fields, &new.fields);
    let mut all = changes.0;
    all.sort_by_key(|change| std::cmp::Reverse(change.weight));
    all
}

/// Whether `new` is a version number that tells of a change of this weight, as in semver.org: below 1.0.0 the minor number
/// stands for what breaks, and the patch for all else.
#[must_use]
pub fn fits(old: &Version, new: &Version, weight: Option<Weight>) -> bool {
    let Some(weight) = weight else { return new >= old };
    let weight = if old.major > 0 {
        weight
    } else {
        match weight {
            Major => Minor,
            Minor | Patch => Patch,
        }
    };
    let told = if new.major > old.major {
        Major
    } else if new.major == old.major && new.minor > old.minor {
        Minor
    } else if new > old {
        Patch
    } else {
        return false;
    };
    told >= weight
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, weight: Weight, of: impl Into<String>, what: impl Into<String>) {
        self.0.push(Change {
            weight,
            of: of.into(),
            what: what.into(),
        });
    }

    fn files(&mut self, old: &Examined, new: &Examined) {
        let words = |examined: &Examined| examined.roles.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (was, is) = (words(old), words(new));
        for role in was.iter().filter(|role| !is.contains(role)) {
            self.add(Major, format!("role {role}"), "is gone");
        }
        for role in is.iter().filter(|role| !was.contains(role)) {
            self.add(Minor, format!("role {role}"), "is new");
        }
        if old.contract != new.contract {
            let same = (old.contract.major, old.contract.minor) == (new.contract.major, new.contract.minor);
            let weight = match (same, new.contract > old.contract) {
                (true, false) => Patch,
                (true, true) => Minor,
                (false, _) => Major,
            };
            self.add(
                weight,
                "contract",
                format!("was {}, is {}", old.contract, new.contract),
            );
        }
    }

    fn about(&mut self, old: &Description, new: &Description) {
        if old.name != new.name {
            self.add(
                Major,
                "name",
                format!("was {}, is {}: connectors name it", old.name, new.name),
            );
        }
        if (&old.summary, &old.documentation) != (&new.summary, &new.documentation) {
            self.add(Patch, "documentation", "has other words");
        }
        self.wish("memory", "MiB", old.memory_mb, new.memory_mb);
        self.wish("time for a batch", "ms", old.batch_ms, new.batch_ms);
    }

    fn wish(&mut self, of: &str, unit: &str, old: Option<u32>, new: Option<u32>) {
        let shown = |wish: Option<u32>| wish.map_or("no wish".to_owned(), |wish| format!("{wish} {unit}"));
        if old != new {
            let weight = if new > old { Minor } else { Patch };
            self.add(weight, of, format!("was {}, is {}", shown(old), shown(new)));
        }
    }

    fn capabilities(&mut self, old: &Description, new: &Description) {
        for request in &new.capabilities {
            let of = format!("capability {}", request.what.word());
            match old.capabilities.iter().find(|known| known.what == request.what) {
                None => self.add(Major, of, format!("is asked for: {}", request.because)),
                Some(known) if known.because != request.because => {
                    self.add(Patch, of, "is asked for in other words");
                }
                Some(_) => {}
            }
        }
        let is_kept = |what| new.capabilities.iter().any(|request| request.what == what);
        for request in old.capabilities.iter().filter(|request| !is_kept(request.what)) {
            self.add(
                Minor,
                format!("capability {}", request.what.word()),
                "is asked for no longer",
            );
        }
    }

    fn promises(&mut self, old: &Description, new: &Description) {
        let (old, new) = (&old.promises, &new.promises);
        let all = [
            ("deterministic", old.deterministic, new.deterministic),
            ("stateless", old.stateless, new.stateless),
            ("idempotent", old.idempotent, new.idempotent),
            ("transactional", old.transactional, new.transactional),
            ("replayable", old.replayable, new.replayable),
        ];
        for (promise, was, is) in all {
            match (was, is) {
                (true, false) => self.add(Major, format!("promise {promise}"), "is given no longer"),
                (false, true) => self.add(Minor, format!("promise {promise}"), "is given"),
                _ => {}
            }
        }
    }

    fn needs(&mut self, old: &Description, new: &Description) {
        let (old, new) = (&old.needs, &new.needs);
        let all = [
            ("keys", old.key, new.key),
            ("values", old.value, new.value),
            ("headers", old.headers, new.headers),
            ("timestamps", old.timestamp, new.timestamp),
        ];
        for (part, was, is) in all {
            match (was, is) {
                (true, false) => self.add(Patch, part, "are looked at no longer"),
                (false, true) => self.add(Minor, part, "are looked at, and may be changed"),
                _ => {}
            }
        }
    }

    fn fields(&mut self, old: &[Field], new: &[Field]) {
        for field in new {
            match predecessor(field, old) {
                Some(was) => self.field(was, field),
                None if field.is_required() => self.add(Major, key(field), "is new, and must be given"),
                None => self.add(Minor, key(field), "is new"),
            }
        }
        for was in old {
            if !new.iter().any(|field| reads(field, &was.name)) {
                self.add(Major, key(was), "is gone");
            }
        }
    }

    fn field(&mut self, was: &Field, is: &Field) {
        if was.name != is.name {
            self.add(
                Minor,
                key(is),
                format!("was called {}, which is still read", was.name),
            );
        }
        for alias in was.aliases.iter().filter(|alias| !reads(is, alias)) {
            self.add(Major, key(is), format!("is no longer read as {alias}"));
        }
        if was.kind != is.kind {
            let weight = if takes_all(was.kind, is.kind) {
                Minor
            } else {
                Major
            };
            self.add(
                weight,
                key(is),
                format!("was of type {}, is {}", word(was.kind), word(is.kind)),
            );
        }
        self.default_of(was, is);
        self.validators(was, is);
        match (&was.deprecated, &is.deprecated) {
            (None, Some(instead)) => self.add(Minor, key(is), format!("is deprecated: {instead}")),
            (Some(_), None) => self.add(Patch, key(is), "is deprecated no longer"),
            _ => {}
        }
        let words = |field: &Field| {
            (
                field.documentation.clone(),
                field.importance,
                field.group.clone(),
                field.display_name.clone(),
                field.example.clone(),
            )
        };
        if words(was) != words(is) {
            self.add(Patch, key(is), "is described in other words");
        }
    }

    fn default_of(&mut self, was: &Field, is: &Field) {
        match (was.is_required(), is.is_required()) {
            (false, true) => return self.add(Major, key(is), "must be given"),
            (true, false) => return self.add(Minor, key(is), "need not be given"),
            _ => {}
        }
        if was.default_value != is.default_value {
            let shown = |field: &Field| match (&field.default_value, field.kind) {
                (Some(_), FieldType::Password) => "***".to_owned(),
                (Some(text), _) => format!("{text:?}"),
                (None, _) => "none".to_owned(),
            };
            self.add(
                Major,
                key(is),
                format!("has another default: was {}, is {}", shown(was), shown(is)),
            );
        }
    }

    fn validators(&mut self, was: &Field, is: &Field) {
        for new in &is.validators {
            let old = was.validators.iter().find(|old| same_kind(old, new));
            match old.map_or(Some(false), |old| takes_all_of(old, new)) {
                Some(true) if old == Some(new) => {}
                Some(true) => self.add(Minor, key(is), "takes more values"),
                Some(false) => self.add(Major, key(is), "takes fewer values"),
                None => self.add(Major, key(is), "takes other values"),
            }
        }
        let is_kept = |old: &&Validator| is.validators.iter().any(|new| same_kind(old, new));
        for _ in was.validators.iter().filter(|old| !is_kept(old)) {
            self.add(Minor, key(is), "takes more values");
        }
    }
}

fn key(field: &Field) -> String {
    format!("key {}", field.name)
}

fn reads(field: &Field, name: &str) -> bool {
    field.name == name || field.aliases.iter().any(|alias| alias == name)
}

/// The old field that is read as this one.
fn predecessor<'a>(field: &Field, old: &'a [Field]) -> Option<&'a Field> {
    let by_name = old.iter().find(|was| was.name == field.name);
    by_name.or_else(|| old.iter().find(|was| reads(field, &was.name)))
}

fn word(kind: FieldType) -> String {
    format!("{kind:?}").to_lowercase()
}

/// Whether whatever was valid stays so.
fn takes_all(was: FieldType, is: FieldType) -> bool {
    use FieldType::{Double, Int, Long, Short, String};
    is == String
        || matches!(
            (was, is),
            (Short, Int | Long | Double) | (Int, Long | Double) | (Long, Double)
        )
}

fn same_kind(one: &Validator, other: &Validator) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether what the old one let pass still does; none where that cannot be told.
fn takes_all_of(was: &Validator, is: &Validator) -> Option<bool> {
    /// A bound that is not there holds nothing back.
    fn bounds<T: PartialOrd + Copy>(was: (Option<T>, Option<T>), is: (Option<T>, Option<T>)) -> bool {
        let least = is.0.is_none_or(|is| was.0.is_some_and(|was| was >= is));
        let most = is.1.is_none_or(|is| was.1.is_some_and(|was| was <= is));
        least && most
    }
    Some(match (was, is) {
        (Validator::Range(a, b), Validator::Range(c, d)) => bounds((*a, *b), (*c, *d)),
        (Validator::Length(a, b), Validator::Length(c, d)) => bounds((*a, *b), (*c, *d)),
        (Validator::OneOf(was), Validator::OneOf(is)) => was.iter().all(|text| is.contains(text)),
        (Validator::Url(was), Validator::Url(is)) => {
            is.is_empty() || (!was.is_empty() && was.iter().all(|scheme| is.contains(scheme)))
        }
        (Validator::Pattern(was), Validator::Pattern(is)) if was != is => return None,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn field() -> Value {
        json!({
            "name": "mode", "kind": "int", "default-value": "1", "validators": [{ "range": [0.0, 9.0] }],
            "importance": "high", "documentation": "", "group": null, "order-in-group": 1, "width": "short",
            "display-name": "", "dependents": [], "internal": false, "aliases": [], "deprecated": null, "example": null,
        })
    }

    fn description() -> Value {
        json!({
            "name": "mask", "version": "1.0.0", "summary": "", "memory-mb": 8, "batch-ms": null, "fields": [field()],
            "capabilities": [{ "what": "http", "because": "asks" }],
            "needs": { "key": false, "value": true, "headers": false, "timestamp": false },
            "promises": { "deterministic": true, "stateless": false, "idempotent": false, "transactional": false,
                "replayable": false },
        })
    }

    fn examined() -> Examined {
        Examined {
            roles: vec![culvert_host::Role::Transform],
            imports: Vec::new(),
            contract: Version::new(0, 1, 0),
            description: None,
            size: 0,
        }
    }

    /// What changes when `path` (as in RFC 6901) becomes `value`.
    fn check(path: &str, value: Value, expected: &[&str]) {
        let mut changed = description();
        *changed.pointer_mut(path).unwrap() = value;
        let read = |json| serde_json::from_value::<Description>(json).unwrap();
        let (old, new, file) = (read(description()), read(changed), examined());
        let told: Vec<String> = diff((&file, &old), (&file, &new))
            .iter()
            .map(|change| format!("{} {}: {}", change.weight, change.of, change.what))
            .collect();
        assert_eq!(told, expected, "{path}");
    }

    #[test]
    fn a_change_weighs_what_a_user_notices_of_it() {
        check("/summary", json!(""), &[]);
        check("/summary", json!("x"), &["patch documentation: has other words"]);
        check(
            "/name",
            json!("veil"),
            &["major name: was mask, is veil: connectors name it"],
        );
        check("/memory-mb", json!(16), &["minor memory: was 8 MiB, is 16 MiB"]);
        check("/memory-mb", json!(4), &["patch memory: was 8 MiB, is 4 MiB"]);
        check(
            "/capabilities",
            json!([]),
            &["minor capability http: is asked for no longer"],
        );
        let more = json!([{ "what": "http", "because": "asks" }, { "what": "state", "because": "counts" }]);
        check(
            "/capabilities",
            more,
            &["major capability state: is asked for: counts"],
        );
        check(
            "/promises/deterministic",
            json!(false),
            &["major promise deterministic: is given no longer"],
        );
        check(
            "/promises/stateless",
            json!(true),
            &["minor promise stateless: is given"],
        );
        check(
            "/needs/key",
            json!(true),
            &["minor keys: are looked at, and may be changed"],
        );
        check(
            "/needs/value",
            json!(false),
            &["patch values: are looked at no longer"],
        );
    }

    #[test]
    fn keys_break_where_what_worked_is_refused_or_does_something_else() {
        check("/fields", json!([]), &["major key mode: is gone"]);
        check(
            "/fields/0/name",
            json!("way"),
            &["major key mode: is gone", "minor key way: is new"],
        );
        let mut renamed = field();
        renamed["name"] = json!("way");
        renamed["aliases"] = json!(["mode"]);
        check(
            "/fields/0",
            renamed,
            &["minor key way: was called mode, which is still read"],
        );
        let mut more = field();
        more["name"] = json!("depth");
        check("/fields", json!([field(), more]), &["minor key depth: is new"]);
        more["default-value"] = Value::Null;
        check(
            "/fields",
            json!([field(), more]),
            &["major key depth: is new, and must be given"],
        );
        check(
            "/fields/0/default-value",
            json!("2"),
            &["major key mode: has another default: was \"1\", is \"2\""],
        );
        check(
            "/fields/0/default-value",
            Value::Null,
            &["major key mode: must be given"],
        );
        check(
            "/fields/0/kind",
            json!("long"),
            &["minor key mode: was of type int, is long"],
        );
        check(
            "/fields/0/kind",
            json!("short"),
            &["major key mode: was of type int, is short"],
        );
        check(
            "/fields/0/validators",
            json!([]),
            &["minor key mode: takes more values"],
        );
        check(
            "/fields/0/validators/0",
            json!({ "range": [0.0, 10.0] }),
            &["minor key mode: takes more values"],
        );
        check(
            "/fields/0/validators/0",
            json!({ "range": [0.0, null] }),
            &["minor key mode: takes more values"],
        );
        check(
            "/fields/0/validators/0",
            json!({ "range": [1.0, 10.0] }),
            &["major key mode: takes fewer values"],
        );
        let both = json!([{ "range": [0.0, 9.0] }, { "pattern": "[0-9]" }]);
        check(
            "/fields/0/validators",
            both,
            &["major key mode: takes fewer values"],
        );
        check(
            "/fields/0/deprecated",
            json!("use way"),
            &["minor key mode: is deprecated: use way"],
        );
        check(
            "/fields/0/documentation",
            json!("x"),
            &["patch key mode: is described in other words"],
        );
    }

    #[test]
    fn a_version_tells_of_a_change() {
        let check = |old: &str, new: &str, weight, expected: bool| {
            let version = |text: &str| Version::parse(text).unwrap();
            assert_eq!(
                fits(&version(old), &version(new), weight),
                expected,
                "{old} {new} {weight:?}"
            );
        };
        check("1.2.3", "1.2.3", None, true);
        check("1.2.3", "1.2.2", None, false);
        check("1.2.3", "1.2.3", Some(Patch), false);
        check("1.2.3", "1.2.4", Some(Patch), true);
        check("1.2.3", "1.2.4", Some(Minor), false);
        check("1.2.3", "1.3.0", Some(Minor), true);
        check("1.2.3", "1.3.0", Some(Major), false);
        check("1.2.3", "2.0.0", Some(Major), true);
        check("0.2.3", "0.3.0", Some(Major), true);
        check("0.2.3", "0.2.4", Some(Major), false);
        check("0.2.3", "0.2.4", Some(Minor), true);
        check("0.2.3", "1.0.0", Some(Major), true);
    }
}
