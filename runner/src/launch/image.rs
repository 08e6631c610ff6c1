//! Our init as an executable that the container can neither change nor name: a sealed memfd, made
//! anew for every start, so that nothing that a container could reach is shared with the host.

use std::os::fd::OwnedFd;

use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::write;

/// The image in a file that can be executed and not written.
pub(super) fn open(init: &[u8]) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    const EXEC: MFdFlags = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let fd = match memfd_create(c"init", flags | EXEC) {
        // Linux before 6.3 does not know the flag, and needs none.
        Err(Errno::EINVAL) => memfd_create(c"init", flags),
        other => other,
    }
    .context(|| "memfd_create(\"init\", MFD_EXEC)")
    .context(|| "make init's executable")?;
    let mut rest = init;
    while !rest.is_empty() {
        let n = write(&fd, rest).context(|| "write(memfd)")?;
        rest = &rest[n..];
    }
    let seals =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).context(|| "fcntl(memfd, F_ADD_SEALS)")?;
    Ok(fd)
}
