//! Where states are: a directory that is this user's, and nobody else's to write.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result};

/// Under /run for root, under XDG_RUNTIME_DIR or /tmp for an ordinary user: one in whose user namespace, as
/// podman makes it, root has no say over /run is such a one too.
pub(super) fn base() -> Result<PathBuf> {
    let base = if nix::unistd::geteuid().is_root() && !foreign(Path::new("/run")) {
        PathBuf::from("/run/coracle")
    } else {
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|d| Path::new(d).is_absolute()) {
            Some(dir) => ours(PathBuf::from(dir))?.join("coracle"),
            None => private(std::env::temp_dir().join(format!("coracle-{}", nix::unistd::geteuid())))?,
        }
    };
    Ok(base)
}

/// It is there, and somebody else's.
fn foreign(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(dir).is_ok_and(|found| found.uid() != nix::unistd::geteuid().as_raw())
}

/// A directory in a shared /tmp, made or found: ours, and closed to others. It is looked at whenever it
/// is named, not only when it is made: states that somebody else wrote would name the processes that
/// are killed and joined. Once it is ours, /tmp's sticky bit keeps it so.
fn private(dir: PathBuf) -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Ok(()) => return Ok(dir),
        Err(e) => {
            return Err(e)
                .context(|| format!("mkdir({dir:?}, 0700)"))
                .context(|| "make a folder for the states (or set XDG_RUNTIME_DIR to one of your own)");
        }
    }
    let found = fs::symlink_metadata(&dir).context(|| format!("lstat({dir:?})"))?;
    let why = if !found.is_dir() {
        "is not a directory"
    } else if found.uid() != nix::unistd::geteuid().as_raw() {
        "belongs to somebody else"
    } else if found.mode() & 0o077 != 0 {
        "is open to others"
    } else {
        return Ok(dir);
    };
    Err(Error::new(Kind::Denied, format!("{} {why}: remove it, or set XDG_RUNTIME_DIR", dir.display())))
}

/// XDG_RUNTIME_DIR, when it is what it is meant to be: this user's, and nobody else's to write.
fn ours(dir: PathBuf) -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let why = match fs::metadata(&dir) {
        Err(e) => return Err(e).context(|| format!("stat({dir:?})")).context(|| "use XDG_RUNTIME_DIR"),
        Ok(found) if found.uid() != nix::unistd::geteuid().as_raw() => "it belongs to somebody else",
        Ok(found) if found.mode() & 0o022 != 0 => "others may write into it",
        Ok(_) => return Ok(dir),
    };
    Err(Error::new(Kind::Denied, format!("use XDG_RUNTIME_DIR={}: {why}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_not_read_where_somebody_else_could_have_put_them() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let above = std::env::temp_dir().join(format!("coracle-private-{}", std::process::id()));
        fs::create_dir(&above).unwrap();
        let refused = |name: &str| private(above.join(name)).unwrap_err().to_string();
        // Made where there is none, and found again.
        for _ in 0..2 {
            let dir = private(above.join("ours")).unwrap();
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
        symlink("ours", above.join("link")).unwrap();
        assert!(refused("link").contains("is not a directory"));
        fs::write(above.join("file"), "").unwrap();
        assert!(refused("file").contains("is not a directory"));
        for mode in [0o777, 0o770, 0o701] {
            fs::set_permissions(above.join("ours"), fs::Permissions::from_mode(mode)).unwrap();
            assert!(refused("ours").contains("is open to others"), "{mode:o}");
        }
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(above.join("ours"), fs::Permissions::from_mode(0o700)).unwrap();
            chown(above.join("ours"), Some(12345), None).unwrap();
            assert!(refused("ours").contains("belongs to somebody else"));
        } else {
            assert!(private("/etc".into()).unwrap_err().to_string().contains("belongs to somebody else"));
        }
        // Where it cannot be made, the way out is named.
        assert!(refused("missing/ours").contains("set XDG_RUNTIME_DIR"));
        fs::remove_dir_all(&above).unwrap();
    }
}
