//! The binary `attache`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    attache::cli::main()
}
