//! The transformations, a file for each kind. Each is opened with its settings, and then changes one record after another.

mod cast;
mod fields;
mod flatten;
mod headers;
mod mask;
mod path;
mod router;
mod schema;
mod time;

use crate::record::{Record, Side};
use crate::settings::{Given, Mistakes};
use culvert_plugin::Rejection;

/// A transformation with its settings.
pub(crate) trait Step {
    /// # Errors
    /// Why the record cannot be changed; what it is then does not matter.
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection>;
}

/// Whether a record goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    GoesOn,
    Dropped,
}

type Opened = Result<Box<dyn Step>, Mistakes>;

/// A class, and how it is opened.
pub(crate) struct Kind {
    base: &'static str,
    open: Open,
}

enum Open {
    /// `$Key` and `$Value`.
    Sided(fn(&Given, Side) -> Opened),
    Plain(fn(&Given) -> Opened),
}

impl Kind {
    pub(crate) const ALL: &[Kind] = &[
        sided("InsertField", fields::InsertField::open),
        sided("ReplaceField", fields::ReplaceField::open),
        sided("MaskField", mask::MaskField::open),
        sided("HoistField", fields::HoistField::open),
        sided("ExtractField", fields::ExtractField::open),
        plain("ValueToKey", fields::ValueToKey::open),
        sided("SetSchemaMetadata", schema::SetSchemaMetadata::open),
        plain("TimestampRouter", router::TimestampRouter::open),
        plain("RegexRouter", router::RegexRouter::open),
        sided("Flatten", flatten::Flatten::open),
        sided("Cast", cast::Cast::open),
        sided("TimestampConverter", time::TimestampConverter::open),
        plain("Filter", |_| Ok(Box::new(Filter))),
        plain("InsertHeader", headers::InsertHeader::open),
        plain("DropHeaders", headers::DropHeaders::open),
        sided("HeaderFrom", headers::HeaderFrom::open),
    ];

    /// As they are written in settings.
    pub(crate) fn names(&self) -> Vec<String> {
        match self.open {
            Open::Sided(_) => vec![format!("{}$Key", self.base), format!("{}$Value", self.base)],
            Open::Plain(_) => vec![self.base.to_owned()],
        }
    }
}

const fn sided(base: &'static str, open: fn(&Given, Side) -> Opened) -> Kind {
    Kind {
        base,
        open: Open::Sided(open),
    }
}

const fn plain(base: &'static str, open: fn(&Given) -> Opened) -> Kind {
    Kind {
        base,
        open: Open::Plain(open),
    }
}

/// # Errors
/// Everything that is wrong with the settings.
pub(crate) fn open(given: &Given) -> Opened {
    let Some(kind) = Kind::ALL.iter().find(|kind| kind.base == given.base()) else {
        let names: Vec<String> = Kind::ALL.iter().flat_map(Kind::names).collect();
        return Err(vec![(
            "",
            format!("there is no such class; there are {}", names.join(", ")),
        )]);
    };
    let mut mistakes = given.mistakes();
    let side = given.class[given.base().len()..].strip_prefix('$');
    let opened = match (&kind.open, side) {
        (Open::Plain(open), None) => open(given),
        (Open::Sided(open), Some("Key")) => open(given, Side::Key),
        (Open::Sided(open), Some("Value")) => open(given, Side::Value),
        _ => Err(vec![("", format!("is one of {}", kind.names().join(", ")))]),
    };
    match opened {
        Ok(step) if mistakes.is_empty() => Ok(step),
        opened => {
            // What a single key shows is said once.
            let more = opened.err().unwrap_or_default();
            let is_new =
                |(key, _): &(&str, String)| key.is_empty() || !mistakes.iter().any(|(known, _)| known == key);
            let more: Mistakes = more.into_iter().filter(is_new).collect();
            mistakes.extend(more);
            Err(mistakes)
        }
    }
}

/// Drops every record: meant for a stage with a predicate.
struct Filter;

impl Step for Filter {
    fn apply<'a>(&'a self, _: &mut Record<'a>) -> Result<Flow, Rejection> {
        Ok(Flow::Dropped)
    }
}

/// A JSON pointer to a field of this name.
pub(crate) fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
