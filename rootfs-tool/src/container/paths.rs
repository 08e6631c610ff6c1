//! Where a copy goes, as docker has it: what a slash or a dot at a path's end says, what becomes of a name that is there
//! already, and under which name a thing arrives. Words alone: nothing is looked at.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Context, Error, Result};

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A tar on a standard stream.
    Stream,
    /// A path of the host.
    Local(String),
    /// A container, and a path in it.
    Container(String, String),
}

impl Side {
    /// `NAME:PATH` is in a container, unless it begins as a path does.
    pub(crate) fn of(typed: &str) -> Self {
        match typed.split_once(':') {
            _ if typed == "-" => Self::Stream,
            Some((name, path)) if !name.starts_with(['/', '.']) => Self::Container(name.into(), path.into()),
            _ => Self::Local(typed.into()),
        }
    }
}

/// The path from `here` on without `.`, `..` and empty names, but with the slash or the dot at its end.
pub(crate) fn absolute(here: &Path, typed: &str) -> String {
    let clean = clean(&here.join(typed));
    keep_end(clean.to_string_lossy().into_owned(), typed)
}

/// From the root on, `.` and `..` taken away as words.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut all = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => all.push(name),
            Component::ParentDir => drop(all.pop()),
            _ => {}
        }
    }
    all
}

fn keep_end(mut clean: String, typed: &str) -> String {
    if !is_dot(&clean) && is_dot(typed) {
        if !clean.ends_with('/') {
            clean.push('/');
        }
        clean.push('.');
    }
    if !clean.ends_with('/') && typed.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// The last name; `.` of nothing, `/` of the root.
pub(crate) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        rest => rest.rsplit('/').next().unwrap_or(rest),
    }
}

fn is_dot(path: &str) -> bool {
    base(path) == "."
}

/// Does it say that it is a directory?
pub(crate) fn says_directory(path: &str) -> bool {
    path.ends_with('/') || is_dot(path)
}

/// The directory that a path is in, and its name there. `dir/.` is `.` in `dir`.
pub(crate) fn split(path: &str) -> (PathBuf, String) {
    let whole = clean(Path::new(path));
    if is_dot(path) {
        return (whole, ".".into());
    }
    let name = whole.file_name().map_or_else(|| "/".into(), |n| n.to_string_lossy().into_owned());
    (whole.parent().unwrap_or(Path::new("/")).to_owned(), name)
}

/// A link's target in the place of the link; the name that was asked for, where that is another.
pub(crate) fn rebase(typed: &str, target: String) -> (String, Option<String>) {
    let target = keep_end(target, typed);
    let name = base(typed);
    let other = (name != base(&target)).then(|| name.to_owned());
    (target, other)
}

/// What is copied.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The name that the archive's entries begin with.
    pub(crate) name: String,
    /// The name that was asked for, where that is another.
    pub(crate) asked: Option<String>,
    pub(crate) is_dir: bool,
}

impl Source {
    /// Tell the other side of a pipe.
    pub(crate) fn write(&self, mut to: impl Write) -> Result<()> {
        let kind = if self.is_dir { "d" } else { "f" };
        let asked = self.asked.as_deref().unwrap_or_default();
        to.write_all(format!("{kind}\0{}\0{asked}\0", self.name).as_bytes()).context(|| "write(pipe)")
    }

    /// What the other side has told.
    pub(crate) fn read(from: &mut impl Read) -> Result<Self> {
        let mut word = || -> Result<String> {
            let (mut word, mut byte) = (Vec::new(), [0]);
            loop {
                // A byte at a time: what follows is the archive's.
                from.read_exact(&mut byte).context(|| "read(pipe)")?;
                match byte[0] {
                    0 => return String::from_utf8(word).map_err(|e| Error::invalid(e.to_string())),
                    other => word.push(other),
                }
            }
        };
        let (kind, name, asked) = (word()?, word()?, word()?);
        Ok(Self { name, asked: Some(asked).filter(|a| !a.is_empty()), is_dir: kind == "d" })
    }
}

/// Where it goes, links at its end followed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) path: String,
    /// Whether it is a directory, if it is there.
    pub(crate) is_dir: Option<bool>,
}

/// Where the archive is unpacked, and under which name its first component arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    pub(crate) dir: PathBuf,
    pub(crate) rename: Option<(String, String)>,
}

/// Docker's table of what is there and what comes.
pub(crate) fn land(source: &Source, target: &Target) -> Result<Landing> {
    let (dir, name) = split(&target.path);
    let own = match &source.asked {
        Some(asked) if target.is_dir == Some(true) => Some((source.name.clone(), asked.clone())),
        _ => None,
    };
    match (target.is_dir, source.is_dir) {
        (Some(true), _) => Ok(Landing { dir: clean(Path::new(&target.path)), rename: own }),
        (Some(false), true) => Err(Error::invalid("cannot copy directory")),
        (None, false) if says_directory(&target.path) => Err(Error::not_found("no such directory")),
        _ => Ok(Landing { dir, rename: Some((source.name.clone(), name)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_told_from_a_path_as_docker_does() {
        let inside = |name: &str, path: &str| Side::Container(name.into(), path.into());
        assert_eq!(Side::of("c:/x"), inside("c", "/x"));
        assert_eq!(Side::of("c:x:y"), inside("c", "x:y"));
        assert_eq!(Side::of("c:"), inside("c", ""));
        for local in ["./c:x", "/c:x", "x", ".c:x", "../c:x"] {
            assert_eq!(Side::of(local), Side::Local(local.into()));
        }
        assert_eq!(Side::of("-"), Side::Stream);
    }

    #[test]
    fn a_path_keeps_what_its_end_says() {
        let root = Path::new("/");
        for (typed, expected) in [
            ("", "/."),
            ("/", "/"),
            (".", "/."),
            ("a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a/b/.", "/a/b/."),
            ("/a/b/..", "/a"),
            ("../../a", "/a"),
            ("/a//b/./", "/a/b/./"),
            ("//a", "/a"),
        ] {
            assert_eq!(absolute(root, typed), expected, "{typed:?}");
        }
        assert_eq!(absolute(Path::new("/w"), "x/"), "/w/x/");
        assert_eq!(absolute(Path::new("/w"), "/x"), "/x");
        for (path, dir, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("/a", "/", "a"),
        ] {
            assert_eq!(split(path), (dir.into(), name.into()), "{path}");
        }
    }

    #[test]
    fn a_thing_lands_where_docker_would_put_it() {
        let source = |name: &str, is_dir| Source { name: name.into(), asked: None, is_dir };
        let target = |path: &str, is_dir| Target { path: path.into(), is_dir };
        let landing = |source: &Source, target: &Target| {
            land(source, target).map(|l| (l.dir.display().to_string(), l.rename)).map_err(|e| e.to_string())
        };
        let renamed = |dir: &str, from: &str, to: &str| Ok((dir.to_owned(), Some((from.into(), to.into()))));
        let (d, dot, f) = (source("d", true), source(".", true), source("f", false));
        assert_eq!(landing(&d, &target("/t/dir", Some(true))), Ok(("/t/dir".into(), None)));
        assert_eq!(landing(&dot, &target("/t/dir/", Some(true))), Ok(("/t/dir".into(), None)));
        assert_eq!(landing(&d, &target("/t/new", None)), renamed("/t", "d", "new"));
        assert_eq!(landing(&dot, &target("/t/new/", None)), renamed("/t", ".", "new"));
        assert_eq!(landing(&f, &target("/t/new", None)), renamed("/t", "f", "new"));
        assert_eq!(landing(&f, &target("/t/file", Some(false))), renamed("/t", "f", "file"));
        assert_eq!(landing(&f, &target("/t/new/", None)), Err("no such directory".into()));
        assert_eq!(landing(&f, &target("/t/new/.", None)), Err("no such directory".into()));
        assert_eq!(landing(&d, &target("/t/file", Some(false))), Err("cannot copy directory".into()));
        let link = Source { asked: Some("link".into()), ..source("d", true) };
        assert_eq!(landing(&link, &target("/t", Some(true))), renamed("/t", "d", "link"));
        assert_eq!(landing(&link, &target("/t/new", None)), renamed("/t", "d", "new"));
        assert_eq!(rebase("/s/link/", "/x/d".into()), ("/x/d/".into(), Some("link".into())));
        assert_eq!(rebase("/s/d", "/x/d".into()), ("/x/d".into(), None));
        assert_eq!(rebase("/s/link/.", "/x/d".into()), ("/x/d/.".into(), None));
    }
}
