//! What cgroup hierarchies this process sees, where its own group is in each, and what it may do
//! there. Read once, and only by starts that need groups; nothing is changed.

use std::path::{Path, PathBuf};

use coracle_sys::{Result, file, idmap};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

/// The cgroup hierarchies of this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layout {
    /// Hierarchies of version 1, named ones too.
    pub v1: Vec<V1>,
    /// The hierarchy of version 2; in hybrid set-ups it has few controllers or none.
    pub v2: Option<V2>,
    /// Whether devices are ours to allow: root outside any user namespace.
    pub privileged: bool,
}

/// One hierarchy of version 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct V1 {
    /// Its controllers, or `name=...` alone.
    pub controllers: Vec<String>,
    /// The mount point.
    pub mount: PathBuf,
    /// Our own group.
    pub own: PathBuf,
    /// Whether we may make groups in our own one.
    pub writable: bool,
    /// Files whose presence differs between kernels, of those that [`V1_OPTIONAL`] lists.
    pub files: Vec<String>,
}

/// The hierarchy of version 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct V2 {
    /// The mount point.
    pub mount: PathBuf,
    /// Our own group first, then those above it up to the mount point.
    pub chain: Vec<Node>,
}

/// A group of version 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    /// Controllers that it could give to its children.
    pub controllers: Vec<String>,
    /// Controllers that it does give to them.
    pub enabled: Vec<String>,
    /// Whether it is the true root, which may have processes beside children.
    pub root: bool,
    /// Whether processes are in it.
    pub populated: bool,
    /// Whether we may make children and put processes into them.
    pub writable: bool,
    /// Whether we may enable controllers for the children.
    pub delegated: bool,
}

/// Files of v1 that a kernel may lack, and by which file each group shows that there are such.
const V1_OPTIONAL: [(&str, &str); 3] = [
    ("memory.memsw.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    ("blkio.weight", "blkio.weight"),
    // The topmost group has no weight of this kind, but this other file of the scheduler's.
    ("blkio.bfq.weight", "blkio.bfq.io_service_bytes"),
];

impl Layout {
    /// Ask the kernel.
    pub fn probe() -> Result<Self> {
        Self::probe_for(|_| true)
    }

    /// Ask the kernel, but not what may be done in the v1 hierarchies whose controllers do not matter.
    pub(super) fn probe_for(matters: impl Fn(&str) -> bool) -> Result<Self> {
        let cgroup = read("/proc/self/cgroup")?;
        let mounts = read("/proc/self/mountinfo")?;
        let mut layout = Self::parse(&cgroup, &mounts);
        for h in layout.v1.iter_mut().filter(|h| h.controllers.iter().any(|c| matters(c))) {
            h.writable = may_write(&h.own);
            let of_this = |f: &str| h.controllers.iter().any(|c| f.starts_with(&format!("{c}.")));
            let there = V1_OPTIONAL.iter().filter(|(f, shown)| of_this(f) && h.own.join(shown).exists());
            h.files = there.map(|(f, _)| f.to_string()).collect();
        }
        let unified = layout.version() == "2";
        for node in layout.v2.iter_mut().flat_map(|v2| &mut v2.chain) {
            match unified {
                true => node.probe(),
                // Beside v1 its groups are only for device filters.
                false => node.writable = node.may_be_entered_from(),
            }
        }
        layout.privileged = nix::unistd::geteuid().is_root() && idmap::is_initial_namespace();
        Ok(layout)
    }

    /// The paths alone, from the texts of /proc/self/cgroup and /proc/self/mountinfo.
    pub fn parse(cgroup: &str, mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some(mount) = Mount::parse(line) else { continue };
            if mount.kind == "cgroup2" {
                if layout.v2.is_none()
                    && let Some(own) = mount.locate(own_path(cgroup, ""))
                {
                    let mut chain = vec![];
                    for dir in own.ancestors().take_while(|d| d.starts_with(&mount.at)) {
                        chain.push(Node { dir: dir.to_owned(), ..Node::default() });
                    }
                    layout.v2 = Some(V2 { mount: mount.at, chain });
                }
                continue;
            }
            let controllers = cgroup.lines().filter_map(|l| l.split(':').nth(1)).find(|list| {
                !list.is_empty() && list.split(',').all(|c| mount.options.split(',').any(|o| o == c))
            });
            let Some(controllers) = controllers else { continue };
            let list: Vec<String> = controllers.split(',').map(str::to_owned).collect();
            if layout.v1.iter().any(|h| h.controllers == list) {
                continue;
            }
            if let Some(own) = mount.locate(own_path(cgroup, controllers)) {
                layout.v1.push(V1 { controllers: list, mount: mount.at, own, ..V1::default() });
            }
        }
        layout
    }

    /// As a process sees it whose own group is `place` in every hierarchy.
    pub(super) fn move_to(&mut self, place: &Path) {
        for h in &mut self.v1 {
            h.own = h.mount.join(place);
            h.writable = may_write(&h.own);
        }
        let unified = self.version() == "2";
        if let Some(v2) = &mut self.v2 {
            let mut node = Node { dir: v2.mount.join(place), ..Node::default() };
            match unified {
                true => node.probe(),
                false => node.writable = node.may_be_entered_from(),
            }
            v2.chain = vec![node];
        }
    }

    /// The v1 hierarchy of a controller.
    pub fn v1_of(&self, controller: &str) -> Option<&V1> {
        self.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// `1`, `hybrid`, `2` or `none`, as people call it.
    pub fn version(&self) -> &'static str {
        match (self.v1.iter().any(|h| !h.controllers[0].starts_with("name=")), &self.v2) {
            (true, Some(_)) => "hybrid",
            (true, None) => "1",
            (false, Some(_)) => "2",
            (false, None) => "none",
        }
    }
}

impl Node {
    fn probe(&mut self) {
        let words = |name: &str| -> Vec<String> {
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        let (controllers, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        self.populated = !words("cgroup.procs").is_empty();
        self.root = !self.dir.join("cgroup.type").exists();
        self.writable = self.may_be_entered_from();
        self.delegated = may_write(&self.dir.join("cgroup.subtree_control"));
        (self.controllers, self.enabled) = (controllers, enabled);
    }

    fn may_be_entered_from(&self) -> bool {
        may_write(&self.dir) && may_write(&self.dir.join("cgroup.procs"))
    }
}

/// A cgroup mount.
struct Mount {
    root: PathBuf,
    at: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        let mut fields = left.split(' ').skip(3);
        let root = unescape(fields.next()?);
        let at = unescape(fields.next()?);
        Some(Self {
            root,
            at,
            kind: kind.into(),
            options: right.split(' ').nth(2).unwrap_or_default().into(),
        })
    }

    /// Where a group that /proc names is to be seen below this mount.
    fn locate(&self, own: Option<&str>) -> Option<PathBuf> {
        let own = Path::new(own?);
        let below = own.strip_prefix(&self.root).ok()?;
        if below.components().any(|c| c == std::path::Component::ParentDir) {
            return None;
        }
        Some(if below.as_os_str().is_empty() { self.at.clone() } else { self.at.join(below) })
    }
}

fn own_path<'a>(cgroup: &'a str, controllers: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let (list, path) = line.split_once(':')?.1.split_once(':')?;
        (list == controllers).then_some(path)
    })
}

/// mountinfo writes white space and backslashes in octal.
pub(crate) fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        let octal = || u8::from_str_radix(std::str::from_utf8(tail.get(..3)?).ok()?, 8).ok();
        match (b == b'\\').then(octal).flatten() {
            Some(c) => {
                bytes.push(c);
                rest = &tail[3..];
            }
            None => {
                bytes.push(b);
                rest = tail;
            }
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

/// Whether the host has cgroup v2 alone, by the file system on the usual mount point.
pub(crate) fn is_unified() -> bool {
    nix::sys::statfs::statfs("/sys/fs/cgroup")
        .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

pub(super) fn may_write(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

fn read(path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::read(Path::new(path))?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 /docker/x /sys/fs/cgroup/cpu\\040x rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn our_own_groups_are_found_below_the_mounts() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/docker/x/y\n1:name=systemd:/\n0::/u/v\n";
        let layout = Layout::parse(own, HYBRID);
        let dirs: Vec<_> = layout.v1.iter().map(|h| h.own.to_str().unwrap()).collect();
        assert_eq!(dirs, ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu x/y", "/sys/fs/cgroup/systemd"]);
        assert_eq!(layout.v1_of("cpuacct").unwrap().controllers, ["cpu", "cpuacct"]);
        let chain: Vec<_> =
            layout.v2.as_ref().unwrap().chain.iter().map(|n| n.dir.to_str().unwrap()).collect();
        assert_eq!(
            chain,
            ["/sys/fs/cgroup/unified/u/v", "/sys/fs/cgroup/unified/u", "/sys/fs/cgroup/unified"]
        );
        assert_eq!(layout.version(), "hybrid");
    }

    #[test]
    fn a_group_outside_what_is_mounted_is_not_used() {
        let layout = Layout::parse("4:memory:/../c\n2:cpu,cpuacct:/elsewhere\n0::/../x\n", HYBRID);
        assert_eq!((layout.v1.len(), layout.v2), (0, None));
    }
}
