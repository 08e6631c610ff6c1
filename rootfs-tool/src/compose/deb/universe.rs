//! Packages: what the indexes offer, of each name the version that apt would take, and who provides what.

use std::collections::{BTreeSet, HashMap};

use coracle_sys::{Context, Error, Result, order};

use super::control::{Paragraph, paragraphs};
use super::relation::{self, Operator, Relation};
use super::{release, version};

/// One package of an index.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// `all`, or that of the index.
    pub architecture: &'a str,
    /// No system is without it.
    pub essential: bool,
    /// Its place in [`PRIORITIES`].
    pub priority: usize,
    /// Other architectures' packages may lean on it, where they say `:any`.
    pub for_any: bool,
    /// What it provides, with a version if it says so.
    pub provides: Vec<(&'a str, Option<&'a str>)>,
    /// All that the index says.
    pub paragraph: Paragraph<'a>,
    /// Which index it is from.
    pub index: usize,
    /// That of its index, as apt's pins have it.
    pin: u16,
}

/// Priorities, the most important first.
pub const PRIORITIES: [&str; 5] = ["required", "important", "standard", "optional", "extra"];

/// All that is offered for one architecture.
#[derive(Debug, Default)]
pub struct Universe<'a> {
    /// All of them.
    pub offers: Vec<Offer<'a>>,
    names: HashMap<&'a str, Vec<usize>>,
    providers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Offer<'a> {
    fn read(paragraph: Paragraph<'a>, index: usize, pin: u16) -> Result<Self> {
        let (mut name, mut version, mut architecture) = ("", "", "");
        let (mut essential, mut priority, mut for_any, mut provides) = (false, PRIORITIES.len(), false, "");
        for (field, value) in paragraph.fields() {
            match field {
                "Package" => name = value,
                "Version" => version = value,
                "Architecture" => architecture = value,
                "Essential" => essential = value == "yes",
                "Priority" => {
                    priority = PRIORITIES.iter().position(|p| *p == value).unwrap_or(PRIORITIES.len())
                }
                "Multi-Arch" => for_any = value == "allowed",
                "Provides" => provides = value,
                _ => {}
            }
        }
        let at = |e: Error| Error::invalid(format!("line {}: {e}", paragraph.line));
        if !relation::is_name(name) {
            return Err(at(Error::invalid(format!("{name:?} is no package's name"))));
        }
        version::check(version).map_err(at)?;
        let provided = relation::parse(provides).map_err(at)?;
        let provides = provided.into_iter().flatten().map(|r| (r.name, exact(r))).collect();
        Ok(Self {
            name,
            version,
            architecture,
            essential,
            priority,
            for_any,
            provides,
            paragraph,
            index,
            pin,
        })
    }

    /// Where its file is below the repository, its SHA-256 and its size.
    pub fn file(&self) -> Result<(&'a str, &'a str, u64)> {
        let read = || {
            let p = self.paragraph;
            let (path, sum) = (p.must("Filename")?, p.must("SHA256")?);
            if !release::is_sum(sum) {
                return Err(Error::invalid("its SHA256 is none"));
            }
            if path.split('/').any(|part| part == "..") || path.contains(char::is_whitespace) {
                return Err(Error::invalid(format!("its Filename {path:?} leads elsewhere")));
            }
            let size = p.must("Size")?.parse().map_err(|_| Error::invalid("its Size is no number"))?;
            Ok((path, sum, size))
        };
        read().context(|| format!("read what the index says of {}", self.name))
    }
}

fn exact(r: Relation<'_>) -> Option<&str> {
    r.versions.filter(|(op, _)| *op == Operator::Exactly).map(|(_, version)| version)
}

impl<'a> Universe<'a> {
    /// Take the text of an index in: what it has for this architecture and for all.
    pub fn add(&mut self, text: &'a str, architecture: &str, index: usize, pin: u16) -> Result<()> {
        for paragraph in paragraphs(text)? {
            let offer = Offer::read(paragraph, index, pin)?;
            if offer.architecture != "all" && offer.architecture != architecture {
                continue;
            }
            let n = self.offers.len();
            self.names.entry(offer.name).or_default().push(n);
            for (name, _) in &offer.provides {
                self.providers.entry(name).or_default().push(n);
            }
            self.offers.push(offer);
        }
        Ok(())
    }

    /// The version that is taken of a name: that with the highest pin, of those the newest, of those the first.
    pub fn candidate(&self, name: &str) -> Option<usize> {
        let all = self.names.get(name)?.iter().copied();
        all.reduce(|best, other| {
            let (a, b) = (&self.offers[best], &self.offers[other]);
            let newer = b.pin.cmp(&a.pin).then_with(|| version::compare(b.version, a.version));
            if newer.is_gt() { other } else { best }
        })
    }

    /// One version of a name.
    pub fn of_version(&self, name: &str, wanted: &str) -> Option<usize> {
        let same = |n: &usize| version::compare(self.offers[*n].version, wanted).is_eq();
        self.names.get(name)?.iter().copied().find(same)
    }

    /// The versions of a name.
    pub fn versions(&self, name: &str) -> Vec<&'a str> {
        self.names.get(name).into_iter().flatten().map(|n| self.offers[*n].version).collect()
    }

    /// The names that are offered.
    pub fn names(&self) -> BTreeSet<&'a str> {
        order::gather(self.names.keys().copied())
    }

    /// Those that provide a name, without those that have it: the candidates of their names alone.
    pub fn providers(&self, name: &str) -> Vec<usize> {
        let mut all: Vec<usize> = self.providers.get(name).cloned().unwrap_or_default();
        all.retain(|n| self.offers[*n].name != name);
        all
    }
}
