//! Files that a RUN is given: written where no layer is made of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_store::layer::pack::Archive;
use coracle_store::layer::unpack::{self, Lowers, unpack};
use coracle_sys::{Context, Error, Result, file};

use crate::dockerfile::mounts::Mount;

/// Write an archive's entries into a directory.
pub(crate) fn spread(archive: &Archive, dir: &Path) -> Result<()> {
    let (read, write) = std::io::pipe().context(|| "pipe2()")?;
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(move || archive.write(std::io::BufWriter::with_capacity(256 << 10, write)).map(drop));
        let options = unpack::Options { plain: true, ..unpack::Options::of_this_process() };
        let none = Lowers::from(Vec::new());
        let done = unpack(read, file::open_dir(dir)?, none, Vec::new(), options).map(drop);
        // A reader that has failed is why the writer has.
        let written = writer.join().unwrap_or_else(|_| Err(Error::invalid("the writer has ended")));
        done.and(written)
    })
}

/// A file of these bytes, with this mode.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    std::fs::write(path, bytes).context(|| format!("write({path:?})"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .context(|| format!("chmod({path:?})"))
}

/// Give a file the owner that a mount names.
pub(super) fn own(path: &Path, m: &Mount) -> Result<()> {
    if m.uid.is_none() && m.gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (m.uid.unwrap_or(0), m.gid.unwrap_or(0));
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).context(|| format!("chown({path:?}, {uid}, {gid})"))
}
