//! A layer in the making meets the layers below. Who writes `lib/x` means the directory that `lib` leads to, and
//! leaves it as it is: a layer says nothing of directories that it only goes through. It decides that by the entries
//! alone, and touches no file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::pack::{Archive, Content, Meta};
use super::tree::split;

/// Links on the way to one directory.
const MAX_LINKS: usize = 40;

impl Archive {
    /// Go where the links of what is below lead, and add every directory on the way that is missing, as it is
    /// below; where there is none, root's and 0755. So the layer stands alone.
    pub fn put_parents_over(&mut self, below: &Archive) {
        let entries = std::mem::take(&mut self.entries);
        let moved = |path: &[u8]| -> Vec<u8> {
            let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            let own = |dir: &[u8]| entries.contains_key(dir);
            [&lead(&path[..at], own, below), &path[at..]].concat()
        };
        let mut out = Vec::with_capacity(entries.len());
        for (path, (meta, content)) in &entries {
            let content = match content {
                Content::HardLink(to) => {
                    let to = moved(to.as_os_str().as_bytes());
                    Content::HardLink(PathBuf::from(OsStr::from_bytes(&to)))
                }
                other => other.clone(),
            };
            out.push((moved(path), (meta.clone(), content)));
        }
        self.entries.extend(out);
        for path in self.missing_parents() {
            let meta = match below.entries.get(&path) {
                Some((meta, Content::Dir)) => meta.clone(),
                _ => Meta::new(0o755),
            };
            self.entries.insert(path, (meta, Content::Dir));
        }
    }
}

/// Where a directory is, with a slash at its end; the root is nothing. What the layer itself has on the way is what
/// it says, and a link that leads to no directory is replaced by one.
fn lead(dir: &[u8], own: impl Fn(&[u8]) -> bool, below: &Archive) -> Vec<u8> {
    let mut at: Vec<u8> = Vec::new();
    for name in split(dir).into_iter().rev() {
        let path = [&at[..], &name].concat();
        let link = !own(&path) && matches!(below.entries.get(&path), Some((_, Content::Symlink(_))));
        at = match link.then(|| follow(&path, below)).flatten() {
            Some(to) => to,
            None => [&path[..], b"/"].concat(),
        };
    }
    at
}

/// The directory that a path leads to, links followed; none where there is no directory.
fn follow(path: &[u8], below: &Archive) -> Option<Vec<u8>> {
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
        match &below.entries.get(&path)?.1 {
            Content::Dir => at = [&path[..], b"/"].concat(),
            Content::Symlink(to) if links < MAX_LINKS => {
                links += 1;
                let to = to.as_bytes();
                if to.starts_with(b"/") {
                    at.clear();
                }
                todo.extend(split(to));
            }
            _ => return None,
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            layer.put_parents_over(&below);
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
        layer.put_parents_over(&below);
        assert_eq!(layer.get("lib").map(|(m, c)| (m.mode, c)), Some((0o700, &Content::Dir)));
        assert!(layer.get("lib/x").is_some() && layer.get("tmp/x").is_some());
        assert_eq!(layer.get("y").unwrap().1, &Content::HardLink("tmp/x".into()));
    }
}
