//! `rootfs-tool du`.

use std::collections::{BTreeMap, HashMap, HashSet};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, Content, FromDir};
use coracle_store::{Digest, Image, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Result, order, table};
use serde_json::{Value, json};

use super::{enter_user_namespace, find, open, split_name};

/// Tell what images take on the disk. UNIQUE is what would go with the image alone; WASTED are files of its lower
/// layers that upper ones hide or replace.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "du",
    example = "rootfs-tool du
rootfs-tool du -v shell"
)]
pub(crate) struct Du {
    /// also list the largest files that upper layers hide or replace
    #[argh(switch, short = 'v')]
    verbose: bool,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids; all images when none is named
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Du {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        // Files of subordinate ids are to be read.
        enter_user_namespace();
        let all = all(&store)?;
        let wanted: Vec<Image> = match self.images.is_empty() {
            true => all.clone(),
            false => self.images.iter().map(|i| find(&store, i)).collect::<Result<_>>()?,
        };
        // How many images have each part: blobs by digest, applied layers by where they are.
        let mut users: HashMap<String, usize> = HashMap::new();
        let mut seen = HashSet::new();
        for image in all.iter().filter(|i| seen.insert(i.manifest_digest)) {
            Parts::of(&store, image).all.into_keys().for_each(|part| *users.entry(part).or_insert(0) += 1);
        }
        let used: HashSet<Digest> = store.containers()?.iter().filter_map(|c| c.image()).collect();
        let mut total: BTreeMap<String, u64> = BTreeMap::new();
        let row = |image| {
            let parts = Parts::of(&store, image);
            let mut row = row(&store, image, &parts, &users, &used)?;
            if self.verbose {
                row["Hidden"] = Value::Array(hidden(&store, image)?);
            }
            total.extend(parts.all);
            Ok(row)
        };
        let rows: Vec<Value> = wanted.iter().map(row).collect::<Result<_>>()?;
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
            return Ok(());
        }
        let head = ["REPOSITORY", "TAG", "IMAGE ID", "SIZE", "BLOBS", "SHARED", "UNIQUE", "WASTED"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let bytes = |key: &str| table::size(row[key].as_u64().unwrap_or(0));
            let sizes = ["Files", "Blobs", "Shared", "Unique", "Wasted"].map(bytes);
            lines.push(["Repository", "Tag", "ID"].map(text).into_iter().chain(sizes).collect());
        }
        table::print(&lines, false);
        for (row, image) in rows.iter().zip(&wanted).filter(|_| self.verbose) {
            let worst = row["Hidden"].as_array().map(Vec::as_slice).unwrap_or_default();
            let name = image.name.clone().unwrap_or_else(|| image.id().short());
            let no = if worst.is_empty() {
                ": nothing is hidden or replaced"
            } else {
                ", hidden or replaced above:"
            };
            coracle_sys::say!("\n{}{no}", harmless(&name));
            for file in worst {
                let (path, bytes) = (file["Path"].as_str().unwrap_or_default(), file["Bytes"].as_u64());
                let size = table::size(bytes.unwrap_or(0));
                coracle_sys::say!("{size:>8}  layer {}  {}", file["Layer"], harmless(path));
            }
        }
        coracle_sys::say!("{} in all", table::size(total.values().sum()));
        Ok(())
    }
}

/// Every image that can be read.
fn all(store: &Store) -> Result<Vec<Image>> {
    let entries = store.entries()?.into_iter();
    let load = |d: coracle_store::image::Descriptor| {
        store.load(d.ref_name().map(str::to_owned), d, &Platform::host()).ok()
    };
    Ok(entries.filter_map(|(_, d)| load(d)).collect())
}

/// The parts of an image on the disk.
struct Parts {
    /// Blobs by digest, applied layers by where they are, with their bytes.
    all: BTreeMap<String, u64>,
    /// The bytes of the layers' files.
    files: u64,
}

impl Parts {
    fn of(store: &Store, image: &Image) -> Self {
        let sizes = store.layer_sizes(image);
        let trees = store.layer_paths(image).into_iter().zip(&sizes);
        let mut all: BTreeMap<String, u64> =
            order::gather(trees.filter_map(|(tree, size)| Some((tree?.display().to_string(), *size))));
        let blobs = image.manifest.layers.iter().chain([&image.manifest.config, &image.descriptor]);
        all.extend(blobs.map(|d| (d.digest.to_string(), d.size)));
        Self { all, files: sizes.iter().sum() }
    }
}

/// Files that are listed of one image.
const WORST: usize = 20;

/// The largest files of lower layers that nobody sees, the largest first.
fn hidden(store: &Store, image: &Image) -> Result<Vec<Value>> {
    let how = FromDir { owner: None, latest: None, xattrs: false };
    let trees = store.stack_paths(image.diff_ids())?;
    let marks = Marks::of_this_process();
    let seen = Archive::of_stack(&trees, marks, how)?;
    let mut files: Vec<(u64, usize, String)> = Vec::new();
    for (n, tree) in trees.iter().enumerate() {
        let mut layer = Archive::new();
        layer.put_layer(tree, marks, how)?;
        for path in layer.paths() {
            let (Some((_, own)), above) = (layer.get(path), seen.get(path)) else { continue };
            if let Content::File { size, .. } = own
                && above.is_none_or(|(_, content)| content != own)
            {
                files.push((*size, n + 1, format!("/{}", path.display())));
            }
        }
    }
    order::sort_by(&mut files, |a, b| b.cmp(a));
    files.truncate(WORST);
    let row = |(size, layer, path)| json!({"Bytes": size, "Layer": layer, "Path": path});
    Ok(files.into_iter().map(row).collect())
}

fn row(
    store: &Store,
    image: &Image,
    parts: &Parts,
    users: &HashMap<String, usize>,
    used: &HashSet<Digest>,
) -> Result<Value> {
    let (mut shared, mut unique) = (0, 0);
    for (part, size) in &parts.all {
        let sum = if users.get(part).copied().unwrap_or(0) > 1 { &mut shared } else { &mut unique };
        *sum += size;
    }
    let how = FromDir { owner: None, latest: None, xattrs: false };
    let seen = Archive::of_stack(&store.stack_paths(image.diff_ids())?, Marks::of_this_process(), how)
        .map_err(|e: Error| e.wrap(format!("look at {}", image.name.as_deref().unwrap_or("an image"))))?;
    let (repository, tag) = split_name(image.name.as_deref().unwrap_or("<none>"));
    let blobs: u64 = image.manifest.layers.iter().map(|d| d.size).sum();
    Ok(json!({
        "Repository": repository,
        "Tag": tag,
        "ID": image.id().short(),
        "Files": parts.files,
        "Blobs": blobs,
        "Shared": shared,
        "Unique": unique,
        "Wasted": parts.files.saturating_sub(seen.size()),
        "Containers": used.contains(&image.manifest_digest),
    }))
}
