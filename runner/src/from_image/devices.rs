//! Which of the host's devices a container gets: those that `--device` names, or all.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use coracle_sys::{Error, Result};

use super::flags::Flags;
use crate::spec::Device;

/// Those of the flags; of a privileged container all that the host has, unless it is in a user namespace,
/// where nodes cannot be made.
pub(super) fn asked(flags: &Flags, user_namespace: bool) -> Result<Vec<Device>> {
    let mut all = Vec::new();
    if flags.privileged && !user_namespace {
        below(Path::new("/dev"), &mut all);
    }
    for device in named(flags)? {
        all.retain(|d: &Device| d.path != device.path);
        all.push(device);
    }
    Ok(all)
}

/// Every node of a folder and those below. What cannot be looked at is left out, and what each container has
/// of its own: terminals, /dev/shm and the like.
fn below(dir: &Path, all: &mut Vec<Device>) {
    const OWN: [&str; 10] =
        ["pts", "ptmx", "shm", "mqueue", "fd", "console", ".lxc", ".lxd-mounts", ".udev", "hugepages"];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&path, all),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                all.extend(host_device(&path, &path));
            }
            _ => {}
        }
    }
}

/// `--device PATH[:PATH[:rwm]]`.
fn named(flags: &Flags) -> Result<Vec<Device>> {
    let read = |text: &String| {
        let wrong = |why: &str| Error::usage(format!("--device {text:?}: {why}"));
        let mut parts = text.split(':');
        let source =
            parts.next().filter(|p| p.starts_with('/')).ok_or_else(|| wrong("it is /PATH[:/PATH[:rwm]]"))?;
        let (at, access) = match (parts.next(), parts.next()) {
            (Some(at), access) if at.starts_with('/') => (at, access),
            (Some(access), None) => (source, Some(access)),
            (None, None) => (source, None),
            _ => return Err(wrong("it is /PATH[:/PATH[:rwm]]")),
        };
        if parts.next().is_some() || access.is_some_and(|a| a != "rwm") {
            return Err(wrong("only full access, rwm, is supported"));
        }
        host_device(Path::new(source), Path::new(at))
    };
    flags.device.iter().map(read).collect()
}

fn host_device(source: &Path, at: &Path) -> Result<Device> {
    use nix::sys::stat::{SFlag, major, minor, stat};
    let info = stat(source).map_err(|e| Error::syscall(format!("stat({source:?})"), e).wrap("--device"))?;
    let kind = match SFlag::from_bits_truncate(info.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => return Err(Error::usage(format!("--device {source:?}: not a device"))),
    };
    Ok(Device {
        kind: kind.to_owned(),
        path: at.to_path_buf(),
        major: Some(major(info.st_rdev).cast_signed()),
        minor: Some(minor(info.st_rdev).cast_signed()),
        file_mode: Some(info.st_mode & 0o777),
        uid: Some(info.st_uid),
        gid: Some(info.st_gid),
    })
}
