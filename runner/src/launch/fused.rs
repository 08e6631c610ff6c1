//! A container's layers, mounted by the program fuse-overlayfs. It is started from here, and so is in none of the
//! container's namespaces but for the one of users, whose ids it has to know.

use std::os::fd::{BorrowedFd, OwnedFd};

use coracle_sys::process::{self as process_sys, Cloned};
use coracle_sys::{Context, Error, Kind, Result};
use nix::sched::{CloneFlags, setns, unshare};

use super::child::become_root_inside;
use super::wire::{self, Message};
use crate::rootfs::{Layers, stack};

/// Mount them, as root of the container's user namespace where it has one that we are not root of.
pub(super) fn mount(layers: &Layers, namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let Some(namespace) = namespace else { return stack::by_program(layers, None) };
    let (ours, theirs) = wire::pair()?;
    let helper = match process_sys::clone(0, None)? {
        Cloned::Parent { pid, .. } => pid,
        Cloned::Child => {
            let inside = || {
                setns(namespace, CloneFlags::CLONE_NEWUSER).context(|| "setns(CLONE_NEWUSER)")?;
                become_root_inside()?;
                unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare(CLONE_NEWNS)")?;
                stack::by_program(layers, None)
            };
            let _ = theirs.send(&match inside() {
                Ok(tree) => Message::Mapped(Some(tree)),
                Err(e) => Message::Failed(e),
            });
            process_sys::exit_now(0)
        }
    };
    drop(theirs);
    let made = ours.receive();
    process_sys::wait(helper)?;
    match made? {
        Message::Mapped(Some(tree)) => Ok(tree),
        Message::Failed(e) => Err(e),
        _ => Err(Error::new(Kind::System, "the process that mounts the layers is gone")),
    }
}
