//! Booting: an image with a kernel under it. Which kernel (`kernel`) and which of its modules (`modules`), what the
//! image's own config amounts to for init as the machine's first process (`conf`), and what is unpacked into memory beside
//! the image (`initrd`).

#[allow(dead_code)] // what `boot` and packing ask
pub(crate) mod kernel;
mod modinfo;
#[allow(dead_code)] // as above
pub(crate) mod modules;
