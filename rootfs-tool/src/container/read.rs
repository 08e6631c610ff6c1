//! A tree becomes a tar while it is walked, by descriptors alone: nothing is opened by a path, no link is followed, and of
//! nothing but plain files a byte is read, whatever takes their places meanwhile. What changes or vanishes is an error.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use coracle_store::layer::encode::{entry, streamed};
use coracle_store::layer::pack::{Content, Meta};
use coracle_store::layer::tree::list;
use coracle_sys::{Context, Error, Result, file};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use super::confined::is;

/// Each level of a tree holds a descriptor.
const DEEPEST: usize = 800;

/// Where the entries go.
pub(crate) struct Tar<W> {
    out: W,
    /// The names of files that have more than one.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Tar<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, links: HashMap::new() }
    }

    /// Put what is called `name` in a directory, with all that is below it, as `at`.
    pub(crate) fn put(&mut self, dir: BorrowedFd<'_>, name: &OsStr, at: &str) -> Result<()> {
        self.node(dir, name, at.as_bytes(), 0)
    }

    /// The archive's end.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).context(|| "write the archive's end")
    }

    fn node(&mut self, dir: BorrowedFd<'_>, name: &OsStr, at: &[u8], depth: usize) -> Result<()> {
        let told = || String::from_utf8_lossy(at).into_owned();
        if depth > DEEPEST {
            return Err(Error::invalid(format!("read {:?}: it is deeper than {DEEPEST}", told())));
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty()).context(|| format!("open({:?})", told()))?;
        let st = fstat(&fd).context(|| format!("fstat({:?})", told()))?;
        let mut meta = meta(&st);
        let is_dir = is(&st, SFlag::S_IFDIR);
        if st.st_nlink > 1 && !is_dir {
            if let Some(first) = self.links.get(&(st.st_dev, st.st_ino)) {
                let content = Content::HardLink(PathBuf::from(OsStr::from_bytes(first)));
                return entry(&mut self.out, at, &meta, &content).map(drop);
            }
            self.links.insert((st.st_dev, st.st_ino), at.to_vec());
        }
        let device = || (major(st.st_rdev) as u32, minor(st.st_rdev) as u32);
        let content = match SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Content::Dir,
            SFlag::S_IFLNK => {
                Content::Symlink(readlinkat(&fd, c"").context(|| format!("readlink({:?})", told()))?)
            }
            SFlag::S_IFCHR => Content::Char(device().0, device().1),
            SFlag::S_IFBLK => Content::Block(device().0, device().1),
            SFlag::S_IFIFO => Content::Fifo,
            SFlag::S_IFREG => {
                let key = c"security.capability";
                if let Ok(Some(value)) = file::xattr_at(dir, name, key) {
                    meta.xattrs.insert(key.to_bytes().to_vec(), value);
                }
                let open = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let file = File::open(open).context(|| format!("open({:?})", told()))?;
                return streamed(&mut self.out, at, &meta, st.st_size as u64, file)
                    .map_err(|e| e.wrap(format!("copy {:?}", told())));
            }
            _ => {
                coracle_sys::warn!("rootfs-tool: {:?}: a socket was left out", told());
                return Ok(());
            }
        };
        entry(&mut self.out, at, &meta, &content)?;
        if is_dir {
            for child in list(fd.as_fd()).context(|| format!("read the folder {:?}", told()))? {
                let at = if at == b"." { [b"./", &child[..]].concat() } else { [at, b"/", &child].concat() };
                self.node(fd.as_fd(), &OsString::from_vec(child), &at, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn meta(st: &FileStat) -> Meta {
    let mut meta = Meta::new(st.st_mode & 0o7777);
    (meta.uid, meta.gid) = (st.st_uid, st.st_gid);
    meta.mtime = (st.st_mtime, st.st_mtime_nsec as u32);
    meta
}
