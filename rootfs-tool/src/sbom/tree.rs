//! Files of an image by their paths, with links followed within it, and read as long as they are small.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use coracle_store::layer::pack::{Archive, Content};
use coracle_sys::{Context, Error, Result};
use nix::fcntl::OFlag;

/// More has no database that a distribution makes.
const MOST: u64 = 64 << 20;
/// Links on the way to a file, as the kernel has it.
const LINKS: usize = 40;

/// What an image amounts to.
pub(super) struct Tree<'a> {
    archive: &'a Archive,
}

impl<'a> Tree<'a> {
    pub(super) fn new(archive: &'a Archive) -> Self {
        Self { archive }
    }

    /// Where a path leads, if anything is there.
    pub(super) fn real(&self, path: &str) -> Result<Option<String>> {
        let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match &part[..] {
                "" | "." => continue,
                ".." => drop(at.pop()),
                _ => at.push(part),
            }
            let here = at.join("/");
            if here.is_empty() {
                continue;
            }
            match self.archive.get(&here) {
                None => return Ok(None),
                Some((_, Content::Symlink(target))) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Error::invalid("too many links lead there"));
                    }
                    let Some(target) = target.to_str() else { return Ok(None) };
                    if target.starts_with('/') {
                        at.clear();
                    } else {
                        at.pop();
                    }
                    left.extend(target.split('/').rev().map(str::to_owned));
                }
                Some((_, Content::Dir)) => {}
                // A file has nothing below it.
                Some(_) if left.iter().any(|part| !part.is_empty()) => return Ok(None),
                Some(_) => {}
            }
        }
        Ok(Some(at.join("/")))
    }

    /// The names in a directory, sorted; none where there is no directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>> {
        let Some(real) = self.real(path)? else { return Ok(Vec::new()) };
        let within = self.archive.inside(real.as_bytes());
        let names = within.filter_map(|(path, _, _)| {
            let name = path.get(real.len() + 1..)?;
            (!name.contains(&b'/')).then(|| std::str::from_utf8(name).ok().map(str::to_owned))?
        });
        Ok(names.collect())
    }

    /// The text of a file, if it is there.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(real) = self.real(path)? else { return Ok(None) };
        let bytes = match self.file(&real) {
            Some(Content::File { size, .. }) if *size > MOST => {
                return Err(Error::invalid(format!("it has {size} bytes, and {MOST} are the most")));
            }
            Some(Content::File { path, .. }) => read(path)?,
            Some(Content::Bytes(bytes)) => bytes.clone(),
            _ => return Err(Error::invalid("it is no file")),
        };
        String::from_utf8(bytes).map(Some).map_err(|_| Error::invalid("it is no text in UTF-8"))
    }

    /// What is at a real path; a further name of a file is that file.
    fn file(&self, real: &str) -> Option<&'a Content> {
        match self.archive.get(real)?.1 {
            Content::HardLink(first) => self.archive.get(first).map(|(_, content)| content),
            content => Some(content),
        }
    }
}

/// A file of an applied layer. Whatever it has become meanwhile, no link is followed and nothing is waited for.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut options = File::options();
    let options = options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = options.open(path).context(|| format!("open({path:?})"))?;
    let mut out = Vec::new();
    file.take(MOST).read_to_end(&mut out).context(|| format!("read({path:?})"))?;
    Ok(out)
}

/// Does a layer change what is at one of these paths, or the way to it?
pub(super) fn touches(layer: &Archive, places: &[&str]) -> bool {
    layer.paths().any(|path| {
        // What is deleted has a name of its own there.
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = name.strip_prefix(b".wh.").unwrap_or(name);
        let deleted = path.file_name().is_some_and(|n| n.as_bytes().starts_with(b".wh."));
        let at = path.with_file_name(OsStr::from_bytes(name));
        let is_dir = !deleted && matches!(layer.get(path), Some((_, Content::Dir)));
        places.iter().any(|place| at.starts_with(place) || !is_dir && Path::new(place).starts_with(&at))
    })
}

#[cfg(test)]
mod tests {
    use coracle_store::layer::pack::Meta;

    use super::*;

    fn archive(all: &[(&str, Content)]) -> Archive {
        let mut out = Archive::new();
        all.iter().for_each(|(path, content)| out.put(path, Meta::new(0o644), content.clone()).unwrap());
        out
    }

    #[test]
    fn links_lead_within_the_image_and_come_to_an_end() {
        let link = |to: &str| Content::Symlink(to.into());
        let text = |text: &str| Content::Bytes(text.into());
        let all = archive(&[
            ("lib", link("usr/lib")),
            ("usr", Content::Dir),
            ("usr/lib", Content::Dir),
            ("usr/lib/file", text("of the image")),
            ("up", link("../../../../usr/lib/file")),
            ("abs", link("/lib/file")),
            ("round", link("round")),
            ("binary", Content::Bytes(vec![0xff])),
            ("fifo", Content::Fifo),
        ]);
        let tree = Tree::new(&all);
        for path in ["lib/file", "up", "abs", "usr/./lib//file"] {
            assert_eq!(tree.text(path).unwrap().as_deref(), Some("of the image"), "{path}");
        }
        assert_eq!(tree.names("lib").unwrap(), ["file"]);
        assert_eq!(tree.text("usr/lib/file/x").unwrap(), None);
        assert_eq!(tree.text("nothing").unwrap(), None);
        for (path, says) in
            [("round", "too many links"), ("binary", "UTF-8"), ("fifo", "no file"), ("usr", "no file")]
        {
            let e = tree.text(path).unwrap_err().to_string();
            assert!(e.contains(says), "{path}: {e}");
        }
    }

    #[test]
    fn a_layer_changes_a_database_also_by_what_it_does_on_the_way_to_it() {
        for (path, content, expected) in [
            ("var/lib/dpkg/status", Content::Fifo, true),
            ("var/lib/dpkg/status/x", Content::Fifo, true),
            ("var/lib", Content::Dir, false),
            ("var/lib", Content::Fifo, true),
            ("var/.wh.lib", Content::Fifo, true),
            ("var/lib/dpkg/status-old", Content::Fifo, false),
        ] {
            let layer = archive(&[(path, content)]);
            assert_eq!(touches(&layer, &["var/lib/dpkg/status"]), expected, "{path}");
        }
    }
}
