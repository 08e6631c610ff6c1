//! fstab's words: flags of the mount, its propagation, and what is left for the file system.

use coracle_sys::mount::attr;
use coracle_sys::{Error, Result};
use serde::Serialize;

/// A mount's flags, as sets of `MOUNT_ATTR_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Flags {
    /// Set on the mount.
    pub set: u64,
    /// Cleared from the mount.
    pub clear: u64,
}

/// All that a list of words amounts to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Options {
    /// `bind` or `rbind` was among them.
    pub bind: bool,
    /// `rbind`.
    pub recursive: bool,
    /// Flags of the mount itself.
    pub flags: Flags,
    /// Flags of all mounts below as well: `rro` and its like.
    pub all_flags: Flags,
    /// MS_SHARED and its like, and whether for all below.
    pub propagation: Option<(u64, bool)>,
    /// `tmpcopyup`: a tmpfs begins with what is at its place.
    pub copy_up: bool,
    /// `copy-symlink`: a source that is a link is copied.
    pub copy_link: bool,
    /// `src-nofollow`: a source that is a link is bound itself.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a link at its place is covered itself.
    pub target_nofollow: bool,
    /// `idmap`, or with those below `ridmap`: its files' ids are mapped.
    pub id_map: Option<bool>,
    /// `X-mount.subdir=`, as mount(8) has it: a folder inside of what is bound.
    pub inner: Option<String>,
    /// `remount`: change what is mounted there.
    pub remount: bool,
    /// What the file system itself is told: `key` or `key=value`.
    pub data: Vec<(String, Option<String>)>,
}

/// Word, bits set, bits cleared.
const WORDS: [(&str, u64, u64); 18] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("atime", attr::RELATIME, attr::ATIME),
    ("relatime", attr::RELATIME, attr::ATIME),
    ("norelatime", attr::RELATIME, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", attr::RELATIME, attr::ATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Words for the superblock that are not data of any one file system.
const SUPERBLOCK: [&str; 8] =
    ["sync", "dirsync", "lazytime", "mand", "iversion", "noiversion", "acl", "noacl"];

/// Those of mount(2)'s flags that a file system is told of only where it knows them.
const IF_KNOWN: [&str; 4] = ["iversion", "noiversion", "acl", "noacl"];

const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Words that name no flag: what is mounted, and what is so anyway.
const OTHERS: [&str; 15] = [
    "async",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "idmap",
    "loud",
    "nolazytime",
    "nomand",
    "rbind",
    "remount",
    "ridmap",
    "silent",
    "src-nofollow",
    "tmpcopyup",
];

/// What begins the word that names a folder inside.
pub(crate) const SUBDIR: &str = "X-mount.subdir=";

/// Every word that is understood here.
pub(crate) fn words() -> Vec<String> {
    let both = WORDS.iter().map(|w| w.0).chain(PROPAGATION.iter().map(|p| p.0));
    let both = both.flat_map(|word| [word.to_owned(), format!("r{word}")]);
    both.chain(SUPERBLOCK.iter().chain(&OTHERS).map(|word| (*word).to_owned())).collect()
}

/// Read the words; a later one wins over an earlier one.
pub(crate) fn parse(words: &[String]) -> Result<Options> {
    let mut all = Options::default();
    for word in words {
        if !all.take(word) {
            all.take_data(word)?;
        }
    }
    Ok(all)
}

impl Options {
    /// Take a word that every mount knows.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_link = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.target_nofollow = true,
            "idmap" | "ridmap" => self.id_map = Some(word == "ridmap"),
            _ if word.starts_with(SUBDIR) => self.inner = word.strip_prefix(SUBDIR).map(str::to_owned),
            "defaults" | "async" | "nolazytime" | "nomand" | "silent" | "loud" | "" => {}
            _ => {
                if let Some((_, set, clear)) = WORDS.iter().find(|w| w.0 == word) {
                    self.flags.add(*set, *clear);
                    return true;
                }
                let Some(rest) = word.strip_prefix('r') else {
                    return self.take_propagation(word, false);
                };
                if let Some((_, set, clear)) = WORDS.iter().find(|w| w.0 == rest) {
                    self.all_flags.add(*set, *clear);
                    return true;
                }
                return self.take_propagation(rest, true);
            }
        }
        true
    }

    fn take_propagation(&mut self, word: &str, recursive: bool) -> bool {
        match PROPAGATION.iter().find(|p| p.0 == word) {
            Some((_, flag)) => self.propagation = Some((*flag, recursive)),
            None => return false,
        }
        true
    }

    /// What is not known here is for the file system, which parts it at its commas as mount(2) does.
    fn take_data(&mut self, words: &str) -> Result<()> {
        pieces(words).into_iter().filter(|word| !word.is_empty()).try_for_each(|word| self.take_piece(word))
    }

    fn take_piece(&mut self, word: &str) -> Result<()> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) if is_label(key) => (key, Some(value.trim_matches('"').to_string())),
            Some((key, value)) => (key, Some(value.to_string())),
            None => (word, None),
        };
        if matches!(key, "idmap" | "ridmap") {
            return Err(Error::unsupported(format!(
                "the mount option {word:?}: say uidMappings and gidMappings"
            )));
        }
        self.data.push((key.to_string(), value));
        Ok(())
    }

    /// Whether a bind was given what only a file system can take.
    pub(crate) fn misplaced_on_bind(&self) -> Option<&str> {
        self.data.iter().map(|d| d.0.as_str()).find(|key| !SUPERBLOCK.contains(key))
    }
}

/// The parts between commas, but those that a backslash stands before, as in a path of an overlay's, and those of a
/// label in quotes.
fn pieces(words: &str) -> Vec<&str> {
    let (mut pieces, mut start, mut escaped, mut quoted) = (Vec::new(), 0, false, false);
    for (at, c) in words.char_indices() {
        if c == '"' {
            quoted = !quoted && words[start..at].ends_with("context=");
        } else if c == ',' && !escaped && !quoted {
            pieces.push(&words[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    pieces.push(&words[start..]);
    pieces
}

/// Whether a key's value is a label of SELinux's, which mount(2) wants in quotes for its commas.
pub(super) fn is_label(key: &str) -> bool {
    matches!(key, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// Whether a file system that does not know the word does as well without.
pub(super) fn may_be_unknown(word: &str) -> bool {
    IF_KNOWN.contains(&word)
}

impl Flags {
    fn add(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }

    /// With others, which win.
    pub(crate) fn join(&mut self, others: Self) {
        self.add(0, others.clear);
        self.add(others.set, 0);
    }

    /// Take a flag out of those that are set. Was it?
    pub(crate) fn take(&mut self, flag: u64) -> bool {
        let was = self.set & flag != 0;
        self.set &= !flag;
        was
    }

    /// Whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Options {
        parse(&words.split(',').map(String::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_label_in_quotes_is_one_word() {
        let data = |words: &str| parse(&[words.to_owned()]).unwrap().data;
        let label = |key: &str| (key.to_owned(), Some("u:r:t:s0:c1,c2".to_owned()));
        let size = ("size".to_owned(), Some("1m".to_owned()));
        assert_eq!(data("size=1m,context=\"u:r:t:s0:c1,c2\""), [size.clone(), label("context")]);
        assert_eq!(data("rootcontext=\"u:r:t:s0:c1,c2\",size=1m"), [label("rootcontext"), size]);
        assert_eq!(data("lowerdir=\"a,b").len(), 2, "a quote in a path is part of it");
    }

    #[test]
    fn a_later_word_wins_over_an_earlier_one() {
        let o = options("ro,rw,nosuid,noatime,strictatime");
        assert_eq!(o.flags.set, attr::NOSUID | attr::STRICTATIME);
        assert_eq!(o.flags.clear, attr::RDONLY | attr::ATIME);
    }

    #[test]
    fn words_with_an_r_before_them_are_for_all_below() {
        let o = options("rbind,rro,rslave,relatime");
        assert!(o.bind && o.recursive);
        assert_eq!(o.all_flags.set, attr::RDONLY);
        assert_eq!(o.propagation, Some((libc::MS_SLAVE, true)));
        assert_eq!(o.flags, Flags { set: 0, clear: attr::ATIME });
    }

    #[test]
    fn what_no_mount_knows_is_for_the_file_system() {
        let o = options("mode=755,size=64k,newinstance,context=a=b");
        assert_eq!(o.data[0], ("mode".into(), Some("755".into())));
        assert_eq!(o.data[2], ("newinstance".into(), None));
        assert_eq!(o.data[3], ("context".into(), Some("a=b".into())));
        assert_eq!(o.misplaced_on_bind(), Some("mode"));
        let flags = options("bind,silent,loud,iversion,noiversion,acl,noacl");
        assert_eq!((flags.misplaced_on_bind(), flags.data.len()), (None, 4));
    }

    #[test]
    fn a_word_with_commas_in_it_is_several_for_the_file_system() {
        let o = parse(&["mode=755,,size=64k".into(), "lowerdir=/a\\,b:/c,volatile".into()]).unwrap();
        let keys: Vec<&str> = o.data.iter().map(|d| d.0.as_str()).collect();
        assert_eq!(keys, ["mode", "size", "lowerdir", "volatile"]);
        assert_eq!(o.data[2].1.as_deref(), Some("/a\\,b:/c"));
    }

    #[test]
    fn every_word_that_is_told_of_is_no_data_of_a_file_system() {
        for word in words().iter().filter(|w| !SUPERBLOCK.contains(&w.as_str())) {
            assert!(Options::default().take(word), "{word}");
        }
    }

    #[test]
    fn words_that_are_no_flags_are_no_data_either() {
        let o = options("tmpcopyup,copy-symlink,src-nofollow,dest-nofollow,ridmap");
        assert!(o.copy_up && o.copy_link && o.source_nofollow && o.target_nofollow && o.data.is_empty());
        assert_eq!(o.id_map, Some(true));
        assert!(parse(&["idmap=uids=0-1-1".into()]).unwrap_err().to_string().contains("uidMappings"));
    }
}
