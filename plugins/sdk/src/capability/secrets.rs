//! Secrets as handles: [`http`](crate::http) puts them on the wire, and the plugin never holds their bytes. Needs a
//! grant.

pub use crate::bindings::capabilities::culvert::plugin::secrets::Error;

/// A secret that can be used and not read.
pub struct Secret {
    #[cfg(target_family = "wasm")]
    pub(crate) handle: crate::bindings::capabilities::culvert::plugin::secrets::Secret,
    #[cfg(not(target_family = "wasm"))]
    pub(crate) bytes: Vec<u8>,
}

/// The secret of this name.
///
/// # Errors
/// [`Error::Denied`] where it was not granted to this connector, [`Error::Missing`] where it is not there.
pub fn get(name: &str) -> Result<Secret, Error> {
    #[cfg(target_family = "wasm")]
    {
        let handle = crate::bindings::capabilities::culvert::plugin::secrets::get(name)?;
        Ok(Secret { handle })
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let bytes = crate::testing::fake::secret(name).ok_or(Error::Missing)?;
        Ok(Secret { bytes })
    }
}

/// The bytes of a secret. Needs a grant of its own.
///
/// # Errors
/// [`Error::Denied`] where it was not granted to this connector.
#[cfg(feature = "secrets-reveal")]
pub fn reveal(secret: &Secret) -> Result<Vec<u8>, Error> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::capabilities::culvert::plugin::secrets_reveal::reveal(&secret.handle);
    #[cfg(not(target_family = "wasm"))]
    return Ok(secret.bytes.clone());
}
