//! Our init, and where need be the runner, as an executable that the container can neither change nor name: a sealed memfd, made
//! anew for every start, so that nothing that a container could reach is shared with the host. Where
//! `vm.memfd_noexec` forbids that, or a kernel has none, a file on a read-only mount that is attached nowhere.

use std::os::fd::{AsFd, OwnedFd};

use coracle_sys::mount::{self, Attrs, FsContext, attr};
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::write;

/// The image in a file that can be executed and not written. Needs the right to mount only where a
/// memfd cannot be executed.
pub(crate) fn open(init: &[u8]) -> Result<OwnedFd> {
    match in_memory(init)? {
        Some(fd) => Ok(fd),
        None => open_on_mount(init).context(|| "make init's executable"),
    }
}

/// The same where it takes no right; none where a memfd cannot be executed.
pub(super) fn in_memory(init: &[u8]) -> Result<Option<OwnedFd>> {
    const EXEC: MFdFlags = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = match memfd_create(c"init", flags | EXEC) {
        // Linux before 6.3 does not know the flag, and needs none.
        Err(Errno::EINVAL) => memfd_create(c"init", flags),
        Err(Errno::EACCES | Errno::ENOSYS) => return Ok(None),
        other => other,
    };
    let fd = made.context(|| "memfd_create(\"init\", MFD_EXEC)").context(|| "make init's executable")?;
    fill(&fd, init)?;
    let seals =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).context(|| "fcntl(memfd, F_ADD_SEALS)")?;
    Ok(Some(fd))
}

fn open_on_mount(init: &[u8]) -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.string("mode", "755")?;
    context.create()?;
    let tree = context.mount(attr::NOSUID | attr::NODEV)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(&tree, "init", flags, Mode::from_bits_truncate(0o755))
        .context(|| "openat(tmpfs, \"init\", O_WRONLY|O_CREAT)")?;
    fill(&file, init)?;
    drop(file);
    mount::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, false)?;
    openat(&tree, "init", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| "openat(tmpfs, \"init\", O_PATH)")
}

fn fill(fd: &OwnedFd, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        let n = write(fd, rest).context(|| "write(init)")?;
        rest = &rest[n..];
    }
    Ok(())
}
