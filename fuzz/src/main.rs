//! The targets under libFuzzer. Which one is named by `CULVERT_FUZZ_TARGET`; everything else is libFuzzer's.

#![no_main]

use culvert_fuzz::Target;
use std::sync::OnceLock;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("CULVERT_FUZZ_TARGET").unwrap_or_default();
        match culvert_fuzz::target(&name) {
            Some(target) => target,
            None => panic!("CULVERT_FUZZ_TARGET={name:?} names no target of this build"),
        }
    });
    (chosen.run)(data);
});
