//! What stands in `examples/` is right: the commands of its README, run.

use std::path::Path;
use std::process::Command;

fn culvert(directory: &Path, arguments: &[&str]) {
    let program = env!("CARGO_BIN_EXE_culvert");
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "culvert {}: {said}", arguments.join(" "));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make the directory");
    for entry in std::fs::read_dir(from).expect("list the directory") {
        let entry = entry.expect("list the directory");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(source, target).expect("copy the file");
        }
    }
}

#[test]
fn three_networks_check_out() {
    let place = tempfile::tempdir().expect("a directory");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/three-networks");
    copy(&examples, place.path());
    culvert(place.path(), &["pki", "init", "--trust-domain", "example.org"]);
    for gateway in ["gw1", "gw2", "gw3"] {
        culvert(place.path(), &["pki", "issue", "gateway", gateway]);
        culvert(
            place.path(),
            &["check", "--config", &format!("{gateway}/culvert.toml")],
        );
    }
}
