//! What this host cannot do, said aloud.
//!
//! A test that needs what the host lacks (root, FUSE, an engine) calls [`not_run`] and returns. `cargo xtask test`
//! collects these lines, shows them at the end and, with `--all`, fails on them; a plain `cargo test` fails at once,
//! so that nothing is skipped silently.

use std::fs::File;
use std::io::Write;

/// The file that `cargo xtask test` collects the reasons in.
pub const NOT_RUN: &str = "CULVERT_LAB_NOT_RUN";

/// Says that `test` did not run on this host, and `why`, with the way out.
///
/// # Panics
/// When nobody collects the reasons (a plain `cargo test`) or the file cannot be written.
#[track_caller]
pub fn not_run(test: &str, why: &str) {
    let Some(file) = std::env::var_os(NOT_RUN) else {
        panic!(
            "{test} cannot run on this host: {why}\n\n`cargo xtask test` lists such tests instead of failing"
        );
    };
    let line = format!("{test}: {}\n", why.replace('\n', " "));
    // One write to an append-only file: lines of parallel tests do not mix.
    File::options()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|fault| panic!("note in {}: {fault}", file.display()));
}

/// Whether this process is root (network namespaces, mounts and packet filters need it).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `uid:gid` of this process, as containers want it.
pub(crate) fn user() -> String {
    format!(
        "{}:{}",
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    )
}
