//! The targets under libFuzzer. Which one is named by `CULVERT_FUZZ_TARGET`; with `CULVERT_FUZZ_NAMES` those of this build are
//! printed. Everything else is libFuzzer's.

#![no_main]
#![allow(clippy::print_stdout, reason = "a command line")]

use culvert_fuzz::Target;
use std::sync::OnceLock;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        if std::env::var_os("CULVERT_FUZZ_NAMES").is_some() {
            for target in culvert_fuzz::TARGETS {
                println!("{}", target.name);
            }
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        let chosen = CHOSEN.get_or_init(|| {
            let name = std::env::var("CULVERT_FUZZ_TARGET").unwrap_or_default();
            match culvert_fuzz::target(&name) {
                Some(target) => target,
                None => panic!("CULVERT_FUZZ_TARGET={name:?} names no target of this build"),
            }
        });
        (chosen.run)(data);
    }
);
