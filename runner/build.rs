//! Compiles the default seccomp profile, and puts `init` into the runner: builds crate coracle-init for the same
//! architecture, or takes the finished file that CORACLE_INIT names. The Makefile does the second, so that
//! `dist/init` and the bytes inside `dist/runner` are one file.

#[path = "../.cargo/link.rs"]
mod link;
#[path = "src/seccomp"]
mod seccomp {
    #![allow(dead_code, unreachable_pub)] // the runner uses the rest, and is the one it is public to
    pub mod names;
    pub mod profile;
    pub mod program;
}

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The capabilities that a container has unasked and that the profile asks for.
const CAPABILITIES: [&str; 1] = ["CAP_SYS_CHROOT"];

fn main() {
    link::link(&[], &[]);
    let out = PathBuf::from(var("OUT_DIR"));
    println!("cargo::rerun-if-changed=src/seccomp");
    std::fs::write(out.join("seccomp"), default_filter()).unwrap_or_else(|e| panic!("write the filter: {e}"));
    println!("cargo::rerun-if-env-changed=CORACLE_INIT");
    let init = match env::var_os("CORACLE_INIT") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => build(&out),
    };
    println!("cargo::rerun-if-changed={}", init.display());
    if let Err(e) = std::fs::copy(&init, out.join("init")) {
        panic!("copy {} into the runner: {e}", init.display());
    }
}

/// The default profile's program, 8 bytes an instruction; empty where the architecture has no table.
fn default_filter() -> Vec<u8> {
    let Some(machine) = seccomp::names::Machine::parse(&var("CARGO_CFG_TARGET_ARCH")) else {
        return Vec::new();
    };
    let code = seccomp::profile::compile(machine, &CAPABILITIES).unwrap_or_else(|e| panic!("{e}"));
    let bytes = |i: &seccomp::program::Insn| {
        let (code, k) = (i.code.to_le_bytes(), i.k.to_le_bytes());
        [code[0], code[1], i.jt, i.jf, k[0], k[1], k[2], k[3]]
    };
    code.iter().flat_map(bytes).collect()
}

/// Build `init` in a target directory of its own: the outer cargo holds the lock of the shared one.
fn build(out: &Path) -> PathBuf {
    let workspace = Path::new(&var("CARGO_MANIFEST_DIR")).join("..");
    for source in ["init/src", "init/Cargo.toml", "init/build.rs", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let target = static_target(&var("TARGET"));
    let build = out.join("init-build");
    let mut cargo = Command::new(var("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--release", "--package", "coracle-init", "--target"]);
    cargo.arg(&target).arg("--target-dir").arg(&build).current_dir(&workspace);
    // What the outer cargo decided for the runner (a linting wrapper, flags of its own) is not for init.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if matches!(&*name, "RUSTC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_ENCODED_RUSTFLAGS")
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_CFG_")
        {
            cargo.env_remove(name);
        }
    }
    if target.ends_with("-gnu") {
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    }
    let status = cargo.status().unwrap_or_else(|e| panic!("run cargo for coracle-init: {e}"));
    assert!(status.success(), "build coracle-init for {target}: {status}");
    build.join(target).join("release/init")
}

/// The musl sister of a glibc target, where it is installed: a third of the size, and quicker to start.
fn static_target(target: &str) -> String {
    let musl = target.replace("-gnu", "-musl");
    let installed = Command::new(var("RUSTC"))
        .args(["--print", "target-libdir", "--target", &musl])
        .output()
        .is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_dir());
    if installed { musl } else { target.to_owned() }
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}
