//! A layer made of an overlay's upper. The files that were written there are the layer's own: none is copied, and of
//! them only the archive is made, which the image layout asks for.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FileStat, SFlag, fstatat, lstat};
use nix::unistd::{Gid, Uid};

use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, media_type};
use crate::layer::attributes::{self, set_times};
use crate::layer::key::{self, chain_id};
use crate::layer::pack::{Archive, FromDir};
use crate::layer::tree::{is, list, open_dir};
use crate::layer::unpack::Applied;
use crate::layer::{Marks, Owners};
use crate::layers::PutLayer;
use crate::temp::Temp;
use crate::write::Transaction;

/// A directory of `tmp/` to work in. It goes when it is dropped, or with the next writer.
pub struct Workspace {
    temp: Temp,
}

impl Workspace {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// A directory in it, made.
    pub fn dir(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path().join(name);
        let made = DirBuilder::new().mode(mode).create(&path);
        made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .context(|| format!("mkdir({path:?}, 0o{mode:o})"))?;
        Ok(path)
    }

    /// The upper in it, made: what is seen as the root looks as it does in the layers below, lowest first. `at` is where
    /// it is to be made in the workspace, which may be another file system.
    pub fn upper(&self, at: &str, layers: &[PathBuf]) -> Result<PathBuf> {
        let upper = self.dir(&format!("{at}{}", key::TREE), 0o755)?;
        if let Some(layer) = layers.iter().rev().find(|layer| key::has_root(layer)) {
            let like = file_status(layer)?;
            dress(&upper, like.st_mode & 0o7777, like.st_uid, like.st_gid)?;
        }
        Ok(upper)
    }
}

impl Transaction<'_> {
    /// A directory to work in.
    pub fn workspace(&self) -> Result<Workspace> {
        Ok(Workspace { temp: Temp::dir(self.layout())? })
    }

    /// What was written into an upper of a workspace becomes a layer over the stack `below`. The overlay may not be
    /// mounted any more. `marks` are those in the upper. Times later than `latest` become it.
    pub fn put_upper(
        &self,
        space: Workspace,
        upper: &Path,
        marks: Marks,
        below: &[Digest],
        latest: Option<i64>,
    ) -> Result<PutLayer> {
        let mut archive = Archive::new();
        archive.put_upper(upper, marks, FromDir { owner: None, latest, xattrs: true })?;
        // A layer says nothing of the root unless it has changed.
        let root = self.root_below(below)? != look(upper)?;
        if !root {
            archive.remove("")?;
        }
        // What the archive does not have as the disk does is applied from the archive.
        if latest.is_some()
            || marks == Marks::Fuse
            || upper != space.path().join(key::TREE)
            || !archive.warnings.is_empty()
            || self.store().driver().copies()
            || Owners::of_this_process() == Owners::Table
        {
            return self.put_layer(&archive, below);
        }
        let temp = Temp::file(self.layout())?;
        let out = std::io::BufWriter::with_capacity(256 * 1024, temp.create()?);
        let mut out = Hashing::new(out);
        archive.write(&mut out)?;
        let (diff_id, size, _) = out.finish();
        let descriptor = Descriptor::new(media_type::LAYER, diff_id, size);
        let new = !self.has_blob(&descriptor);
        if self.is_applied(&diff_id, below) {
            if new {
                let blob = File::open(temp.path()).context(|| format!("open({:?})", temp.path()))?;
                self.keep_blob(temp, &blob, &diff_id)?;
            }
        } else {
            strip(file::open_dir(upper)?.as_fd(), marks, 0)?;
            for name in list(file::open_dir(space.path())?.as_fd())? {
                if name != key::TREE.as_bytes() {
                    file::remove_tree(&space.path().join(OsStr::from_bytes(&name)))?;
                }
            }
            if !root {
                dress(upper, 0o755, Uid::effective().as_raw(), Gid::effective().as_raw())?;
                set_times(AT_FDCWD, upper.as_os_str(), (0, 0))?;
            }
            let applied = Applied { root, size: archive.size(), ..Applied::default() };
            // The blob is synced with the layer.
            self.keep_layer(space.temp, &diff_id, &chain_id(below, &diff_id), &applied)?;
            if new {
                self.name_blob(temp, &diff_id)?;
            }
        }
        Ok(PutLayer { descriptor, diff_id, warnings: Vec::new(), as_seen: true })
    }
}

impl Transaction<'_> {
    /// Mode, owner and group of the root of a stack.
    fn root_below(&self, below: &[Digest]) -> Result<(u32, u32, u32)> {
        let layers = self.store().stack_paths(below)?;
        let plain = (0o755, Uid::effective().as_raw(), Gid::effective().as_raw());
        layers.iter().rev().find(|layer| key::has_root(layer)).map_or(Ok(plain), |layer| look(layer))
    }
}

fn file_status(path: &Path) -> Result<FileStat> {
    lstat(path).context(|| format!("lstat({path:?})"))
}

fn look(path: &Path) -> Result<(u32, u32, u32)> {
    file_status(path).map(|st| (st.st_mode & 0o7777, st.st_uid, st.st_gid))
}

fn dress(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .context(|| format!("lchown({path:?}, {uid}, {gid})"))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).context(|| format!("chmod({path:?}, 0o{mode:o})"))
}

/// Take overlay's own attributes away, but for the mark of a directory that hides what is below.
fn strip(dir: BorrowedFd<'_>, marks: Marks, depth: usize) -> Result<()> {
    if depth > 1000 {
        return Err(Error::invalid("read the upper: it is deeper than 1000"));
    }
    for key in file::xattr_names_at(dir, OsStr::new(".")).context(|| "llistxattr(\".\")")? {
        if attributes::is_overlays(key.as_bytes()) && key.as_c_str() != marks.opaque() {
            file::remove_xattr(dir, &key).context(|| format!("fremovexattr({key:?})"))?;
        }
    }
    for name in list(dir)? {
        let os = OsStr::from_bytes(&name);
        let st = fstatat(dir, os, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({os:?})"))?;
        if is(&st, SFlag::S_IFDIR) {
            let sub = open_dir(dir, os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
            strip(sub.as_fd(), marks, depth + 1)?;
            continue;
        }
        for key in file::xattr_names_at(dir, os).context(|| format!("llistxattr({os:?})"))? {
            if attributes::is_overlays(key.as_bytes()) {
                file::remove_xattr_at(dir, os, &key).context(|| format!("lremovexattr({os:?}, {key:?})"))?;
            }
        }
    }
    Ok(())
}
