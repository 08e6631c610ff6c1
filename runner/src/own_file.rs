//! The runner's own file, out of a container's reach. A process on its way into a pid namespace is a runner until it
//! executes something else, and who may trace there follows its `/proc/N/exe`: the file that this leads to is kept open,
//! and written once no runner runs (CVE-2019-5736). So a runner that others may see executes itself once more before it
//! does anything: by a clone of the mount that its file is on, which is read only and attached nowhere; or from a sealed
//! copy. A user namespace of the container's own needs none of that: its root has no right to look.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self, Attrs, attr};
use coracle_sys::{Context, Error, Result, file, process};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::FsFlags;

use crate::guise::Guise;
use crate::launch;
use crate::spec::Spec;

const LINK: &str = "/proc/self/exe";

/// Go on as a process whose executable nobody can write. To be called before anything is done: it begins anew.
pub(crate) fn shield() -> Result<()> {
    if !nix::unistd::geteuid().is_root() || is_shielded()? {
        return Ok(());
    }
    let again = || -> Result<Error> {
        let file = match read_only() {
            Ok(file) => file,
            // An older kernel, or a filter around us.
            Err(_) => launch::executable(&file::read(Path::new(LINK))?)?,
        };
        let bytes = |word: OsString| CString::new(word.into_vec()).map_err(|e| Error::invalid(e.to_string()));
        // Who looks for what lies beside it finds its place there.
        let mut words = std::env::args_os();
        let guise = words.next().map_or(Guise::Runner, |called| Guise::of(&called).0);
        let words = [guise.called(&path()?)].into_iter().chain(words);
        let argv = words.map(bytes).collect::<Result<Vec<_>>>()?;
        let variables =
            std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let env = variables.map(|v| bytes(OsString::from_vec(v))).collect::<Result<Vec<_>>>()?;
        Ok(process::exec_fd(file.as_fd(), &argv, &env))
    };
    Err(again().unwrap_or_else(|e| e).wrap("keep the runner's own file from the container"))
}

/// The same where the container is in our own user namespace.
pub(crate) fn shield_from(spec: &Spec) -> Result<()> {
    let own = spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|n| n.kind == "user");
    if own { Ok(()) } else { shield() }
}

/// Where the runner lies, also where what runs is a clone or a copy of it.
pub(crate) fn path() -> Result<PathBuf> {
    let link = std::env::current_exe().context(|| format!("readlink({LINK:?})"))?;
    if link.is_file() {
        return Ok(link);
    }
    let called = std::env::args_os().next();
    let place = called.map(|word| Guise::of(&word).1.to_owned());
    Ok(place.filter(|place| place.is_absolute()).unwrap_or(link))
}

fn is_shielded() -> Result<bool> {
    let mount = statfs(LINK).context(|| format!("statfs({LINK:?})"))?;
    if mount.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    let file = File::open(LINK).context(|| format!("open({LINK:?})"))?;
    // EINVAL where it is no memory file.
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    Ok(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn read_only() -> Result<OwnedFd> {
    let tree = mount::clone_host_tree(Path::new(LINK), false)?;
    mount::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, false)?;
    Ok(tree)
}
