//! The image store that `runner` and `rootfs-tool` share.
