//! What a service writes: to the console, or through a pipe to a file that is put aside when it is full.
//!
//! A pipe, and not the file itself, because a file that its writer holds cannot be put aside.

use super::fault::Fault;
use super::job::{Job, Output};
use crate::sys::{self, Errno, machine};
use crate::text::Path;

/// Its descriptors 0 to 2; the console where there is none.
pub(crate) fn streams(job: &mut Job) -> [Option<i32>; 3] {
    if !matches!(job.manner.output, Output::File(..)) {
        return [None; 3];
    }
    // It is the same pipe from one start to the next: nothing of an earlier one is lost.
    if job.pipe.is_none() {
        job.pipe = machine::pipe(0).ok();
        job.pipe.iter().for_each(|[ours, _]| machine::set_blocking(*ours, false));
    }
    let theirs = job.pipe.map(|[_, theirs]| theirs);
    [None, theirs, theirs]
}

/// Take what there is.
pub(crate) fn copy(job: &mut Job) {
    let Some([ours, _]) = job.pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = sys::read(ours, &mut buffer) {
        let text = buffer.get(..count).unwrap_or_default();
        if let Err(errno) = append(job, text) {
            // The file's disk is full, or gone: the service must not wait for that.
            Fault::new(b"write the log of", job.name, errno).warn();
            machine::write_all(2, text).ok();
        }
        if count < buffer.len() {
            break;
        }
    }
}

fn append(job: &mut Job, text: &[u8]) -> Result<(), Errno> {
    let Output::File(file, size) = job.manner.output else { return Ok(()) };
    let (fd, used) = match job.log {
        Some((fd, used)) if used < size => (fd, used),
        Some((fd, _)) => {
            sys::close(fd);
            job.log = None;
            let mut aside = Path::new(file);
            machine::rename(Path::new(file).c(), aside.text(b".1").c())?;
            open(file)?
        }
        None => open(file)?,
    };
    job.log = Some((fd, used + text.len() as u64));
    machine::write_all(fd, text)
}

/// Who may write beside it may put a link in its place, or a pipe that nobody reads: neither is opened, and nothing waited for.
fn open(file: &[u8]) -> Result<(i32, u64), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let fd = machine::open_at(libc::AT_FDCWD, Path::new(file).c(), flags, 0o640)?;
    Ok((fd, machine::file_size(fd)?))
}

/// Close what keeps a file system busy.
pub(crate) fn close(job: &mut Job) {
    copy(job);
    if let Some((fd, _)) = job.log.take() {
        sys::close(fd);
    }
}
