//! From a schema's JSON to what checking needs.

use super::ResourceId;
use super::documents::{Documents, Place, RECURSIVE};
use super::{
    Arrays, Condition, Contains, Draft, Invalid, Node, NodeId, Numbers, Objects, Pattern, Schema, Texts,
    Types,
};
use crate::check::canonical;
use crate::number::Number;
use plain::json::{At, Json, Token};
use plain::trouble::cut;
use regress::Regex;
use std::collections::{HashMap, HashSet};

/// Subschemas of one schema.
const NODES_MAX: usize = 100_000;

pub(super) fn schema(documents: &Documents<'_>) -> Result<Schema, Invalid> {
    let mut compiler = Compiler {
        documents,
        ids: HashMap::new(),
        open: Vec::new(),
        nodes: Vec::new(),
    };
    let root = compiler.id(Place { document: 0, at: 0 });
    let mut dynamic = HashMap::new();
    loop {
        while let Some((id, place)) = compiler.open.pop() {
            let node = compiler.node(place)?;
            compiler.nodes[id as usize] = node;
            if compiler.nodes.len() > NODES_MAX {
                return Err(Invalid(format!("it has more than {NODES_MAX} subschemas")));
            }
        }
        // Anchors are looked for in resources that are entered: others need not be right.
        let entered: HashSet<ResourceId> = compiler.nodes.iter().map(|node| node.resource).collect();
        let before = dynamic.len();
        for (key, place) in documents.dynamic_anchors() {
            if entered.contains(&key.0) && !dynamic.contains_key(key) {
                dynamic.insert(key.clone(), compiler.id(place));
            }
        }
        if dynamic.len() == before {
            break;
        }
    }
    let has_unevaluated = compiler
        .nodes
        .iter()
        .any(|node| node.unevaluated_items.is_some() || node.unevaluated_properties.is_some());
    Ok(Schema {
        nodes: compiler.nodes,
        root,
        dynamic,
        has_unevaluated,
    })
}

struct Compiler<'d, 'a> {
    documents: &'d Documents<'a>,
    ids: HashMap<Place, NodeId>,
    open: Vec<(NodeId, Place)>,
    nodes: Vec<Node>,
}

impl<'d, 'a> Compiler<'d, 'a> {
    fn id(&mut self, place: Place) -> NodeId {
        if let Some(id) = self.ids.get(&place) {
            return *id;
        }
        let id = self.nodes.len() as NodeId;
        self.nodes.push(Node::default());
        self.ids.insert(place, id);
        self.open.push((id, place));
        id
    }

    fn node(&mut self, place: Place) -> Result<Node, Invalid> {
        let json = self.documents.json(place);
        let draft = self.documents.draft(place);
        let mut node = Node {
            resource: self.documents.resource_of(place),
            ..Node::default()
        };
        match json.token(place.at) {
            Token::Boolean(truth) if draft >= Draft::Six => node.is_never = !truth,
            Token::Object(_) => self.keywords(place, draft, &mut node)?,
            _ => return Err(Invalid("a schema is neither an object nor a boolean".to_owned())),
        }
        Ok(node)
    }

    fn keywords(&mut self, place: Place, draft: Draft, node: &mut Node) -> Result<(), Invalid> {
        let at = Keywords {
            json: self.documents.json(place),
            place,
        };
        if let Some(reference) = at.json.text(place.at, "$ref") {
            let target = self.documents.find(place, &reference)?;
            node.reference = Some(self.id(target));
            if draft <= Draft::Seven {
                return Ok(());
            }
        }
        self.dynamic_reference(&at, draft, node)?;
        node.types = at.types(draft)?;
        node.one_of_values = at.values(draft)?;
        node.numbers = at.numbers(draft)?;
        node.texts = at.texts()?;
        node.arrays = self.arrays(&at, draft)?;
        node.objects = self.objects(&at, draft)?;
        node.all_of = self.list(&at, "allOf")?;
        node.any_of = self.list(&at, "anyOf")?;
        node.one_of = self.list(&at, "oneOf")?;
        node.not = self.one(&at, "not");
        if draft >= Draft::Seven
            && let Some(when) = self.one(&at, "if")
        {
            node.condition = Some(Condition {
                when,
                then: self.one(&at, "then"),
                otherwise: self.one(&at, "else"),
            });
        }
        if draft >= Draft::Y2019 {
            node.unevaluated_items = self.one(&at, "unevaluatedItems");
            node.unevaluated_properties = self.one(&at, "unevaluatedProperties");
        }
        Ok(())
    }

    fn dynamic_reference(
        &mut self,
        at: &Keywords<'d, 'a>,
        draft: Draft,
        node: &mut Node,
    ) -> Result<(), Invalid> {
        let (keyword, is_recursive) = match draft {
            Draft::Y2019 => ("$recursiveRef", true),
            Draft::Y2020 => ("$dynamicRef", false),
            _ => return Ok(()),
        };
        let Some(reference) = at.json.text(at.place.at, keyword) else {
            return Ok(());
        };
        let target = self.documents.find(at.place, &reference)?;
        let fallback = self.id(target);
        let anchor = match is_recursive {
            true => RECURSIVE.to_owned(),
            false => reference
                .split_once('#')
                .map_or("", |(_, anchor)| anchor)
                .to_owned(),
        };
        // Only where the schema that is found may be taken over.
        let resource = self.documents.resource_of(target);
        let may_move = self
            .documents
            .dynamic_anchors()
            .any(|(key, place)| key.0 == resource && key.1 == anchor && place == target);
        match may_move {
            true => node.dynamic = Some((anchor, fallback)),
            false => node.all_of.push(fallback),
        }
        if !may_move && node.reference.is_none() {
            node.reference = node.all_of.pop();
        }
        Ok(())
    }

    fn one(&mut self, at: &Keywords<'d, 'a>, name: &str) -> Option<NodeId> {
        at.member(name).map(|place| self.id(place))
    }

    fn list(&mut self, at: &Keywords<'d, 'a>, name: &str) -> Result<Vec<NodeId>, Invalid> {
        let Some(list) = at.member(name) else {
            return Ok(Vec::new());
        };
        if !matches!(at.json.token(list.at), Token::Array(1..)) {
            return Err(Invalid(format!("`{name}` is no list of schemas")));
        }
        let items = at.json.items(list.at).map(|at| Place { at, ..list });
        Ok(items.map(|place| self.id(place)).collect())
    }

    /// Schemas by name.
    fn named(&mut self, at: &Keywords<'d, 'a>, name: &str) -> Result<Vec<(String, Place)>, Invalid> {
        let Some(all) = at.member(name) else {
            return Ok(Vec::new());
        };
        if !matches!(at.json.token(all.at), Token::Object(_)) {
            return Err(Invalid(format!("`{name}` is no object")));
        }
        let members = at.json.members(all.at);
        Ok(members
            .map(|(key, at)| (key.read().into_owned(), Place { at, ..all }))
            .collect())
    }

    fn arrays(&mut self, at: &Keywords<'d, 'a>, draft: Draft) -> Result<Option<Box<Arrays>>, Invalid> {
        let mut arrays = Arrays {
            most: at.count("maxItems")?,
            least: at.count("minItems")?,
            is_unique: at.is_true("uniqueItems"),
            ..Arrays::default()
        };
        let is_list = at
            .member("items")
            .is_some_and(|items| matches!(at.json.token(items.at), Token::Array(_)));
        if draft >= Draft::Y2020 {
            arrays.prefix = self.list(at, "prefixItems")?;
            arrays.items = self.one(at, "items");
        } else if is_list {
            let list = at.member("items");
            let items = list.iter().flat_map(|list| at.json.items(list.at));
            arrays.prefix = items
                .map(|item| self.id(Place { at: item, ..at.place }))
                .collect();
            arrays.items = self.additional(at, "additionalItems", draft);
        } else {
            arrays.items = self.one(at, "items");
        }
        if draft >= Draft::Six
            && let Some(what) = self.one(at, "contains")
        {
            let counts = draft >= Draft::Y2019;
            arrays.contains = Some(Contains {
                what,
                least: at.count("minContains")?.filter(|_| counts).unwrap_or(1),
                most: at.count("maxContains")?.filter(|_| counts),
                marks: draft >= Draft::Y2020,
            });
        }
        let is_used = arrays.most.is_some()
            || arrays.least.is_some()
            || arrays.is_unique
            || !arrays.prefix.is_empty()
            || arrays.items.is_some()
            || arrays.contains.is_some();
        Ok(is_used.then(|| Box::new(arrays)))
    }

    /// A schema or, in draft 4 too, a boolean. `true` asks for nothing, but looks at all.
    fn additional(&mut self, at: &Keywords<'d, 'a>, name: &str, draft: Draft) -> Option<NodeId> {
        let place = at.member(name)?;
        match at.json.token(place.at) {
            Token::Boolean(truth) if draft == Draft::Four => {
                let id = self.nodes.len() as NodeId;
                self.nodes.push(Node {
                    is_never: !truth,
                    ..Node::default()
                });
                Some(id)
            }
            _ => Some(self.id(place)),
        }
    }

    fn objects(&mut self, at: &Keywords<'d, 'a>, draft: Draft) -> Result<Option<Box<Objects>>, Invalid> {
        let mut objects = Objects {
            most: at.count("maxProperties")?,
            least: at.count("minProperties")?,
            required: at.texts_of("required")?,
            additional: self.additional(at, "additionalProperties", draft),
            ..Objects::default()
        };
        for (name, place) in self.named(at, "properties")? {
            objects.properties.insert(name, self.id(place));
        }
        for (pattern, place) in self.named(at, "patternProperties")? {
            objects.patterns.push((self::pattern(&pattern)?, self.id(place)));
        }
        if draft >= Draft::Six {
            objects.names = self.one(at, "propertyNames");
        }
        self.dependencies(at, draft, &mut objects)?;
        let is_used = objects.most.is_some()
            || objects.least.is_some()
            || !objects.required.is_empty()
            || !objects.properties.is_empty()
            || !objects.patterns.is_empty()
            || objects.additional.is_some()
            || objects.names.is_some()
            || !objects.dependent_required.is_empty()
            || !objects.dependent_schemas.is_empty();
        Ok(is_used.then(|| Box::new(objects)))
    }

    fn dependencies(
        &mut self,
        at: &Keywords<'d, 'a>,
        draft: Draft,
        objects: &mut Objects,
    ) -> Result<(), Invalid> {
        let names: &[&str] = match draft {
            Draft::Four | Draft::Six | Draft::Seven => &["dependencies"],
            _ => &["dependentRequired", "dependentSchemas"],
        };
        for name in names {
            for (key, place) in self.named(at, name)? {
                match at.json.token(place.at) {
                    Token::Array(_) => objects
                        .dependent_required
                        .push((key, at.texts_at(place.at, name)?)),
                    _ => objects.dependent_schemas.push((key, self.id(place))),
                }
            }
        }
        Ok(())
    }
}

/// The members of one schema.
struct Keywords<'d, 'a> {
    json: &'d Json<'a>,
    place: Place,
}

impl Keywords<'_, '_> {
    fn member(&self, name: &str) -> Option<Place> {
        let at = self.json.member(self.place.at, name)?;
        Some(Place { at, ..self.place })
    }

    fn is_true(&self, name: &str) -> bool {
        self.member(name)
            .is_some_and(|place| self.json.token(place.at) == Token::Boolean(true))
    }

    fn number(&self, name: &str) -> Result<Option<Number>, Invalid> {
        match self.member(name).map(|place| self.json.token(place.at)) {
            None => Ok(None),
            Some(Token::Number(text)) => Ok(Some(Number::read(text))),
            Some(_) => Err(Invalid(format!("`{name}` is no number"))),
        }
    }

    /// A whole number from 0, which may be written as `2.0`.
    fn count(&self, name: &str) -> Result<Option<u64>, Invalid> {
        let invalid = || Invalid(format!("`{name}` is no whole number from 0"));
        match self.member(name).map(|place| self.json.token(place.at)) {
            None => Ok(None),
            Some(Token::Number(text)) => {
                let number = text.parse::<f64>().map_err(|_| invalid())?;
                let is_count = number >= 0.0 && number.fract() == 0.0;
                is_count.then_some(Some(number as u64)).ok_or_else(invalid)
            }
            Some(_) => Err(invalid()),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, Invalid> {
        match self.member(name).map(|place| self.json.token(place.at)) {
            None => Ok(None),
            Some(Token::Text(text)) => Ok(Some(text.read().into_owned())),
            Some(_) => Err(Invalid(format!("`{name}` is no text"))),
        }
    }

    fn texts_of(&self, name: &str) -> Result<Vec<String>, Invalid> {
        match self.member(name) {
            None => Ok(Vec::new()),
            Some(place) => self.texts_at(place.at, name),
        }
    }

    fn texts_at(&self, at: At, name: &str) -> Result<Vec<String>, Invalid> {
        let invalid = || Invalid(format!("`{name}` is no list of texts"));
        if !matches!(self.json.token(at), Token::Array(_)) {
            return Err(invalid());
        }
        let text = |at| match self.json.token(at) {
            Token::Text(text) => Ok(text.read().into_owned()),
            _ => Err(invalid()),
        };
        self.json.items(at).map(text).collect()
    }

    fn types(&self, draft: Draft) -> Result<Option<Types>, Invalid> {
        let Some(place) = self.member("type") else {
            return Ok(None);
        };
        let names = match self.json.token(place.at) {
            Token::Text(name) => vec![name.read().into_owned()],
            _ => self.texts_at(place.at, "type")?,
        };
        let mut types = Types {
            is_strict: draft == Draft::Four,
            ..Types::default()
        };
        for name in names {
            match name.as_str() {
                "null" => types.null = true,
                "boolean" => types.boolean = true,
                "number" => types.number = true,
                "integer" => types.integer = true,
                "string" => types.text = true,
                "array" => types.array = true,
                "object" => types.object = true,
                other => return Err(Invalid(format!("there is no type `{}`", cut(other)))),
            }
        }
        Ok(Some(types))
    }

    /// `enum`, and `const`, which is one of a single value.
    fn values(&self, draft: Draft) -> Result<Option<Vec<String>>, Invalid> {
        let of = |at| canonical(self.json, at);
        let constant = self.member("const").filter(|_| draft >= Draft::Six);
        let constant = constant.map(|place| of(place.at));
        let Some(list) = self.member("enum") else {
            return Ok(constant.map(|value| vec![value]));
        };
        if !matches!(self.json.token(list.at), Token::Array(_)) {
            return Err(Invalid("`enum` is no list".to_owned()));
        }
        let mut values: Vec<String> = self.json.items(list.at).map(of).collect();
        if let Some(constant) = constant {
            values.retain(|value| *value == constant);
        }
        Ok(Some(values))
    }

    fn numbers(&self, draft: Draft) -> Result<Option<Box<Numbers>>, Invalid> {
        let mut numbers = Numbers {
            multiple_of: self.number("multipleOf")?,
            ..Numbers::default()
        };
        if numbers
            .multiple_of
            .as_ref()
            .is_some_and(|of| of.is_zero() || of.is_negative())
        {
            return Err(Invalid("`multipleOf` is not above 0".to_owned()));
        }
        let most = self.number("maximum")?;
        let least = self.number("minimum")?;
        if draft == Draft::Four {
            let is_open = (self.is_true("exclusiveMaximum"), self.is_true("exclusiveMinimum"));
            numbers.most.extend(most.map(|most| (most, is_open.0)));
            numbers.least.extend(least.map(|least| (least, is_open.1)));
        } else {
            numbers.most.extend(most.map(|most| (most, false)));
            numbers.least.extend(least.map(|least| (least, false)));
            numbers
                .most
                .extend(self.number("exclusiveMaximum")?.map(|most| (most, true)));
            numbers
                .least
                .extend(self.number("exclusiveMinimum")?.map(|least| (least, true)));
        }
        let is_used = numbers.multiple_of.is_some() || !numbers.most.is_empty() || !numbers.least.is_empty();
        Ok(is_used.then(|| Box::new(numbers)))
    }

    fn texts(&self) -> Result<Option<Box<Texts>>, Invalid> {
        let pattern = self.text("pattern")?;
        let texts = Texts {
            longest: self.count("maxLength")?,
            shortest: self.count("minLength")?,
            pattern: pattern.map(|text| self::pattern(&text)).transpose()?,
            format: self.text("format")?,
        };
        let is_used = texts.longest.is_some()
            || texts.shortest.is_some()
            || texts.pattern.is_some()
            || texts.format.is_some();
        Ok(is_used.then(|| Box::new(texts)))
    }
}

/// ECMA 262, with whole characters; a few patterns in use are right only without.
fn pattern(text: &str) -> Result<Pattern, Invalid> {
    /// Longer ones, and deeper, would take the parser's stack.
    const BYTES_MAX: usize = 16 << 10;
    const BRACKETS_MAX: usize = 64;
    let mut depth = 0usize;
    let deepest = text.bytes().map(|byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth
    });
    if text.len() > BYTES_MAX || deepest.max().unwrap_or(0) > BRACKETS_MAX {
        return Err(Invalid(format!("the pattern `{}` is too large", cut(text))));
    }
    let regex = Regex::with_flags(text, "u").or_else(|_| Regex::new(text));
    let regex = regex.map_err(|error| {
        Invalid(format!(
            "`{}` is no pattern: {}",
            cut(text),
            cut(&error.to_string())
        ))
    })?;
    Ok(Pattern {
        text: text.to_owned(),
        regex,
    })
}
