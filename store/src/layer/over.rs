//! A layer in the making meets the layers below. Who writes `lib/x` means the directory that `lib` leads to, and
//! leaves it as it is: a layer says nothing of directories that it only goes through. Only what lies on the way is
//! looked at, and nothing is touched.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_sys::Result;

use super::Marks;
use super::below::{Below, Found};
use super::pack::{Archive, Content, Meta};
use super::tree::split;

impl Archive {
    /// Go where the links of what is below lead, and add every directory on the way that is missing, as it is
    /// below; where there is none, root's and 0755. So the layer stands alone. `trees` are those of
    /// [`crate::Store::stack_paths`].
    pub fn put_parents_over(&mut self, trees: &[PathBuf], marks: Marks) -> Result<()> {
        let below = Below::open(trees, marks)?;
        let entries = std::mem::take(&mut self.entries);
        let own = |dir: &[u8]| entries.contains_key(dir);
        let moved = |path: &[u8]| -> Result<Vec<u8>> {
            let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            Ok([&below.lead(&path[..at], own)?, &path[at..]].concat())
        };
        for (path, (meta, content)) in &entries {
            let content = match content {
                Content::HardLink(to) => {
                    let to = moved(to.as_os_str().as_bytes())?;
                    Content::HardLink(PathBuf::from(OsStr::from_bytes(&to)))
                }
                other => other.clone(),
            };
            self.entries.insert(moved(path)?, (meta.clone(), content));
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

impl Below {
    /// Where a directory is, with a slash at its end; the root is nothing. What the layer itself has on the way is
    /// what it says, and a link that leads to no directory is replaced by one.
    fn lead(&self, dir: &[u8], own: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let mut at: Vec<u8> = Vec::new();
        for name in split(dir).into_iter().rev() {
            let path = [&at[..], &name].concat();
            let link = !own(&path) && matches!(self.at(&path)?, Some(Found::Link(_)));
            let to = if link { self.follow(&path)? } else { None };
            at = to.unwrap_or_else(|| [&path[..], b"/"].concat());
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::owners;
    use crate::layer::unpack::{Options, unpack};
    use coracle_sys::file;

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
}
