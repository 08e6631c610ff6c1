//! Composes slim root filesystems and keeps them as OCI images. The binary is a thin `main` over this library.

pub mod cli;
mod commands;
mod compose;
mod recipe;
mod time;
