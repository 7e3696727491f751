//! Secrets: handles, and for those who were granted it their bytes.

use super::Reach;
use crate::bindings::capabilities::culvert::plugin::{secrets, secrets_reveal};
use crate::grants::SecretBytes;
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
        let Some(bytes) = self.grants.secrets.get(&name).cloned() else {
            return Ok(Err(Error::Denied));
        };
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
        if !self.grants.reveal.contains(&handle.name) {
            return Ok(Err(Error::Denied));
        }
        Ok(Ok(handle.bytes.expose().to_vec()))
    }
}
