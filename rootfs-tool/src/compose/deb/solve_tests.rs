//! The solver on small indexes.

use super::*;

/// Lines of `NAME VERSION; Field: value; ...`.
fn index(lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let mut parts = line.split("; ");
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        out.push_str(&format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n"));
        parts.for_each(|p| out.push_str(&format!("{p}\n")));
        out.push('\n');
    }
    out
}

fn solved_with(lines: &str, wanted: &str, variant: Variant, recommends: bool) -> Result<String> {
    let text = index(lines);
    let mut universe = Universe::default();
    universe.add(&text, "amd64", 0, 500)?;
    let wanted: Vec<String> = wanted.split_whitespace().map(str::to_owned).collect();
    let all = solve(&universe, &wanted, variant, recommends, "amd64")?;
    let names: Vec<String> =
        all.iter().map(|n| format!("{}={}", universe.offers[*n].name, universe.offers[*n].version)).collect();
    Ok(names.join(" ").replace("=1 ", " ").trim_end_matches("=1").to_owned())
}

fn solved(lines: &str, wanted: &str) -> String {
    solved_with(lines, wanted, Variant::None, false).unwrap_or_else(|e| format!("error: {e}"))
}

#[test]
fn packages_bring_what_they_need() {
    for (lines, wanted, result) in [
        ("a 1; Depends: b\nb 1; Pre-Depends: c\nc 1; Depends: a\nd 1", "a", "a b c"),
        // The first alternative, unless one is there already.
        ("a 1; Depends: b | c\nb 1\nc 1", "a", "a b"),
        ("a 1; Depends: b | c\nb 1\nc 1", "a c", "a c"),
        ("a 1; Depends: x | c\nc 1", "a", "a c"),
        // What another needs without a choice is there before the choice.
        ("a 1; Depends: b | c, d\nb 1\nc 1\nd 1; Depends: c", "a", "a c d"),
        // Versions.
        ("a 1; Depends: b (>= 2) | c\nb 1\nc 1", "a", "a c"),
        ("a 1; Depends: b (>= 2)\nb 1\nb 3\nb 2", "a", "a b=3"),
        ("b 1\nb 3\nb 2", "b=2", "b=2"),
        ("a 1; Depends: b\nb 1\nb 3\nb 2", "a b=2", "a b=2"),
        // Who provides a name: the most important, then the first.
        (
            "a 1; Depends: v\nb 1; Provides: v; Priority: optional\nc 1; Provides: v; Priority: important",
            "a",
            "a c",
        ),
        ("a 1; Depends: v\nc 1; Provides: v\nb 1; Provides: v", "a", "a b"),
        ("a 1; Depends: v (>= 2) | d\nb 1; Provides: v\nc 1; Provides: v (= 1)\nd 1", "a", "a d"),
        ("a 1; Depends: v (>= 2)\nb 1; Provides: v\nc 1; Provides: v (= 2)", "a", "a c"),
        ("v 1; Provides: w\na 1; Depends: w", "a", "a v"),
        ("b 1; Provides: v", "v", "b"),
        // Of two that quarrel, the other alternative.
        ("a 1; Depends: b | c\nb 1; Conflicts: d\nc 1\nd 1", "a d", "a c d"),
        ("a 1; Depends: b | c\nb 1\nc 1\nd 1; Breaks: b (<< 2)", "a d", "a c d"),
        ("a 1; Depends: b | c\nb 1; Depends: e\ne 1; Conflicts: d\nc 1\nd 1", "a d", "a c d"),
        // It may quarrel with what it provides itself.
        ("a 1; Provides: mta; Conflicts: mta", "a", "a"),
        ("a 1; Provides: mta; Conflicts: mta\nb 1; Depends: c | d\nc 1; Provides: mta\nd 1", "a b", "a b d"),
        // Other architectures.
        ("a 1; Depends: b:any\nb 1; Multi-Arch: allowed", "a", "a b"),
        ("a 1; Depends: b:amd64\nb 1", "a:amd64", "a b"),
        ("a 1; Depends: b:i386 | c\nb 1\nc 1", "a", "a c"),
    ] {
        assert_eq!(solved(lines, wanted), result, "{lines}\nwanted: {wanted}");
    }
}

#[test]
fn what_cannot_be_is_explained() {
    for (lines, wanted, says) in [
        ("a 1", "b", "find the package b: no index has it"),
        ("a 1\na 2", "a=3", "find the package a=3: there is 1, 2"),
        ("a 1; Provides: v\nb 1; Provides: v", "v", "name one of those that provide it: a, b"),
        ("a 1; Depends: b", "a", "a cannot be installed: a needs b: no index has it"),
        ("a 1; Depends: b (>= 2)\nb 1", "a", "a needs b (>= 2): there is 1"),
        ("a 1; Depends: b\nb 1; Depends: c", "a", "a needs b: b needs c: no index has it"),
        ("a 1; Conflicts: b\nb 1", "a b", "a conflicts with b"),
        ("a 1; Conflicts: v\nb 1; Provides: v", "a b", "a conflicts with v, which b provides"),
        ("a 1; Depends: b\nb 1; Breaks: c (<= 1)\nc 1", "a c", "b conflicts with c (<= 1)"),
        ("a 1; Depends: b:any\nb 1", "a", "a needs b:any"),
        ("a 1; Depends: b c", "a", "read the relation"),
        ("a 1", "a:i386", "is no package"),
        ("a 1", "a=x", "is no version"),
    ] {
        let said = solved(lines, wanted);
        assert!(said.starts_with("error: ") && said.contains(says), "{lines}: {said}");
    }
}

#[test]
fn a_variant_brings_what_every_system_has() {
    let lines = "base 1; Essential: yes; Depends: lib\nlib 1\ntool 1; Priority: required\napt 1\nmail 1; Priority: important\n\
                 extra 1; Recommends: nice, none; Suggests: no\nnice 1\nno 1";
    let with = |variant, recommends| solved_with(lines, "extra", variant, recommends).unwrap();
    assert_eq!(with(Variant::None, false), "extra");
    assert_eq!(with(Variant::None, true), "extra nice");
    assert_eq!(with(Variant::Essential, false), "base extra lib");
    assert_eq!(with(Variant::Minbase, false), "apt base extra lib tool");
    assert_eq!(with(Variant::Important, false), "apt base extra lib mail tool");
    assert!(Variant::parse("big").is_err());
    // What would merge /usr is not needed where it is merged.
    let lines = "base 1; Essential: yes; Depends: usrmerge | usr-is-merged\nusrmerge 1\nusr-is-merged 1";
    assert_eq!(solved_with(lines, "", Variant::Essential, false).unwrap(), "base usr-is-merged");
}
