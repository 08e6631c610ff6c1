//! What a container gets unasked. The values are docker's, which users expect.

use std::path::{Path, PathBuf};

use crate::spec::{ConsoleSize, Mount};

/// Where the shell looks for programs, unless the image says otherwise.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths that are covered: side channels and the kernel's own memory. `cpus` is how many the host has:
/// each that has a thermal counter shows what its neighbours do.
pub(super) fn masked(cpus: usize) -> Vec<PathBuf> {
    let thermal = (0..cpus).map(|n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle"));
    MASKED.iter().map(PathBuf::from).chain(thermal.map(PathBuf::from)).collect()
}

/// Paths that cannot be written.
pub(super) fn readonly() -> Vec<PathBuf> {
    READONLY.iter().map(PathBuf::from).collect()
}

/// What of the host is left in the container's mounts.
pub(super) struct Shared {
    /// Everything is writable.
    pub(super) privileged: bool,
    /// A new sysfs shows the network devices of the one who mounts it: one who does not own the
    /// network namespace may only bind the host's.
    pub(super) bind_sys: bool,
    /// The processes are the host's: so is the only /proc that may be seen.
    pub(super) bind_proc: bool,
    /// The host's /dev/mqueue and /dev/shm.
    pub(super) host_ipc: bool,
    /// Bytes of /dev/shm.
    pub(super) shm_size: u64,
    /// devpts gives new terminals to group 5, where that group exists inside.
    pub(super) tty_group: bool,
}

/// /proc, /dev, /sys and what is in them.
pub(super) fn mounts(shared: &Shared) -> Vec<Mount> {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mount = |at: &str, kind: &str, source: &str, options: Vec<String>| Mount {
        destination: at.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options,
        ..Mount::default()
    };
    let access = if shared.privileged { "rw" } else { "ro" };
    let pts = if shared.tty_group {
        "newinstance,ptmxmode=0666,mode=0620,gid=5"
    } else {
        "newinstance,ptmxmode=0666,mode=0620"
    };
    let mut all = vec![
        match shared.bind_proc {
            true => mount("/proc", "bind", "/proc", words("rbind,nosuid,noexec,nodev")),
            false => mount("/proc", "proc", "proc", words("nosuid,noexec,nodev")),
        },
        mount("/dev", "tmpfs", "tmpfs", words("nosuid,strictatime,mode=755,size=65536k")),
        mount("/dev/pts", "devpts", "devpts", [words("nosuid,noexec"), words(pts)].concat()),
        match shared.bind_sys {
            true => mount(
                "/sys",
                "bind",
                "/sys",
                [words("rbind,nosuid,noexec,nodev"), words(if shared.privileged { "rw" } else { "rro" })]
                    .concat(),
            ),
            false => mount("/sys", "sysfs", "sysfs", [words("nosuid,noexec,nodev"), words(access)].concat()),
        },
        // Runtimes of languages, and tools that count processors, read there what they may use.
        mount("/sys/fs/cgroup", "cgroup", "cgroup", [words("nosuid,noexec,nodev"), words(access)].concat()),
    ];
    if shared.host_ipc {
        for at in ["/dev/mqueue", "/dev/shm"].into_iter().filter(|at| Path::new(at).exists()) {
            all.push(mount(at, "bind", at, words("rbind,nosuid,noexec,nodev")));
        }
    } else {
        all.push(mount("/dev/mqueue", "mqueue", "mqueue", words("nosuid,noexec,nodev")));
        let size = format!("size={}", shared.shm_size);
        all.push(mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            [words("nosuid,noexec,nodev,mode=1777"), vec![size]].concat(),
        ));
    }
    all
}

/// The size of the terminal that the runner itself has.
pub(super) fn console((rows, columns): (u16, u16)) -> ConsoleSize {
    ConsoleSize { height: rows, width: columns }
}
