//! What JSON looks like where Protobuf leaves a choice.

use culvert_plugin::Choice;

/// How values are written as JSON and read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) int64: Int64Format,
    pub(crate) defaults: Defaults,
    pub(crate) unknown: UnknownFields,
}

/// What fields are called in JSON and trees. Both names are read.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `customerId`, or what the schema says by `json_name`.
    Json,
    /// As in the schema: `customer_id`.
    Proto,
}

/// How whole numbers of 64 bits are written as JSON. Both are read.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int64Format {
    /// A text: `"12"`, as the JSON mapping of Protobuf says.
    String,
    /// A number with all its digits. Many readers of JSON keep only 15 of them.
    Number,
}

/// What happens to fields that cannot tell absent from zero, where they are zero.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// They are left out, as the JSON mapping of Protobuf says.
    Omit,
    /// They are written: `0`, `""`, `false`, `[]`, `{}`.
    Write,
}

/// What happens to values with a field that the schema does not have.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// They are refused, with `unknown-field`.
    Reject,
    /// The field is left out.
    Ignore,
}
