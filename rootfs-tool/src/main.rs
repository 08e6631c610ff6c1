//! rootfs-tool

fn main() {}
