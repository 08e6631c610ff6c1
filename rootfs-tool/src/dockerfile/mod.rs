//! Dockerfiles, in the language as BuildKit has it. Each module says which part of it is there.

mod flags;
mod glob;
mod health;
mod ignore;
pub(crate) mod instruction;
pub(crate) mod lines;
mod pattern;
pub(crate) mod stages;
mod suggest;
pub(crate) mod words;
