//! A package's copyright file, where a program understands it (DEP 5): the licences that its paragraphs name.

use std::collections::BTreeSet;

use super::license;
use super::tree::Tree;
use crate::compose::deb::control;

/// The licences of a package, all of which apply to some of it; nothing where its file is prose, or is not there.
pub(super) fn of(tree: &Tree<'_>, name: &str) -> String {
    let path = format!("usr/share/doc/{name}/copyright");
    tree.text(&path).ok().flatten().map_or_else(String::new, |text| parse(&text))
}

/// The same of a text.
pub fn parse(text: &str) -> String {
    let Ok(all) = control::paragraphs(text) else { return String::new() };
    let head = all.first().and_then(|p| p.get("Format"));
    if !head.is_some_and(|format| format.contains("copyright-format/1.0") || format.contains("/dep5")) {
        return String::new();
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    // Paragraphs without files give the text of a licence that others name.
    for p in all.iter().filter(|p| p.get("Files").is_some() || p.line == all[0].line) {
        let name = p.get("License").and_then(|l| l.lines().next()).unwrap_or_default();
        let said = license::expression(name);
        match said.contains(['(', ')']) || said.contains(" OR ") {
            true => drop(names.insert(said)),
            false => names.extend(said.split(" AND ").map(str::to_owned)),
        }
    }
    names.remove("");
    let one = names.len() == 1;
    let part = |name: String| if !one && name.contains(" OR ") { format!("({name})") } else { name };
    names.into_iter().map(part).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licences_of_all_files_apply_and_prose_says_nothing() {
        let head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";
        let text = format!(
            "{head}Files: *\nCopyright: x\nLicense: GPL-2+\n the text\n\nFiles: a\nLicense: Expat or Zlib\n\n\
             Files: b\nLicense: GPL-2+ and ISC\n\nLicense: Apache-2.0\n never named\n"
        );
        assert_eq!(parse(&text), "GPL-2.0-or-later AND ISC AND (MIT OR Zlib)");
        assert_eq!(parse(&format!("{head}Files: *\nLicense: Expat or Zlib\n")), "MIT OR Zlib");
        assert_eq!(parse("This package was made by somebody.\n\nIt is free.\n"), "");
        assert_eq!(parse("Files: *\nLicense: Expat\n"), "");
        assert_eq!(parse(head), "");
    }
}
