//! Link the program for the smallest number of resident pages: no page of its own for what is
//! read-only after relocation (nothing is relocated), none between constants and code. Where the C library has
//! nothing to do at the start, the program begins without it.

use std::env;

#[path = "../.cargo/link.rs"]
mod link;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bare)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let known = is("CARGO_CFG_TARGET_ARCH", "x86_64") || is("CARGO_CFG_TARGET_ARCH", "aarch64");
    if known && is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        println!("cargo::rustc-cfg=bare");
        let script = concat!("-T", env!("CARGO_MANIFEST_DIR"), "/../.cargo/bare.ld");
        link::link(
            &["-znorelro", "--entry=_coracle_start"],
            &["--no-rosegment", "-znosectionheader", script],
        );
    } else {
        link::link(&["-znorelro"], &["--no-rosegment"]);
    }
}
