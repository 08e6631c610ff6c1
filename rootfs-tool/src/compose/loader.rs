//! Where the dynamic loader finds a library: ld.so(8)'s rules, for the host's files. LD_LIBRARY_PATH
//! and ld.so.cache do not count, since an image has neither.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, order};

use super::elf::{self, Machine, Object};

/// An object that was found, and who loads it.
pub(crate) struct Loaded {
    /// Its path, links not resolved.
    pub(crate) path: PathBuf,
    /// What it asks for.
    pub(crate) object: Object,
    /// Its loader's place in the list.
    pub(crate) by: Option<usize>,
}

/// A library that was found.
pub(crate) struct Found {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Only `/etc/ld.so.conf` names its directory: a loader without that file would not find it.
    pub(crate) configured: bool,
}

/// The directories of this host.
pub(crate) struct Directories {
    configured: Vec<PathBuf>,
    pub(crate) default: Vec<PathBuf>,
    lib: Vec<String>,
    platform: &'static str,
}

impl Directories {
    /// Those of the host. The multiarch names are those of this program's own architecture.
    pub(crate) fn of_host() -> Self {
        let platform = std::env::consts::ARCH;
        let arch = match platform {
            "x86" => "i386-linux-gnu".to_owned(),
            "arm" => "arm-linux-gnueabihf".to_owned(),
            "powerpc64" => "powerpc64le-linux-gnu".to_owned(),
            other => format!("{other}-linux-gnu"),
        };
        let lib = vec![format!("lib/{arch}"), "lib64".to_owned(), "lib".to_owned()];
        let default = lib.iter().flat_map(|l| [format!("/{l}"), format!("/usr/{l}")]);
        let default: Vec<PathBuf> = default.map(PathBuf::from).filter(|p| p.is_dir()).collect();
        let mut configured = Vec::new();
        read_conf(Path::new("/etc/ld.so.conf"), &mut configured, 0);
        configured.retain(|d| !default.contains(d));
        Self { configured, default, lib, platform }
    }

    /// Find the library `name` that `objects[at]` needs.
    pub(crate) fn find(&self, name: &str, objects: &[Loaded], at: usize) -> Result<Found> {
        let asks = &objects[at];
        let machine = asks.object.machine;
        let lost = |places: &[PathBuf]| {
            let places: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
            Error::not_found(format!(
                "find the library {name} that {} needs: it is not in {}",
                asks.path.display(),
                places.join(", ")
            ))
        };
        if name.contains('/') {
            let path = PathBuf::from(name);
            return if path.is_absolute() && fits(&path, machine) {
                Ok(Found { path, configured: false })
            } else {
                Err(lost(&[path]))
            };
        }
        let mut places = Vec::new();
        if asks.object.runpath.is_empty() {
            let mut next = Some(at);
            while let Some(n) = next {
                let o = &objects[n];
                if o.object.runpath.is_empty() {
                    o.object.rpath.iter().for_each(|p| self.expand(p, &o.path, &mut places));
                }
                next = o.by;
            }
        }
        asks.object.runpath.iter().for_each(|p| self.expand(p, &asks.path, &mut places));
        let own = places.len();
        places.extend_from_slice(&self.configured);
        let usual = places.len();
        places.extend_from_slice(&self.default);
        if asks.object.interpreter.as_deref().is_some_and(|i| i.contains("ld-musl")) {
            places.push("/usr/local/lib".into());
        }
        for (n, dir) in places.iter().enumerate() {
            let path = dir.join(name);
            if fits(&path, machine) {
                return Ok(Found { path, configured: (own..usual).contains(&n) });
            }
        }
        Err(lost(&places))
    }

    /// `$ORIGIN`, `$LIB`, `$PLATFORM`, with or without braces. A relative path means the current
    /// directory of whoever starts the program, and is left out.
    fn expand(&self, path: &str, of: &Path, places: &mut Vec<PathBuf>) {
        let origin = of.parent().unwrap_or(Path::new("/")).display().to_string();
        for lib in &self.lib {
            let mut text = path.to_owned();
            for (name, value) in [("ORIGIN", &origin[..]), ("LIB", lib), ("PLATFORM", self.platform)] {
                text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
            }
            let place = PathBuf::from(text);
            if place.is_absolute() && !places.contains(&place) {
                places.push(place);
            }
        }
    }
}

/// Read a file's object; `None` where it is no ELF file.
pub(crate) fn open(path: &Path) -> Result<Option<Object>> {
    let file = File::open(path).context(|| format!("open({path:?})"))?;
    let read = |at: u64, len: usize| {
        let mut buf = vec![0; len];
        let mut have = 0;
        while have < len {
            match file.read_at(&mut buf[have..], at.saturating_add(have as u64)) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) => return Err(e).context(|| format!("read({path:?})")),
            }
        }
        buf.truncate(have);
        Ok(buf)
    };
    if !elf::is_elf(&read(0, 4)?) {
        return Ok(None);
    }
    elf::parse(&read).map(Some).context(|| format!("read {path:?}"))
}

fn fits(path: &Path, machine: Machine) -> bool {
    path.is_file() && matches!(open(path), Ok(Some(o)) if o.machine == machine)
}

/// `/etc/ld.so.conf`: a directory a line, `include GLOB`, comments.
fn read_conf(path: &Path, dirs: &mut Vec<PathBuf>, depth: usize) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include") {
            if depth > 8 {
                continue;
            }
            let pattern = path.parent().unwrap_or(Path::new("/")).join(pattern.trim());
            matching(&pattern).iter().for_each(|p| read_conf(p, dirs, depth + 1));
        } else if line.starts_with('/') && Path::new(line).is_dir() {
            dirs.push(line.trim_end_matches('/').into());
        }
    }
}

/// A `*` in the last component, as every distribution's ld.so.conf has it.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((head, tail)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let Some(Ok(entries)) = pattern.parent().map(std::fs::read_dir) else { return Vec::new() };
    let fits = |n: &str| n.len() >= head.len() + tail.len() && n.starts_with(head) && n.ends_with(tail);
    let mut found: Vec<PathBuf> =
        entries.flatten().filter(|e| fits(&e.file_name().to_string_lossy())).map(|e| e.path()).collect();
    order::sort(&mut found);
    found
}
