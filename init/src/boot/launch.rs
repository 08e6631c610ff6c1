//! From a copy of init to a command: its streams, its terminal, its session, its user.

use core::ffi::CStr;

use super::fault::{Doing, Fault, Result};
use super::identity::Identity;
use super::settings::Settings;
use super::waiting;
use crate::child;
use crate::log::Line;
use crate::sys::machine::{self, Words};
use crate::sys::{self, Env, Mask, Pid};

/// Where commands are looked for when nothing else is said.
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to start.
pub(crate) struct Launch<'a> {
    /// The words of the command, its environment, user and working directory.
    pub(crate) settings: &'a Settings,
    /// Descriptors 0 to 2; the console where there is none.
    pub(crate) streams: [Option<i32>; 3],
    /// A terminal that is to be the controlling one, and descriptors 0 to 2.
    pub(crate) terminal: Option<(i32, bool)>,
    /// Where to tell that it is ready: our descriptor, and the number that it has in the command.
    pub(crate) ready: Option<(i32, i32)>,
    /// An entry of the environment that the settings do not have.
    pub(crate) entry: Option<&'static CStr>,
}

impl Launch<'_> {
    /// Start it: its process, which leads a session.
    pub(crate) fn start(&self) -> core::result::Result<Pid, sys::Errno> {
        match sys::fork()? {
            Some(pid) => Ok(pid),
            None => self.run(),
        }
    }

    /// In the new process: become the command.
    fn run(&self) -> ! {
        let fault = match self.prepare() {
            Ok((argv, mut env)) => {
                sys::set_signal_mask(Mask::NONE);
                let errno = child::search(argv.argv(), env.env());
                // A reader of stderr that is gone must not end this process by SIGPIPE before its exit code.
                sys::block_all_signals();
                Line::new().text(argv.argv().first().to_bytes()).text(b": ").errno(errno).complain();
                sys::exit(child::exit_code(errno))
            }
            Err(fault) => fault,
        };
        fault.warn();
        sys::exit(125)
    }

    fn prepare(&self) -> Result<(Words, Words)> {
        let _ = machine::setsid();
        let streams = match self.terminal {
            Some((terminal, _)) => {
                machine::take_terminal(terminal).doing(b"take", b"the terminal")?;
                [Some(terminal); 3]
            }
            None => self.streams,
        };
        let settings = self.settings;
        let identity = Identity::read(settings.get(b"user"), settings.get(b"groups"))?;
        for (to, from) in (0..).zip(streams) {
            if let Some(from) = from {
                machine::duplicate_to(from, to).doing(b"open", b"the streams")?;
                // Who runs as somebody else can open /dev/stdout, too.
                let _ = machine::give(to, identity.user, identity.group);
            }
        }
        if let Some((ours, theirs)) = self.ready {
            machine::duplicate_to(ours, theirs).doing(b"open", b"the descriptor of ready=")?;
        }
        let (argv, env) = (self.words()?, self.environment()?);
        // The directory is entered as who runs there: it may be one that root of a shared folder may not enter.
        machine::become_user(identity.user, identity.group, identity.groups())
            .doing(b"become", b"the user")?;
        if let Some(directory) = settings.get(b"cwd").filter(|directory| !directory.is_empty()) {
            machine::chdir(directory).doing(b"enter", directory.to_bytes())?;
        }
        Ok((argv, env))
    }

    fn words(&self) -> Result<Words> {
        let mut words = Words::new();
        for key in [&b"command"[..], b"arg"] {
            for word in self.settings.all(key) {
                words.push(word).doing(b"execute", b"")?;
            }
        }
        Ok(words)
    }

    /// What a command can expect of any machine, and what is said; of a name that is said twice the last.
    fn environment(&self) -> Result<Words> {
        let mut words = Words::new();
        let mut set = |entry| words.set(entry).doing(b"execute", b"");
        set(PATH)?;
        set(c"HOME=/")?;
        if let Some((_, screen)) = self.terminal {
            set(if screen { c"TERM=linux" } else { c"TERM=vt220" })?;
        }
        if let Some(entry) = self.entry {
            set(entry)?;
        }
        self.settings.all(b"env").try_for_each(set)?;
        Ok(words)
    }
}

/// Run a command of the root with words and a last one. Its status, or nothing when it took longer than so many
/// milliseconds; it is killed then.
pub(crate) fn run_to_end(
    name: &'static CStr,
    words: &[&'static CStr],
    last: &'static CStr,
    millis: u32,
) -> Option<i32> {
    let pid = match sys::fork() {
        Ok(Some(pid)) => pid,
        Ok(None) => {
            let mut argv = Words::new();
            let mut env = Words::new();
            let _ = machine::setsid();
            let _ = argv.push(name);
            for word in words {
                let _ = argv.push(word);
            }
            let _ = argv.push(last);
            let _ = env.push(PATH);
            sys::set_signal_mask(Mask::NONE);
            sys::exit(child::exit_code(child::search(argv.argv(), env.env())))
        }
        Err(_) => return Some(126),
    };
    let mut status = None;
    let ended = waiting::until(millis, &mut || {
        status = sys::wait(pid).ok().flatten().map(|waited| waited.status);
        status.is_some()
    });
    if !matches!(ended, Ok(true)) {
        let _ = sys::kill(pid, libc::SIGKILL as u8);
        machine::wait_for(pid);
    }
    status
}

/// Become an init of the root in place of this one: it is given what the kernel gave us.
pub(crate) fn become_init(path: &'static CStr, env: Env) -> Fault {
    let mut words = Words::new();
    let _ = words.push(path);
    sys::set_signal_mask(Mask::NONE);
    let errno = sys::execve(path, words.argv(), env);
    sys::block_all_signals();
    Fault::new(b"execute", path.to_bytes(), errno)
}
