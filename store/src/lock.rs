//! Locks between processes: flock(2) on a file of the store, released when its holder dies.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A link in a lock's place is not followed, and a pipe not waited for.
const NO_WAIT: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// A held lock. Dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    held: Option<Flock<File>>,
}

/// What cannot be unlocked, on a file system that has gone away, is let go with the process: that is no reason to panic.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(Err((held, _))) = self.held.take().map(Flock::unlock) {
            std::mem::forget(held);
        }
    }
}

impl Lock {
    /// Wait until no one holds `path` exclusively. The file is made when missing.
    pub fn shared(path: &Path) -> Result<Self> {
        Self::take(open(path)?, path, FlockArg::LockShared)
    }

    /// Wait until no one else holds `path`. The file is made when missing.
    pub fn exclusive(path: &Path) -> Result<Self> {
        Self::take(open(path)?, path, FlockArg::LockExclusive)
    }

    /// Hold the file `path`, which is made when missing and goes with the lock; `wait` is called when somebody
    /// else holds it.
    pub fn named(path: &Path, wait: impl Fn()) -> Result<Named> {
        loop {
            let lock = match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
                Ok(held) => Self { held: Some(held) },
                Err((file, Errno::EWOULDBLOCK)) => {
                    wait();
                    Self::take(file, path, FlockArg::LockExclusive)?
                }
                Err((_, e)) => return Err(e).context(|| format!("flock({path:?}, LOCK_EX|LOCK_NB)")),
            };
            // Who held it before has taken the file away.
            if lock.is_at(path) {
                return Ok(Named { lock, path: path.to_owned() });
            }
        }
    }

    /// Wait until no one else holds `path`, a file. None where it is not there, or goes meanwhile.
    pub fn existing(path: &Path) -> Result<Option<Self>> {
        let file = match File::options().read(true).custom_flags(NO_WAIT).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.context(|| format!("open({path:?})"))?,
        };
        let held = Self::take(file, path, FlockArg::LockExclusive)?;
        Ok(held.is_at(path).then_some(held))
    }

    /// Hold `path`, a file or directory that exists, or learn that another process does.
    pub fn try_existing(path: &Path) -> Result<Option<Self>> {
        let file = File::options().read(true).custom_flags(NO_WAIT).open(path);
        let file = file.context(|| format!("open({path:?})"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Some(Self { held: Some(held) })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(e).context(|| format!("flock({path:?}, LOCK_EX|LOCK_NB)")),
        }
    }

    /// Leave it to a process that was forked with it: close the descriptor, and let nobody have the lock.
    pub fn leave(mut self) {
        if let Some(held) = self.held.take() {
            let fd = held.as_raw_fd();
            std::mem::forget(held);
            let _ = nix::unistd::close(fd);
        }
    }

    /// Is the file that was locked still the one at `path`?
    pub fn is_at(&self, path: &Path) -> bool {
        match (self.held.as_ref().map(|held| held.metadata()), path.symlink_metadata()) {
            (Some(Ok(a)), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }

    fn take(mut file: File, path: &Path, how: FlockArg) -> Result<Self> {
        loop {
            match Flock::lock(file, how) {
                Ok(held) => return Ok(Self { held: Some(held) }),
                Err((back, Errno::EINTR)) => file = back,
                Err((_, e)) => return Err(e).context(|| format!("flock({path:?})")),
            }
        }
    }
}

/// A held lock whose file goes with it.
#[derive(Debug)]
pub struct Named {
    lock: Lock,
    path: PathBuf,
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.lock.is_at(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NO_WAIT)
        .open(path)
        .context(|| format!("open({path:?}, O_CREAT)"))
}
