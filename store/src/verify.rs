//! Verifying: every blob against its digest, every applied layer against its archive, which is applied once more
//! beside it. What differs can be put right where the blob is good.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result, order};

use crate::digest::Digest;
use crate::image::Descriptor;
use crate::ingest::stream::{Begin, End, Reached};
use crate::layer::compare::compare;
use crate::layer::key::chain_ids;
use crate::layer::unpack::Applied;
use crate::layer::{Compression, key, owners};
use crate::read::Image;
use crate::temp::Temp;
use crate::write::Transaction;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The blob or the layer.
    pub of: String,
    /// In a sentence.
    pub what: String,
    /// What was done about it, or what is to be done.
    pub then: Option<String>,
    /// It is put right.
    pub repaired: bool,
}

/// Verifies images, each layer once.
pub struct Verifier<'a> {
    tx: &'a Transaction<'a>,
    repair: bool,
    seen: HashSet<(Digest, Digest)>,
}

impl<'a> Verifier<'a> {
    /// With `repair` what is wrong is put right where it can be.
    pub fn new(tx: &'a Transaction<'a>, repair: bool) -> Self {
        Self { tx, repair, seen: HashSet::new() }
    }

    /// What is wrong with the layers of an image, whose manifest and config have been read and so are good.
    pub fn image(&mut self, image: &Image) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        let ids = image.diff_ids();
        for (n, (d, chain)) in image.manifest.layers.iter().zip(chain_ids(ids)).enumerate() {
            if self.seen.insert((d.digest, chain)) {
                faults.extend(self.layer(d, &ids[n], &ids[..n], &chain)?);
            }
        }
        Ok(faults)
    }

    fn layer(&self, d: &Descriptor, id: &Digest, below: &[Digest], chain: &Digest) -> Result<Vec<Fault>> {
        let blob = |what: String, then: Option<&str>| Fault {
            of: format!("the blob {}", d.digest),
            what,
            then: then.map(str::to_owned),
            repaired: false,
        };
        let Some(path) = self.tx.store().blob_path(&d.digest) else {
            return Ok(vec![blob("it is missing".into(), Some("pull or load the image again"))]);
        };
        let again = match self.again(&path, d, id, below) {
            Ok(again) => again,
            // A full disk says nothing of the blob.
            Err(e) if e.kind() != Kind::Invalid => return Err(e),
            Err(e) => {
                let mut then = "verify --repair takes it away, for the next pull or load to bring it";
                if self.repair && path.starts_with(self.tx.layout().root()) {
                    fs::remove_file(&path).context(|| format!("unlink({path:?})"))?;
                    then = "taken away: pull or load the image again";
                }
                return Ok(vec![blob(e.to_string(), Some(then))]);
            }
        };
        self.applied(id, chain, again)
    }

    /// Read the blob, and apply it once more.
    fn again(&self, path: &Path, d: &Descriptor, id: &Digest, below: &[Digest]) -> Result<(Temp, Applied)> {
        let file = File::open(path).context(|| format!("open({path:?})"))?;
        let claimed = Compression::of_media_type(&d.media_type)?;
        let begin = Begin { input: Box::new(file), have: 0, claimed: Some(claimed), expect: Some(d) };
        let lowers = || self.tx.store().stack_paths(below);
        let apply = |archive: &mut dyn Read| self.tx.apply(archive, self.tx.limits, None, lowers);
        let Reached { diff_id, end, .. } = begin.run(End { out: None, watch: &|_| true, apply: &apply })?;
        match diff_id == *id {
            true => Ok(end),
            false => Err(Error::invalid(format!("its content is {diff_id}, and the config says {id}"))),
        }
    }

    /// Compare what is applied with what was applied just now.
    fn applied(&self, id: &Digest, chain: &Digest, again: (Temp, Applied)) -> Result<Vec<Fault>> {
        let fault = |what: String, then: &str, repaired: bool| Fault {
            of: format!("the layer {id}"),
            what,
            then: Some(then.to_owned()),
            repaired,
        };
        let Some(tree) = self.tx.store().layer_path(id, chain) else {
            if self.repair {
                self.tx.keep_layer(again.0, id, chain, &again.1)?;
                return Ok(vec![fault("it was not applied".into(), "applied", true)]);
            }
            return Ok(vec![fault("it is not applied".into(), "verify --repair applies it", false)]);
        };
        let (is, should) = (file::open_dir(&tree)?, file::open_dir(&again.0.path().join(key::TREE))?);
        let mut what = compare(is.as_fd(), should.as_fd())?;
        let mut table = owners::read(&tree)?;
        order::sort_by(&mut table, |a, b| a.path.cmp(&b.path));
        if table != again.1.owners {
            what.push("its table of owners is another".to_owned());
        }
        if what.is_empty() {
            return Ok(Vec::new());
        }
        let mut then = "verify --repair applies it again".to_owned();
        let mut repaired = false;
        if self.repair {
            // Whoever is mounted on the tree would lose it.
            let users = self.tx.store().containers()?;
            let mounted = self.tx.store().mounted()?;
            match (users.first(), mounted.first()) {
                (Some(user), _) => {
                    then = format!("not put right while there are containers, such as {}", user.id)
                }
                (None, Some((_, at))) => {
                    then = format!("not put right while images are mounted, such as on {}", at.display())
                }
                (None, None) => {
                    let gone = self.tx.layout().take_out(tree.parent().unwrap_or(&tree))?;
                    self.tx.keep_layer(again.0, id, chain, &again.1)?;
                    file::remove_tree(&gone)?;
                    "applied again".clone_into(&mut then);
                    repaired = true;
                }
            }
        }
        Ok(what.into_iter().map(|w| fault(w, &then, repaired)).collect())
    }
}
