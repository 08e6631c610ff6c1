//! Link the program for the smallest number of resident pages: no page of its own for what is
//! read-only after relocation (nothing is relocated), none between constants and code, and no
//! table for unwinding, which never happens.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    // The C library of glibc is linked as gcc wants it.
    if variable("CARGO_CFG_TARGET_ENV") != "musl" || variable("PROFILE") != "release" {
        return;
    }
    if variable("RUSTC_LINKER").ends_with("rust-lld") {
        for argument in ["-znorelro", "--no-rosegment", "--no-eh-frame-hdr"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    } else {
        // A compiler as the linker may have GNU ld behind it, which knows only these.
        for argument in ["-Wl,-z,norelro", "-Wl,--no-eh-frame-hdr"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
