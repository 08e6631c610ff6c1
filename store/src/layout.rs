//! Where things lie in a store:
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/<hex>   an OCI image layout
//! layers/<driver>/<key>/fs                     one applied layer
//! mounts/<manifest>/                           where an image is mounted to be looked at
//! containers/<id>/  names/<name>  volumes/<name>/  cache/  tmp/
//! volume-notes/<name>.json                     see `volume_note`
//! ids/<first>-<count>                          ids that a container has for itself
//! VERSION                                      the format's number, then the driver
//! lock  index.lock                             see `lock`
//! ```
//!
//! And which stores there are: the first is written, those behind it are read.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;

use crate::digest::Digest;
use crate::driver::{Driver, asked};
use crate::image::{Index, LAYOUT};
use crate::lock::Lock;

/// The format that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// The stores to use: the one that is written, and those behind it that are only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// Written and read.
    pub main: PathBuf,
    /// Read after it, in this order.
    pub behind: Vec<PathBuf>,
}

impl Locations {
    /// What `--store` says, else CORACLE_STORE, else the default of this user. Both have the form
    /// `RW[:RO...]`.
    pub fn from_env(flag: Option<&str>) -> Result<Self> {
        let var = std::env::var_os("CORACLE_STORE").filter(|v| !v.is_empty());
        let given = match (flag, &var) {
            (Some(flag), _) => Some(std::ffi::OsStr::new(flag)),
            (None, var) => var.as_deref(),
        };
        if let Some(given) = given {
            return Self::parse(given);
        }
        if is_system_root() {
            return Ok(Self { main: "/var/lib/coracle".into(), behind: Vec::new() });
        }
        let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let data = dir("XDG_DATA_HOME").or_else(|| Some(dir("HOME")?.join(".local/share")));
        let data = data.ok_or_else(|| {
            Error::usage("find the store: neither HOME nor XDG_DATA_HOME is set, use --store")
        })?;
        Ok(Self { main: data.join("coracle"), behind: Vec::new() })
    }

    /// Parse `RW[:RO...]`.
    pub fn parse(text: &std::ffi::OsStr) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in std::env::split_paths(text) {
            if path.as_os_str().is_empty() {
                return Err(Error::usage(format!("read the store {text:?}: a path in it is empty")));
            }
            paths.push(std::path::absolute(&path).context(|| format!("make {path:?} absolute"))?);
        }
        let main = paths.remove(0);
        Ok(Self { main, behind: paths })
    }
}

/// May this process write where the whole machine's store is? Root may, unless it is root only of
/// a user namespace that an ordinary user made.
fn is_system_root() -> bool {
    use nix::unistd::{AccessFlags, access, geteuid};
    geteuid().is_root() && !matches!(access("/var/lib", AccessFlags::W_OK), Err(Errno::EACCES))
}

/// One store's directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    driver: Option<Driver>,
}

impl Layout {
    /// The store at `root`, which need not exist yet. Refused when its format is newer than known.
    pub fn open(root: PathBuf) -> Result<Self> {
        let path = root.join("VERSION");
        let driver = match file::read_plain(&path) {
            Ok(text) => Some(read_version(&text).map_err(|e| e.wrap(format!("open the store {root:?}")))?),
            Err(e) if e.errno() == Some(Errno::ENOENT) => None,
            Err(e) => return Err(e.wrap(format!("open the store {root:?}"))),
        };
        Ok(Self { root, driver })
    }

    /// Make what is missing of the store. A store keeps the driver that it was made with: another
    /// one is refused.
    pub fn create(&mut self, driver: Option<Driver>) -> Result<()> {
        let Some(have) = self.driver else {
            return self.make(driver).map_err(|e| e.wrap(format!("make the store {:?}", self.root)));
        };
        match driver {
            Some(wanted) if wanted != have => Err(self.other(wanted, have)),
            _ => Ok(()),
        }
    }

    /// Refuse a driver that is asked for by name and that the store was not made with.
    pub(crate) fn suits(&self) -> Result<()> {
        match (asked::by_name()?, self.driver) {
            (Some(wanted), Some(have)) if wanted != have => Err(self.other(wanted, have)),
            _ => Ok(()),
        }
    }

    fn other(&self, wanted: Driver, have: Driver) -> Error {
        Error::usage(format!(
            "use the driver {wanted}: the store {:?} was made with {have}, and one store has one driver",
            self.root
        ))
    }

    fn make(&mut self, driver: Option<Driver>) -> Result<()> {
        let private = |path: &Path| match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Ok(()) => Ok(()),
            Err(e) => Err(e).context(|| format!("mkdir({path:?})")),
        };
        // Of what was asked for by name nothing is left where it cannot be.
        if let Some(driver) = driver.map_or_else(asked::by_name, |driver| Ok(Some(driver)))? {
            driver.check(&self.root)?;
        }
        private(&self.root)?;
        let _one_maker = Lock::exclusive(&self.lock())?;
        for dir in ["blobs/sha256", "containers", "names", "volumes", "cache", "tmp"] {
            private(&self.root.join(dir))?;
        }
        let driver = match driver {
            Some(driver) => driver,
            None => Driver::choose(&self.tmp())?,
        };
        driver.check(&self.root)?;
        private(&self.root.join("layers").join(driver.folder()))?;
        self.make_mount_points()?;
        if !self.index().exists() {
            let text = serde_json::to_vec(&Index::empty()).unwrap_or_default();
            file::write_atomic(&self.index(), &text, 0o644)?;
        }
        file::write_atomic(&self.root.join("oci-layout"), LAYOUT, 0o644)?;
        // VERSION is written last: a store that has it is whole. Another process may have won.
        let version = self.root.join("VERSION");
        self.driver = Some(match file::read(&version) {
            Ok(text) => read_version(&text)?,
            Err(_) => {
                file::write_atomic(&version, format!("{VERSION}\ndriver {driver}\n").as_bytes(), 0o644)?;
                driver
            }
        });
        Ok(())
    }

    /// Places for what is mounted into every container, below all layers of its image: one that the image
    /// lacks need not be made in each container's upper.
    fn make_mount_points(&self) -> Result<()> {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let root = self.mount_points();
        for dir in ["", "dev", "etc", "proc", "sys"].map(|dir| root.join(dir)) {
            let made = fs::DirBuilder::new().recursive(true).create(&dir);
            made.and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)))
                .context(|| format!("mkdir({dir:?}, 0755)"))?;
        }
        for file in ["hosts", "hostname", "resolv.conf"].map(|file| root.join("etc").join(file)) {
            let mut options = fs::OpenOptions::new();
            let made = options.write(true).create(true).truncate(false).mode(0o644).open(&file);
            made.and_then(|f| f.set_permissions(fs::Permissions::from_mode(0o644)))
                .context(|| format!("open({file:?}, O_CREAT)"))?;
        }
        Ok(())
    }

    /// The directory with places for what is mounted into every container.
    pub fn mount_points(&self) -> PathBuf {
        self.root.join("mountpoints")
    }

    /// The directory of the images that are mounted on the host.
    pub(crate) fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The driver that the store was made with; none when it is not made yet.
    pub fn driver(&self) -> Option<Driver> {
        self.driver
    }

    /// The index of all images.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// The blob of this digest.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Take a folder out of its place, so that it stops being there before any of it goes. Where it is then,
    /// to be removed.
    pub(crate) fn take_out(&self, path: &Path) -> Result<PathBuf> {
        let doomed = self.tmp().join(file::unique_name("gone-"));
        fs::rename(path, &doomed).context(|| format!("rename({path:?}, {doomed:?})"))?;
        Ok(doomed)
    }

    /// What came so far of a blob.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.hex())
    }

    /// The directory of what came of blobs whose source broke off.
    pub fn partials(&self) -> PathBuf {
        self.root.join("cache/partial")
    }

    /// The directory of what builds keep for the next one.
    pub fn builds(&self) -> PathBuf {
        self.root.join("cache/build")
    }

    /// A blob's beginning, to be written on after its first `have` bytes.
    pub(crate) fn create_partial(&self, digest: &Digest, have: u64) -> Result<fs::File> {
        use std::io::{Seek, SeekFrom};
        use std::os::unix::fs::OpenOptionsExt;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(self.partials());
        made.context(|| format!("mkdir({:?})", self.partials()))?;
        let path = self.partial(digest);
        let mut options = fs::File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut file = file.context(|| format!("open({path:?}, O_CREAT)"))?;
        file.set_len(have)
            .and_then(|()| file.seek(SeekFrom::Start(have)))
            .context(|| format!("ftruncate({path:?}, {have})"))?;
        Ok(file)
    }

    /// The directory of the driver's layers.
    pub fn layers(&self, driver: Driver) -> PathBuf {
        self.root.join("layers").join(driver.folder())
    }

    /// The directory of one container.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The lock that writers share and prune has alone.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The lock for changing `index.json`.
    pub fn index_lock(&self) -> PathBuf {
        self.root.join("index.lock")
    }

    /// Where things are made before they are renamed into place.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

/// `VERSION`: a number, then `driver NAME`.
fn read_version(text: &[u8]) -> Result<Driver> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let version: u32 = lines
        .next()
        .and_then(|l| l.trim().parse().ok())
        .ok_or_else(|| Error::invalid("read VERSION: it does not start with a number"))?;
    if version > VERSION {
        return Err(Error::unsupported(format!(
            "read VERSION: the format is {version}, and this program knows {VERSION}: use a newer one"
        )));
    }
    match lines.find_map(|l| l.strip_prefix("driver ")) {
        Some(name) => name.trim().parse().map_err(|e: Error| e.with_kind(Kind::Unsupported)),
        None => Err(Error::invalid("read VERSION: it names no driver")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused() {
        let e = read_version(b"2\ndriver overlay\n").unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported);
        assert!(e.to_string().contains("the format is 2"), "{e}");
        assert_eq!(read_version(b"1\ndriver overlay\n").unwrap(), Driver::Overlay);
        assert_eq!(read_version(b"1\nlater field\ndriver vfs\n").unwrap(), Driver::Vfs);
        for bad in [&b""[..], b"x", b"1", b"-1\ndriver overlay", b"1\ndriver aufs", b"\xff\xfe"] {
            assert!(read_version(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_store_is_written_and_the_others_are_read() {
        let l = Locations::parse("/a:/b:/c".as_ref()).unwrap();
        assert_eq!((l.main, l.behind), ("/a".into(), vec!["/b".into(), "/c".into()]));
        assert!(Locations::parse("".as_ref()).is_err());
        assert!(Locations::parse("/a::/b".as_ref()).is_err());
    }
}
