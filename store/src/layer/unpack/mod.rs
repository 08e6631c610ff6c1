//! Applying a layer: the entries of an archive become files in the layer's directory. Every path is
//! resolved by [`super::tree`], which does not leave it. What is below is never changed; where the
//! archive leans on it, that is reported, since the layer is then the same only on top of it.

mod content;
mod dress;
mod gone;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result, order};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use super::attributes::{copied_xattrs, shown, unshown};
use super::owners::Owner;
pub use super::tree::Lowers;
use super::tree::{Implied, Like, Missing, Place, Tree, is, open_dir, split};
use super::walk::{Entry, Kind, Walk};
use super::whiteout::{self, Meaning};
use super::{Limits, Marks, Owners};

/// How to apply a layer.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the archive may cost.
    pub limits: Limits,
    /// Whose marks the overlay will read.
    pub marks: Marks,
    /// Where owners go.
    pub owners: Owners,
    /// The directory holds a copy of all that is below: whiteouts remove there, and nothing is
    /// marked.
    pub plain: bool,
}

impl Options {
    /// For the overlay driver, as this process.
    pub fn of_this_process() -> Self {
        Self {
            limits: Limits::default(),
            marks: Marks::of_this_process(),
            owners: Owners::of_this_process(),
            plain: false,
        }
    }
}

/// What became of a layer.
#[derive(Debug, Default)]
pub struct Applied {
    /// It says what the root directory is like.
    pub root: bool,
    /// It leaned on what is below: it is kept by its chain id.
    pub leans: bool,
    /// What could not be as in the archive, one sentence each.
    pub warnings: Vec<String>,
    /// The owners that the disk could not hold.
    pub owners: Vec<Owner>,
    /// Bytes of all files together.
    pub size: u64,
}

/// Apply the archive in `input`, not compressed, to the empty directory `root`, over
/// `lowers`. The input is read to its end. Where the directory holds a copy of all that is below, `owners` is
/// the table of that.
pub fn unpack(
    mut input: impl Read,
    root: OwnedFd,
    lowers: Lowers<'_>,
    owners: Vec<Owner>,
    options: Options,
) -> Result<Applied> {
    unpack_from(&mut input, root, lowers, owners, options)
}

/// An archive, whatever it comes from: one piece of code for all of them, 20 kB each.
type Input<'a> = Walk<&'a mut dyn Read>;

fn unpack_from(
    input: &mut dyn Read,
    root: OwnedFd,
    lowers: Lowers<'_>,
    owners: Vec<Owner>,
    options: Options,
) -> Result<Applied> {
    let mut walk = Walk::new(input, options.limits);
    let mut layer = Layer {
        tree: Tree::new(root, lowers, options.marks, options.limits.depth),
        options,
        out: Applied::default(),
        dirs: BTreeMap::new(),
        owners: order::gather(owners.into_iter().map(|o| (unshown(&o.path), o))),
        own: Default::default(),
        parent: None,
        opaque_root: false,
        waiting: 0,
        buf: vec![0; 128 * 1024],
    };
    // A root that the archive does not name is plain, and the same every time.
    if !options.plain {
        layer.dirs.insert(Vec::new(), DirMeta::PLAIN);
    }
    while let Some(entry) = walk.next_entry()? {
        layer
            .apply(&entry, &mut walk)
            .map_err(|e| e.wrap(format!("apply the entry {:?}", String::from_utf8_lossy(&entry.path))))?;
    }
    layer.finish()
}

/// Forget a path and all beneath it, which stand side by side in a map of paths.
fn forget<T>(map: &mut BTreeMap<Vec<Vec<u8>>, T>, path: &[Vec<u8>]) {
    let next = |map: &BTreeMap<Vec<Vec<u8>>, T>| {
        map.range(path.to_vec()..).next().map(|(p, _)| p).filter(|p| p.starts_with(path)).cloned()
    };
    while let Some(beneath) = next(map) {
        map.remove(&beneath);
    }
}

/// Attributes that a directory gets at the end.
struct DirMeta {
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: (i64, u32),
    xattrs: Vec<(CString, Vec<u8>)>,
    /// These are not yet known.
    guessed: bool,
}

impl DirMeta {
    /// Of a directory of which nothing is said.
    const PLAIN: Self =
        Self { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new(), guessed: false };

    /// Of one that stands there.
    fn of(st: &FileStat, dir: BorrowedFd<'_>, name: &OsStr) -> Result<Self> {
        Ok(Self {
            mode: st.st_mode & 0o7777,
            uid: st.st_uid.into(),
            gid: st.st_gid.into(),
            mtime: (st.st_mtime, st.st_mtime_nsec as u32),
            xattrs: copied_xattrs(dir, name)?,
            guessed: false,
        })
    }

    /// Of one that was made on the way.
    fn like(implied: &Implied) -> Result<Self> {
        let name = implied.path.last().map_or(OsStr::new("."), |n| OsStr::from_bytes(n));
        match &implied.like {
            Like::Below(st, dir) => Self::of(st, dir.as_fd(), name),
            Like::Plain => Ok(Self::PLAIN),
            Like::Guessed => Ok(Self { guessed: true, ..Self::PLAIN }),
        }
    }
}

struct Layer<'a> {
    tree: Tree<'a>,
    options: Options,
    out: Applied,
    /// Directories whose attributes wait: a mode may forbid writing, and writing changes times.
    dirs: BTreeMap<Vec<Vec<u8>>, DirMeta>,
    /// What the disk cannot hold of the owners.
    owners: BTreeMap<Vec<Vec<u8>>, Owner>,
    /// With a copying driver: what this layer has brought.
    own: std::collections::BTreeSet<Vec<Vec<u8>>>,
    /// The last entry's parent directory, as the archive wrote it and as it was found.
    parent: Option<(Vec<u8>, Place)>,
    opaque_root: bool,
    /// About how many bytes of memory what waits for the end has taken.
    waiting: usize,
    buf: Vec<u8>,
}

/// What one more piece of what waits takes beside its bytes.
const ITEM: usize = 32;

impl Layer<'_> {
    fn apply(&mut self, entry: &Entry, walk: &mut Input<'_>) -> Result<()> {
        let components = split(&entry.path);
        let Some(name) = components.first() else {
            if entry.path.is_empty() {
                return Err(Error::invalid("read the archive: an entry has no name"));
            }
            if entry.kind != Kind::Dir {
                return Err(Error::invalid("read the archive: the root is to be replaced by something else"));
            }
            let root = self.tree.root();
            self.out.root = true;
            return self.remember(root.path, entry);
        };
        if name == b".." {
            return Err(Error::invalid("read the archive: an entry's name ends in .."));
        }
        if components.iter().any(|c| matches!(whiteout::read(c), Ok(Meaning::Nothing))) {
            return Ok(());
        }
        if components[1..].iter().any(|c| c.starts_with(whiteout::PREFIX)) {
            return Err(Error::invalid("read the archive: something lies below a whiteout"));
        }
        if components.len() > self.options.limits.depth {
            let most = self.options.limits.depth;
            return Err(Error::invalid(format!("read the archive: a path deeper than {most}")));
        }
        let mut raw = &entry.path[..];
        while raw.ends_with(b"/") || raw.ends_with(b"/.") {
            raw = &raw[..raw.len() - 1];
        }
        let parent = &raw[..raw.len() - name.len()];
        match whiteout::read(name)? {
            Meaning::Nothing => Ok(()),
            Meaning::Opaque => self.opaque(parent),
            Meaning::Gone(gone) => self.gone(parent, gone),
            Meaning::Name => self.put(entry, parent, name, walk),
        }
    }

    /// The directory that an entry goes to, made when missing.
    fn parent(&mut self, raw: &[u8]) -> Result<Place> {
        if let Some((known, place)) = &self.parent
            && known == raw
        {
            return Ok(place.clone());
        }
        let place = self.tree.dir(raw, Missing::Make)?;
        self.take_implied()?;
        let place = place.ok_or_else(|| Error::invalid("read the archive: an entry without a parent"))?;
        self.keep_attributes(&place)?;
        self.parent = Some((raw.to_vec(), place.clone()));
        Ok(place)
    }

    /// With a copying driver: a directory from below that is about to change inside looks as before
    /// at the end.
    fn keep_attributes(&mut self, place: &Place) -> Result<()> {
        if !self.options.plain || self.dirs.contains_key(&place.path) {
            return Ok(());
        }
        let st = nix::sys::stat::fstat(&*place.dir).context(|| "fstat()")?;
        let meta = DirMeta::of(&st, place.dir.as_fd(), OsStr::new("."))?;
        self.dirs.insert(place.path.clone(), meta);
        Ok(())
    }

    /// Directories that were made on the way look as they do below, else plain.
    fn take_implied(&mut self) -> Result<()> {
        for implied in std::mem::take(&mut self.tree.implied) {
            let meta = DirMeta::like(&implied)?;
            if self.options.plain {
                self.own.insert(implied.path.clone());
            }
            self.wait(implied.path, meta)?;
        }
        Ok(())
    }

    fn put(&mut self, entry: &Entry, parent: &[u8], name: &[u8], walk: &mut Input<'_>) -> Result<()> {
        let place = self.parent(parent)?;
        let path = [&place.path[..], &[name.to_vec()]].concat();
        let os = OsStr::from_bytes(name);
        let dir = place.dir.as_fd();
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, &place, name, path);
        }
        if entry.kind == Kind::Char && entry.device == (0, 0) {
            self.warn(entry, "a character device 0:0 cannot be in a layer, and was left out");
            return Ok(());
        }
        if entry.kind == Kind::Dir {
            self.directory(dir, os, &path)?;
            return self.remember(path, entry);
        }
        if entry.kind == Kind::File {
            let out = self.fresh(dir, os, &path, || {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(dir, os, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            })?;
            let out = File::from(out);
            self.copy_data(entry, walk, &out)?;
            return self.attributes(dir, os, &path, entry, Some(out.as_fd()));
        } else {
            let link = OsStr::from_bytes(&entry.link);
            let (kind, device) = match entry.kind {
                Kind::Char => (SFlag::S_IFCHR, entry.device),
                Kind::Block => (SFlag::S_IFBLK, entry.device),
                _ => (SFlag::S_IFIFO, (0, 0)),
            };
            let rdev = makedev(device.0.into(), device.1.into());
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            if entry.kind == Kind::Symlink {
                if entry.link.is_empty() {
                    return Err(Error::invalid("read the archive: a symbolic link leads nowhere"));
                }
                self.fresh(dir, os, &path, || symlinkat(link, dir, os))?;
            } else if self.options.owners == Owners::Table && kind != SFlag::S_IFIFO {
                // Without privilege an empty file holds the device's place; the table says what it is.
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                drop(self.fresh(dir, os, &path, || openat(dir, os, flags, mode))?);
            } else {
                let made = self.fresh(dir, os, &path, || mknodat(dir, os, kind, mode, rdev));
                match made {
                    // A user namespace with many ids may still make no device.
                    Err(e) if e.errno() == Some(Errno::EPERM) => {
                        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                        drop(self.fresh(dir, os, &path, || openat(dir, os, flags, mode))?);
                        self.table(&path, entry);
                    }
                    other => other?,
                }
            }
        }
        self.attributes(dir, os, &path, entry, None)
    }

    /// Make something under a name; what is there goes first, so that it keeps its own inode.
    fn fresh<T>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        make: impl Fn() -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        if self.options.plain {
            self.own.insert(path.to_vec());
        }
        match make() {
            Err(Errno::EEXIST) => {
                self.remove(dir, name, path)?;
                make().context(|| format!("make {name:?}"))
            }
            other => other.context(|| format!("make {name:?}")),
        }
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &[Vec<u8>]) -> Result<()> {
        self.parent = None;
        self.tree.forget();
        file::remove_at(dir, name)?;
        forget(&mut self.dirs, path);
        forget(&mut self.owners, path);
        Ok(())
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &[Vec<u8>]) -> Result<()> {
        if self.options.plain {
            self.own.insert(path.to_vec());
        }
        match mkdirat(dir, name, Mode::S_IRWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).context(|| format!("mkdirat({name:?})")),
        }
        let st = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({name:?})"))?;
        if is(&st, SFlag::S_IFDIR) {
            return Ok(());
        }
        // What stood here hid what is below it, and so does the directory that takes its place.
        self.remove(dir, name, path)?;
        mkdirat(dir, name, Mode::S_IRWXU).context(|| format!("mkdirat({name:?})"))?;
        if !self.options.plain {
            let fd = open_dir(dir, name).context(|| format!("openat({name:?}, O_DIRECTORY)"))?;
            self.tree.set_opaque(fd.as_fd())?;
        }
        Ok(())
    }

    /// Directories get their attributes, the deepest first, and the account is closed.
    fn finish(mut self) -> Result<Applied> {
        if self.opaque_root {
            self.hide_all_below()?;
        }
        for implied in self.tree.settle()? {
            if self.dirs.get(&implied.path).is_some_and(|meta| meta.guessed) {
                let meta = DirMeta::like(&implied)?;
                self.wait(implied.path, meta)?;
            }
        }
        // Neighbours in this order share most of the way.
        let mut way = vec![self.tree.root().dir];
        let mut at: Vec<Vec<u8>> = Vec::new();
        for (path, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let same = at.iter().zip(&path).take_while(|(a, b)| a == b).count();
            way.truncate(same + 1);
            self.finish_dir(&path, &mut way, meta)
                .map_err(|e| e.wrap(format!("set the attributes of {:?}", shown(&path))))?;
            at = path;
        }
        self.out.leans = self.tree.leans;
        self.out.owners = self.owners.into_values().collect();
        order::sort_by(&mut self.out.owners, |a, b| a.path.cmp(&b.path));
        Ok(self.out)
    }

    /// Keep a directory's attributes for the end.
    fn wait(&mut self, path: Vec<Vec<u8>>, meta: DirMeta) -> Result<()> {
        let xattrs = meta.xattrs.iter().map(|(k, v)| k.count_bytes() + v.len() + ITEM).sum::<usize>();
        self.count(path.iter().map(|c| c.len() + ITEM).sum::<usize>() + xattrs)?;
        self.dirs.insert(path, meta);
        Ok(())
    }

    /// So much more memory is taken until the end.
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.waiting += bytes;
        let most = self.options.limits.waiting;
        match self.waiting > most {
            true => Err(Error::invalid(format!(
                "read the archive: what it says of its directories takes more than {most} bytes"
            ))),
            false => Ok(()),
        }
    }

    fn warn(&mut self, entry: &Entry, what: &str) {
        self.out.warnings.push(format!("{}: {what}", String::from_utf8_lossy(&entry.path)));
    }
}
