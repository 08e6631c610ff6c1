//! Runs containers. Data flows one way: command line or config.json -> [`spec`] -> a plan -> kernel
//! calls -> a report. The binary is a thin `main` over this library.

pub mod embedded;
pub mod spec;
