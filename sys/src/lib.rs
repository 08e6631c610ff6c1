//! What every Coracle program stands on: the error type, command lines, output templates, and the system calls that
//! nix lacks. All `unsafe` of the workspace lives here, in `init` and in files named `sys`.

pub mod argv;
pub mod btrfs;
pub mod error;
pub mod file;
pub mod handle;
pub mod idmap;
pub mod interrupt;
pub mod json;
pub mod mount;
pub mod namespace;
pub mod order;
pub mod pidfd;
pub mod print;
pub mod process;
pub mod program;
pub mod quantity;
pub mod quota;
pub mod raw;
pub mod stack;
pub mod table;
pub mod template;
pub mod terminal;
pub mod time;
#[cfg(all(panic = "abort", target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod unwind;
pub mod usage;

pub use error::{Context, Error, Kind, Result};
