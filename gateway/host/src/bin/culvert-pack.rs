//! `culvert-pack INPUT OUTPUT`: writes what a plugin says about itself into its file. What `cargo xtask plugins` uses before
//! there is a gateway; authors use `culvert plugin build` or `culvert plugin pack`.

use std::path::Path;
use std::process::ExitCode;

#[allow(clippy::print_stderr, reason = "a command line")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: culvert-pack INPUT OUTPUT");
        return ExitCode::from(2);
    };
    match pack(Path::new(input), Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {}: {reason}", Path::new(input).display());
            ExitCode::FAILURE
        }
    }
}

fn pack(input: &Path, output: &Path) -> Result<(), String> {
    let component = std::fs::read(input).map_err(|error| error.to_string())?;
    let packed = culvert_host::pack(&component).map_err(|error| error.to_string())?;
    std::fs::write(output, packed).map_err(|error| error.to_string())
}
