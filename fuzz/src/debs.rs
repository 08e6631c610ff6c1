//! Debian's archives: indexes, versions, relations, lists of repositories, signatures, and packages themselves.

use std::cmp::Ordering;
use std::io::Read;

use coracle_rootfs_tool::compose::deb::openpgp::keyring::Keyring;
use coracle_rootfs_tool::compose::deb::openpgp::message;
use coracle_rootfs_tool::compose::deb::paths::Paths;
use coracle_rootfs_tool::compose::deb::release::Release;
use coracle_rootfs_tool::compose::deb::solve::{Variant, solve};
use coracle_rootfs_tool::compose::deb::universe::Universe;
use coracle_rootfs_tool::compose::deb::{control, package, relation, sources, version};
use coracle_store::layer::Limits;
use coracle_store::layer::walk::Walk;

/// Paragraphs hold their fields in order, and all of them.
pub fn control(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(all) = control::paragraphs(text) else { return };
    for paragraph in all {
        for (name, value) in paragraph.fields() {
            assert!(!name.is_empty() && value == value.trim(), "{name:?} {value:?}");
            assert!(paragraph.get(name).is_some());
        }
    }
}

/// What a Release or a list of repositories says is read or refused.
pub fn release(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(release) = Release::parse(text) {
        assert!(release.files.iter().all(|(_, sum, _)| sum.len() == 64));
        let _ = release.check("test", 0, true, Some(0));
    }
    for parse in [sources::parse_list, sources::parse_sources] {
        for source in parse(text, "amd64").into_iter().flatten() {
            assert!(source.is_flat() == source.components.is_empty(), "{source:?}");
        }
    }
}

/// Versions have an order: none is newer than one that is newer than itself.
pub fn versions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let all: Vec<&str> = text.split_whitespace().take(6).collect();
    for a in &all {
        let _ = version::check(a);
        assert_eq!(version::compare(a, a), Ordering::Equal, "{a}");
        for b in &all {
            assert_eq!(version::compare(a, b), version::compare(b, a).reverse(), "{a} {b}");
            for c in &all {
                if version::compare(a, b).is_le() && version::compare(b, c).is_le() {
                    assert!(version::compare(a, c).is_le(), "{a} {b} {c}");
                }
            }
        }
    }
}

/// Relations print as what reads the same; an index is solved, and then nothing that it needs is missing.
pub fn relations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(groups) = relation::parse(text) {
        for r in groups.iter().flatten() {
            let again = r.to_string();
            assert_eq!(relation::parse(&again).expect("it was one").concat(), [*r], "{text:?}");
        }
    }
    let mut universe = Universe::default();
    if universe.add(text, "amd64", 0, 500).is_err() {
        return;
    }
    let wanted: Vec<String> = universe.names().iter().take(3).map(|n| (*n).to_owned()).collect();
    let Ok(solved) = solve(&universe, &wanted, Variant::Minbase, true, "amd64") else { return };
    let names: Vec<&str> = solved.iter().map(|n| universe.offers[*n].name).collect();
    assert!(wanted.iter().all(|w| names.contains(&&w[..])), "{wanted:?} {names:?}");
    for n in &solved {
        let offer = &universe.offers[*n];
        for group in relation::parse(offer.paragraph.get("Depends").unwrap_or_default()).expect("it was read")
        {
            let provides =
                |name: &str| solved.iter().any(|m| universe.offers[*m].provides.iter().any(|p| p.0 == name));
            assert!(
                group.iter().any(|r| names.contains(&r.name) || provides(r.name)),
                "{} {group:?}",
                offer.name
            );
        }
    }
}

/// Nothing that is bent is what was signed: the text that comes back is always the one that gpg signed.
pub fn signed(data: &[u8]) {
    let mut keys = Keyring::default();
    keys.add(seeds::KEY).expect("the key");
    let _ = Keyring::default().add(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(signed) = message::signed_text(text, &keys, seeds::WHEN) {
        assert_eq!(signed, seeds::TEXT);
    }
    if message::check_detached(data, seeds::TEXT.as_bytes(), &keys, seeds::WHEN).is_ok() {
        assert!(data.len() > 64);
    }
}

/// A package is walked to its end or to an error.
pub fn package(data: &[u8]) {
    let Ok(package) = package::open(data) else { return };
    assert!(package.control.iter().all(|(name, _, _)| !name.contains('/')));
    let limits = Limits { size: 1 << 24, entries: 1000, depth: 64, ..Limits::default() };
    let mut walk = Walk::new(package.data.take(1 << 24), limits);
    while let Ok(Some(_)) = walk.next_entry() {}
}

/// Patterns for paths take no time worth speaking of.
pub fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, text));
    let paths = Paths { exclude: vec![pattern.to_owned()], include: vec![] };
    let hit = paths.leaves_out(path);
    if !pattern.contains(['*', '?', '[', '\\']) {
        assert_eq!(hit, pattern == path, "{pattern:?} {path:?}");
    }
}

/// What is sound.
pub(crate) mod seeds {
    /// An Ed25519 key of a test, and what it signed.
    pub(crate) const KEY: &[u8] = include_bytes!("../seeds/signer.gpg");
    pub(crate) const TEXT: &str = include_str!("../seeds/signed.txt");
    const MESSAGE: &[u8] = include_bytes!("../seeds/signed.asc");
    const DETACHED: &[u8] = include_bytes!("../seeds/signed.sig");
    const PACKAGE: &[u8] = include_bytes!("../seeds/package.deb");
    /// A moment after it was signed.
    pub(crate) const WHEN: u64 = 1_900_000_000;

    fn texts(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|t| t.as_bytes().to_vec()).collect()
    }

    pub(crate) fn control() -> Vec<Vec<u8>> {
        texts(&["Package: a\nVersion: 1\n# x\nDescription: d\n long\n .\n\nPackage: b\nVersion: 2\n"])
    }

    pub(crate) fn release() -> Vec<Vec<u8>> {
        let sum = "ab".repeat(32);
        let release = format!(
            "Suite: test\nDate: Sat, 10 May 2025 09:53:06 UTC\nValid-Until: Sat, 17 May 2025 09:53:06 UTC\n\
             Architectures: all amd64\nSHA256:\n {sum} 7 main/binary-amd64/Packages.gz\n"
        );
        let list = "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian stable main\n";
        let paragraph = "Types: deb\nURIs: http://m.example\nSuites: a b/\nComponents: main\nSigned-By:\n -----BEGIN\n .\n";
        texts(&[&release, list, paragraph])
    }

    pub(crate) fn versions() -> Vec<Vec<u8>> {
        texts(&["1:2.3~rc1-4+b1 1.0 1.0~ 1.0-0 0:1a", "~ ~~ 1~~a 1~ 18446744073709551617 00"])
    }

    pub(crate) fn relations() -> Vec<Vec<u8>> {
        texts(&[
            "libc6 (>= 2.36), a|b (<<1) , python3:any (>= 3~)",
            "Package: a\nVersion: 1\nArchitecture: amd64\nDepends: b | v, c (>= 1)\nPriority: required\n\n\
             Package: b\nVersion: 1\nArchitecture: all\nConflicts: d\nProvides: v (= 2)\nEssential: yes\n\n\
             Package: c\nVersion: 2\nArchitecture: amd64\nPre-Depends: a\nRecommends: d\n\n\
             Package: d\nVersion: 1\nArchitecture: amd64\nBreaks: c (<< 1)\n",
        ])
    }

    pub(crate) fn signed() -> Vec<Vec<u8>> {
        [MESSAGE, KEY, DETACHED].map(<[u8]>::to_vec).to_vec()
    }

    pub(crate) fn packages() -> Vec<Vec<u8>> {
        vec![PACKAGE.to_vec()]
    }

    pub(crate) fn patterns() -> Vec<Vec<u8>> {
        texts(&[
            "/usr/share/doc/*\n/usr/share/doc/a/b",
            "*[a-c]?\\*\n/xb?*",
            "*a*a*a*b\naaaaaaaaaaaa",
            "/a\n/a",
        ])
    }
}
