//! An entry of a tar that is copied: read, checked, and under the name that it is to have.

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result};
use nix::sys::time::TimeSpec;
use tar::EntryType;

/// One that is to become a file.
pub(crate) struct Member {
    /// Names from where it is unpacked; none for that directory itself.
    pub(crate) path: PathBuf,
    /// Regular, directory, symbolic or hard link, device or fifo: nothing else.
    pub(crate) kind: EntryType,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) time: TimeSpec,
    /// A symbolic link's target as it is; that of a hard link as `path` is.
    pub(crate) link: Option<PathBuf>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(CString, Vec<u8>)>,
}

impl Member {
    /// Of an entry; none where it says something of others. `rename` replaces the first name of its path.
    pub(crate) fn of<R: Read>(
        entry: &mut tar::Entry<'_, R>,
        rename: Option<&(String, String)>,
    ) -> Result<Option<Self>> {
        let raw = entry.path_bytes().into_owned();
        let told = || String::from_utf8_lossy(&raw).into_owned();
        let kind = match entry.header().entry_type() {
            EntryType::XGlobalHeader => return Ok(None),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryType::Regular,
            known @ (EntryType::Directory
            | EntryType::Symlink
            | EntryType::Link
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo) => known,
            other => {
                return Err(Error::invalid(format!(
                    "read the archive: {:?} is of the type {other:?}",
                    told()
                )));
            }
        };
        let path = renamed(&raw, rename)?;
        let link = match (kind, entry.link_name_bytes()) {
            (EntryType::Link, Some(to)) => Some(renamed(&to, rename)?),
            (EntryType::Symlink, Some(to)) => Some(PathBuf::from(OsStr::from_bytes(&to))),
            _ => None,
        };
        let header = entry.header();
        let wrong = || format!("read the archive's entry {:?}", told());
        let mut member = Self {
            path,
            kind,
            size: entry.size(),
            mode: header.mode().context(wrong)? & 0o7777,
            uid: header.uid().context(wrong)?,
            gid: header.gid().context(wrong)?,
            time: TimeSpec::new(header.mtime().context(wrong)? as i64, 0),
            link,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: Vec::new(),
        };
        member.extend(entry).context(wrong)?;
        if let Some(id) = [member.uid, member.gid].into_iter().find(|id| *id >= u64::from(u32::MAX)) {
            return Err(Error::invalid(format!(
                "read the archive: {:?} is owned by {id}: ids have 32 bits",
                told()
            )));
        }
        Ok(Some(member))
    }

    /// What stands in PAX records.
    fn extend<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let Some(records) = entry.pax_extensions().context(|| "read its records")? else { return Ok(()) };
        for record in records {
            let record = record.context(|| "read its records")?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let number = || {
                let text = String::from_utf8_lossy(value);
                text.parse::<u64>().map_err(|_| Error::invalid(format!("{text:?} is no number")))
            };
            match key {
                b"uid" => self.uid = number()?,
                b"gid" => self.gid = number()?,
                b"mtime" => self.time = time(&String::from_utf8_lossy(value)).unwrap_or(self.time),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                        && let Ok(name) = CString::new(name)
                    {
                        self.xattrs.push((name, value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// `SECONDS[.FRACTION]`.
fn time(text: &str) -> Option<TimeSpec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{:0<9}", fraction.get(..9.min(fraction.len()))?).parse().ok()?;
    Some(match (whole.starts_with('-'), nanos) {
        (true, n) if n > 0 => TimeSpec::new(seconds - 1, 1_000_000_000 - n),
        _ => TimeSpec::new(seconds, nanos),
    })
}

/// Plain names alone: what would lead out is refused.
fn renamed(raw: &[u8], rename: Option<&(String, String)>) -> Result<PathBuf> {
    let mut names: Vec<&[u8]> = raw.split(|b| *b == b'/').filter(|n| !matches!(*n, b"" | b".")).collect();
    if names.contains(&&b".."[..]) || raw.contains(&0) {
        let told = String::from_utf8_lossy(raw);
        return Err(Error::invalid(format!("read the archive: {told:?} leads out of it")));
    }
    if let Some((old, new)) = rename {
        match names.first() {
            Some(first) if *first == old.as_bytes() => names[0] = new.as_bytes(),
            // Entries of `.` do not say it.
            _ if old == "." => names.insert(0, new.as_bytes()),
            _ => {}
        }
    }
    Ok(names.into_iter().map(|n| Path::new(OsStr::from_bytes(n))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_path_is_replaced_and_no_path_leads_out() {
        let rename = |path: &str, old: &str, new: &str| {
            renamed(path.as_bytes(), Some(&(old.into(), new.into()))).map(|p| p.display().to_string())
        };
        assert_eq!(rename("d/", "d", "new").unwrap(), "new");
        assert_eq!(rename("d/d/x", "d", "new").unwrap(), "new/d/x");
        assert_eq!(rename("./x", ".", "new").unwrap(), "new/x");
        assert_eq!(rename("./", ".", "new").unwrap(), "new");
        assert_eq!(renamed(b"./a//b/.", None).unwrap(), Path::new("a/b"));
        assert_eq!(renamed(b"/a", None).unwrap(), Path::new("a"));
        for bad in ["..", "a/../b", "../x", "a/.."] {
            assert!(renamed(bad.as_bytes(), None).is_err(), "{bad}");
        }
        let at = |text| time(text).map(|t| (t.tv_sec(), t.tv_nsec()));
        assert_eq!(at("12.5"), Some((12, 500_000_000)));
        assert_eq!(at("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(at("7"), Some((7, 0)));
        assert_eq!(at("x"), None);
    }
}
