//! Runs containers. Data flows one way: command line or config.json -> [`spec`] -> a plan -> kernel
//! calls -> a report. The binary is a thin `main` over this library.

pub mod caps;
pub mod cgroups;
pub mod cli;
pub mod commands;
mod console;
pub mod devfilter;
pub mod devices;
pub mod embedded;
mod etc;
mod foreground;
mod from_image;
mod guardian;
pub mod hooks;
pub mod host;
pub mod idmap;
mod json;
pub mod launch;
mod lsm;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
mod passwd;
pub mod plan;
pub mod process;
mod record;
mod relay;
mod report;
pub mod rootfs;
pub mod seccomp;
pub mod spec;
pub mod state;
mod streams;
mod survey;
mod terminal;
mod timens;
mod volumes;
