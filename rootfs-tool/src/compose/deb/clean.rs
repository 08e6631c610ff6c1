//! What a configured system holds that is another each time, or that nobody needs: logs, caches, backups, ids.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Error, Result, order};

use super::paths::{self, Paths};

/// Directories that are emptied.
const EMPTY: &[&str] = &[
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/lib/systemd/catalog",
];

/// Files that go.
const GONE: &[&str] = &[
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/mtab",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "usr/sbin/policy-rc.d",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/statoverride-old",
    "var/lib/systemd/random-seed",
];

/// Records of who logged in: their owners and modes are not those that a program would give them.
const KEPT: &[&str] = &["var/log/btmp", "var/log/faillog", "var/log/lastlog", "var/log/wtmp"];

/// Of a finished system only these paths stay, with the directories that lead to them.
pub(crate) fn keep(archive: &mut Archive, patterns: &[String]) -> Result<()> {
    let all: Vec<PathBuf> = archive.paths().map(Path::to_owned).collect();
    let kept = |path: &&PathBuf| path.to_str().is_some_and(|p| paths::any(patterns, &format!("/{p}")));
    let kept: BTreeSet<&Path> = order::gather(all.iter().filter(kept).flat_map(|p| p.ancestors()));
    let gone = |path: &Path| !kept.contains(path);
    for path in &all {
        if let Some((_, Content::HardLink(to))) = archive.get(path)
            && gone(to)
            && !gone(path)
        {
            return Err(Error::invalid(format!(
                "keep {path:?}: it is another name of {to:?}, which does not stay"
            )));
        }
    }
    // From the end on, so that what goes with a directory is gone before it.
    for path in all.iter().rev().filter(|p| gone(p)) {
        archive.remove(path)?;
    }
    Ok(())
}

/// Clean the entries of a whole root file system.
pub(crate) fn clean(archive: &mut Archive, paths: &Paths, latest: i64) -> Result<()> {
    let all: Vec<PathBuf> = archive.paths().map(Path::to_owned).collect();
    let mut dirs = Vec::new();
    for path in &all {
        let Some((meta, content)) = archive.get(path) else { continue };
        let is_dir = *content == Content::Dir;
        let emptied = EMPTY.iter().any(|dir| path.starts_with(dir) && path != Path::new(dir))
            && path != Path::new("run/lock");
        let gone = GONE.iter().any(|gone| path == Path::new(gone));
        // Logs, but for the directories that programs write them to.
        let log = path.starts_with("var/log") && !is_dir;
        if log && KEPT.iter().any(|kept| path == Path::new(kept)) {
            let meta = meta.clone();
            archive.put(path, meta, Content::Bytes(Vec::new()))?;
            continue;
        }
        let shown = path.to_str().map(|p| format!("/{p}"));
        let out = shown.is_some_and(|p| paths.leaves_out(&p));
        if out && is_dir {
            dirs.push((path.clone(), meta.clone()));
        }
        if emptied || gone || log || out && !is_dir {
            archive.remove(path)?;
        }
    }
    // Directories that were left without what they were for.
    for (dir, _) in dirs.iter().rev() {
        let below = archive.paths().any(|p| p != dir && p.starts_with(dir));
        if !below {
            archive.remove(dir)?;
        }
    }
    // systemd takes an empty one for a system that was never started.
    if archive.get("etc/machine-id").is_some() {
        let meta = Meta { mtime: (latest, 0), ..Meta::new(0o644) };
        archive.put("etc/machine-id", meta, Content::Bytes(Vec::new()))?;
    }
    for dir in ["var/cache/apt/archives/partial", "var/lib/apt/lists/partial"] {
        let above = Path::new(dir).parent().and_then(Path::parent);
        if above.is_some_and(|dir| archive.get(dir).is_some()) && archive.get("usr/bin/apt-get").is_some() {
            for dir in Path::new(dir).parent().into_iter().chain([Path::new(dir)]) {
                let meta = Meta { mtime: (latest, 0), ..Meta::new(0o755) };
                archive.put(dir, meta, Content::Dir)?;
            }
        }
    }
    Ok(())
}
