//! From JSON to types.

use super::{Enum, Field, Fixed, Invalid, Key, Kind, Logical, Name, Record, Type, TypeId, Unit};
use plain::json::{At, Json, Token};
use plain::trouble::pointer;
use std::collections::{BTreeMap, BTreeSet};

/// How deep the JSON of a schema may be nested: a type takes one to four levels of it.
const DEPTH_MAX: usize = 256;

/// By eye: a hundred times the largest schemas that are met.
const TYPES_MAX: usize = 100_000;

/// The largest fixed: more than any payload holds.
const FIXED_MAX: u64 = i32::MAX as u64;

pub(super) fn parse(text: &str, references: &[(String, String)]) -> Result<(Vec<Type>, TypeId), Invalid> {
    let mut parser = Parser {
        types: Vec::new(),
        names: BTreeMap::new(),
        references,
        begun: vec![false; references.len()],
        current: None,
        path: Vec::new(),
        depth: 0,
    };
    match parser.document(text) {
        Ok(root) => Ok((parser.types, root)),
        Err(why) => Err(Invalid {
            reference: parser.current.map(|at| references[at].0.clone()),
            at: pointer(parser.path.iter()),
            why,
        }),
    }
}

struct Parser<'a> {
    types: Vec<Type>,
    /// Full names.
    names: BTreeMap<String, TypeId>,
    references: &'a [(String, String)],
    /// Which of them are read, or being read.
    begun: Vec<bool>,
    /// The reference that is being read.
    current: Option<usize>,
    /// The place in the text that is being read. Stays where it is when something is wrong.
    path: Vec<String>,
    /// Types being read, those of a reference inside of those that name it.
    depth: usize,
}

/// What is wrong at the path, as a sentence's rest.
type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    fn document(&mut self, text: &str) -> Parsed<TypeId> {
        // A registry's texts are JSON; a bare name such as `string` is also taken, as Avro's own tools do.
        let json = match Json::parse(text.as_bytes(), DEPTH_MAX) {
            Ok(json) => json,
            Err(_) if text.trim().split('.').all(is_name) => return self.named(text.trim(), ""),
            Err(wrong) => return Err(format!("is no JSON: at byte {}, {}", wrong.at, wrong.why)),
        };
        self.read(&json, 0, "")
    }

    fn read(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        if self.depth == DEPTH_MAX {
            return Err("is nested too deeply".to_owned());
        }
        self.depth += 1;
        let id = match json.token(at) {
            Token::Text(name) => self.named(&name.read(), namespace),
            Token::Array(_) => self.union(json, at, namespace),
            Token::Object(_) => self.complex(json, at, namespace),
            _ => Err("is no type: a name, an object or a list is".to_owned()),
        }?;
        self.depth -= 1;
        Ok(id)
    }

    /// Reads what lies at a step below.
    fn below<T>(
        &mut self,
        step: &(impl ToString + ?Sized),
        read: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        self.path.push(step.to_string());
        let read = read(self)?;
        self.path.pop();
        Ok(read)
    }

    fn add(&mut self, kind: Kind, logical: Option<Logical>) -> Parsed<TypeId> {
        if self.types.len() == TYPES_MAX {
            return Err(format!("is one type too many: {TYPES_MAX} is the most"));
        }
        self.types.push(Type { kind, logical });
        Ok(self.types.len() as TypeId - 1)
    }

    fn named(&mut self, name: &str, namespace: &str) -> Parsed<TypeId> {
        if let Some(kind) = primitive(name) {
            return self.add(kind, None);
        }
        let full = full_name(name, namespace);
        if let Some(id) = self.known(&full, name) {
            return Ok(id);
        }
        self.read_references(&full, name)?;
        self.known(&full, name)
            .ok_or_else(|| format!("names the type `{full}`, and there is none of that name"))
    }

    /// A name without a dot is also looked for without a namespace, as Avro's own parsers do.
    fn known(&self, full: &str, name: &str) -> Option<TypeId> {
        self.names.get(full).or_else(|| self.names.get(name)).copied()
    }

    /// Reads the reference of this name, and where that does not help the others until the name is there.
    fn read_references(&mut self, full: &str, name: &str) -> Parsed<()> {
        let references = self.references;
        let is_named = |at: &usize| references[*at].0 == full || references[*at].0 == name;
        let (named, others): (Vec<usize>, Vec<usize>) = (0..references.len()).partition(is_named);
        for at in named.into_iter().chain(others) {
            if self.known(full, name).is_some() {
                break;
            }
            if !self.begun[at] {
                self.reference(at)?;
            }
        }
        Ok(())
    }

    fn reference(&mut self, at: usize) -> Parsed<()> {
        self.begun[at] = true;
        let (_, text) = &self.references[at];
        let is_known_text =
            |other: usize| other != at && self.begun[other] && self.references[other].1 == *text;
        if (0..self.references.len()).any(is_known_text) {
            return Ok(()); // the same schema under another name
        }
        let outer = (self.current.replace(at), std::mem::take(&mut self.path));
        self.document(text)?;
        (self.current, self.path) = outer;
        Ok(())
    }

    fn union(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        let mut branches = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, item) in json.items(at).enumerate() {
            let branch = self.below(&index, |parser| {
                let branch = parser.read(json, item, namespace)?;
                let name = parser.branch_name(branch)?;
                match seen.insert(name.clone()) {
                    true => Ok(branch),
                    false => Err(format!("is the second `{name}` of its union")),
                }
            })?;
            branches.push(branch);
        }
        if branches.is_empty() {
            return Err("is a union of nothing".to_owned());
        }
        self.add(Kind::Union(branches), None)
    }

    /// What only one branch of a union may be.
    fn branch_name(&self, id: TypeId) -> Parsed<String> {
        let name = match &self.types[id as usize].kind {
            Kind::Union(_) => return Err("is a union in a union".to_owned()),
            Kind::Record(record) => &record.name.full,
            Kind::Enum(of) => &of.name.full,
            Kind::Fixed(fixed) => &fixed.name.full,
            other => other.word(),
        };
        Ok(name.to_owned())
    }

    fn complex(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        let Some(kind) = json.member(at, "type") else {
            return Err("has no `type`".to_owned());
        };
        let Token::Text(name) = json.token(kind) else {
            // `{"type": {"type": …}}`, where the logical type may stand outside.
            let inner = self.below("type", |parser| parser.read(json, kind, namespace))?;
            return self.annotated(json, at, inner);
        };
        match &*name.read() {
            "record" | "error" => self.record(json, at, namespace),
            "enum" => self.enumeration(json, at, namespace),
            "fixed" => self.fixed(json, at, namespace),
            "array" => {
                let items = self.child(json, at, "items", namespace)?;
                self.add(Kind::Array(items), None)
            }
            "map" => {
                let values = self.child(json, at, "values", namespace)?;
                self.add(Kind::Map(values), None)
            }
            name => {
                let inner = self.below("type", |parser| parser.named(name, namespace))?;
                self.annotated(json, at, inner)
            }
        }
    }

    /// A primitive with what is said of it outside. A named type stays as its definition has it.
    fn annotated(&mut self, json: &Json<'_>, at: At, inner: TypeId) -> Parsed<TypeId> {
        let of = &mut self.types[inner as usize];
        let is_named = matches!(of.kind, Kind::Record(_) | Kind::Enum(_) | Kind::Fixed(_));
        if !is_named && of.logical.is_none() {
            of.logical = logical(json, at, &of.kind);
        }
        Ok(inner)
    }

    fn child(&mut self, json: &Json<'_>, at: At, name: &str, namespace: &str) -> Parsed<TypeId> {
        let child = json.member(at, name);
        let child = child.ok_or_else(|| format!("has no `{name}`"))?;
        self.below(name, |parser| parser.read(json, child, namespace))
    }

    fn record(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        let name = own_name(json, at, namespace)?;
        let namespace = namespace_of(&name.full).to_owned();
        let full = name.full.clone();
        let id = self.define(
            &full,
            Kind::Record(Record {
                name,
                fields: Vec::new(),
            }),
            None,
        )?;
        let list = json.member(at, "fields");
        let list = list.filter(|list| matches!(json.token(*list), Token::Array(_)));
        let list = list.ok_or_else(|| format!("is the record `{full}` without a list of `fields`"))?;
        let fields = self.below("fields", |parser| {
            let mut fields: Vec<Field> = Vec::new();
            let mut names = BTreeSet::new();
            for (index, field) in json.items(list).enumerate() {
                let field = parser.below(&index, |parser| {
                    let field = parser.field(json, field, &namespace)?;
                    match names.insert(field.key.text.clone()) {
                        true => Ok(field),
                        false => Err(format!("is the second field `{}`", field.key.text)),
                    }
                })?;
                fields.push(field);
            }
            Ok(fields)
        })?;
        if let Kind::Record(record) = &mut self.types[id as usize].kind {
            record.fields = fields;
        }
        Ok(id)
    }

    fn field(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<Field> {
        let name = json.text(at, "name").ok_or("is a field without a `name`")?;
        if !is_name(&name) {
            return Err(format!("is a field whose name `{name}` is none: {NAME}"));
        }
        let kind = self.child(json, at, "type", namespace)?;
        let default = json.member(at, "default").map(|default| written(json, default));
        Ok(Field {
            key: Key::new(&name),
            aliases: texts(json, at, "aliases")?,
            kind,
            default,
        })
    }

    fn enumeration(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        let name = own_name(json, at, namespace)?;
        let full = name.full.clone();
        if json.member(at, "symbols").is_none() {
            return Err(format!("is the enum `{full}` without a list of `symbols`"));
        }
        let symbols = texts(json, at, "symbols")?;
        let mut seen = BTreeSet::new();
        for (index, symbol) in symbols.iter().enumerate() {
            self.below("symbols", |parser| {
                parser.below(&index, |_| match symbol {
                    symbol if !is_name(symbol) => Err(format!("is `{symbol}`, which is no symbol: {NAME}")),
                    symbol if !seen.insert(symbol) => Err(format!("is the second `{symbol}`")),
                    _ => Ok(()),
                })
            })?;
        }
        let default = json.text(at, "default").map(|default| default.into_owned());
        if let Some(default) = &default
            && !symbols.contains(default)
        {
            return Err(format!(
                "is the enum `{full}`, and its default `{default}` is none of its symbols"
            ));
        }
        let kind = Kind::Enum(Enum {
            name,
            symbols,
            default,
        });
        self.define(&full, kind, None)
    }

    fn fixed(&mut self, json: &Json<'_>, at: At, namespace: &str) -> Parsed<TypeId> {
        let name = own_name(json, at, namespace)?;
        let full = name.full.clone();
        let size = match json.member(at, "size").map(|size| json.token(size)) {
            Some(Token::Number(number)) => number.parse::<u64>().ok(),
            _ => None,
        };
        let size = size.filter(|size| *size <= FIXED_MAX);
        let size = size.ok_or_else(|| {
            format!("is the fixed `{full}` without a `size`, a whole number from 0 to {FIXED_MAX}")
        })?;
        let kind = Kind::Fixed(Fixed {
            name,
            size: size as usize,
        });
        let logical = logical(json, at, &kind);
        self.define(&full, kind, logical)
    }

    fn define(&mut self, full: &str, kind: Kind, logical: Option<Logical>) -> Parsed<TypeId> {
        if self.names.contains_key(full) {
            return Err(format!("is the second type of the name `{full}`"));
        }
        let id = self.add(kind, logical)?;
        self.names.insert(full.to_owned(), id);
        Ok(id)
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

const NAME: &str = "a name is letters, digits and `_`, and does not begin with a digit";

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// A name with a dot is full already.
fn full_name(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(bare) => bare.to_owned(),
        None if name.contains('.') || namespace.is_empty() => name.to_owned(),
        None => format!("{namespace}.{name}"),
    }
}

fn namespace_of(full: &str) -> &str {
    full.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

fn own_name(json: &Json<'_>, at: At, enclosing: &str) -> Parsed<Name> {
    let name = json.text(at, "name").ok_or("has no `name`")?;
    let namespace = json.text(at, "namespace");
    let full = full_name(&name, namespace.as_deref().unwrap_or(enclosing));
    if !full.split('.').all(is_name) {
        return Err(format!("has the name `{full}`, which is none: {NAME}"));
    }
    if primitive(&full).is_some() {
        return Err(format!("has the name `{full}`, which is a type of Avro's own"));
    }
    let aliases = texts(json, at, "aliases")?;
    let aliases = aliases.iter().map(|alias| full_name(alias, namespace_of(&full)));
    Ok(Name {
        aliases: aliases.collect(),
        full,
    })
}

/// A list of texts; none where there is no such member.
fn texts(json: &Json<'_>, at: At, name: &str) -> Parsed<Vec<String>> {
    let Some(list) = json.member(at, name) else {
        return Ok(Vec::new());
    };
    let wrong = || format!("has `{name}` that are no list of texts");
    if !matches!(json.token(list), Token::Array(_)) {
        return Err(wrong());
    }
    let text = |item| match json.token(item) {
        Token::Text(text) => Ok(text.read().into_owned()),
        _ => Err(wrong()),
    };
    json.items(list).map(text).collect()
}

fn logical(json: &Json<'_>, at: At, kind: &Kind) -> Option<Logical> {
    let timestamp = |unit, local| Logical::Timestamp { unit, local };
    let name = json.text(at, "logicalType")?;
    match (kind, &*name) {
        (Kind::Bytes | Kind::Fixed(_), "decimal") => decimal(json, at, kind),
        (Kind::Int, "date") => Some(Logical::Date),
        (Kind::Int, "time-millis") => Some(Logical::TimeMillis),
        (Kind::Long, "time-micros") => Some(Logical::TimeMicros),
        (Kind::Long, "timestamp-millis") => Some(timestamp(Unit::Millis, false)),
        (Kind::Long, "timestamp-micros") => Some(timestamp(Unit::Micros, false)),
        (Kind::Long, "timestamp-nanos") => Some(timestamp(Unit::Nanos, false)),
        (Kind::Long, "local-timestamp-millis") => Some(timestamp(Unit::Millis, true)),
        (Kind::Long, "local-timestamp-micros") => Some(timestamp(Unit::Micros, true)),
        (Kind::Long, "local-timestamp-nanos") => Some(timestamp(Unit::Nanos, true)),
        (Kind::String | Kind::Fixed(Fixed { size: 16, .. }), "uuid") => Some(Logical::Uuid),
        (Kind::Fixed(Fixed { size: 12, .. }), "duration") => Some(Logical::Duration),
        _ => None,
    }
}

/// Nothing where precision and scale do not fit each other or the size.
fn decimal(json: &Json<'_>, at: At, kind: &Kind) -> Option<Logical> {
    let number = |name| match json.member(at, name).map(|number| json.token(number)) {
        Some(Token::Number(number)) => number.parse::<u32>().ok(),
        None if name == "scale" => Some(0),
        _ => None,
    };
    let (precision, scale) = (number("precision")?, number("scale")?);
    let room = match kind {
        Kind::Fixed(fixed) => digits_of(fixed.size),
        _ => u32::MAX,
    };
    (precision > 0 && precision <= room && scale <= precision)
        .then_some(Logical::Decimal { precision, scale })
}

/// How many decimal digits always fit into so many bytes of two's complement.
fn digits_of(bytes: usize) -> u32 {
    let bits = (bytes as f64 * 8.0 - 1.0).max(0.0);
    (bits * std::f64::consts::LOG10_2) as u32
}

/// A value as JSON again, for later.
fn written(json: &Json<'_>, at: At) -> String {
    let mut bytes = Vec::new();
    write(json, at, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(json: &Json<'_>, at: At, bytes: &mut Vec<u8>) {
    match json.token(at) {
        Token::Null => bytes.extend_from_slice(b"null"),
        Token::Boolean(truth) => bytes.extend_from_slice(if truth { b"true" } else { b"false" }),
        Token::Number(number) => bytes.extend_from_slice(number.as_bytes()),
        Token::Text(text) => plain::json::write_text(&text.read(), bytes),
        Token::Array(_) => {
            bytes.push(b'[');
            for (index, item) in json.items(at).enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write(json, item, bytes);
            }
            bytes.push(b']');
        }
        Token::Object(_) => {
            bytes.push(b'{');
            for (index, (key, value)) in json.members(at).enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                plain::json::write_text(&key.read(), bytes);
                bytes.push(b':');
                write(json, value, bytes);
            }
            bytes.push(b'}');
        }
    }
}
