//! dpkg's database: the paragraphs of `status`, and those of `status.d`, where images without dpkg have them.

use coracle_sys::{Error, Result};

use super::{Package, check_word, line};
use crate::compose::deb::control::{self, Paragraph};

/// The packages that are there; what was removed and left its configuration is not.
pub fn parse(text: &str) -> Result<Vec<Package>> {
    control::paragraphs(text)?.into_iter().filter(is_there).map(package).collect()
}

fn is_there(p: &Paragraph<'_>) -> bool {
    // Of status.d none has a state.
    let state = p.get("Status").and_then(|s| s.split_whitespace().nth(2));
    !matches!(state, Some("not-installed" | "config-files"))
}

fn package(p: Paragraph<'_>) -> Result<Package> {
    let field = |name: &str| line(p.get(name).unwrap_or_default());
    let at = |e: Error| Error::invalid(format!("line {}: {e}", p.line));
    let (name, version) = (p.must("Package")?, p.must("Version")?);
    let arch = p.get("Architecture").unwrap_or("all");
    check_word("name of a package", name).map_err(at)?;
    check_word("version", version).map_err(at)?;
    check_word("architecture", arch).map_err(at)?;
    let source = match field("Source") {
        none if none.is_empty() => format!("{name} {version}"),
        source => match source.split_once('(') {
            Some((source, version)) => format!("{} {}", source.trim(), version.trim_end_matches(')').trim()),
            None => format!("{source} {version}"),
        },
    };
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        arch: arch.to_owned(),
        source,
        maintainer: field("Maintainer"),
        homepage: field("Homepage"),
        summary: field("Description"),
        license: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_with_its_source_and_what_was_removed_is_not() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\n\
                    Source: src (2-3)\nDescription: short\n long\n\n\
                    Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: c\nVersion: 1\nMaintainer: M <m@x>\n";
        let all = parse(text).unwrap();
        let shown: Vec<_> = all.iter().map(|p| (&p.name[..], &p.source[..], &p.arch[..])).collect();
        assert_eq!(shown, [("a", "src 2-3", "amd64"), ("c", "c 1", "all")]);
        assert_eq!((&all[0].summary[..], &all[1].maintainer[..]), ("short", "M <m@x>"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, says) in [
            ("Package: a\n", "line 1: it has no Version"),
            ("Version: 1\n", "line 1: it has no Package"),
            ("\n\nPackage: a b\nVersion: 1\n", "line 3: \"a b\" is no name"),
            ("Package: a\nVersion: \u{1b}[31m\n", "is no version"),
            ("nonsense\n", "line 1: it is no field"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(says), "{text:?}: {e}");
        }
    }
}
