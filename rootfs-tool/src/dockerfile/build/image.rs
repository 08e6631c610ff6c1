//! FROM: a stage, an image of the store, one that is pulled, or nothing; and the image that comes of a build.

use std::sync::Arc;

use coracle_store::image::{Descriptor, Platform, REF_NAME};
use coracle_store::{Image, Reference};
use coracle_sys::{Context, Error, Kind, Result};

use super::{Build, lock};
use crate::dockerfile::config::State;
use crate::dockerfile::words::Lexer;
use crate::progress::{PULL, Progress};
use crate::registry::{Access, Repository};
use crate::transfer;

impl Build<'_> {
    /// What a stage begins with, and the triggers of its image.
    pub(super) fn base(&self, n: usize) -> Result<(State, Vec<String>)> {
        let stage = &self.file.stages[n];
        let lexer = Lexer::new(self.given.escape);
        let global = |name: &str| self.given.globals.get(name).cloned();
        let base = lexer.word(&stage.from.base, &global)?;
        if base.is_empty() {
            return Err(Error::invalid(format!("base name ({}) should not be blank", stage.from.base)));
        }
        let asked = stage.from.platform.as_deref().map(|p| lexer.word(p, &global)).transpose()?;
        let asked = asked.filter(|p| !p.is_empty());
        let asked: Option<Platform> = asked.map(|p| p.parse()).transpose()?;
        let asked = asked.or_else(|| self.options.platform.clone());
        if let Some(found) = self.stage_named(&base, n) {
            let base = self.wait_for(found)?;
            return Ok((base.again(), base.config.on_build.clone().unwrap_or_default()));
        }
        if base == "scratch" {
            return Ok((State::scratch(asked.unwrap_or_else(Platform::host)), Vec::new()));
        }
        let mut state = (*self.image(&base, asked.as_ref())?).clone();
        let triggers = state.config.on_build.take().unwrap_or_default();
        Ok((state, triggers))
    }

    /// An image, pulled where it is missing.
    pub(super) fn image(&self, name: &str, platform: Option<&Platform>) -> Result<Arc<State>> {
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let id = format!("{name} {wanted}");
        let mut images = lock(&self.images);
        if let Some(known) = images.get(&id) {
            return Ok(known.clone());
        }
        let store = self.tx.store();
        let here = store.resolve_for(name, wanted);
        let here = match (here, platform) {
            // Another machine's image under this name is not the one that is wanted.
            (Ok(image), Some(p)) if image.config.suits(p).is_err() => Err(Error::not_found("")),
            (other, _) => other,
        };
        let local = name.parse::<Reference>().is_ok_and(|r| r.registry.as_deref() == Some("localhost"));
        let made_here = |i: &Image| i.name.as_ref().is_some_and(|n| n.starts_with("localhost/"));
        let image = match here {
            Ok(image) if !self.options.pull || local || made_here(&image) => image,
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => self.pull(name, wanted).context(|| format!("find the base image {name}"))?,
        };
        for warning in self.tx.apply_image(&image)? {
            self.report.warn(&warning);
        }
        for d in &image.manifest.layers {
            if !self.tx.has_blob(d) {
                self.tx.put_blob(store.open_blob(d)?, Some(d))?;
            }
        }
        let state = Arc::new(State::of_image(&image.config, image.manifest.layers.clone()));
        images.insert(id, state.clone());
        Ok(state)
    }

    fn pull(&self, name: &str, platform: &Platform) -> Result<Image> {
        let reference: Reference = name.parse()?;
        let full = reference.qualified();
        let told = self.report.step(&format!("[internal] pull {full}"));
        let repository = Repository::to_pull(&full, Access::new(self.options.tls_verify, None)?)?;
        let origin = transfer::Remote::new(&repository, &full);
        let mut loaded = transfer::load(&origin, platform)?;
        loaded.known_as.get_or_insert(loaded.descriptor.digest);
        let named = match full.digest {
            Some(_) => Reference { tag: None, ..full.clone() }.to_string(),
            None => full.to_string(),
        };
        let progress = Progress::new(PULL, &loaded.manifest.layers, true);
        let taken = transfer::take(self.tx, &origin, loaded, Some(&named), &progress)?;
        taken.warnings.iter().for_each(|w| self.report.warn(w));
        told.done();
        self.tx.store().load(Some(named), taken.entry, platform)
    }

    /// The image of a stage: its manifest, without a name.
    pub(crate) fn put(&self, state: &State) -> Result<Descriptor> {
        let mut config = state.image(epoch());
        if !self.options.labels.is_empty() {
            let process = config.config.get_or_insert_default();
            process.labels.get_or_insert_default().extend(self.options.labels.clone());
        }
        let notes = &self.options.annotations;
        let notes = (!notes.is_empty()).then(|| notes.clone());
        let mut d = self.tx.put_image_noted(&config, state.layers.clone(), notes)?;
        if state.platform != Platform::host() {
            d.platform = Some(state.platform.clone());
        }
        debug_assert!(d.annotations.as_ref().is_none_or(|a| !a.contains_key(REF_NAME)));
        Ok(d)
    }
}

fn epoch() -> Option<String> {
    coracle_store::layer::pack::source_date_epoch().map(coracle_sys::time::rfc3339)
}
