//! Relations between packages (deb-control(5)): `a (>= 1) | b, c:any`.

use std::cmp::Ordering;

use coracle_sys::{Error, Result};

use super::version;

/// One package that is named, perhaps with versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package.
    pub name: &'a str,
    /// What stands behind a colon: `any`, `native`, or an architecture.
    pub qualifier: Option<&'a str>,
    /// The versions that are meant; all when there is none.
    pub versions: Option<(Operator, &'a str)>,
}

/// How a version is compared with the one that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Earlier,
    AtMost,
    Exactly,
    AtLeast,
    Later,
}

impl Operator {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Exactly => order.is_eq(),
            Self::AtLeast => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

impl Relation<'_> {
    /// Is this version meant?
    pub fn takes(&self, version: &str) -> bool {
        self.versions.is_none_or(|(op, named)| op.holds(version::compare(version, named)))
    }
}

impl std::fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        self.qualifier.iter().try_for_each(|q| write!(f, ":{q}"))?;
        self.versions.iter().try_for_each(|(op, version)| write!(f, " ({} {version})", op.text()))
    }
}

/// A field: of each group one alternative is wanted.
pub fn parse(field: &str) -> Result<Vec<Vec<Relation<'_>>>> {
    let groups = field.split(',').map(str::trim).filter(|g| !g.is_empty());
    groups.map(|group| group.split('|').map(one).collect()).collect()
}

/// Is it the name of a package?
pub fn is_name(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(sound)
}

fn one(text: &str) -> Result<Relation<'_>> {
    let text = text.trim();
    let bad = |why: &str| Err(Error::invalid(format!("read the relation {text:?}: {why}")));
    let (name, rest) = text.split_at(text.find(['(', ' ', '\t', '\n', '[', '<']).unwrap_or(text.len()));
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) if is_name(qualifier) => (name, Some(qualifier)),
        Some(_) => return bad("what stands behind the colon is no architecture"),
        None => (name, None),
    };
    if !is_name(name) {
        return bad("there is no package's name");
    }
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(Relation { name, qualifier, versions: None });
    }
    let Some(inner) = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')) else {
        return bad("only versions in parentheses stand behind a name");
    };
    let inner = inner.trim();
    let (op, version) = inner.split_at(inner.find(|c| !matches!(c, '<' | '>' | '=')).unwrap_or(inner.len()));
    let op = match op {
        "<<" => Operator::Earlier,
        // Of old both meant the same.
        "<=" | "<" => Operator::AtMost,
        "=" | "" => Operator::Exactly,
        ">=" | ">" => Operator::AtLeast,
        ">>" => Operator::Later,
        _ => return bad("it compares by << <= = >= or >>"),
    };
    let version = version.trim();
    if version.is_empty() || version.contains(char::is_whitespace) {
        return bad("there is no version");
    }
    Ok(Relation { name, qualifier, versions: Some((op, version)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_groups_of_alternatives() {
        let field = "libc6 (>= 2.36), a|b (<<1) , python3:any (>= 3~),\n debconf (>= 0.5) | debconf-2.0,";
        let all: Vec<String> = parse(field)
            .unwrap()
            .iter()
            .map(|g| g.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(" | "))
            .collect();
        assert_eq!(
            all,
            ["libc6 (>= 2.36)", "a | b (<< 1)", "python3:any (>= 3~)", "debconf (>= 0.5) | debconf-2.0"]
        );
        assert!(parse("").unwrap().is_empty());
        let takes = |text: &str, version: &str| parse(text).unwrap()[0][0].takes(version);
        for (text, version, taken) in [
            ("a", "1", true),
            ("a (= 1)", "1-0", true),
            ("a (<< 1)", "1~", true),
            ("a (<< 1)", "1", false),
            ("a (>> 1)", "1", false),
            ("a (<= 1)", "1", true),
            ("a (>= 2)", "10", true),
        ] {
            assert_eq!(takes(text, version), taken, "{text} {version}");
        }
    }

    #[test]
    fn what_is_no_relation_is_shown() {
        for bad in [
            "a b",
            "(>= 1)",
            "a (>= )",
            "a (=> 1)",
            "a (1 2)",
            "a:",
            "a:b:c (1)",
            "a [amd64]",
            "a <x>",
            "|a",
            "a (",
        ] {
            let e = parse(bad).expect_err(bad).to_string();
            assert!(e.contains("read the relation"), "{e}");
        }
    }
}
