//! `rootfs-tool inspect`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{CREATED, ImageConfig, Manifest};
use coracle_store::{Image, Reference, Store};
use coracle_sys::{Error, Result, order};
use serde_json::{Value, json};

use super::{each, find, open, platform, split_name};
use crate::filter::created;
use crate::registry::{Access, Repository};
use crate::transfer::{Origin, Remote, load};
use coracle_sys::template::Template;

/// Print all that is known of images, as JSON: of the store, and by docker://NAME of a registry.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "inspect",
    example = "rootfs-tool inspect shell
rootfs-tool inspect --format '{{{{json .Config.Cmd}}}}' shell"
)]
pub(crate) struct Inspect {
    /// print each image by a Go template, or json for one line. Fields: Id RepoTags RepoDigests Digest Parent Comment
    /// Created Author Architecture Variant Os Size VirtualSize DockerVersion Config GraphDriver RootFS Metadata
    #[argh(option, short = 'f', arg_name = "TEMPLATE")]
    format: Option<String>,
    /// what is looked for: image, which is all that there is
    #[argh(option, arg_name = "TYPE")]
    r#type: Option<String>,
    /// print JSON, which is the default
    #[argh(switch)]
    json: bool,
    /// of docker://NAME: the registry's manifest, as it is
    #[argh(switch)]
    raw: bool,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// USER:PASSWORD for the registry, instead of what login has kept; others see it in the list of processes
    #[argh(option, arg_name = "CREDS")]
    creds: Option<String>,
    /// the machine, of an image of a registry that is for several: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids; docker://NAME looks at an image of a registry without a pull
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
        if self.raw {
            return each(&self.images, |typed| self.print_raw(typed));
        }
        let format = self.format.as_deref().filter(|f| *f != "json");
        let template = format.map(Template::parse).transpose()?;
        let store = open(self.store.as_deref())?;
        let mut all = Vec::new();
        let done = each(&self.images, |typed| {
            all.push(match typed.strip_prefix(REMOTE) {
                Some(name) => self.remote(name).map_err(|e| e.wrap(format!("inspect {typed}")))?,
                None => describe(&store, &find(&store, typed)?)?,
            });
            Ok(())
        });
        match template {
            Some(template) => {
                template.print(&all)?;
            }
            None => coracle_sys::print::json(&Value::Array(all), self.format.is_none()),
        }
        done
    }

    fn repository(&self, name: &str) -> Result<(Reference, Repository)> {
        let full = name.parse::<Reference>()?.qualified();
        let access = Access::new(self.tls_verify, self.creds.as_deref())?;
        Ok((full.clone(), Repository::to_pull(&full, access)?))
    }

    /// The manifest, or the index, byte by byte.
    fn print_raw(&self, typed: &str) -> Result<()> {
        let Some(name) = typed.strip_prefix(REMOTE) else {
            return Err(Error::usage(format!("--raw is of a registry: docker://{typed}")));
        };
        let (full, repository) = self.repository(name)?;
        let root = Remote::new(&repository, &full).root();
        let bytes = root.map_err(|e| e.wrap(format!("inspect {typed}")))?.1;
        coracle_sys::print::out(format_args!("{}", String::from_utf8_lossy(&bytes)));
        Ok(())
    }

    /// An image of a registry, of which there are no files here.
    fn remote(&self, name: &str) -> Result<Value> {
        let (full, repository) = self.repository(name)?;
        let loaded = load(&Remote::new(&repository, &full), &platform(self.platform.as_deref())?)?;
        let digest = loaded.known_as.unwrap_or(loaded.descriptor.digest);
        let tags: Vec<String> =
            full.tag.iter().map(|_| full.to_string()).filter(|n| !n.contains('@')).collect();
        let mut shape = shape(&loaded.config, &loaded.manifest)?;
        shape["RepoTags"] = tags.into();
        shape["RepoDigests"] = vec![format!("{}@{digest}", repository.name)].into();
        shape["Digest"] = digest.to_string().into();
        Ok(shape)
    }
}

/// What a registry's images are called by.
const REMOTE: &str = "docker://";

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
    order::sort(&mut digests);
    digests.dedup();
    let size: u64 = store.layer_sizes(image).iter().sum();
    let noted = image.descriptor.annotations.as_ref().and_then(|notes| notes.get(CREATED));
    let mut shape = shape(&image.config, &image.manifest)?;
    for (name, value) in [
        ("RepoTags", json!(tags)),
        ("RepoDigests", json!(digests)),
        ("Digest", json!(image.manifest_digest.to_string())),
        ("Created", json!(created(image))),
        ("Size", json!(size)),
        ("VirtualSize", json!(size)),
        ("GraphDriver", driver(store, image)),
        ("Metadata", json!({"LastTagTime": noted.map_or(NEVER, |t| t.as_str())})),
    ] {
        shape[name] = value;
    }
    Ok(shape)
}

/// Go's time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Where the layers are, in the words of docker's overlay2: the topmost is the upper one.
fn driver(store: &Store, image: &Image) -> Value {
    let paths = store.stack_paths(image.diff_ids()).unwrap_or_default();
    let mut paths = paths.iter().rev().map(|p| p.display().to_string());
    let upper = paths.next();
    let lower = paths.collect::<Vec<_>>().join(":");
    let data = match upper {
        None => Value::Null,
        Some(upper) if lower.is_empty() => json!({"UpperDir": upper}),
        Some(upper) => json!({"LowerDir": lower, "UpperDir": upper}),
    };
    json!({"Name": store.driver().to_string(), "Data": data})
}

/// What an image says of itself. Its size is that of its blobs.
fn shape(image: &ImageConfig, manifest: &Manifest) -> Result<Value> {
    let mut config = serde_json::to_value(image.process()).map_err(|e| Error::invalid(e.to_string()))?;
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
            ("OnBuild", Value::Null),
            ("StopSignal", json!("")),
        ] {
            fields.entry(name).or_insert(empty);
        }
    }
    let text = |name: &str| image.extra.get(name).and_then(Value::as_str).unwrap_or_default();
    let last = image.history.iter().flatten().next_back().and_then(|step| step.comment.as_deref());
    let comment = if text("comment").is_empty() { last.unwrap_or_default() } else { text("comment") };
    let size: u64 = manifest.layers.iter().map(|l| l.size).sum();
    Ok(json!({
        "Id": manifest.config.digest.to_string(),
        "RepoTags": [],
        "RepoDigests": [],
        "Parent": "",
        "Comment": comment,
        "Created": image.created.as_deref().unwrap_or(NEVER),
        "DockerVersion": text("docker_version"),
        "Author": image.author.as_deref().unwrap_or_default(),
        "Config": config,
        "Architecture": image.architecture,
        "Variant": image.variant.as_deref().unwrap_or_default(),
        "Os": image.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "", "Data": null},
        "RootFS": {
            "Type": "layers",
            "Layers": image.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "Metadata": {"LastTagTime": NEVER},
    }))
}
