//! Where archives are read from and written to: files, or the standard streams, which are not to be terminals.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

use coracle_sys::{Context, Error, Result, interrupt, terminal};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::replacing::{self, Place, Replacing};

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
    let (file, replacing) = match Place::of(path)? {
        Place::File(to) => Replacing::begin(&to).map(|(file, replacing)| (file, Some(replacing)))?,
        place => (replacing::special(path, matches!(place, Place::Block))?, None),
    };
    let out = fill(out(file)).map_err(|e| blame(e, &format!("{path:?}")))?;
    let file = out.into_inner().map_err(|e| e.into_error()).context(|| format!("write({path:?})"))?;
    replacing.map_or(Ok(()), |replacing| replacing.keep(&file.file))
}

/// Write to a file at any place of it, which is whole in the end or not there, or to a disk, which is not touched before
/// all is made. What is not written reads as zeros. What goes to a disk is made in `scratch`.
pub(crate) fn fill(
    to: Option<&Path>,
    scratch: &Path,
    fill: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let Some(path) = to else {
        return Err(Error::usage("this format is not written from its beginning to its end: use -o FILE"));
    };
    let wrap = |e: Error| e.wrap(format!("write {path:?}"));
    match Place::of(path)? {
        Place::File(to) => {
            let (mut file, replacing) = Replacing::begin(&to)?;
            fill(&mut file).map_err(wrap)?;
            replacing.keep(&file)
        }
        Place::Block => {
            let device = replacing::special(path, true)?;
            let mut file = File::from(replacing::nameless(scratch)?);
            fill(&mut file).and_then(|()| to_disk(file, device)).map_err(wrap)
        }
        Place::Stream => Err(Error::usage(format!(
            "-o {}: it is neither a file nor a disk, and this format is written at any place of it",
            path.display()
        ))),
    }
}

/// Copy an image to a disk that has room for it. What is zero is told as such: many disks need not write it then.
fn to_disk(mut image: File, mut device: File) -> Result<()> {
    let length = |file: &mut File| file.seek(SeekFrom::End(0)).context(|| "lseek(SEEK_END)");
    let (size, room) = (length(&mut image)?, length(&mut device)?);
    if size > room {
        let mib = |bytes: u64| bytes >> 20;
        return Err(Error::usage(format!("it has {} MiB, and the image takes {}", mib(room), mib(size) + 1)));
    }
    image.rewind().and_then(|()| device.rewind()).context(|| "lseek(0)")?;
    let mut part = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        interrupt::check()?;
        let part = &mut part[..(size - at).min(1 << 20) as usize];
        image.read_exact(part).context(|| "read the image")?;
        let zeros = part.iter().all(|byte| *byte == 0);
        let how = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if !zeros || fallocate(&device, how, at as i64, part.len() as i64).is_err() {
            device.seek(SeekFrom::Start(at)).context(|| format!("lseek({at})"))?;
            device.write_all(part).context(|| format!("write({} bytes at {at})", part.len()))?;
        }
        at += part.len() as u64;
    }
    device.sync_all().context(|| "fsync()")
}

/// What is written to. It notes why it could not be: what is read at that moment is not to blame.
pub(crate) struct Out {
    file: File,
    failed: Rc<Cell<Option<i32>>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        interrupt::check().map_err(std::io::Error::other)?;
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
