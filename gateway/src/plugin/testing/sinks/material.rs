//! Messages that a sink takes, those that it refuses, and those at which it does not come back.

use super::alone;
use super::script::{Form, Part, Script, Write};
use super::writer::{Maker, shown};
use crate::plugin::testing::message::{Fate, Message, placed};
use crate::plugin::testing::place::Place;
use culvert_host::{Poison, PutFault};
use culvert_proto::columns::Rejection;
use serde_json::Value;

/// How many of a kind are kept: each costs a whole run.
const REFUSED_MAX: usize = 3;
const DEADLY_MAX: usize = 2;

/// What a sink makes of messages.
pub(super) struct Material {
    /// How those are made that it takes.
    pub(super) form: Form,
    pub(super) refused: Vec<Message>,
    pub(super) deadly: Vec<Message>,
}

impl Material {
    /// Looks for it among the messages of cases, and some of our own.
    ///
    /// # Errors
    /// When the sink takes none of all these.
    pub(super) fn find(maker: &Maker, place: &Place, of_cases: &[Message]) -> Result<Material, String> {
        let mut forms = vec![Form::Object, Form::Text];
        for message in of_cases {
            let value = message.value.as_deref().unwrap_or_default();
            if let Ok(Value::Object(object)) = serde_json::from_slice(value) {
                forms.push(Form::Case(object));
            }
        }
        forms.extend(of_cases.iter().cloned().map(Form::Unmarked));
        let mut why = String::new();
        let form = forms.into_iter().find(|form| match takes(maker, place, form) {
            Ok(()) => true,
            Err(said) => {
                why = said;
                false
            }
        });
        let form = form.ok_or_else(|| format!("it takes none of the messages that it was shown: {why}"))?;
        let (mut refused, mut deadly) = (Vec::new(), Vec::new());
        for message in of_cases.iter().cloned().chain(strange()) {
            match put(maker, place, &message) {
                Err(PutFault::Refused(_)) if refused.len() < REFUSED_MAX => refused.push(message),
                Err(PutFault::Poison {
                    poison: Poison::Trap(_) | Poison::Memory(_),
                    ..
                }) if deadly.len() < DEADLY_MAX => deadly.push(message),
                _ => {}
            }
        }
        Ok(Material {
            form,
            refused,
            deadly,
        })
    }
}

fn takes(maker: &Maker, place: &Place, form: &Form) -> Result<(), String> {
    place.clear()?;
    let script = match maker.is_transactional {
        true => alone(form),
        false => alone(form).without_tokens(),
    };
    let mut writer = maker.writer(None).map_err(|fall| fall.got)?;
    writer.open(1).map_err(|fall| fall.got)?;
    script
        .writes
        .iter()
        .try_for_each(|write| writer.deliver(write, 2))
        .map_err(|fall| fall.got)
}

/// What most sinks take and some cannot.
fn strange() -> Vec<Message> {
    let values = ["", "two\nlines", "{", "[1,", "\u{0}"].map(Message::of_value);
    let mut all = vec![Message::default(), Message::of_value([0xff, 0xfe, 0x00, 0x80])];
    all.extend(values);
    all
}

fn put(maker: &Maker, place: &Place, message: &Message) -> Result<(), PutFault> {
    let stop = |why: String| PutFault::Stop(why);
    place.clear().map_err(stop)?;
    let mut writer = maker.writer(None).map_err(|fall| stop(fall.got))?;
    writer.open(1).map_err(|fall| stop(fall.got))?;
    let mut write: Write = Script::small(&Form::Unmarked(message.clone()))
        .writes
        .swap_remove(0);
    if !maker.is_transactional {
        write.tokens.clear();
    }
    write.parts.iter_mut().for_each(|part: &mut Part| {
        part.messages = placed(part.from, [message.clone()]);
    });
    writer.put(&write)
}

/// What becomes of a message that is written alone.
///
/// # Errors
/// When that is neither: it is there, nor: it is refused.
pub(super) fn fate(maker: &Maker, place: &Place, message: &Message) -> Result<Fate, String> {
    match put(maker, place, message) {
        Ok(()) => Ok(Fate::Keep),
        Err(PutFault::Refused(mut refusals)) if !refusals.is_empty() => {
            Ok(Fate::Reject(refusals.swap_remove(0).rejection))
        }
        Err(PutFault::Poison { poison, .. }) => Ok(Fate::Reject(Rejection {
            code: poison.code().into(),
            reason: poison.to_string(),
            field: None,
        })),
        Err(fault) => Err(shown(&fault)),
    }
}
