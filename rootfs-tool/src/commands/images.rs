//! `rootfs-tool images`.

use std::collections::{HashMap, HashSet};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{CREATED, Platform};
use coracle_store::{Digest, Image, Store};
use coracle_sys::{Error, Kind, Result};
use serde_json::{Value, json};

use super::{open, split_name};
use crate::time;
use coracle_sys::table;
use coracle_sys::template::Template;

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
    /// print ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// whole ids
    #[argh(switch, long = "no-trunc")]
    no_trunc: bool,
    /// reference=PATTERN, with * and ?
    #[argh(option, short = 'f', arg_name = "FILTER")]
    filter: Vec<String>,
    /// print each image by a Go template, or json for one object a line
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
        let format = self.format.as_deref().filter(|f| *f != "table");
        let template = format.map(Template::parse).transpose()?;
        let mut patterns: Vec<&str> = self.pattern.iter().map(String::as_str).collect();
        for filter in &self.filter {
            match filter.split_once('=') {
                Some(("reference", pattern)) => patterns.push(pattern),
                _ => {
                    return Err(Error::usage(format!("filter by {filter:?}: there is reference=PATTERN")));
                }
            }
        }
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
        let users = users(&images);
        let wanted = |i: &&Image| {
            let name = i.name.as_deref().unwrap_or_default();
            patterns.iter().all(|p| name_matches(p, name))
        };
        let rows: Vec<Value> = images.iter().filter(wanted).map(|i| self.row(&store, i, &users)).collect();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        if self.json {
            coracle_sys::say!("{}", Value::Array(rows));
        } else if let Some(template) = template {
            template.print(&rows)?;
        } else if self.quiet {
            let mut ids: Vec<String> = rows.iter().map(|r| text(r, "ID")).collect();
            ids.dedup();
            ids.iter().for_each(|id| coracle_sys::say!("{id}"));
        } else {
            let head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "OWN"];
            let keys = ["Repository", "Tag", "ID", "CreatedSince", "Size", "UniqueSize"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|r| keys.map(|k| text(r, k)).to_vec()));
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
            "Repository": repository,
            "Tag": tag,
            "ID": id,
            "Digest": image.manifest_digest.to_string(),
            "CreatedAt": created.unwrap_or_default(),
            "CreatedSince": since,
            "Size": table::size(size),
            "UniqueSize": table::size(own),
            "SharedSize": table::size(size - own),
            "Bytes": size,
            "OwnBytes": own,
            "SharedBytes": size - own,
            "BlobBytes": blobs,
        })
    }
}

/// When the image was made: as it says itself, or, of a reproducible one, as the store has noted it.
fn created(image: &Image) -> Option<String> {
    let own = image.config.created.clone().filter(|t| time::parse(t).is_some_and(|t| t > 0));
    own.or_else(|| image.descriptor.annotations.as_ref()?.get(CREATED).cloned())
}

/// How many images have each layer, whose files they share however it is compressed. Names of one manifest are
/// one image.
fn users(images: &[Image]) -> HashMap<Digest, usize> {
    let by_manifest: HashMap<Digest, &Image> = images.iter().map(|i| (i.manifest_digest, i)).collect();
    let mut users = HashMap::new();
    for image in by_manifest.values() {
        let layers: HashSet<&Digest> = image.diff_ids().iter().collect();
        layers.into_iter().for_each(|l| *users.entry(*l).or_insert(0) += 1);
    }
    users
}

/// Does a pattern mean this name? As in docker, the registry may be left out, and the tag.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (repository, _) = split_name(name);
    let short = |n: &str| {
        n.split_once('/').map_or(n.to_owned(), |(_, rest)| rest.trim_start_matches("library/").to_owned())
    };
    [name.to_owned(), repository.clone(), short(name), short(&repository)]
        .iter()
        .any(|n| glob(pattern.as_bytes(), n.as_bytes()))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => glob(&pattern[1..], text) || (!text.is_empty() && glob(pattern, &text[1..])),
        (Some(b'?'), Some(_)) => glob(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t => glob(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_may_leave_registry_and_tag_out() {
        for (pattern, fits) in [
            ("shell", true),
            ("shell:latest", true),
            ("localhost/shell", true),
            ("sh*", true),
            ("s?ell", true),
            ("*:v1", false),
            ("bash", false),
        ] {
            assert_eq!(name_matches(pattern, "localhost/shell:latest"), fits, "{pattern}");
        }
        assert!(name_matches("debian:*", "docker.io/library/debian:12"));
    }
}
