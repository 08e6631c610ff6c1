//! Composes slim root filesystems and keeps them as OCI images. The binary is a thin `main` over this library.

pub mod archive;
mod boot;
pub mod change;
pub mod cli;
mod commands;
pub mod compose;
mod container;
pub mod dockerfile;
mod filter;
mod pack;
mod progress;
pub mod recipe;
pub mod registry;
mod replacing;
pub mod sbom;
mod streams;
mod toml_text;
mod transfer;
