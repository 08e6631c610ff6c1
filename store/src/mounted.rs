//! Images mounted on the host, to be looked at: `mounts/<manifest>/` is the mount point, read only. A mounted
//! image is in use, as one of a container is. What a reboot or another namespace has left of a mount point is
//! swept with the next prune.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::mount::{self, attr};
use coracle_sys::{Context, Error, Kind, Result, order};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::digest::Digest;
use crate::driver::overlay;
use crate::gc::list_if_there;
use crate::read::{Image, Store};
use crate::write::Transaction;

impl Store {
    /// The images that are mounted, by their manifests, and where.
    pub fn mounted(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let mut out = Vec::new();
        for (manifest, path) in self.mount_entries()? {
            if mount::is_mount_point(&path)? {
                out.push((manifest, path));
            }
        }
        order::sort(&mut out);
        Ok(out)
    }

    /// Unmount an image. EBUSY when somebody has a file or a folder open in it.
    pub fn unmount(&self, at: &Path) -> Result<()> {
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) => Err(Error::new(
                Kind::Busy,
                format!("umount2({at:?}): somebody works in it, or has a file of it open"),
            )),
            other => other.context(|| format!("umount2({at:?})")),
        }?;
        fs::remove_dir(at).context(|| format!("rmdir({at:?})"))
    }

    /// Remove mount points on which nothing is mounted. The store's lock must be held alone.
    pub(crate) fn sweep_mounts(&self) -> Result<()> {
        for (_, path) in self.mount_entries()? {
            match fs::remove_dir(&path) {
                // Mounted, here or in another namespace.
                Err(e) if e.kind() == ErrorKind::ResourceBusy => {}
                other => other.context(|| format!("rmdir({path:?})"))?,
            }
        }
        Ok(())
    }

    fn mount_entries(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let all = list_if_there(&self.main().mounts())?.into_iter();
        Ok(all.filter_map(|(name, path)| Some((Digest::from_hex(&name)?, path))).collect())
    }
}

impl Transaction<'_> {
    /// Mount an image, unless it is. Where it is then.
    pub fn mount(&self, image: &Image) -> Result<PathBuf> {
        let path = self.layout().mounts().join(image.manifest_digest.hex());
        if mount::is_mount_point(&path)? {
            return Ok(path);
        }
        let layers = self.store().layer_dirs(image)?;
        let options = overlay::Options {
            attrs: attr::RDONLY | attr::NOSUID | attr::NODEV,
            ..overlay::Options::of_this_process(false)
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.context(|| format!("mkdir({path:?})"))?;
        let mounted = overlay::mount(&layers, None, options)
            .and_then(|tree| mount::attach(tree.as_fd(), file::open_dir(&path)?.as_fd()));
        if let Err(e) = mounted {
            let _ = fs::remove_dir(&path);
            return Err(e);
        }
        Ok(path)
    }
}
