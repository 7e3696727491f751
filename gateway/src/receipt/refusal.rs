//! What does not hold of a receipt.

use super::{Hash, Role};

/// Why a document, or a receipt in it, proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not spelled as receipts are.
    #[error("[CULVERT-F060] this is no receipt as it was written: {0}")]
    Format(String),
    /// A signature is not of these bytes and this key.
    #[error("[CULVERT-F061] the signature of the {role} does not hold: {problem}")]
    Signature {
        /// Whose.
        role: Role,
        /// What is wrong.
        problem: String,
    },
    /// The certificate names somebody else.
    #[error("[CULVERT-F062] the {role} says it is {stated}, its certificate says {found}")]
    Name {
        /// Whose.
        role: Role,
        /// The name in the statement.
        stated: String,
        /// The names in the certificate.
        found: String,
    },
    /// No authority that was given stands behind the certificate.
    #[error("[CULVERT-F062] the certificate of the {role} ({gateway}) is not proven at {time}: {cause}")]
    Authority {
        /// Whose.
        role: Role,
        /// The name in it.
        gateway: String,
        /// The time of the statement.
        time: String,
        /// Why.
        cause: String,
    },
    /// Both ends say different things of one.
    #[error(
        "[CULVERT-F063] the two statements do not agree: {what} is {origin} at the origin and {sink} at the sink"
    )]
    Disagree {
        /// Which field.
        what: &'static str,
        /// What the origin says.
        origin: String,
        /// What the sink says.
        sink: String,
    },
    /// A statement cannot be true, or is not the one that has to stand there.
    #[error("[CULVERT-F063] the statement of the {role} cannot be: {problem}")]
    Impossible {
        /// Whose.
        role: Role,
        /// Why.
        problem: String,
    },
    /// Something is missing or there twice.
    #[error(
        "[CULVERT-F064] the {role} says that {gaps} records are missing and {duplicates} are there more than once"
    )]
    NotWhole {
        /// Who says so.
        role: Role,
        /// Missing.
        gaps: u64,
        /// Doubled.
        duplicates: u64,
    },
    /// It is another receipt than its hash names.
    #[error("[CULVERT-F065] the receipt has hash {computed}, and says {stated}")]
    Hash {
        /// What stands there.
        stated: Hash,
        /// What it is.
        computed: Hash,
    },
    /// It does not come behind an earlier one.
    #[error("[CULVERT-F065] the receipt does not follow the earlier one: {problem}")]
    Chain {
        /// Why.
        problem: String,
    },
    /// What is wrong with one of several receipts.
    #[error("{fault} (stream {stream} of route {route})")]
    Of {
        /// Its route.
        route: String,
        /// Its stream.
        stream: String,
        /// What is wrong.
        fault: Box<Refusal>,
    },
}

impl Refusal {
    /// The code of the page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Format(_) => "CULVERT-F060",
            Refusal::Signature { .. } => "CULVERT-F061",
            Refusal::Name { .. } | Refusal::Authority { .. } => "CULVERT-F062",
            Refusal::Disagree { .. } | Refusal::Impossible { .. } => "CULVERT-F063",
            Refusal::NotWhole { .. } => "CULVERT-F064",
            Refusal::Hash { .. } | Refusal::Chain { .. } => "CULVERT-F065",
            Refusal::Of { fault, .. } => fault.code(),
        }
    }
}

/// A text without the code before it, for where that stands apart.
#[must_use]
pub fn without_code(text: &str) -> &str {
    match text.split_once("] ") {
        Some((code, rest)) if code.starts_with("[CULVERT-") => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_away_and_nothing_else() {
        let format = Refusal::Format("[0, 1] is empty".into()).to_string();
        assert_eq!(
            without_code(&format),
            "this is no receipt as it was written: [0, 1] is empty"
        );
        assert_eq!(without_code("[0, 1] is empty"), "[0, 1] is empty");
    }
}
