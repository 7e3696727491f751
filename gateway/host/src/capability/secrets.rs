//! Secrets: handles, and for those who were granted it their bytes.

use super::Reach;
use crate::bindings::capabilities::culvert::plugin::{secrets, secrets_reveal};
use crate::grants::SecretBytes;
use crate::tape::{Taped, ask};
use secrets::Error;
use wasmtime::component::Resource;

/// The most handles that an instance holds at a time.
pub(super) const HANDLES_MAX: usize = 1_000;

/// A secret in the hands of a plugin, which sees a number in its place.
#[allow(unreachable_pub, reason = "generated bindings name it")]
pub struct Handle {
    pub(super) name: String,
    pub(super) bytes: SecretBytes,
}

impl secrets::Host for Reach {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        let asked = ask(self.tape.as_ref(), "secrets.get", |out| name.put(out));
        let held = self.grants.secrets.get(&name).cloned();
        let granted = asked.answer(|| Ok(held.as_ref().map(|_| ()).ok_or(Error::Denied)))?;
        if let Err(error) = granted {
            return Ok(Err(error));
        }
        // Played, nobody looks at them.
        let bytes = held.unwrap_or_else(|| SecretBytes::new(Vec::new()));
        let handle = self.handles.push(Handle { name, bytes });
        let handle = handle.map_err(|_| {
            wasmtime::format_err!("secrets.get: more than {HANDLES_MAX} handles are held; give some back")
        })?;
        Ok(Ok(handle))
    }
}

impl secrets::HostSecret for Reach {
    fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.handles.delete(handle)?;
        Ok(())
    }
}

impl secrets_reveal::Host for Reach {
    fn reveal(&mut self, handle: Resource<Handle>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let handle = self.handles.get(&handle)?;
        let asked = ask(self.tape.as_ref(), "secrets-reveal.reveal", |out| {
            handle.name.put(out);
        });
        asked.secret(|| {
            if !self.grants.reveal.contains(&handle.name) {
                return Ok(Err(Error::Denied));
            }
            Ok(Ok(handle.bytes.expose().to_vec()))
        })
    }
}
