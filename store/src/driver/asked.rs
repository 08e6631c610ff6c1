//! Which driver is asked for: by the variable CORACLE_STORAGE_DRIVER, which `--storage-driver` sets, for the store that is
//! written, whatever it was made with; by `storage-driver` in config.toml for a new store alone.

use std::path::PathBuf;

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;

use super::Driver;

/// The variables that name one, the first that is set.
const VARIABLES: [&str; 2] = ["CORACLE_STORAGE_DRIVER", "CORACLE_DRIVER"];

/// The key in config.toml.
const KEY: &str = "storage-driver";

/// What `--storage-driver` says: it holds for programs that this one runs as well. To be called before there is a second
/// thread.
pub fn ask(name: &str) -> Result<()> {
    let driver = name.parse::<Driver>().context(|| "--storage-driver")?;
    coracle_sys::process::set_variable(VARIABLES[0], driver.name());
    Ok(())
}

/// What the caller asks for.
pub fn by_name() -> Result<Option<Driver>> {
    let said = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    VARIABLES.iter().find_map(said).map(|name| name.parse()).transpose()
}

/// The same, else what is configured.
pub(super) fn of_a_new_store() -> Result<Option<Driver>> {
    if let Some(driver) = by_name()? {
        return Ok(Some(driver));
    }
    let mut found = None;
    for path in files() {
        let read = || match file::read(&path) {
            Ok(text) => configured(&String::from_utf8_lossy(&text)),
            Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)) => Ok(None),
            Err(e) => Err(e),
        };
        found = read().context(|| format!("read {path:?}"))?.or(found);
    }
    Ok(found)
}

/// The machine's, and the user's, which is the stronger.
fn files() -> Vec<PathBuf> {
    let dir = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let own = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")));
    [Some("/etc".into()), own].into_iter().flatten().map(|dir| dir.join("coracle/config.toml")).collect()
}

/// The one key that is of interest here, before the first table: `storage-driver = "NAME"`. The rest of the file is
/// rootfs-tool's to read.
fn configured(text: &str) -> Result<Option<Driver>> {
    for line in text.lines().map(str::trim).take_while(|line| !line.starts_with('[')) {
        let Some((key, value)) = line.split_once('=') else { continue };
        if key.trim().trim_matches('"') != KEY {
            continue;
        }
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote)?.split_once(quote);
        let rest_is_a_comment =
            |(_, rest): &(&str, &str)| matches!(rest.trim().bytes().next(), None | Some(b'#'));
        let Some((name, _)) = quoted('"').or_else(|| quoted('\'')).filter(rest_is_a_comment) else {
            return Err(Error::usage(format!("{KEY} = {value}: the name of a driver stands in quotes")));
        };
        return name.parse::<Driver>().map(Some).context(|| KEY);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_read_from_before_the_first_table() {
        for (text, driver) in [
            ("", None),
            ("# storage-driver = \"vfs\"\n", None),
            ("a = 1\nstorage-driver = \"btrfs\" # here\n[x]\n", Some(Driver::Btrfs)),
            ("\"storage-driver\"='overlay2'", Some(Driver::Overlay)),
            ("[[registry]]\nstorage-driver = \"vfs\"\n", None),
        ] {
            assert_eq!(configured(text).unwrap(), driver, "{text}");
        }
        for text in ["storage-driver = vfs", "storage-driver = \"aufs\"", "storage-driver = \"vfs\" x"] {
            let e = configured(text).unwrap_err().to_string();
            assert!(e.contains(KEY), "{text}: {e}");
        }
    }
}
