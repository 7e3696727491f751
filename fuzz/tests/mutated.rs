//! Every target over its corpus, over what once broke it, and over what a seeded mutator makes of both: the same inputs at each
//! run, and no fuzzer needed. `cargo xtask fuzz` looks for longer.

use culvert_fuzz::mutate::{Dice, mutate};
use culvert_fuzz::{TARGETS, Target, inputs, target};
use std::panic::catch_unwind;
use std::path::Path;

/// How many inputs are made for each target. About a second for each; those that write files make fewer.
const ROUNDS: usize = 10_000;
const ROUNDS_WITH_FILES: usize = 500;

fn check(name: &str) {
    let target = target(name).unwrap_or_else(|| panic!("{name} is no target of this build"));
    let corpus = inputs("corpus", target).expect("a corpus can be read");
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let regressions = inputs("regressions", target).expect("regressions can be read");
    for (path, bytes) in corpus.iter().chain(&regressions) {
        run(target, bytes, &path.display().to_string());
    }
    let seeds: Vec<Vec<u8>> = corpus
        .into_iter()
        .chain(regressions)
        .map(|(_, bytes)| bytes)
        .collect();
    let rounds = if ["config", "connector"].contains(&name) {
        ROUNDS_WITH_FILES
    } else {
        ROUNDS
    };
    let mut dice = Dice::new(4711);
    for round in 0..rounds {
        let mut input = seeds[dice.below(seeds.len())].clone();
        mutate(&mut input, &seeds, &mut dice);
        run(target, &input, &format!("round {round}"));
    }
}

/// Keeps what breaks a target, as libFuzzer does, beside what once broke it.
fn run(target: &Target, input: &[u8], which: &str) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", target.name));
        std::fs::write(&file, input).expect("the target's folder can be written to");
        panic!("{} broke at {which}: {}", target.name, file.display());
    }
}

macro_rules! targets {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn every_target_is_tested() {
            let mut tested = vec![$($name),*];
            let mut all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            tested.sort_unstable();
            all.sort_unstable();
            assert_eq!(tested, all);
        }
    };
}

targets! {
    frames = "frame",
    messages = "message",
    streams = "stream",
    batches = "batch",
    columns = "columns",
    avro_schemas = "avro-schema",
    avro_data = "avro-datum",
    avro_json = "avro-json",
    avro_containers = "avro-container",
    protobuf_schemas = "protobuf-schema",
    protobuf_messages = "protobuf-message",
    protobuf_json = "protobuf-json",
    json_schemas = "json-schema",
    json_values = "json-value",
    envelopes = "envelope",
    compressed_batches = "compression",
    files_of_plugins = "examine",
    descriptions = "description",
    segments = "segment",
    positions = "positions",
    configurations = "config",
    connectors = "connector",
    receipts = "receipt",
    answers_of_registries = "registry",
    recorded_failures = "failure",
}
