//! Making and ending processes: clone3 with its fall-back, waiting with the resources used, and the
//! few per-process settings that nix lacks. Nothing here decides; each function is one call.
#![allow(unsafe_code)] // raw system calls that neither nix nor libc wraps

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::write;

use crate::{Context, Result};

/// The two sides of a clone.
pub enum Cloned {
    /// The caller goes on; the child runs.
    Parent {
        /// The child's pid, in the caller's pid namespace.
        pid: i32,
        /// The child's pidfd, where the kernel makes one.
        pidfd: OwnedFd,
    },
    /// This is the child.
    Child,
}

/// `struct clone_args` up to its second published size.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// libc has it as an int, which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) as a fork: memory is copied, `flags` are namespaces (`CLONE_NEW*`), `CLONE_PARENT` and
/// the like. With `cgroup` the child is born in that cgroup v2. Where clone3 does not exist, or a
/// seccomp filter answers ENOSYS, clone(2) does the same, and the child enters the cgroup before it is told
/// that it is one.
///
/// The caller must have one thread: the child goes on with whatever locks others held.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut all = flags | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        all |= CLONE_INTO_CGROUP;
    }
    let signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD } else { 0 };
    let args = CloneArgs {
        flags: all,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: signal as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a whole, initialised clone_args whose size is passed with it, and pidfd points
    // to an int that outlives the call. No stack and no CLONE_VM: the child has a copy of our memory.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    if pid < 0 && Errno::last() == Errno::ENOSYS {
        let all = all & !CLONE_INTO_CGROUP;
        // SAFETY: as above; with a null stack clone(2) is a fork, and the third argument is where
        // CLONE_PIDFD stores its int on every architecture.
        pid = unsafe { libc::syscall(libc::SYS_clone, all | signal as u64, 0, &raw mut pidfd, 0, 0) };
        // What the caller does with an error is not for a child to do.
        if pid == 0
            && let Some(Err(e)) = cgroup.map(enter)
        {
            crate::warn!("runner: {e}");
            exit_now(125);
        }
    }
    match pid {
        0 => Ok(Cloned::Child),
        -1 => Err(Errno::last()).context(|| format!("clone3(flags={})", clone_flags(flags))),
        pid => {
            // SAFETY: the kernel has just stored this descriptor and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Put the calling process into a cgroup v2.
fn enter(cgroup: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let written = openat(cgroup, "cgroup.procs", flags, Mode::empty()).and_then(|file| write(&file, b"0"));
    written.map(drop).context(|| "write(cgroup.procs, 0)")
}

/// The names of `CLONE_NEW*` bits, as strace prints them.
pub fn clone_flags(flags: u64) -> String {
    const NAMES: [(i32, &str); 9] = [
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
        (0x80, "CLONE_NEWTIME"),
        (libc::CLONE_PARENT, "CLONE_PARENT"),
    ];
    let set: Vec<_> =
        NAMES.iter().filter(|(bit, _)| flags & *bit as u32 as u64 != 0).map(|(_, n)| *n).collect();
    if set.is_empty() { "0".into() } else { set.join("|") }
}

/// How a process ended, and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code, or the signal that killed it.
    pub status: Status,
    /// Microseconds of user time, of it and the children it waited for.
    pub user_us: u64,
    /// Microseconds of system time, likewise.
    pub system_us: u64,
    /// Largest resident set, in KiB.
    pub max_rss_kib: u64,
}

/// Exit code or signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Exited with this code.
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
}

/// wait4(2) for a child of ours to end. Its pid cannot be reused before this returns.
pub fn wait(pid: i32) -> Result<Ended> {
    let mut status = 0;
    // SAFETY: all zeroes is a valid rusage, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the right types.
        match unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, &raw mut usage) } {
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Err(Errno::last()).context(|| format!("wait4({pid})")),
            _ if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) => break,
            _ => {}
        }
    }
    let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    Ok(Ended {
        status: if libc::WIFEXITED(status) {
            Status::Exited(libc::WEXITSTATUS(status))
        } else {
            Status::Signaled(libc::WTERMSIG(status))
        },
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss as u64,
    })
}

/// The end of a child made by clone: no destructors, no atexit handlers of the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: an int each. What a filter of system calls refuses comes back; the second ends this process as well when
    // it has one thread, and the last by an instruction, if by nothing else.
    unsafe {
        libc::syscall(libc::SYS_exit_group, code);
        libc::syscall(libc::SYS_exit, code);
        libc::abort()
    }
}

/// Mark every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no pointers; descriptors stay open, so none that is owned is closed behind our back.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    Errno::result(r).context(|| format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))?;
    Ok(())
}

/// Close every descriptor from `first` on but those of `keep`. Nothing that owns one of them may be used after.
pub fn close_all_but(first: u32, keep: &[RawFd]) -> Result<()> {
    let mut from = first;
    loop {
        let next = keep.iter().map(|fd| *fd as u32).filter(|fd| *fd >= from).min();
        let to = next.map_or(u32::MAX, |fd| fd - 1);
        if from <= to {
            // SAFETY: no pointers; the caller uses no other descriptor of the range any more.
            let r = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
            Errno::result(r).context(|| format!("close_range({from}, {to}, 0)"))?;
        }
        match next {
            Some(fd) => from = fd + 1,
            None => return Ok(()),
        }
    }
}

/// Set a variable of this process's environment, which programs that it runs inherit. To be called before there is a
/// second thread.
pub fn set_variable(name: &str, value: &str) {
    // SAFETY: there is one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) }
}

/// Wipe the environment that this process was started with, which others may read in /proc/PID/environ. For a child
/// of one thread: it has none after this.
pub fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: there is one thread. `environ` is null or an array that ends in a null, of NUL-terminated strings: those
    // on the initial stack, or what setenv(3) made of them; all of them can be written.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            libc::memset((*entry).cast(), 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
        if !environ.is_null() {
            *environ = std::ptr::null_mut();
        }
    }
}

/// Those of `count` descriptors from `first` on that are open and that an exec would pass on.
pub fn inheritable(first: u32, count: u32) -> Vec<RawFd> {
    // SAFETY: F_GETFD takes no pointer, and a number that is not open is an error.
    let passes = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } == 0;
    (first..first.saturating_add(count)).filter_map(|fd| RawFd::try_from(fd).ok()).filter(passes).collect()
}

/// Close a descriptor that is not close-on-exec, and so was not opened by this program.
pub fn close_if_inherited(fd: RawFd) {
    // SAFETY: plain numbers; everything that this program has opened and owns is close-on-exec, so that nobody's descriptor
    // is closed under them.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFD);
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            libc::close(fd);
        }
    }
}

/// Whether an exec closes the descriptor of this number.
pub fn set_close_on_exec(fd: RawFd, on: bool) -> Result<()> {
    // SAFETY: F_SETFD takes an int; a number that is not open is EBADF.
    let r = unsafe { libc::fcntl(fd, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) };
    Errno::result(r).context(|| format!("fcntl({fd}, F_SETFD, {})", on as i32))?;
    Ok(())
}

/// Whatever was inherited: children can be waited for, and a file that may grow no further is an error of
/// the write, not the end of this process.
pub fn expect_children_and_limits() -> Result<()> {
    default_signal(libc::SIGCHLD)?;
    // SAFETY: SIG_IGN is no code of ours that would have to be safe in a handler.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(Errno::last()).context(|| "signal(SIGXFSZ, SIG_IGN)");
    }
    Ok(())
}

/// Have a thread that has just been made run on another processor than this one, where there is another: the
/// kernel often leaves it behind its maker, who does not wait for it. sched_setaffinity(2); no more than a wish.
pub fn run_beside<T>(thread: &std::thread::JoinHandle<T>) {
    use std::os::unix::thread::JoinHandleExt;
    // SAFETY: no pointers; -1 where the kernel does not tell.
    let here = unsafe { libc::sched_getcpu() };
    let ours = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let (Ok(here), Ok(mut others)) = (usize::try_from(here), ours) else { return };
    let more = (0..nix::sched::CpuSet::count()).any(|n| n != here && others.is_set(n) == Ok(true));
    if !more || others.unset(here).is_err() {
        return;
    }
    // SAFETY: CpuSet is a cpu_set_t and nothing else; the thread is not joined yet, so its handle is good.
    unsafe {
        libc::pthread_setaffinity_np(
            thread.as_pthread_t() as _,
            size_of_val(&others),
            (&raw const others).cast(),
        );
    }
}

/// signal(2) with SIG_DFL.
fn default_signal(signal: i32) -> Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    match unsafe { libc::signal(signal, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(Errno::last()).context(|| format!("signal({signal}, SIG_DFL)")),
        _ => Ok(()),
    }
}

/// Every signal to its default action, whatever was inherited, those of the C library included.
pub fn default_signals() {
    // struct sigaction as the kernel has it: SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` outlives the call, whose mask is of 8 bytes; the default action runs no code of ours. For
        // SIGKILL and SIGSTOP, which have no other, it is an error.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8) };
    }
}

/// Whether this process ignores a signal.
pub fn ignores(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is one; it outlives the call, which changes nothing.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING): a new session keyring, empty.
pub fn join_new_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0) };
    Errno::result(r).context(|| "keyctl(KEYCTL_JOIN_SESSION_KEYRING)")?;
    Ok(())
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> Result<()> {
    // SAFETY: pointer and length are those of one live string.
    let r = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    Errno::result(r).context(|| format!("setdomainname({name:?})"))?;
    Ok(())
}

/// Bring the loopback device of this network namespace up.
pub fn loopback_up() -> Result<()> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    Errno::result(fd).context(|| "socket(AF_INET, SOCK_DGRAM)")?;
    // SAFETY: the kernel has just made this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid ifreq, a struct of bytes and integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: `request` is an ifreq with a NUL-terminated name, which SIOCSIFFLAGS reads.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(r).context(|| "ioctl(\"lo\", SIOCSIFFLAGS, IFF_UP)")?;
    Ok(())
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// execve(2) of the file that `fd` is, by its path in /proc. Returns only an error.
pub fn exec_by_path(fd: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> crate::Error {
    let path = format!("/proc/self/fd/{}\0", fd.as_raw_fd());
    let (args, vars) = (pointers(argv), pointers(env));
    // SAFETY: the path ends in a NUL, both arrays in a null pointer, and the strings they point to live in `argv` and
    // `env`, which outlive the call.
    unsafe { libc::execve(path.as_ptr().cast(), args.as_ptr(), vars.as_ptr()) };
    crate::Error::syscall(format!("execve({:?})", path.trim_end_matches('\0')), Errno::last())
}

/// execveat(2) of the file that `fd` is. Returns only an error.
pub fn exec_fd(fd: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> crate::Error {
    let (args, vars) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer, and the strings they point to live in `argv` and
    // `env`, which outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            vars.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    crate::Error::syscall(format!("execveat({}, AT_EMPTY_PATH)", fd.as_raw_fd()), Errno::last())
}

/// A new pseudo-terminal of the devpts instance that `ptmx` was opened from: unlock it and open its
/// other side without going through a path that the container could have changed.
pub fn pty_peer(ptmx: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    let r = unsafe { libc::ioctl(ptmx.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock) };
    Errno::result(r).context(|| "ioctl(ptmx, TIOCSPTLCK)")?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value.
    let fd = unsafe { libc::ioctl(ptmx.as_raw_fd(), libc::TIOCGPTPEER as _, flags) };
    Errno::result(fd).context(|| "ioctl(ptmx, TIOCGPTPEER)")?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Make `tty` the controlling terminal of this session leader.
pub fn set_controlling_terminal(tty: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value.
    let r = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Errno::result(r).context(|| "ioctl(tty, TIOCSCTTY)")?;
    Ok(())
}

/// Set a terminal's size in characters.
pub fn set_window_size(tty: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let r = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) };
    Errno::result(r).context(|| "ioctl(tty, TIOCSWINSZ)")?;
    Ok(())
}

/// capset(2): the three sets as bit masks.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| {
        [(effective >> shift) as u32, (permitted >> shift) as u32, (inheritable >> shift) as u32]
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads a header and two triples of u32, which these are.
    let r = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) };
    Errno::result(r).context(|| {
        format!("capset(effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x})")
    })?;
    Ok(())
}

/// capget(2): effective, permitted, inheritable.
pub fn capget() -> Result<(u64, u64, u64)> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 reads a header and writes two triples of u32, which these are.
    let r = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut data) };
    Errno::result(r).context(|| "capget()")?;
    let whole = |i: usize| data[0][i] as u64 | (data[1][i] as u64) << 32;
    Ok((whole(0), whole(1), whole(2)))
}

/// prctl(PR_CAPBSET_DROP). `Ok(false)`: this kernel does not know the capability.
pub fn drop_bounding(capability: u8) -> Result<bool> {
    prctl(libc::PR_CAPBSET_DROP, capability as u64, 0, "PR_CAPBSET_DROP", capability)
}

/// prctl(PR_CAP_AMBIENT_RAISE). `Ok(false)`: this kernel does not know the capability.
pub fn raise_ambient(capability: u8) -> Result<bool> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as u64;
    prctl(libc::PR_CAP_AMBIENT, raise, capability as u64, "PR_CAP_AMBIENT_RAISE", capability)
}

/// prctl(PR_CAP_AMBIENT_CLEAR_ALL).
pub fn clear_ambient() -> Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    prctl(libc::PR_CAP_AMBIENT, clear, 0, "PR_CAP_AMBIENT_CLEAR_ALL", 0).map(drop)
}

fn prctl(option: i32, a: u64, b: u64, name: &str, argument: u8) -> Result<bool> {
    // SAFETY: these options take integers only.
    match Errno::result(unsafe { libc::prctl(option, a, b, 0, 0) }) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(e) => Err(e).context(|| format!("prctl({name}, {argument})")),
    }
}
