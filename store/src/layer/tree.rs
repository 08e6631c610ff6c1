//! The jail: paths of an archive resolved inside a layer's directory, one component at a time, by
//! descriptor. The kernel never sees `..`, an absolute path, or a link to follow, so no name in an
//! archive reaches anything outside, whatever races. Where a component is missing, the layers below
//! are asked what stands there. No file's content is touched here.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};

use super::{Marks, whiteout};

/// Links on the way to one file.
const MAX_LINKS: usize = 40;

/// A directory of the tree, and the way to it, free of links.
#[derive(Clone)]
pub struct Place {
    /// The directory, in the layer.
    pub dir: Rc<OwnedFd>,
    /// Its path's components from the root.
    pub path: Vec<Vec<u8>>,
}

/// What is to be done about a directory that the layer has not got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make it, with the attributes it has below.
    Make,
    /// Make it only where it is there below: what was removed stays so.
    Follow,
    /// Nothing.
    Leave,
}

/// A directory that was made because an archive went through it: its attributes are those given.
pub struct Implied {
    /// The directory's path.
    pub path: Vec<Vec<u8>>,
    /// What stands below.
    pub like: Like,
}

/// What a directory that was made on the way looks like.
pub enum Like {
    /// As the one below: its status, and the directory that has it.
    Below(FileStat, Rc<OwnedFd>),
    /// As none: there is none below.
    Plain,
    /// As the one below, if there is one: it was not waited for.
    Guessed,
}

/// The trees below a layer, top first; empty with a driver that copies.
pub enum Lowers<'a> {
    /// At hand.
    Here(Vec<OwnedFd>),
    /// To be asked for, and waited for: most layers lean on nothing.
    Later {
        /// Waits for them.
        wait: Option<Wait<'a>>,
        /// Where a directory on the way is not waited for: it is taken to be no link below. Set while that is
        /// not known to be right.
        guess: Option<&'a Cell<bool>>,
    },
}

/// Waits for the trees below.
pub type Wait<'a> = Box<dyn FnOnce() -> Result<Vec<OwnedFd>> + 'a>;

impl From<Vec<OwnedFd>> for Lowers<'_> {
    fn from(lowers: Vec<OwnedFd>) -> Self {
        Self::Here(lowers)
    }
}

impl<'a> Lowers<'a> {
    /// What `wait` answers, when it is needed.
    pub fn later(wait: impl FnOnce() -> Result<Vec<OwnedFd>> + 'a, guess: Option<&'a Cell<bool>>) -> Self {
        Self::Later { wait: Some(Box::new(wait)), guess }
    }

    /// The flag of a guess, while an answer may still be one.
    fn guess(&self) -> Option<&'a Cell<bool>> {
        match self {
            Self::Here(_) => None,
            Self::Later { guess, .. } => *guess,
        }
    }

    fn get(&mut self) -> Result<&[OwnedFd]> {
        if let Self::Later { wait, .. } = self {
            *self = Self::Here(wait.take().map_or_else(|| Ok(Vec::new()), |wait| wait())?);
        }
        match self {
            Self::Here(lowers) => Ok(lowers),
            Self::Later { .. } => Ok(&[]),
        }
    }
}

/// The tree of one layer that is being applied, over those below.
pub struct Tree<'a> {
    root: Rc<OwnedFd>,
    lowers: Lowers<'a>,
    marks: Marks,
    /// Was anything asked of the trees below?
    pub leans: bool,
    /// The directories that were made on the way since this was last taken.
    pub implied: Vec<Implied>,
    /// The paths that were taken to be no links below.
    guessed: Vec<Vec<Vec<u8>>>,
    /// Set while a guess is open.
    open: Option<&'a Cell<bool>>,
    depth: usize,
    /// The way to the directory that was found last, the root first. The next one is often near it.
    known: Vec<Place>,
}

impl<'a> Tree<'a> {
    /// Of the layer in `root`, over `lowers`.
    pub fn new(root: OwnedFd, lowers: Lowers<'a>, marks: Marks, depth: usize) -> Self {
        Self {
            root: Rc::new(root),
            open: lowers.guess(),
            lowers,
            marks,
            leans: false,
            implied: Vec::new(),
            guessed: Vec::new(),
            depth,
            known: Vec::new(),
        }
    }

    /// The layer's own root.
    pub fn root(&self) -> Place {
        Place { dir: self.root.clone(), path: Vec::new() }
    }

    /// The directory that `path` names; links in it are followed inside the tree. None when it is
    /// not there and is not to be made.
    pub fn dir(&mut self, path: &[u8], missing: Missing) -> Result<Option<Place>> {
        let mut todo = split(path);
        let mut at = std::mem::take(&mut self.known);
        let mut same = 1;
        while let (Some(next), Some(name)) = (at.get(same), todo.last())
            && next.path.last() == Some(name)
        {
            todo.pop();
            same += 1;
        }
        at.truncate(same);
        if at.is_empty() {
            at.push(self.root());
        }
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            }
            let Some(here) = at.last().cloned() else { break };
            if here.path.len() >= self.depth {
                return Err(Error::invalid(format!("read the archive: a path deeper than {}", self.depth)));
            }
            match self.step(&here, &name, missing)? {
                Step::Dir(place) => at.push(place),
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::syscall(
                            format!("resolve {:?}", OsStr::from_bytes(path)),
                            Errno::ELOOP,
                        ));
                    }
                    if target.starts_with(b"/") {
                        at.truncate(1);
                    }
                    todo.extend(split(&target));
                }
                Step::Nothing => return Ok(None),
            }
        }
        let found = at.last().cloned();
        self.known = at;
        Ok(found)
    }

    /// A name of the layer was taken away: what is known of the way may lead through it.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn step(&mut self, here: &Place, name: &[u8], missing: Missing) -> Result<Step> {
        let os = OsStr::from_bytes(name);
        let path = || [&here.path[..], &[name.to_vec()]].concat();
        match open_dir(here.dir.as_fd(), os) {
            Ok(fd) => return Ok(Step::Dir(Place { dir: Rc::new(fd), path: path() })),
            Err(Errno::ENOENT) => {
                self.leans = true;
                return self.step_below(here, name, missing, false);
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(e) => return Err(e).context(|| format!("openat({os:?}, O_DIRECTORY)")),
        }
        let st =
            fstatat(&*here.dir, os, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({os:?})"))?;
        if is(&st, SFlag::S_IFLNK) {
            let target = readlinkat(&*here.dir, os).context(|| format!("readlinkat({os:?})"))?;
            return Ok(Step::Link(target.as_bytes().to_vec()));
        }
        // A file or a whiteout stands in the way. It goes when something comes below its name.
        if missing != Missing::Make {
            return Ok(Step::Nothing);
        }
        file::remove_at(here.dir.as_fd(), os)?;
        self.step_below(here, name, missing, true)
    }

    /// A component that the layer has not got; `hidden` when something in the layer hid what is
    /// below.
    fn step_below(&mut self, here: &Place, name: &[u8], missing: Missing, hidden: bool) -> Result<Step> {
        let os = OsStr::from_bytes(name);
        let path = [&here.path[..], &[name.to_vec()]].concat();
        let like = if hidden {
            Like::Plain
        } else if missing == Missing::Make
            && !self.hides(&path)?
            && let Some(open) = self.lowers.guess()
        {
            open.set(true);
            self.guessed.push(path.clone());
            Like::Guessed
        } else {
            match self.below(&path)? {
                Some((st, dir)) if is(&st, SFlag::S_IFLNK) => {
                    let target = readlinkat(&*dir, os).context(|| format!("readlinkat({os:?})"))?;
                    return Ok(Step::Link(target.as_bytes().to_vec()));
                }
                Some((st, dir)) if is(&st, SFlag::S_IFDIR) => Like::Below(st, dir),
                _ => Like::Plain,
            }
        };
        let make = match missing {
            Missing::Make => true,
            Missing::Follow => matches!(like, Like::Below(..)),
            Missing::Leave => false,
        };
        if !make {
            return Ok(Step::Nothing);
        }
        mkdirat(&*here.dir, os, Mode::S_IRWXU).context(|| format!("mkdirat({os:?})"))?;
        let fd = open_dir(here.dir.as_fd(), os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
        if hidden {
            self.set_opaque(fd.as_fd())?;
        }
        self.implied.push(Implied { path: path.clone(), like });
        Ok(Step::Dir(Place { dir: Rc::new(fd), path }))
    }

    /// What stands at a path in the stack below this layer: its status, and the directory of the
    /// highest layer that has it. The path has no links in it.
    pub fn below(&mut self, path: &[Vec<u8>]) -> Result<Option<(FileStat, Rc<OwnedFd>)>> {
        self.leans = true;
        if self.hides(path)? {
            return Ok(None);
        }
        let marks = self.marks;
        Ok(seen(self.lowers.get()?, marks, path)?.map(|(_, st, dir)| (st, dir)))
    }

    /// Look at what was guessed: the paths, and what a directory there is like.
    pub fn settle(&mut self) -> Result<Vec<Implied>> {
        let mut settled = Vec::new();
        for path in std::mem::take(&mut self.guessed) {
            let like = match seen(self.lowers.get()?, self.marks, &path)? {
                Some((_, st, _)) if is(&st, SFlag::S_IFLNK) => {
                    return Err(Error::invalid(format!("{:?} is a link below", path.join(&b'/'))));
                }
                Some((_, st, dir)) if is(&st, SFlag::S_IFDIR) => Like::Below(st, dir),
                _ => Like::Plain,
            };
            settled.push(Implied { path, like });
        }
        if let Some(open) = self.open {
            open.set(false);
        }
        Ok(settled)
    }

    /// Does this layer hide what is below at a path, by an opaque directory on the way?
    fn hides(&self, path: &[Vec<u8>]) -> Result<bool> {
        let mut dir = self.root.clone();
        for name in &path[..path.len().saturating_sub(1)] {
            match open_dir(dir.as_fd(), OsStr::from_bytes(name)) {
                Ok(fd) => dir = Rc::new(fd),
                Err(Errno::ENOENT) => return Ok(false),
                Err(_) => return Ok(true),
            }
            if is_opaque(dir.as_fd(), self.marks)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names that the stack below has in its root.
    pub fn root_names_below(&mut self) -> Result<Vec<Vec<u8>>> {
        self.leans = true;
        let mut names = Vec::new();
        for lower in self.lowers.get()? {
            names.extend(list(lower.as_fd())?);
        }
        coracle_sys::order::sort(&mut names);
        names.dedup();
        let mut seen = Vec::new();
        for name in names {
            if self.below(std::slice::from_ref(&name))?.is_some() {
                seen.push(name);
            }
        }
        Ok(seen)
    }

    /// Mark a directory of this layer as hiding what is below it.
    pub fn set_opaque(&self, dir: BorrowedFd<'_>) -> Result<()> {
        file::set_xattr(dir, self.marks.opaque(), b"y")
            .context(|| format!("fsetxattr({:?})", self.marks.opaque()))
    }
}

/// What is seen at a path of stacked trees, top first: the tree that has it, its status, and its directory there.
/// The path has no links in it.
pub(super) fn seen(
    lowers: &[OwnedFd],
    marks: Marks,
    path: &[Vec<u8>],
) -> Result<Option<(usize, FileStat, Rc<OwnedFd>)>> {
    let Some((name, parents)) = path.split_last() else { return Ok(None) };
    'layers: for (n, lower) in lowers.iter().enumerate() {
        let mut dir = Rc::new(lower.try_clone().context(|| "dup()")?);
        // Does this layer hide the ones below it on the way to the path?
        let mut last = false;
        for parent in parents {
            let os = OsStr::from_bytes(parent);
            match open_dir(dir.as_fd(), os) {
                Ok(fd) => dir = Rc::new(fd),
                Err(Errno::ENOENT) if last => return Ok(None),
                Err(Errno::ENOENT) => continue 'layers,
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(e) => return Err(e).context(|| format!("openat({os:?}, O_DIRECTORY)")),
            }
            last |= is_opaque(dir.as_fd(), marks)?;
        }
        match fstatat(&*dir, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if whiteout::is_one(&st) => return Ok(None),
            Ok(st) => return Ok(Some((n, st, dir))),
            Err(Errno::ENOENT) if last => return Ok(None),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e).context(|| format!("fstatat({:?})", OsStr::from_bytes(name))),
        }
    }
    Ok(None)
}

fn is_opaque(dir: BorrowedFd<'_>, marks: Marks) -> Result<bool> {
    let value = file::xattr_at(dir, OsStr::new("."), marks.opaque())
        .context(|| format!("lgetxattr({:?})", marks.opaque()))?;
    Ok(value.as_deref() == Some(b"y"))
}

enum Step {
    Dir(Place),
    Link(Vec<u8>),
    Nothing,
}

/// The components of a path, last first; empty ones and `.` left out.
pub fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').rev().filter(|c| !matches!(c, [] | [b'.'])).map(<[u8]>::to_vec).collect()
}

/// A directory in a directory, no link.
pub fn open_dir(at: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// The names in a directory, sorted.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let fd = open_dir(dir, OsStr::new(".")).context(|| "openat(\".\")")?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(fd).context(|| "fdopendir()")?.iter() {
        let name = entry.context(|| "getdents()")?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(name);
        }
    }
    coracle_sys::order::sort(&mut names);
    Ok(names)
}

/// Is a file with this status of this type?
pub fn is(st: &FileStat, kind: SFlag) -> bool {
    st.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}
