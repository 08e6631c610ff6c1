//! A tree on the host that must be byte-identical after every escape test: names, types, modes,
//! owners, sizes, contents, links.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Scratch;

/// A tree with a hash.
pub struct Canary {
    scratch: Scratch,
    before: String,
}

impl Canary {
    /// A tree of a few files and folders; one file is a secret that nothing inside may read.
    pub fn new() -> Self {
        let scratch = Scratch::new("canary");
        scratch.write("secret", "the canary sings\n");
        scratch.write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        scratch.write("sub/dir/file", "untouched\n");
        scratch.mkdir("empty");
        std::os::unix::fs::symlink("secret", scratch.join("link")).expect("make a link");
        let before = hash(scratch.path());
        Self { scratch, before }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// It has to be as it was.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let now = hash(self.scratch.path());
        assert!(now == self.before, "the canary tree changed\n{}", listing(self.path()).join("\n"));
    }

    /// No text of a container may hold its secret.
    #[track_caller]
    pub fn assert_unread(&self, text: &str) {
        assert!(!text.contains("the canary sings"), "the canary was read:\n{text}");
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// One hash over everything beneath `dir`: what a test compares before and after.
pub fn hash(dir: &Path) -> String {
    let mut sum = Sha256::new();
    for line in listing(dir) {
        sum.update(line.as_bytes());
        sum.update(b"\n");
    }
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Every name beneath `dir` with what it is, sorted.
pub fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found.dedup();
    found
}

fn walk(top: &Path, dir: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("read {}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("read an entry").path()).collect();
    paths.push(dir.to_path_buf());
    for path in paths {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let kind = meta.file_type();
        let content = if kind.is_file() {
            file_hash(&path)
        } else if kind.is_symlink() {
            std::fs::read_link(&path).unwrap_or_default().display().to_string()
        } else {
            meta.rdev().to_string()
        };
        let name = path.strip_prefix(top).expect("beneath the top").display();
        found.push(format!("{name} {:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid()));
        if kind.is_dir() && path != dir {
            walk(top, &path, found);
        }
    }
}

/// The SHA-256 of one file, in hex; of an unreadable one, what the kernel says.
pub fn file_hash(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect(),
        Err(e) => e.to_string(),
    }
}
