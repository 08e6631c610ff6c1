//! What is seen in a stack of applied layers, looked up path by path, without mounting it. Links are followed inside
//! the stack alone.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag};

use super::gather::Gather;
use super::pack::{FromDir, Meta};
use super::tree::{is, seen, split};
use super::{Marks, owners};

/// Links on the way to one place.
const MAX_LINKS: usize = 40;

/// What stands at a path without links.
#[derive(Debug)]
pub enum Found {
    /// A directory.
    Dir(Meta),
    /// A link, and where it leads.
    Link(Vec<u8>),
    /// Something else.
    Other,
}

/// A stack of layers.
pub struct Below {
    /// Top first.
    trees: Vec<OwnedFd>,
    /// What knows the owners in each.
    owners: Vec<Gather<'static>>,
    marks: Marks,
}

impl Below {
    /// Of the trees of [`crate::Store::stack_paths`].
    pub fn open(trees: &[PathBuf], marks: Marks) -> Result<Self> {
        let how = FromDir { owner: None, latest: None, xattrs: true };
        let gather = |tree: &PathBuf| Ok(Gather::new(how, Some(marks), owners::read(tree)?));
        let top_first = || trees.iter().rev();
        Ok(Self {
            trees: top_first().map(|tree| file::open_dir(tree)).collect::<Result<_>>()?,
            owners: top_first().map(gather).collect::<Result<_>>()?,
            marks,
        })
    }

    /// What is seen at a path that has no links in it.
    pub fn at(&self, path: &[u8]) -> Result<Option<Found>> {
        let mut components = split(path);
        components.reverse();
        let Some((n, st, dir)) = seen(&self.trees, self.marks, &components)? else { return Ok(None) };
        let name = OsStr::from_bytes(components.last().map_or(&b"."[..], |n| n));
        Ok(Some(if is(&st, SFlag::S_IFDIR) {
            Found::Dir(self.owners[n].meta(dir.as_fd(), name, &st, path)?)
        } else if is(&st, SFlag::S_IFLNK) {
            let to = readlinkat(&*dir, name).context(|| format!("readlinkat({name:?})"))?;
            Found::Link(to.as_bytes().to_vec())
        } else {
            Found::Other
        }))
    }

    /// Where a path leads, with every link in it followed, the last one too. What is not there is as it is named.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut todo = split(path);
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                at.pop();
                continue;
            }
            at.push(name);
            if let Some(Found::Link(to)) = self.at(&at.join(&b'/'))? {
                links += 1;
                if links > MAX_LINKS {
                    let call = format!("resolve {:?}", OsStr::from_bytes(path));
                    return Err(Error::syscall(call, Errno::ELOOP));
                }
                at.pop();
                if to.starts_with(b"/") {
                    at.clear();
                }
                todo.extend(split(&to));
            }
        }
        Ok(at.join(&b'/'))
    }

    /// A plain file's content, links followed; none where there is no such file. A larger one is an error.
    pub fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        let shown = || OsStr::from_bytes(path).to_owned();
        let mut components = split(&self.resolve(path)?);
        components.reverse();
        let Some((_, st, dir)) = seen(&self.trees, self.marks, &components)? else { return Ok(None) };
        let Some(name) = components.last().filter(|_| is(&st, SFlag::S_IFREG)) else { return Ok(None) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&*dir, OsStr::from_bytes(name), flags, Mode::empty());
        let file = File::from(file.context(|| format!("openat({:?})", shown()))?);
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).context(|| format!("read({:?})", shown()))?;
        match bytes.len() as u64 > limit {
            true => Err(Error::invalid(format!("read {:?}: it has more than {limit} bytes", shown()))),
            false => Ok(Some(bytes)),
        }
    }
}
