//! Settings that grant what their values name, as the plugin describes them: the operator has written the address himself.

use culvert_host::{AddressGrant, Field, FolderGrant, Grants, Method, Use};
use std::path::Path;

/// Adds what `value` grants as the value of `field`; nothing, where it grants nothing. A relative path is one below `base`.
///
/// # Errors
/// When the value does not name one place exactly, or the plugin's description names no grant that is known.
pub fn imply(field: &Field, value: &str, base: &Path, grants: &mut Grants) -> Result<(), String> {
    let mut methods = Vec::new();
    for word in field.grants() {
        match (word, word.strip_prefix("http.").and_then(Method::parse)) {
            (_, Some(method)) => methods.push(method),
            ("files.read", _) => grants.files.push(FolderGrant::beginning(Use::Read, value, base)?),
            ("files.write", _) => grants
                .files
                .push(FolderGrant::beginning(Use::Write, value, base)?),
            _ => {
                return Err(format!(
                    "the plugin describes it as granting {word:?}, which is nothing known"
                ));
            }
        }
    }
    if !methods.is_empty() {
        grants.http.push(AddressGrant::of(methods, value)?);
    }
    Ok(())
}
