//! What a container has changed, told by comparing what it sees with what its image holds, as docker does: by type,
//! owner, mode, device, size, time and capabilities. No content is read.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::Result;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Changed,
    Deleted,
}

impl Change {
    /// Docker's letter.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

type Entry<'a> = Option<(&'a Meta, &'a Content)>;

/// What differs, a directory before what is in it. Directories on the way to a change are changed; of what was deleted
/// only the top is told. `owners` that the disk does not hold are not compared.
pub(crate) fn changes(before: &Archive, after: &Archive, owners: bool) -> Vec<(Change, PathBuf)> {
    let mut out: Vec<(Change, PathBuf)> = Vec::new();
    let mut add = |change, path: &Path| {
        for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            // A parent that is not in both is told for itself.
            if both_directories(before.get(parent), after.get(parent)) {
                out.push((Change::Changed, parent.to_owned()));
            }
        }
        out.push((change, path.to_owned()));
    };
    let named = |path: &&Path| !path.as_os_str().is_empty();
    for path in after.paths().filter(named) {
        match (before.get(path), after.get(path)) {
            (None, _) => add(Change::Added, path),
            (old, new) if differs(before, old, after, new, owners) => add(Change::Changed, path),
            _ => {}
        }
    }
    for path in before.paths().filter(named).filter(|p| after.get(p).is_none()) {
        // What was in a directory that is gone, or is none any more, went with it.
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() || after.get(parent).is_some_and(|(_, c)| *c == Content::Dir) {
            add(Change::Deleted, path);
        }
    }
    coracle_sys::order::sort_by(&mut out, |a, b| order(&a.1, &b.1));
    out.dedup_by(|a, b| a.1 == b.1);
    out
}

/// The order of the components, so that a directory stands right before what is in it.
fn order(a: &Path, b: &Path) -> std::cmp::Ordering {
    fn parts(p: &Path) -> impl Iterator<Item = &[u8]> {
        p.iter().map(|c| c.as_bytes())
    }
    parts(a).cmp(parts(b))
}

fn both_directories(old: Entry<'_>, new: Entry<'_>) -> bool {
    let is_dir = |e: Entry<'_>| e.is_some_and(|(_, content)| *content == Content::Dir);
    is_dir(old) && is_dir(new)
}

fn differs(before: &Archive, old: Entry<'_>, after: &Archive, new: Entry<'_>, owners: bool) -> bool {
    let (Some((was, a)), Some((is, b))) = (old, new) else { return old.is_some() != new.is_some() };
    let (a, b) = (real(before, a), real(after, b));
    let same_kind = std::mem::discriminant(a) == std::mem::discriminant(b)
        || matches!(
            (a, b),
            (Content::File { .. } | Content::Bytes(_), Content::File { .. } | Content::Bytes(_))
        );
    let capability = |m: &Meta| m.xattrs.get(&b"security.capability"[..]).cloned();
    if !same_kind
        || was.mode != is.mode
        || owners && (was.uid, was.gid) != (is.uid, is.gid)
        || capability(was) != capability(is)
    {
        return true;
    }
    match (a, b) {
        (Content::Dir, _) => false,
        (Content::Char(..) | Content::Block(..), _) => a != b,
        (Content::Symlink(to), Content::Symlink(other)) => to != other || !same_time(was.mtime, is.mtime),
        _ => size(a) != size(b) || !same_time(was.mtime, is.mtime),
    }
}

/// The file that another name stands for.
fn real<'a>(archive: &'a Archive, content: &'a Content) -> &'a Content {
    match content {
        Content::HardLink(to) => archive.get(to).map_or(content, |(_, content)| content),
        _ => content,
    }
}

/// An archive may keep whole seconds alone.
fn same_time(a: (i64, u32), b: (i64, u32)) -> bool {
    a.0 == b.0 && (a.1 == b.1 || a.1 == 0 || b.1 == 0)
}

fn size(content: &Content) -> u64 {
    match content {
        Content::File { size, .. } => *size,
        Content::Bytes(bytes) => bytes.len() as u64,
        _ => 0,
    }
}

/// What differs, as a layer over `before`.
pub(crate) fn layer(before: &Archive, after: &Archive, owners: bool) -> Result<Archive> {
    let mut out = Archive::new();
    let all = changes(before, after, owners);
    for (change, path) in &all {
        match (change, after.get(path)) {
            (Change::Deleted, _) => out.whiteout(path)?,
            (_, Some((meta, content))) => out.put(path, meta.clone(), content.clone())?,
            (_, None) => {}
        }
    }
    // Another name of a file that the layer has not got is that file.
    let alone: Vec<(PathBuf, Meta, Content)> = out
        .paths()
        .filter_map(|path| match out.get(path) {
            Some((meta, Content::HardLink(to))) if out.get(to).is_none() => {
                Some((path.to_owned(), meta.clone(), real(after, &Content::HardLink(to.clone())).clone()))
            }
            _ => None,
        })
        .collect();
    for (path, meta, content) in alone {
        out.put(path, meta, content)?;
    }
    Ok(out)
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
    fn changes_are_told_as_docker_tells_them() {
        let file = |text: &str| Content::Bytes(text.into());
        let dir = || (0o755, Content::Dir);
        let with = |path, (mode, content)| (path, mode, content);
        let before = archive(&[
            with("a", dir()),
            with("a/b", dir()),
            with("a/b/f", (0o644, file("1"))),
            with("a/b/g", (0o644, file("2"))),
            with("a-b", (0o644, file("x"))),
            with("del", dir()),
            with("del/in", dir()),
            with("del/in/x", (0o644, file("x"))),
            with("keep", dir()),
            with("keep/hard", (0o644, Content::HardLink("a/b/f".into()))),
            with("op", dir()),
            with("op/old", (0o644, file(""))),
            with("tofile", (0o644, file(""))),
            with("todir", dir()),
            with("todir/x", (0o644, file(""))),
        ]);
        let after = archive(&[
            with("a", dir()),
            with("a/b", dir()),
            with("a/b/f", (0o644, file("1more"))),
            with("a-b", (0o644, file("x"))),
            with("keep", (0o700, Content::Dir)),
            with("keep/hard", (0o644, file("1"))),
            with("new", dir()),
            with("new/deep", dir()),
            with("op", dir()),
            with("op/new", (0o644, file(""))),
            with("tofile", (0o755, Content::Dir)),
            with("tofile/in", (0o644, file(""))),
            with("todir", (0o644, file(""))),
        ]);
        let told: Vec<String> = changes(&before, &after, true)
            .iter()
            .map(|(change, path)| format!("{} /{}", change.letter(), path.display()))
            .collect();
        let expected = "C /a|C /a/b|C /a/b/f|D /a/b/g|D /del|C /keep|A /new|A /new/deep|C /op|A /op/new|D /op/old|\
             C /todir|C /tofile|A /tofile/in";
        assert_eq!(told.join("|"), expected);
        let mut whole = before.clone();
        whole.stack(layer(&before, &after, true).unwrap()).unwrap();
        assert_eq!(changes(&whole, &after, true), []);
        assert_eq!(whole.len(), after.len());
    }
}
