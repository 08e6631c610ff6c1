//! `-v`, `--tmpfs` and an image's volumes as mounts of the specification. Nothing is touched: which folders of the
//! host have to be made first is part of the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_sys::{Error, Result, quantity};

use crate::spec::Mount;

/// A path as it is meant in the working directory, which may be gone.
pub(super) fn from(here: &Path, path: &str) -> Result<PathBuf> {
    match here.as_os_str().is_empty() && !path.starts_with('/') {
        true => {
            Err(Error::invalid(format!("{path:?} is relative, and there is no working directory any more")))
        }
        false => Ok(here.join(path)),
    }
}

/// Where the source of a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A path of the host that must exist (`--mount`).
    Host(PathBuf),
    /// A path of the host, made as a folder when it does not exist, as docker does (`-v`).
    HostMade(PathBuf),
    /// A named volume; without a name one of the container's own.
    Volume(Option<String>),
    /// Memory.
    Tmpfs,
}

/// One mount that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) origin: Origin,
    pub(crate) at: PathBuf,
    pub(crate) options: Vec<String>,
    /// A volume that is new begins with what the image has at its place.
    pub(crate) copy: bool,
    /// It is the image that asks.
    pub(crate) of_image: bool,
    /// What is mounted below the source comes with it.
    pub(crate) recursive: bool,
    /// Files of the source's owner are seen as the container's user's, and the other way round.
    pub(crate) own: bool,
    /// What a new volume is made with: labels and the driver's options.
    pub(crate) note: Option<(Words, Words)>,
}

/// Names and values.
pub(crate) type Words = BTreeMap<String, String>;

impl Default for Asked {
    fn default() -> Self {
        let (origin, at, options) = (Origin::Tmpfs, PathBuf::new(), Vec::new());
        Self { origin, at, options, copy: false, of_image: false, recursive: true, own: false, note: None }
    }
}

impl Asked {
    /// As the specification has it, with the folder that its source turned out to be.
    pub(crate) fn mount(&self, source: Option<&Path>) -> Mount {
        let tmpfs = self.origin == Origin::Tmpfs;
        let mut options = self.options.clone();
        let kind = if tmpfs { "tmpfs" } else { "bind" };
        if !tmpfs {
            options.insert(0, if self.recursive { "rbind" } else { "bind" }.to_owned());
        }
        Mount {
            destination: self.at.clone(),
            kind: Some(kind.to_owned()),
            source: Some(source.map_or_else(|| kind.into(), Path::to_path_buf)),
            options,
            ..Mount::default()
        }
    }
}

/// `-v [SOURCE:]PATH[:OPTIONS]`. A source that begins with `.` is one of the host's folders:
/// another with a slash would be made where a typing error points.
pub(crate) fn volume(text: &str, here: &Path) -> Result<Asked> {
    let wrong = |why: &str| Error::usage(format!("-v {text:?}: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, at, options) = match *parts {
        [at] => (None, at, ""),
        [source, at] => (Some(source), at, ""),
        [source, at, options] => (Some(source), at, options),
        _ => return Err(wrong("it is [SOURCE:]PATH[:OPTIONS]")),
    };
    let origin = match source {
        None => Origin::Volume(None),
        Some("") => return Err(wrong("the source is empty")),
        Some(path) if path.starts_with('/') => Origin::HostMade(path.into()),
        Some(path) if path.starts_with("./") || path.starts_with("../") || matches!(path, "." | "..") => {
            Origin::HostMade(from(here, path)?)
        }
        Some(name) => Origin::Volume(Some(volume_name(name).map_err(|e| wrong(&e.to_string()))?)),
    };
    let (mut words, mut copy, mut own) = (Vec::new(), true, false);
    for word in options.split(',').filter(|w| !w.is_empty()) {
        match word {
            "nocopy" if matches!(origin, Origin::Volume(_)) => copy = false,
            "U" => own = true,
            "ro" | "rw" | "rro" | "idmap" | "shared" | "rshared" | "slave" | "rslave" | "private"
            | "rprivate" | "nosuid" | "nodev" | "noexec" | "suid" | "dev" | "exec" => {
                words.push(word.to_owned())
            }
            // A host without SELinux has no labels to change; docker takes the words as well.
            "z" | "Z" if !Path::new("/sys/fs/selinux/enforce").exists() => {}
            // The page cache is one: all three are how a bind mount always is on Linux.
            "cached" | "delegated" | "consistent" => {}
            other => return Err(wrong(&format!("the option {other:?} is unknown or not supported"))),
        }
    }
    let at = target(at).map_err(|e| wrong(&e.to_string()))?;
    Ok(Asked { origin, at, options: propagate(words), copy, own, ..Asked::default() })
}

/// `--tmpfs PATH[:OPTIONS]`.
pub(crate) fn tmpfs(text: &str) -> Result<Asked> {
    let (at, options) = text.split_once(':').unwrap_or((text, ""));
    let at = target(at).map_err(|e| Error::usage(format!("--tmpfs {text:?}: {e}")))?;
    let mut words = Vec::new();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some(("size", size)) => words.push(format!("size={}", quantity::size(size, "--tmpfs size")?)),
            _ => words.push(word.to_owned()),
        }
    }
    Ok(Asked { origin: Origin::Tmpfs, at, options: tmpfs_defaults(words), ..Asked::default() })
}

/// The path of a VOLUME of the image.
pub(crate) fn image_volume(at: &str) -> Result<Asked> {
    let at = target(at).map_err(|e| Error::invalid(format!("the image's volume {at:?}: {e}")))?;
    Ok(Asked {
        origin: Origin::Volume(None),
        at,
        options: propagate(Vec::new()),
        copy: true,
        of_image: true,
        ..Asked::default()
    })
}

/// Docker's: nothing on it is executed or trusted, unless the words say so.
pub(super) fn tmpfs_defaults(words: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    all.extend(words);
    all
}

/// Without a word on it, what is mounted on one side later is not seen on the other.
pub(super) fn propagate(mut words: Vec<String>) -> Vec<String> {
    const WORDS: [&str; 6] = ["shared", "rshared", "slave", "rslave", "private", "rprivate"];
    if !words.iter().any(|w| WORDS.contains(&&**w)) {
        words.push("rprivate".to_owned());
    }
    words
}

pub(super) fn target(at: &str) -> Result<PathBuf> {
    let path = Path::new(at);
    if !path.is_absolute() {
        return Err(Error::usage(format!("the path {at:?} inside is not absolute")));
    }
    let clean = crate::rootfs::clean(path);
    if clean == Path::new("/") {
        return Err(Error::usage("the destination can't be '/'"));
    }
    Ok(clean)
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as docker has it: a name is one component of a path.
pub(super) fn volume_name(name: &str) -> Result<String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 255 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(name.to_owned());
    }
    Err(Error::usage(format!(
        "{name:?} is not a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]*); a folder of the host begins with / or ./"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v_names_is_a_folder_or_a_volume() {
        let here = Path::new("/here");
        for (text, origin, at, options) in [
            ("/a:/b", Origin::HostMade("/a".into()), "/b", "rprivate"),
            ("./a:/b:ro", Origin::HostMade("/here/./a".into()), "/b", "ro,rprivate"),
            ("../a/b:/c:rro,rslave", Origin::HostMade("/here/../a/b".into()), "/c", "rro,rslave"),
            ("data:/c/../d", Origin::Volume(Some("data".into())), "/d", "rprivate"),
            ("/data", Origin::Volume(None), "/data", "rprivate"),
        ] {
            let asked = volume(text, here).unwrap();
            assert_eq!(
                (asked.origin, asked.at, asked.options.join(",")),
                (origin, at.into(), options.into()),
                "{text}"
            );
        }
        for text in [
            "",
            "a:b",
            "a/b:/c",
            ".a:/c",
            "a dir:/c",
            ":/a",
            "/a:/b:/c:/d",
            "/a:/",
            "/a:/b/..",
            "/a:/b:frob",
            "a\n:/b",
            "/a:/b:nocopy",
        ] {
            assert!(volume(text, here).is_err(), "{text:?}");
        }
    }
}
