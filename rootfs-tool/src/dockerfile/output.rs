//! `--output`: where a build goes instead of the store's images.

use std::path::{Path, PathBuf};

use coracle_store::image::{Descriptor, Platform};
use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, FromDir};
use coracle_store::{Digest, Store};
use coracle_sys::{Context, Error, Result};

use super::build::spread;
use crate::archive::write::Writer;
use crate::progress::SAVE;
use crate::streams;
use crate::transfer::{Sending, Stored, relay};

/// A kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Tar,
    Oci,
    Docker,
    Image,
}

/// Where to, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    kind: Kind,
    dest: Option<PathBuf>,
    /// Further names of the image.
    pub(crate) names: Vec<String>,
}

impl std::str::FromStr for Output {
    type Err = Error;

    /// `type=local|tar|oci|docker|image[,dest=PATH]`, a folder, or `-` for a tar on standard output.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| Error::usage(format!("--output {text:?}: {why}"));
        if text == "-" {
            return Ok(Self { kind: Kind::Tar, dest: None, names: Vec::new() });
        }
        if !text.contains('=') {
            return Ok(Self { kind: Kind::Local, dest: Some(text.into()), names: Vec::new() });
        }
        let (mut kind, mut dest, mut names) = (None, None, Vec::new());
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", "local")) => kind = Some(Kind::Local),
                Some(("type", "tar")) => kind = Some(Kind::Tar),
                Some(("type", "oci")) => kind = Some(Kind::Oci),
                Some(("type", "docker")) => kind = Some(Kind::Docker),
                Some(("type", "image")) => kind = Some(Kind::Image),
                Some(("type", other)) => {
                    return Err(bad(format!(
                        "the type {other} is not known: there are local, tar, oci, docker and image"
                    )));
                }
                Some(("dest", path)) => dest = Some(PathBuf::from(path)),
                Some(("name", name)) => names.push(name.to_owned()),
                _ => return Err(bad(format!("{field:?} is not known or lacks its value"))),
            }
        }
        let kind = kind.ok_or_else(|| bad("type is missing".to_owned()))?;
        if kind == Kind::Local && dest.is_none() {
            return Err(bad("dest is required for the type local".to_owned()));
        }
        if kind == Kind::Image && dest.is_some() {
            return Err(bad("an image goes into the store: it has no dest".to_owned()));
        }
        let dest = dest.filter(|d: &PathBuf| d != Path::new("-") || kind == Kind::Local);
        Ok(Self { kind, dest, names })
    }
}

impl Output {
    /// Does the image get its names in the store?
    pub(crate) fn is_image(&self) -> bool {
        self.kind == Kind::Image || self.kind == Kind::Docker && self.dest.is_none()
    }

    /// Write the image. `names` are full ones.
    pub(crate) fn write(
        &self,
        store: &Store,
        manifest: &Descriptor,
        ids: &[Digest],
        names: &[String],
        platform: &Platform,
    ) -> Result<()> {
        let wrap = || "write the output".to_owned();
        match self.kind {
            _ if self.is_image() => Ok(()),
            Kind::Local => {
                let dir = self.dest.clone().unwrap_or_default();
                std::fs::create_dir_all(&dir).context(|| format!("mkdir({dir:?})")).context(wrap)?;
                spread(&tree(store, ids)?, &dir).context(wrap)
            }
            Kind::Tar => {
                let archive = tree(store, ids)?;
                streams::write(self.dest.as_deref(), |mut out| archive.write(&mut out).map(|_| out))
                    .context(wrap)
            }
            _ => {
                let stored = Stored { store, entry: manifest.clone(), name: names.first().cloned() };
                let write = |out| {
                    let writer = Writer::new(out);
                    if self.kind == Kind::Docker {
                        writer.put_docker(&stored, platform, names)?;
                    } else {
                        writer.name(names.first().map(String::as_str));
                        relay(&stored, &writer, SAVE, Sending { quiet: true, ..Sending::default() })?;
                    }
                    writer.finish()
                };
                streams::write(self.dest.as_deref(), write).context(wrap)
            }
        }
    }
}

fn tree(store: &Store, ids: &[Digest]) -> Result<Archive> {
    let how = FromDir { owner: None, latest: None, xattrs: true };
    Archive::of_stack(&store.stack_paths(ids)?, Marks::of_this_process(), how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_by_type_and_place() {
        let of = |text: &str| text.parse::<Output>().map(|o| (o.kind, o.dest));
        assert_eq!(of("out").unwrap(), (Kind::Local, Some("out".into())));
        assert_eq!(of("-").unwrap(), (Kind::Tar, None));
        assert_eq!(of("type=oci,dest=x.tar").unwrap(), (Kind::Oci, Some("x.tar".into())));
        assert_eq!(of("type=tar,dest=-").unwrap(), (Kind::Tar, None));
        assert!("type=docker".parse::<Output>().unwrap().is_image());
        for bad in ["type=local", "type=registry", "dest=x", "type=tar,frob=1", "type=image,dest=x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
