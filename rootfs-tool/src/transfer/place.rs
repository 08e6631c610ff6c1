//! The places of `copy`, in skopeo's words where it has them.

use std::path::PathBuf;

use coracle_store::Reference;
use coracle_sys::argv::distance;
use coracle_sys::{Error, Result, order};

/// Where an image is, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `store:NAME`, or a name alone.
    Store(String),
    /// `docker://REFERENCE`: a registry.
    Registry(Reference),
    /// `oci:DIR[:ref]`.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:ref]`.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:ref]`.
    DockerArchive(PathBuf, Option<String>),
    /// `dir:ROOTFS`: a plain tree.
    Tree(PathBuf),
}

impl std::str::FromStr for Place {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if let Some(reference) = s.strip_prefix("docker://") {
            return Ok(Self::Registry(reference.parse()?));
        }
        let Some((kind, rest)) = s.split_once(':') else { return Ok(Self::Store(s.to_owned())) };
        // The path ends at the first colon, as skopeo has it.
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) => (path, Some(reference.to_owned())),
            None => (rest, None),
        };
        let file = || match path.is_empty() {
            true => Err(Error::usage(format!("{s:?} names no file"))),
            false => Ok(PathBuf::from(path)),
        };
        match kind {
            "store" => Ok(Self::Store(rest.to_owned())),
            "oci" => Ok(Self::Layout(file()?, reference)),
            "oci-archive" => Ok(Self::OciArchive(file()?, reference)),
            "docker-archive" => Ok(Self::DockerArchive(file()?, reference)),
            "dir" => Ok(Self::Tree(PathBuf::from(rest))),
            "docker" | "containers-storage" | "docker-daemon" | "ostree" | "sif" | "atomic" => {
                Err(Error::usage(format!("unknown transport {kind:?}: there are {TRANSPORTS}")))
            }
            // A tag has no slash, and what stands before a slash with a number is a host with its port.
            _ if rest.contains('/')
                && !kind.contains('/')
                && !rest.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                Err(Error::usage(format!("unknown transport {kind:?}: there are {TRANSPORTS}")))
            }
            _ => match mistyped(kind) {
                Some(meant) => Err(Error::usage(format!(
                    "{s:?}: did you mean {meant}:? An image of this name is store:{s}"
                ))),
                None => Ok(Self::Store(s.to_owned())),
            },
        }
    }
}

const TRANSPORTS: &str = "store:, docker://, oci:, oci-archive:, docker-archive: and dir:";

/// The transport that is meant by a word which is none.
fn mistyped(word: &str) -> Option<&'static str> {
    let letters = |w: &str| {
        let mut letters: Vec<char> = w.chars().collect();
        order::sort(&mut letters);
        letters
    };
    let all = ["store", "oci", "oci-archive", "docker-archive", "dir"];
    all.into_iter()
        .find(|known| letters(known) == letters(word) || known.len() > 5 && distance(known, word) <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_skopeo_reads_them() {
        let place = |s: &str| s.parse::<Place>().unwrap();
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(place("shell"), Place::Store("shell".into()));
        assert_eq!(place("localhost:5000/a:b"), Place::Store("localhost:5000/a:b".into()));
        assert_eq!(place("store:a:b"), Place::Store("a:b".into()));
        assert_eq!(place("oci:/d:a:b"), Place::Layout("/d".into(), some("a:b")));
        assert_eq!(place("oci-archive:f"), Place::OciArchive("f".into(), None));
        assert_eq!(place("docker-archive:f:x:y"), Place::DockerArchive("f".into(), some("x:y")));
        assert_eq!(place("dir:/a:b"), Place::Tree("/a:b".into()));
        assert!(matches!(place("docker://a/b"), Place::Registry(_)));
        for bad in
            ["oci:", "docker:x", "containers-storage:x", "docker://A", "oic:d", "bogus:/x", "oci-achive:f"]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
