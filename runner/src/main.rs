//! The program `runner`: a thin `main` over the library.

use std::process::ExitCode;

/// A start makes some thousand small allocations and is over. The C library's allocator gives pages back and
/// asks for them again meanwhile, and each that goes is told to every processor that a thread of ours is on.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    ExitCode::from(coracle_sys::stack::roomy(coracle_runner::cli::main))
}
