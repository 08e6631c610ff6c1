//! rootfs-tool composes slim root filesystems and keeps them as OCI images.

mod cli;
mod commands;
mod compose;
mod recipe;
mod time;

fn main() -> std::process::ExitCode {
    cli::main()
}
