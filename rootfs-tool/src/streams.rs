//! Where archives are read from and written to: files, or the standard streams, which are not to be terminals.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use coracle_sys::terminal;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;

/// A file, or standard input, which is not to be a terminal.
pub(crate) fn input(path: Option<&Path>) -> Result<File> {
    match path {
        Some(path) if path.is_dir() => Err(Error::usage(format!(
            "{path:?} is a folder: a tar of it can be piped, `tar -C {} -c . | rootfs-tool ...`",
            path.display()
        ))),
        Some(path) => File::open(path).context(|| format!("open({path:?})")),
        None if std::io::stdin().is_terminal() => {
            Err(Error::usage("an archive is not read from a terminal: name a file, or use a pipe"))
        }
        None => {
            let fd = terminal::standard_input().try_clone_to_owned().context(|| "dup(0)")?;
            Ok(File::from(fd))
        }
    }
}

/// Write to a file, which is whole in the end or not there, or to standard output.
pub(crate) fn write(
    to: Option<&Path>,
    fill: impl FnOnce(BufWriter<Out>) -> Result<BufWriter<Out>>,
) -> Result<()> {
    let failed = Rc::new(Cell::new(None));
    let out = |file| BufWriter::with_capacity(256 << 10, Out { file, failed: failed.clone() });
    let blame = |e: Error, what: &str| match failed.get() {
        Some(errno) => Error::syscall(format!("write({what})"), Errno::from_raw(errno)),
        None => e,
    };
    let Some(path) = to else {
        if std::io::stdout().is_terminal() {
            return Err(Error::usage("an archive is not written to a terminal: use -o FILE, or a pipe"));
        }
        let file = terminal::standard_output().try_clone_to_owned().context(|| "dup(1)")?;
        return fill(out(File::from(file))).map(drop).map_err(|e| blame(e, "standard output"));
    };
    let (file, replacing) = Replacing::begin(path)?;
    let out = fill(out(file)).map_err(|e| blame(e, &format!("{path:?}")))?;
    let file = out.into_inner().map_err(|e| e.into_error()).context(|| format!("write({path:?})"))?;
    replacing.keep(&file.file)
}

/// Write to a file at any place of it, which is whole in the end or not there. What is not written reads as zeros, so it
/// is a file that begins empty, and no device and no pipe.
pub(crate) fn fill(to: Option<&Path>, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let Some(path) = to else {
        return Err(Error::usage("this format is not written from its beginning to its end: use -o FILE"));
    };
    let (mut file, replacing) = Replacing::begin(path)?;
    if replacing.temp == path {
        return Err(Error::usage(format!(
            "-o {}: it is no file; write one, and copy it there",
            path.display()
        )));
    }
    fill(&mut file).map_err(|e| e.wrap(format!("write {path:?}")))?;
    replacing.keep(&file)
}

/// What is written to. It notes why it could not be: what is read at that moment is not to blame.
pub(crate) struct Out {
    file: File,
    failed: Rc<Cell<Option<i32>>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).inspect_err(|e| {
            if e.kind() != std::io::ErrorKind::Interrupted {
                self.failed.set(e.raw_os_error());
            }
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file that is whole, or not there: written beside its place and put there at the end.
struct Replacing {
    temp: PathBuf,
    to: PathBuf,
    kept: bool,
}

impl Replacing {
    /// What is written, and what puts it there. A device or a pipe is written as it is.
    fn begin(to: &Path) -> Result<(File, Self)> {
        let special = to.metadata().is_ok_and(|m| !m.is_file());
        let temp = match special {
            true => to.to_owned(),
            false => {
                let name = to.file_name().ok_or_else(|| Error::usage(format!("{to:?} is no file")))?;
                let unique = coracle_sys::file::unique_name(".");
                to.with_file_name([unique.as_os_str(), name].join(std::ffi::OsStr::new("-")))
            }
        };
        let mut options = File::options();
        let opened = options.write(true).create_new(!special).open(&temp);
        let file = opened.context(|| format!("open({to:?}, O_CREAT)"))?;
        Ok((file, Self { temp, to: to.to_owned(), kept: special }))
    }

    /// Put it there.
    fn keep(mut self, file: &File) -> Result<()> {
        self.kept = true;
        if self.temp == self.to {
            return Ok(());
        }
        let keep = || {
            file.sync_all().context(|| format!("fsync({:?})", self.temp))?;
            std::fs::rename(&self.temp, &self.to)
                .context(|| format!("rename({:?}, {:?})", self.temp, self.to))
        };
        keep().inspect_err(|_| drop(std::fs::remove_file(&self.temp)))
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.temp);
        }
    }
}
