//! dpkg's database (dpkg(1), "FILES"), written as if dpkg had unpacked the packages, so that it and apt carry on.

use std::collections::BTreeMap;

use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Context, Error, Result, order};

use super::unpack::Unpacked;

/// Where it is.
pub(crate) const DIR: &str = "var/lib/dpkg";

/// Write it. Packages that nobody will configure are installed as they are.
pub(crate) fn write(
    archive: &mut Archive,
    packages: &[Unpacked],
    installed: bool,
    latest: i64,
) -> Result<()> {
    let mut status = String::new();
    // By the path or the name of a trigger: who is interested.
    let mut triggers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files: Vec<(String, u32, Vec<u8>)> = Vec::new();
    let mut sorted: Vec<&Unpacked> = packages.iter().collect();
    order::sort_by(&mut sorted, |a, b| a.name().cmp(b.name()));
    for package in sorted {
        let mut one = || -> Result<()> {
            let p = package.paragraph()?;
            let name = p.must("Package")?;
            for (field, value) in p.fields() {
                status.push_str(&format!("{field}: {value}\n"));
                if field.eq_ignore_ascii_case("Package") {
                    let word = if installed { "installed" } else { "unpacked" };
                    status.push_str(&format!("Status: install ok {word}\n"));
                }
            }
            if !package.conffiles.is_empty() {
                status.push_str("Conffiles:\n");
                package.conffiles.iter().for_each(|(path, sum)| status.push_str(&format!(" {path} {sum}\n")));
            }
            status.push('\n');
            // Of those there may be one for each architecture.
            let full = match p.get("Multi-Arch") {
                Some("same") => format!("{name}:{}", p.must("Architecture")?),
                _ => name.to_owned(),
            };
            let list: String = package.list.iter().flat_map(|path| [&path[..], "\n"]).collect();
            files.push((format!("info/{full}.list"), 0o644, list.into_bytes()));
            for (file, mode, bytes) in &package.control {
                if file == "control" {
                    continue;
                }
                let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
                files.push((format!("info/{full}.{file}"), mode, bytes.clone()));
            }
            let said = String::from_utf8_lossy(package.file("triggers").unwrap_or_default()).into_owned();
            for line in said.lines().map(|l| l.split('#').next().unwrap_or_default().trim()) {
                let Some((word, what)) = line.split_once(char::is_whitespace) else { continue };
                let how = match word {
                    "interest" | "interest-await" => "",
                    "interest-noawait" => "/noawait",
                    _ => continue,
                };
                triggers.entry(what.trim().to_owned()).or_default().push(format!("{full}{how}"));
            }
            Ok(())
        };
        let name = package.name().to_owned();
        one().context(|| format!("register {name}"))?;
    }
    let mut by_path = String::new();
    for (what, who) in &triggers {
        if what.starts_with('/') {
            who.iter().for_each(|who| by_path.push_str(&format!("{what} {who}\n")));
        } else if what.contains('/') || what.starts_with('.') {
            return Err(Error::invalid(format!("register the trigger {what:?}: it is no name")));
        } else {
            let text: String = who.iter().flat_map(|w| [&w[..], "\n"]).collect();
            files.push((format!("triggers/{what}"), 0o644, text.into_bytes()));
        }
    }
    files.push(("triggers/File".into(), 0o644, by_path.into_bytes()));
    for (name, text) in [
        ("status", &status[..]),
        ("available", ""),
        ("diversions", ""),
        ("statoverride", ""),
        ("info/format", "1\n"),
        ("triggers/Unincorp", ""),
        ("lock", ""),
        ("lock-frontend", ""),
        ("triggers/Lock", ""),
    ] {
        let mode = if name.to_ascii_lowercase().contains("lock") { 0o640 } else { 0o644 };
        files.push((name.into(), mode, text.as_bytes().to_vec()));
    }
    for dir in ["", "/info", "/updates", "/triggers", "/alternatives", "/parts"] {
        archive.put(format!("{DIR}{dir}"), at(0o755, latest), Content::Dir)?;
    }
    for (name, mode, bytes) in files {
        archive.put(format!("{DIR}/{name}"), at(mode, latest), Content::Bytes(bytes))?;
    }
    Ok(())
}

fn at(mode: u32, seconds: i64) -> Meta {
    Meta { mtime: (seconds, 0), ..Meta::new(mode) }
}
