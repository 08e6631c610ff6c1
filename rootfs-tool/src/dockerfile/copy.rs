//! COPY and ADD: files of a tree become the entries of a layer. Sources and destination are looked at as they are in
//! memory and in the layers below; nothing is read or written here, so no name in either leads out of it.

mod parents;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_store::layer::below::{Below, Found};
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Error, Result};

use super::chmod::Chmod;
use super::glob::{self, Glob};
use super::ignore::Ignore;

/// Links on the way to one source.
const MAX_LINKS: usize = 40;

/// How to copy.
pub(crate) struct Rules {
    /// Absolute; a slash at its end says that it is a directory.
    pub(crate) dest: String,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) chmod: Option<Chmod>,
    pub(crate) exclude: Ignore,
    /// The directories of a source come along.
    pub(crate) parents: bool,
    /// The time of directories that are made.
    pub(crate) now: (i64, u32),
}

/// A layer in the making.
pub(crate) struct Target<'a> {
    /// What it holds.
    pub(crate) archive: Archive,
    /// What it lies on; nothing where it is to be independent of that.
    below: Option<&'a Below>,
    /// Directories that are not there below.
    absent: HashSet<Vec<u8>>,
}

/// What stands at a place of the target.
pub(crate) enum Stands {
    Dir,
    Other,
}

impl<'a> Target<'a> {
    pub(crate) fn new(below: Option<&'a Below>) -> Self {
        Self { archive: Archive::new(), below, absent: HashSet::new() }
    }

    fn below(&self, path: &[u8]) -> Result<Option<Found>> {
        match self.below {
            Some(below) if !self.absent.contains(parent(path)) => below.at(path),
            _ => Ok(None),
        }
    }

    pub(crate) fn at(&mut self, path: &[u8]) -> Result<Option<Stands>> {
        if path.is_empty() {
            return Ok(Some(Stands::Dir));
        }
        if let Some((_, content)) = self.archive.get(shown(path)) {
            return Ok(Some(if *content == Content::Dir { Stands::Dir } else { Stands::Other }));
        }
        let found = self.below(path)?;
        if !matches!(found, Some(Found::Dir(_))) {
            self.absent.insert(path.to_vec());
        }
        Ok(found.map(|f| if matches!(f, Found::Dir(_)) { Stands::Dir } else { Stands::Other }))
    }

    /// A directory with all above it: those that are there as they are, the others new.
    pub(crate) fn dirs(&mut self, path: &[u8], new: &Meta) -> Result<()> {
        for end in (0..=path.len()).filter(|n| *n > 0 && (*n == path.len() || path[*n] == b'/')) {
            let dir = &path[..end];
            match self.archive.get(shown(dir)) {
                Some((_, Content::Dir)) => continue,
                Some(_) => return Err(no_directory(dir)),
                None => {}
            }
            let meta = match self.below(dir)? {
                Some(Found::Dir(meta)) => meta,
                Some(_) => return Err(no_directory(dir)),
                None => {
                    self.absent.insert(dir.to_vec());
                    new.clone()
                }
            };
            self.archive.put(shown(dir), meta, Content::Dir)?;
        }
        Ok(())
    }

    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        match self.below {
            Some(below) => below.resolve(path),
            None => Ok(trim(path).to_vec()),
        }
    }

    fn put(&mut self, path: &[u8], meta: Meta, content: Content) -> Result<()> {
        match (self.at(path)?, &content) {
            (Some(Stands::Other), Content::Dir) => return Err(no_directory(path)),
            (Some(Stands::Dir), c) if *c != Content::Dir => {
                return Err(Error::invalid(format!("cannot replace to directory {} with file", name(path))));
            }
            _ => {}
        }
        self.archive.put(shown(path), meta, content)
    }

    /// As an archive is unpacked: what is of another kind gives way, with all that it holds.
    fn replace(&mut self, path: &[u8], meta: Meta, content: Content) -> Result<()> {
        let is_dir = content == Content::Dir;
        if self.at(path)?.is_some_and(|there| matches!(there, Stands::Dir) != is_dir) {
            self.archive.remove(shown(path))?;
            self.absent.insert(path.to_vec());
        }
        self.archive.put(shown(path), meta, content)
    }

    /// Copy what one source names. How many sources it turned out to be.
    pub(crate) fn copy(&mut self, tree: &Archive, source: &str, rules: &Rules) -> Result<usize> {
        if rules.parents {
            return self.copy_parents(tree, source, rules);
        }
        let all = sources(tree, source)?;
        for found in &all {
            let from = follow(tree, found)?;
            self.copy_one(tree, &from, base(found), rules)?;
        }
        Ok(all.len())
    }

    /// Copy one file, or what one directory holds.
    fn copy_one(&mut self, tree: &Archive, from: &[u8], name: &[u8], rules: &Rules) -> Result<()> {
        let new = rules.new_dir();
        let entry = tree.get(shown(from)).map(|(m, c)| (m.clone(), c.clone()));
        let is_dir = from.is_empty() || entry.as_ref().is_some_and(|(_, c)| *c == Content::Dir);
        let mut dest = self.destination(rules, &new)?;
        let there = self.at(&dest)?;
        if !is_dir {
            let (meta, content) = entry.ok_or_else(|| missing(from))?;
            if matches!(there, Some(Stands::Dir)) {
                dest = join(&dest, name);
            }
            self.dirs(parent(&dest), &new)?;
            let content = linked(tree, content);
            return self.put(&dest, rules.of(meta, &content), content);
        }
        // A new one has nothing of the source's attributes but its time, which one that was there takes too.
        match there {
            Some(Stands::Other) => return Err(no_directory(&dest)),
            _ => self.dirs(&dest, &new)?,
        }
        if let (Some((source, _)), Some((meta, _))) = (entry, self.archive.get(shown(&dest))) {
            let meta = Meta { mtime: source.mtime, ..meta.clone() };
            self.archive.put(shown(&dest), meta, Content::Dir)?;
        }
        self.copy_inside(tree, from, &dest, rules)
    }

    fn copy_inside(&mut self, tree: &Archive, from: &[u8], dest: &[u8], rules: &Rules) -> Result<()> {
        let new = rules.new_dir();
        let mut copied: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let skip = if from.is_empty() { 0 } else { from.len() + 1 };
        for (path, meta, content) in tree.inside(from) {
            let rest = &path[skip..];
            if !rules.exclude.is_empty() && rules.exclude.matches(&String::from_utf8_lossy(rest)) {
                continue;
            }
            let to = join(dest, rest);
            if !rules.exclude.is_empty() {
                self.dirs(parent(&to), &new)?;
            }
            // The first name of a file that has others may not come along: the first that does is that for the rest.
            let first = match content {
                Content::HardLink(first) => first.as_os_str().as_bytes(),
                _ => path,
            };
            let content = match copied.get(first) {
                Some(first) => Content::HardLink(shown(first).to_owned()),
                None => linked(tree, content.clone()),
            };
            if let Content::File { .. } | Content::Bytes(_) = content {
                copied.insert(first.to_vec(), to.clone());
            }
            self.put(&to, rules.of(meta.clone(), &content), content)?;
        }
        Ok(())
    }

    /// Put what a tar held into the directory at `dest`. A directory that the tar only went through is as it was.
    pub(crate) fn merge(&mut self, tree: &Archive, dest: &[u8], rules: &Rules) -> Result<()> {
        let new = Meta { mtime: rules.now, ..rules.owned(Meta::new(0o755)) };
        self.dirs(dest, &new)?;
        for (path, meta, content) in tree.inside(b"") {
            let to = join(dest, path);
            if *content == Content::Dir && *meta == Meta::new(0o755) {
                self.dirs(&to, &new)?;
                continue;
            }
            let content = match content {
                Content::HardLink(first) => {
                    Content::HardLink(shown(&join(dest, first.as_os_str().as_bytes())).to_owned())
                }
                other => other.clone(),
            };
            self.replace(&to, rules.owned(meta.clone()), content)?;
        }
        Ok(())
    }

    /// Where the destination is, links in it followed. One with a slash at its end is there then.
    pub(crate) fn destination(&mut self, rules: &Rules, new: &Meta) -> Result<Vec<u8>> {
        let dest = self.resolve(glob::clean(&rules.dest).as_bytes())?;
        if rules.dest.ends_with('/') {
            match self.at(&dest)? {
                None => self.dirs(&dest, new)?,
                Some(Stands::Dir) => {}
                Some(Stands::Other) => return Err(no_directory(&dest)),
            }
        }
        Ok(dest)
    }
}

impl Rules {
    /// A directory that is made on the way. A mode in octal is for it too.
    pub(crate) fn new_dir(&self) -> Meta {
        let mode = match self.chmod {
            Some(Chmod::To(mode)) => mode,
            _ => 0o755,
        };
        Meta { mtime: self.now, ..self.owned(Meta::new(mode)) }
    }

    fn owned(&self, meta: Meta) -> Meta {
        match self.owner {
            Some((uid, gid)) => Meta { uid, gid, ..meta },
            None => meta,
        }
    }

    fn of(&self, meta: Meta, content: &Content) -> Meta {
        let meta = self.owned(meta);
        match (&self.chmod, content) {
            (_, Content::Symlink(_)) | (None, _) => meta,
            (Some(chmod), content) => Meta { mode: chmod.apply(meta.mode, *content == Content::Dir), ..meta },
        }
    }
}

/// Another name of a file that does not come along is a file.
fn linked(tree: &Archive, content: Content) -> Content {
    match &content {
        Content::HardLink(first) => tree.get(first).map_or(content.clone(), |(_, c)| c.clone()),
        _ => content,
    }
}

fn no_directory(path: &[u8]) -> Error {
    Error::invalid(format!("cannot copy to non-directory: {}", name(path)))
}

/// BuildKit's words.
pub(crate) fn missing(path: &[u8]) -> Error {
    Error::not_found(format!("{:?}: not found", name(path)))
}

fn name(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

pub(crate) fn shown(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn trim(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|b| *b == b'/').unwrap_or(0)]
}

fn base(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)..]
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => dir.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

/// A source as a path of its tree: nothing leads above the tree.
fn clean_source(source: &str) -> String {
    let path = glob::clean(&format!("/{source}"));
    path.trim_start_matches('/').to_owned()
}

/// The paths that a source names, in order; of a pattern those that are there.
pub(crate) fn sources(tree: &Archive, source: &str) -> Result<Vec<Vec<u8>>> {
    let path = clean_source(source);
    if !glob::is_pattern(&path) {
        return Ok(vec![path.into_bytes()]);
    }
    let parts: Vec<&str> = path.split('/').collect();
    let wild = parts.iter().position(|p| glob::is_pattern(p)).unwrap_or(parts.len());
    let fixed = parts[..wild].join("/");
    let Ok(dir) = follow(tree, fixed.as_bytes()) else { return Ok(Vec::new()) };
    let glob = Glob::parse(&parts[wild..].join("/"), false)?;
    let skip = if dir.is_empty() { 0 } else { dir.len() + 1 };
    let matches =
        tree.inside(&dir).filter(|(path, ..)| glob.matches(&String::from_utf8_lossy(&path[skip..])));
    Ok(matches.map(|(path, ..)| path.to_vec()).collect())
}

/// Where a path of a tree leads, links followed inside it. What is not there is an error.
pub(crate) fn follow(tree: &Archive, path: &[u8]) -> Result<Vec<u8>> {
    let split = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/').rev().filter(|c| !matches!(c, [] | [b'.'])).map(<[u8]>::to_vec).collect()
    };
    let mut todo = split(path);
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            at.pop();
            continue;
        }
        at.push(part);
        let here = at.join(&b'/');
        match tree.get(PathBuf::from(OsStr::from_bytes(&here))) {
            None => return Err(missing(path)),
            Some((_, Content::Symlink(to))) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::invalid(format!("{:?}: too many links", name(path))));
                }
                at.pop();
                if to.as_bytes().starts_with(b"/") {
                    at.clear();
                }
                todo.extend(split(to.as_bytes()));
            }
            Some(_) => {}
        }
    }
    Ok(at.join(&b'/'))
}

#[cfg(test)]
mod tests;
