//! The command's side of the fork: from a copy of init to the command itself.
//!
//! Everything that init was given passes to it unchanged: descriptors, working directory, ignored
//! and blocked signals.

use core::ffi::CStr;

use crate::args::Options;
use crate::log::Line;
use crate::sys::{self, Argv, ChildIgnored, Env, Errno, Mask, Pid};
use crate::text::decimal;

/// The exit code for a command that does not exist.
const NOT_FOUND: u8 = 127;
/// The exit code for a command that exists and cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// Where commands are looked for when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command's process needs to know.
pub(crate) struct Launch<'a> {
    pub(crate) options: &'a Options,
    pub(crate) argv: Argv,
    pub(crate) env: Env,
    pub(crate) mask: Option<Mask>,
    pub(crate) ignored: ChildIgnored,
    /// init's own pid.
    pub(crate) init: Pid,
    /// Whether the command leads a process group of its own.
    pub(crate) own_group: bool,
    /// The terminal whose foreground is handed to it.
    pub(crate) terminal: Option<i32>,
}

impl Launch<'_> {
    /// In the new process: become the command.
    pub(crate) fn run(&self) -> ! {
        let pid = sys::getpid();
        if self.own_group {
            let _ = sys::setpgid(0);
        }
        if let Some(terminal) = self.terminal {
            let _ = sys::set_foreground_group(terminal, pid);
        }
        // The kernel ends a PID namespace with its init by itself.
        if self.init != 1 {
            let _ = sys::set_parent_death_signal(libc::SIGKILL as u8);
            if sys::getppid() != self.init {
                sys::exit(128 + libc::SIGKILL as u8);
            }
        }
        self.hand_over_sockets(pid);
        sys::restore_sigchld(self.ignored);
        sys::exit(exec(self.options, self.argv, self.env, self.mask))
    }

    /// Listening sockets that were passed to init (sd_listen_fds(3)) are meant for the command.
    fn hand_over_sockets(&self, pid: Pid) {
        let (mut ours, mut theirs) = ([0; 20], [0; 20]);
        let ours = decimal(u64::from(self.init.unsigned_abs()), &mut ours);
        if self.env.get(b"LISTEN_PID") != Some(ours) {
            return;
        }
        let theirs = decimal(u64::from(pid.unsigned_abs()), &mut theirs);
        let mut entry = [0; sys::ENTRY];
        for (to, from) in entry.iter_mut().zip(b"LISTEN_PID=".iter().chain(theirs)) {
            *to = *from;
        }
        self.env.replace(b"LISTEN_PID", entry);
        // It names the process in a second way, which would be init's.
        self.env.remove(b"LISTEN_PIDFDID");
    }
}

/// Become the command in place of init.
pub(crate) fn exec_only(options: &Options, argv: Argv, env: Env, mask: Option<Mask>) -> u8 {
    if let Err(code) = guard_error_fd(options) {
        return code;
    }
    exec(options, argv, env, mask)
}

/// The command must not inherit the descriptor on which its own start is reported.
pub(crate) fn guard_error_fd(options: &Options) -> Result<(), u8> {
    let Some(fd) = options.error_fd else { return Ok(()) };
    sys::close_on_exec(fd).map_err(|errno| {
        Line::new().text(b"--error-fd ").number(i64::from(fd)).text(b": ").errno(errno).complain();
        1
    })
}

/// execvp(3), and what is said when it returns: the exit code.
fn exec(options: &Options, argv: Argv, env: Env, mask: Option<Mask>) -> u8 {
    if let Some(mask) = mask {
        sys::set_signal_mask(mask);
    }
    let errno = search(argv, env);
    if mask.is_some() {
        // A reader of stderr that is gone must not end this process by SIGPIPE before its exit code.
        sys::block_all_signals();
    }
    match options.error_fd {
        Some(fd) => sys::write(fd, &errno.0.to_ne_bytes()),
        None => Line::new().text(argv.first().to_bytes()).text(b": ").errno(errno).complain(),
    }
    exit_code(errno)
}

/// The exit code of a command that could not be executed.
pub(crate) fn exit_code(errno: Errno) -> u8 {
    match errno.0 {
        libc::ENOENT | libc::ENOTDIR => NOT_FOUND,
        _ => CANNOT_EXECUTE,
    }
}

/// Try the command in each folder of PATH. Returns only when none can be executed. No shell is put before a script that has no `#!`.
pub(crate) fn search(argv: Argv, env: Env) -> Errno {
    let name = argv.first();
    if name.is_empty() {
        return Errno(libc::ENOENT);
    }
    if name.to_bytes().contains(&b'/') {
        return sys::execve(name, argv, env);
    }
    let path = env.get(b"PATH").unwrap_or(DEFAULT_PATH);
    let mut found = Errno(libc::ENOENT);
    let mut buffer = [0; libc::PATH_MAX as usize];
    for folder in path.split(|byte| *byte == b':') {
        let Some(candidate) = join(folder, name, &mut buffer) else { continue };
        match sys::execve(candidate, argv, env) {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            // Another folder may have one that may be executed. In a folder that cannot be entered
            // there is none: a user whose PATH has root's folders is told "not found".
            Errno(libc::EACCES) if sys::exists(candidate) => found = Errno(libc::EACCES),
            Errno(libc::EACCES) => {}
            other => return other,
        }
    }
    found
}

/// `folder/name`; an empty folder is the working directory.
fn join<'a>(folder: &[u8], name: &CStr, buffer: &'a mut [u8]) -> Option<&'a CStr> {
    let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    let name = name.to_bytes_with_nul();
    let len = folder.len() + slash.len() + name.len();
    let candidate = buffer.get_mut(..len)?;
    for (to, from) in candidate.iter_mut().zip(folder.iter().chain(slash).chain(name)) {
        *to = *from;
    }
    Some(sys::text_of(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_joined_to_each_folder() {
        let mut buffer = [b'x'; 16];
        assert_eq!(join(b"/bin", c"ls", &mut buffer), Some(c"/bin/ls"));
        assert_eq!(join(b"", c"ls", &mut buffer), Some(c"ls"));
        assert_eq!(join(b"/usr/local/bin", c"ls", &mut buffer), None);
    }
}
