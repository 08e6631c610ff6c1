//! Where archives are read from and written to: files, or the standard streams, which are not to be terminals.

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use coracle_sys::terminal;
use coracle_sys::{Context, Error, Result};

/// A file, or standard input, which is not to be a terminal.
pub(crate) fn input(path: Option<&Path>) -> Result<File> {
    match path {
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
    fill: impl FnOnce(BufWriter<File>) -> Result<BufWriter<File>>,
) -> Result<()> {
    let buffered = |file| BufWriter::with_capacity(256 << 10, file);
    let Some(path) = to else {
        if std::io::stdout().is_terminal() {
            return Err(Error::usage("an archive is not written to a terminal: use -o FILE, or a pipe"));
        }
        let out = terminal::standard_output().try_clone_to_owned().context(|| "dup(1)")?;
        return fill(buffered(File::from(out))).map(drop);
    };
    let (file, replacing) = Replacing::begin(path)?;
    let out = fill(buffered(file))?;
    let file = out.into_inner().map_err(|e| e.into_error()).context(|| format!("write({path:?})"))?;
    replacing.keep(&file)
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
