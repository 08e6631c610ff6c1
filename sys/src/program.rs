//! Another program, run by this one or in its place: its words, its environment, and where its streams go. It begins with
//! no signal blocked and with SIGPIPE as usual. What it says to nobody else is kept in memory.
#![allow(unsafe_code)] // raw pointers to argv and environment, between clone and exec

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr::null;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use nix::unistd::{chdir, setsid};

use crate::process::{self, Cloned, Status};
use crate::{Context, Error, Result, file, mount};

/// A program in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    among(std::env::split_paths(&path), program)
}

/// A program in PATH, else where every system has its own: for what people do not type.
pub fn find_anyhow(program: &str) -> Option<PathBuf> {
    find(program)
        .or_else(|| among(["/usr/bin", "/bin", "/usr/local/bin"].into_iter().map(PathBuf::from), program))
}

fn among(mut dirs: impl Iterator<Item = PathBuf>, program: &str) -> Option<PathBuf> {
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    dirs.find_map(|dir| Some(dir.join(program)).filter(|p| p.is_absolute() && runs(p)))
}

/// A program with its words.
pub struct Program {
    path: PathBuf,
    words: Vec<OsString>,
    env: Vec<OsString>,
    bound: bool,
    umask: Option<libc::mode_t>,
}

impl Program {
    /// Without words, in this program's environment.
    pub fn new(path: &Path) -> Self {
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            env.push(joined(&name, &value));
        }
        Self { path: path.to_owned(), words: vec![path.into()], env, bound: false, umask: None }
    }

    /// One more word.
    pub fn word(&mut self, word: impl Into<OsString>) {
        self.words.push(word.into());
    }

    /// A variable of its environment.
    pub fn set(&mut self, name: &str, value: &str) {
        let prefix = format!("{name}=");
        self.env.retain(|other| !other.as_bytes().starts_with(prefix.as_bytes()));
        self.env.push((prefix + value).into());
    }

    /// Take variables out of its environment, by their names.
    pub fn forget(&mut self, named: impl Fn(&str) -> bool) {
        self.env.retain(|other| {
            let name = other.as_bytes().split(|b| *b == b'=').next().unwrap_or_default();
            !std::str::from_utf8(name).is_ok_and(&named)
        });
    }

    /// Permissions that what it makes has not.
    pub fn umask(&mut self, mode: u32) {
        self.umask = Some(mode);
    }

    /// It is killed when the thread that runs it ends, however that is.
    pub fn bound(&mut self) {
        self.bound = true;
    }

    /// Become it. Comes back only with an error.
    pub fn exec(&self) -> Error {
        match self.texts() {
            Ok(texts) => self.failed(become_program(&texts, [None; 3])),
            Err(e) => e,
        }
    }

    /// Run it with these streams, its own ones where there is none, up to its end.
    pub fn run(&self, streams: [Option<BorrowedFd<'_>>; 3]) -> Result<Status> {
        let texts = self.texts()?;
        let told = memory()?;
        let caller = nix::unistd::getpid();
        let pid = match process::clone(0, None)? {
            Cloned::Parent { pid, .. } => pid,
            Cloned::Child => {
                if self.bound {
                    end_with(caller);
                }
                if let Some(mode) = self.umask {
                    // SAFETY: umask(2) takes a number and cannot fail; this process is the child alone.
                    unsafe { libc::umask(mode) };
                }
                let errno = become_program(&texts, streams) as i32;
                let _ = (&told).write(&errno.to_ne_bytes());
                process::exit_now(127)
            }
        };
        let ended = process::wait(pid)?;
        match <[u8; 4]>::try_from(&heard(told)?[..]) {
            Ok(errno) => Err(self.failed(Errno::from_raw(i32::from_ne_bytes(errno)))),
            Err(_) => Ok(ended.status),
        }
    }

    /// Begin it beside this program, in a session of its own so that no key of the caller's terminal reaches it, with
    /// these streams, and with the trees in `over` attached on their paths in a mount namespace of its own, if there are
    /// any. It inherits `given` under their numbers. Comes back when it was executed. Who began it waits for it.
    pub fn begin(
        &self,
        streams: [Option<BorrowedFd<'_>>; 3],
        given: &[BorrowedFd<'_>],
        over: &[(OwnedFd, PathBuf)],
    ) -> Result<(i32, OwnedFd)> {
        let texts = self.texts()?;
        let (hear, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        let caller = nix::unistd::getpid();
        let (pid, pidfd) = match process::clone(0, None)? {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => {
                if self.bound {
                    end_with(caller);
                }
                let errno = match apart(given, over) {
                    Ok(()) => become_program(&texts, streams),
                    Err(errno) => errno,
                };
                let _ = nix::unistd::write(&tell, &(errno as i32).to_ne_bytes());
                process::exit_now(127)
            }
        };
        drop(tell);
        let mut why = Vec::new();
        File::from(hear).read_to_end(&mut why).context(|| "read(pipe)")?;
        match <[u8; 4]>::try_from(&why[..]) {
            Ok(errno) => {
                process::wait(pid)?;
                Err(self.failed(Errno::from_raw(i32::from_ne_bytes(errno))))
            }
            Err(_) => Ok((pid, pidfd)),
        }
    }

    /// Run it with nothing to read, and hear what it says on standard output and standard error.
    pub fn hear(&self) -> Result<(Status, Vec<u8>, Vec<u8>)> {
        let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
        let (out, err) = (memory()?, memory()?);
        let status = self.run([Some(null.as_fd()), Some(out.as_fd()), Some(err.as_fd())])?;
        Ok((status, heard(out)?, heard(err)?))
    }

    /// Leave it to itself: nobody's child, in a session and a mount namespace of its own, in which the trees in `over` are
    /// attached on their paths, and with all that changes outside. It inherits `keep` under its number, and says what
    /// it has to say into `said`. Comes back when it was executed.
    pub fn leave(
        &self,
        keep: BorrowedFd<'_>,
        said: BorrowedFd<'_>,
        over: &[(OwnedFd, PathBuf)],
    ) -> Result<()> {
        let texts = self.texts()?;
        let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
        let streams = [Some(null.as_fd()), Some(said), Some(said)];
        let (hear, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        let pid = match process::clone(0, None)? {
            Cloned::Parent { pid, .. } => pid,
            Cloned::Child => {
                // Whoever is executed closes the pipe by that.
                let failed = match aside(keep, over) {
                    Err(e) => Some(e),
                    Ok(()) => match process::clone(0, None) {
                        Ok(Cloned::Parent { .. }) => None,
                        Ok(Cloned::Child) => Some(self.failed(become_program(&texts, streams))),
                        Err(e) => Some(e),
                    },
                };
                if let Some(e) = failed {
                    let _ = nix::unistd::write(&tell, e.to_string().as_bytes());
                }
                process::exit_now(0)
            }
        };
        drop(tell);
        process::wait(pid)?;
        let mut why = String::new();
        File::from(hear).read_to_string(&mut why).context(|| "read(pipe)")?;
        match why.is_empty() {
            true => Ok(()),
            false => Err(Error::new(crate::Kind::System, why)),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::syscall(format!("execve({:?})", self.path), errno)
    }

    fn texts(&self) -> Result<Texts> {
        let path = [self.path.clone().into_os_string()];
        let lists = [texts(&path)?, texts(&self.words)?, texts(&self.env)?];
        let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([null()]).collect();
        let pointers = [pointers(&lists[0]), pointers(&lists[1]), pointers(&lists[2])];
        Ok(Texts { pointers, _lists: lists })
    }
}

/// A file in memory, for what a program says.
pub fn memory() -> Result<File> {
    // SAFETY: the name ends in a NUL; what the kernel gives is owned by nobody else.
    let fd = unsafe { libc::memfd_create(c"said".as_ptr(), libc::MFD_CLOEXEC) };
    let fd = Errno::result(fd).context(|| "memfd_create(\"said\")")?;
    // SAFETY: as above.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// All that was said into it.
pub fn heard(mut file: File) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut all)).context(|| "read(memfd)")?;
    Ok(all)
}

/// Laid out for the kernel: path, words, environment.
struct Texts {
    pointers: [Vec<*const libc::c_char>; 3],
    /// What the pointers lead to: the bytes of a CString stay where they are when it is moved.
    _lists: [Vec<CString>; 3],
}

fn joined(name: &OsStr, value: &OsStr) -> OsString {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    text
}

fn texts(list: &[OsString]) -> Result<Vec<CString>> {
    let mut texts = Vec::new();
    for text in list {
        let c = CString::new(text.as_bytes());
        texts.push(c.map_err(|_| Error::invalid(format!("{text:?} holds a NUL byte")))?);
    }
    Ok(texts)
}

/// Out of the caller's session, folder and mounts, but for what changes there later.
fn aside(keep: BorrowedFd<'_>, over: &[(OwnedFd, PathBuf)]) -> Result<()> {
    process::close_on_exec_from(3)?;
    process::set_close_on_exec(keep.as_raw_fd(), false)?;
    unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare(CLONE_NEWNS)")?;
    let (none, slave) = (None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC);
    nix::mount::mount(none, "/", none, slave, none).context(|| "mount(\"/\", MS_SLAVE)")?;
    for (tree, path) in over {
        mount::attach(tree.as_fd(), file::open_dir(path)?.as_fd())?;
    }
    setsid().context(|| "setsid()")?;
    chdir("/").context(|| "chdir(\"/\")")
}

/// Into a session, and where there is something to attach a mount namespace, of its own. System calls alone.
fn apart(given: &[BorrowedFd<'_>], over: &[(OwnedFd, PathBuf)]) -> std::result::Result<(), Errno> {
    setsid()?;
    for fd in given {
        // SAFETY: fcntl(F_SETFD) on a descriptor that is open, of a process of its own.
        Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })?;
    }
    if over.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let (none, slave) = (None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC);
    nix::mount::mount(none, "/", none, slave, none)?;
    for (tree, path) in over {
        let attach = || mount::attach(tree.as_fd(), file::open_dir(path)?.as_fd());
        attach().map_err(|e| e.errno().unwrap_or(Errno::EINVAL))?;
    }
    Ok(())
}

/// End this child with its caller, also where that has ended before this could be asked for.
fn end_with(caller: Pid) {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    if nix::unistd::getppid() != caller {
        process::exit_now(1);
    }
}

/// The last steps: system calls on what was made before, for whoever was cloned may have had threads, whose locks
/// nobody will open here. Returns only with the reason why not.
fn become_program(texts: &Texts, streams: [Option<BorrowedFd<'_>>; 3]) -> Errno {
    for (number, fd) in (0..).zip(streams) {
        // SAFETY: no pointers; the standard streams of this process are open, so that others have greater numbers.
        if fd.is_some_and(|fd| unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0) {
            return Errno::last();
        }
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux and outlives the call; a default action runs no code of ours.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    let [path, words, env] = &texts.pointers;
    // SAFETY: all three end in a null pointer, and what they point to lives in `texts`.
    unsafe { libc::execve(path[0], words.as_ptr(), env.as_ptr()) };
    Errno::last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Program {
        let mut sh = Program::new(Path::new("/bin/sh"));
        ["-c", script].into_iter().for_each(|word| sh.word(word));
        sh
    }

    #[test]
    fn a_program_has_its_words_its_environment_and_its_streams() {
        let (out, err) = (memory().unwrap(), memory().unwrap());
        let null = File::open("/dev/null").unwrap();
        let mut program = sh("cat; echo $A:$HOME; echo err >&2; kill -PIPE $$");
        program.set("A", "1");
        program.set("A", "2");
        let streams = [Some(null.as_fd()), Some(out.as_fd()), Some(err.as_fd())];
        assert_eq!(program.run(streams).unwrap(), Status::Signaled(libc::SIGPIPE));
        let home = std::env::var("HOME").unwrap_or_default();
        assert_eq!(heard(out).unwrap(), format!("2:{home}\n").as_bytes());
        assert_eq!(heard(err).unwrap(), b"err\n");
        assert_eq!(sh("exit 7").run([None; 3]).unwrap(), Status::Exited(7));
    }

    #[test]
    fn one_that_cannot_be_executed_is_named() {
        let e = Program::new(Path::new("/nonexistent")).run([None; 3]).unwrap_err();
        assert_eq!((e.errno(), e.kind()), (Some(Errno::ENOENT), crate::Kind::NotFound));
        assert!(e.to_string().starts_with("execve(\"/nonexistent\"): "), "{e}");
        let e = Program::new(Path::new("/a\0b")).run([None; 3]).unwrap_err().to_string();
        assert!(e.contains("NUL"), "{e}");
    }
}
