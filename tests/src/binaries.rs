//! Where the programs are: our three, and the peers that this machine happens to have.

use std::path::{Path, PathBuf};

/// The workspace: `$CORACLE_WORKSPACE`, else the one that this crate was compiled in. The recipes are
/// in its `images/`.
pub fn workspace() -> PathBuf {
    match std::env::var_os("CORACLE_WORKSPACE") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf(),
    }
}

/// The folder of the binaries: `$CORACLE_DIST`, else `dist/` of the workspace.
pub fn dist() -> PathBuf {
    std::env::var_os("CORACLE_DIST").map_or_else(|| workspace().join("dist"), PathBuf::from)
}

/// One of the three binaries by name.
#[track_caller]
pub fn ours(name: &str) -> PathBuf {
    let path = dist().join(name);
    assert!(path.exists(), "{} is missing: type `make build`", path.display());
    path
}

/// `runner`.
#[track_caller]
pub fn runner() -> PathBuf {
    ours("runner")
}

/// `rootfs-tool`.
#[track_caller]
pub fn rootfs_tool() -> PathBuf {
    ours("rootfs-tool")
}

/// `init`.
#[track_caller]
pub fn init() -> PathBuf {
    ours("init")
}

/// Another implementation, to compare with: crun, bwrap, podman, skopeo. `None` where it is not
/// installed: say so through [`crate::privilege::need`] with `Privilege::Peer`.
pub fn peer(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/libexec", "/usr/lib/podman"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// This machine's architecture as images name it.
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A PATH with what an ordinary user's containers need and no more: fuse-overlayfs is not in it.
#[track_caller]
pub fn path_without_fuse(scratch: &crate::Scratch) -> PathBuf {
    let dir = scratch.mkdir("path");
    for name in ["newuidmap", "newgidmap"] {
        let link = dir.join(name);
        if let Some(found) = peer(name)
            && !link.exists()
        {
            std::os::unix::fs::symlink(found, link).expect("link");
        }
    }
    dir
}
