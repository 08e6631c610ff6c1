//! The facts of three runtimes held against each other, and the differences against the table of those that
//! are expected.

use crate::case::Case;
use crate::drive::{Outcome, RUNTIMES};
use crate::expected::{Expected, Peers};
use crate::facts::{Facts, ending, facts};

/// A fact in which ours is not like a peer's.
pub(crate) struct Difference {
    /// The variation's name.
    pub(crate) case: String,
    /// The fact's.
    pub(crate) field: String,
    /// What it is under each runtime; none where no container ran, or it is not there.
    pub(crate) values: [Option<String>; 3],
    /// Which peers can be asked, and which of them say something else than ours.
    comparable: [bool; 2],
    differs: [bool; 2],
}

impl Difference {
    /// Does an entry of the table speak of it?
    pub(crate) fn is(&self, entry: &Expected) -> bool {
        let from = match entry.from {
            Peers::Runc => [true, false],
            Peers::Crun => [false, true],
            Peers::Both => [true, true],
            Peers::Any => self.differs,
        };
        let peers = [from[0] && self.comparable[0], from[1] && self.comparable[1]];
        peers == self.differs && like(entry.case, &self.case) && like(entry.field, &self.field)
    }

    /// A line of the table, as it would have to be written.
    pub(crate) fn shown(&self) -> String {
        let from = match self.differs {
            [true, true] => "Both",
            [true, false] => "Runc",
            _ => "Crun",
        };
        let mut text = format!("{:?}, {:?}, {from}", self.case, self.field);
        for (runtime, value) in RUNTIMES.iter().zip(&self.values) {
            text.push_str(&format!("\n    {runtime:6} {}", value.as_deref().unwrap_or("-")));
        }
        text
    }
}

/// A pattern in which `*` stands for anything.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// All differences of one variation.
pub(crate) fn differences(case: &Case, outcomes: &[Outcome; 3]) -> Vec<Difference> {
    let endings = outcomes.each_ref().map(ending);
    let ran = endings.each_ref().map(|e| e.starts_with("ran"));
    let facts = outcomes.each_ref().map(facts);
    let mut found = Vec::new();
    let mut note = |field: &str, values: [Option<String>; 3], comparable: [bool; 2]| {
        let differs = [1, 2].map(|n| comparable[n - 1] && values[n] != values[0]);
        if differs != [false, false] {
            found.push(Difference {
                case: case.name.clone(),
                field: field.to_owned(),
                values,
                comparable,
                differs,
            });
        }
    };
    note("exit", endings.map(Some), [true, true]);
    let value = |facts: &Facts, ran: bool, name: &str| ran.then(|| facts.get(name).cloned()).flatten();
    let mut names: Vec<&String> = facts.iter().flat_map(Facts::keys).collect();
    names.sort_unstable();
    names.dedup();
    // Whether there is a group of its own, or any verb to ask, is said by other facts.
    let judged = |name: &&String| *name != "verb" && (!name.starts_with("limit.") || name.contains(": "));
    for name in names.into_iter().filter(judged) {
        let always = always(name);
        let counts = ran.map(|ran| ran || always);
        if counts[0] {
            // What is not there has no particulars.
            let there =
                [0, 1, 2].map(|n| name.split_once(": ").is_none_or(|(of, _)| facts[n].contains_key(of)));
            let values = [0, 1, 2].map(|n| value(&facts[n], counts[n], name));
            note(name, values, [1, 2].map(|n| counts[n] && there[0] && there[n]));
        }
    }
    found
}

/// Facts that are there though no container ran.
fn always(name: &str) -> bool {
    ["left", "host.", "hook", "verb"].iter().any(|subject| name.starts_with(subject))
}

#[test]
fn a_star_stands_for_anything() {
    for (pattern, text) in
        [("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("abc", "abc"), ("a*b*", "ab")]
    {
        assert!(like(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a*c", "ab"), ("", "a"), ("b*", "ab"), ("a*b*c", "acb")] {
        assert!(!like(pattern, text), "{pattern} {text}");
    }
}
