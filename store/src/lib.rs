//! The image store that `runner` and `rootfs-tool` share: an OCI image layout, the applied layers
//! beside it, and the directories of containers.
//!
//! Reading ([`Store::open`], [`Store::resolve`], [`Store::layer_dirs`]) is made for the start of a
//! container: no locks, few system calls. Writing goes through a [`Transaction`]. Registries, and
//! what a container's record says, are not known here.

mod apply;
pub mod blob;
pub mod container;
pub mod digest;
pub mod driver;
pub mod gc;
pub mod ids;
pub mod image;
pub mod ingest;
pub mod layer;
pub mod layers;
pub mod layout;
pub mod lock;
mod mounted;
pub mod names;
pub mod projects;
pub mod read;
pub mod reference;
mod reserve;
mod squeeze;
mod temp;
pub mod upper;
pub mod users;
pub mod verify;
pub mod volume;
pub mod volume_note;
pub mod write;

#[cfg(test)]
mod tests;

pub use container::ContainerDir;
pub use digest::Digest;
pub use driver::Driver;
pub use layout::Locations;
pub use read::{Image, Store};
pub use reference::Reference;
pub use volume::NewVolume;
pub use write::Transaction;
