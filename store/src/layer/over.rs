//! A layer in the making meets the layers below. Who writes `lib/x` means the directory that `lib` leads to, and
//! leaves it as it is: a layer says nothing of directories that it only goes through. Only what lies on the way is
//! looked at, and nothing is touched.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_sys::{Error, Result};

use super::Marks;
use super::below::{Below, Found};
use super::pack::{Archive, Content, Meta};
use super::tree::split;

/// Links on the way to one directory.
const MAX_LINKS: usize = 40;

/// Entries by their paths.
type Entries = BTreeMap<Vec<u8>, (Meta, Content)>;

/// The layer, over those below it.
struct Stack<'a> {
    own: &'a Entries,
    below: &'a Below,
}

impl Archive {
    /// Go where the links of what is below and of the layer itself lead, and add every directory on the way that is
    /// missing, as it is below; where there is none, root's and 0755. So the layer stands alone, and what extracts it
    /// needs no link of it. `trees` are those of [`crate::Store::stack_paths`].
    pub fn put_parents_over(&mut self, trees: &[PathBuf], marks: Marks) -> Result<()> {
        let below = Below::open(trees, marks)?;
        // What has moved can be a link that leads others elsewhere.
        for _ in 0..MAX_LINKS {
            let moved = Stack { own: &self.entries, below: &below }.moved()?;
            if moved == self.entries {
                break;
            }
            self.entries = moved;
        }
        for path in self.missing_parents() {
            let meta = match below.at(&path)? {
                Some(Found::Dir(meta)) => meta,
                _ => Meta::new(0o755),
            };
            self.entries.insert(path, (meta, Content::Dir));
        }
        Ok(())
    }
}

impl Stack<'_> {
    /// All entries where links lead them. Where two meet, the one that was named by way of a link is what a recipe
    /// typed, and stays; but directories are as their own path says.
    fn moved(&self) -> Result<Entries> {
        let mut all = Entries::new();
        let mut led = Vec::new();
        for (path, (meta, content)) in self.own {
            let content = match content {
                Content::HardLink(to) => {
                    let to = self.place(to.as_os_str().as_bytes())?;
                    Content::HardLink(PathBuf::from(OsStr::from_bytes(&to)))
                }
                other => other.clone(),
            };
            let (to, entry) = (self.place(path)?, (meta.clone(), content));
            if to == *path {
                all.insert(to, entry);
            } else {
                led.push((to, entry));
            }
        }
        for (to, entry) in led {
            if entry.1 != Content::Dir || !all.contains_key(&to) {
                all.insert(to, entry);
            }
        }
        Ok(all)
    }

    fn place(&self, path: &[u8]) -> Result<Vec<u8>> {
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        Ok([&self.lead(&path[..at])?, &path[at..]].concat())
    }

    fn at(&self, path: &[u8]) -> Result<Option<Found>> {
        match self.own.get(path) {
            Some((meta, Content::Dir)) => Ok(Some(Found::Dir(meta.clone()))),
            Some((_, Content::Symlink(to))) => Ok(Some(Found::Link(to.as_bytes().to_vec()))),
            Some(_) => Ok(Some(Found::Other)),
            None => self.below.at(path),
        }
    }

    /// Where a directory is, with a slash at its end; the root is nothing. A link below that leads to no directory is
    /// replaced by one. One of the layer itself is meant as it is: where it leads a directory is made.
    fn lead(&self, dir: &[u8]) -> Result<Vec<u8>> {
        let mut at: Vec<u8> = Vec::new();
        for name in split(dir).into_iter().rev() {
            let path = [&at[..], &name].concat();
            let own = self.own.contains_key(&path);
            let to = match self.at(&path)? {
                Some(Found::Link(_)) => self.follow(&path, own)?,
                Some(Found::Other) => None,
                _ => Some([&path[..], b"/"].concat()),
            };
            at = match to {
                Some(to) => to,
                None if own => {
                    let show = String::from_utf8_lossy;
                    return Err(Error::invalid(format!(
                        "put {:?} into the layer: its {:?} is no directory and leads to none",
                        show(dir.strip_suffix(b"/").unwrap_or(dir)),
                        show(&path)
                    )));
                }
                None => [&path[..], b"/"].concat(),
            };
        }
        Ok(at)
    }

    /// The directory that a path leads to, links followed; none where there is no directory and none can be `made`.
    fn follow(&self, path: &[u8], made: bool) -> Result<Option<Vec<u8>>> {
        let mut todo = split(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                at.pop();
                at.truncate(at.iter().rposition(|b| *b == b'/').map_or(0, |end| end + 1));
                continue;
            }
            let path = [&at[..], &name].concat();
            match self.at(&path)? {
                Some(Found::Dir(_)) => at = [&path[..], b"/"].concat(),
                Some(Found::Link(to)) if links < MAX_LINKS => {
                    links += 1;
                    if to.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(split(&to));
                }
                None if made => at = [&path[..], b"/"].concat(),
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use coracle_sys::file;

    use super::*;
    use crate::layer::owners;
    use crate::layer::unpack::{Options, unpack};

    fn archive(entries: &[(&str, u32, Content)]) -> Archive {
        let mut out = Archive::new();
        for (path, mode, content) in entries {
            out.put(path, Meta::new(*mode), content.clone()).unwrap();
        }
        out
    }

    #[test]
    fn what_is_put_behind_a_link_goes_where_it_leads_and_its_directories_stay_as_they_are() {
        let link = |to: &str| Content::Symlink(to.into());
        let file = || Content::Bytes(Vec::new());
        let dir = std::env::temp_dir().join(file::unique_name("coracle-over-"));
        let tree = dir.join(super::super::key::TREE);
        std::fs::create_dir_all(&tree).unwrap();
        let mut tar = Vec::new();
        let below = archive(&[
            ("tmp", 0o1777, Content::Dir),
            ("usr", 0o755, Content::Dir),
            ("usr/lib", 0o751, Content::Dir),
            ("lib", 0o777, link("usr/lib")),
            ("srv", 0o777, link("/usr/../tmp")),
            ("far", 0o777, link("srv")),
            ("out", 0o777, link("../../../usr")),
            ("up", 0o777, link("..")),
            ("nowhere", 0o777, link("none/at/all")),
            ("loop", 0o777, link("loop")),
            ("file", 0o644, file()),
            ("to-file", 0o777, link("file")),
        ]);
        below.write(&mut tar).unwrap();
        let options = Options::of_this_process();
        let root = file::open_dir(&tree).unwrap();
        let applied = unpack(&tar[..], root, Vec::new().into(), Vec::new(), options).unwrap();
        owners::write(&dir, &applied.owners).unwrap();
        let over = |layer: &mut Archive| {
            layer.put_parents_over(std::slice::from_ref(&tree), options.marks).unwrap();
        };
        for (path, dirs) in [
            ("tmp/x", "tmp 1777"),
            ("lib/x", "usr 755, usr/lib 751"),
            ("lib/new/x", "usr 755, usr/lib 751, usr/lib/new 755"),
            ("srv/x", "tmp 1777"),
            ("far/x", "tmp 1777"),
            ("out/lib/x", "usr 755, usr/lib 751"),
            ("up/x", ""),
            ("nowhere/x", "nowhere 755"),
            ("loop/x", "loop 755"),
            ("file/x", "file 755"),
            ("to-file/x", "to-file 755"),
            ("new/x", "new 755"),
            ("lib", ""),
        ] {
            let mut layer = archive(&[(path, 0o644, file())]);
            over(&mut layer);
            let all = layer.entries.iter().filter(|(_, (_, c))| *c == Content::Dir);
            let all = all.map(|(p, (m, _))| format!("{} {:o}", String::from_utf8_lossy(p), m.mode));
            assert_eq!(all.collect::<Vec<_>>().join(", "), dirs, "{path}");
        }
        // What the layer itself says of a directory holds, and a hard link follows its target.
        let mut layer = archive(&[
            ("lib", 0o700, Content::Dir),
            ("lib/x", 0o644, file()),
            ("far/x", 0o644, file()),
            ("y", 0o644, Content::HardLink("far/x".into())),
        ]);
        over(&mut layer);
        assert_eq!(layer.get("lib").map(|(m, c)| (m.mode, c)), Some((0o700, &Content::Dir)));
        assert!(layer.get("lib/x").is_some() && layer.get("tmp/x").is_some());
        assert_eq!(layer.get("y").unwrap().1, &Content::HardLink("tmp/x".into()));
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn what_is_put_behind_a_link_of_the_layer_itself_is_written_where_that_leads() {
        let link = |to: &str| Content::Symlink(to.into());
        let file = |text: &str| Content::Bytes(text.into());
        let over = |entries: &[(&str, u32, Content)]| {
            let mut layer = archive(entries);
            layer.put_parents_over(&[], Options::of_this_process().marks).map(|()| layer)
        };
        let layer = over(&[
            ("bin", 0o777, link("usr/bin")),
            ("bin/[", 0o777, link("busybox")),
            ("bin/sub", 0o777, link("/opt")),
            ("bin/sub/x", 0o644, file("x")),
            ("bin/sh", 0o644, file("typed")),
            ("usr/bin/sh", 0o644, file("found")),
            ("usr/bin", 0o711, Content::Dir),
            ("bin/hard", 0o644, Content::HardLink("bin/sh".into())),
        ])
        .unwrap();
        let mut paths: Vec<String> = layer.paths().map(|p| p.display().to_string()).collect();
        let wanted = "bin opt opt/x usr usr/bin usr/bin/[ usr/bin/hard usr/bin/sh usr/bin/sub";
        paths.sort();
        assert_eq!(paths.join(" "), wanted);
        assert_eq!(layer.get("usr/bin").unwrap().0.mode, 0o711);
        assert_eq!(layer.get("usr/bin/sh").unwrap().1, &file("typed"));
        assert_eq!(layer.get("usr/bin/hard").unwrap().1, &Content::HardLink("usr/bin/sh".into()));
        for (entries, says) in [
            ([("a", 0o777, link("a")), ("a/x", 0o644, file(""))], "\"a\" is no directory"),
            ([("f", 0o644, file("")), ("f/x", 0o644, file(""))], "\"f\" is no directory"),
        ] {
            let e = over(&entries).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
