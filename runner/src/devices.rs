//! /dev: the nodes that every container has, those asked for, and the links beside them.
//! Where a node cannot be made (inside a user namespace), the host's is bound over an empty file.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, mount as sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{FchownatFlags, Gid, Uid, fchownat, symlinkat};
use serde::Serialize;

use crate::rootfs::Root;
use crate::spec;

/// One device node, fully decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// Where, inside.
    pub path: PathBuf,
    /// c, b or p.
    pub kind: char,
    /// Number of the driver.
    pub major: u64,
    /// Number within the driver.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

/// All of /dev.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Nodes to make, or to bind.
    pub nodes: Vec<Device>,
    /// Links in /dev, name and target.
    pub links: Vec<(&'static str, &'static str)>,
    /// Bind the host's nodes at once: mknod is known to be refused.
    pub bind: bool,
}

const DEFAULT: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// More than any host's /dev has.
const MOST: usize = 4096;

/// The default devices, then those of the spec; one of the spec replaces the default of its path.
/// Nothing when the host's /dev is bound as a whole.
pub fn plan(mounts: &[spec::Mount], wanted: &[spec::Device], new_user_namespace: bool) -> Result<Plan> {
    let whole = mounts
        .iter()
        .any(|m| m.destination == Path::new("/dev") && m.options.iter().any(|o| o == "bind" || o == "rbind"));
    if whole {
        return Ok(Plan::default());
    }
    let mut nodes: Vec<Device> = DEFAULT
        .iter()
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            kind: 'c',
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    if wanted.len() > MOST {
        return Err(Error::invalid(format!("linux.devices: more than {MOST} of them")));
    }
    for (n, device) in wanted.iter().enumerate() {
        let device = decide(device)?;
        let other = wanted[..n].iter().find(|w| w.path == device.path).map(decide).transpose()?;
        if other.is_some_and(|other| !other.is_same_node(&device)) {
            let path = &device.path;
            return Err(Error::invalid(format!("linux.devices: {path:?} is to be two devices")));
        }
        match nodes.iter_mut().find(|d| d.path == device.path) {
            Some(same) => *same = device,
            None => nodes.push(device),
        }
    }
    Ok(Plan { nodes, links: LINKS.to_vec(), bind: new_user_namespace })
}

fn decide(device: &spec::Device) -> Result<Device> {
    let wrong = |what: &str| Error::invalid(format!("linux.devices: {:?} {what}", device.path));
    let kind = match device.kind.as_str() {
        "c" | "u" => 'c',
        "b" => 'b',
        "p" => 'p',
        _ => return Err(wrong(&format!("has the unknown type {:?}", device.kind))),
    };
    let number = |n: Option<i64>, name: &str| match n {
        Some(n) if (0..1 << 20).contains(&n) => Ok(n as u64),
        None if kind == 'p' => Ok(0),
        Some(n) => Err(wrong(&format!("has the {name} number {n}, out of range"))),
        None => Err(wrong(&format!("has no {name} number"))),
    };
    if !device.path.is_absolute() {
        return Err(wrong("is not absolute"));
    }
    Ok(Device {
        path: device.path.clone(),
        kind,
        major: number(device.major, "major")?,
        minor: number(device.minor, "minor")?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

impl Plan {
    /// Fill `dev`, the container's /dev, and the few places of nodes outside it. The umask is 0.
    pub fn make(&self, root: &Root, dev: BorrowedFd<'_>) -> Result<()> {
        let mut bind = self.bind;
        for node in &self.nodes {
            match node.path.strip_prefix("/dev") {
                // Directly in /dev, which we hold: no other path is walked.
                Ok(name) if name.components().count() == 1 => node.make(dev, name, &mut bind),
                _ => {
                    let (parent, name) = root.parent_of(&node.path)?;
                    node.make(parent.as_fd(), Path::new(&name), &mut bind)
                }
            }
            .context(|| format!("make the device {}", node.path.display()))?;
        }
        for (name, to) in &self.links {
            match symlinkat(*to, dev, *name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).context(|| format!("symlinkat({to:?}, \"/dev/{name}\")")),
            }
        }
        Ok(())
    }
}

impl Device {
    fn is_same_node(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn make(&self, parent: BorrowedFd<'_>, name: &Path, bind: &mut bool) -> Result<()> {
        if !*bind || self.kind == 'p' {
            match self.mknod(parent, name) {
                Err(e) if e.errno() == Some(Errno::EPERM) && self.kind != 'p' => *bind = true,
                Err(e) if e.errno() == Some(Errno::EEXIST) => return self.verify(parent, name),
                other => return other,
            }
        }
        self.bind(parent, name)
    }

    fn mknod(&self, parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
        let kind = match self.kind {
            'b' => SFlag::S_IFBLK,
            'p' => SFlag::S_IFIFO,
            _ => SFlag::S_IFCHR,
        };
        let mode = Mode::from_bits_truncate(self.mode);
        mknodat(parent, name, kind, mode, makedev(self.major, self.minor))
            .context(|| format!("mknodat({name:?}, {}, {}:{})", self.kind, self.major, self.minor))?;
        if (self.uid, self.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            fchownat(parent, name, Some(uid), Some(gid), FchownatFlags::AT_SYMLINK_NOFOLLOW)
                .context(|| format!("fchownat({name:?}, {uid}, {gid})"))?;
        }
        Ok(())
    }

    /// What the image already has under this name must be the very device.
    fn verify(&self, parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
        let found = nix::sys::stat::fstatat(parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
            .context(|| format!("fstatat({name:?})"))?;
        let same_kind = match self.kind {
            'b' => found.st_mode & libc::S_IFMT == libc::S_IFBLK,
            'p' => found.st_mode & libc::S_IFMT == libc::S_IFIFO,
            _ => found.st_mode & libc::S_IFMT == libc::S_IFCHR,
        };
        if same_kind && (self.kind == 'p' || found.st_rdev == makedev(self.major, self.minor)) {
            return Ok(());
        }
        Err(Error::invalid("the root file system has something else there"))
    }

    /// Bind the host's node of the same path over an empty file, and look at what was bound.
    fn bind(&self, parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match openat(parent, name, flags | OFlag::O_EXCL, Mode::from_bits_truncate(0o666)) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).context(|| format!("openat({name:?}, O_CREAT)")),
        }
        let at = openat(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .context(|| format!("openat({name:?}, O_PATH|O_NOFOLLOW)"))?;
        let tree = sys::clone_host_tree(&self.path, false)?;
        let found = nix::sys::stat::fstat(&tree).context(|| "fstat(device)")?;
        if found.st_rdev != makedev(self.major, self.minor) {
            return Err(Error::invalid(format!("the host's {:?} is another device", self.path)));
        }
        let attrs = sys::Attrs { set: sys::attr::NOSUID | sys::attr::NOEXEC, ..sys::Attrs::default() };
        sys::set_attrs(tree.as_fd(), attrs, false)?;
        sys::attach(tree.as_fd(), at.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &str, path: &str, major: Option<i64>, minor: Option<i64>) -> spec::Device {
        spec::Device { kind: kind.into(), path: path.into(), major, minor, ..Default::default() }
    }

    #[test]
    fn the_specs_device_replaces_the_default_of_its_path() {
        let mut null = device("c", "/dev/null", Some(1), Some(3));
        null.file_mode = Some(0o600);
        let p = plan(&[], &[null, device("p", "/dev/fifo", None, None)], false).unwrap();
        assert_eq!(p.nodes.len(), 7);
        assert_eq!(p.nodes[0].mode, 0o600);
        assert!(!p.bind);
    }

    #[test]
    fn a_device_that_makes_no_sense_is_refused() {
        for bad in [
            device("x", "/dev/a", Some(1), Some(1)),
            device("c", "dev/a", Some(1), Some(1)),
            device("c", "/dev/a", None, Some(1)),
            device("b", "/dev/a", Some(-1), Some(1)),
            device("c", "/dev/a", Some(1), Some(1 << 40)),
        ] {
            assert!(plan(&[], std::slice::from_ref(&bad), false).is_err(), "{bad:?}");
        }
        let two = [device("c", "/dev/a", Some(1), Some(3)), device("c", "/dev/a", Some(1), Some(5))];
        assert!(plan(&[], &two, false).unwrap_err().to_string().contains("two devices"));
        let one = [two[0].clone(), two[0].clone()];
        assert_eq!(plan(&[], &one, false).unwrap().nodes.len(), 7);
    }
}
