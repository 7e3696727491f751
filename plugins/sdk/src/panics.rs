//! A panic in a stripped component is a bare `unreachable`: its text and place go to the log first.

/// Called at the begin of every exported function that may use the log.
pub fn report() {
    #[cfg(target_family = "wasm")]
    {
        use std::sync::Once;
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            std::panic::set_hook(Box::new(|panic| {
                crate::log::write(crate::log::Level::Error, &panic.to_string());
            }));
        });
    }
}
