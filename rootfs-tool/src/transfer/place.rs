//! The places of `copy`, in skopeo's words where it has them.

use std::fs::File;
use std::path::{Path, PathBuf};

use coracle_store::Reference;
use coracle_sys::{Context, Error, Result};

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
                Err(Error::usage(format!(
                    "{s:?}: there are store:, docker://, oci:, oci-archive:, docker-archive: and dir:"
                )))
            }
            _ => Ok(Self::Store(s.to_owned())),
        }
    }
}

/// A file that is whole, or not there: written beside its place and put there at the end.
pub(crate) struct Replacing {
    temp: PathBuf,
    to: PathBuf,
    kept: bool,
}

impl Replacing {
    /// What is written, and what puts it there. A device or a pipe is written as it is.
    pub(crate) fn begin(to: &Path) -> Result<(File, Self)> {
        let special = to.metadata().is_ok_and(|m| !m.is_file());
        let temp = match special {
            true => to.to_owned(),
            false => {
                let name = to.file_name().ok_or_else(|| Error::usage(format!("{to:?} is no file")))?;
                let unique = coracle_sys::file::unique_name(".");
                to.with_file_name([unique.as_os_str(), name].join(std::ffi::OsStr::new("-")))
            }
        };
        let mut options = File::options();
        let file =
            options.write(true).create(true).open(&temp).context(|| format!("open({temp:?}, O_CREAT)"))?;
        Ok((file, Self { temp, to: to.to_owned(), kept: special }))
    }

    /// Put it there.
    pub(crate) fn keep(mut self, file: &File) -> Result<()> {
        self.kept = true;
        if self.temp == self.to {
            return Ok(());
        }
        let keep = || {
            file.sync_all().context(|| format!("fsync({:?})", self.temp))?;
            std::fs::rename(&self.temp, &self.to)
                .context(|| format!("rename({:?}, {:?})", self.temp, self.to))
        };
        keep().inspect_err(|_| drop(std::fs::remove_file(&self.temp)))
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.temp);
        }
    }
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
        for bad in ["oci:", "docker:x", "containers-storage:x", "docker://A"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
