//! The program `rootfs-tool`: a thin `main` over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(coracle_sys::stack::roomy(coracle_rootfs_tool::cli::main))
}
