//! The JSON of OCI images, with docker's additions to the config. Fields that are not known here
//! are kept, so that what is read and written again loses nothing. Nothing is fetched or checked.

use std::collections::BTreeMap;

use coracle_sys::Error;
use coracle_sys::print::harmless;
use coracle_sys::read_json;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::digest::Digest;

/// Media types that are read, and those that are written.
pub mod media_type {
    /// An image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, compressed by gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, compressed by zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's layer, compressed by gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Docker's config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    /// Is it a list of manifests, rather than one?
    pub fn is_index(kind: &str) -> bool {
        matches!(kind, INDEX | DOCKER_INDEX)
    }
}

/// The file `oci-layout` that marks an image layout.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The annotation that names an entry of `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation of an entry of the index that tells when the image was made here, RFC 3339. A
/// reproducible image does not tell itself.
pub const CREATED: &str = "org.opencontainers.image.created";

/// The annotation of an entry of the index that holds the digest that its registry calls it by: that of the index
/// that the image was chosen from, or of the manifest that it was pushed as.
pub const REGISTRY_DIGEST: &str = "coracle.registry.digest";

/// A pointer to a blob.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Notes, of which [`REF_NAME`] is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The platform, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(Descriptor {
    media_type: must "mediaType",
    digest: must "digest",
    size: must "size",
    annotations: may "annotations",
    platform: may "platform",
} ..extra);

impl Descriptor {
    /// A pointer without notes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let media_type = media_type.to_owned();
        Self { media_type, digest, size, annotations: None, platform: None, extra: Map::new() }
    }

    /// Are content of this digest and size what is pointed to?
    pub fn expect(&self, digest: Digest, size: u64) -> Result<(), Error> {
        match (digest, size) == (self.digest, self.size) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "what came has {size} bytes and the digest {digest}, {} bytes were promised",
                self.size
            ))),
        }
    }

    /// The digest that the image has in its registry, as far as the store knows it, else its own.
    pub fn known_as(&self) -> Digest {
        self.registry_digest().unwrap_or(self.digest)
    }

    /// The digest that the image has in the registry that it was pulled from or pushed to.
    pub fn registry_digest(&self) -> Option<Digest> {
        self.annotations.as_ref()?.get(REGISTRY_DIGEST)?.parse().ok()
    }

    /// The name of an entry of `index.json`.
    pub fn ref_name(&self) -> Option<&str> {
        Some(self.annotations.as_ref()?.get(REF_NAME)?.as_str())
    }
}

/// The machine that an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// `amd64`, `arm64`: Go's names.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7` of arm, and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(Platform {
    architecture: must "architecture",
    os: must "os",
    variant: may "variant",
} ..extra);

impl Platform {
    /// That of this program.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        let variant = (architecture == "arm").then(|| "v7".to_owned());
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant, extra: Map::new() }
    }

    /// Does an image for `self` run on `host`? A variant that is not named is any.
    pub fn runs_on(&self, host: &Platform) -> bool {
        self.os == host.os
            && self.architecture == host.architecture
            && (self.variant.is_none()
                || host.variant.is_none()
                || self.variant == host.variant
                || (host.architecture == "arm" && self.variant <= host.variant))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

impl ImageConfig {
    /// The machine that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }

    /// Is it for this machine? The error says so in docker's words.
    pub fn suits(&self, wanted: &Platform) -> Result<(), Error> {
        let actual = self.platform();
        match actual.runs_on(wanted) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "does not match the specified platform: wanted {wanted}, actual: {}",
                harmless(&actual.to_string())
            ))),
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = Error;

    /// `OS/ARCHITECTURE[/VARIANT]`, or an architecture alone, as Go, uname(1) or Debian call it.
    fn from_str(typed: &str) -> Result<Self, Error> {
        let bad =
            || Error::usage(format!("the platform {typed:?}: it has the form OS/ARCHITECTURE[/VARIANT]"));
        let sound =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let parts: Vec<&str> = typed.split('/').collect();
        if !parts.iter().all(sound) {
            return Err(bad());
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(bad()),
        };
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("aarch64", v) => ("arm64", v),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            ("i386" | "i686" | "x86", v) => ("386", v),
            (a, v) => (a, v),
        };
        // Those that Go has, and so docker.
        const MACHINES: [&str; 14] = [
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
            "ppc64le", "riscv64", "s390x", "wasm",
        ];
        const SYSTEMS: [&str; 9] =
            ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1", "android"];
        if !MACHINES.contains(&architecture) || !SYSTEMS.contains(&os) {
            return Err(Error::usage(format!(
                "the platform {typed:?}: unknown operating system or architecture"
            )));
        }
        Ok(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            extra: Map::new(),
        })
    }
}

/// An image index, such as `index.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(Index {
    schema_version: must "schemaVersion",
    media_type: may "mediaType",
    manifests: may "manifests",
} ..extra);

impl Index {
    /// One that names no image yet.
    pub fn empty() -> Self {
        let media_type = Some(media_type::INDEX.to_owned());
        Self { schema_version: 2, media_type, manifests: Vec::new(), extra: Map::new() }
    }
}

/// An image manifest: one config, and the layers from the bottom up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(Manifest {
    schema_version: must "schemaVersion",
    media_type: may "mediaType",
    config: must "config",
    layers: must "layers",
    annotations: may "annotations",
} ..extra);

impl Manifest {
    /// A manifest of this config and these layers, bottom first.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(media_type::MANIFEST.to_owned());
        Self { schema_version: 2, media_type, config, layers, annotations: None, extra: Map::new() }
    }
}

/// An image's config: the machine, the process, the layers' diff ids, the history.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, `arm64`: Go's names.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7` of arm, and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ProcessConfig>,
    /// The layers.
    pub rootfs: RootFs,
    /// How the layers came about, empty ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<History>>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(ImageConfig {
    created: may "created",
    author: may "author",
    architecture: may "architecture",
    os: may "os",
    variant: may "variant",
    config: may "config",
    rootfs: must "rootfs",
    history: may "history",
} ..extra);

impl ImageConfig {
    /// The process part, empty when the config has none.
    pub fn process(&self) -> ProcessConfig {
        self.config.clone().unwrap_or_default()
    }
}

/// The diff ids of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the layers' archives, not compressed, bottom first.
    pub diff_ids: Vec<Digest>,
}

read_json!(RootFs {
    kind: must "type",
    diff_ids: may "diff_ids",
});

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Did it make no layer?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_layer: Option<bool>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(History {
    created: may "created",
    created_by: may "created_by",
    author: may "author",
    comment: may "comment",
    empty_layer: may "empty_layer",
} ..extra);

/// What an image says about its process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessConfig {
    /// `USER[:GROUP]`, names or numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The ports that it listens on, `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What CMD is passed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, or the arguments to the entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that become volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker: seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u64>,
    /// Docker: how to ask whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: the shell of RUN, CMD and ENTRYPOINT given as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker: steps for a build on top of this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(ProcessConfig {
    user: may "User",
    exposed_ports: may "ExposedPorts",
    env: may "Env",
    entrypoint: may "Entrypoint",
    cmd: may "Cmd",
    volumes: may "Volumes",
    working_dir: may "WorkingDir",
    labels: may "Labels",
    stop_signal: may "StopSignal",
    stop_timeout: may "StopTimeout",
    healthcheck: may "Healthcheck",
    shell: may "Shell",
    on_build: may "OnBuild",
} ..extra);

/// Docker's HEALTHCHECK. Times are nanoseconds; 0 inherits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", TEXT]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// How long one may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// How long failures do not count at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures in a row until it is unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// What is not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

read_json!(Healthcheck {
    test: may "Test",
    interval: may "Interval",
    timeout: may "Timeout",
    start_period: may "StartPeriod",
    start_interval: may "StartInterval",
    retries: may "Retries",
} ..extra);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_config_survives_a_round_trip() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","docker_version":"20",
            "config":{"Hostname":"h","Env":["A=b"],"Cmd":null,"Shell":["/bin/bash","-c"],"OnBuild":["RUN x"],
            "Healthcheck":{"Test":["CMD","true"],"Interval":5,"New":1},"Volumes":{"/v":{}},"Labels":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x","empty_layer":true}]}"#;
        let before: Value = serde_json::from_str(text).unwrap();
        let config: ImageConfig = coracle_sys::json::from_slice(text.as_bytes()).unwrap();
        let after = serde_json::to_value(&config).unwrap();
        for path in [
            "/os.version",
            "/docker_version",
            "/config/Hostname",
            "/config/Shell",
            "/config/OnBuild",
            "/config/Healthcheck",
            "/config/Volumes",
            "/history",
        ] {
            assert_eq!(before.pointer(path), after.pointer(path), "{path}");
            assert!(after.pointer(path).is_some(), "{path}");
        }
    }

    #[test]
    fn a_variant_that_is_not_named_runs_anywhere() {
        let p = |a: &str, v: Option<&str>| Platform {
            architecture: a.into(),
            os: "linux".into(),
            variant: v.map(Into::into),
            ..Default::default()
        };
        assert!(p("arm64", Some("v8")).runs_on(&p("arm64", None)));
        assert!(p("arm", Some("v6")).runs_on(&p("arm", Some("v7"))));
        assert!(!p("arm", Some("v7")).runs_on(&p("arm", Some("v6"))));
        assert!(!p("amd64", None).runs_on(&p("arm64", None)));
    }
}
