//! How a service tells that it is ready: by a newline on a descriptor, or by `READY=1` to a socket of its own, as
//! sd_notify(3) has it.

use core::ffi::CStr;

use super::fault::{Doing, Result};
use super::identity::Identity;
use super::job::{Job, Ready};
use crate::sys::{self, machine};
use crate::text::{Path, cut, parts};

/// The folder of the sockets.
const FOLDER: &CStr = c"/run/coracle";

/// What the new process needs: our descriptor and its number there; and an entry of the environment.
type Prepared = (Option<(i32, i32)>, Option<&'static CStr>);

/// Get ready to be told. What was there of an earlier start is closed.
pub(crate) fn prepare(job: &mut Job) -> Result<Prepared> {
    if let Some(old) = job.readiness.take() {
        sys::close(old);
    }
    match job.manner.ready {
        Ready::Started => Ok((None, None)),
        Ready::Fd(number) => {
            let [ours, theirs] = machine::pipe(libc::O_NONBLOCK).doing(b"make the pipe of", job.name)?;
            machine::set_blocking(theirs, true);
            job.readiness = Some(ours);
            Ok((Some((theirs, number)), None))
        }
        Ready::Notify => {
            let path = socket(job.name);
            let _ = machine::mkdir(FOLDER, 0o755);
            let _ = machine::unlink_at(libc::AT_FDCWD, path.c(), 0);
            let socket = machine::bind_datagrams(path.c()).doing(b"make the socket of", job.name)?;
            job.readiness = Some(socket);
            // Who runs as somebody else cannot tell it, and nobody else can.
            let identity = Identity::read(job.settings.get(b"user"), None)?;
            let given = machine::chmod(path.c(), 0o600)
                .and_then(|()| machine::chown(path.c(), identity.user, identity.group));
            given.doing(b"make the socket of", job.name)?;
            Ok((None, job.notify))
        }
    }
}

/// The path of its socket.
pub(crate) fn socket(name: &[u8]) -> Path {
    let mut path = Path::new(FOLDER.to_bytes());
    path.text(b"/").text(name);
    path
}

/// Whether it tells now that it is ready. A descriptor without anybody behind it is closed.
pub(crate) fn is_told(job: &mut Job) -> bool {
    let Some(fd) = job.readiness else { return false };
    let mut buffer = [0; 512];
    let count = sys::read(fd, &mut buffer);
    let text = count.ok().and_then(|count| buffer.get(..count)).unwrap_or_default();
    let told = match job.manner.ready {
        Ready::Notify => parts(text, b'\n').any(|line| line == b"READY=1"),
        _ => cut(text, b'\n').is_some(),
    };
    // The end of a pipe; a socket has none.
    if count == Ok(0) && job.manner.ready != Ready::Notify {
        sys::close(fd);
        job.readiness = None;
    }
    told
}
