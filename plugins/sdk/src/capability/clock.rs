//! Time and randomness. They come from the gateway, so that a recorded run can be played again. Needs no grant.

/// Milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn now_ms() -> i64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::capabilities::culvert::plugin::clock::now_ms();
    #[cfg(not(target_family = "wasm"))]
    return crate::testing::fake::now_ms();
}

/// Random bytes, at most 64 KiB of them.
#[must_use]
pub fn random(count: u32) -> Vec<u8> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::capabilities::culvert::plugin::clock::random(count);
    #[cfg(not(target_family = "wasm"))]
    return crate::testing::fake::random(count);
}
