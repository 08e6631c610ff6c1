//! Mounts: the spec's list becomes a plan, the plan becomes kernel calls. A tree is built detached
//! and attached last, on a descriptor that was resolved inside the root: no half-made mount is ever
//! visible and no link of an image leads out.

mod cgroup;
mod fs;
mod hide;
mod idmap;
mod options;
mod text;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self as sys, Attrs, attr};
use coracle_sys::print::harmless;
use coracle_sys::{Context, Error, Kind, Result};
use nix::mount::MsFlags;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use serde::Serialize;

use crate::namespaces::{self, Kind as Ns};
use crate::rootfs::{Root, clean};
use crate::spec;

pub use cgroup::Hierarchy;
pub use hide::{Hidden, plan_hidden};
use options::Options;
pub(crate) use options::{SUBDIR, words as option_words};
pub(crate) use text::Memory;
pub use text::Secret;

/// One mount, fully decided. `at` is resolved inside the container's root.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mount {
    /// Where, inside.
    pub at: PathBuf,
    /// What.
    pub from: Source,
    /// Its flags.
    options: Options,
    /// It becomes read only when all that is in it is there.
    pub sealed_late: bool,
    /// The ids that its files are seen with, where not those on disk.
    #[serde(skip)]
    ids: Option<idmap::Ids>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A directory, file or tree of the host.
    Bind {
        /// The host's path.
        path: PathBuf,
        /// With all mounts below it.
        recursive: bool,
    },
    /// A new instance of a file system.
    Fs {
        /// Its type.
        kind: String,
        /// Its device, or a word for people where it has none.
        source: Option<String>,
    },
    /// The container's cgroups on v1: a tmpfs with one directory for each controller.
    CgroupV1 {
        /// Those that the container has a group in.
        hierarchies: Vec<Hierarchy>,
        /// Its groups are bound: without a cgroup namespace a new mount would show all groups.
        bind: bool,
    },
    /// A file with this text.
    Text(String),
    /// A file of a secret.
    Secret(Secret),
    /// No new mount: the flags of the one that is there.
    Remount,
}

/// What the mounts depend on beside their own entries.
pub struct Around<'a> {
    /// The container's namespaces.
    pub namespaces: &'a namespaces::Plan,
    /// The bundle, which relative sources start from.
    pub bundle: &'a Path,
    /// User and group ids of the user namespace, when there is a new one.
    pub maps: Option<(&'a [spec::IdMapping], &'a [spec::IdMapping])>,
    /// The user namespace that is joined.
    pub user: Option<&'a Path>,
    /// The label of new file systems (`linux.mountLabel`).
    pub label: Option<&'a str>,
    /// The container's cgroup v1 hierarchies; `None` where the host has cgroup v2 alone.
    pub cgroup_v1: Option<&'a [Hierarchy]>,
}

/// Keep the spec's order: a later mount is meant to cover an earlier one.
pub fn plan(mounts: &[spec::Mount], around: &Around<'_>) -> Result<Vec<Mount>> {
    mounts
        .iter()
        .map(|m| {
            let at = || harmless(&m.destination.to_string_lossy());
            decide(m, around).context(|| format!("mounts: {}", at()))
        })
        .collect()
}

fn decide(mount: &spec::Mount, around: &Around<'_>) -> Result<Mount> {
    if mount.destination.as_os_str().is_empty() {
        return Err(Error::invalid("the destination is empty"));
    }
    let at = clean(&mount.destination);
    if at == Path::new("/") {
        return Err(Error::invalid("the root cannot be covered by a mount"));
    }
    let mut options = options::parse(&mount.options)?;
    let kind = mount.kind.as_deref().unwrap_or("none");
    let from = if options.remount {
        Source::Remount
    } else if options.bind || matches!(kind, "none" | "bind" | "rbind") {
        if let Some(word) = options.misplaced_on_bind() {
            return Err(Error::invalid(format!("the option {word:?} makes no sense for a bind mount")));
        }
        let source = mount.source.as_ref().ok_or_else(|| Error::invalid("a bind needs a source"))?;
        Source::Bind { path: around.bundle.join(source), recursive: options.recursive || kind == "rbind" }
    } else {
        file_system(kind, mount, &mut options, around)
    };
    if at == Path::new("/proc") && !is_proc(&from) {
        return Err(Error::invalid("only a proc file system can be mounted on /proc"));
    }
    let ids = idmap::plan(mount, &options, around)?;
    if ids.is_some() && !matches!(from, Source::Bind { .. }) {
        return Err(Error::unsupported("only a bind mount can have its ids mapped"));
    }
    if options.inner.is_some() && !matches!(from, Source::Bind { .. }) {
        return Err(Error::unsupported("only a bind mount can be of a folder inside (X-mount.subdir)"));
    }
    if options.copy_up && !matches!(&from, Source::Fs { kind, .. } if kind == "tmpfs") {
        return Err(Error::invalid("tmpcopyup is for a tmpfs alone"));
    }
    let mut sealed_late = false;
    if let (Some(label), true) = (around.label, takes_label(&from))
        && !options.data.iter().any(|(key, _)| options::is_label(key))
    {
        options.data.push(("context".into(), Some(label.to_owned())));
    }
    if let Source::Fs { kind, .. } = &from {
        // Nothing is mounted below yet: what holds for all below holds for it.
        options.flags.join(std::mem::take(&mut options.all_flags));
        sealed_late = (kind == "tmpfs" || at == Path::new("/dev")) && options.flags.take(attr::RDONLY);
    }
    Ok(Mount { at, from, options, sealed_late, ids })
}

/// Whether its files are labelled by how it is mounted: proc, sysfs and the tree of groups label their files themselves,
/// and a bind's have their labels.
fn takes_label(from: &Source) -> bool {
    match from {
        Source::Fs { kind, .. } => !matches!(kind.as_str(), "proc" | "sysfs" | "cgroup2"),
        Source::CgroupV1 { .. } => true,
        Source::Bind { .. } | Source::Text(_) | Source::Secret(_) | Source::Remount => false,
    }
}

/// What stands for proc: itself, or the host's where a new one is forbidden.
fn is_proc(from: &Source) -> bool {
    match from {
        Source::Fs { kind, .. } => kind == "proc",
        Source::Bind { path, .. } => path == Path::new("/proc"),
        Source::Remount => true,
        Source::CgroupV1 { .. } | Source::Text(_) | Source::Secret(_) => false,
    }
}

fn file_system(kind: &str, mount: &spec::Mount, options: &mut Options, around: &Around<'_>) -> Source {
    // In a user namespace the kernel gives these only to the owner of the namespace that they show.
    let foreign = |ns| around.maps.is_some() && !around.namespaces.is_own(ns);
    let host = |path: &str| Source::Bind { path: path.into(), recursive: true };
    match kind {
        "sysfs" if foreign(Ns::Network) => {
            options.all_flags = options.flags;
            return host("/sys");
        }
        "proc" if foreign(Ns::Pid) => return host("/proc"),
        "mqueue" if foreign(Ns::Ipc) => return host("/dev/mqueue"),
        "cgroup" | "cgroup2" if foreign(Ns::Cgroup) && around.cgroup_v1.is_none() => {
            // All of the host's groups are in view then: none of them is to be written.
            options.all_flags = options.flags;
            options.all_flags.set |= attr::RDONLY;
            return host("/sys/fs/cgroup");
        }
        "cgroup" | "cgroup2" => {
            if let Some(hierarchies) = around.cgroup_v1 {
                let bind = !around.namespaces.is_own(Ns::Cgroup);
                return Source::CgroupV1 { hierarchies: hierarchies.to_vec(), bind };
            }
            return Source::Fs { kind: "cgroup2".into(), source: Some("cgroup".into()) };
        }
        // The terminals' group is a convenience; where it has no id inside, it cannot be had.
        "devpts" => options.data.retain(|(key, value)| key != "gid" || maps_gid(value.as_deref(), around)),
        _ => {}
    }
    let source = mount.source.as_ref().map(|s| s.to_string_lossy().into_owned());
    if !is_virtual(kind) && options.flags.set & attr::RDONLY != 0 {
        // A read-only device cannot be mounted otherwise.
        options.data.push(("ro".into(), None));
    }
    Source::Fs { kind: kind.into(), source }
}

fn maps_gid(gid: Option<&str>, around: &Around<'_>) -> bool {
    let (Some(gid), Some((_, map))) = (gid.and_then(|g| g.parse::<u32>().ok()), around.maps) else {
        return true;
    };
    map.iter().any(|m| gid >= m.container_id && gid - m.container_id < m.size)
}

/// File systems without a device: their source is a word for people.
fn is_virtual(kind: &str) -> bool {
    matches!(
        kind,
        "proc"
            | "sysfs"
            | "tmpfs"
            | "devpts"
            | "mqueue"
            | "cgroup2"
            | "securityfs"
            | "debugfs"
            | "tracefs"
            | "bpf"
            | "ramfs"
            | "hugetlbfs"
            | "binfmt_misc"
            | "configfs"
            | "pstore"
            | "efivarfs"
            | "fusectl"
    )
}

/// What the mounts ask of the host's propagation, for [`crate::rootfs::plan`].
pub fn propagation(mounts: &[Mount]) -> MsFlags {
    mounts
        .iter()
        .filter_map(|m| m.options.propagation)
        .map(|(flag, _)| MsFlags::from_bits_truncate(flag as libc::c_ulong))
        .fold(MsFlags::empty(), |all, flag| all | flag & (MsFlags::MS_SHARED | MsFlags::MS_SLAVE))
}

impl Mount {
    /// Open what is bound, with the rights of this process: those of the container's root may not
    /// reach it. Nothing for what is no bind.
    pub fn open_source(&self) -> Result<Option<OwnedFd>> {
        let Source::Bind { path, recursive } = &self.from else { return Ok(None) };
        let open = || -> Result<OwnedFd> {
            let opened = match (&self.options.inner, self.options.source_nofollow) {
                (Some(inner), _) => clone_inner(path, inner, *recursive),
                (None, true) => sys::clone_tree(nix::fcntl::AT_FDCWD, path, *recursive),
                (None, false) => sys::clone_host_tree(path, *recursive),
            };
            let tree = opened.map_err(|e| match e.kind() {
                Kind::NotFound if self.options.inner.is_none() => {
                    Error::not_found(format!("bind source path does not exist: {}", path.display()))
                }
                _ => e,
            })?;
            self.set_flags(&tree, false)?;
            if let Some(ids) = &self.ids {
                ids.apply(&tree)?;
            }
            Ok(tree)
        };
        open().map(Some).context(|| format!("mount {}", self.at.display()))
    }

    /// Whether it is of the container's groups of v1, and there are none.
    pub fn shows_no_group(&self) -> bool {
        matches!(&self.from, Source::CgroupV1 { hierarchies, .. } if hierarchies.is_empty())
    }

    /// Whether only the host's root can open what is bound as it is to be.
    pub fn is_opened_outside(&self) -> bool {
        self.ids.is_some()
    }

    /// Build the tree detached, unless it was opened before, and attach it last. Gives the mount back,
    /// open.
    pub fn attach(&self, root: &Root, opened: Option<OwnedFd>) -> Result<OwnedFd> {
        if let (true, Source::Bind { path, .. }) = (self.options.copy_link, &self.from)
            && self.copy_link(path, root).context(|| format!("mount {}", self.at.display()))?
        {
            return root.open(Path::new("/"));
        }
        let opened = opened.map_or_else(|| self.open_source(), |tree| Ok(Some(tree)))?;
        self.try_attach(root, opened).context(|| format!("mount {}", self.at.display()))
    }

    fn try_attach(&self, root: &Root, opened: Option<OwnedFd>) -> Result<OwnedFd> {
        let tree = match &self.from {
            Source::Remount => {
                let there = root.open(&self.at)?;
                if !self.options.data.is_empty() {
                    fs::tell(&there, &self.options)?;
                }
                self.set_flags(&there, true)?;
                return Ok(there);
            }
            Source::Bind { .. } | Source::Text(_) | Source::Secret(_) => {
                opened.ok_or_else(|| Error::invalid("the source is not open"))?
            }
            Source::Fs { kind, source } if fs::is_long(&self.options) => {
                self.mount_long(kind, source.as_deref(), &self.target(root, None)?)?;
                let tree = root.open(&self.at)?;
                self.set_flags(&tree, false)?;
                return Ok(tree);
            }
            Source::Fs { kind, source } => {
                let tree = fs::new_file_system(kind, source.as_deref(), &self.options)?;
                if self.options.copy_up {
                    self.copy_up(&tree, root).context(|| "copy what is there (tmpcopyup)")?;
                }
                self.set_propagation(&tree)?;
                tree
            }
            Source::CgroupV1 { hierarchies, bind } => return self.cgroups_v1(hierarchies, *bind, root),
        };
        if self.options.target_nofollow {
            let (parent, name) = root.parent_of(&self.at)?;
            match sys::attach_at(tree.as_fd(), parent.as_fd(), Path::new(&name)) {
                Err(e) if e.kind() == Kind::NotFound => {}
                other => return other.map(|()| tree),
            }
        }
        let target = self.target(root, Some(&tree))?;
        sys::attach(tree.as_fd(), target.as_fd()).map_err(|e| {
            match (is_directory(&tree), is_directory(&target)) {
                (Ok(true), Ok(false)) => e.wrap("a folder cannot be mounted on what is a file inside"),
                (Ok(false), Ok(true)) => e.wrap("a file cannot be mounted on what is a folder inside"),
                _ => e,
            }
        })?;
        Ok(tree)
    }

    /// What to mount on: made if it is missing, and what it must be.
    fn target(&self, root: &Root, tree: Option<&OwnedFd>) -> Result<OwnedFd> {
        let strict = self.at == Path::new("/proc")
            || self.at == Path::new("/sys")
            || matches!(&self.from, Source::Fs { kind, .. } if kind == "proc" || kind == "sysfs");
        let found = if strict { root.open_real_directory(&self.at) } else { root.open(&self.at) };
        match found {
            Ok(target) => {
                if !strict {
                    self.refuse_inside_proc(&target)?;
                }
                if root.is(&target)? {
                    let why =
                        "a link of the image leads from there to /: the root cannot be covered by a mount";
                    return Err(Error::invalid(why));
                }
                Ok(target)
            }
            Err(e) if e.kind() == Kind::NotFound => {
                let is_directory = match self.from {
                    Source::Bind { .. } => tree.map_or(Ok(true), is_directory)?,
                    Source::Text(_) | Source::Secret(_) => false,
                    _ => true,
                };
                if is_directory { root.make_directory(&self.at) } else { root.make_file(&self.at) }
            }
            Err(e) if strict => Err(e.wrap("it must be a real directory of the image")),
            Err(e) => Err(e),
        }
    }

    /// Files of /proc that are fine to replace, as they only inform. Anything else there would make
    /// later writes to /proc go somewhere else.
    fn refuse_inside_proc(&self, target: &OwnedFd) -> Result<()> {
        const REPLACEABLE: [&str; 10] = [
            "/proc/cpuinfo",
            "/proc/diskstats",
            "/proc/loadavg",
            "/proc/meminfo",
            "/proc/net/dev",
            "/proc/slabinfo",
            "/proc/stat",
            "/proc/swaps",
            "/proc/sys/kernel/ns_last_pid",
            "/proc/uptime",
        ];
        if REPLACEABLE.iter().any(|p| self.at == Path::new(p)) {
            return Ok(());
        }
        let fs = fstatfs(target).context(|| format!("fstatfs({:?})", self.at))?;
        if fs.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(Error::invalid("nothing can be mounted inside /proc"));
        }
        Ok(())
    }

    /// From here on it is read only.
    pub fn seal(&self, tree: &OwnedFd) -> Result<()> {
        sys::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, false)
            .context(|| format!("make {} read only", self.at.display()))
    }

    fn set_flags(&self, tree: &OwnedFd, remount: bool) -> Result<()> {
        let all = self.options.all_flags;
        if !all.is_empty() {
            let attrs = Attrs { set: all.set, clear: all.clear, ..Attrs::default() };
            sys::set_attrs(tree.as_fd(), attrs, true)?;
        }
        let own = self.options.flags;
        if !own.is_empty() {
            // A bind keeps what its source has: clearing happens where it was asked for, and a flag
            // that is locked by the source's owner stays without complaint.
            let attrs = Attrs { set: own.set, clear: own.clear, ..Attrs::default() };
            match sys::set_attrs(tree.as_fd(), attrs, false) {
                Err(e) if e.kind() == Kind::Denied && !remount && own.clear & !attr::ATIME != 0 => {
                    let attrs = Attrs { set: own.set, ..Attrs::default() };
                    sys::set_attrs(tree.as_fd(), attrs, false)?;
                }
                other => other?,
            }
        }
        self.set_propagation(tree)
    }

    fn set_propagation(&self, tree: &OwnedFd) -> Result<()> {
        // A clone shares its source's events unless it is told otherwise.
        let default = matches!(self.from, Source::Bind { .. }).then_some((libc::MS_PRIVATE, true));
        let Some((flag, recursive)) = self.options.propagation.or(default) else { return Ok(()) };
        sys::set_attrs(tree.as_fd(), Attrs { propagation: flag, ..Attrs::default() }, recursive)
    }
}

/// A folder inside of another, whose links lead nowhere else: containers write there.
fn clone_inner(path: &Path, inner: &str, recursive: bool) -> Result<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let outer = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
        .context(|| format!("open({path:?}, O_PATH)"))?;
    let found = Root::new(outer).open(Path::new(inner));
    let found = found.context(|| format!("find {inner:?} in {}", path.display()))?;
    sys::clone_tree(found.as_fd(), Path::new(""), recursive)
}

fn is_directory(file: &OwnedFd) -> Result<bool> {
    let stat = nix::sys::stat::fstat(file).context(|| "fstat(mount source)")?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

#[cfg(test)]
mod tests;
