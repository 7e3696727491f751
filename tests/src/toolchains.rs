//! What the toolchains of plugins fetch, kept by `cargo xtask prepare` so that no test needs a network.

use crate::process::find_program;
use crate::workspace;
use std::path::PathBuf;

/// npm's cache, with what the templates' `package-lock.json` pin.
pub fn npm_cache() -> PathBuf {
    workspace().join(".lab/toolchains/npm")
}

/// The wheels that the Python template's `requirements.txt` pins.
pub fn wheels() -> PathBuf {
    workspace().join(".lab/toolchains/wheels")
}

/// Go, where the host has none that is new enough.
pub fn go() -> PathBuf {
    workspace().join(".lab/toolchains/go")
}

/// Where helm is built to, for hosts that have none.
pub fn own_helm() -> PathBuf {
    workspace().join(".lab/tools/bin/helm")
}

/// Helm: the host's, or our own.
pub fn helm() -> Option<PathBuf> {
    find_program("helm").or_else(|| Some(own_helm()).filter(|helm| helm.is_file()))
}

/// Variables that keep every toolchain to what is there.
pub fn offline() -> Vec<(&'static str, String)> {
    let path = |path: PathBuf| path.display().to_string();
    let found = std::env::var("PATH").unwrap_or_default();
    let search = match go().join("bin/go").exists() {
        true => format!("{}:{found}", go().join("bin").display()),
        false => found,
    };
    vec![
        ("PATH", search),
        ("CARGO_NET_OFFLINE", "true".into()),
        ("GOPROXY", "off".into()),
        ("GOTOOLCHAIN", "local".into()),
        ("npm_config_cache", path(npm_cache())),
        ("npm_config_offline", "true".into()),
        ("PIP_FIND_LINKS", path(wheels())),
        ("PIP_NO_INDEX", "1".into()),
    ]
}
