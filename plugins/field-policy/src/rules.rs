//! Rules by path, as a tree: its edges are names, and one for any name.

use culvert_plugin::FieldType;
use culvert_plugin::prelude::*;
use std::ops::Range;

/// What becomes of a field; a later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Hash,
    Mask,
    Drop,
    Deny,
}

/// A JSON pointer whose names may be `*`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pointer(Vec<Segment>);

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Any,
    Named(Name),
}

/// A name, and the item of a list that it is where it is a number.
#[derive(Clone, Debug, PartialEq)]
struct Name {
    text: String,
    item: Option<usize>,
}

impl Setting for Pointer {
    const KIND: FieldType = FieldType::String;

    fn parse(text: &str) -> Result<Pointer, String> {
        let wrong =
            || format!("is `{text}`, and must be a JSON pointer such as /customer/name or /items/*/note");
        let segments = text.strip_prefix('/').ok_or_else(wrong)?.split('/');
        segments
            .map(|segment| Segment::parse(segment).ok_or_else(wrong))
            .collect::<Result<_, _>>()
            .map(Pointer)
    }
}

impl Segment {
    fn parse(segment: &str) -> Option<Segment> {
        if segment == "*" {
            return Some(Segment::Any);
        }
        let mut text = String::with_capacity(segment.len());
        let mut characters = segment.chars();
        while let Some(character) = characters.next() {
            text.push(match character {
                '~' => match characters.next()? {
                    '0' => '~',
                    '1' => '/',
                    _ => return None,
                },
                other => other,
            });
        }
        // RFC 6901: an item's number has no leading zeros.
        let is_number =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let item = text.parse().ok().filter(|_| is_number);
        Some(Segment::Named(Name { text, item }))
    }
}

/// All rules of a policy.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The first is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    action: Option<Action>,
    any: Option<usize>,
    named: Vec<(Name, usize)>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            nodes: vec![Node::default()],
        }
    }
}

impl Rules {
    pub(crate) fn add(&mut self, pointer: &Pointer, action: Action) {
        let at = pointer.0.iter().fold(0, |at, segment| self.child(at, segment));
        let node = &mut self.nodes[at];
        node.action = node.action.max(Some(action));
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let node = &self.nodes[at];
        let known = match segment {
            Segment::Any => node.any,
            Segment::Named(name) => node
                .named
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, child)| *child),
        };
        if let Some(child) = known {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        match segment {
            Segment::Any => self.nodes[at].any = Some(child),
            Segment::Named(name) => self.nodes[at].named.push((name.clone(), child)),
        }
        child
    }
}

/// What a field is called where it stands.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Name(&'a str),
    Item(usize),
}

impl Name {
    fn is(&self, step: Step<'_>) -> bool {
        match step {
            Step::Name(name) => self.text == name,
            Step::Item(item) => self.item == Some(item),
        }
    }
}

/// Where a walk through a message stands in the tree: in several places at once, because `*` and a name may both fit.
/// The places of each level lie behind those of the level above, in one buffer.
pub(crate) struct Walk<'a> {
    rules: &'a Rules,
    places: Vec<usize>,
}

/// The places of one level.
pub(crate) type Places = Range<usize>;

impl<'a> Walk<'a> {
    /// At the root of a message.
    pub(crate) fn new(rules: &'a Rules) -> (Walk<'a>, Places) {
        (
            Walk {
                rules,
                places: vec![0],
            },
            0..1,
        )
    }

    /// The places one step down, until [`back`](Walk::back).
    pub(crate) fn down(&mut self, from: Places, step: Step<'_>) -> Places {
        let begin = self.places.len();
        for at in from {
            let node = &self.rules.nodes[self.places[at]];
            self.places.extend(node.any);
            let named = node.named.iter().filter(|(name, _)| name.is(step));
            self.places.extend(named.map(|(_, child)| *child));
        }
        begin..self.places.len()
    }

    /// Forgets the places of a level and of all below it.
    pub(crate) fn back(&mut self, level: &Places) {
        self.places.truncate(level.start);
    }

    /// The strongest rule of these places.
    pub(crate) fn action(&self, places: &Places) -> Option<Action> {
        let actions = self.places[places.clone()]
            .iter()
            .map(|place| self.rules.nodes[*place].action);
        actions.max().flatten()
    }
}
