//! What a container may not leave behind: mounts, cgroups, processes, files. Taken before and after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was there.
#[derive(Debug)]
pub struct Leftovers {
    token: String,
    dirs: Vec<PathBuf>,
    before: BTreeSet<String>,
}

impl Leftovers {
    /// Look at everything that carries `token` (a store's folder name, a container's id): mounts and
    /// processes whose line holds it, cgroups named by it; and at every name beneath `dirs`. Tests run
    /// side by side, so what is somebody else's is not looked at.
    pub fn before(token: &str, dirs: &[&Path]) -> Self {
        let dirs: Vec<PathBuf> = dirs.iter().map(|d| d.to_path_buf()).collect();
        let before = look(token, &dirs);
        Self { token: token.to_owned(), dirs, before }
    }

    /// What is there now and was not before.
    pub fn new_ones(&self) -> Vec<String> {
        look(&self.token, &self.dirs).difference(&self.before).cloned().collect()
    }

    /// Poll until nothing new is left: the kernel takes its time to reap and unmount.
    #[track_caller]
    pub fn assert_none(&self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let left = self.new_ones();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn look(token: &str, dirs: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(table.lines().filter(|l| l.contains(token)).map(|l| format!("mount {l}")));
    processes(token, &mut found);
    cgroups(Path::new("/sys/fs/cgroup"), token, 0, &mut found);
    for dir in dirs {
        names(dir, &mut found);
    }
    found
}

fn processes(token: &str, found: &mut BTreeSet<String>) {
    let me = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == me || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let text = [read("cmdline"), read("environ"), read("cgroup")].concat();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        if text.contains(token) {
            found.insert(format!("process {pid} {}", text.lines().next().unwrap_or_default()));
        }
    }
}

fn cgroups(dir: &Path, token: &str, depth: u32, found: &mut BTreeSet<String>) {
    if depth > 8 {
        return;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(token) {
            found.insert(format!("cgroup {}", entry.path().display()));
        }
        cgroups(&entry.path(), token, depth + 1, found);
    }
}

fn names(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        found.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            names(&entry.path(), found);
        }
    }
}
