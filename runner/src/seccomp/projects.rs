//! What holds a container to its quota on disk: a file counts for its project, and who owns a file may put it into another,
//! or into none. The kernel denies that to other user namespaces than the host's alone, so the calls for it are
//! refused, ioctl_fssetxattr(2), and with them FS_IOC_SETFLAGS, which takes from a directory that what is made in it
//! is of its project. Quotas do not hold who has CAP_SYS_RESOURCE over the host.

use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// FS_IOC_FSSETXATTR, and FS_IOC_SETFLAGS of programs of 64 and of 32 bits. Chattr(1) makes them.
const IOCTLS: [u64; 3] = [0x401c_5820, 0x4008_6602, 0x4004_6602];

/// Everything but that.
pub(super) fn profile(architectures: Vec<String>) -> LinuxSeccomp {
    let refuse = |name: &str, args| LinuxSyscall {
        names: vec![name.to_owned()],
        action: "SCMP_ACT_ERRNO".to_owned(),
        errno_ret: Some(libc::EPERM as u32),
        args,
    };
    // The kernel looks at half of the argument.
    let request = |value| LinuxSeccompArg {
        index: 1,
        value: u32::MAX.into(),
        value_two: value,
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    };
    let mut syscalls = vec![refuse("file_setattr", Vec::new())];
    syscalls.extend(IOCTLS.map(|value| refuse("ioctl", vec![request(value)])));
    LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        architectures,
        syscalls,
        ..LinuxSeccomp::default()
    }
}
