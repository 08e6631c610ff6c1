//! bpf(2), which neither nix nor libc wraps: loading the device filter, attaching it to a cgroup.
#![allow(unsafe_code)] // a raw system call on a structure of the kernel's

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use coracle_sys::{Context, Result};
use nix::errno::Errno;

use super::Insn;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above stay in force.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for BPF_PROG_LOAD. The kernel takes what is missing for zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Load a device filter. The verifier's words go into the error.
pub(super) fn load(program: &[Insn]) -> Result<OwnedFd> {
    let mut log = vec![0u8; 0];
    match load_with(program, &mut log) {
        Ok(fd) => Ok(fd),
        Err(Errno::EINVAL | Errno::EACCES) => {
            log.resize(8192, 0);
            load_with(program, &mut log)
                .context(|| "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)")
                .context(|| {
                    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
                    String::from_utf8_lossy(&log[..end]).trim().replace('\n', "; ")
                })
        }
        Err(e) => Err(e).context(|| "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)"),
    }
}

fn load_with(program: &[Insn], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: !log.is_empty() as u32,
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `attr` is a whole, initialised prefix of bpf_attr whose size is passed with it; it points
    // to `program`, a literal and `log`, which outlive the call, with the lengths they have.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of_val(&attr)) };
    let fd = Errno::result(ret)?;
    // SAFETY: the kernel has just returned this descriptor: it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attach a loaded filter to a cgroup v2.
pub(super) fn attach(program: &OwnedFd, group: BorrowedFd<'_>) -> Result<()> {
    let attr = Attach {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attr` is a whole, initialised prefix of bpf_attr whose size is passed with it; both
    // descriptors are open for the whole call.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attr, size_of_val(&attr)) };
    Errno::result(ret).map(drop).context(|| "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)")
}
