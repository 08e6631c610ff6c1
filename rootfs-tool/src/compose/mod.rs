//! From a recipe to an image: each layer is planned as an archive, which touches nothing, and then
//! put into the store, unless it came of the same input before.

mod bin;
mod cache;
pub mod deb;
mod dir;
mod elf;
mod loader;
mod standard;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use coracle_store::image::{Descriptor, Healthcheck, History, ImageConfig, Platform, ProcessConfig, RootFs};
use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, Content, Meta, source_date_epoch};
use coracle_store::{Digest, Store, Transaction};
use coracle_sys::{Context, Error, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde_json::{Map, Value};

use crate::archive::packed;
use crate::recipe::{Config, Layer, Recipe};
use coracle_sys::time;

/// The PATH of an image that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files of etc in a base are refused beyond this size.
const MAX_TEXT: u64 = 1 << 20;

/// What an image is while it is made.
#[derive(Default)]
struct Stack {
    ids: Vec<Digest>,
    descriptors: Vec<Descriptor>,
    history: Vec<History>,
    base: ProcessConfig,
}

/// How a layer came about.
pub(crate) struct Step {
    /// What it is made of.
    pub(crate) what: String,
    /// It is the one of an earlier time.
    pub(crate) cached: bool,
    /// Its bytes.
    pub(crate) size: u64,
    /// What there is to say.
    pub(crate) notes: Vec<String>,
}

/// How a recipe is composed, beyond what it says.
#[derive(Default)]
pub(crate) struct Settings {
    /// What the image is for; this machine when nothing is said.
    pub(crate) platform: Option<Platform>,
    /// Where packages come from.
    pub(crate) deb: deb::Choices,
}

/// Compose a recipe into an image of the store, reporting each layer. The manifest comes back; it has
/// no name yet.
pub(crate) fn compose(
    tx: &Transaction<'_>,
    folder: &Path,
    recipe: &Recipe,
    settings: &Settings,
    mut report: impl FnMut(&Step),
) -> Result<Descriptor> {
    let epoch = source_date_epoch().unwrap_or(0);
    let created = time::rfc3339(epoch);
    let mut stack = Stack::default();
    for (n, layer) in recipe.layers.iter().enumerate() {
        let step = add(tx, folder, (n + 1, layer), settings, &mut stack)
            .map_err(|e| e.wrap(format!("make layer {} ({})", n + 1, layer.summary())))?;
        report(&step);
    }
    let platform = settings.platform();
    let config = ImageConfig {
        created: Some(created),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(process(stack.base, &recipe.config)?),
        rootfs: RootFs { diff_ids: stack.ids, ..RootFs::default() },
        history: Some(stack.history),
        ..ImageConfig::default()
    };
    tx.put_image(&config, stack.descriptors)
}

impl Settings {
    fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

fn add(
    tx: &Transaction<'_>,
    folder: &Path,
    (number, layer): (usize, &Layer),
    settings: &Settings,
    stack: &mut Stack,
) -> Result<Step> {
    let epoch = source_date_epoch().unwrap_or(0);
    let what = layer.summary();
    if let Some(image) = &layer.image {
        return base(tx, image, &settings.platform(), what, stack);
    }
    if layer.bin.is_some() && !settings.platform().runs_on(&Platform::host()) {
        return Err(Error::unsupported(format!(
            "compose for {}: bin takes the programs of this machine",
            settings.platform()
        )));
    }
    let (made, cached, notes) = if let Some(tar) = &layer.tar {
        from_tar(tx, &folder.join(tar), &stack.ids)?
    } else if let Some(deb) = &layer.deb {
        let plan = deb::plan(tx, folder, number, deb, &settings.deb, &settings.platform())?;
        from_packages(tx, &plan, layer, &stack.ids)?
    } else {
        from_archive(tx, folder, layer, epoch, &stack.ids)?
    };
    stack.history.push(History {
        created: Some(time::rfc3339(epoch)),
        created_by: Some(format!("rootfs-tool compose: {what}")),
        ..History::default()
    });
    stack.ids.push(made.diff_id);
    let size = made.descriptor.size;
    stack.descriptors.push(made.descriptor);
    Ok(Step { what, cached, size, notes })
}

type Came = (cache::Made, bool, Vec<String>);

fn from_tar(tx: &Transaction<'_>, path: &Path, below: &[Digest]) -> Result<Came> {
    // A pipe would be waited for, and a device may never end.
    if !path.metadata().context(|| format!("stat({path:?})"))?.is_file() {
        return Err(Error::invalid(format!("read {path:?}: it is not a plain file")));
    }
    let input = File::open(path).context(|| format!("open({path:?})"))?;
    let key = cache::key_of_tar(path)?;
    if let Some(made) = cache::look(tx, &key, below) {
        return Ok((made, true, Vec::new()));
    }
    let put = packed::open(input)
        .and_then(|input| tx.put_layer_from_tar(input, below))
        .context(|| format!("read {path:?}"))?;
    let made = cache::Made { descriptor: put.descriptor, diff_id: put.diff_id };
    cache::remember(tx.store(), &key, &made)?;
    Ok((made, false, put.warnings))
}

fn from_archive(
    tx: &Transaction<'_>,
    folder: &Path,
    layer: &Layer,
    epoch: i64,
    below: &[Digest],
) -> Result<Came> {
    let mut archive = Archive::new();
    let mut notes = Vec::new();
    if let Some(from) = &layer.dir {
        dir::fill(&mut archive, &folder.join(from), layer, epoch)?;
    }
    if let Some(wanted) = &layer.bin {
        notes = bin::fill(&mut archive, folder, wanted, layer.nss)?;
    }
    beside(tx, &mut archive, layer, below)?;
    let key = cache::key_of_archive(&archive)?;
    if let Some(made) = cache::look(tx, &key, below) {
        notes.extend(archive.warnings);
        return Ok((made, true, notes));
    }
    let put = tx.put_layer(&archive, below)?;
    notes.extend(put.warnings);
    let made = cache::Made { descriptor: put.descriptor, diff_id: put.diff_id };
    cache::remember(tx.store(), &key, &made)?;
    Ok((made, false, notes))
}

/// A layer of packages. What it comes of is known before it is made.
fn from_packages(
    tx: &Transaction<'_>,
    plan: &deb::Plan<'_>,
    layer: &Layer,
    below: &[Digest],
) -> Result<Came> {
    let mut notes = plan.notes.clone();
    let Layer { standard, users, groups, link, file, .. } = layer;
    let said = format!("{standard} {users:?} {groups:?} {link:?} {file:?} {below:?}");
    let key = Digest::of(format!("deb 1\n{}\n{said}", plan.key()).as_bytes());
    if let Some(made) = cache::look(tx, &key, below) {
        return Ok((made, true, notes));
    }
    let mut archive = Archive::new();
    let scratch = plan.fill(tx, &mut archive)?;
    beside(tx, &mut archive, layer, below)?;
    let put = tx.put_layer(&archive, below)?;
    drop(scratch);
    notes.extend(put.warnings);
    let made = cache::Made { descriptor: put.descriptor, diff_id: put.diff_id };
    cache::remember(tx.store(), &key, &made)?;
    Ok((made, false, notes))
}

/// What a layer says beside its kind.
fn beside(tx: &Transaction<'_>, archive: &mut Archive, layer: &Layer, below: &[Digest]) -> Result<()> {
    if layer.standard {
        standard::fill(archive)?;
    }
    for (path, text) in &layer.file {
        archive.put(path, Meta::new(0o644), Content::Bytes(text.clone().into_bytes()))?;
    }
    for (path, to) in &layer.link {
        archive.put(path, Meta::new(0o777), Content::Symlink(to.into()))?;
    }
    let read_below = |path: &str| read_below(tx.store(), below, path);
    standard::people(archive, &layer.users, &layer.groups, read_below)?;
    archive.put_parents_over(&tx.store().stack_paths(below)?, Marks::of_this_process())
}

/// The layers of an image of the store become the next ones here, as they are. The lowest image also
/// brings its config.
fn base(
    tx: &Transaction<'_>,
    name: &str,
    platform: &Platform,
    what: String,
    stack: &mut Stack,
) -> Result<Step> {
    let image = tx.store().resolve_for(name, platform)?;
    let mut notes = Vec::new();
    let mut size = 0;
    if stack.ids.is_empty() {
        stack.base = image.config.process();
    }
    for (d, diff_id) in image.manifest.layers.iter().zip(image.diff_ids()) {
        if !tx.has_blob(d) {
            tx.put_blob(tx.store().open_blob(d)?, Some(d))?;
        }
        notes.extend(tx.apply_layer(d, diff_id, &stack.ids)?);
        stack.ids.push(*diff_id);
        stack.descriptors.push(d.clone());
        size += d.size;
    }
    stack.history.extend(image.config.history.unwrap_or_default());
    Ok(Step { what, cached: true, size, notes })
}

/// A small file of etc in the layers below, the topmost that has it. Links are not followed.
fn read_below(store: &Store, below: &[Digest], path: &str) -> Result<Option<String>> {
    let (dir, name) = path.split_once('/').unwrap_or((".", path));
    for layer in store.stack_dirs(below)?.iter().rev() {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(dir) = openat(layer, OsStr::new(dir), flags | OFlag::O_DIRECTORY, Mode::empty()) else {
            continue;
        };
        let Ok(file) = openat(&dir, OsStr::new(name), flags | OFlag::O_NONBLOCK, Mode::empty()) else {
            continue;
        };
        let file = File::from(file);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            continue;
        }
        let mut text = Vec::new();
        file.take(MAX_TEXT + 1).read_to_end(&mut text).context(|| format!("read({path:?})"))?;
        if text.len() as u64 > MAX_TEXT {
            return Err(Error::invalid(format!(
                "read {path:?} of the base: it has more than {MAX_TEXT} bytes"
            )));
        }
        return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(None)
}

/// `[config]` over what the lowest image says.
fn process(mut p: ProcessConfig, c: &Config) -> Result<ProcessConfig> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert("PATH".into(), PATH.into());
    for line in p.env.take().unwrap_or_default() {
        let (name, value) = line.split_once('=').unwrap_or((&line, ""));
        env.insert(name.to_owned(), value.to_owned());
    }
    env.extend(c.env.clone());
    p.env = Some(env.into_iter().map(|(k, v)| format!("{k}={v}")).collect());
    if let Some(entrypoint) = &c.entrypoint {
        p.entrypoint = Some(entrypoint.clone());
        p.cmd = None;
    }
    p.cmd = c.cmd.clone().or(p.cmd);
    p.user = c.user.clone().or(p.user);
    p.working_dir = c.workdir.clone().or(p.working_dir);
    p.stop_signal = c.stop_signal.clone().or(p.stop_signal);
    if !c.labels.is_empty() {
        p.labels.get_or_insert_default().extend(c.labels.clone());
    }
    let empty = || Value::Object(Map::new());
    for port in &c.ports {
        p.exposed_ports.get_or_insert_default().insert(port.text()?, empty());
    }
    for volume in &c.volumes {
        p.volumes.get_or_insert_default().insert(volume.clone(), empty());
    }
    if let Some(h) = &c.healthcheck {
        if h.cmd.is_empty() {
            return Err(Error::invalid("[config]: the health check has no command"));
        }
        let test = ["CMD".to_owned()].into_iter().chain(h.cmd.clone()).collect();
        let seconds = |s: Option<u32>| s.map(|s| i64::from(s) * 1_000_000_000);
        p.healthcheck = Some(Healthcheck {
            test: Some(test),
            interval: seconds(h.interval),
            timeout: seconds(h.timeout),
            retries: h.retries.map(i64::from),
            ..Healthcheck::default()
        });
    }
    Ok(p)
}
