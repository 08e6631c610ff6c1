//! `rootfs.lock`: the packages that a recipe came to, by version and SHA-256. Composing from it asks no index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result, file, order, read_json};

use super::release::is_sum;
use super::{relation, version};
use crate::toml_text;

/// The lock's file in the recipe's folder.
const FILE: &str = "rootfs.lock";

/// A lock.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Lock {
    version: u32,
    layer: Vec<Locked>,
}

read_json!(Lock {
    version: must "version",
    layer: may "layer",
} only);

/// The packages of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Locked {
    /// Its place in the recipe, from 1.
    pub(crate) number: usize,
    /// Debian's name of the architecture.
    pub(crate) architecture: String,
    /// A sum of what the recipe asked for.
    pub(crate) asks: String,
    /// The date of the newest index, in seconds since 1970: no file of the layer is younger.
    pub(crate) date: i64,
    /// The packages, by name.
    pub(crate) package: Vec<Pin>,
}

read_json!(Locked {
    number: must "number",
    architecture: must "architecture",
    asks: must "asks",
    date: must "date",
    package: may "package",
} only);

/// One package.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pin {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    /// The suite that has it.
    pub(crate) suite: String,
    /// Its file, from the repository's address on.
    pub(crate) file: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

read_json!(Pin {
    name: must "name",
    version: must "version",
    architecture: must "architecture",
    suite: must "suite",
    file: must "file",
    size: must "size",
    sha256: must "sha256",
} only);

impl Lock {
    /// The lock of a recipe's folder; an empty one where there is none.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = match file::read(&path) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(Self { version: 1, layer: Vec::new() }),
            other => other?,
        };
        let text =
            String::from_utf8(text).map_err(|_| Error::invalid(format!("read {path:?}: it is no text")))?;
        Self::parse(&text).map_err(|e| Error::invalid(format!("read {}: {e}", path.display())))
    }

    fn parse(text: &str) -> Result<Self> {
        let lock: Self = toml_text::read(text)?;
        if lock.version != 1 {
            return Err(Error::unsupported(format!("its version is {}, and 1 is known", lock.version)));
        }
        for pin in lock.layer.iter().flat_map(|l| &l.package) {
            let bad = |what: &str, value: &str| {
                Err(Error::invalid(format!("{}: {value:?} is no {what}", pin.name)))
            };
            if !relation::is_name(&pin.name) || !relation::is_name(&pin.architecture) {
                return bad("name", &pin.name);
            }
            version::check(&pin.version)?;
            if !is_sum(&pin.sha256) {
                return bad("SHA-256", &pin.sha256);
            }
            if pin.file.split('/').any(|part| part == "..") || pin.file.contains(char::is_whitespace) {
                return bad("file", &pin.file);
            }
        }
        Ok(lock)
    }

    /// What is locked of a layer, if the recipe still asks for the same.
    pub(crate) fn find(&self, number: usize, architecture: &str, asks: &str) -> Option<&Locked> {
        let same = |l: &&Locked| l.number == number && l.architecture == architecture && l.asks == asks;
        self.layer.iter().find(same)
    }

    /// Put a layer in its place.
    pub(crate) fn put(&mut self, locked: Locked) {
        self.layer.retain(|l| (l.number, &l.architecture) != (locked.number, &locked.architecture));
        self.layer.push(locked);
        order::sort_by(&mut self.layer, |a, b| (a.number, &a.architecture).cmp(&(b.number, &b.architecture)));
    }

    /// Write it.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(FILE);
        file::write_atomic(&path, self.text().as_bytes(), 0o644).context(|| "write the lock")?;
        Ok(path)
    }

    fn text(&self) -> String {
        let mut out = String::from(
            "# What the recipe came to: made by rootfs-tool compose, made anew by compose --update.\nversion = 1\n",
        );
        for l in &self.layer {
            out.push_str(&format!(
                "\n[[layer]]\nnumber = {}\narchitecture = {:?}\nasks = {:?}\ndate = {}\npackage = [\n",
                l.number, l.architecture, l.asks, l.date
            ));
            for p in &l.package {
                out.push_str(&format!(
                    "  {{ name = {:?}, version = {:?}, architecture = {:?}, suite = {:?}, size = {}, file = {:?}, sha256 = {:?} }},\n",
                    p.name, p.version, p.architecture, p.suite, p.size, p.file, p.sha256
                ));
            }
            out.push_str("]\n");
        }
        out
    }
}

impl Locked {
    /// All that makes the layer's packages what they are.
    pub(crate) fn key(&self) -> String {
        let mut pins: BTreeMap<&str, &str> = BTreeMap::new();
        pins.extend(self.package.iter().map(|p| (&p.name[..], &p.sha256[..])));
        format!("{} {} {pins:?}", self.architecture, self.date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let pin = Pin {
            name: "a".into(),
            version: "1:2~x-3".into(),
            architecture: "all".into(),
            suite: "s".into(),
            file: "pool/a_%3a.deb".into(),
            size: 7,
            sha256: "ab".repeat(32),
        };
        let locked = |number, architecture: &str| Locked {
            number,
            architecture: architecture.into(),
            asks: "x".into(),
            date: 5,
            package: vec![pin.clone()],
        };
        let mut lock = Lock { version: 1, layer: Vec::new() };
        lock.put(locked(2, "amd64"));
        lock.put(locked(1, "arm64"));
        lock.put(locked(1, "amd64"));
        lock.put(locked(2, "amd64"));
        let text = lock.text();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(lock.layer.len(), 3);
        assert!(lock.find(1, "arm64", "x").is_some() && lock.find(1, "arm64", "y").is_none());
        for (from, to, says) in [
            ("version = 1", "version = 2", "1 is known"),
            ("pool/a", "../a", "is no file"),
            ("size = 7", "size = \"7\"", "line "),
            ("abab", "xxab", "is no SHA-256"),
            ("1:2~x-3", "x", "is no version"),
        ] {
            let e = Lock::parse(&text.replacen(from, to, 1)).expect_err(to).to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
