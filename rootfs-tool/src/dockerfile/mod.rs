//! Dockerfiles, in the language as BuildKit has it. Each module says which part of it is there.

mod cache;
mod chmod;
mod config;
mod copy;
mod flags;
mod glob;
mod health;
mod ignore;
pub(crate) mod instruction;
pub(crate) mod lines;
mod mounts;
mod pattern;
pub(crate) mod stages;
mod suggest;
pub(crate) mod words;
