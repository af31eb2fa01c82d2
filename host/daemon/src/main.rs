//! The program `consort`.

use std::process::ExitCode;

fn main() -> ExitCode {
    consort::cli::main()
}
