//! The program `rootfs-tool`: a thin `main` over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    coracle_rootfs_tool::cli::main()
}
