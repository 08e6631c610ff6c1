//! Applying one layer: its files are written in a directory of `tmp/`, which counts from its rename on.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use coracle_sys::file;
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use crate::digest::Digest;
use crate::driver::{Driver, btrfs};
use crate::layer::attributes::set_times;
use crate::layer::unpack::{self, Applied, Lowers};
use crate::layer::{Limits, copy, key, owners};
use crate::temp::Temp;
use crate::write::Transaction;

impl Transaction<'_> {
    /// Apply an archive in a directory of `tmp/`, over the trees at `lowers`, bottom first, which are asked
    /// for when something in the archive leans on them. With `guess` a directory on the way is not asked for but
    /// in the end; while that is set, an error may come of it, and the archive is to be applied again without.
    pub(crate) fn apply(
        &self,
        input: &mut (impl Read + ?Sized),
        limits: Limits,
        guess: Option<&Cell<bool>>,
        lowers: impl FnOnce() -> Result<Vec<PathBuf>>,
    ) -> Result<(Temp, Applied)> {
        let temp = Temp::dir(self.layout())?;
        let tree = temp.path().join(key::TREE);
        let driver = self.store().driver();
        let mut lowers = Some(lowers);
        // A copy has all that is below in it.
        let below = match lowers.take_if(|_| driver.copies()) {
            Some(lowers) => lowers()?.pop(),
            None => None,
        };
        match driver {
            Driver::Btrfs => btrfs::make(&tree, below.as_deref())?,
            _ => DirBuilder::new().mode(0o755).create(&tree).context(|| format!("mkdir({tree:?})"))?,
        }
        if below.is_none() {
            let mode = Mode::from_bits_truncate(0o755);
            fchmodat(AT_FDCWD, &tree, mode, FchmodatFlags::FollowSymlink)
                .context(|| format!("chmod({tree:?}, 0755)"))?;
        }
        let mut options = unpack::Options { limits, ..unpack::Options::of_this_process() };
        let mut table = Vec::new();
        options.plain = driver.copies();
        if let Some(path) = &below {
            if driver == Driver::Vfs {
                copy::tree_at(path, &tree)?;
            }
            table = owners::read(path)?;
        }
        let lowers = match lowers {
            None => Lowers::from(Vec::new()),
            Some(lowers) => {
                let wait = || lowers()?.iter().rev().map(|p| file::open_dir(p)).collect();
                Lowers::later(wait, guess)
            }
        };
        let applied = unpack::unpack(input, file::open_dir(&tree)?, lowers, table, options)?;
        // As where layers are stacked: a root that no archive names is the same every time.
        if driver.copies() && below.is_none() && !applied.root {
            set_times(AT_FDCWD, tree.as_os_str(), (0, 0))?;
        }
        Ok((temp, applied))
    }

    /// Sync a layer's directory and give it its name: from then on it counts. What else the file system was
    /// given before is synced with it.
    pub(crate) fn keep_layer(
        &self,
        temp: Temp,
        diff_id: &Digest,
        chain_id: &Digest,
        applied: &Applied,
    ) -> Result<()> {
        self.dress_layer(&temp, applied)?;
        file::sync_fs(file::open_dir(temp.path())?.as_fd())?;
        self.name_layer(temp, diff_id, chain_id, applied)
    }

    /// Write what lies beside a layer's tree.
    pub(crate) fn dress_layer(&self, temp: &Temp, applied: &Applied) -> Result<()> {
        owners::write(temp.path(), &applied.owners)?;
        let path = temp.path().join(key::SIZE);
        fs::write(&path, applied.size.to_string()).context(|| format!("write({path:?})"))?;
        // A copy of all that is below has its root as well.
        if applied.root || self.store().driver().copies() {
            let path = temp.path().join(key::ROOT);
            fs::write(&path, "").context(|| format!("write({path:?})"))?;
        }
        Ok(())
    }

    /// Give a layer's directory, which is synced, its name.
    pub(crate) fn name_layer(
        &self,
        temp: Temp,
        diff_id: &Digest,
        chain_id: &Digest,
        applied: &Applied,
    ) -> Result<()> {
        let driver = self.store().driver();
        let name =
            if driver.copies() || applied.leans { key::stacked(chain_id) } else { key::alone(diff_id) };
        let layers = self.layout().layers(driver);
        match temp.rename(&layers.join(name)) {
            // Another process was quicker, with the same content.
            Err(e) if matches!(e.errno(), Some(Errno::ENOTEMPTY | Errno::EEXIST)) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => file::sync_dir(&layers),
        }
    }
}
