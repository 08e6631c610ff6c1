//! Calls about how a process is run, which nix lacks. Each function is one call.
#![allow(unsafe_code)] // raw system calls that neither nix nor libc wraps

use coracle_sys::{Context, Result};
use nix::errno::Errno;

/// `struct sched_attr` as it was first published.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SchedAttr {
    pub(super) size: u32,
    pub(super) policy: u32,
    pub(super) flags: u64,
    pub(super) nice: i32,
    pub(super) priority: u32,
    pub(super) runtime: u64,
    pub(super) deadline: u64,
    pub(super) period: u64,
}

/// sched_setattr(2) of this thread.
pub(super) fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    // SAFETY: `attr` is a whole sched_attr whose size is in it; the kernel writes there only what size it
    // knows, into the field for that, where the given one is wrong: it is a copy.
    let r = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attr, 0) };
    Errno::result(r).map(drop).context(|| {
        format!("sched_setattr(policy {}, nice {}, priority {})", attr.policy, attr.nice, attr.priority)
    })
}

/// sched_setaffinity(2) of this thread: a bit for each processor.
pub(super) fn sched_setaffinity(mask: &[u64]) -> Result<()> {
    // SAFETY: pointer and length are those of one live slice, which the kernel only reads.
    let r = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) };
    Errno::result(r).map(drop).context(|| format!("sched_setaffinity({mask:x?})"))
}

/// ioprio_set(2) of this process group.
pub(super) fn ioprio_set(priority: u32) -> Result<()> {
    const IOPRIO_WHO_PGRP: i32 = 2;
    // SAFETY: no pointers.
    let r = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, priority) };
    Errno::result(r).map(drop).context(|| format!("ioprio_set(IOPRIO_WHO_PGRP, {priority:#x})"))
}

/// set_mempolicy(2): a mode with its flags, a bit for each node.
pub(super) fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = nodes.len() * 64 + 1;
    let nodes = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: `nodes` is null, or points to a live slice of as many bits as are said, which is only read.
    let r = unsafe {
        libc::syscall(libc::SYS_set_mempolicy, mode, nodes, if nodes.is_null() { 0 } else { bits })
    };
    Errno::result(r).map(drop).context(|| format!("set_mempolicy({mode:#x})"))
}

/// personality(2).
pub(super) fn personality(domain: u32) -> Result<()> {
    // SAFETY: no pointers.
    let r = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    Errno::result(r).map(drop).context(|| format!("personality({domain:#x})"))
}
