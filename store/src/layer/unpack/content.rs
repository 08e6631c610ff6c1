//! What an entry holds: a file's data, with its holes, and other names of files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::linkat;

use super::{Input, Layer};
use crate::layer::attributes::shown;
use crate::layer::owners::Owner;
use crate::layer::tree::{Missing, Place, is, split};
use crate::layer::walk::Entry;
use crate::layer::{copy, whiteout};

impl Layer<'_> {
    pub(super) fn copy_data(&mut self, entry: &Entry, walk: &mut Input<'_>, mut out: &File) -> Result<()> {
        let write = || format!("write({} bytes)", entry.size);
        let mut pieces = entry.sparse.iter().flatten();
        let mut piece = pieces.next().copied();
        loop {
            let room = match (&entry.sparse, piece) {
                (Some(_), Some(p)) if p.len == 0 => {
                    piece = pieces.next().copied();
                    continue;
                }
                (Some(_), Some(p)) => self.buf.len().min(usize::try_from(p.len).unwrap_or(usize::MAX)),
                (Some(_), None) => break,
                (None, _) => self.buf.len(),
            };
            let n = walk.read_data(&mut self.buf[..room])?;
            if n == 0 {
                break;
            }
            match &mut piece {
                Some(p) => {
                    out.write_all_at(&self.buf[..n], p.offset).context(write)?;
                    p.offset += n as u64;
                    p.len -= n as u64;
                }
                None => out.write_all(&self.buf[..n]).context(write)?,
            }
        }
        if entry.sparse.is_some() {
            out.set_len(entry.size).context(|| format!("ftruncate({})", entry.size))?;
        }
        self.out.size += entry.size;
        Ok(())
    }

    /// A hard link's target is a path of the archive, resolved inside; where only a layer below has
    /// it, the file is copied up first, as overlay does on a write.
    pub(super) fn hard_link(
        &mut self,
        entry: &Entry,
        place: &Place,
        name: &[u8],
        path: Vec<Vec<u8>>,
    ) -> Result<()> {
        let mut components = split(&entry.link);
        let bad =
            || Error::invalid(format!("link to {:?}: it is not there", String::from_utf8_lossy(&entry.link)));
        if components.is_empty() || components[0] == b".." {
            return Err(bad());
        }
        let target_name = components.remove(0);
        components.reverse();
        let parent = components.join(&b'/');
        let os = OsStr::from_bytes(&target_name);
        let target = self.tree.dir(&parent, Missing::Follow)?.ok_or_else(bad)?;
        self.take_implied()?;
        let target_path = [&target.path[..], std::slice::from_ref(&target_name)].concat();
        if target_path == path {
            return Ok(());
        }
        match fstatat(&*target.dir, os, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if whiteout::is_one(&st) => return Err(bad()),
            Ok(st) if is(&st, SFlag::S_IFDIR) => return Err(Error::invalid("link to a directory")),
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                let (st, below) = self.tree.below(&target_path)?.ok_or_else(bad)?;
                if is(&st, SFlag::S_IFDIR) {
                    return Err(Error::invalid("link to a directory"));
                }
                copy::file(below.as_fd(), os, &st, target.dir.as_fd(), os)?;
            }
            Err(e) => return Err(e).context(|| format!("fstatat({os:?})")),
        }
        let link_name = OsStr::from_bytes(name);
        let (from, to) = (Rc::clone(&target.dir), Rc::clone(&place.dir));
        self.fresh(place.dir.as_fd(), link_name, &path, || {
            linkat(&*from, os, &*to, link_name, AtFlags::empty())
        })?;
        // Another name of the same file, which may be the one that is met first.
        if let Some(owner) = self.owners.get(&target_path).cloned() {
            let shown = shown(&path);
            self.owners.insert(path, Owner { path: shown, ..owner });
        }
        Ok(())
    }
}
