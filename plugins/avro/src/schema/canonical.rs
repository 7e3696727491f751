//! Schemas as text again: the Parsing Canonical Form, which is what fingerprints are made of, and a form that holds all
//! that reading needs, for the head of a container file.

use super::{Kind, Logical, Name, Schema, TypeId};
use plain::json::write_text;
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Only what the bytes depend on.
    Canonical,
    /// With logical types, defaults and aliases.
    Whole,
}

impl Schema {
    /// The Parsing Canonical Form.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.written(Form::Canonical)
    }

    /// One text without references.
    #[must_use]
    pub fn whole(&self) -> String {
        self.written(Form::Whole)
    }

    /// Whether types lie deeper in each other than data may be nested, by names that are each used once: such a schema
    /// could neither be written here nor have data.
    pub(super) fn is_too_deep(&self) -> bool {
        let mut seen = vec![false; self.types.len()];
        let mut waiting = vec![(self.root, 0)];
        while let Some((id, depth)) = waiting.pop() {
            if std::mem::replace(&mut seen[id as usize], true) {
                continue;
            }
            if depth > DEPTH_MAX {
                return true;
            }
            let below = depth + 1;
            match &self.of(id).kind {
                Kind::Array(child) | Kind::Map(child) => waiting.push((*child, below)),
                // Last in, first out: the order in which `Writer` comes by.
                Kind::Union(branches) => waiting.extend(branches.iter().rev().map(|branch| (*branch, below))),
                Kind::Record(record) => {
                    waiting.extend(record.fields.iter().rev().map(|field| (field.kind, below)));
                }
                _ => {}
            }
        }
        false
    }

    fn written(&self, form: Form) -> String {
        let mut writer = Writer {
            schema: self,
            form,
            text: Vec::new(),
            defined: BTreeSet::new(),
        };
        writer.write(self.root);
        String::from_utf8_lossy(&writer.text).into_owned()
    }
}

/// Records, lists, maps and unions in each other: data ends at 100 of the first three.
const DEPTH_MAX: usize = 400;

struct Writer<'a> {
    schema: &'a Schema,
    form: Form,
    text: Vec<u8>,
    /// Named types that stand in the text already.
    defined: BTreeSet<TypeId>,
}

impl Writer<'_> {
    fn write(&mut self, id: TypeId) {
        let schema = self.schema;
        let of = schema.of(id);
        let logical = of.logical.filter(|_| self.form == Form::Whole);
        let name = match &of.kind {
            Kind::Record(record) => Some(&record.name),
            Kind::Enum(of) => Some(&of.name),
            Kind::Fixed(fixed) => Some(&fixed.name),
            _ => None,
        };
        if let Some(name) = name
            && !self.defined.insert(id)
        {
            return write_text(&name.full, &mut self.text);
        }
        match &of.kind {
            Kind::Null => self.primitive("null", logical),
            Kind::Boolean => self.primitive("boolean", logical),
            Kind::Int => self.primitive("int", logical),
            Kind::Long => self.primitive("long", logical),
            Kind::Float => self.primitive("float", logical),
            Kind::Double => self.primitive("double", logical),
            Kind::Bytes => self.primitive("bytes", logical),
            Kind::String => self.primitive("string", logical),
            Kind::Array(items) => self.container("array", "items", *items),
            Kind::Map(values) => self.container("map", "values", *values),
            Kind::Union(branches) => self.list(branches, |writer, branch| writer.write(*branch)),
            Kind::Record(record) => {
                self.head(&record.name, "record");
                self.put(",\"fields\":");
                self.list(&record.fields, |writer, field| {
                    writer.put("{\"name\":");
                    write_text(&field.key.text, &mut writer.text);
                    writer.put(",\"type\":");
                    writer.write(field.kind);
                    if writer.form == Form::Whole {
                        if let Some(default) = &field.default {
                            writer.put(",\"default\":");
                            writer.put(default);
                        }
                        writer.aliases(&field.aliases);
                    }
                    writer.put("}");
                });
                self.put("}");
            }
            Kind::Enum(of) => {
                self.head(&of.name, "enum");
                self.put(",\"symbols\":");
                self.list(&of.symbols, |writer, symbol| write_text(symbol, &mut writer.text));
                if let Some(default) = of.default.as_ref().filter(|_| self.form == Form::Whole) {
                    self.put(",\"default\":");
                    write_text(default, &mut self.text);
                }
                self.put("}");
            }
            Kind::Fixed(fixed) => {
                self.head(&fixed.name, "fixed");
                self.put(&format!(",\"size\":{}", fixed.size));
                self.logical(logical);
                self.put("}");
            }
        }
    }

    fn primitive(&mut self, name: &str, logical: Option<Logical>) {
        if logical.is_none() {
            return write_text(name, &mut self.text);
        }
        self.put(&format!("{{\"type\":\"{name}\""));
        self.logical(logical);
        self.put("}");
    }

    fn container(&mut self, name: &str, of: &str, child: TypeId) {
        self.put(&format!("{{\"type\":\"{name}\",\"{of}\":"));
        self.write(child);
        self.put("}");
    }

    fn head(&mut self, name: &Name, kind: &str) {
        self.put("{\"name\":");
        write_text(&name.full, &mut self.text);
        self.put(&format!(",\"type\":\"{kind}\""));
        if self.form == Form::Whole {
            self.aliases(&name.aliases);
        }
    }

    fn aliases(&mut self, aliases: &[String]) {
        if !aliases.is_empty() {
            self.put(",\"aliases\":");
            self.list(aliases, |writer, alias| write_text(alias, &mut writer.text));
        }
    }

    fn logical(&mut self, logical: Option<Logical>) {
        let Some(logical) = logical else { return };
        self.put(&format!(",\"logicalType\":\"{}\"", logical.name()));
        if let Logical::Decimal { precision, scale } = logical {
            self.put(&format!(",\"precision\":{precision},\"scale\":{scale}"));
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.put("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(",");
            }
            write(self, item);
        }
        self.put("]");
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }
}

/// The fingerprint of nothing, and the polynomial: "Schema Fingerprints" in the specification.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (EMPTY & (value & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

static TABLE: [u64; 256] = table();

/// CRC-64-AVRO.
pub(crate) fn fingerprint_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |value, byte| {
        (value >> 8) ^ TABLE[((value ^ u64::from(*byte)) & 0xff) as usize]
    })
}
