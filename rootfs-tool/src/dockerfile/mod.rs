//! Dockerfiles, in the language as BuildKit has it. Each module says which part of it is there.

pub(crate) mod build;
pub(crate) mod cache;
mod chmod;
mod config;
pub(crate) mod context;
mod copy;
pub(crate) mod exec;
mod flags;
mod glob;
mod health;
mod ignore;
pub(crate) mod instruction;
pub(crate) mod lines;
mod mounts;
pub(crate) mod output;
mod owner;
mod pattern;
pub(crate) mod report;
pub(crate) mod secrets;
pub(crate) mod stages;
mod suggest;
pub(crate) mod words;
