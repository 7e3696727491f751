//! Checks a value by a schema, and says where the first fault is.

use crate::formats;
use crate::number::Number;
use crate::schema::{
    Arrays, Contains, Node, NodeId, Numbers, Objects, Pattern, ResourceId, Schema, Texts, Types,
};
use plain::json::{At, Json, Raw, Token};
use plain::trouble::{Outcome, Trouble, code, cut};
use std::cmp::Ordering;
use std::collections::HashSet;

/// A value that the schema does not allow.
const SCHEMA_VIOLATION: &str = "schema-violation";

/// Schemas within schemas, at values within values: each takes stack.
const DEPTH_MAX: u32 = 300;

/// How often a schema is laid on a value, in one payload: some schemas ask the same again and again.
const STEPS_MAX: u32 = 10_000_000;

/// Checks the whole of a JSON text.
pub(crate) fn check(schema: &Schema, json: &Json<'_>, formats: bool) -> Outcome<()> {
    let mut check = Check {
        schema,
        json,
        formats,
        scope: Vec::new(),
        depth: 0,
        steps: 0,
    };
    check.node(schema.root, 0, &mut Vec::new())
}

struct Check<'s, 'j, 'a> {
    schema: &'s Schema,
    json: &'j Json<'a>,
    formats: bool,
    /// The resources that were entered, outermost first.
    scope: Vec<ResourceId>,
    depth: u32,
    steps: u32,
}

/// Items and members of the value at hand that a keyword has looked at, where somebody asks for it.
type Seen = Vec<At>;

impl<'s> Check<'s, '_, '_> {
    fn node(&mut self, id: NodeId, at: At, seen: &mut Seen) -> Outcome<()> {
        let node = &self.schema.nodes[id as usize];
        self.depth += 1;
        self.steps += 1;
        if self.depth > DEPTH_MAX {
            let reason = format!("schemas and values lie more than {DEPTH_MAX} deep in each other");
            return Err(Trouble::new(code::TOO_DEEP, reason));
        }
        if self.steps > STEPS_MAX {
            return Err(Trouble::new(code::TOO_LARGE, "checking it takes too many steps"));
        }
        let is_entered = self.scope.last() != Some(&node.resource);
        if is_entered {
            self.scope.push(node.resource);
        }
        let checked = self.keywords(node, at, seen);
        if is_entered {
            self.scope.pop();
        }
        self.depth -= 1;
        checked
    }

    fn keywords(&mut self, node: &'s Node, at: At, seen: &mut Seen) -> Outcome<()> {
        let token = self.json.token(at);
        let before = seen.len();
        if node.is_never {
            return Err(violation("the schema allows no value here"));
        }
        if let Some(types) = &node.types {
            check_type(*types, token)?;
        }
        if let Some(values) = &node.one_of_values {
            let value = canonical(self.json, at);
            if !values.contains(&value) {
                return Err(violation(format!(
                    "{} is none of the values allowed",
                    self.shown(at)
                )));
            }
        }
        match token {
            Token::Number(text) => {
                if let Some(numbers) = &node.numbers {
                    check_number(numbers, text)?;
                }
            }
            Token::Text(text) => {
                if let Some(texts) = &node.texts {
                    self.text(texts, text)?;
                }
            }
            Token::Array(count) => {
                if let Some(arrays) = &node.arrays {
                    self.array(arrays, at, count, seen)?;
                }
            }
            Token::Object(count) => {
                if let Some(objects) = &node.objects {
                    self.object(objects, at, count, seen)?;
                }
            }
            Token::Null | Token::Boolean(_) => {}
        }
        if let Some(reference) = node.reference {
            self.node(reference, at, seen)?;
        }
        if let Some((anchor, fallback)) = &node.dynamic {
            let dynamic = &self.schema.dynamic;
            let mut outermost = self.scope.iter();
            let found = outermost.find_map(|resource| dynamic.get(&(*resource, anchor.clone())));
            self.node(*found.unwrap_or(fallback), at, seen)?;
        }
        self.combined(node, at, seen)?;
        self.unevaluated(node, at, before, seen)
    }

    fn combined(&mut self, node: &'s Node, at: At, seen: &mut Seen) -> Outcome<()> {
        for each in &node.all_of {
            self.node(*each, at, seen)?;
        }
        if !node.any_of.is_empty() {
            let mut fits = false;
            for each in &node.any_of {
                fits |= self.fits(*each, at, seen)?;
                // All are asked where it matters what they look at.
                if fits && !self.schema.has_unevaluated {
                    break;
                }
            }
            if !fits {
                return Err(violation("it fits none of the schemas of `anyOf`"));
            }
        }
        if !node.one_of.is_empty() {
            let mut fitting = 0;
            for each in &node.one_of {
                fitting += u32::from(self.fits(*each, at, seen)?);
                if fitting > 1 {
                    return Err(violation("it fits more than one of the schemas of `oneOf`"));
                }
            }
            if fitting == 0 {
                return Err(violation("it fits none of the schemas of `oneOf`"));
            }
        }
        if let Some(not) = node.not
            && self.fits(not, at, &mut Vec::new())?
        {
            return Err(violation("it fits the schema of `not`"));
        }
        if let Some(condition) = node.condition {
            let branch = match self.fits(condition.when, at, seen)? {
                true => condition.then,
                false => condition.otherwise,
            };
            if let Some(branch) = branch {
                self.node(branch, at, seen)?;
            }
        }
        Ok(())
    }

    /// Whether a value fits; what a schema that it does not fit has looked at does not count. Limits are errors still.
    fn fits(&mut self, id: NodeId, at: At, seen: &mut Seen) -> Outcome<bool> {
        let (before, depth, scope) = (seen.len(), self.depth, self.scope.len());
        match self.node(id, at, seen) {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.code() == SCHEMA_VIOLATION => {
                seen.truncate(before);
                self.depth = depth;
                self.scope.truncate(scope);
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn child(&mut self, id: NodeId, at: At, seen: &mut Seen) -> Outcome<()> {
        self.node(id, at, &mut Vec::new())?;
        self.mark(at, seen);
        Ok(())
    }

    fn mark(&self, at: At, seen: &mut Seen) {
        if self.schema.has_unevaluated {
            seen.push(at);
        }
    }

    fn unevaluated(&mut self, node: &'s Node, at: At, before: usize, seen: &mut Seen) -> Outcome<()> {
        if let (Some(id), Token::Array(_)) = (node.unevaluated_items, self.json.token(at)) {
            let known: HashSet<At> = seen[before..].iter().copied().collect();
            for (index, item) in self.json.items(at).enumerate() {
                if !known.contains(&item) {
                    self.child(id, item, seen)
                        .map_err(|trouble| trouble.below(&index))?;
                }
            }
        }
        if let (Some(id), Token::Object(_)) = (node.unevaluated_properties, self.json.token(at)) {
            let known: HashSet<At> = seen[before..].iter().copied().collect();
            for (key, value) in self.json.members(at) {
                if !known.contains(&value) {
                    self.child(id, value, seen)
                        .map_err(|trouble| trouble.below(&*key.read()))?;
                }
            }
        }
        Ok(())
    }

    fn text(&self, texts: &Texts, raw: Raw<'_>) -> Outcome<()> {
        let text = raw.read();
        if texts.longest.is_some() || texts.shortest.is_some() {
            let length = text.chars().count() as u64;
            check_count(length, texts.shortest, texts.longest, "characters")?;
        }
        if let Some(pattern) = &texts.pattern
            && !pattern.matches(&text)
        {
            let reason = format!(
                "`{}` does not match the pattern `{}`",
                cut(&text),
                cut(&pattern.text)
            );
            return Err(violation(reason));
        }
        if self.formats
            && let Some(format) = &texts.format
            && !formats::fits(format, &text)
        {
            return Err(violation(format!(
                "`{}` has not the format `{}`",
                cut(&text),
                cut(format)
            )));
        }
        Ok(())
    }

    fn array(&mut self, arrays: &'s Arrays, at: At, count: u32, seen: &mut Seen) -> Outcome<()> {
        check_count(count.into(), arrays.least, arrays.most, "items")?;
        for (index, item) in self.json.items(at).enumerate() {
            let id = arrays.prefix.get(index).copied().or(arrays.items);
            if let Some(id) = id {
                self.child(id, item, seen)
                    .map_err(|trouble| trouble.below(&index))?;
            }
        }
        if arrays.is_unique {
            self.unique(at)?;
        }
        match &arrays.contains {
            Some(contains) => self.contains(contains, at, seen),
            None => Ok(()),
        }
    }

    fn unique(&self, at: At) -> Outcome<()> {
        let mut known = HashSet::new();
        for (index, item) in self.json.items(at).enumerate() {
            if !known.insert(canonical(self.json, item)) {
                return Err(violation("the same item is there before").below(&index));
            }
        }
        Ok(())
    }

    fn contains(&mut self, contains: &Contains, at: At, seen: &mut Seen) -> Outcome<()> {
        let mut found = 0;
        for item in self.json.items(at) {
            if self.fits(contains.what, item, &mut Vec::new())? {
                found += 1;
                if contains.marks {
                    self.mark(item, seen);
                }
            }
        }
        check_count(
            found,
            Some(contains.least),
            contains.most,
            "items that fit `contains`",
        )
    }

    fn object(&mut self, objects: &'s Objects, at: At, count: u32, seen: &mut Seen) -> Outcome<()> {
        check_count(count.into(), objects.least, objects.most, "members")?;
        for name in &objects.required {
            if self.json.member(at, name).is_none() {
                return Err(missing(name));
            }
        }
        for (key, value) in self.json.members(at) {
            let key = key.read();
            self.member(objects, &key, value, seen)
                .map_err(|trouble| trouble.below(&*key))?;
        }
        for (key, names) in &objects.dependent_required {
            if self.json.member(at, key).is_some()
                && let Some(name) = names.iter().find(|name| self.json.member(at, name).is_none())
            {
                return Err(missing(name));
            }
        }
        for (key, id) in &objects.dependent_schemas {
            if self.json.member(at, key).is_some() {
                self.node(*id, at, seen)?;
            }
        }
        Ok(())
    }

    fn member(&mut self, objects: &'s Objects, key: &str, value: At, seen: &mut Seen) -> Outcome<()> {
        let mut is_named = false;
        if let Some(id) = objects.properties.get(key) {
            is_named = true;
            self.child(*id, value, seen)?;
        }
        for (pattern, id) in &objects.patterns {
            if pattern.matches(key) {
                is_named = true;
                self.child(*id, value, seen)?;
            }
        }
        if let Some(id) = objects.additional.filter(|_| !is_named) {
            self.child(id, value, seen)?;
        }
        match objects.names {
            Some(id) => self.name(id, key),
            None => Ok(()),
        }
    }

    /// A name is checked as a text of its own.
    fn name(&mut self, id: NodeId, key: &str) -> Outcome<()> {
        let mut text = Vec::new();
        plain::json::write_text(key, &mut text);
        let json = plain::source::parsed(&text)?;
        let mut check = Check {
            schema: self.schema,
            json: &json,
            formats: self.formats,
            scope: self.scope.clone(),
            depth: self.depth,
            steps: self.steps,
        };
        let checked = check.node(id, 0, &mut Vec::new());
        self.steps = check.steps;
        checked
    }

    fn shown(&self, at: At) -> String {
        match self.json.token(at) {
            Token::Null => "null".to_owned(),
            Token::Boolean(truth) => truth.to_string(),
            Token::Number(text) => cut(text),
            Token::Text(text) => format!("`{}`", cut(&text.read())),
            Token::Array(_) => "the list".to_owned(),
            Token::Object(_) => "the object".to_owned(),
        }
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        self.regex.find(text).is_some()
    }
}

fn check_type(types: Types, token: Token<'_>) -> Outcome<()> {
    let (fits, title) = match token {
        Token::Null => (types.null, "null"),
        Token::Boolean(_) => (types.boolean, "a boolean"),
        Token::Number(text) => (
            types.number || types.integer && is_integer(text, types.is_strict),
            "a number",
        ),
        Token::Text(_) => (types.text, "a text"),
        Token::Array(_) => (types.array, "a list"),
        Token::Object(_) => (types.object, "an object"),
    };
    match fits {
        true => Ok(()),
        false => Err(violation(format!("{title} has not the type that is asked for"))),
    }
}

fn is_integer(text: &str, is_strict: bool) -> bool {
    match text.contains(['.', 'e', 'E']) {
        false => true,
        true => !is_strict && Number::read(text).is_whole(),
    }
}

fn check_number(numbers: &Numbers, text: &str) -> Outcome<()> {
    let number = Number::read(text);
    let fits = |order: Ordering, wrong: Ordering, is_open: bool| {
        order != wrong && !(is_open && order == Ordering::Equal)
    };
    for (most, is_open) in &numbers.most {
        if !fits(number.compare(most), Ordering::Greater, *is_open) {
            return Err(violation(format!("{} is too large", cut(text))));
        }
    }
    for (least, is_open) in &numbers.least {
        if !fits(number.compare(least), Ordering::Less, *is_open) {
            return Err(violation(format!("{} is too small", cut(text))));
        }
    }
    match &numbers.multiple_of {
        Some(of) if !number.is_multiple_of(of) => Err(violation(format!(
            "{} is no multiple of what is asked for",
            cut(text)
        ))),
        _ => Ok(()),
    }
}

fn check_count(count: u64, least: Option<u64>, most: Option<u64>, of: &str) -> Outcome<()> {
    if let Some(least) = least.filter(|least| count < *least) {
        return Err(violation(format!(
            "there are {count} {of}, and {least} is the least"
        )));
    }
    if let Some(most) = most.filter(|most| count > *most) {
        return Err(violation(format!(
            "there are {count} {of}, and {most} is the most"
        )));
    }
    Ok(())
}

/// The same text for values that are equal: 1.0 and 1, and objects whose members stand in another order.
pub(crate) fn canonical(json: &Json<'_>, at: At) -> String {
    let mut text = String::new();
    put_canonical(json, at, &mut text);
    text
}

fn put_canonical(json: &Json<'_>, at: At, text: &mut String) {
    match json.token(at) {
        Token::Null => text.push_str("null"),
        Token::Boolean(truth) => text.push_str(if truth { "true" } else { "false" }),
        Token::Number(number) => text.push_str(&Number::read(number).canonical()),
        Token::Text(raw) => text.push_str(&format!("{:?}", raw.read())),
        Token::Array(_) => {
            text.push('[');
            for item in json.items(at) {
                put_canonical(json, item, text);
                text.push(',');
            }
            text.push(']');
        }
        Token::Object(_) => {
            let mut members: Vec<(String, At)> = json
                .members(at)
                .map(|(key, value)| (format!("{:?}", key.read()), value))
                .collect();
            members.sort();
            text.push('{');
            for (key, value) in members {
                text.push_str(&key);
                text.push(':');
                put_canonical(json, value, text);
                text.push(',');
            }
            text.push('}');
        }
    }
}

#[cold]
fn violation(reason: impl Into<String>) -> Trouble {
    Trouble::new(SCHEMA_VIOLATION, reason)
}

#[cold]
fn missing(name: &str) -> Trouble {
    violation(format!("the member `{}` is missing", cut(name)))
}
