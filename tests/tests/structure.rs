//! The rules of the house that the compiler does not check. They read the sources as text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coracle_tests::workspace;

const CRATES: &[&str] = &["init", "lz4", "runner", "rootfs-tool", "store", "sys"];

/// Every Rust source of a crate, by its path below `src/`.
fn sources(krate: &str) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(dir).expect("read a source folder") {
            let path = entry.expect("read an entry").path();
            if path.is_dir() {
                walk(top, &path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("read a source");
                found.insert(path.strip_prefix(top).expect("beneath src").to_path_buf(), text);
            }
        }
    }
    let top = workspace().join(krate).join("src");
    let mut found = BTreeMap::new();
    walk(&top, &top, &mut found);
    assert!(!found.is_empty(), "no source in {}", top.display());
    found
}

/// The source without its unit tests, line comments and the text of string literals.
fn code(text: &str) -> String {
    let body = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut out = String::new();
    for line in body.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        for (at, c) in line.char_indices() {
            if c == '"' && previous != '\\' && previous != '\'' {
                in_string = !in_string;
            } else if !in_string && line[at..].starts_with("//") {
                break;
            } else if !in_string {
                out.push(c);
            }
            previous = c;
        }
        out.push('\n');
    }
    out
}

/// The module that a source is: `cgroups/v1.rs` is `cgroups::v1`, `cgroups/mod.rs` is `cgroups`.
fn module(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|p| p == "mod" || p == "lib" || p == "main") {
        parts.pop();
    }
    parts
}

/// The top-level modules that a source names as `crate::x`, within a group in braces too.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(word(item.trim()));
                        item.clear();
                    }
                    c if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            found.insert(word(item.trim()));
        } else {
            found.insert(word(rest));
        }
    }
    found
}

#[test]
fn the_modules_of_a_crate_import_each_other_in_one_direction() {
    for krate in CRATES {
        let sources = sources(krate);
        let tops: BTreeSet<String> =
            sources.keys().filter_map(|path| module(path).into_iter().next()).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in &sources {
            let Some(from) = module(path).into_iter().next() else { continue };
            // Unit tests may look at whatever they like.
            if module(path).iter().any(|part| part == "tests") {
                continue;
            }
            let mut code = code(text);
            if module(path).len() == 1 {
                code = code.replace("super::", "crate::");
            }
            let to = imports(&code).into_iter().filter(|m| tops.contains(m) && *m != from);
            edges.entry(from.clone()).or_default().extend(to);
        }
        // What imports nothing that is left is taken away; what remains is in a cycle or above one.
        while let Some(leaf) = edges.iter().find(|(_, to)| to.is_empty()).map(|(from, _)| from.clone()) {
            edges.remove(&leaf);
            for to in edges.values_mut() {
                to.remove(&leaf);
            }
        }
        assert!(edges.is_empty(), "import cycle in {krate}: {edges:#?}");
    }
}

#[test]
fn main_has_fewer_than_thirty_lines() {
    for krate in ["init", "runner", "rootfs-tool"] {
        // init has no Rust runtime below it: the C runtime calls a `main` that stands in sys/entry.rs.
        let sources = sources(krate);
        let text = sources.values().find(|text| text.contains("fn main("));
        let text = text.unwrap_or_else(|| panic!("{krate} has no main"));
        let start = text.find("fn main(").expect("found above");
        let lines = text[start..].lines().take_while(|l| *l != "}").count();
        assert!(lines < 30, "main() of {krate} has {lines} lines");
    }
}

#[test]
fn no_module_is_a_drawer_for_what_has_no_place() {
    for krate in CRATES {
        for path in sources(krate).keys() {
            for part in module(path) {
                let drawer =
                    ["util", "utils", "common", "helper", "helpers", "misc"].contains(&part.as_str());
                assert!(!drawer, "{krate}: {}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_is_written_in_sys_files_only() {
    for krate in CRATES {
        for (path, text) in sources(krate) {
            // A file of that name, or the folder that belongs to one.
            let allowed = *krate == "sys" || module(&path).iter().any(|part| part == "sys");
            let words = code(&text);
            let used = words
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .zip(words.split(|c: char| !c.is_alphanumeric() && c != '_').skip(1))
                .any(|(word, _)| word == "unsafe");
            assert!(allowed || !used, "{krate}: {} holds unsafe code", path.display());
            let lifted = text.contains("allow(unsafe_code)") || text.contains("expect(unsafe_code)");
            assert!(allowed || !lifted, "{krate}: {} lifts the ban on unsafe code", path.display());
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for krate in CRATES {
        for (path, text) in sources(krate) {
            assert!(text.starts_with("//!"), "{krate}: {} does not open with //!", path.display());
        }
    }
}

#[test]
fn the_binaries_do_not_link_each_other() {
    let dependencies = |krate: &str| {
        let text = std::fs::read_to_string(workspace().join(krate).join("Cargo.toml"));
        let text = text.expect("read Cargo.toml");
        text.lines().filter(|l| l.starts_with("coracle-")).map(str::to_owned).collect::<String>()
    };
    assert_eq!(dependencies("init"), "", "init depends on libc alone");
    for (krate, others) in [("runner", ["rootfs-tool", "init"]), ("rootfs-tool", ["runner", "init"])] {
        for other in others {
            let name = format!("coracle-{other}");
            assert!(!dependencies(krate).contains(&name), "{krate} links {other}");
        }
    }
}

#[test]
fn no_package_mirror_and_no_registry_but_the_default_is_written_into_the_code() {
    // Those that this machine's apt is configured for; a machine without apt has none to compare with.
    let configured = ["/etc/apt/sources.list", "/etc/apt/sources.list.d"].map(std::path::Path::new);
    let files = configured.into_iter().flat_map(|path| match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => vec![path.to_path_buf()],
    });
    let texts: Vec<String> = files.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let hosts: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.split("://").skip(1))
        .filter_map(|rest| rest.split(['/', ' ', '\n', ':']).next())
        .filter(|host| host.contains('.'))
        .collect();
    for krate in CRATES {
        for (path, text) in sources(krate) {
            for host in &hosts {
                assert!(!text.contains(host), "{krate}: {} names {host}", path.display());
            }
        }
    }
}
