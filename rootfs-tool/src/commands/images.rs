//! `rootfs-tool images`.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::{Digest, Image, Store};
use coracle_sys::{Kind, Result, order};
use serde_json::{Value, json};

use super::{open, split_name};
use crate::filter::{Filters, Named, created};
use coracle_sys::table;
use coracle_sys::template::{Template, title};
use coracle_sys::time;

/// The filters that there are.
const FILTERS: [&str; 6] =
    ["reference=PATTERN", "dangling=BOOL", "label=KEY[=VALUE]", "before=IMAGE", "since=IMAGE", "until=TIME"];

/// Docker's raw format.
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
    virtual_size: {{.Size}}\n";

/// Docker's heads.
fn head(field: &str) -> String {
    match field {
        "ID" => "IMAGE ID".to_owned(),
        other => title(other),
    }
}

/// List the images of the store. SIZE is that of the files, unpacked; OWN is what no other image shares.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "images",
    example = "rootfs-tool images
rootfs-tool images -q --filter reference='shell*'
rootfs-tool images --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.Size}}}}'"
)]
pub(crate) struct Images {
    /// print ids only, each once
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// whole ids
    #[argh(switch, long = "no-trunc")]
    no_trunc: bool,
    /// images without a name too, which are shown anyhow: there are no intermediate ones
    #[argh(switch, short = 'a')]
    #[allow(dead_code)] // nothing is hidden that it could show
    all: bool,
    /// show the digests that registries know the images by
    #[argh(switch)]
    digests: bool,
    /// reference=PATTERN (with * and ?), dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[argh(option, short = 'f', arg_name = "FILTER")]
    filter: Vec<String>,
    /// print each image by a Go template, or json for one object a line, or raw. Fields: Name Repository Tag ID Digest
    /// ManifestDigest CreatedAt CreatedSince Size VirtualSize UniqueSize SharedSize Containers Bytes OwnBytes
    /// SharedBytes BlobBytes
    #[argh(option, arg_name = "TEMPLATE")]
    format: Option<String>,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or pattern
    #[argh(positional, arg_name = "name")]
    pattern: Option<String>,
}

impl Images {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let format = match self.format.as_deref() {
            Some("raw") if self.quiet => Some("image_id: {{.ID}}"),
            Some("raw") => Some(RAW),
            other => other.filter(|f| *f != "table"),
        };
        let template = format.map(Template::parse).transpose()?;
        let mut filters = Filters::read(&self.filter, &FILTERS)?;
        self.pattern.iter().for_each(|p| filters.and_reference(p));
        let store = open(self.store.as_deref())?;
        let mut images = Vec::new();
        for (_, entry) in store.entries()? {
            let name = entry.ref_name().map(str::to_owned);
            match store.load(name.clone(), entry, &Platform::host()) {
                Ok(image) => images.push(image),
                // An image of another machine alone is no error of this one.
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => coracle_sys::warn!("rootfs-tool: {}: {e}", name.unwrap_or_default()),
            }
        }
        filters.look_up(&store)?;
        let named = Named::of(images.iter().map(|i| (&i.descriptor, Some(i))));
        // An image without a name is listed once, and not at all where it has one under another manifest.
        let mut nameless = HashSet::new();
        let mut is_row = |i: &Image| i.name.is_some() || !named.has(i) && nameless.insert(i.id());
        let listed: Vec<&Image> = images.iter().filter(|i| is_row(i)).collect();
        let users = users(&listed);
        // The newest first, as docker has them; those of one time by their names.
        let age = |i: &Image| Reverse(created(i).and_then(|t| time::parse(&t)));
        let mut wanted: Vec<_> =
            listed.into_iter().filter(|i| filters.take(i, &named)).map(|i| (age(i), i)).collect();
        order::sort_by(&mut wanted, |(a, i), (b, j)| (a, &i.name).cmp(&(b, &j.name)));
        let rows: Vec<Value> = wanted.into_iter().map(|(_, i)| self.row(&store, i, &users)).collect();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
        } else if let Some(template) = template {
            template.print_under(&rows, head)?;
        } else if self.quiet {
            let mut told = HashSet::new();
            let ids = rows.iter().map(|r| text(r, "ID")).filter(|id| told.insert(id.clone()));
            ids.for_each(|id| coracle_sys::say!("{id}"));
        } else {
            let columns = [
                ("REPOSITORY", "Repository"),
                ("TAG", "Tag"),
                ("DIGEST", "Digest"),
                ("IMAGE ID", "ID"),
                ("CREATED", "CreatedSince"),
                ("SIZE", "Size"),
                ("OWN", "UniqueSize"),
            ];
            let shown = || columns.iter().filter(|(_, key)| self.digests || *key != "Digest");
            let mut lines = vec![shown().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
            lines.extend(rows.iter().map(|r| shown().map(|(_, key)| text(r, key)).collect()));
            // A name or an id that is cut cannot be typed.
            table::print(&lines, false);
        }
        Ok(())
    }

    fn row(&self, store: &Store, image: &Image, users: &HashMap<Digest, usize>) -> Value {
        let (repository, tag) = split_name(image.name.as_deref().unwrap_or("<none>"));
        let layers = &image.manifest.layers;
        let sizes = store.layer_sizes(image);
        let size: u64 = sizes.iter().sum();
        let own = image.diff_ids().iter().zip(&sizes).filter(|(id, _)| users.get(id) == Some(&1));
        let own: u64 = own.map(|(_, size)| size).sum();
        let blobs: u64 = layers.iter().map(|l| l.size).sum();
        let id = if self.no_trunc { image.id().to_string() } else { image.id().short() };
        let created = created(image);
        let since = created.as_deref().and_then(time::parse);
        let since = since.map_or_else(|| "N/A".to_owned(), |t| time::ago(t, time::now()));
        json!({
            "Name": image.name.clone().unwrap_or_default(),
            "Repository": repository,
            "Tag": tag,
            "ID": id,
            "Digest": image.descriptor.registry_digest().map_or_else(|| "<none>".to_owned(), |d| d.to_string()),
            "ManifestDigest": image.manifest_digest.to_string(),
            "CreatedAt": created.as_deref().and_then(time::parse).map(time::spoken).unwrap_or_default(),
            "CreatedSince": since,
            "Size": table::size(size),
            "VirtualSize": table::size(size),
            "Containers": "N/A",
            "UniqueSize": table::size(own),
            "SharedSize": table::size(size - own),
            "Bytes": size,
            "OwnBytes": own,
            "SharedBytes": size - own,
            "BlobBytes": blobs,
        })
    }
}

/// How many images have each layer, whose files they share however it is compressed. Names of one manifest are
/// one image.
fn users(images: &[&Image]) -> HashMap<Digest, usize> {
    let by_manifest: HashMap<Digest, &Image> = images.iter().map(|i| (i.manifest_digest, *i)).collect();
    let mut users = HashMap::new();
    for image in by_manifest.values() {
        let layers: HashSet<&Digest> = image.diff_ids().iter().collect();
        layers.into_iter().for_each(|l| *users.entry(*l).or_insert(0) += 1);
    }
    users
}
