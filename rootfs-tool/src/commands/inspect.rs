//! `rootfs-tool inspect`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Image, Store};
use coracle_sys::{Error, Result};
use serde_json::{Value, json};

use super::{each, find, open, split_name};
use crate::filter::created;
use coracle_sys::template::Template;

/// Print all that is known of images, as JSON.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "inspect",
    example = "rootfs-tool inspect shell
rootfs-tool inspect --format '{{{{json .Config.Cmd}}}}' shell"
)]
pub(crate) struct Inspect {
    /// print each image by a Go template
    #[argh(option, short = 'f', arg_name = "TEMPLATE")]
    format: Option<String>,
    /// what is looked for: image, which is all that there is
    #[argh(option, arg_name = "TYPE")]
    r#type: Option<String>,
    /// print JSON, which is the default
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Inspect {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.images.is_empty() {
            return Err(Error::usage("inspect needs an image"));
        }
        if self.json && self.format.is_some() {
            return Err(Error::usage("--json and --format exclude each other"));
        }
        if let Some(kind) = self.r#type.as_deref().filter(|kind| *kind != "image") {
            return Err(Error::usage(format!("unknown type {kind:?}: image is all that there is")));
        }
        let template = self.format.as_deref().map(Template::parse).transpose()?;
        let store = open(self.store.as_deref())?;
        let mut all = Vec::new();
        let done = each(&self.images, |typed| {
            all.push(describe(&store, &find(&store, typed)?)?);
            Ok(())
        });
        match template {
            Some(template) => {
                template.print(&all)?;
            }
            None => coracle_sys::print::json(&Value::Array(all), true),
        }
        done
    }
}

/// The shape of docker's answer.
fn describe(store: &Store, image: &Image) -> Result<Value> {
    let mut tags: Vec<&str> = Vec::new();
    let mut digests: Vec<String> = Vec::new();
    let entries = store.entries()?;
    for (_, entry) in entries.iter().filter(|(_, e)| e.digest == image.descriptor.digest) {
        let Some(name) = entry.ref_name() else { continue };
        // What was pulled by its digest has no tag.
        if !name.contains('@') {
            tags.push(name);
        }
        digests.extend(entry.registry_digest().map(|digest| format!("{}@{digest}", split_name(name).0)));
    }
    digests.sort();
    digests.dedup();
    let size: u64 = store.layer_sizes(image).iter().sum();
    let mut config =
        serde_json::to_value(image.config.process()).map_err(|e| Error::invalid(e.to_string()))?;
    // What an image need not have is empty, as scripts expect it: only a field that there never is is refused.
    if let Some(fields) = config.as_object_mut() {
        for (name, empty) in [
            ("User", json!("")),
            ("WorkingDir", json!("")),
            ("Env", Value::Null),
            ("Cmd", Value::Null),
            ("Entrypoint", Value::Null),
            ("Labels", Value::Null),
            ("Volumes", Value::Null),
            ("ExposedPorts", Value::Null),
            ("StopSignal", json!("")),
        ] {
            fields.entry(name).or_insert(empty);
        }
    }
    Ok(json!({
        "Id": image.id().to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": image.manifest_digest.to_string(),
        "Created": created(image),
        "Author": image.config.author.clone().unwrap_or_default(),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant.clone().unwrap_or_default(),
        "Os": image.config.os,
        "Size": size,
        "Config": config,
        "RootFS": {
            "Type": "layers",
            "Layers": image.diff_ids().iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    }))
}
