//! Booting: an image with a kernel under it. Which kernel (`kernel`, `vmlinuz`) and which of its modules (`modules`), what the
//! image's own config amounts to for init as the machine's first process (`conf`), what is unpacked into memory beside
//! the image (`initrd`), which machine that is (`qemu`, `share`), and its life (`wires`, `run`, `verdict`).

pub(crate) mod conf;
pub(crate) mod initrd;
pub(crate) mod kernel;
mod modinfo;
pub(crate) mod modules;
pub(crate) mod qemu;
pub(crate) mod run;
pub(crate) mod share;
mod verdict;
mod vmlinuz;
mod wires;
