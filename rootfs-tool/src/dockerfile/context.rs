//! The build's context: a folder, or a tar, packed or not, from a file or from standard input; and the Dockerfile with
//! its list of what is ignored.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use coracle_store::Transaction;
use coracle_store::layer::pack::{Archive, FromDir, source_date_epoch};
use coracle_store::layer::unpack::{Lowers, Options, unpack};
use coracle_store::layer::{Compression, decompress};
use coracle_store::upper::Workspace;
use coracle_sys::{Context as _, Error, Result, file};

use super::git;
use super::ignore::{self, Ignore};
use super::lines::MAX_SIZE;
use super::report::Report;
use crate::archive::packed;
use crate::{registry, streams};

/// BuildKit's build argument by which a context that is a repository keeps its history.
pub(crate) const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Where it is, and the Dockerfile's text.
pub(crate) struct Context {
    /// The folder; none where there is a Dockerfile and nothing else.
    pub(crate) dir: Option<PathBuf>,
    /// What a tar was unpacked to goes in the end.
    space: Option<Workspace>,
    pub(crate) ignore: Ignore,
    /// What the Dockerfile is called in errors.
    pub(crate) shown: String,
    pub(crate) dockerfile: String,
}

/// What is wanted of a context that is a repository.
pub(crate) struct Wish<'a> {
    /// What opens it.
    pub(crate) keys: &'a dyn Fn(&git::Address) -> Result<git::Keys>,
    /// Its history comes along.
    pub(crate) keep_git_dir: bool,
}

/// Find it. `named` is `-f`.
pub(crate) fn find(
    tx: &Transaction<'_>,
    typed: &str,
    named: Option<&str>,
    wish: &Wish<'_>,
    report: &Report,
) -> Result<Context> {
    let lower = typed.to_ascii_lowercase();
    let path = Path::new(typed);
    let repository = git::parse_context(typed).filter(|_| !path.is_dir()).transpose()?;
    let (dir, space) = match typed {
        _ if let Some(address) = repository => {
            let (dir, space) = cloned(tx, typed, &address, wish, report)?;
            (dir, Some(space))
        }
        _ if lower.starts_with("http://") || lower.starts_with("https://") => {
            let told = report.step(&format!("[internal] load remote build context {typed}"));
            let space = tx.workspace()?;
            let file = space.path().join("fetched");
            registry::fetch(typed, &file)
                .inspect_err(|_| told.failed())
                .context(|| format!("fetch the context {typed}"))?;
            told.done();
            let (is_tar, input) = looked_at(file::open_plain(&file)?)?;
            if !is_tar {
                if named.is_some() {
                    return Err(Error::usage(format!("-f: {typed} is the Dockerfile already, or no tar")));
                }
                return Context::of_dockerfile(input, typed);
            }
            let space = unpacked(tx, input)?;
            (space.path().join("context"), Some(space))
        }
        "-" if named == Some("-") => {
            return Err(Error::usage("context and Dockerfile can't both be standard input"));
        }
        "-" => {
            let (is_tar, input) = looked_at(streams::input(None)?)?;
            if !is_tar {
                if named.is_some() {
                    return Err(Error::usage("-f: standard input is the Dockerfile already, or no tar"));
                }
                return Context::of_dockerfile(input, "Dockerfile (standard input)");
            }
            let space = unpacked(tx, input)?;
            (space.path().join("context"), Some(space))
        }
        _ if path.is_file() => {
            let (is_tar, input) = looked_at(streams::input(Some(path))?)?;
            if !is_tar {
                return Err(Error::usage(format!(
                    "the context {typed}: it is a folder or a tar (a Dockerfile elsewhere is named by -f)"
                )));
            }
            let space = unpacked(tx, input)?;
            (space.path().join("context"), Some(space))
        }
        _ => {
            let dir = std::fs::canonicalize(path)
                .context(|| format!("open({path:?})"))
                .context(|| "the context")?;
            if !dir.is_dir() {
                return Err(Error::usage(format!("the context {typed}: it is a folder, a tar or -")));
            }
            (dir, None)
        }
    };
    let (shown, at) = match named {
        Some("-") => ("Dockerfile".to_owned(), None),
        Some(name) if space.is_some() => (name.to_owned(), Some(beneath(&dir, name)?)),
        Some(name) => (name.to_owned(), Some(PathBuf::from(name))),
        None if !dir.join("Dockerfile").exists() && dir.join("dockerfile").exists() => {
            ("dockerfile".to_owned(), Some(dir.join("dockerfile")))
        }
        None => ("Dockerfile".to_owned(), Some(dir.join("Dockerfile"))),
    };
    let dockerfile = match &at {
        None => text(streams::input(None)?, &shown)?,
        Some(path) => read(path)?.ok_or_else(|| {
            let hint =
                if dir.join("rootfs.toml").is_file() { ", but a rootfs.toml: leave out -f" } else { "" };
            Error::not_found(format!("open {shown}: there is no such Dockerfile in {typed}{hint}"))
        })?,
    };
    let own = at.and_then(|at| {
        let mut name = at.file_name()?.to_owned();
        name.push(".dockerignore");
        Some(at.with_file_name(name))
    });
    let ignored = match own.map(|own| read(&own)).transpose()?.flatten() {
        Some(text) => Some(text),
        None => read(&dir.join(".dockerignore"))?,
    };
    let ignore = Ignore::read(&ignored.unwrap_or_default()).context(|| "read .dockerignore")?;
    Ok(Context { dir: Some(dir), space, ignore, shown, dockerfile })
}

/// A commit of a repository, or a folder of it.
fn cloned(
    tx: &Transaction<'_>,
    typed: &str,
    address: &git::Address,
    wish: &Wish<'_>,
    report: &Report,
) -> Result<(PathBuf, Workspace)> {
    let told = report.step(&format!("[internal] load git source {typed}"));
    let fetch = || {
        let space = tx.workspace()?;
        let dir = space.dir("context", 0o755)?;
        told.says(&git::fetch(address, &dir, &(wish.keys)(address)?, wish.keep_git_dir)?);
        let dir = match &address.folder {
            Some(name) => beneath(&dir, name).context(|| format!("the folder {name} of {typed}"))?,
            None => dir,
        };
        match dir.is_dir() {
            true => Ok((dir, space)),
            false => Err(Error::usage(format!("the context {typed}: it is no folder of the repository"))),
        }
    };
    let fetched = fetch();
    match &fetched {
        Ok(_) => told.done(),
        Err(_) => told.failed(),
    }
    fetched
}

/// A name inside an unpacked context: links of it lead nowhere else.
pub(crate) fn beneath(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut tree = Archive::new();
    tree.put_dir(dir, "", FromDir::default())?;
    let found = super::copy::follow(&tree, name.as_bytes())?;
    Ok(dir.join(String::from_utf8_lossy(&found).as_ref()))
}

/// A small text file that may be missing.
fn read(path: &Path) -> Result<Option<String>> {
    match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(|| format!("stat({path:?})")),
        Ok(m) if m.file_type().is_fifo() || m.is_dir() || m.file_type().is_char_device() => {
            return Err(Error::invalid(format!("read {path:?}: it is not a plain file")));
        }
        Ok(_) => {}
    }
    let input = File::open(path).context(|| format!("open({path:?})"))?;
    text(input, &path.display().to_string()).map(Some)
}

fn text(input: impl Read, shown: &str) -> Result<String> {
    let most = (MAX_SIZE as u64).max(ignore::MAX_SIZE);
    let mut bytes = Vec::new();
    input.take(most + 1).read_to_end(&mut bytes).context(|| format!("read {shown}"))?;
    if bytes.len() as u64 > most {
        return Err(Error::invalid(format!("read {shown}: it has more than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("read {shown}: it is not UTF-8")))
}

/// Is it compressed, or does it begin with a tar's header? Nothing of it is lost by looking.
pub(crate) fn looked_at<R: Read + Send>(mut input: R) -> Result<(bool, impl Read + Send)> {
    let mut head = Vec::with_capacity(512);
    input.by_ref().take(512).read_to_end(&mut head).context(|| "read the archive")?;
    let is_tar = is_archive(&head) || is_header(&head);
    Ok((is_tar, std::io::Cursor::new(head).chain(input)))
}

/// Is it compressed by something that archives are compressed with?
fn is_archive(head: &[u8]) -> bool {
    packed::is_packed(head) || Compression::of_bytes(head) != Compression::None
}

/// Does the sum of a tar's header fit?
fn is_header(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    let field: String = block[148..156].iter().map(|b| char::from(*b)).filter(|c| c.is_digit(8)).collect();
    let sum: u32 =
        block.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
    u32::from_str_radix(&field, 8) == Ok(sum)
}

fn unpacked(tx: &Transaction<'_>, input: impl Read + Send) -> Result<Workspace> {
    let space = tx.workspace()?;
    let dir = space.dir("context", 0o755)?;
    extract(input, &dir).context(|| "unpack the context")?;
    Ok(space)
}

/// Unpack a tar, packed or not, into an empty directory; nothing of it reaches beyond.
pub(crate) fn extract(input: impl Read + Send, dir: &Path) -> Result<()> {
    let input = BufReader::with_capacity(256 << 10, packed::open(input)?);
    let options = Options { plain: true, ..Options::of_this_process() };
    let none = Lowers::from(Vec::new());
    unpack(decompress(input, None)?, file::open_dir(dir)?, none, Vec::new(), options)?;
    Ok(())
}

impl Context {
    /// A Dockerfile alone.
    fn of_dockerfile(input: impl Read, shown: &str) -> Result<Self> {
        let (dockerfile, shown) = (text(input, shown)?, "Dockerfile".to_owned());
        Ok(Self { dir: None, space: None, ignore: Ignore::default(), shown, dockerfile })
    }

    /// The folder, if it is there at the next build too.
    pub(crate) fn lasting(&self) -> Option<&Path> {
        self.dir.as_deref().filter(|_| self.space.is_none())
    }

    /// What is in it, without what is ignored: everything root's.
    pub(crate) fn tree(&self) -> Result<Archive> {
        let mut out = Archive::new();
        let Some(dir) = &self.dir else { return Ok(out) };
        let how = FromDir { owner: Some((0, 0)), latest: source_date_epoch(), xattrs: true };
        let mut doubtful: Vec<Vec<u8>> = Vec::new();
        out.put_dir_where(dir, how, &mut |path, is_dir| {
            if self.ignore.is_empty() {
                return true;
            }
            let shown = String::from_utf8_lossy(path);
            if !self.ignore.matches(&shown) {
                return true;
            }
            let enter = is_dir && self.ignore.may_take_back(&shown);
            if enter {
                doubtful.push(path.to_vec());
            }
            enter
        })
        .context(|| "read the context")?;
        // An ignored directory is there for what was taken back in it, or not at all.
        for dir in doubtful.iter().rev() {
            if out.inside(dir).next().is_none() {
                use std::os::unix::ffi::OsStrExt;
                out.remove(Path::new(std::ffi::OsStr::from_bytes(dir)))?;
            }
        }
        Ok(out)
    }
}
