//! Walks through a message once and copies it but for what the rules change: what no rule names stays byte for byte.

use crate::json::{Begin, NotJson, Reader, read, written};
use crate::rules::{Action, Places, Rules, Step, Walk};
use culvert_plugin::Rejection;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The deepest nesting that is read; what common JSON libraries read too.
const DEPTH_MAX: usize = 128;

/// Rules, and what they put in the place of fields.
pub(crate) struct Policy {
    rules: Rules,
    /// A JSON string.
    mask: String,
    hash: Option<Hmac<Sha256>>,
}

impl Policy {
    pub(crate) fn new(rules: Rules, mask_text: &str, key: Option<&str>) -> Policy {
        let keyed =
            |key: &str| Hmac::new_from_slice(key.as_bytes()).expect("an HMAC takes a key of any length");
        Policy {
            rules,
            mask: written(mask_text),
            hash: key.map(keyed),
        }
    }

    /// What a message becomes; nothing where it stays as it is.
    pub(crate) fn apply(&self, value: &[u8]) -> Result<Option<Vec<u8>>, Rejection> {
        let text = std::str::from_utf8(value).map_err(|error| not_json(error.valid_up_to()))?;
        let (walk, root) = Walk::new(&self.rules);
        let mut pass = Pass {
            policy: self,
            text,
            json: Reader::new(text),
            walk,
            copy: Vec::new(),
            copied: 0,
        };
        match pass.document(root) {
            Ok(()) => Ok(pass.finished()),
            Err(Stop::NotJson(at)) => Err(not_json(at)),
            Err(Stop::TooDeep) => Err(Rejection::new(
                "too-deep",
                format!("it is nested deeper than {DEPTH_MAX} levels"),
            )),
            Err(Stop::Field(why, path)) => {
                let path: String = path.iter().rev().map(|name| format!("/{name}")).collect();
                Err(why.rejection(path))
            }
        }
    }
}

fn not_json(at: usize) -> Rejection {
    Rejection::new("not-json", format!("it is no JSON from byte {at} on"))
}

/// Why a message cannot cross.
enum Stop {
    NotJson(usize),
    TooDeep,
    /// A field, and its path from the inside out: each level adds its name as the walk comes back through it.
    Field(Why, Vec<String>),
}

#[derive(Clone, Copy)]
enum Why {
    Denied,
    NotScalar,
}

impl Why {
    fn rejection(self, path: String) -> Rejection {
        let (code, reason) = match self {
            Why::Denied => ("field-denied", format!("the field {path} may not cross")),
            Why::NotScalar => (
                "hash-not-scalar",
                format!("the field {path} is a list or an object, and only a scalar is hashed"),
            ),
        };
        Rejection::new(code, reason).at(path)
    }
}

impl From<NotJson> for Stop {
    fn from(NotJson(at): NotJson) -> Stop {
        Stop::NotJson(at)
    }
}

impl Stop {
    fn within(self, step: Step<'_>) -> Stop {
        match self {
            Stop::Field(why, mut path) => {
                path.push(match step {
                    Step::Name(name) => name.replace('~', "~0").replace('/', "~1"),
                    Step::Item(item) => item.to_string(),
                });
                Stop::Field(why, path)
            }
            other => other,
        }
    }
}

/// One walk through one message.
struct Pass<'a> {
    policy: &'a Policy,
    text: &'a str,
    json: Reader<'a>,
    walk: Walk<'a>,
    /// The message as it goes on, as far as it differs.
    copy: Vec<u8>,
    /// So much of the text is in `copy`, or was left out of it.
    copied: usize,
}

/// Where in a message a value stands.
struct Place {
    rules: Places,
    depth: usize,
    /// It goes on neither way, inside something that is dropped, masked or hashed: only denials count.
    is_covered: bool,
}

impl Pass<'_> {
    fn finished(mut self) -> Option<Vec<u8>> {
        if self.copied == 0 {
            return None;
        }
        self.copy.extend_from_slice(&self.text.as_bytes()[self.copied..]);
        Some(self.copy)
    }

    fn document(&mut self, root: Places) -> Result<(), Stop> {
        self.json.skip_space();
        self.value(&Place {
            rules: root,
            depth: 0,
            is_covered: false,
        })?;
        self.json.skip_space();
        Ok(self.json.expect_end()?)
    }

    /// A value and all within.
    fn value(&mut self, place: &Place) -> Result<(), Stop> {
        match self.json.begin()? {
            Begin::Object => self.children(place, b'}'),
            Begin::List => self.children(place, b']'),
            Begin::Text(_) | Begin::Word(_) | Begin::Null => Ok(()),
        }
    }

    /// What is between brackets, up to and with the closing one.
    fn children(&mut self, place: &Place, close: u8) -> Result<(), Stop> {
        if place.depth == DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        let is_object = close == b'}';
        let mut has_kept = false;
        let mut comma = None;
        let mut item = 0;
        self.json.skip_space();
        if self.json.takes(close) {
            return Ok(());
        }
        loop {
            let begin = self.json.at();
            let name;
            let step = if is_object {
                name = read(self.json.string()?);
                self.json.skip_space();
                self.json.expect(b':')?;
                self.json.skip_space();
                Step::Name(&name)
            } else {
                Step::Item(item)
            };
            let is_kept = self.child(place, step).map_err(|stop| stop.within(step))?;
            if !is_kept {
                // With the comma before it, if something that stays is before that.
                let begin = comma.filter(|_| has_kept).unwrap_or(begin);
                self.replace(begin, "");
            }
            has_kept |= is_kept;
            item += 1;
            self.json.skip_space();
            if self.json.takes(close) {
                return Ok(());
            }
            let at = self.json.at();
            self.json.expect(b',')?;
            self.json.skip_space();
            comma = Some(at);
            if !has_kept {
                // Nothing is left that it could stand behind.
                self.replace(at, "");
            }
        }
    }

    /// One child; whether it stays there.
    fn child(&mut self, parent: &Place, step: Step<'_>) -> Result<bool, Stop> {
        let rules = self.walk.down(parent.rules.clone(), step);
        let action = self.walk.action(&rules);
        if action == Some(Action::Deny) {
            return Err(Stop::Field(Why::Denied, Vec::new()));
        }
        let action = action.filter(|_| !parent.is_covered);
        let place = Place {
            rules: rules.clone(),
            depth: parent.depth + 1,
            is_covered: parent.is_covered || action.is_some(),
        };
        let begin = self.json.at();
        match action {
            None => self.value(&place)?,
            Some(Action::Hash) => self.hash(&place)?,
            Some(Action::Mask) => {
                self.value(&place)?;
                let policy = self.policy;
                self.replace(begin, &policy.mask);
            }
            Some(Action::Drop | Action::Deny) => self.value(&place)?,
        }
        self.walk.back(&rules);
        Ok(action != Some(Action::Drop))
    }

    fn hash(&mut self, place: &Place) -> Result<(), Stop> {
        let begin = self.json.at();
        let content = match self.json.begin()? {
            Begin::Text(written) => read(written),
            Begin::Word(word) => word.into(),
            Begin::Null => return Ok(()),
            Begin::Object => return self.not_scalar(place, b'}'),
            Begin::List => return self.not_scalar(place, b']'),
        };
        let mut hash = self
            .policy
            .hash
            .clone()
            .expect("a policy with `hash` paths does not open without a key");
        hash.update(content.as_bytes());
        let digest = hash.finalize().into_bytes();
        let mut written = String::with_capacity(2 * digest.len() + 2);
        written.push('"');
        for byte in digest {
            written.extend(
                [byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])),
            );
        }
        written.push('"');
        self.replace(begin, &written);
        Ok(())
    }

    /// A denial within comes first.
    fn not_scalar(&mut self, place: &Place, close: u8) -> Result<(), Stop> {
        self.children(place, close)?;
        Err(Stop::Field(Why::NotScalar, Vec::new()))
    }

    /// What was read from `begin` on goes on as this.
    fn replace(&mut self, begin: usize, by: &str) {
        if self.copied == 0 {
            self.copy.reserve(self.text.len());
        }
        self.copy
            .extend_from_slice(&self.text.as_bytes()[self.copied..begin]);
        self.copy.extend_from_slice(by.as_bytes());
        self.copied = self.json.at();
    }
}
