//! What is wrong with one payload.

use culvert_plugin::Rejection;

/// Lists, objects and what the formats have of the kind, in each other.
pub const DEPTH_MAX: u32 = 100;

/// The codes of all rejections. Stable: they are labels of metrics and keys of alerts.
pub mod code {
    /// The schema itself.
    pub const SCHEMA_INVALID: &str = "schema-invalid";
    /// What was written is nothing that the reader has a place for.
    pub const SCHEMAS_DO_NOT_MATCH: &str = "schemas-do-not-match";
    /// The frame names another schema than the one that was given.
    pub const SCHEMA_ID_MISMATCH: &str = "schema-id-mismatch";
    /// The frame.
    pub const BAD_FRAMING: &str = "bad-framing";
    /// Bytes or a tree that mean nothing.
    pub const MALFORMED: &str = "malformed";
    /// The bytes end too early.
    pub const TRUNCATED: &str = "truncated";
    /// Bytes follow behind the value.
    pub const TRAILING_BYTES: &str = "trailing-bytes";
    /// A limit.
    pub const TOO_DEEP: &str = "too-deep";
    /// A limit.
    pub const TOO_LARGE: &str = "too-large";
    /// A value of the right kind that the type cannot hold.
    pub const OUT_OF_RANGE: &str = "out-of-range";
    /// The text is no JSON.
    pub const NOT_JSON: &str = "not-json";
    /// A value of another kind than the schema's.
    pub const WRONG_TYPE: &str = "wrong-type";
    /// A field that must be there.
    pub const MISSING_FIELD: &str = "missing-field";
    /// A field that the schema does not have.
    pub const UNKNOWN_FIELD: &str = "unknown-field";
}

/// A rejection on its way up: each record, list and map that it passes adds its step to the path. In a box, because
/// nearly every answer is none.
#[derive(Debug)]
pub struct Trouble(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: &'static str,
    reason: String,
    /// Innermost first.
    path: Vec<String>,
}

/// What came of a payload, or of a part of it.
pub type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// One of [`code`], and a sentence's rest for a person.
    #[cold]
    pub fn new(code: &'static str, reason: impl Into<String>) -> Trouble {
        Trouble(Box::new(Inner {
            code,
            reason: reason.into(),
            path: Vec::new(),
        }))
    }

    /// Which of [`code`] it is, or one of a codec's own.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// It happened below this field, item or entry.
    #[cold]
    pub fn below(mut self, step: &(impl ToString + ?Sized)) -> Trouble {
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
pub fn pointer<'a>(steps: impl Iterator<Item = &'a String>) -> String {
    steps
        .map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// Values lie deeper in each other than [`DEPTH_MAX`].
#[cold]
#[must_use]
pub fn too_deep() -> Trouble {
    Trouble::new(
        code::TOO_DEEP,
        format!("values lie more than {DEPTH_MAX} deep in each other"),
    )
}

/// Values in reasons are cut: they may be as long as a payload.
#[must_use]
pub fn cut(text: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
