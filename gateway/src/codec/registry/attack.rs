//! The decoder of what a registry answers, for the fuzzer: no socket, and nothing remembered.

use super::Fault;
use super::client::reply;
use super::talk::Talk;
use culvert_proto::schema::{Part, Schema};
use std::cell::RefCell;

/// Reads answers, each a status and what it says, as those to whoever asks for a schema, and then for the number that it has
/// under a subject. Who asks for more is told that the registry is away.
///
/// # Errors
/// What the answers say of the schema.
pub fn read_answers(answers: &[(u16, &[u8])]) -> Result<Schema, Fault> {
    let answers = RefCell::new(answers.iter());
    let ask = |_: &str, _: &str, _: Option<&serde_json::Value>| {
        let next = answers.borrow_mut().next();
        let (status, said) = next.ok_or_else(|| Fault::Away("it says no more".to_owned()))?;
        reply(*status, said).map_err(Fault::Away)
    };
    let talk = Talk::with(&ask);
    let (kind, pieces) = talk.schema(7)?;
    let schema = Schema {
        kind,
        part: Part::Value,
        id: 7,
        pieces,
    };
    let _ = talk.latest("orders-value");
    let _ = talk.number_of(&schema, "orders-value", true);
    Ok(schema)
}
