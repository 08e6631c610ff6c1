//! Root filesystems to be hostile with: Debian's static busybox as every tool, bent at will, as a plain
//! folder or as an image composed from a recipe.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Cmd, Scratch, Store};

const TOOLS: &[&str] = &[
    "sh", "cat", "ls", "ps", "id", "mount", "umount", "mkdir", "rm", "ln", "touch", "echo", "sleep", "true",
    "false", "stat", "grep", "head", "env", "pwd", "kill", "readlink", "chmod", "chown", "find", "wc",
    "test", "ip", "hostname", "dd", "mv", "cp", "printf", "seq", "tr", "sed", "awk", "cut", "sort", "tail",
    "mknod",
];

/// Fill a folder with a small root filesystem. `None` where busybox-static is not installed.
pub fn busybox(dir: &Path) -> Option<()> {
    let busybox = crate::peer("busybox")?;
    for sub in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
        std::fs::create_dir_all(dir.join(sub)).expect("make a folder");
    }
    std::fs::copy(busybox, dir.join("bin/busybox")).expect("copy busybox");
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write passwd");
    std::fs::write(dir.join("etc/group"), "root:x:0:\n").expect("write group");
    for tool in TOOLS {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(tool)).expect("link a tool");
    }
    Some(())
}

/// Compile a static C program of the tests. `None` where there is no compiler.
pub fn compile(source: &str, to: &Path) -> Option<()> {
    let cc = crate::peer("musl-gcc").or_else(|| crate::peer("cc"))?;
    let source_file = to.with_extension("c");
    std::fs::write(&source_file, source).expect("write the source");
    let done = Command::new(cc).args(["-static", "-Os", "-w", "-o"]).arg(to).arg(&source_file).output();
    let done = done.expect("run the compiler");
    std::fs::remove_file(&source_file).expect("remove the source");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(())
}

/// A plain folder starts: what makes a refusal of a hostile one mean something. Looked at once.
#[track_caller]
pub fn folder_works() -> bool {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let store = Store::new("folder");
        let _image = Image::busybox().expect("busybox").plain(&store, "image");
        store.run("--rootfs image echo a plain folder starts").ok().prints("a plain folder starts");
    });
    true
}

/// A plain image starts: what makes a refusal of a hostile one mean something. Looked at once.
#[track_caller]
pub fn works() -> bool {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let store = Store::new("plain");
        let _image = Image::busybox().expect("busybox").compose(&store, "image");
        store.run("image echo a plain image starts").ok().prints("a plain image starts");
    });
    true
}

/// An image in the making: a recipe whose one layer is a busybox root filesystem.
pub struct Image {
    scratch: Scratch,
    config: String,
}

impl Image {
    /// A plain one. `None` where busybox-static is not installed.
    pub fn busybox() -> Option<Self> {
        let scratch = Scratch::new("image");
        busybox(&scratch.mkdir("rootfs"))?;
        Some(Self { scratch, config: String::new() })
    }

    /// A name in its root filesystem.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.join("rootfs").join(name)
    }

    /// Write a file in it.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.scratch.write(Path::new("rootfs").join(name), content);
        self
    }

    /// Write a file that can be executed.
    pub fn script(self, name: &str, content: &str) -> Self {
        let path = self.scratch.write(Path::new("rootfs").join(name), content);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        self
    }

    /// Make a folder in it.
    pub fn folder(self, name: &str) -> Self {
        self.scratch.mkdir(Path::new("rootfs").join(name));
        self
    }

    /// Put a symbolic link there, in the place of whatever is there.
    pub fn link(self, name: &str, target: impl AsRef<Path>) -> Self {
        let path = self.at(name);
        match path.symlink_metadata() {
            Ok(m) if m.is_dir() => std::fs::remove_dir_all(&path).expect("remove the folder"),
            Ok(_) => std::fs::remove_file(&path).expect("remove the file"),
            Err(_) => std::fs::create_dir_all(path.parent().expect("a parent")).expect("make the folder"),
        }
        std::os::unix::fs::symlink(target, path).expect("make the link");
        self
    }

    /// Compile a C program into it. `None` where there is no compiler.
    pub fn program(self, name: &str, source: &str) -> Option<Self> {
        compile(source, &self.at(name))?;
        Some(self)
    }

    /// Add a line to the recipe's `[config]`.
    pub fn config(mut self, line: impl Display) -> Self {
        self.config.push_str(&format!("{line}\n"));
        self
    }

    /// The folder of its root filesystem, for `run --rootfs`.
    pub fn rootfs(&self) -> PathBuf {
        self.scratch.join("rootfs")
    }

    /// Put it beside a store as the plain folder `name`, for `run --rootfs name`.
    pub fn plain(self, store: &Store, name: &str) -> Self {
        std::os::unix::fs::symlink(self.rootfs(), store.scratch.join(name)).expect("make the link");
        self
    }

    /// The command that composes it into a store under a name.
    #[track_caller]
    pub fn compose_command(&self, store: &Store, name: &str) -> Cmd {
        let recipe = format!("name = {name:?}\n[[layer]]\ndir = \"rootfs/\"\n[config]\n{}", self.config);
        self.scratch.write("rootfs.toml", recipe);
        store.rootfs_tool().arg("compose").arg(self.scratch.path()).args(["-t", name])
    }

    /// Compose it into a store under a name.
    #[track_caller]
    pub fn compose(self, store: &Store, name: &str) -> Self {
        self.compose_command(store, name).ok();
        self
    }
}
