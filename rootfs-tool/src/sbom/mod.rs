//! What an image is made of: the packages that the databases of dpkg and apk name, and the layer that brought each. Nothing
//! is mounted and nothing is run; links in the image are followed within it. What rpm knows is not read.

pub mod apk;
pub mod copyright;
pub mod dpkg;
pub mod license;
pub mod spdx;
mod tree;

use std::collections::BTreeMap;

use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, FromDir};
use coracle_store::{Image, Store};
use coracle_sys::{Context, Error, Result};

use self::tree::Tree;

/// Which database names a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// dpkg's.
    Deb,
    /// apk's.
    Apk,
}

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as its distribution writes it.
    pub version: String,
    /// The machine that it is for.
    pub arch: String,
    /// The source that it was built from, with the version where that is another.
    pub source: String,
    /// Who maintains it: `NAME <ADDRESS>`.
    pub maintainer: String,
    /// Where people read of it.
    pub homepage: String,
    /// What it is, in a line.
    pub summary: String,
    /// What it may be used under: an SPDX expression, or nothing where nobody says so that a program understands it.
    pub license: String,
}

/// A package, where it is known from, and the layer that brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The database.
    pub kind: Kind,
    /// The package.
    pub package: Package,
    /// The layer, the lowest being 0.
    pub layer: usize,
}

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The packages, sorted.
    pub packages: Vec<Found>,
    /// `ID` of the image's os-release, and `VERSION_ID`.
    pub distribution: (String, String),
    /// What could not be read, a sentence each.
    pub warnings: Vec<String>,
}

/// dpkg's, apk's of both places, and rpm's, which are not read.
const STATUS: &str = "var/lib/dpkg/status";
const STATUS_D: &str = "var/lib/dpkg/status.d";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RPM: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

type Seen = BTreeMap<(Kind, Package), usize>;

/// Look at an image's layers, one after the other.
pub fn gather(store: &Store, image: &Image) -> Result<Inventory> {
    let how = FromDir { owner: None, latest: None, xattrs: false };
    let trees = store.stack_paths(image.diff_ids())?;
    let mut whole = Archive::new();
    let mut seen = Seen::new();
    for (n, dir) in trees.iter().enumerate() {
        let mut layer = Archive::new();
        layer.put_layer(dir, Marks::of_this_process(), how)?;
        let changed = tree::touches(&layer, &[&[STATUS, STATUS_D], &APK[..]].concat());
        whole.stack(layer)?;
        let last = n + 1 == trees.len();
        if !changed && !last {
            continue;
        }
        let now = match packages(&Tree::new(&whole)) {
            // What a layer above has put right, or taken away, is nobody's fault any more.
            Err(_) if !last => continue,
            other => other?,
        };
        let before = std::mem::take(&mut seen);
        seen.extend(now.into_iter().map(|one| {
            let layer = before.get(&one).copied().unwrap_or(n);
            (one, layer)
        }));
    }
    let tree = Tree::new(&whole);
    let mut out = Inventory { distribution: distribution(&tree), ..Inventory::default() };
    for ((kind, mut package), layer) in seen {
        if kind == Kind::Deb {
            package.license = copyright::of(&tree, &package.name);
        }
        out.packages.push(Found { kind, package, layer });
    }
    for dir in RPM {
        if tree.names(dir).is_ok_and(|names| !names.is_empty()) {
            out.warnings.push(format!("/{dir}: the database of rpm is not read"));
        }
    }
    Ok(out)
}

/// The packages of all databases.
fn packages(tree: &Tree<'_>) -> Result<Vec<(Kind, Package)>> {
    let mut out = Vec::new();
    let mut take = |kind, path: &str, parse: fn(&str) -> Result<Vec<Package>>| -> Result<()> {
        let one = || match tree.text(path)? {
            Some(text) => parse(&text),
            None => Ok(Vec::new()),
        };
        out.extend(one().context(|| format!("read /{path}"))?.into_iter().map(|package| (kind, package)));
        Ok(())
    };
    take(Kind::Deb, STATUS, dpkg::parse)?;
    for name in tree.names(STATUS_D).context(|| format!("read /{STATUS_D}"))? {
        // Beside each paragraph lie the sums of its package's files.
        if !name.ends_with(".md5sums") {
            take(Kind::Deb, &format!("{STATUS_D}/{name}"), dpkg::parse)?;
        }
    }
    // Where one of the places is a link to the other it is one database.
    let places = APK.iter().filter(|path| tree.real(path).is_ok_and(|real| real.as_deref() == Some(path)));
    for path in places {
        take(Kind::Apk, path, apk::parse)?;
    }
    Ok(out)
}

/// The values of os-release.
fn distribution(tree: &Tree<'_>) -> (String, String) {
    let text = ["etc/os-release", "usr/lib/os-release"].into_iter().find_map(|path| tree.text(path).ok()?);
    let text = text.unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        line.unwrap_or_default().chars().filter(plain).collect()
    };
    (value("ID"), value("VERSION_ID"))
}

/// One line that stands in a document and on a terminal: nothing but its words.
fn line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().filter(|c| !c.is_control()).collect()
}

/// Names and versions that mean nothing else wherever they are put.
fn check_word(what: &str, text: &str) -> Result<()> {
    let sound = !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic());
    match sound {
        true => Ok(()),
        false => Err(Error::invalid(format!("{text:?} is no {what}"))),
    }
}
