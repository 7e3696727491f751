//! What a run of tests measured, for the person who reads its end.

use std::fs::File;
use std::io::Write;

/// The file that `cargo xtask test` collects the figures in.
pub const FIGURES: &str = "CULVERT_LAB_FIGURES";

/// Notes a line of figures, for example `takeover: 11.2 s, 3,000 records`. A plain `cargo test` shows it with
/// `--nocapture`.
///
/// # Panics
/// When the file cannot be written.
#[allow(clippy::print_stdout, reason = "the test harness shows it beside the test")]
pub fn figure(line: &str) {
    println!("{line}");
    let Some(file) = std::env::var_os(FIGURES) else {
        return;
    };
    // One write to an append-only file: lines of parallel tests do not mix.
    File::options()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes()))
        .unwrap_or_else(|fault| panic!("note in {}: {fault}", file.display()));
}
