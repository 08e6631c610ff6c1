//! A stack of layers as one archive: what a container would see, without whiteouts.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_sys::Result;

use super::Marks;
use super::pack::{Archive, Content, FromDir, Meta};
use super::whiteout::{self, Meaning};

type Entries = std::collections::BTreeMap<Vec<u8>, (Meta, Content)>;

impl Archive {
    /// What applied layers amount to, bottom first, each one of [`crate::Store::stack_paths`].
    pub fn of_stack(trees: &[PathBuf], marks: Marks, how: FromDir) -> Result<Self> {
        let mut out = Self::new();
        for tree in trees {
            let mut layer = Self::new();
            layer.put_layer(tree, marks, how)?;
            out.warnings.append(&mut layer.warnings);
            stack(&mut out.entries, layer.entries)?;
        }
        Ok(out)
    }

    /// Put a layer on top, as [`Archive::of_stack`] does.
    pub fn stack(&mut self, layer: Self) -> Result<()> {
        self.warnings.extend(layer.warnings);
        stack(&mut self.entries, layer.entries)
    }

    /// The bytes of all files together.
    pub fn size(&self) -> u64 {
        let size = |content: &Content| match content {
            Content::File { size, .. } => *size,
            Content::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.entries.values().map(|(_, content)| size(content)).sum()
    }
}

/// Put a layer on top.
fn stack(below: &mut Entries, layer: Entries) -> Result<()> {
    let mut links = links_of(below);
    let mut rest = Vec::new();
    // What the layer hides goes first, wherever that is said.
    for (path, entry) in layer {
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        match whiteout::read(&path[at..])? {
            Meaning::Name => rest.push((path, entry)),
            Meaning::Nothing => {}
            Meaning::Gone(name) => take_away(below, &mut links, &[&path[..at], name].concat(), true),
            Meaning::Opaque => take_away(below, &mut links, &path[..at.saturating_sub(1)], false),
        }
    }
    for (path, entry) in rest {
        let both = |old: &(Meta, Content)| old.1 == Content::Dir && entry.1 == Content::Dir;
        if below.get(&path).is_some_and(|old| !both(old)) {
            take_away(below, &mut links, &path, true);
        }
        below.insert(path, entry);
    }
    Ok(())
}

/// Which entries are other names of which.
fn links_of(entries: &Entries) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut out: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for (path, (_, content)) in entries {
        if let Content::HardLink(target) = content {
            out.entry(target.as_os_str().as_bytes().to_vec()).or_default().push(path.clone());
        }
    }
    out
}

/// Take a path away, or what is below it alone. A file that has other names stays under them.
fn take_away(entries: &mut Entries, links: &mut HashMap<Vec<u8>, Vec<Vec<u8>>>, path: &[u8], itself: bool) {
    let start = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
    let inside = |p: &Vec<u8>| !p.is_empty() && p.starts_with(&start) && p != path;
    let mut gone: Vec<Vec<u8>> = entries
        .range(start.clone()..)
        .map(|(p, _)| p)
        .take_while(|p| p.starts_with(&start))
        .filter(|p| inside(p))
        .cloned()
        .collect();
    if itself {
        gone.push(path.to_vec());
    }
    let taken: HashMap<Vec<u8>, (Meta, Content)> =
        gone.into_iter().filter_map(|p| entries.remove(&p).map(|e| (p, e))).collect();
    for (path, entry) in taken {
        let Some(names) = links.remove(&path) else { continue };
        let mut names = names.into_iter().filter(|n| entries.contains_key(n));
        let Some(first) = names.next() else { continue };
        let others: Vec<Vec<u8>> = names.collect();
        for other in &others {
            if let Some((_, content)) = entries.get_mut(other) {
                *content = Content::HardLink(PathBuf::from(OsStr::from_bytes(&first)));
            }
        }
        entries.insert(first.clone(), entry);
        links.insert(first, others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, Content)]) -> Entries {
        let mut archive = Archive::new();
        for (path, content) in entries {
            archive.put(path, Meta::new(0o644), content.clone()).unwrap();
        }
        archive.entries
    }

    #[test]
    fn what_is_hidden_or_replaced_goes_and_other_names_of_it_stay() {
        let file = |text: &str| Content::Bytes(text.into());
        let mut out = layer(&[
            ("a", file("a")),
            ("b", Content::HardLink("a".into())),
            ("c", Content::HardLink("a".into())),
            ("d", Content::Dir),
            ("d/x", file("x")),
            ("d.e", file("e")),
            ("o", Content::Dir),
            ("o/old", file("old")),
            ("t", Content::Dir),
            ("t/in", file("in")),
        ]);
        stack(
            &mut out,
            layer(&[
                (".wh.a", file("")),
                (".wh.d", file("")),
                ("o", Content::Dir),
                ("o/.wh..wh..opq", file("")),
                ("o/new", file("new")),
                ("t", file("a file now")),
            ]),
        )
        .unwrap();
        let names: Vec<String> = out.keys().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        assert_eq!(names, ["b", "c", "d.e", "o", "o/new", "t"]);
        assert_eq!(out[&b"b"[..]].1, file("a"));
        assert_eq!(out[&b"c"[..]].1, Content::HardLink("b".into()));
    }
}
