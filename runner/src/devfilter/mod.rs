//! Which device nodes a container may make and open. A list of rules, in order, with everything
//! denied at its start, means: every kind of access is decided by the last rule that speaks of it.
//! On v1 the rules become lines for the kernel, on v2 a BPF program that we assemble. No node is
//! made here.

mod program;
mod sys;

use std::os::fd::BorrowedFd;

use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, json};
use serde::Serialize;

use crate::spec::resources::DeviceRule;

pub use program::{Insn, assemble};

/// mknod(2).
pub const MAKE: u32 = 1;
/// Opening for reading.
pub const READ: u32 = 2;
/// Opening for writing.
pub const WRITE: u32 = 4;

/// Block or character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Type {
    /// A block device.
    #[default]
    Block,
    /// A character device.
    Char,
}

impl json::Read for Type {
    fn read(&mut self, value: json::Value) -> std::result::Result<(), json::Wrong> {
        *self = match value.as_str() {
            Some("Block") => Self::Block,
            Some("Char") => Self::Char,
            _ => return Err(json::Wrong::new("expected Block or Char")),
        };
        Ok(())
    }
}

/// One rule, decided: what is `None` matches all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Whether it allows.
    pub allow: bool,
    /// The type.
    pub kind: Option<Type>,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// [`MAKE`], [`READ`], [`WRITE`].
    pub access: u32,
}

read_json!(Rule {
    allow: must "allow",
    kind: may "kind",
    major: may "major",
    minor: may "minor",
    access: must "access",
});

/// What a container may use whatever its list says, as under every runtime: any node may be made, the
/// default devices and terminals opened. Type, major, minor, access.
const DEFAULTS: [(Type, Option<u32>, Option<u32>, u32); 11] = {
    const ALL: u32 = READ | WRITE | MAKE;
    [
        (Type::Char, None, None, MAKE),
        (Type::Block, None, None, MAKE),
        (Type::Char, Some(1), Some(3), ALL),
        (Type::Char, Some(1), Some(5), ALL),
        (Type::Char, Some(1), Some(7), ALL),
        (Type::Char, Some(1), Some(8), ALL),
        (Type::Char, Some(1), Some(9), ALL),
        (Type::Char, Some(5), Some(0), ALL),
        (Type::Char, Some(5), Some(1), ALL),
        (Type::Char, Some(5), Some(2), ALL),
        (Type::Char, Some(136), None, ALL),
    ]
};

/// So many rules make a program of v2 in which every jump reaches its place: 15 bits count the instructions that it
/// goes past, and each rule has three of them for each kind of access.
const MOST: usize = 2048;

/// Decide the specification's rules, with what every container may use behind them. None at all where
/// they come to allowing everything.
pub fn plan(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    if rules.len() > MOST {
        return Err(Error::invalid(format!("linux.resources.devices: more than {MOST} rules")));
    }
    let decide =
        |(n, rule): (usize, &DeviceRule)| decide(rule).context(|| format!("linux.resources.devices[{n}]"));
    let mut rules = rules.iter().enumerate().map(decide).collect::<Result<Vec<_>>>()?;
    let total = rules.iter().rposition(Rule::is_total);
    if total.is_some_and(|at| rules[at..].iter().all(|rule| rule.allow)) {
        return Ok(Vec::new());
    }
    let since = rules.iter().rposition(|rule| !rule.allow).map_or(0, |at| at + 1);
    // Where everything is allowed but what is denied by name, any node may be made but those.
    let but_named = total.is_some_and(|at| rules[at].allow);
    for (kind, major, minor, access) in
        DEFAULTS.into_iter().filter(|(_, major, ..)| major.is_some() || !but_named)
    {
        let rule = Rule { allow: true, kind: Some(kind), major, minor, access };
        if !rules[since..].iter().any(|r| r.same_devices(&rule) && access & !r.access == 0) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn decide(rule: &DeviceRule) -> Result<Rule> {
    let mut access = 0;
    for c in rule.access.as_deref().unwrap_or_default().chars() {
        access |= match c {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(Error::invalid(format!("access: {c:?} is none of r, w, m"))),
        };
    }
    let access = if access == 0 { READ | WRITE | MAKE } else { access };
    let kind = match rule.kind.as_deref() {
        None | Some("a" | "") => {
            // The kernel takes no numbers for all types, so they mean nothing.
            return Ok(Rule { allow: rule.allow, kind: None, major: None, minor: None, access });
        }
        Some("b") => Some(Type::Block),
        Some("c" | "u") => Some(Type::Char),
        Some(other) => return Err(Error::invalid(format!("type: {other:?} is none of a, b, c"))),
    };
    let number = |what: &str, n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => {
            u32::try_from(n).map(Some).map_err(|_| Error::invalid(format!("{what}: {n} is no device number")))
        }
    };
    let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
    Ok(Rule { allow: rule.allow, kind, major, minor, access })
}

impl Rule {
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.access == READ | WRITE | MAKE
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        fn meet<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        self.access & other.access != 0
            && meet(self.kind, other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
    }

    /// As `devices.allow` and `devices.deny` of v1 take it.
    fn line(&self) -> String {
        let kind = match self.kind {
            None => 'a',
            Some(Type::Block) => 'b',
            Some(Type::Char) => 'c',
        };
        let number = |n: Option<u32>| n.map_or("*".to_string(), |n| n.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, c)| c)
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// What is written into which file on v1, in order. v1 keeps a default and exceptions to it, and a
/// later rule cannot take back a part of an exception: such a list is refused.
pub fn v1_lines(rules: &[Rule]) -> Result<Vec<(&'static str, String)>> {
    let mut lines = vec![("devices.deny", "a".to_string())];
    let mut allowed_by_default = false;
    let mut exceptions: Vec<Rule> = Vec::new();
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        if rule.is_total() {
            allowed_by_default = rule.allow;
            exceptions.clear();
            // What everything begins with need not be said twice.
            if lines.last().is_none_or(|last| *last != (file, "a".to_string())) {
                lines.push((file, "a".to_string()));
            }
            continue;
        }
        // The kernel takes `a` for everything, whatever access is named with it.
        let both = [Type::Block, Type::Char].map(|kind| Rule { kind: Some(kind), ..*rule });
        let one = [*rule];
        for rule in if rule.kind.is_none() { both.as_slice() } else { one.as_slice() } {
            if rule.allow != allowed_by_default {
                exceptions.push(*rule);
            } else if let Some(hit) = exceptions.iter().find(|e| e.overlaps(rule) && !e.same_devices(rule)) {
                return Err(Error::unsupported(format!(
                    "the device rule {:?} takes back a part of {:?}, which cgroup v1 cannot do",
                    rule.line(),
                    hit.line()
                )));
            } else {
                for e in exceptions.iter_mut().filter(|e| e.same_devices(rule)) {
                    e.access &= !rule.access;
                }
            }
            lines.push((file, rule.line()));
        }
    }
    Ok(lines)
}

/// Have the kernel apply `rules` to the cgroup v2 that `group` is open on.
pub fn attach(rules: &[Rule], group: BorrowedFd<'_>) -> Result<()> {
    let program = sys::load(&assemble(rules)).context(|| "load the device filter")?;
    sys::attach(&program, group).context(|| "attach the device filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rule(allow: bool, line: &str) -> DeviceRule {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |s: &str| if s == "*" { None } else { s.parse().ok() };
        let (major, minor) = words.get(1).and_then(|n| n.split_once(':')).unwrap_or(("*", "*"));
        DeviceRule {
            allow,
            kind: Some(words[0].into()),
            major: number(major),
            minor: number(minor),
            access: words.get(2).map(|a| a.to_string()),
        }
    }

    #[test]
    fn rules_become_the_lines_that_v1_takes() {
        let rules = plan(&[
            rule(false, "a *:* rwm"),
            rule(true, "c 1:3 rw"),
            rule(true, "b *:* m"),
            rule(false, "c 1:3 w"),
        ])
        .unwrap();
        let lines: Vec<String> = v1_lines(&rules).unwrap().iter().map(|(f, l)| format!("{f} {l}")).collect();
        assert_eq!(
            lines[..5],
            [
                "devices.deny a",
                "devices.allow c 1:3 rw",
                "devices.allow b *:* m",
                "devices.deny c 1:3 w",
                "devices.allow c *:* m"
            ]
        );
    }

    #[test]
    fn the_default_devices_are_allowed_behind_every_list_and_said_once() {
        let all = plan(&[]).unwrap();
        assert_eq!(all.len(), DEFAULTS.len());
        assert!(all.iter().all(|r| r.allow && !r.is_total()));
        let null = rule(true, "c 1:3 rwm");
        assert_eq!(plan(&[rule(false, "a *:* rwm"), null.clone()]).unwrap().len(), 1 + DEFAULTS.len());
        assert_eq!(plan(&[null, rule(false, "a *:* rwm")]).unwrap().len(), 2 + DEFAULTS.len());
        assert_eq!(plan(&[rule(false, "c 8:0 r"), rule(true, "a *:* rwm")]).unwrap(), []);
        let but_one = plan(&[rule(true, "a *:* rwm"), rule(false, "c 1:1 rwm")]).unwrap();
        assert_eq!(but_one.len(), 2 + DEFAULTS.len() - 2);
    }

    #[test]
    fn what_v1_would_get_wrong_is_refused() {
        let rules = plan(&[rule(true, "c *:* m"), rule(false, "c 8:* m")]).unwrap();
        let e = v1_lines(&rules).unwrap_err().to_string();
        assert!(e.contains("c 8:* m") && e.contains("v1"), "{e}");
        let rules = plan(&[rule(true, "a *:* rwm"), rule(false, "c 8:* r")]).unwrap();
        assert!(v1_lines(&rules).is_ok());
    }

    #[test]
    fn hostile_rules_are_named() {
        for (rule, word) in [
            (rule(true, "x 1:3 rw"), "type"),
            (rule(true, "c 1:3 rwx"), "access"),
            (rule(true, "c 4294967296:3 rw"), "major"),
            (rule(true, "c 1:-2 rw"), "minor"),
        ] {
            let e = plan(std::slice::from_ref(&rule)).unwrap_err().to_string();
            assert!(e.contains(word) && e.contains("devices[0]"), "{e}");
        }
    }
}
