//! What this host can and cannot give, asked in full: for `info` and `doctor`. A start never comes
//! here. What can be tried is tried, in a child that is thrown away; nothing is left changed.

mod files;
mod trial;

use std::path::Path;

use coracle_store::driver::{Driver, fuse, overlay};
use coracle_sys::idmap::{self, Grant};
use coracle_sys::process::Status;
use coracle_sys::program::Program;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde::Serialize;

use crate::cgroups::Layout;
pub(crate) use files::which;
use files::{exists, number, read};
use trial::tried;

/// One thing that a host has or has not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) name: String,
    /// Whether it is there.
    pub(crate) ok: bool,
    /// Whether no container starts without it.
    pub(crate) required: bool,
    /// How it is, in words.
    pub(crate) detail: String,
    /// What to do where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn new(name: &str, answer: Result<String, String>, remedy: impl Into<String>) -> Self {
        let ok = answer.is_ok();
        let detail = answer.unwrap_or_else(|e| e);
        Self { name: name.into(), ok, required: false, detail, remedy: (!ok).then(|| remedy.into()) }
    }

    fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// Everything, in the order in which a start would need it.
pub(crate) fn all(store: &Path) -> Vec<Finding> {
    let mut found = vec![kernel()];
    found.extend(namespaces());
    found.extend(cgroups());
    found.extend(stacking(store));
    found.extend(ids());
    found.extend(seccomp());
    found.extend(features());
    found.extend(programs());
    found
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let words: Vec<u32> = release.split(['.', '-']).map_while(|w| w.parse().ok()).collect();
    let answer =
        if words.as_slice() >= [5, 4].as_slice() { Ok(release.clone()) } else { Err(release.clone()) };
    Finding::new("kernel", answer, "Linux 5.4 or newer is needed, 5.12 for all that is done here").required()
}

/// Make us root of a user namespace, where we are not root of the host.
fn become_root() -> coracle_sys::Result<()> {
    let grant = Grant::of_this_user();
    if grant.uid == 0 { Ok(()) } else { idmap::plan(&grant).enter() }
}

fn namespaces() -> Vec<Finding> {
    let root = nix::unistd::geteuid().is_root();
    let user = tried(|| idmap::plan(&Grant { helpers: None, ..Grant::of_this_user() }).enter());
    let mut found = vec![Finding {
        required: !root,
        ..Finding::new("user namespaces", user.map(|()| "can be made".into()), user_remedy())
    }];
    for (name, flag) in [
        ("mount", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("network", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ] {
        let made = tried(|| {
            become_root()?;
            nix::sched::unshare(flag)
                .map_err(|e| coracle_sys::Error::syscall(format!("unshare({flag:?})"), e))
        });
        let remedy = if root {
            "CAP_SYS_ADMIN is missing: inside a container, start that one with --privileged, or as an ordinary user of its own"
        } else {
            "it needs a user namespace: see above"
        };
        let name = format!("{name} namespace");
        found.push(Finding::new(&name, made.map(|()| "can be made".into()), remedy).required());
    }
    found
}

/// Which of the switches that distributions have is off.
fn user_remedy() -> String {
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return "sysctl -w user.max_user_namespaces=15000".into();
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "sysctl -w kernel.unprivileged_userns_clone=1".into();
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "Ubuntu forbids them to programs without an AppArmor profile: install packaging/apparmor (`make install` does), or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".into();
    }
    "inside a container its seccomp filter or a missing right forbids them: start that one with --security-opt seccomp=unconfined".into()
}

fn cgroups() -> Vec<Finding> {
    let layout = match Layout::probe() {
        Ok(layout) => layout,
        Err(e) => return vec![Finding::new("cgroups", Err(e.to_string()), "mount /proc")],
    };
    let version = match layout.version() {
        "none" => Err("no hierarchy is mounted".to_owned()),
        version => Ok(format!("version {version}")),
    };
    let mut found = vec![Finding::new(
        "cgroups",
        version,
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup (limits need it, runs without any do not)",
    )];
    for controller in ["memory", "pids", "cpu", "cpuset", "io", "freezer"] {
        let usable = layout.usable(controller);
        let answer = usable.map(|dir| format!("usable below {}", dir.display()));
        let name = format!("limits of {controller}");
        found.push(match answer {
            Ok(text) => Finding::new(&name, Ok(text), ""),
            Err(why) => Finding::new(&name, Err("not to be had".into()), why),
        });
    }
    found
}

/// An overlay made where the store is, as a container's is.
fn try_overlay(store: &Path) -> coracle_sys::Result<()> {
    // The nearest folder that is there: the store itself may not have been made yet.
    let dir = store.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    become_root()?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|e| coracle_sys::Error::syscall("unshare(CLONE_NEWNS)", e))?;
    overlay::works_in(dir)
}

/// Does the kernel refuse an overlay, whatever file system its upper is on?
fn overlay_refused(store: &Path) -> bool {
    let refused = |e: &coracle_sys::Error| e.errno() != Some(Errno::EINVAL);
    tried(|| try_overlay(store).or_else(|e| if refused(&e) { Err(e) } else { Ok(()) })).is_err()
}

/// What becomes a container's root of a store with this driver, in words.
pub(crate) fn mounted_by(store: &Path, driver: Driver) -> String {
    match driver {
        Driver::Btrfs => "snapshots of btrfs".to_owned(),
        Driver::Fuse => "fuse-overlayfs".to_owned(),
        Driver::Overlay | Driver::Vfs if !overlay_refused(store) => "the kernel".to_owned(),
        Driver::Overlay | Driver::Vfs => match fuse::works() {
            Ok(_) => "fuse-overlayfs, since the kernel refuses an overlay".to_owned(),
            Err(e) => format!("nobody: containers run in copies, since the kernel refuses an overlay ({e})"),
        },
    }
}

fn stacking(store: &Path) -> [Finding; 2] {
    let answer = tried(|| try_overlay(store)).map(|()| "works where the store is".to_owned());
    let needed = answer.is_err() && overlay_refused(store);
    let program = match (fuse::works(), needed) {
        (Ok(path), true) => Ok(format!("used, since the kernel refuses an overlay: {}", path.display())),
        (Err(e), true) => Err(e.to_string()),
        (_, false) => Ok("not needed: the kernel gives an overlay".to_owned()),
    };
    [
        Finding::new(
            "overlay",
            answer,
            "put the store on ext4, xfs, btrfs or tmpfs (--store DIR), or keep what is written in memory (--scratch tmpfs); as an ordinary user Linux 5.11 is needed, or fuse-overlayfs",
        ),
        Finding::new(
            "fuse-overlayfs",
            program,
            "install the package fuse-overlayfs, and modprobe fuse: without them containers run in copies of their images",
        ),
    ]
}

fn ids() -> Vec<Finding> {
    let grant = Grant::of_this_user();
    if grant.uid == 0 {
        return Vec::new();
    }
    let name = grant.name.clone().unwrap_or_else(|| grant.uid.to_string());
    let maps = idmap::plan(&grant);
    let count: u64 = maps.uids.iter().map(|r| u64::from(r.count)).sum();
    let helpers = match &grant.helpers {
        None => Err("newuidmap or newgidmap is missing".to_owned()),
        Some((u, g)) => match [u, g].into_iter().find(|p| !files::privileged(p)) {
            Some(p) => Err(format!("{} is neither setuid nor has file capabilities", p.display())),
            None => Ok(format!("{}, {}", u.display(), g.display())),
        },
    };
    let ranges = if grant.subuid.is_empty() || (grant.helpers.is_some() && count < 2) {
        Err(format!("{name} has no subordinate ids: only one id can be mapped"))
    } else {
        Ok(format!("{count} ids can be mapped"))
    };
    vec![
        Finding::new(
            "newuidmap and newgidmap",
            helpers,
            "install the package uidmap (shadow-utils elsewhere)",
        ),
        Finding::new(
            "subordinate ids",
            ranges,
            format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
        ),
    ]
}

fn seccomp() -> Vec<Finding> {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let filter = if actions.is_empty() {
        Err("the kernel has no seccomp filters".to_owned())
    } else {
        Ok(actions.clone())
    };
    let notify = if actions.split(' ').any(|a| a == "user_notif") {
        Ok("offered".to_owned())
    } else {
        Err("user_notif is not offered".to_owned())
    };
    vec![
        Finding::new(
            "seccomp",
            filter,
            "a kernel with CONFIG_SECCOMP_FILTER, or --security-opt seccomp=unconfined",
        ),
        Finding::new("seccomp notifications", notify, "Linux 5.0 or newer"),
    ]
}

fn features() -> Vec<Finding> {
    let noexec = number("/proc/sys/vm/memfd_noexec").unwrap_or(0);
    let memfd = match noexec {
        0 | 1 => Ok("init is executed from memory".to_owned()),
        _ => Ok("forbidden by vm.memfd_noexec=2: init is executed from a mount instead".to_owned()),
    };
    let enter = || {
        become_root()?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| coracle_sys::Error::syscall("unshare(CLONE_NEWNS)", e))
    };
    let mut found: Vec<Finding> = trial::calls(enter)
        .into_iter()
        .map(|(name, answer, since)| Finding::new(name, answer, since))
        .collect();
    found.push(Finding::new("memfd", memfd, ""));
    let modules = read("/sys/kernel/security/lsm");
    let named = if modules.is_empty() { "not told".to_owned() } else { modules };
    found.push(Finding::new("security modules", Ok(named), ""));
    found
}

fn programs() -> Vec<Finding> {
    let mut found = Vec::new();
    let mut device = |name: &str, path: &str, remedy: &str| {
        let answer =
            if files::may_use(path) { Ok("usable".to_owned()) } else { Err("not usable".to_owned()) };
        found.push(Finding::new(name, answer, remedy));
    };
    device("/dev/net/tun", "/dev/net/tun", "modprobe tun; inside a container, --device /dev/net/tun");
    device(
        "/dev/kvm",
        "/dev/kvm",
        "machines are emulated without it; join the group kvm, or enable virtualisation",
    );
    for (name, any, remedy) in [
        ("network for ordinary users", ["pasta", "slirp4netns"], "install passt or slirp4netns"),
        (
            "machine emulator",
            ["qemu-system-x86_64", "qemu-system-aarch64"],
            "install qemu-system-x86: needed to boot an image",
        ),
        ("nft", ["nft", "nft"], "install nftables"),
    ] {
        let here: Vec<String> =
            any.iter().filter_map(|p| which(p)).map(|p| p.display().to_string()).collect();
        let answer = here.first().cloned().ok_or_else(|| "not installed".to_owned());
        found.push(Finding::new(name, answer, remedy));
    }
    let arm = exists("/proc/sys/fs/binfmt_misc/qemu-aarch64") || cfg!(target_arch = "aarch64");
    found.push(Finding::new(
        "arm64 programs",
        if arm { Ok("run".into()) } else { Err("no binfmt_misc entry".into()) },
        "install qemu-user-static and binfmt-support",
    ));
    found.push(forwarding());
    found
}

/// Another tool's firewall that drops what is forwarded, which an accept of ours does not override.
fn forwarding() -> Finding {
    let name = "forwarding";
    let tool = |program: &str, words: &[&str]| -> Option<String> {
        let mut program = Program::new(&which(program)?);
        words.iter().for_each(|word| program.word(word));
        let (status, said, _) = program.hear().ok()?;
        (status == Status::Exited(0)).then(|| String::from_utf8_lossy(&said).into_owned())
    };
    let rules = tool("nft", &["list", "chains"]).or_else(|| tool("iptables", &["-S", "FORWARD"]));
    match rules {
        None => Finding::new(name, Ok("the firewall cannot be read from here".into()), ""),
        Some(text) if files::drops_forwarded(&text) => Finding::new(
            name,
            Err("a firewall drops forwarded packets".into()),
            "accept them where they are dropped: in the chain DOCKER-USER, by firewall-cmd, or ufw route allow",
        ),
        Some(_) => Finding::new(name, Ok("no firewall drops it".into()), ""),
    }
}
