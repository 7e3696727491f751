//! Values taken down as the contract's flat tree.

use culvert_plugin::codec::{Decimal, Node, Span, Tree};

/// The contract has no longer lists.
const NODES_MAX: usize = 1_000_000;

/// Texts and bytes of one tree: what one call may return, by the contract.
const BYTES_MAX: usize = 64 << 20;

/// Values come with the innermost ended first, and the tree has each before its children. So all is put down from the
/// back: the children of a container that ends are moved behind those before, in reverse, and at the end all is turned
/// round.
#[derive(Default)]
pub struct TreeOut {
    /// Children of ended containers.
    done: Vec<Node>,
    /// Values whose container has not ended.
    waiting: Vec<Node>,
    /// Where in `waiting` each container that has not ended begins.
    begins: Vec<usize>,
    /// Of texts and bytes.
    bytes: usize,
}

impl TreeOut {
    /// The tree of the one value that came.
    #[must_use]
    pub fn finish(mut self) -> Tree {
        self.done.append(&mut self.waiting);
        self.done.reverse();
        let length = self.done.len() as u32;
        for node in &mut self.done {
            if let Node::Items(span) | Node::Entries(span) = node {
                span.first = length - span.first - span.count;
            }
        }
        Tree { nodes: self.done }
    }

    /// A value that holds no others, nor texts or bytes.
    pub fn push(&mut self, node: Node) {
        self.waiting.push(node);
    }

    /// A text: a value, or the key of the next.
    pub fn push_text(&mut self, text: &str) {
        self.bytes += text.len();
        self.push(Node::Text(text.to_owned()));
    }

    /// Bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.push(Node::Bytes(bytes.to_vec()));
    }

    /// Big-endian two's complement, and the scale.
    pub fn push_decimal(&mut self, unscaled: &[u8], scale: i32) {
        self.bytes += unscaled.len();
        let unscaled = unscaled.to_vec();
        self.push(Node::Decimal(Decimal { unscaled, scale }));
    }

    /// A list, or keys with their values: what comes until its end belongs to it.
    pub fn begin(&mut self) {
        self.begins.push(self.waiting.len());
    }

    /// What was begun last is a list.
    pub fn end_items(&mut self) {
        let span = self.end();
        self.push(Node::Items(span));
    }

    /// What was begun last is keys with their values.
    pub fn end_entries(&mut self) {
        let span = self.end();
        self.push(Node::Entries(span));
    }

    /// Whether it has grown beyond what one answer may hold.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.done.len() + self.waiting.len() > NODES_MAX || self.bytes > BYTES_MAX
    }

    /// The span counts from the back until the tree is turned round.
    fn end(&mut self) -> Span {
        let begin = self.begins.pop().unwrap_or(0);
        let span = Span {
            first: self.done.len() as u32,
            count: (self.waiting.len() - begin) as u32,
        };
        self.done.extend(self.waiting.drain(begin..).rev());
        span
    }
}
