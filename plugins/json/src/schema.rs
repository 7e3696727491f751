//! Schemas, read and made ready.
//!
//! All subschemas lie in one list and name each other by their place, so that a schema may hold itself.

mod compile;
mod documents;

use crate::number::Number;
use regress::Regex;
use std::collections::HashMap;
use std::fmt;

/// A schema that is ready to be used.
pub struct Schema {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    /// Anchors that another schema may take over, by resource and name.
    pub(crate) dynamic: HashMap<(ResourceId, String), NodeId>,
    /// Whether anything asks what others have looked at.
    pub(crate) has_unevaluated: bool,
}

pub(crate) type NodeId = u32;

/// A schema with an address of its own, counted over all documents.
pub(crate) type ResourceId = u32;

/// Why a text is no schema.
#[derive(Debug, PartialEq)]
pub struct Invalid(pub(crate) String);

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The versions of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Draft {
    Four,
    Six,
    Seven,
    Y2019,
    Y2020,
}

/// One subschema: what its keywords ask for.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) resource: ResourceId,
    /// `false` as a schema.
    pub(crate) is_never: bool,
    pub(crate) reference: Option<NodeId>,
    /// `$dynamicRef` or `$recursiveRef`: the anchor to look for, and the schema where none is found.
    pub(crate) dynamic: Option<(String, NodeId)>,
    pub(crate) types: Option<Types>,
    /// As canonical texts.
    pub(crate) one_of_values: Option<Vec<String>>,
    pub(crate) numbers: Option<Box<Numbers>>,
    pub(crate) texts: Option<Box<Texts>>,
    pub(crate) arrays: Option<Box<Arrays>>,
    pub(crate) objects: Option<Box<Objects>>,
    pub(crate) all_of: Vec<NodeId>,
    pub(crate) any_of: Vec<NodeId>,
    pub(crate) one_of: Vec<NodeId>,
    pub(crate) not: Option<NodeId>,
    pub(crate) condition: Option<Condition>,
    pub(crate) unevaluated_items: Option<NodeId>,
    pub(crate) unevaluated_properties: Option<NodeId>,
}

#[derive(Clone, Copy)]
pub(crate) struct Condition {
    pub(crate) when: NodeId,
    pub(crate) then: Option<NodeId>,
    pub(crate) otherwise: Option<NodeId>,
}

/// Which types a value may have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Types {
    pub(crate) null: bool,
    pub(crate) boolean: bool,
    pub(crate) number: bool,
    pub(crate) integer: bool,
    pub(crate) text: bool,
    pub(crate) array: bool,
    pub(crate) object: bool,
    /// Draft 4: 1.0 is no integer.
    pub(crate) is_strict: bool,
}

#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) multiple_of: Option<Number>,
    /// Each with whether it is itself too large.
    pub(crate) most: Vec<(Number, bool)>,
    /// Each with whether it is itself too small.
    pub(crate) least: Vec<(Number, bool)>,
}

#[derive(Default)]
pub(crate) struct Texts {
    pub(crate) longest: Option<u64>,
    pub(crate) shortest: Option<u64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<String>,
}

pub(crate) struct Pattern {
    pub(crate) text: String,
    pub(crate) regex: Regex,
}

#[derive(Default)]
pub(crate) struct Arrays {
    /// For the first items, one for each.
    pub(crate) prefix: Vec<NodeId>,
    /// For those behind.
    pub(crate) items: Option<NodeId>,
    pub(crate) most: Option<u64>,
    pub(crate) least: Option<u64>,
    pub(crate) is_unique: bool,
    pub(crate) contains: Option<Contains>,
}

pub(crate) struct Contains {
    pub(crate) what: NodeId,
    pub(crate) least: u64,
    pub(crate) most: Option<u64>,
    /// 2020-12: what it finds counts as looked at.
    pub(crate) marks: bool,
}

#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) most: Option<u64>,
    pub(crate) least: Option<u64>,
    pub(crate) required: Vec<String>,
    pub(crate) properties: HashMap<String, NodeId>,
    pub(crate) patterns: Vec<(Pattern, NodeId)>,
    pub(crate) additional: Option<NodeId>,
    pub(crate) names: Option<NodeId>,
    /// Where the first is there, the others must be.
    pub(crate) dependent_required: Vec<(String, Vec<String>)>,
    /// Where it is there, the whole object must fit.
    pub(crate) dependent_schemas: Vec<(String, NodeId)>,
}

impl Schema {
    /// Reads a JSON Schema; `references` are others it refers to, by the names it uses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Schema, Invalid> {
        let documents = documents::Documents::read(text, references)?;
        compile::schema(&documents)
    }
}
