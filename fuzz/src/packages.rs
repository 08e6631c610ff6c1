//! Databases of installed packages, and the licences of those.

use coracle_rootfs_tool::sbom::{apk, copyright, dpkg, license};

/// What is read is a word wherever a word is meant, and a licence is an expression whatever was written.
pub fn packages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for parse in [dpkg::parse, apk::parse] {
        for package in parse(text).into_iter().flatten() {
            for word in [&package.name, &package.version, &package.arch] {
                assert!(!word.is_empty() && word.chars().all(|c| c.is_ascii_graphic()), "{word:?}");
            }
            assert!(!package.summary.contains(char::is_control), "{:?}", package.summary);
            is_expression(&package.license);
        }
    }
    is_expression(&copyright::parse(text));
    is_expression(&license::expression(text));
}

/// Names between operators, in parentheses that belong together.
fn is_expression(text: &str) {
    let (mut depth, mut name_next) = (0, true);
    let spaced = text.replace('(', "( ").replace(')', " )");
    for word in spaced.split(' ').filter(|_| !text.is_empty()) {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AND" | "OR" => {
                assert!(!name_next, "{text:?}");
                name_next = true;
            }
            name => {
                assert!(name_next && !name.is_empty(), "{text:?}");
                assert!(
                    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')),
                    "{text:?}"
                );
                name_next = false;
            }
        }
        assert!(depth >= 0, "{text:?}");
    }
    assert!(depth == 0 && (text.is_empty() || !name_next), "{text:?}");
}

/// What is sound.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nSource: s (2)\nDescription: d\n long\n\nPackage: b\nVersion: 1\n",
        "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the libc\nL:(MIT OR Zlib) AND ISC\nF:lib\n\nP:b\nV:1\nA:x\n",
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ or Expat, and ISC\n",
        "GPL-1+ or Artistic, and BSD-3-clause or (LGPL-2.1+ with x exception and Zlib)",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
