//! System calls that the machine's PID 1 makes and a container's does not, by subject.
//!
//! The linker script keeps this module and `boot` away from what a container's PID 1 runs, by the names of their
//! functions: see `machine.ld`.

mod devices;
mod exec;
mod files;
mod memory;
mod mounts;
mod net;
mod power;
mod process;

pub(crate) use devices::*;
pub(crate) use exec::*;
pub(crate) use files::*;
pub(crate) use memory::*;
pub(crate) use mounts::*;
pub(crate) use net::*;
pub(crate) use power::*;
pub(crate) use process::*;
