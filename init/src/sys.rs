//! Every system call that init makes, as a safe function, and the entry point. Signal sets go to the kernel as one 64-bit word: the C library's own functions leave out
//! signals 32 to 34, which it keeps for itself. What the machine's PID 1 alone calls is in `machine/`.

// With the folder of the same name the only place of this crate with unsafe code: the border to the kernel and to C.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::mem::MaybeUninit;

/// The number of an error, as errno(3) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

/// A process id; negative for a process group, as kill(2) has it.
pub(crate) type Pid = c_int;

/// A set of signals; bit n-1 is signal n.
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

impl Mask {
    /// No signal.
    pub(crate) const NONE: Self = Self(0);
}

/// Whether SIGCHLD was ignored when init was started.
#[derive(Clone, Copy)]
pub(crate) struct ChildIgnored(bool);

// std would bring the C library; without it the library is asked for here.
#[link(name = "c")]
#[cfg_attr(all(target_env = "gnu", target_feature = "crt-static"), link(name = "gcc_eh"), link(name = "gcc"))]
#[cfg_attr(all(target_env = "gnu", target_feature = "crt-static"), link(name = "c"))]
unsafe extern "C" {}

/// The kernel's answer to one system call.
macro_rules! answer {
    ($number:ident) => { answer!(@call1 $number 0) };
    ($number:ident, $a:expr) => { answer!(@call1 $number $a) };
    ($number:ident, $a:expr, $b:expr) => { answer!(@call2 $number $a, $b) };
    ($number:ident, $a:expr, $b:expr, $c:expr) => { answer!(@call3 $number $a, $b, $c) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr) => { answer!(@call4 $number $a, $b, $c, $d) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => { answer!(@call5 $number $a, $b, $c, $d, $e) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => { answer!(@call6 $number $a, $b, $c, $d, $e, $f) };
    (@$function:ident $number:ident $($argument:expr),*) => {
        // SAFETY: the call stands in a safe function of a `sys` file that passes only values, or
        // pointers to memory that outlives the call and is as large as the call expects.
        unsafe { $crate::sys::raw::$function($crate::sys::raw::numbers::$number $(, $argument as core::ffi::c_long)*) }
    };
}

/// One system call that returns a small number.
macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => { $crate::sys::raw::check(answer!($number $(, $argument)*)) };
}

/// One system call that returns nothing.
macro_rules! done {
    ($number:ident $(, $argument:expr)* $(,)?) => { $crate::sys::raw::done(answer!($number $(, $argument)*)) };
}

mod entry;
pub(crate) mod machine;
mod raw;

/// The words of a command line: `words[count]` is null.
#[derive(Clone, Copy)]
pub(crate) struct Argv {
    words: *const *const c_char,
    count: usize,
}

impl Argv {
    /// The words without their NULs.
    pub(crate) fn bytes(self) -> impl Iterator<Item = &'static [u8]> {
        (0..self.count).filter_map(move |at| self.get(at)).map(CStr::to_bytes)
    }

    /// The words from `at` on.
    pub(crate) fn from(self, at: usize) -> Self {
        let at = at.min(self.count);
        // SAFETY: `at` is at most `count`, and the array has `count` + 1 elements.
        Self { words: unsafe { self.words.add(at) }, count: self.count - at }
    }

    /// The first word.
    pub(crate) fn first(self) -> &'static CStr {
        self.get(0).unwrap_or_default()
    }

    fn get(self, at: usize) -> Option<&'static CStr> {
        if at >= self.count {
            return None;
        }
        // SAFETY: `at` is below `count`; the kernel puts the NUL-terminated words on the initial
        // stack, which lives as long as the process, and nothing here writes to them.
        Some(unsafe { CStr::from_ptr(*self.words.add(at)) })
    }
}

/// The text up to the first NUL; the empty text where there is none. The library's own is five times as large.
#[expect(clippy::manual_contains, reason = "for its size")]
pub(crate) fn text_of(bytes: &[u8]) -> &CStr {
    if !bytes.iter().any(|byte| *byte == 0) {
        return c"";
    }
    // SAFETY: there is a NUL within the slice, which is borrowed for as long as the result.
    unsafe { CStr::from_ptr(bytes.as_ptr().cast()) }
}

/// How long a replaced entry of the environment may be.
pub(crate) const ENTRY: usize = 40;

/// The environment that init was given.
#[derive(Clone, Copy)]
pub(crate) struct Env {
    entries: *mut *mut c_char,
}

impl Env {
    /// The value of a variable.
    pub(crate) fn get(self, name: &[u8]) -> Option<&'static [u8]> {
        self.slot(name).map(|(_, value)| value)
    }

    /// Let a variable that exists have `entry` in its place, which is `NAME=VALUE`. To be called
    /// once: there is room for one.
    pub(crate) fn replace(self, name: &[u8], entry: [u8; ENTRY]) {
        static mut ROOM: [u8; ENTRY + 1] = [0; ENTRY + 1];
        let Some((slot, _)) = self.slot(name) else { return };
        let room = &raw mut ROOM;
        // SAFETY: `slot` is an element of the environment's array, which is on the initial stack
        // and writable. There is one thread and no reference to ROOM; its last byte stays NUL.
        unsafe {
            room.cast::<[u8; ENTRY]>().write(entry);
            *slot = room.cast();
        }
    }

    /// Take a variable out.
    pub(crate) fn remove(self, name: &[u8]) {
        while let Some((slot, _)) = self.slot(name) {
            let mut slot = slot;
            // SAFETY: `slot` is an element of the array, which ends with a null, and the loop
            // stops at that null: it moves each later element one to the front.
            unsafe {
                while !(*slot).is_null() {
                    *slot = *slot.add(1);
                    slot = slot.add(1);
                }
            }
        }
    }

    fn slot(self, name: &[u8]) -> Option<(*mut *mut c_char, &'static [u8])> {
        let mut slot = self.entries;
        // SAFETY: the array ends with a null, at which the loop stops; every element before it is
        // a NUL-terminated string on the initial stack or in a static.
        unsafe {
            while !(*slot).is_null() {
                let entry = CStr::from_ptr(*slot).to_bytes();
                if let Some(value) = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
                    return Some((slot, value));
                }
                slot = slot.add(1);
            }
        }
        None
    }
}

/// Leave at once: nothing is flushed, no handler runs. A filter may refuse the one call or the other.
pub(crate) fn exit(code: u8) -> ! {
    let _ = call!(SYS_exit_group, code);
    let _ = call!(SYS_exit, code);
    loop {
        // SAFETY: an instruction that the kernel ends this process for, PID 1 too.
        unsafe {
            #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
            core::arch::asm!("ud2");
            #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
            core::arch::asm!("udf #0");
            #[cfg(any(target_arch = "riscv64", target_arch = "riscv32"))]
            core::arch::asm!("unimp");
        }
    }
}

/// What a panic amounts to: leave with the exit code of SIGABRT. The signal itself would not end
/// PID 1.
pub fn abort() -> ! {
    exit(128 + libc::SIGABRT as u8)
}

// --- processes

/// The own process id.
pub(crate) fn getpid() -> Pid {
    call!(SYS_getpid).unwrap_or(0) as Pid
}

/// The parent's process id; 0 when it is outside the PID namespace.
pub(crate) fn getppid() -> Pid {
    call!(SYS_getppid).unwrap_or(0) as Pid
}

/// The own process group; 0 when it is outside the PID namespace.
pub(crate) fn getpgrp() -> Pid {
    call!(SYS_getpgid, 0).unwrap_or(0) as Pid
}

/// Whether this process leads its session.
pub(crate) fn is_session_leader() -> bool {
    call!(SYS_getsid, 0) == Ok(getpid())
}

/// Make `pid` (0: this process) lead a process group of its own.
pub(crate) fn setpgid(pid: Pid) -> Result<(), Errno> {
    done!(SYS_setpgid, pid, 0)
}

/// Become two processes: nothing in the child, the child's pid in the parent.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // There is one thread and the C library holds no lock or cache that the child would rely on,
    // so the bare call does, and costs less than the library's fork.
    call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0).map(|pid| (pid != 0).then_some(pid as Pid))
}

/// Become another program; returns only when that cannot be.
pub(crate) fn execve(path: &CStr, argv: Argv, env: Env) -> Errno {
    match call!(SYS_execve, path.as_ptr(), argv.words, env.entries) {
        Ok(_) => Errno(0),
        Err(errno) => errno,
    }
}

/// Get `signal` when the parent dies.
pub(crate) fn set_parent_death_signal(signal: u8) -> Result<(), Errno> {
    done!(SYS_prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0)
}

/// Let nobody trace this process, or see its /proc entry from within, who has not CAP_SYS_PTRACE. It
/// ends with an execve.
pub(crate) fn become_untraceable() {
    let _ = call!(SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/// Set the name that /proc/PID/comm shows, of at most 15 bytes.
pub(crate) fn set_name(name: &CStr) {
    let _ = call!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
}

/// Become the parent of every descendant that loses its own.
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    done!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

/// A child that has been waited for.
pub(crate) struct Waited {
    pub(crate) pid: Pid,
    pub(crate) status: c_int,
    pub(crate) usage: Usage,
}

/// What a process used: CPU time in microseconds, peak memory in kilobytes.
pub(crate) struct Usage {
    pub(crate) user: i64,
    pub(crate) system: i64,
    pub(crate) peak: i64,
}

/// Wait for a child without blocking: `pid`, or any when -1. Nothing when none is ready.
#[allow(clippy::unnecessary_cast, reason = "long is narrower on 32-bit machines")]
pub(crate) fn wait(pid: Pid) -> Result<Option<Waited>, Errno> {
    let mut status: c_int = 0;
    // struct rusage as the kernel has it: two times of two words each, then fourteen words.
    let mut usage: [c_long; 18] = [0; 18];
    let pid = call!(SYS_wait4, pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr())? as Pid;
    let [user, user_micros, system, system_micros, peak, ..] = usage.map(|word| word as i64);
    let (user, system) = (user * 1_000_000 + user_micros, system * 1_000_000 + system_micros);
    Ok((pid != 0).then_some(Waited { pid, status, usage: Usage { user, system, peak } }))
}

/// The signal by which the child `pid` is stopped; `consume` makes the next question answer none.
pub(crate) fn stopped_by(pid: Pid, consume: bool) -> Option<c_int> {
    let mut info = SigInfo::zeroed();
    let options = libc::WSTOPPED | libc::WNOHANG | if consume { 0 } else { libc::WNOWAIT };
    // The signal stays 0 when no child has changed its state.
    let known = call!(SYS_waitid, libc::P_PID, pid, &raw mut info, options, 0).is_ok() && info.signal != 0;
    // si_status lies where a queued signal has its value.
    known.then_some(info.body.value as c_int)
}

/// End the tracing of a child that made this process its tracer; it gets `signal`.
pub(crate) fn ptrace_detach(pid: Pid, signal: c_int) -> Result<(), Errno> {
    done!(SYS_ptrace, libc::PTRACE_DETACH, pid, 0, signal)
}

/// Whether the trap that a traced child stopped for is the one of its own execve.
pub(crate) fn is_exec_trap(pid: Pid) -> bool {
    let mut info = SigInfo::zeroed();
    call!(SYS_ptrace, libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info).is_ok()
        && info.signal == libc::SIGTRAP
        && info.code == libc::SI_USER
        && info.body.pid == pid
}

// --- signals

/// Block every signal, those of the C library included; returns what was blocked before.
pub(crate) fn block_all_signals() -> Mask {
    let mut old = Mask(0);
    let all = u64::MAX;
    let _ = call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, &raw mut old.0, 8);
    old
}

/// Block exactly the signals of `mask`.
pub(crate) fn set_signal_mask(mask: Mask) {
    let _ = call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, 0, 8);
}

/// Let SIGCHLD have its default action: while it is ignored the kernel reaps children itself, and
/// their exit codes are lost.
pub(crate) fn default_sigchld() -> ChildIgnored {
    ChildIgnored(set_sigchld(libc::SIG_DFL) == libc::SIG_IGN)
}

/// Ignore SIGCHLD again if it was.
pub(crate) fn restore_sigchld(ignored: ChildIgnored) {
    if ignored.0 {
        set_sigchld(libc::SIG_IGN);
    }
}

/// Set the disposition of SIGCHLD to one that has no handler. Returns what it was.
fn set_sigchld(disposition: usize) -> usize {
    // struct sigaction as the kernel has it: the disposition first; no flags, an empty mask.
    let new = [disposition, 0, 0, 0, 0, 0];
    let mut old = [0usize; 6];
    let _ = call!(SYS_rt_sigaction, libc::SIGCHLD, new.as_ptr(), old.as_mut_ptr(), 8);
    old[0]
}

/// What travels with a signal, as the kernel lays it out.
#[repr(C)]
struct SigInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    body: SigInfoBody,
    padding: [u64; 13],
}

#[repr(C)]
struct SigInfoBody {
    pid: c_int,
    uid: u32,
    value: usize,
}

impl SigInfo {
    fn zeroed() -> Self {
        let body = SigInfoBody { pid: 0, uid: 0, value: 0 };
        Self { signal: 0, errno: 0, code: 0, body, padding: [0; 13] }
    }
}

const _: () = assert!(size_of::<SigInfo>() >= 128);

/// A signal that arrived.
#[derive(Clone, Copy)]
pub(crate) struct Signal {
    pub(crate) number: u8,
    /// Who sent it, or which child it tells of.
    pub(crate) pid: Pid,
    /// si_code.
    pub(crate) code: c_int,
    uid: u32,
    value: u64,
}

impl Signal {
    /// Whether the kernel sent it, for a terminal or a parent's death.
    pub(crate) fn is_from_kernel(&self) -> bool {
        self.code == libc::SI_KERNEL
    }

    /// Whether it was queued with a value (sigqueue(3)).
    pub(crate) fn has_value(&self) -> bool {
        self.code == libc::SI_QUEUE
    }

    /// Send it on to one process, as signal `number`, with its value and its sender.
    pub(crate) fn queue(&self, pid: Pid, number: u8) -> Result<(), Errno> {
        let info = self.info(number);
        done!(SYS_rt_sigqueueinfo, pid, number, &raw const info)
    }

    /// The same for the process group that `pid` leads. Since Linux 6.9.
    pub(crate) fn queue_to_group(&self, pid: Pid, number: u8) -> Result<(), Errno> {
        const PROCESS_GROUP: c_int = 1 << 2;
        let info = self.info(number);
        let pidfd = call!(SYS_pidfd_open, pid, 0)? as c_int;
        let result = call!(SYS_pidfd_send_signal, pidfd, number, &raw const info, PROCESS_GROUP);
        close(pidfd);
        result.map(drop)
    }

    fn info(&self, number: u8) -> SigInfo {
        let body = SigInfoBody { pid: self.pid, uid: self.uid, value: self.value as usize };
        SigInfo { signal: c_int::from(number), code: libc::SI_QUEUE, body, ..SigInfo::zeroed() }
    }
}

/// Send a signal; 0 asks only whether it could be sent.
pub(crate) fn kill(pid: Pid, signal: u8) -> Result<(), Errno> {
    done!(SYS_kill, pid, signal)
}

/// Send `signal` to the process that `pidfd` holds.
pub(crate) fn pidfd_kill(pidfd: c_int, signal: u8) -> Result<(), Errno> {
    done!(SYS_pidfd_send_signal, pidfd, signal, 0, 0)
}

/// Hold a process: its number cannot pass to another while the descriptor is open.
pub(crate) fn pidfd_open(pid: Pid) -> Result<c_int, Errno> {
    call!(SYS_pidfd_open, pid, 0).map(|fd| fd as c_int)
}

/// Stop as the terminal's stop key would have it: not at all in an orphaned process group.
/// Returns when this process has been continued.
pub(crate) fn stop_self() {
    let mask = block_all_signals();
    set_signal_mask(Mask(mask.0 & !(1 << (libc::SIGTSTP - 1))));
    let _ = call!(SYS_kill, getpid(), libc::SIGTSTP);
    set_signal_mask(mask);
}

/// Whether `signal` waits to be read.
pub(crate) fn is_pending(signal: u8) -> bool {
    let mut pending = 0u64;
    let _ = call!(SYS_rt_sigpending, &raw mut pending, 8);
    pending >> (signal - 1) & 1 == 1
}

/// Where blocked signals are read.
pub(crate) struct SignalFd {
    fd: c_int,
    buffer: [MaybeUninit<libc::signalfd_siginfo>; 8],
}

impl SignalFd {
    /// A descriptor that reads every signal there is.
    pub(crate) fn open() -> Result<Self, Errno> {
        let all = u64::MAX;
        let fd = call!(SYS_signalfd4, -1, &raw const all, 8, libc::SFD_CLOEXEC)?;
        Ok(Self { fd: fd as c_int, buffer: [const { MaybeUninit::uninit() }; 8] })
    }

    /// The descriptor, to wait for it beside others.
    pub(crate) fn fd(&self) -> c_int {
        self.fd
    }

    /// Wait for signals and read them. With a time-out in milliseconds there may be none.
    pub(crate) fn read(&mut self, timeout: Option<c_int>) -> impl Iterator<Item = Signal> {
        let ready = timeout.is_none_or(|timeout| poll(self.fd, libc::POLLIN, timeout));
        let size = size_of::<libc::signalfd_siginfo>();
        let bytes = if ready {
            call!(SYS_read, self.fd, self.buffer.as_mut_ptr(), size * self.buffer.len()).unwrap_or(0)
        } else {
            0
        };
        self.buffer.iter().take(bytes as usize / size).map(|info| {
            // SAFETY: the kernel has filled as many whole elements as it returned bytes for.
            let info = unsafe { info.assume_init_ref() };
            Signal {
                number: info.ssi_signo as u8,
                pid: info.ssi_pid as Pid,
                code: info.ssi_code,
                uid: info.ssi_uid,
                value: info.ssi_ptr,
            }
        })
    }
}

// --- descriptors

/// Wait until `fd` is ready for `events`.
fn poll(fd: c_int, events: libc::c_short, timeout: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let timeout = c_long::from(timeout);
    let time: [c_long; 2] = [timeout / 1000, timeout % 1000 * 1_000_000];
    call!(SYS_ppoll, &raw mut poll, 1, time.as_ptr(), 0, 8) == Ok(1) && poll.revents & events != 0
}

/// Write to a descriptor, once. What could not be written is lost.
#[inline(never)]
pub(crate) fn write(fd: c_int, bytes: &[u8]) {
    let _ = call!(SYS_write, fd, bytes.as_ptr(), bytes.len());
}

/// Write to stderr if that needs no waiting.
pub(crate) fn write_stderr_now(bytes: &[u8]) {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
    let refused = match call!(SYS_pwritev2, 2, &raw const part, 1, -1, -1, libc::RWF_NOWAIT) {
        Ok(_) => return,
        Err(errno) => errno,
    };
    // A pipe says EAGAIN because it is full. A file says it because its cache is not ready, and
    // terminals do not know the flag: those are asked by poll instead.
    let is_pipe =
        refused.0 == libc::EAGAIN && call!(SYS_lseek, 2, 0, libc::SEEK_CUR) == Err(Errno(libc::ESPIPE));
    if !is_pipe && refused.0 != libc::EBADF && poll(2, libc::POLLOUT, 0) {
        write(2, bytes);
    }
}

/// Open a file to read.
pub(crate) fn open(path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0).map(|fd| fd as c_int)
}

/// Read once.
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    call!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len()).map(|count| count as usize)
}

/// Read entries of a directory, as getdents64(2) lays them out.
pub(crate) fn read_directory(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    call!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()).map(|count| count as usize)
}

/// Where a link leads.
pub(crate) fn readlink<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let count = call!(SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(buffer.get(..count as usize).unwrap_or_default())
}

/// Close a descriptor.
#[inline(never)]
pub(crate) fn close(fd: c_int) {
    let _ = call!(SYS_close, fd);
}

/// Close the descriptors from `first` to `last`. Linux before 5.9 has no call for it.
pub(crate) fn close_range(first: c_int, last: c_int) {
    if first > last || call!(SYS_close_range, first, last, 0).is_ok() {
        return;
    }
    let mut limits = [0u64; 2];
    let _ = call!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, limits.as_mut_ptr());
    let limit = limits[0];
    let end = c_int::try_from(limit).unwrap_or(c_int::MAX).min(1 << 20);
    (first..=last.min(end)).for_each(close);
}

/// Let a descriptor be closed by execve.
pub(crate) fn close_on_exec(fd: c_int) -> Result<(), Errno> {
    done!(SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC)
}

/// The same open file under a number of at least `least`, closed by execve.
pub(crate) fn duplicate(fd: c_int, least: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, least).map(|fd| fd as c_int)
}

/// Whether a file is there that this process can find: execve's EACCES does not tell.
pub(crate) fn exists(path: &CStr) -> bool {
    call!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK).is_ok()
}

/// Make `/` the working directory, so that no file system is kept busy.
pub(crate) fn leave_directory() {
    let _ = call!(SYS_chdir, c"/".as_ptr());
}

/// The foreground process group of the terminal; an error when it is not the controlling one.
pub(crate) fn foreground_group(fd: c_int) -> Result<Pid, Errno> {
    let mut group: Pid = 0;
    call!(SYS_ioctl, fd, libc::TIOCGPGRP, &raw mut group).map(|_| group)
}

/// Put a process group in the terminal's foreground.
pub(crate) fn set_foreground_group(fd: c_int, group: Pid) -> Result<(), Errno> {
    done!(SYS_ioctl, fd, libc::TIOCSPGRP, &raw const group)
}

// --- time

/// Microseconds of a clock that only runs forward.
pub(crate) fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Microseconds that this process has worked: others that run in between do not count.
pub(crate) fn worked() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(clock: libc::clockid_t) -> u64 {
    let mut time: [c_long; 2] = [0; 2];
    let _ = call!(SYS_clock_gettime, clock, time.as_mut_ptr());
    let [seconds, nanos] = time.map(|word| word as u64);
    seconds * 1_000_000 + nanos / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signals_value_lies_where_the_kernel_reads_it() {
        let info = SigInfo { body: SigInfoBody { pid: 7, uid: 8, value: 9 }, ..SigInfo::zeroed() };
        // SAFETY: SigInfo has the size of siginfo_t or is the larger, and every bit pattern of its
        // fields is valid in one.
        let theirs = unsafe { &*(&raw const info).cast::<libc::siginfo_t>() };
        // SAFETY: the union's members for a queued signal are what was written above.
        let (pid, uid, value) = unsafe { (theirs.si_pid(), theirs.si_uid(), theirs.si_value()) };
        assert_eq!((pid, uid, value.sival_ptr as usize), (7, 8, 9));
        assert!(size_of::<SigInfo>() >= size_of::<libc::siginfo_t>());
    }
}
