//! The texts of a schema, and where in them a reference leads.

use super::{Draft, Invalid, ResourceId};
use plain::json::{At, Json, NotJson, Token};
use plain::trouble::cut;
use std::collections::HashMap;

/// How deep a schema's own JSON may be.
const DEPTH_MAX: usize = 256;

/// Documents of one schema.
const DOCUMENTS_MAX: usize = 1_000;

/// A place in one of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) document: u32,
    pub(super) at: At,
}

pub(super) struct Documents<'a> {
    texts: Vec<Document<'a>>,
    resources: Vec<Resource>,
    /// By address.
    by_address: HashMap<String, ResourceId>,
    anchors: HashMap<(ResourceId, String), Place>,
    dynamic_anchors: HashMap<(ResourceId, String), Place>,
    /// The resource that each subschema belongs to.
    belongs: HashMap<Place, ResourceId>,
}

struct Document<'a> {
    json: Json<'a>,
    draft: Draft,
}

struct Resource {
    address: String,
    root: Place,
}

/// The name by which anchors of `$recursiveAnchor` are kept: no anchor can have it.
pub(super) const RECURSIVE: &str = "#";

impl<'a> Documents<'a> {
    pub(super) fn read(text: &'a str, references: &'a [(String, String)]) -> Result<Documents<'a>, Invalid> {
        if references.len() >= DOCUMENTS_MAX {
            return Err(Invalid(format!("it refers to more than {DOCUMENTS_MAX} others")));
        }
        let mut documents = Documents {
            texts: Vec::new(),
            resources: Vec::new(),
            by_address: HashMap::new(),
            anchors: HashMap::new(),
            dynamic_anchors: HashMap::new(),
            belongs: HashMap::new(),
        };
        documents.add("", text)?;
        for (name, text) in references {
            documents.add(name, text)?;
        }
        Ok(documents)
    }

    fn add(&mut self, name: &str, text: &'a str) -> Result<(), Invalid> {
        let shown = if name.is_empty() { "it" } else { name };
        let json = Json::parse(text.as_bytes(), DEPTH_MAX)
            .map_err(|NotJson { at, why }| Invalid(format!("{shown} is no JSON: at byte {at}, {why}")))?;
        if !matches!(json.token(0), Token::Object(_) | Token::Boolean(_)) {
            return Err(Invalid(format!("{shown} is neither an object nor a boolean")));
        }
        let draft = match json.text(0, "$schema") {
            None => Draft::Seven,
            Some(uri) => draft(&uri).ok_or_else(|| {
                let reason = format!("{shown} is of the version `{}`, which is not known", cut(&uri));
                Invalid(reason)
            })?,
        };
        let document = self.texts.len() as u32;
        self.texts.push(Document { json, draft });
        let place = Place { document, at: 0 };
        let resource = self.resource(name.trim_end_matches('#').to_owned(), place);
        self.index(place, resource, true);
        Ok(())
    }

    fn resource(&mut self, address: String, root: Place) -> ResourceId {
        let id = self.resources.len() as ResourceId;
        self.by_address.entry(address.clone()).or_insert(id);
        self.resources.push(Resource { address, root });
        id
    }

    /// Notes the addresses and anchors below a place. Where no schema is expected (`is_schema`), names are only names.
    fn index(&mut self, place: Place, mut resource: ResourceId, is_schema: bool) {
        let mut open = vec![(place, resource, is_schema)];
        while let Some((place, around, is_schema)) = open.pop() {
            resource = around;
            let token = self.json(place).token(place.at);
            if let (Token::Object(_), true) = (token, is_schema) {
                resource = self.identify(place, around);
                self.belongs.insert(place, resource);
            } else if is_schema {
                self.belongs.insert(place, resource);
            }
            let json = self.json(place);
            let at = |at| Place { at, ..place };
            let items = json.items(place.at).map(|item| (at(item), resource, is_schema));
            let mut inner: Vec<_> = items.collect();
            for (key, value) in json.members(place.at) {
                let key = key.read();
                let kind = if is_schema { below(&key) } else { Below::Schema };
                match kind {
                    Below::Nothing => {}
                    Below::Schema => inner.push((at(value), resource, true)),
                    Below::Named => inner.push((at(value), resource, false)),
                }
            }
            open.append(&mut inner);
        }
    }

    /// The resource that begins here, or goes on.
    fn identify(&mut self, place: Place, around: ResourceId) -> ResourceId {
        let draft = self.draft(place);
        let json = self.json(place);
        let text = |name: &str| json.text(place.at, name).map(|text| text.into_owned());
        // Beside a `$ref`, older versions ignore all else.
        let is_ignored = draft <= Draft::Seven && json.member(place.at, "$ref").is_some();
        let id = text(if draft == Draft::Four { "id" } else { "$id" }).filter(|_| !is_ignored);
        let anchor = text("$anchor").filter(|_| draft >= Draft::Y2019);
        let dynamic = text("$dynamicAnchor").filter(|_| draft >= Draft::Y2020);
        let is_recursive = draft == Draft::Y2019
            && json
                .member(place.at, "$recursiveAnchor")
                .is_some_and(|at| json.token(at) == Token::Boolean(true));
        let mut resource = around;
        if let Some(id) = id {
            let (address, fragment) = id.split_once('#').unwrap_or((&id, ""));
            if !address.is_empty() {
                let base = self.resources[around as usize].address.clone();
                resource = self.resource(resolve(&base, address), place);
            }
            if !fragment.is_empty() && draft <= Draft::Seven {
                self.anchors.insert((resource, fragment.to_owned()), place);
            }
        }
        for anchor in anchor.into_iter().chain(dynamic.clone()) {
            self.anchors.insert((resource, anchor), place);
        }
        if let Some(dynamic) = dynamic {
            self.dynamic_anchors.insert((resource, dynamic), place);
        }
        if is_recursive {
            self.dynamic_anchors
                .insert((resource, RECURSIVE.to_owned()), place);
        }
        resource
    }

    pub(super) fn json(&self, place: Place) -> &Json<'a> {
        &self.texts[place.document as usize].json
    }

    pub(super) fn draft(&self, place: Place) -> Draft {
        self.texts[place.document as usize].draft
    }

    pub(super) fn dynamic_anchors(&self) -> impl Iterator<Item = (&(ResourceId, String), Place)> {
        self.dynamic_anchors.iter().map(|(key, place)| (key, *place))
    }

    pub(super) fn resource_of(&self, place: Place) -> ResourceId {
        let first = Place { at: 0, ..place };
        let found = self.belongs.get(&place).or_else(|| self.belongs.get(&first));
        found.copied().unwrap_or(0)
    }

    /// Where a reference leads, seen from a place.
    pub(super) fn find(&self, from: Place, reference: &str) -> Result<Place, Invalid> {
        let lost = |why: &str| Invalid(format!("`{}` {why}", cut(reference)));
        let here = self.resource_of(from);
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource = match address {
            "" => here,
            _ => {
                // As the registry has it: by the name of the reference, or by its address.
                let whole = resolve(&self.resources[here as usize].address, address);
                let known = self
                    .by_address
                    .get(&whole)
                    .or_else(|| self.by_address.get(address));
                *known.ok_or_else(|| lost("refers to what is not among the references"))?
            }
        };
        let root = self.resources[resource as usize].root;
        if fragment.is_empty() {
            return Ok(root);
        }
        let fragment = percent_decoded(fragment).ok_or_else(|| lost("is no address"))?;
        match fragment.strip_prefix('/') {
            None => {
                let anchor = self.anchors.get(&(resource, fragment));
                anchor.copied().ok_or_else(|| lost("leads to no anchor"))
            }
            Some(pointer) => {
                let json = self.json(root);
                let mut at = root.at;
                for step in pointer.split('/') {
                    let step = step.replace("~1", "/").replace("~0", "~");
                    let next = match json.token(at) {
                        Token::Array(_) => step.parse().ok().and_then(|index| json.items(at).nth(index)),
                        _ => json.member(at, &step),
                    };
                    at = next.ok_or_else(|| lost("leads nowhere"))?;
                }
                Ok(Place { at, ..root })
            }
        }
    }
}

fn draft(uri: &str) -> Option<Draft> {
    let uri = uri.trim_end_matches('#');
    let path = uri
        .strip_prefix("http://")
        .or_else(|| uri.strip_prefix("https://"))?;
    Some(match path {
        "json-schema.org/draft-04/schema" => Draft::Four,
        "json-schema.org/draft-06/schema" => Draft::Six,
        "json-schema.org/draft-07/schema" => Draft::Seven,
        "json-schema.org/draft/2019-09/schema" => Draft::Y2019,
        "json-schema.org/draft/2020-12/schema" => Draft::Y2020,
        _ => return None,
    })
}

enum Below {
    Nothing,
    /// A schema, or a list of them.
    Schema,
    /// Schemas by names of the schema's own.
    Named,
}

/// What lies below a keyword. Keywords that are not known may hold schemas that references lead to.
fn below(key: &str) -> Below {
    match key {
        "enum" | "const" | "default" | "examples" => Below::Nothing,
        "properties" | "patternProperties" | "definitions" | "$defs" | "dependentSchemas"
        | "dependencies" => Below::Named,
        _ => Below::Schema,
    }
}

/// RFC 3986, section 5.2, without dots in what has no scheme.
fn resolve(base: &str, reference: &str) -> String {
    let scheme_end = |uri: &str| {
        let end = uri.find(':')?;
        let is_scheme = uri[..end]
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        (is_scheme && end > 0).then_some(end)
    };
    if scheme_end(reference).is_some() {
        return reference.to_owned();
    }
    let Some(scheme) = scheme_end(base) else {
        let folder = base.rfind('/').map_or("", |end| &base[..=end]);
        return format!("{folder}{reference}");
    };
    let authority = match base[scheme + 1..].strip_prefix("//") {
        Some(rest) => base.len() - rest.len() + rest.find('/').unwrap_or(rest.len()),
        None => scheme + 1,
    };
    if reference.starts_with("//") {
        return format!("{}:{reference}", &base[..scheme]);
    }
    let path = match reference.starts_with('/') {
        true => reference.to_owned(),
        false => {
            let path = &base[authority..];
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            format!("{folder}{reference}")
        }
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{}/{}", &base[..authority], parts.join("/"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &behind[2..];
    }
    String::from_utf8(bytes).ok()
}
