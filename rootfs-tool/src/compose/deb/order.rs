//! In which order packages are configured: what another needs goes before it, and what is essential before all else.

use std::collections::{BTreeMap, BTreeSet};

use coracle_sys::Result;
use coracle_sys::order::gather;

use super::relation;
use super::unpack::Unpacked;

/// A step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Run what a package has to be run before it is unpacked.
    Prepare(usize),
    /// Configure these, and what waits of their triggers.
    Configure(Vec<usize>),
    /// Configure all the rest.
    Finish,
}

/// What the order is made of.
struct Graph {
    /// Of each package what it needs, and of that what it needs before it is unpacked.
    needs: Vec<BTreeSet<usize>>,
    before: Vec<BTreeSet<usize>>,
    essential: Vec<bool>,
    prepares: Vec<bool>,
}

/// The steps.
pub(crate) fn steps(packages: &[Unpacked]) -> Result<Vec<Step>> {
    let mut names: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut paragraphs = Vec::new();
    for (n, package) in packages.iter().enumerate() {
        let p = package.paragraph()?;
        names.entry(p.must("Package")?).or_default().push(n);
        for r in relation::parse(p.get("Provides").unwrap_or_default())?.into_iter().flatten() {
            names.entry(r.name).or_default().push(n);
        }
        paragraphs.push(p);
    }
    let mut graph = Graph { needs: vec![], before: vec![], essential: vec![], prepares: vec![] };
    for (n, p) in paragraphs.iter().enumerate() {
        let of = |field: &str| -> Result<BTreeSet<usize>> {
            let groups = relation::parse(p.get(field).unwrap_or_default())?;
            let all = groups.iter().flatten().filter_map(|r| names.get(r.name)).flatten();
            Ok(gather(all.copied().filter(|other| *other != n)))
        };
        let before = of("Pre-Depends")?;
        graph.needs.push(gather(of("Depends")?.union(&before).copied()));
        graph.before.push(before);
        graph.essential.push(p.says_yes("Essential"));
        graph.prepares.push(packages[n].file("preinst").is_some());
    }
    // It makes the users and groups that all others take for granted.
    let first = names.get("base-passwd").and_then(|all| all.first()).copied();
    Ok(graph.steps(first))
}

impl Graph {
    fn steps(&self, first: Option<usize>) -> Vec<Step> {
        let base = self.closure((0..self.needs.len()).filter(|n| self.essential[*n]));
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for n in first.into_iter().chain(base.iter().copied()).chain(0..self.needs.len()) {
            // What is essential needs nothing but what is in its own circle.
            self.visit(n, &mut seen, &mut order);
        }
        let (early, late): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|n| base.contains(n));
        let mut steps = Vec::new();
        let mut early_first: Vec<usize> = first.into_iter().filter(|n| base.contains(n)).collect();
        early_first.extend(early.iter().copied().filter(|n| Some(*n) != first));
        steps.extend(early_first.iter().filter(|n| self.prepares[**n]).map(|n| Step::Prepare(*n)));
        let mut done: BTreeSet<usize> = BTreeSet::new();
        if !early_first.is_empty() && !late.is_empty() {
            done.extend(&early_first);
            steps.push(Step::Configure(early_first));
        }
        for n in late {
            if !self.prepares[n] {
                continue;
            }
            // What it needs before it is unpacked is configured, with all that needs.
            let wanted = self.closure(self.before[n].iter().copied());
            let wanted: Vec<usize> = wanted.into_iter().filter(|w| !done.contains(w) && *w != n).collect();
            if !wanted.is_empty() {
                done.extend(&wanted);
                steps.push(Step::Configure(wanted));
            }
            steps.push(Step::Prepare(n));
        }
        steps.push(Step::Finish);
        steps
    }

    fn closure(&self, from: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut todo: Vec<usize> = from.collect();
        let mut all = BTreeSet::new();
        while let Some(n) = todo.pop() {
            if all.insert(n) {
                todo.extend(&self.needs[n]);
            }
        }
        all
    }

    /// What a package needs, then the package. A circle is cut where it was entered. A stack of our own: a chain of
    /// needs may be long.
    fn visit(&self, from: usize, seen: &mut BTreeSet<usize>, order: &mut Vec<usize>) {
        let mut stack = vec![(from, false)];
        while let Some((n, left)) = stack.pop() {
            if left {
                order.push(n);
            } else if seen.insert(n) {
                stack.push((n, true));
                stack.extend(self.needs[n].iter().rev().map(|m| (*m, false)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(needs: &[&[usize]], before: &[&[usize]], essential: usize, prepares: &[usize]) -> Graph {
        let sets = |all: &[&[usize]]| all.iter().map(|s| s.iter().copied().collect()).collect();
        let n = needs.len();
        Graph {
            needs: sets(needs),
            before: sets(before),
            essential: (0..n).map(|m| m < essential).collect(),
            prepares: (0..n).map(|m| prepares.contains(&m)).collect(),
        }
    }

    #[test]
    fn what_is_needed_goes_first() {
        use Step::*;
        // 0 is essential and needs 1; 2 needs 3 before it is unpacked, which needs 0.
        let g = graph(&[&[1], &[0], &[3], &[0]], &[&[], &[], &[3], &[]], 1, &[0, 1, 2]);
        assert_eq!(
            g.steps(Some(1)),
            [Prepare(1), Prepare(0), Configure(vec![1, 0]), Configure(vec![3]), Prepare(2), Finish]
        );
        // Nothing but what is essential is configured at once.
        assert_eq!(graph(&[&[1], &[]], &[&[], &[]], 2, &[]).steps(None), [Finish]);
        assert_eq!(graph(&[&[]], &[&[]], 0, &[0]).steps(None), [Prepare(0), Finish]);
    }
}
