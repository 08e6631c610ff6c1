//! What a test needs of the machine. Where it is missing the test is listed as skipped, and under
//! `REQUIRE_ALL=1` it fails: nothing passes silently. `REQUIRE_ALL=user` is for the second run, as an
//! ordinary user: everything but root and cgroup
//! controllers, which v1 gives to root alone, is required then.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege<'a> {
    /// To be root with the right to mount.
    Root,
    /// To be an ordinary user, or root on a machine with the test user.
    OrdinaryUser,
    /// To start containers at all: root with the right to mount, or a user with user namespaces.
    Containers,
    /// That an ordinary user may make a user namespace.
    UserNamespaces,
    /// A cgroup controller, on v1 or v2, in which groups can be made.
    Controller(&'a str),
    /// Another program.
    Peer(&'a str),
    /// File systems of btrfs, to be made and mounted.
    Btrfs,
    /// The program fuse-overlayfs, and the device that it needs.
    Fuse,
}

/// The ordinary user of the tests.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: u32,
    /// Its primary gid.
    pub gid: u32,
    /// Its home.
    pub home: PathBuf,
}

/// The user that `make test` makes when root runs it: `$CORACLE_TEST_USER`, else `coracle-test`.
pub fn ordinary_user() -> Option<&'static User> {
    static USER: OnceLock<Option<User>> = OnceLock::new();
    USER.get_or_init(|| {
        let name = std::env::var("CORACLE_TEST_USER").unwrap_or_else(|_| "coracle-test".into());
        let found = match nix::unistd::geteuid() {
            me if me.is_root() => nix::unistd::User::from_name(&name),
            me => nix::unistd::User::from_uid(me),
        };
        let u = found.ok()??;
        Some(User { name: u.name, uid: u.uid.as_raw(), gid: u.gid.as_raw(), home: u.dir })
    })
    .as_ref()
}

/// Is it there? If not, print `skipped: ...`, or fail under `REQUIRE_ALL=1`. A test opens with
/// `if !need(Privilege::Root) { return; }`.
#[must_use]
#[track_caller]
pub fn need(what: Privilege) -> bool {
    let Err(why) = probe(what) else { return true };
    let required = match std::env::var("REQUIRE_ALL").as_deref() {
        Ok("" | "0") | Err(_) => false,
        Ok("user") => !matches!(what, Privilege::Root | Privilege::Controller(_)),
        Ok(_) => true,
    };
    assert!(!required, "REQUIRE_ALL is set and this is missing: {why}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    // Straight to the stream: what a passing test prints through the macros is never shown.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
    false
}

/// The same question, without a word to anyone.
pub fn have(what: Privilege) -> bool {
    probe(what).is_ok()
}

fn probe(what: Privilege) -> Result<(), String> {
    match what {
        Privilege::Root => match nix::unistd::geteuid().is_root() && can(&["unshare", "-m", "true"]) {
            true => Ok(()),
            false => Err("root, with the right to mount".into()),
        },
        Privilege::Containers if nix::unistd::geteuid().is_root() => probe(Privilege::Root),
        Privilege::Containers => probe(Privilege::UserNamespaces),
        Privilege::OrdinaryUser => match ordinary_user() {
            Some(_) => Ok(()),
            None => Err("an ordinary user (`make test` makes coracle-test)".into()),
        },
        Privilege::UserNamespaces => match user_namespaces() {
            true => Ok(()),
            false => Err("user namespaces for an ordinary user".into()),
        },
        Privilege::Controller(name) => match controller(name) {
            true => Ok(()),
            false => Err(format!("the cgroup controller {name}, writable")),
        },
        Privilege::Btrfs => match (crate::peer("mkfs.btrfs"), kernel_has("btrfs")) {
            (None, _) => Err("the program mkfs.btrfs".into()),
            (_, false) => Err("btrfs in the kernel".into()),
            (Some(_), true) => Ok(()),
        },
        Privilege::Fuse => {
            probe(Privilege::Peer("fuse-overlayfs"))?;
            match File::options().read(true).write(true).open("/dev/fuse") {
                Ok(_) => Ok(()),
                Err(e) => Err(format!("/dev/fuse, for everybody: {e}")),
            }
        }
        Privilege::Peer(name) => match crate::peer(name) {
            Some(_) => Ok(()),
            None => Err(format!("the program {name}")),
        },
    }
}

fn can(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|o| o.status.success())
}

/// A file system, which may be a module that is not loaded yet.
fn kernel_has(name: &str) -> bool {
    let known = || {
        let all = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        all.split_whitespace().any(|word| word == name)
    };
    known() || Command::new("modprobe").arg(name).output().is_ok() && known()
}

fn user_namespaces() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        ordinary_user().is_some()
            && crate::Cmd::new("unshare").words("-Ur true").as_user().run().status.success()
    })
}

fn controller(name: &str) -> bool {
    let writable = |dir: &Path| nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok();
    let v1 = Path::new("/sys/fs/cgroup").join(name);
    if v1.join("cgroup.procs").exists() {
        return writable(&v1);
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|l| l.strip_prefix("0::")) else { return false };
    let dir = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let list = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    list.split_whitespace().any(|c| c == name) && writable(&dir)
}
