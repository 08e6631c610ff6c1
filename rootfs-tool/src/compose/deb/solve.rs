//! Which packages a fresh system has, as apt chooses them: of each name one version, of alternatives the first that can
//! be had, of those that provide a name the most important. A choice that fails is taken back, and the next one tried.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use coracle_sys::{Error, Result, order};

use super::relation::{self, Relation, parse};
use super::universe::{PRIORITIES, Universe};
use super::version;
pub use crate::recipe::deb::Variant;

/// A dependency that takes more trials than these is given up.
const MAX_TRIALS: u32 = 200_000;

/// The numbers of the offers that make up the system, in the order of their names.
pub fn solve(
    universe: &Universe<'_>,
    wanted: &[String],
    variant: Variant,
    recommends: bool,
    architecture: &str,
) -> Result<Vec<usize>> {
    let mut solver = Solver {
        universe,
        architecture,
        recommends,
        pinned: HashMap::new(),
        chosen: BTreeMap::new(),
        log: Vec::new(),
        against: HashMap::new(),
        trials: 0,
    };
    let roots = solver.roots(wanted, variant)?;
    // What was asked for stands before any choice is made.
    for n in &roots {
        solver.choose(*n).map_err(|why| Error::invalid(format!("solve the packages: {why}")))?;
    }
    for n in roots {
        solver.expand(n).map_err(|why| {
            let why = format!("solve the packages: {} cannot be installed: {why}", universe.offers[n].name);
            Error::invalid(why)
        })?;
    }
    Ok(solver.chosen.into_values().collect())
}

/// Why it cannot be.
type Why = String;

struct Solver<'u, 'a> {
    universe: &'u Universe<'a>,
    architecture: &'u str,
    recommends: bool,
    /// Names whose version was asked for.
    pinned: HashMap<&'a str, usize>,
    /// By name.
    chosen: BTreeMap<&'a str, usize>,
    /// In the order in which they were chosen.
    log: Vec<usize>,
    /// What those that are chosen want nothing to do with, by its name: who, and what versions.
    against: HashMap<&'a str, Vec<(usize, Relation<'a>)>>,
    trials: u32,
}

impl<'a> Solver<'_, 'a> {
    fn roots(&mut self, wanted: &[String], variant: Variant) -> Result<Vec<usize>> {
        let mut roots = BTreeSet::new();
        for text in wanted {
            let n = self.named(text)?;
            self.pinned.insert(self.universe.offers[n].name, n);
            roots.insert(n);
        }
        // `required` is the first.
        let least = match variant {
            Variant::None => return Ok(roots.into_iter().collect()),
            Variant::Essential => 0,
            Variant::Minbase => 1,
            Variant::Important => 2,
            Variant::Standard => 3,
        };
        // The system is laid out with one of /bin and /usr/bin: what would make it so, and brings perl for that, is not needed.
        if self.universe.candidate("usrmerge").is_some() {
            roots.extend(self.universe.candidate("usr-is-merged"));
        }
        for name in self.universe.names() {
            let Some(n) = self.candidate(name) else { continue };
            let offer = &self.universe.offers[n];
            if offer.essential || offer.priority < least || least > 0 && name == "apt" {
                roots.insert(n);
            }
        }
        Ok(roots.into_iter().collect())
    }

    /// `NAME`, `NAME=VERSION`, or a name that one package alone provides.
    fn named(&self, text: &str) -> Result<usize> {
        let missing = |why: String| Error::not_found(format!("find the package {text}: {why}"));
        let (name, wanted) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let name = name.strip_suffix(&format!(":{}", self.architecture)).unwrap_or(name);
        if !relation::is_name(name) {
            return Err(Error::invalid(format!("{text:?} is no package: it is NAME or NAME=VERSION")));
        }
        if let Some(wanted) = wanted {
            version::check(wanted)?;
            return self.universe.of_version(name, wanted).ok_or_else(|| {
                missing(match &self.universe.versions(name)[..] {
                    [] => "no index has it".into(),
                    others => format!("there is {}", others.join(", ")),
                })
            });
        }
        if let Some(n) = self.universe.candidate(name) {
            return Ok(n);
        }
        let providers: BTreeSet<&str> =
            order::gather(self.universe.providers(name).iter().map(|n| self.universe.offers[*n].name));
        match providers.iter().collect::<Vec<_>>()[..] {
            [one] => self.universe.candidate(one).ok_or_else(|| missing("no index has it".into())),
            [] => Err(missing("no index has it".into())),
            _ => Err(missing(format!("name one of those that provide it: {}", join(&providers)))),
        }
    }

    fn candidate(&self, name: &str) -> Option<usize> {
        self.pinned.get(name).copied().or_else(|| self.universe.candidate(name))
    }

    /// Choose one, unless it does not go with another.
    fn choose(&mut self, n: usize) -> Result<bool, Why> {
        let offer = &self.universe.offers[n];
        match self.chosen.get(offer.name) {
            Some(have) if *have == n => return Ok(false),
            Some(have) => {
                let have = self.universe.offers[*have].version;
                return Err(format!("{} {} is wanted beside {have}", offer.name, offer.version));
            }
            None => {}
        }
        self.trials += 1;
        if self.trials > MAX_TRIALS {
            return Err("there are too many ways to try".into());
        }
        let mut against = Vec::new();
        for field in ["Conflicts", "Breaks"] {
            let value = offer.paragraph.get(field).unwrap_or_default();
            for r in parse(value).map_err(|e| format!("{}: {e}", offer.name))?.into_iter().flatten() {
                if let Some(other) = self.having(&r, field == "Conflicts").find(|other| *other != n) {
                    return Err(self.quarrel(n, other, &r));
                }
                against.push((field, r));
            }
        }
        let own = [(offer.name, Some(offer.version))];
        for (place, (name, version)) in own.iter().chain(&offer.provides).enumerate() {
            for (by, r) in self.against.get(name).into_iter().flatten() {
                let hit = if place == 0 { true } else { r.versions.is_none() || version.is_some() };
                let takes = version.map_or(r.versions.is_none(), |v| r.takes(v));
                if hit && takes {
                    return Err(self.quarrel(*by, n, r));
                }
            }
        }
        for (_, r) in against {
            self.against.entry(r.name).or_default().push((n, r));
        }
        self.chosen.insert(offer.name, n);
        self.log.push(n);
        Ok(true)
    }

    fn quarrel(&self, by: usize, other: usize, r: &Relation<'_>) -> Why {
        let name = |n: usize| self.universe.offers[n].name;
        match r.name == name(other) {
            true => format!("{} conflicts with {r}", name(by)),
            false => format!("{} conflicts with {r}, which {} provides", name(by), name(other)),
        }
    }

    /// Those chosen that a relation means.
    fn having(&self, r: &Relation<'a>, provided: bool) -> impl Iterator<Item = usize> {
        let real = self.chosen.get(r.name).copied().filter(|n| self.fits(*n, r));
        let mut others = Vec::new();
        if provided || real.is_none() {
            others = self.universe.providers(r.name);
            others.retain(|n| {
                self.chosen.get(self.universe.offers[*n].name) == Some(n) && self.provides(*n, r)
            });
        }
        real.into_iter().chain(others)
    }

    /// Is it what a relation names, not only something that provides it?
    fn fits(&self, n: usize, r: &Relation<'_>) -> bool {
        let offer = &self.universe.offers[n];
        let architecture = match r.qualifier {
            None | Some("native") => true,
            Some("any") => offer.for_any,
            Some(other) => other == self.architecture,
        };
        architecture && offer.name == r.name && r.takes(offer.version)
    }

    fn provides(&self, n: usize, r: &Relation<'_>) -> bool {
        let provided = self.universe.offers[n].provides.iter().filter(|(name, _)| *name == r.name);
        provided.into_iter().any(|(_, version)| version.map_or(r.versions.is_none(), |v| r.takes(v)))
    }

    /// What would do for a relation, the best first.
    fn choices(&self, r: &Relation<'_>) -> Vec<usize> {
        let mut all: Vec<usize> = self.candidate(r.name).filter(|n| self.fits(*n, r)).into_iter().collect();
        let mut others = self.universe.providers(r.name);
        others.retain(|n| self.candidate(self.universe.offers[*n].name) == Some(*n) && self.provides(*n, r));
        let rank = |n: &usize| {
            let o = &self.universe.offers[*n];
            // apt takes one without a priority for more important than any that has one.
            (!o.essential, (o.priority + 1) % (PRIORITIES.len() + 1), o.name)
        };
        order::sort_by(&mut others, |a, b| rank(a).cmp(&rank(b)));
        others.dedup();
        all.extend(others);
        all
    }

    /// Choose what one that is chosen needs.
    fn expand(&mut self, n: usize) -> Result<(), Why> {
        let offer = &self.universe.offers[n];
        let mut open = Vec::new();
        let fields: &[(&str, bool)] = match self.recommends {
            true => &[("Pre-Depends", true), ("Depends", true), ("Recommends", false)],
            false => &[("Pre-Depends", true), ("Depends", true)],
        };
        for (field, must) in fields {
            let value = offer.paragraph.get(field).unwrap_or_default();
            for group in parse(value).map_err(|e| format!("{}: {e}", offer.name))? {
                let mut choices: Vec<usize> = Vec::new();
                for n in group.iter().flat_map(|r| self.choices(r)) {
                    if !choices.contains(&n) {
                        choices.push(n);
                    }
                }
                open.push((*must, group, choices));
            }
        }
        // Where there is no choice, it is made first.
        let rank = |o: &(bool, Vec<_>, Vec<usize>)| (!o.0, o.2.len() > 1);
        order::sort_by(&mut open, |a, b| rank(a).cmp(&rank(b)));
        for (must, group, choices) in open {
            if group.iter().any(|r| self.having(r, true).next().is_some()) {
                continue;
            }
            let mut failed = None;
            let mut done = false;
            for choice in choices {
                let mark = self.log.len();
                match self.choose(choice).and_then(|new| if new { self.expand(choice) } else { Ok(()) }) {
                    Ok(()) => {
                        done = true;
                        break;
                    }
                    Err(why) => {
                        self.take_back(mark);
                        failed.get_or_insert(why);
                    }
                }
                if self.trials > MAX_TRIALS {
                    break;
                }
            }
            if !done && must {
                let text = group.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(" | ");
                let why = failed.unwrap_or_else(|| match self.universe.versions(group[0].name)[..] {
                    [] => "no index has it".to_owned(),
                    ref others => format!("there is {}", others.join(", ")),
                });
                return Err(format!("{} needs {text}: {why}", offer.name));
            }
        }
        Ok(())
    }

    fn take_back(&mut self, mark: usize) {
        for n in self.log.split_off(mark) {
            self.chosen.remove(self.universe.offers[n].name);
            self.against.values_mut().for_each(|all| all.retain(|(by, _)| *by != n));
        }
    }
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "solve_tests.rs"]
mod tests;
