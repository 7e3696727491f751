//! The program that runs.

use std::path::{Path, PathBuf};

/// The file that this process runs, for what it does in a process of its own. An upgrade may have given its name to another
/// program, or to none: Linux still knows the one that runs, and only that one makes what this process can read.
#[must_use]
pub fn own() -> Option<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Some(running.to_owned());
    }
    std::env::current_exe().ok()
}
