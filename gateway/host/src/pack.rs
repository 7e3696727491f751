//! Writes what a plugin says about itself into its file, so that looking at it runs nothing.

use crate::component::examine;
use crate::engine::{Engine, Options};
use crate::fault::LoadError;
use crate::signature::signers;

/// The custom section that holds the description, as JSON.
pub(crate) const SECTION: &str = "culvert:describe";

/// Asks the component for its description, once, with nothing linked, and returns the component with the description in
/// it. One that has a description already comes back as it is.
///
/// # Errors
/// When it is no plugin, is signed already, or its `describe` fails or says what the contract does not allow.
pub fn pack(component: &[u8]) -> Result<Vec<u8>, LoadError> {
    if examine(component)?.description.is_some() {
        return Ok(component.to_vec());
    }
    if signers(component).is_ok_and(|signers| !signers.is_empty()) {
        return Err(LoadError::Description {
            reason: "there is none, and the file is signed already; pack it first, then sign it".into(),
        });
    }
    let plugin = Engine::new(Options::default())?.load(component)?;
    let json = serde_json::to_vec(&plugin.description).map_err(|error| LoadError::Description {
        reason: error.to_string(),
    })?;
    Ok([component, &section(SECTION.as_bytes(), &json)].concat())
}

/// A custom section of this name.
pub(crate) fn section(name: &[u8], held: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(held.len() + name.len() + 2);
    put_size(&mut body, name.len());
    body.extend_from_slice(name);
    body.extend_from_slice(held);
    let mut section = vec![0];
    put_size(&mut section, body.len());
    section.extend_from_slice(&body);
    section
}

/// WebAssembly's unsigned LEB128.
fn put_size(out: &mut Vec<u8>, mut size: usize) {
    loop {
        let low = u8::try_from(size & 0x7f).unwrap_or(0);
        size >>= 7;
        if size == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}
