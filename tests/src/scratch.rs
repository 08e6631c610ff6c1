//! Temporary folders. Each is unique, and gone when the test ends, whatever was mounted in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};

use crate::rootfs::Image;
use crate::{Cmd, Privilege, binaries, need, privilege};

/// A folder that undoes what was mounted beneath it and removes itself.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new one, mode 0755, under `$TMPDIR` or /tmp.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coracle-{name}-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        let path = path.canonicalize().expect("resolve a folder that was just made");
        Self { path }
    }

    /// A new one that belongs to the ordinary user of [`Cmd::as_user`].
    pub fn of_user(name: &str) -> Self {
        let scratch = Self::new(name);
        if nix::unistd::geteuid().is_root() {
            let user = privilege::ordinary_user().expect("need(Privilege::OrdinaryUser) comes first");
            std::os::unix::fs::chown(&scratch.path, Some(user.uid), Some(user.gid)).expect("chown");
        }
        scratch
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Write a file in it, with the folders that lead to it.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make the folders");
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// Make a folder in it, with its parents.
    pub fn mkdir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).expect("make the folders");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("CORACLE_KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
            return;
        }
        for mount in mounts_beneath(&self.path).iter().rev() {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
        if std::fs::remove_dir_all(&self.path).is_err() {
            // Files of a subuid, when an ordinary user runs the tests.
            let _ = Cmd::new("unshare").words("-r --map-auto rm -rf").arg(&self.path).run();
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The mount points beneath a folder, in the order they were made.
pub fn mounts_beneath(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|at| PathBuf::from(at.replace("\\040", " ")))
        .filter(|at| at.starts_with(dir))
        .collect()
}

/// A store and a state folder of a test's own, so that tests do not see each other.
pub struct Store {
    /// The folder that holds both.
    pub scratch: Scratch,
    user: bool,
    below: Option<PathBuf>,
}

impl Store {
    /// Of whoever runs the tests.
    pub fn new(name: &str) -> Self {
        Self { scratch: Scratch::new(name), user: false, below: None }
    }

    /// Of the ordinary user: commands run as that user.
    pub fn of_user(name: &str) -> Self {
        Self { scratch: Scratch::of_user(name), user: true, below: None }
    }

    /// With busybox as every tool in the image `box`; none where busybox is not installed.
    pub fn with_box(name: &str) -> Option<Self> {
        if !need(Privilege::Peer("busybox")) {
            return None;
        }
        let store = Self::new(name);
        Image::busybox()?.compose(&store, "box");
        Some(store)
    }

    /// The store's folder.
    pub fn path(&self) -> PathBuf {
        self.scratch.join("store")
    }

    /// Let it find images in another store, which it does not write.
    pub fn reads(mut self, other: PathBuf) -> Self {
        self.below = Some(other);
        self
    }

    /// What CORACLE_STORE is for it.
    pub fn locations(&self) -> OsString {
        let mut all = self.path().into_os_string();
        if let Some(below) = &self.below {
            all.push(":");
            all.push(below);
        }
        all
    }

    /// The folder of the state of running containers.
    pub fn state(&self) -> PathBuf {
        self.scratch.join("run")
    }

    fn own(&self, cmd: Cmd) -> Cmd {
        let cmd = if self.user { cmd.as_user() } else { cmd };
        cmd.env("CORACLE_STORE", self.locations()).dir(self.scratch.path())
    }

    /// `runner` on this store.
    #[track_caller]
    pub fn runner(&self) -> Cmd {
        self.own(Cmd::runner()).arg("--root").arg(self.state())
    }

    /// `docker`, a link to `runner`, on this store.
    #[track_caller]
    pub fn docker(&self) -> Cmd {
        let link = self.scratch.join("docker");
        if !link.exists() {
            std::os::unix::fs::symlink(binaries::runner(), &link).expect("link docker");
        }
        let tool = binaries::rootfs_tool();
        self.own(Cmd::new(&link)).env("CORACLE_ROOTFS_TOOL", tool).env_remove("DOCKER_HOST")
    }

    /// `runner run --rm` and the words that follow, split at white space.
    #[track_caller]
    pub fn run(&self, line: &str) -> Cmd {
        self.runner().words("run --rm").words(line)
    }

    /// The id of an image.
    #[track_caller]
    pub fn image_id(&self, name: &str) -> String {
        self.rootfs_tool().args(["inspect", "-f", "{{.Id}}", name]).ok().text().to_owned()
    }

    /// `rootfs-tool` on this store.
    #[track_caller]
    pub fn rootfs_tool(&self) -> Cmd {
        self.own(Cmd::rootfs_tool())
    }

    /// Compose a shipped recipe under its own name.
    #[track_caller]
    pub fn compose(&self, recipe: &str) -> &Self {
        let folder = crate::workspace().join("images").join(recipe);
        self.rootfs_tool().arg("compose").arg(folder).args(["-t", recipe]).ok();
        self
    }
}
