//! The program `rootfs-tool`: a thin `main` over the library.

use std::process::ExitCode;

// Faster than musl's for encoders that come and go: ARCHITECTURE.md has the figures.
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    ExitCode::from(coracle_sys::stack::roomy(coracle_rootfs_tool::cli::main))
}
