//! Names of licences as distributions write them become expressions as SPDX has them (Annex D). A name that SPDX is not
//! known to have becomes a `LicenseRef-`.

/// Short names of Debian's copyright files and of apk, in small letters, and what SPDX calls them.
const NAMES: &[(&str, &str)] = &[
    ("0bsd", "0BSD"),
    ("afl-2.1", "AFL-2.1"),
    ("apache-1.1", "Apache-1.1"),
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-1.0", "Artistic-1.0"),
    ("artistic-1.0-perl", "Artistic-1.0-Perl"),
    ("artistic-2", "Artistic-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("beerware", "Beerware"),
    ("blessing", "blessing"),
    ("boehm-gc", "Boehm-GC"),
    ("bsd-1-clause", "BSD-1-Clause"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("bzip2-1.0.6", "bzip2-1.0.6"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("curl", "curl"),
    ("expat", "MIT"),
    ("fsfap", "FSFAP"),
    ("fsful", "FSFUL"),
    ("fsfullr", "FSFULLR"),
    ("gfdl-niv-1.2", "GFDL-1.2-no-invariants-only"),
    ("gfdl-niv-1.2+", "GFDL-1.2-no-invariants-or-later"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants-only"),
    ("gfdl-niv-1.3+", "GFDL-1.3-no-invariants-or-later"),
    ("hpnd", "HPND"),
    ("icu", "ICU"),
    ("ijg", "IJG"),
    ("isc", "ISC"),
    ("libpng", "Libpng"),
    ("mit", "MIT"),
    ("mit-0", "MIT-0"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ncsa", "NCSA"),
    ("ntp", "NTP"),
    ("ofl-1.1", "OFL-1.1"),
    ("openssl", "OpenSSL"),
    ("postgresql", "PostgreSQL"),
    ("psf-2", "PSF-2.0"),
    ("psf-2.0", "PSF-2.0"),
    ("python-2.0", "Python-2.0"),
    ("qpl-1.0", "QPL-1.0"),
    ("ruby", "Ruby"),
    ("sleepycat", "Sleepycat"),
    ("tcl", "TCL"),
    ("unicode-dfs-2016", "Unicode-DFS-2016"),
    ("unicode-tou", "Unicode-TOU"),
    ("unlicense", "Unlicense"),
    ("vim", "Vim"),
    ("w3c", "W3C"),
    ("wtfpl", "WTFPL"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
    ("zpl-2.1", "ZPL-2.1"),
];

/// GNU's, and the versions that there are.
const GNU: &[(&str, &[&str])] = &[
    ("gpl", &["1.0", "2.0", "3.0"]),
    ("lgpl", &["2.0", "2.1", "3.0"]),
    ("agpl", &["1.0", "3.0"]),
    ("gfdl", &["1.1", "1.2", "1.3"]),
];

/// The expression for what is written: names with `and`, `or` and commas, which bind less, and parentheses.
pub fn expression(text: &str) -> String {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    if words.is_empty() {
        return String::new();
    }
    if words.contains(&"(") || words.contains(&")") {
        return in_parentheses(&words).unwrap_or_else(|| reference(text));
    }
    let groups: Vec<&[&str]> = words.split(|w| *w == ",").filter(|g| !g.is_empty()).collect();
    let mut out = String::new();
    for (n, group) in groups.iter().enumerate() {
        let (op, rest) = match operator(group[0]) {
            Some(op) => (op, &group[1..]),
            None => ("AND", *group),
        };
        let Some(inner) = names(rest) else { return reference(text) };
        let several = groups.len() > 1 && inner.contains(' ');
        let inner = if several { format!("({inner})") } else { inner };
        out = if n == 0 { inner } else { format!("{out} {op} {inner}") };
    }
    out
}

/// What has parentheses is taken as it is if all of it is understood.
fn in_parentheses(words: &[&str]) -> Option<String> {
    let (mut depth, mut name_next) = (0usize, true);
    let mut out = String::new();
    for word in words {
        let (said, space) = match (*word, operator(word)) {
            ("(", _) if name_next => {
                depth += 1;
                ("(".to_owned(), "")
            }
            (")", _) if !name_next => {
                depth = depth.checked_sub(1)?;
                out.truncate(out.trim_end().len());
                (")".to_owned(), " ")
            }
            (_, Some(op)) if !name_next => {
                name_next = true;
                (op.to_owned(), " ")
            }
            (name, None) if name_next && name != "(" => {
                name_next = false;
                (known(name)?, " ")
            }
            _ => return None,
        };
        out += &(said + space);
    }
    (depth == 0 && !name_next).then(|| out.trim_end().to_owned())
}

fn operator(word: &str) -> Option<&'static str> {
    match word {
        _ if word.eq_ignore_ascii_case("and") => Some("AND"),
        _ if word.eq_ignore_ascii_case("or") => Some("OR"),
        _ => None,
    }
}

/// Names and what stands between them; nothing where a name is missing.
fn names(words: &[&str]) -> Option<String> {
    let mut out = String::new();
    for (n, name) in words.split(|w| operator(w).is_some()).enumerate() {
        let said = match name {
            [] => return None,
            [one] => known(one).unwrap_or_else(|| reference(one)),
            // With an exception, or a sentence.
            several => reference(&several.join(" ")),
        };
        if n > 0 {
            let op = words.iter().filter_map(|w| operator(w)).nth(n - 1)?;
            out += &format!(" {op} ");
        }
        out += &said;
    }
    Some(out)
}

/// SPDX's name.
fn known(name: &str) -> Option<String> {
    let small = name.to_ascii_lowercase();
    if let Ok(at) = NAMES.binary_search_by(|(known, _)| (*known).cmp(&small[..])) {
        return Some(NAMES[at].1.to_owned());
    }
    let (family, rest) = small.split_once('-')?;
    let (_, versions) = GNU.iter().find(|(known, _)| *known == family)?;
    let later = rest.strip_suffix('+').or_else(|| rest.strip_suffix("-or-later"));
    let (version, suffix) = match later {
        Some(version) => (version, "or-later"),
        None => (rest.strip_suffix("-only").unwrap_or(rest), "only"),
    };
    let whole = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let known = versions.contains(&&whole[..]);
    known.then(|| format!("{}-{whole}-{suffix}", family.to_ascii_uppercase()))
}

/// A name of the document's own, of the characters that one may have.
fn reference(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let mut text: String = name.trim().chars().take(64).map(plain).collect();
    while text.contains("--") {
        text = text.replace("--", "-");
    }
    match text.trim_matches('-') {
        "" => "LicenseRef-unnamed".to_owned(),
        text => format!("LicenseRef-{text}"),
    }
}

/// The names of a document's own in an expression.
pub fn references(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    words.filter(|word| word.starts_with("LicenseRef-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn names_of_distributions_become_those_of_spdx() {
        for (text, expected) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-2", "GPL-2.0-only"),
            ("GPL-2.0-only", "GPL-2.0-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("LGPL-9", "LicenseRef-LGPL-9"),
            ("GFDL-1.3+", "GFDL-1.3-or-later"),
            ("Expat", "MIT"),
            ("BSD-3-clause or GPL-2+ and Expat", "BSD-3-Clause OR GPL-2.0-or-later AND MIT"),
            (
                "GPL-1+ or Artistic, and BSD-3-clause",
                "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND BSD-3-Clause",
            ),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-GPL-2-with-OpenSSL-exception"),
            ("public-domain", "LicenseRef-public-domain"),
            ("(MIT OR Zlib) AND ISC", "(MIT OR Zlib) AND ISC"),
            ("(MIT OR strange) AND ISC", "LicenseRef-MIT-OR-strange-AND-ISC"),
            ("MIT )(", "LicenseRef-MIT"),
            ("or MIT or", "LicenseRef-or-MIT-or"),
            ("\u{1b}[31m", "LicenseRef-31m"),
            ("???", "LicenseRef-unnamed"),
            ("", ""),
        ] {
            assert_eq!(expression(text), expected, "{text:?}");
        }
        assert_eq!(
            references("(LicenseRef-a OR MIT) AND LicenseRef-b").collect::<Vec<_>>(),
            ["LicenseRef-a", "LicenseRef-b"]
        );
    }
}
