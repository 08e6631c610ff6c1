//! Packages become the entries of a layer, as dpkg would lay them over each other: a directory that is a link already is
//! gone through, and a file that another package has is taken over only where one says that it replaces the other.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_store::layer::Limits;
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_store::layer::walk::{Entry, Kind, Walk};
use coracle_sys::{Context, Error, Result, file, order};

use super::control::{self, Paragraph};
use super::package;
use super::paths::Paths;
use super::relation;

/// Files up to this size stay in memory, as long as there are not too many.
const SMALL: u64 = 64 << 10;
const HELD: u64 = 96 << 20;

/// A package that was unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The files of `control.tar`.
    pub(crate) control: Vec<(String, u32, Vec<u8>)>,
    /// The paths that it has, in order.
    pub(crate) list: Vec<String>,
    /// The MD5 of each configuration file.
    pub(crate) conffiles: Vec<(String, String)>,
    entries: Vec<(Vec<u8>, Meta, Content)>,
}

impl Unpacked {
    /// A file of `control.tar`.
    pub(crate) fn file(&self, name: &str) -> Option<&[u8]> {
        self.control.iter().find(|(n, _, _)| n == name).map(|(_, _, bytes)| &bytes[..])
    }

    /// What it says of itself.
    pub(crate) fn paragraph(&self) -> Result<Paragraph<'_>> {
        let text = self.file("control").ok_or_else(|| Error::invalid("its control.tar has no control"))?;
        control::single(std::str::from_utf8(text).map_err(|_| Error::invalid("its control is no text"))?)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.paragraph().ok().and_then(|p| p.get("Package")).unwrap_or_default()
    }
}

/// Read packages side by side. What does not stay in memory goes to `spool`.
pub(crate) fn read(files: &[(String, PathBuf)], spool: &Path, latest: i64) -> Result<Vec<Unpacked>> {
    let held = AtomicU64::new(0);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Unpacked>)>> = Mutex::default();
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some((what, path)) = files.get(n) else { return };
            let one = Reader { spool, held: &held, latest, number: n }.read(path);
            let one = one.context(|| format!("unpack {what}"));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((n, one));
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    order::sort_by(&mut done, |a, b| a.0.cmp(&b.0));
    done.into_iter().map(|(_, one)| one).collect()
}

struct Reader<'a> {
    spool: &'a Path,
    held: &'a AtomicU64,
    latest: i64,
    number: usize,
}

impl Reader<'_> {
    fn read(&self, path: &Path) -> Result<Unpacked> {
        let input = std::io::BufReader::with_capacity(256 << 10, file::open_plain(path)?);
        let package = package::open(input)?;
        let mut out = Unpacked { control: package.control, list: vec![], conffiles: vec![], entries: vec![] };
        let conffiles = String::from_utf8_lossy(out.file("conffiles").unwrap_or_default()).into_owned();
        // A word before the path says that the file is to go.
        let conffiles: Vec<&str> = conffiles.lines().map(str::trim).filter(|l| l.starts_with('/')).collect();
        let mut data = package.data;
        let mut walk = Walk::new(&mut data as &mut dyn Read, Limits::default());
        let mut n = 0;
        while let Some(entry) = walk.next_entry()? {
            let path = plain(&entry.path)?;
            let shown = String::from_utf8_lossy(&path).into_owned();
            n += 1;
            let name = self.spool.join(format!("{}-{n}", self.number));
            let content = self.content(&entry, &mut walk, &name).context(|| format!("read {shown:?}"))?;
            let shown = format!("/{shown}");
            if conffiles.contains(&&shown[..]) {
                let bytes = match &content {
                    Content::Bytes(bytes) => bytes.clone(),
                    Content::File { path, .. } => file::read(path)?,
                    _ => Vec::new(),
                };
                out.conffiles.push((shown.clone(), super::hex(&super::md5::of(&bytes))));
            }
            out.list.push(if path.is_empty() { "/.".into() } else { shown });
            let mut meta = Meta::new(entry.mode);
            let id = |id: u64| u32::try_from(id).map_err(|_| Error::invalid("an owner is out of bounds"));
            (meta.uid, meta.gid) = (id(entry.uid)?, id(entry.gid)?);
            meta.mtime = if entry.mtime.0 >= self.latest { (self.latest, 0) } else { entry.mtime };
            meta.xattrs = order::gather(entry.xattrs.iter().cloned());
            out.entries.push((path, meta, content));
        }
        Ok(out)
    }

    fn content(&self, entry: &Entry, walk: &mut Walk<&mut dyn Read>, spool: &Path) -> Result<Content> {
        Ok(match entry.kind {
            Kind::Dir => Content::Dir,
            Kind::Symlink => Content::Symlink(OsString::from_vec(entry.link.clone())),
            Kind::HardLink => Content::HardLink(OsString::from_vec(plain(&entry.link)?).into()),
            Kind::Char => Content::Char(entry.device.0, entry.device.1),
            Kind::Block => Content::Block(entry.device.0, entry.device.1),
            Kind::Fifo => Content::Fifo,
            Kind::File if entry.sparse.is_some() => return Err(Error::unsupported("it has holes")),
            Kind::File => {
                let mut part = vec![0; 64 << 10];
                let small = entry.size <= SMALL && self.held.fetch_add(entry.size, Ordering::Relaxed) < HELD;
                let (mut bytes, mut out) = (Vec::new(), None);
                if !small {
                    out = Some(File::create(spool).context(|| format!("open({spool:?}, O_CREAT)"))?);
                }
                loop {
                    let n = walk.read_data(&mut part)?;
                    match &mut out {
                        _ if n == 0 => break,
                        Some(out) => out.write_all(&part[..n]).context(|| format!("write({spool:?})"))?,
                        None => bytes.extend_from_slice(&part[..n]),
                    }
                }
                match small {
                    true => Content::Bytes(bytes),
                    false => Content::File { path: spool.to_owned(), size: entry.size, seen: None },
                }
            }
        })
    }
}

/// A path without what leads nowhere. One that leads out is refused.
fn plain(path: &[u8]) -> Result<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !matches!(c, [] | [b'.'])).collect();
    match parts.contains(&&b".."[..]) || path.contains(&0) {
        true => Err(Error::invalid(format!("the path {:?} leads out of it", String::from_utf8_lossy(path)))),
        false => Ok(parts.join(&b'/')),
    }
}

/// Lay packages over each other, in this order.
pub(crate) fn lay(archive: &mut Archive, packages: &mut [Unpacked], paths: &Paths) -> Result<()> {
    let mut owners: HashMap<PathBuf, usize> = HashMap::new();
    let mut dirs: BTreeMap<PathBuf, Meta> = BTreeMap::new();
    for n in 0..packages.len() {
        for (path, meta, content) in std::mem::take(&mut packages[n].entries) {
            let path = PathBuf::from(OsString::from_vec(path));
            let at = through_links(archive, &path)?;
            let dir = content == Content::Dir;
            let out = path.to_str().is_some_and(|p| paths.leaves_out(&format!("/{p}")));
            if out {
                if dir {
                    dirs.insert(at, meta);
                }
                continue;
            }
            let content = match content {
                Content::HardLink(to) => {
                    let to = through_links(archive, &to)?;
                    let there =
                        matches!(archive.get(&to), Some((_, Content::Bytes(_) | Content::File { .. })));
                    if !there {
                        let what = packages[n].name();
                        return Err(Error::invalid(format!(
                            "unpack {what}: {path:?} is another name of {to:?}, which is left out"
                        )));
                    }
                    Content::HardLink(to)
                }
                other => other,
            };
            if let Some((_, there)) = archive.get(&at) {
                // What is a directory already, or a link to one, stays.
                let stays = match (there, dir) {
                    (Content::Dir, true) | (Content::Symlink(_), true) => true,
                    (Content::Dir, false) => matches!(content, Content::Symlink(_)),
                    _ => false,
                };
                if stays {
                    continue;
                }
                if let Some(other) = owners.get(&at).copied().filter(|o| *o != n) {
                    if replaces(&packages[other], &packages[n])? {
                        continue;
                    }
                    if !replaces(&packages[n], &packages[other])? {
                        let (one, two) = (packages[n].name(), packages[other].name());
                        return Err(Error::invalid(format!("unpack {one}: {at:?} is in {two} as well")));
                    }
                }
            }
            owners.insert(at.clone(), n);
            archive.put(&at, meta, content)?;
        }
    }
    // The directories of what was included all the same.
    let all: Vec<PathBuf> = archive.paths().map(Path::to_owned).collect();
    for (dir, meta) in dirs {
        let from = all.partition_point(|p| *p <= dir);
        if all[from..].iter().take_while(|p| p.starts_with(&dir)).next().is_some() {
            archive.put(&dir, meta, Content::Dir)?;
        }
    }
    Ok(())
}

/// Does one say that it replaces files of the other?
fn replaces(one: &Unpacked, other: &Unpacked) -> Result<bool> {
    let (one, other) = (one.paragraph()?, other.paragraph()?);
    let (name, version) = (other.must("Package")?, other.must("Version")?);
    let provided = relation::parse(other.get("Provides").unwrap_or_default())?;
    let all = relation::parse(one.get("Replaces").unwrap_or_default())?;
    Ok(all.iter().flatten().any(|r| {
        r.name == name && r.takes(version)
            || r.versions.is_none() && provided.iter().flatten().any(|p| p.name == r.name)
    }))
}

/// Where a path leads: the directories on its way may be links.
pub(crate) fn through_links(archive: &Archive, path: &Path) -> Result<PathBuf> {
    let mut at = PathBuf::new();
    let mut todo: Vec<OsString> = path.iter().rev().map(OsString::from).collect();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        if name == "/" || name == "." {
            continue;
        }
        let next = at.join(&name);
        match archive.get(&next) {
            Some((_, Content::Symlink(to))) if !todo.is_empty() => {
                links += 1;
                if links > 40 {
                    return Err(Error::invalid(format!("unpack {path:?}: too many links")));
                }
                let to = Path::new(to);
                if to.is_absolute() {
                    at = PathBuf::new();
                }
                todo.extend(to.iter().rev().map(OsString::from));
            }
            _ => at = next,
        }
    }
    Ok(at)
}

/// The links that make one of /bin and /usr/bin, and so on: what every Debian since 12 has. Those that only some
/// architectures have come when a package needs them.
pub(crate) fn merged_usr(archive: &mut Archive, packages: &[Unpacked]) -> Result<()> {
    let has = |dir: &str| {
        let dir = dir.as_bytes();
        packages.iter().flat_map(|p| &p.entries).any(|(p, _, _)| p.split(|b| *b == b'/').next() == Some(dir))
    };
    for dir in ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"] {
        if !matches!(dir, "bin" | "sbin" | "lib") && !has(dir) {
            continue;
        }
        archive.put(format!("usr/{dir}"), Meta::new(0o755), Content::Dir)?;
        archive.put(dir, Meta::new(0o777), Content::Symlink(format!("usr/{dir}").into()))?;
    }
    Ok(())
}
