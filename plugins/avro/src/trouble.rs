//! What is wrong with one payload.

use culvert_plugin::Rejection;

/// The codes of all rejections. Stable: they are labels of metrics and keys of alerts.
pub(crate) mod code {
    pub(crate) const SCHEMA_INVALID: &str = "schema-invalid";
    pub(crate) const SCHEMAS_DO_NOT_MATCH: &str = "schemas-do-not-match";
    pub(crate) const SCHEMA_ID_MISMATCH: &str = "schema-id-mismatch";
    pub(crate) const BAD_FRAMING: &str = "bad-framing";
    pub(crate) const MALFORMED: &str = "malformed";
    pub(crate) const TRUNCATED: &str = "truncated";
    pub(crate) const TRAILING_BYTES: &str = "trailing-bytes";
    pub(crate) const TOO_DEEP: &str = "too-deep";
    pub(crate) const TOO_LARGE: &str = "too-large";
    pub(crate) const OUT_OF_RANGE: &str = "out-of-range";
    pub(crate) const NOT_JSON: &str = "not-json";
    pub(crate) const WRONG_TYPE: &str = "wrong-type";
    pub(crate) const MISSING_FIELD: &str = "missing-field";
    pub(crate) const UNKNOWN_FIELD: &str = "unknown-field";
}

/// A rejection on its way up: each record, list and map that it passes adds its step to the path. In a box, because
/// nearly every answer is none.
#[derive(Debug)]
pub(crate) struct Trouble(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: &'static str,
    reason: String,
    /// Innermost first.
    path: Vec<String>,
}

pub(crate) type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    #[cold]
    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Trouble {
        Trouble(Box::new(Inner {
            code,
            reason: reason.into(),
            path: Vec::new(),
        }))
    }

    /// It happened below this field, item or entry.
    #[cold]
    pub(crate) fn below(mut self, step: &(impl ToString + ?Sized)) -> Trouble {
        self.0.path.push(step.to_string());
        self
    }
}

impl From<Trouble> for Rejection {
    fn from(trouble: Trouble) -> Rejection {
        let Inner { code, reason, path } = *trouble.0;
        let rejection = Rejection::new(code, reason);
        if path.is_empty() {
            return rejection;
        }
        rejection.at(pointer(path.iter().rev()))
    }
}

/// A JSON pointer (RFC 6901).
pub(crate) fn pointer<'a>(steps: impl Iterator<Item = &'a String>) -> String {
    steps
        .map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1")))
        .collect()
}
