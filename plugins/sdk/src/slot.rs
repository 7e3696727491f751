//! How a plugin is exported, and where it lives between calls. A component has one thread.

use crate::Failure;
use std::cell::RefCell;

/// Holds the opened plugin.
pub struct Slot<T>(RefCell<Option<T>>);

impl<T> Slot<T> {
    /// Nothing is opened yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "made by export macros alone")]
    pub const fn new() -> Slot<T> {
        Slot(RefCell::new(None))
    }

    /// Puts a plugin in the place of the one before.
    pub fn put(&self, plugin: T) {
        *self.0.borrow_mut() = Some(plugin);
    }

    /// Takes it out, if there is one.
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }

    /// Runs something with the opened plugin.
    ///
    /// # Errors
    /// When none was opened.
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> Result<R, Failure> {
        let mut held = self.0.borrow_mut();
        let plugin = held
            .as_mut()
            .ok_or_else(|| Failure::fatal("the plugin was called before it was opened"))?;
        Ok(act(plugin))
    }
}

/// Exports `meta` and one role. A native build exports nothing, and only names the functions: a compiler that saw nobody
/// use the plugin would warn of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    ($exported:ident, $role:ident, $guest:path) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::meta::export!($exported with_types_in $crate::bindings::meta);
        #[cfg(target_family = "wasm")]
        $crate::bindings::$role::export!($exported with_types_in $crate::bindings::$role);
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            let _ = <$exported as $guest>::open;
        };
    };
}
