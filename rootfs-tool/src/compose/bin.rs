//! The layer kind `bin`: programs of this host with everything they load. Files keep the paths they
//! have on the host, with the links that lead to them, so that interpreters and sonames resolve as
//! they do here. No program is run to find out.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Context, Error, Result};

use super::loader::{self, Directories, Loaded};

/// Where a bare name is looked for: the PATH that an image has.
const PATH: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Links of the host's root that programs take for granted.
const ROOT_LINKS: &[&str] = &["/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];

/// Modules that the C library opens by name.
const NSS: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2"];

/// One entry of `bin = [...]`: `NAME`, `PATH`, `PATH:DESTINATION`, each optional with a `?` at the end.
/// `@init` is Coracle's own init.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A name or a path.
    pub(crate) what: String,
    /// Where it goes, when not where it is on the host.
    pub(crate) to: Option<String>,
    /// Leave it out where this host has none.
    pub(crate) optional: bool,
}

impl Wanted {
    /// Parse an entry.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (text, optional) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (what, to) = match text.split_once(':') {
            Some((what, to)) => (what, Some(to.to_owned())),
            None => (text, None),
        };
        if what.is_empty() || to.as_deref().is_some_and(|t| !t.starts_with('/')) {
            return Err(Error::invalid(format!("read {text:?}: it is NAME, PATH or PATH:/DESTINATION")));
        }
        Ok(Self { what: what.to_owned(), to, optional })
    }
}

/// Put programs with all they need into a layer. What is said to the user comes back.
pub(crate) fn fill(
    archive: &mut Archive,
    folder: &Path,
    wanted: &[String],
    nss: bool,
) -> Result<Vec<String>> {
    let mut host = Host { archive, dirs: Directories::of_host(), done: BTreeSet::new() };
    let mut notes = Vec::new();
    for link in ROOT_LINKS.iter().map(Path::new) {
        if link.is_symlink() && link.is_dir() {
            host.take(link)?;
        }
    }
    let mut any = None;
    for text in wanted {
        let one = Wanted::parse(text)?;
        let Some(path) = locate(&one.what, folder) else {
            if one.optional {
                notes.push(format!("left out: this machine has no {}", one.what));
                continue;
            }
            return Err(Error::not_found(format!("find the program {}: {}", one.what, advice(&one.what))));
        };
        let to = one.to.clone().or_else(|| {
            ((one.what.contains('/') && !one.what.starts_with('/')) || one.what.starts_with('@'))
                .then(|| default_place(&path))
        });
        let dynamic =
            host.program(&path, to.as_deref(), 0).context(|| format!("take the program {}", one.what))?;
        any = any.or(dynamic);
    }
    if nss && let Some(loaded) = any {
        host.modules(loaded)?;
    }
    Ok(notes)
}

/// Where a program from the recipe's folder goes.
fn default_place(path: &Path) -> String {
    format!("/usr/bin/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn advice(name: &str) -> String {
    match name.rsplit('/').next() {
        Some("busybox") => "this machine has none: apt-get install busybox-static".to_owned(),
        Some("@init") => "it is neither beside this program nor in ../libexec/coracle".to_owned(),
        _ if name.contains('/') => "there is no such file, or it is not executable".to_owned(),
        _ => format!("it is not in {}", PATH.join(":")),
    }
}

/// The path of a program; a relative one is in the recipe's folder.
fn locate(what: &str, folder: &Path) -> Option<PathBuf> {
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if what == "@init" {
        let beside = std::env::current_exe().ok()?.parent()?.to_owned();
        return ["init", "../libexec/coracle/init"].map(|p| beside.join(p)).into_iter().find(runs);
    }
    if what.contains('/') {
        return Some(folder.join(what)).filter(runs);
    }
    PATH.iter().map(|d| Path::new(d).join(what)).find(runs)
}

struct Host<'a> {
    archive: &'a mut Archive,
    dirs: Directories,
    done: BTreeSet<PathBuf>,
}

impl Host<'_> {
    /// A program, a script with its interpreter included. A dynamic one's object is handed back.
    fn program(&mut self, path: &Path, to: Option<&str>, depth: usize) -> Result<Option<Loaded>> {
        if depth > 4 {
            return Err(Error::invalid(format!("follow the interpreter {path:?}: too many scripts")));
        }
        let path = &match to {
            Some(to) => {
                let content = content(path)?;
                self.archive.put(to, Meta::new(0o755), content)?;
                path.canonicalize().context(|| format!("realpath({path:?})"))?
            }
            None => {
                self.take(path)?;
                path.to_owned()
            }
        };
        if !self.done.insert(path.clone()) {
            return Ok(None);
        }
        if let Some(object) = loader::open(path)? {
            let dynamic = object.interpreter.is_some();
            if let Some(interpreter) = &object.interpreter {
                let interpreter = Path::new(interpreter);
                if !interpreter.is_absolute() {
                    return Err(Error::invalid(format!(
                        "take the interpreter {interpreter:?}: it is no absolute path"
                    )));
                }
                self.take(interpreter)?;
            }
            // $ORIGIN of a program is where the file itself is.
            let real = path.canonicalize().context(|| format!("realpath({path:?})"))?;
            let root = Loaded { path: real, object, by: None };
            let again = Loaded { path: root.path.clone(), object: root.object.clone(), by: None };
            self.libraries(root, to.is_some())?;
            return Ok(dynamic.then_some(again));
        }
        let Some((interpreter, argument)) = shebang(path)? else { return Ok(None) };
        let mut first = self.program(Path::new(&interpreter), None, depth + 1)?;
        if interpreter.ends_with("/env") {
            let name = argument.split_whitespace().find(|w| !w.starts_with('-') && !w.contains('='));
            if let Some(name) = name {
                let found = locate(name, Path::new("/")).ok_or_else(|| {
                    Error::not_found(format!("find {name}, which runs the script {path:?}"))
                })?;
                let second = self.program(&found, None, depth + 1)?;
                first = first.or(second);
            }
        }
        Ok(first)
    }

    /// Everything that an object loads, and what that loads. A name is looked for once, as the
    /// loader does. Of a program that is `moved`, libraries beside it go where the loader always looks:
    /// its $ORIGIN is another in the image.
    fn libraries(&mut self, root: Loaded, moved: bool) -> Result<()> {
        let mut objects = vec![root];
        let mut known: HashMap<String, ()> = HashMap::new();
        let mut at = 0;
        while at < objects.len() {
            for name in objects[at].object.needed.clone() {
                if known.insert(name.clone(), ()).is_some() {
                    continue;
                }
                let found = self.dirs.find(&name, &objects, at)?;
                if moved && !found.configured && !self.dirs.default.iter().any(|d| found.path.starts_with(d))
                {
                    let dir = self.default_dir()?;
                    let content = content(&found.path)?;
                    self.archive.put(dir.join(&name), Meta::new(0o644), content)?;
                } else {
                    self.take(&found.path)?;
                }
                if found.configured {
                    // The image has no ld.so.cache: a link where the loader always looks.
                    let dir = self.default_dir()?;
                    let link = Content::Symlink(found.path.clone().into_os_string());
                    self.archive.put(dir.join(&name), Meta::new(0o777), link)?;
                }
                if let Some(object) = loader::open(&found.path)? {
                    objects.push(Loaded { path: found.path, object, by: Some(at) });
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// Where the loader always looks.
    fn default_dir(&mut self) -> Result<PathBuf> {
        let dir = self.dirs.default.first().cloned();
        let dir = dir.ok_or_else(|| Error::not_found("find this machine's directory of libraries"))?;
        self.take(&dir)?;
        dir.canonicalize().context(|| format!("realpath({dir:?})"))
    }

    /// The modules for users, groups and host names, for the machine of a program.
    fn modules(&mut self, root: Loaded) -> Result<()> {
        let roots = [root];
        for name in NSS {
            let Ok(found) = self.dirs.find(name, &roots, 0) else { continue };
            self.take(&found.path)?;
            if let Some(object) = loader::open(&found.path)? {
                self.libraries(Loaded { path: found.path, object, by: None }, false)?;
            }
        }
        Ok(())
    }

    /// Take a path of the host along: every link on the way as a link, and the file at its end.
    fn take(&mut self, path: &Path) -> Result<()> {
        let mut todo: Vec<PathBuf> = Vec::new();
        let push = |todo: &mut Vec<PathBuf>, p: &Path| {
            todo.extend(
                p.components()
                    .rev()
                    .filter(|c| !matches!(c, Component::RootDir | Component::CurDir))
                    .map(|c| PathBuf::from(c.as_os_str())),
            );
        };
        push(&mut todo, path);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name.as_os_str() == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let meta = next.symlink_metadata().context(|| format!("lstat({next:?})"))?;
            if meta.is_symlink() {
                links += 1;
                if links > 40 {
                    return Err(Error::invalid(format!("follow {path:?}: too many links")));
                }
                let target = next.read_link().context(|| format!("readlink({next:?})"))?;
                self.archive.put(
                    &next,
                    Meta::new(0o777),
                    Content::Symlink(target.clone().into_os_string()),
                )?;
                if target.is_absolute() {
                    here = "/".into();
                }
                push(&mut todo, &target);
            } else if meta.is_dir() {
                if self.archive.get(&next).is_none() {
                    self.archive.put(&next, Meta::new(0o755), Content::Dir)?;
                }
                here = next;
            } else {
                let mode = if meta.permissions().mode() & 0o111 != 0 { 0o755 } else { 0o644 };
                let content = content(&next)?;
                self.archive.put(&next, Meta::new(mode), content)?;
                here = next;
            }
        }
        Ok(())
    }
}

fn content(path: &Path) -> Result<Content> {
    let path = path.canonicalize().context(|| format!("realpath({path:?})"))?;
    let meta = path.metadata().context(|| format!("stat({path:?})"))?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("take {path:?}: it is no file")));
    }
    Ok(Content::File { size: meta.len(), path, seen: None })
}

/// The interpreter of a script and the rest of its first line.
fn shebang(path: &Path) -> Result<Option<(String, String)>> {
    let file = std::fs::File::open(path).context(|| format!("open({path:?})"))?;
    let mut start = Vec::new();
    file.take(256).read_to_end(&mut start).context(|| format!("read({path:?})"))?;
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = String::from_utf8_lossy(line.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    let line = line.trim();
    let (program, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if !program.starts_with('/') {
        return Err(Error::invalid(format!(
            "read the first line of {path:?}: {program:?} is no absolute path"
        )));
    }
    Ok(Some((program.to_owned(), rest.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_a_program_where_it_goes_and_whether_it_must_exist() {
        let w = |what: &str, to: Option<&str>, optional| Wanted {
            what: what.into(),
            to: to.map(Into::into),
            optional,
        };
        assert_eq!(Wanted::parse("sh").unwrap(), w("sh", None, false));
        assert_eq!(Wanted::parse("ps?").unwrap(), w("ps", None, true));
        assert_eq!(Wanted::parse("@init:/init").unwrap(), w("@init", Some("/init"), false));
        assert_eq!(Wanted::parse("./x:/bin/x?").unwrap(), w("./x", Some("/bin/x"), true));
        for bad in ["", "?", ":/x", "x:y"] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_shell_brings_its_loader_and_libraries() {
        let mut archive = Archive::new();
        fill(&mut archive, Path::new("/"), &["sh".into(), "none-such?".into()], true).unwrap();
        let paths: Vec<String> = archive.paths().map(|p| p.display().to_string()).collect();
        assert!(paths.iter().any(|p| p.ends_with("bin/sh")), "{paths:?}");
        let dynamic = loader::open(&locate("sh", Path::new("/")).unwrap()).unwrap().unwrap();
        assert_eq!(
            dynamic.interpreter.is_some(),
            paths.iter().any(|p| p.contains("/ld-") || p.contains("libc.so.6"))
        );
    }
}
