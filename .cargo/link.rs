//! What the linker of the three programs is told, for their build scripts. Nothing unwinds in them (panics abort), so
//! the tables for it go; functions that came out the same are one. In release builds for musl only: other builds
//! unwind, and glibc's C library is linked as gcc wants it.

use std::env;

/// Link the program of this package with what all have, with `flags` that every linker knows, and with `lld` that only
/// LLVM's does: a compiler as the linker may have GNU ld behind it.
pub(crate) fn link(flags: &[&str], lld: &[&str]) {
    let here = format!("{}/../.cargo", variable("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={here}");
    if variable("CARGO_CFG_TARGET_ENV") != "musl" || variable("PROFILE") != "release" {
        return;
    }
    let script = format!("-T{here}/discard.ld");
    let bare = variable("RUSTC_LINKER").ends_with("rust-lld");
    let ours: &[&str] = if bare { &["--icf=all", "-O2", &script] } else { &[] };
    let lld = if bare { lld } else { &[] };
    let through = if bare { "" } else { "-Wl," };
    for flag in ["--no-eh-frame-hdr"].iter().chain(ours).chain(flags).chain(lld) {
        println!("cargo::rustc-link-arg-bins={through}{flag}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
