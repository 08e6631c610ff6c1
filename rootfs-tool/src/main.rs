//! The program `rootfs-tool`: a thin `main` over the library.

use std::process::ExitCode;

#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    ExitCode::from(coracle_sys::stack::roomy(coracle_rootfs_tool::cli::main))
}
