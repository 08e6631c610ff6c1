//! Runs containers. Data flows one way: command line or config.json -> [`spec`] -> a plan -> kernel
//! calls -> a report. The binary is a thin `main` over this library.

pub mod caps;
pub mod cgroups;
pub mod commands;
pub mod devfilter;
pub mod devices;
pub mod embedded;
pub mod host;
pub mod idmap;
pub mod launch;
pub mod mounts;
pub mod namespaces;
pub mod plan;
pub mod process;
pub mod rootfs;
pub mod spec;
pub mod state;
