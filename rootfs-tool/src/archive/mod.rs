//! Archives of images, in files: docker's (`docker save`) and OCI layouts in a tar.

pub mod docker;
pub(crate) mod members;
pub(crate) mod oci;
pub(crate) mod packed;
pub(crate) mod write;
