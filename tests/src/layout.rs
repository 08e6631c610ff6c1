//! Is a folder an OCI image layout, to the letter? Checked against image-spec 1.1 (image-layout.md, descriptor.md,
//! image-index.md, manifest.md, config.md), without a line of the code that writes it. More is asked than the
//! specification does: every blob that is named is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Cmd;

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What is wrong with it, a line each.
pub fn faults(dir: &Path) -> Vec<String> {
    let mut check = Check { dir, faults: Vec::new(), named: BTreeSet::new() };
    check.marker();
    check.blobs();
    if let Some(index) = check.json(&dir.join("index.json")) {
        check.index("index.json", &index, None);
        for entry in index["manifests"].as_array().into_iter().flatten() {
            check.ref_name(&entry["annotations"][REF_NAME]);
        }
    }
    check.faults
}

/// The blobs that nothing names.
pub fn strays(dir: &Path) -> Vec<String> {
    let mut check = Check { dir, faults: Vec::new(), named: BTreeSet::new() };
    let index = check.json(&dir.join("index.json")).expect("an index");
    check.index("index.json", &index, None);
    let all = list(&dir.join("blobs/sha256"));
    all.into_iter().map(|name| format!("sha256:{name}")).filter(|d| !check.named.contains(d)).collect()
}

/// It is one; fails the test with all that is wrong otherwise.
#[track_caller]
pub fn assert_valid(dir: &Path, when: &str) {
    let faults = faults(dir);
    assert!(faults.is_empty(), "{when}: {} is no OCI image layout:\n{}", dir.display(), faults.join("\n"));
}

struct Check<'a> {
    dir: &'a Path,
    faults: Vec<String>,
    /// The digests that were named.
    named: BTreeSet<String>,
}

impl Check<'_> {
    /// Note a fault unless it holds.
    fn must(&mut self, holds: bool, at: &str, what: &str) -> bool {
        if !holds {
            self.faults.push(format!("{at}: {what}"));
        }
        holds
    }

    fn json(&mut self, path: &Path) -> Option<Value> {
        let at = path.strip_prefix(self.dir).unwrap_or(path).display().to_string();
        let value = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        self.must(value.is_some(), &at, "is not there, or no JSON");
        let value: Value = value?;
        self.must(value.is_object(), &at, "is no JSON object").then_some(value)
    }

    fn marker(&mut self) {
        if let Some(marker) = self.json(&self.dir.join("oci-layout")) {
            self.must(
                marker["imageLayoutVersion"] == "1.0.0",
                "oci-layout",
                "imageLayoutVersion is not 1.0.0",
            );
        }
    }

    /// Every blob is what its name says, and nothing else lies there.
    fn blobs(&mut self) {
        self.must(self.dir.join("blobs").is_dir(), "blobs", "is no folder");
        for algorithm in list(&self.dir.join("blobs")) {
            self.must(algorithm == "sha256", &algorithm, "no algorithm that is used here");
            for name in list(&self.dir.join("blobs").join(&algorithm)) {
                let path = self.dir.join("blobs").join(&algorithm).join(&name);
                let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file());
                if self.must(is_file, &name, "is no file") {
                    let sum = digest(&fs::read(&path).expect("read a blob"));
                    self.must(sum == format!("{algorithm}:{name}"), &name, "the content has another digest");
                }
            }
        }
    }

    fn index(&mut self, at: &str, index: &Value, kind: Option<&str>) {
        self.head(at, index, kind, "application/vnd.oci.image.index.v1+json");
        self.must(index["manifests"].is_array(), at, "has no array of manifests");
        for (n, entry) in index["manifests"].as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}: manifest {n}");
            let Some(bytes) = self.descriptor(&at, entry) else { continue };
            let kind = entry["mediaType"].as_str().unwrap_or_default();
            let is_json = INDEXES.contains(&kind) || MANIFESTS.contains(&kind);
            if !self.must(is_json, &at, &format!("is neither manifest nor index: {kind}")) {
                continue;
            }
            let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            match INDEXES.contains(&kind) {
                true => self.index(&at, &value, Some(kind)),
                false => self.manifest(&at, &value, kind),
            }
        }
    }

    /// What an index and a manifest begin with.
    fn head(&mut self, at: &str, value: &Value, kind: Option<&str>, default: &str) {
        self.must(value["schemaVersion"] == 2, at, "schemaVersion is not the number 2");
        let own = &value["mediaType"];
        let same = own.is_null() || own == kind.unwrap_or(default);
        self.must(same, at, &format!("calls itself {own}, and its descriptor {kind:?}"));
        self.strings(at, &value["annotations"], "annotations");
    }

    fn manifest(&mut self, at: &str, manifest: &Value, kind: &str) {
        self.head(at, manifest, Some(kind), kind);
        self.must(manifest["layers"].is_array(), at, "has no array of layers");
        let layers: Vec<Value> = manifest["layers"].as_array().cloned().unwrap_or_default();
        let mut archives = Vec::new();
        for (n, layer) in layers.iter().enumerate() {
            let at = format!("{at}: layer {n}");
            if self.descriptor(&at, layer).is_some() {
                archives.push(self.archive(&at, layer));
            }
        }
        let at = format!("{at}: config");
        let Some(bytes) = self.descriptor(&at, &manifest["config"]) else { return };
        let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        for key in ["architecture", "os"] {
            self.must(config[key].as_str().is_some_and(|s| !s.is_empty()), &at, &format!("has no {key}"));
        }
        self.must(config["rootfs"]["type"] == "layers", &at, "the type of its rootfs is not layers");
        let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> = ids.iter().map(|id| id.as_str().unwrap_or_default().to_owned()).collect();
        self.must(ids == archives, &at, &format!("diff_ids are {ids:?}, the archives' digests {archives:?}"));
        if let Some(history) = config["history"].as_array() {
            let filled = history.iter().filter(|h| h["empty_layer"] != true).count();
            self.must(filled == layers.len(), &at, &format!("history tells of {filled} layers"));
        }
        let times = config["history"].as_array().into_iter().flatten().chain([&config]);
        for created in times.map(|t| &t["created"]).filter(|c| !c.is_null()) {
            self.must(is_time(created), &at, &format!("created is no time of RFC 3339: {created}"));
        }
        self.process(&at, &config["config"]);
    }

    /// How a container of it starts.
    fn process(&mut self, at: &str, config: &Value) {
        self.must(config.is_null() || config.is_object(), at, "config is no object");
        for key in ["Env", "Entrypoint", "Cmd"] {
            let list = &config[key];
            let strings = list.as_array().is_some_and(|l| l.iter().all(Value::is_string));
            self.must(list.is_null() || strings, at, &format!("{key} is no array of strings"));
        }
        for key in ["User", "WorkingDir", "StopSignal"] {
            self.must(config[key].is_null() || config[key].is_string(), at, &format!("{key} is no string"));
        }
        for key in ["ExposedPorts", "Volumes"] {
            let empty = config[key].as_object().is_some_and(|o| o.values().all(Value::is_object));
            self.must(config[key].is_null() || empty, at, &format!("{key} is no set"));
        }
        self.strings(at, &config["Labels"], "Labels");
    }

    fn strings(&mut self, at: &str, map: &Value, what: &str) {
        let strings = map.as_object().is_some_and(|m| m.values().all(Value::is_string));
        self.must(map.is_null() || strings, at, &format!("{what} is no map of strings"));
    }

    /// A descriptor, and the blob that it describes.
    fn descriptor(&mut self, at: &str, d: &Value) -> Option<Vec<u8>> {
        let kind = d["mediaType"].as_str().unwrap_or_default();
        let of = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        self.must(kind.split_once('/').is_some_and(|(a, b)| of(a) && of(b)), at, "mediaType is none");
        self.strings(at, &d["annotations"], "annotations");
        if !d["platform"].is_null() {
            let named = |key: &str| d["platform"][key].as_str().is_some_and(|s| !s.is_empty());
            self.must(named("os") && named("architecture"), at, "platform names no os and architecture");
        }
        let name = d["digest"].as_str().unwrap_or_default();
        let hex = name.strip_prefix("sha256:").unwrap_or_default();
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !self.must(good, at, &format!("{:?} is no digest", d["digest"])) {
            return None;
        }
        self.named.insert(name.to_owned());
        let bytes = fs::read(self.dir.join("blobs/sha256").join(hex)).ok();
        self.must(bytes.is_some(), at, &format!("{name} is not there"));
        let bytes = bytes?;
        self.must(
            d["size"].as_u64() == Some(bytes.len() as u64),
            at,
            &format!("the size is not {}", d["size"]),
        );
        Some(bytes)
    }

    /// The digest of a layer's archive, by programs that decompress.
    fn archive(&mut self, at: &str, layer: &Value) -> String {
        let name = layer["digest"].as_str().unwrap_or_default().to_owned();
        let program = match layer["mediaType"].as_str().unwrap_or_default() {
            kind if kind.ends_with("tar+gzip") || kind.ends_with("tar.gzip") => "gzip -dc",
            kind if kind.ends_with("tar+zstd") => "zstd -dcq",
            kind if kind.ends_with(".tar") => return name,
            kind => {
                self.must(false, at, &format!("{kind} is no layer's media type"));
                return name;
            }
        };
        let line = format!("set -o pipefail; {program} < {} | sha256sum", name.replace(':', "/"));
        let out = Cmd::new("bash").args(["-c", &line]).dir(self.dir.join("blobs")).run();
        self.must(out.code() == 0, at, &format!("{program}: {}", out.stderr.trim()));
        format!("sha256:{}", out.stdout.split(' ').next().unwrap_or_default())
    }

    /// The grammar of a name (annotations.md).
    fn ref_name(&mut self, name: &Value) {
        let Some(name) = name.as_str() else {
            self.must(name.is_null(), "index.json", "a name is no string");
            return;
        };
        let alphanumeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let component =
            |c: &str| c.replace("--", "-").split(['-', '.', '_', ':', '@', '+']).all(alphanumeric);
        self.must(name.split('/').all(component), "index.json", &format!("{name:?} is no name"));
    }
}

/// The names in a folder, sorted; none where there is none.
fn list(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn digest(bytes: &[u8]) -> String {
    let sum: [u8; 32] = Sha256::digest(bytes).into();
    format!("sha256:{}", sum.map(|b| format!("{b:02x}")).concat())
}

/// `2006-01-02T15:04:05Z`, with a fraction or another zone.
fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'));
    ["Z", "+00:00", "-00:00"].contains(&rest)
}
