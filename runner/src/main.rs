//! The program `runner`: a thin `main` over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(coracle_runner::cli::main())
}
