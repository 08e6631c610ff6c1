//! The program `init`. Everything it does is in the library of the same crate: the C runtime calls
//! `main` in `sys.rs`, which calls `run` in `lib.rs`.
//!
//! It has no Rust runtime below it wherever panics abort, which is how it is released. A profile
//! that unwinds would need std's personality routine, so there std is linked and never used.

#![no_main]
#![cfg_attr(panic = "abort", no_std)]

use coracle_init as _;

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    coracle_init::abort()
}
