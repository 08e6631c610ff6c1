//! Files that are written: each is whole in the end, or it is as it was before. It has no name until it is whole, where its
//! file system has such files; else it has one beside its place, which the next run takes away when this one is killed.
//! A symbolic link is followed. Where only the content can be replaced (a mount, a folder that is not the writer's) that is
//! written when all of it is known. What is no file is written as it is.

use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::Seek;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use coracle_store::Digest;
use coracle_sys::{Context, Error, Result, file, program};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

/// How names begin that files have until they are whole.
const PREFIX: &str = ".coracle-";
/// As many links in a row as the kernel follows.
const LINKS: usize = 40;

/// A file without a name in this folder, where its file system has such; else one in memory.
pub(crate) fn nameless(dir: &Path) -> Result<OwnedFd> {
    match tmpfile(dir, 0o600) {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(program::memory()?.into()),
    }
}

fn tmpfile(dir: &Path, mode: u32) -> Result<File, Errno> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open(dir, flags, Mode::from_bits_truncate(mode)).map(File::from)
}

/// What is at a place that is to be written.
pub(crate) enum Place {
    /// A file, or nothing yet, where the links lead.
    File(PathBuf),
    Block,
    /// A pipe, a terminal or the like.
    Stream,
}

impl Place {
    /// Look.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        match path.metadata() {
            Ok(m) if m.is_dir() => Err(Error::usage(format!("write {path:?}: it is a folder"))),
            Ok(m) if m.file_type().is_block_device() => Ok(Self::Block),
            Ok(m) if !m.is_file() => Ok(Self::Stream),
            _ => led_to(path).map(Self::File),
        }
    }
}

/// Where the links lead, the last of which may lead to what is not there yet.
fn led_to(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        match at.read_link() {
            Ok(target) => at = folder(&at).join(target),
            Err(_) => return Ok(at),
        }
    }
    Err(Error::syscall(format!("open({path:?}, O_CREAT)"), Errno::ELOOP))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Open a device or a pipe. A disk that is in use, such as by a mounted file system, is nobody's to write to (open(2), O_EXCL).
pub(crate) fn special(path: &Path, block: bool) -> Result<File> {
    let flags = if block { libc::O_EXCL } else { 0 };
    let opened = File::options().write(true).custom_flags(flags).open(path);
    opened.context(|| format!("open({path:?}, O_WRONLY)"))
}

/// A file on its way to its place.
pub(crate) struct Replacing {
    to: PathBuf,
    /// Its name until it is whole, which nobody sees where it has none yet.
    temp: PathBuf,
    named: bool,
    /// What is there, where nothing else can come in its place.
    there: Option<File>,
    /// Held as long as somebody writes: what nobody holds was left by one that was killed.
    _lock: Option<Flock<File>>,
}

impl Replacing {
    /// What is written, and what puts it there.
    pub(crate) fn begin(to: &Path) -> Result<(File, Self)> {
        let no_file = || Error::usage(format!("write {to:?}: it is no file's name"));
        let ends_as_folder =
            [&b"/"[..], b"/."].iter().any(|end| to.as_os_str().as_encoded_bytes().ends_with(end));
        let name = to.file_name().filter(|_| !ends_as_folder).ok_or_else(no_file)?;
        let dir = folder(to);
        sweep(dir, name);
        // What is replaced may be for its owner's eyes alone.
        let before = to.metadata().ok();
        let mode = before.as_ref().map_or(0o666, |m| m.mode() & 0o666);
        let what = || format!("open({to:?}, O_CREAT)");
        // Such a file gets its name through /proc.
        if Path::new("/proc/self/fd").exists()
            && let Ok(file) = tmpfile(dir, mode)
        {
            let lock = locked(&file);
            as_before(&file, before.as_ref());
            let temp = temp(dir, name);
            return Ok((file, Self { to: to.to_owned(), temp, named: false, there: None, _lock: lock }));
        }
        loop {
            let temp = temp(dir, name);
            let mut options = File::options();
            let file = match options.read(true).write(true).create_new(true).mode(mode).open(&temp) {
                Err(e) if is_not_ours(&e) && before.is_some() => {
                    let there = Some(special(to, false)?);
                    let file = File::from(nameless(&std::env::temp_dir())?);
                    return Ok((file, Self { to: to.to_owned(), temp, named: false, there, _lock: None }));
                }
                opened => opened.context(what)?,
            };
            as_before(&file, before.as_ref());
            let new = Self { to: to.to_owned(), temp, named: true, there: None, _lock: locked(&file) };
            // Another run may have taken it for left behind, before it was locked.
            if file.metadata().context(what)?.nlink() > 0 {
                return Ok((file, new));
            }
        }
    }

    /// Put it there.
    pub(crate) fn keep(mut self, file: &File) -> Result<()> {
        if let Some(there) = self.there.take() {
            return self.copy(file, there);
        }
        file.sync_all().context(|| format!("fsync({:?})", self.to))?;
        if !self.named {
            let fd = format!("/proc/self/fd/{}", file.as_raw_fd());
            let link = |to: &Path| linkat(AT_FDCWD, &fd[..], AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW);
            match link(&self.to) {
                Err(Errno::EEXIST) => link(&self.temp).context(|| format!("linkat({:?})", self.temp))?,
                other => return other.context(|| format!("linkat({:?})", self.to)),
            }
            self.named = true;
        }
        let (temp, to) = (&self.temp, &self.to);
        if let Err(e) = std::fs::rename(temp, to) {
            return match special(to, false) {
                Ok(there) if is_not_ours(&e) => self.copy(file, there),
                _ => Err(e).context(|| format!("rename({temp:?}, {to:?})")),
            };
        }
        self.named = false;
        Ok(())
    }

    /// Have its content in what is there.
    fn copy(&self, mut file: &File, mut there: File) -> Result<()> {
        let mut copy = || {
            file.rewind()?;
            let size = std::io::copy(&mut file, &mut there)?;
            there.set_len(size)?;
            there.sync_all()
        };
        copy().context(|| format!("write({:?})", self.to))
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if self.named {
            let _ = std::fs::remove_file(&self.temp);
        }
    }
}

/// Does it say that what is there is a mount, or that the folder is not the writer's?
fn is_not_ours(e: &std::io::Error) -> bool {
    let errno = e.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EBUSY | Errno::EACCES | Errno::EPERM | Errno::EROFS))
}

/// Mode and owner of what is replaced, as far as its writer may give them.
fn as_before(file: &File, before: Option<&Metadata>) {
    if let Some(m) = before {
        let _ = fchown(file, Some(m.uid()), Some(m.gid()));
        let _ = file.set_permissions(Permissions::from_mode(m.mode() & 0o777));
    }
}

/// A name that tells of which file it is, however long that one's name.
fn temp(dir: &Path, name: &OsStr) -> PathBuf {
    let unique = file::unique_name(PREFIX);
    dir.join([unique.as_os_str(), OsStr::new(&end(name))].join(OsStr::new("")))
}

fn end(name: &OsStr) -> String {
    format!("-{}.part", &Digest::of(name.as_encoded_bytes()).hex()[..24])
}

/// The lock is of the open file, and so of all its descriptors. A file system that has none is done without.
fn locked(file: &File) -> Option<Flock<File>> {
    Flock::lock(file.try_clone().ok()?, FlockArg::LockExclusive).ok()
}

/// Take away what runs have left that were killed while they wrote this file.
fn sweep(dir: &Path, name: &OsStr) {
    let end = end(name);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let bytes = found.as_encoded_bytes();
        if !bytes.starts_with(PREFIX.as_bytes()) || !bytes.ends_with(end.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        if let Ok(file) = opened
            && file.metadata().is_ok_and(|m| m.is_file())
            && Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
        {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_when_it_is_whole_and_nothing_else_ever_is() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-replacing-"));
        std::fs::create_dir(&dir).unwrap();
        let to = dir.join("file");
        for content in ["first", "second"] {
            let (mut file, replacing) = Replacing::begin(&to).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            drop(Replacing::begin(&to).unwrap());
            replacing.keep(&file).unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), content);
            assert_eq!(names(&dir), ["file"]);
        }
        // What was left behind goes; what somebody still writes, and what is another's, stays.
        let [left, kept, others] = ["file", "file", "other"].map(|name| temp(&dir, OsStr::new(name)));
        let users = dir.join(".coracle-my-file");
        for path in [&left, &kept, &others, &users] {
            std::fs::write(path, "").unwrap();
        }
        let held = locked(&File::open(&kept).unwrap());
        assert!(held.is_some());
        drop(Replacing::begin(&to).unwrap());
        assert!(!left.exists() && kept.exists() && others.exists() && users.exists());
        drop(held);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_replaced_is_for_the_same_eyes_and_a_name_may_be_as_long_as_any() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-eyes-"));
        std::fs::create_dir(&dir).unwrap();
        let to = dir.join("n".repeat(255));
        std::fs::write(&to, "before").unwrap();
        std::fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        let (mut file, replacing) = Replacing::begin(&to).unwrap();
        file.write_all(b"after").unwrap();
        replacing.keep(&file).unwrap();
        assert_eq!(to.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "after");
        for path in ["x/", "x/.", ".."] {
            assert!(Replacing::begin(&dir.join(path)).is_err(), "{path}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_are_followed_to_what_may_not_be_there_yet() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-links-"));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        for (name, target) in [("a", "sub/b"), ("sub/b", "../c"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, dir.join(name)).unwrap();
        }
        assert_eq!(led_to(&dir.join("a")).unwrap(), dir.join("sub/../c"));
        assert_eq!(led_to(Path::new("plain")).unwrap(), Path::new("plain"));
        assert!(led_to(&dir.join("loop")).unwrap_err().to_string().contains("Too many"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
