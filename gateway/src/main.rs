//! The `culvert` binary: arguments, verb, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    culvert::cli::main()
}
