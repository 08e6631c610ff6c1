//! `--format NAME[:COMPRESSION[:LEVEL]]`, and what the name of a file says where there is none.

use std::path::Path;

use coracle_sys::{Error, Result};

/// What an image is packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tar,
    Cpio,
    Ext4,
    Squashfs,
    Erofs,
    Disk,
}

/// How what it holds is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Zstd,
    Xz,
    Lz4,
    Lz4hc,
    Lzma,
}

/// A format, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    /// As the codec's own program counts it; its default where none.
    pub(crate) level: Option<i32>,
}

impl Kind {
    /// Is its begin written last? Then a pipe cannot take it.
    pub(crate) fn seeks(self) -> bool {
        !matches!(self, Self::Tar | Self::Cpio)
    }

    /// The kernel's name of it, and whether what is mounted can be written to; nothing where no kernel mounts it.
    pub(crate) fn mounted(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Ext4 => Some(("ext4", true)),
            Self::Squashfs => Some(("squashfs", false)),
            Self::Erofs => Some(("erofs", false)),
            Self::Tar | Self::Cpio | Self::Disk => None,
        }
    }
}

/// Names of formats with the codecs that each has, the default first.
const KINDS: &[(&str, Kind, &[Codec])] = &[
    ("tar", Kind::Tar, &[Codec::None, Codec::Gzip, Codec::Zstd]),
    ("cpio", Kind::Cpio, &[Codec::None, Codec::Gzip, Codec::Zstd]),
    ("ext4", Kind::Ext4, &[Codec::None]),
    ("squashfs", Kind::Squashfs, &[Codec::Gzip, Codec::Zstd, Codec::Xz]),
    ("erofs", Kind::Erofs, &[Codec::None, Codec::Lz4, Codec::Lz4hc, Codec::Lzma]),
    ("disk", Kind::Disk, &[Codec::None]),
];

/// Names of codecs with their levels.
const CODECS: &[(&str, Codec, i32, i32)] = &[
    ("none", Codec::None, 0, 0),
    ("gzip", Codec::Gzip, 1, 9),
    ("zstd", Codec::Zstd, 1, 3),
    ("xz", Codec::Xz, 0, 9),
    ("lz4", Codec::Lz4, 0, 0),
    ("lz4hc", Codec::Lz4hc, 0, 0),
    ("lzma", Codec::Lzma, 0, 9),
];

/// Levels of zstd that squashfs has besides: those that take the one slow way to compress which is compiled
/// (.cargo/config.toml).
const SLOW: std::ops::RangeInclusive<i32> = 13..=15;

/// Ends of file names.
const ENDS: &[(&str, Kind, Codec)] = &[
    (".tar", Kind::Tar, Codec::None),
    (".tar.gz", Kind::Tar, Codec::Gzip),
    (".tgz", Kind::Tar, Codec::Gzip),
    (".tar.zst", Kind::Tar, Codec::Zstd),
    (".cpio", Kind::Cpio, Codec::None),
    (".cpio.gz", Kind::Cpio, Codec::Gzip),
    (".cpio.zst", Kind::Cpio, Codec::Zstd),
    (".ext4", Kind::Ext4, Codec::None),
    (".squashfs", Kind::Squashfs, Codec::Gzip),
    (".sqfs", Kind::Squashfs, Codec::Gzip),
    (".erofs", Kind::Erofs, Codec::None),
    (".disk", Kind::Disk, Codec::None),
    (".img", Kind::Disk, Codec::None),
    (".raw", Kind::Disk, Codec::None),
];

impl Format {
    /// What was typed, or what the file's name says.
    pub(crate) fn decide(typed: Option<&str>, file: Option<&Path>) -> Result<Self> {
        if let Some(typed) = typed {
            return Self::read(typed).map_err(|e| e.wrap(format!("--format {typed}")));
        }
        let name = file.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        match ENDS.iter().rev().find(|(end, ..)| name.ends_with(end)) {
            Some(&(_, kind, codec)) => Ok(Self { kind, codec, level: None }),
            None if name.is_empty() => Err(Error::usage(format!(
                "name a file whose end says the format, such as -o image.ext4, or the format: --format is one of {}",
                kinds()
            ))),
            None => Err(Error::usage(format!(
                "-o {name}: its end says no format: --format is one of {}",
                kinds()
            ))),
        }
    }

    /// What was typed.
    pub(crate) fn read(typed: &str) -> Result<Self> {
        let mut words = typed.splitn(3, ':');
        let name = words.next().unwrap_or_default();
        let Some(&(_, kind, codecs)) = KINDS.iter().find(|(known, ..)| *known == name) else {
            return Err(Error::usage(format!("it is one of {}", kinds())));
        };
        let Some(codec) = words.next() else { return Ok(Self { kind, codec: codecs[0], level: None }) };
        let known = CODECS.iter().find(|(name, known, ..)| *name == codec && codecs.contains(known));
        let Some(&(_, codec, least, most)) = known else {
            let names: Vec<&str> = CODECS
                .iter()
                .filter(|(_, known, ..)| codecs.contains(known))
                .map(|(name, ..)| *name)
                .collect();
            return Err(Error::usage(format!("the compressions of {name} are {}", names.join(", "))));
        };
        let Some(level) = words.next() else { return Ok(Self { kind, codec, level: None }) };
        let slow = kind == Kind::Squashfs && codec == Codec::Zstd;
        match level.parse() {
            Ok(n) if (least..=most).contains(&n) && most > 0 => Ok(Self { kind, codec, level: Some(n) }),
            Ok(n) if slow && SLOW.contains(&n) => Ok(Self { kind, codec, level: Some(n) }),
            _ if slow => {
                Err(Error::usage(format!("the level is 1 to {most}, or {} to {}", SLOW.start(), SLOW.end())))
            }
            _ if most == 0 => Err(Error::usage("there is no level")),
            _ => Err(Error::usage(format!("the level is {least} to {most}"))),
        }
    }
}

fn kinds() -> String {
    let names: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_what_was_typed_or_what_the_file_is_called() {
        let format = |kind, codec, level| Format { kind, codec, level };
        for (typed, file, expected) in [
            (Some("cpio"), None, format(Kind::Cpio, Codec::None, None)),
            (Some("cpio:gzip"), Some("x.tar"), format(Kind::Cpio, Codec::Gzip, None)),
            (Some("tar:zstd:3"), None, format(Kind::Tar, Codec::Zstd, Some(3))),
            (None, Some("a/b.cpio.gz"), format(Kind::Cpio, Codec::Gzip, None)),
            (None, Some("b.tgz"), format(Kind::Tar, Codec::Gzip, None)),
            (None, Some("b.sqfs"), format(Kind::Squashfs, Codec::Gzip, None)),
            (Some("squashfs:zstd:15"), None, format(Kind::Squashfs, Codec::Zstd, Some(15))),
            (None, Some("b.erofs"), format(Kind::Erofs, Codec::None, None)),
            (Some("erofs:lzma:9"), None, format(Kind::Erofs, Codec::Lzma, Some(9))),
            (Some("squashfs:xz:0"), None, format(Kind::Squashfs, Codec::Xz, Some(0))),
        ] {
            assert_eq!(Format::decide(typed, file.map(Path::new)).unwrap(), expected);
        }
        for (typed, says) in [
            ("", "one of tar, cpio"),
            ("zip", "one of tar, cpio"),
            ("cpio:xz", "none, gzip, zstd"),
            ("cpio:gzip:0", "1 to 9"),
            ("cpio:gzip:x", "1 to 9"),
            ("cpio:none:1", "no level"),
            ("cpio:zstd:15", "1 to 3"),
            ("squashfs:zstd:9", "1 to 3, or 13 to 15"),
            ("squashfs:none", "gzip, zstd, xz"),
            ("erofs:lz4:3", "no level"),
            ("erofs:xz", "none, lz4, lz4hc, lzma"),
        ] {
            let e = Format::decide(Some(typed), None).unwrap_err().to_string();
            assert!(e.contains(says), "{typed}: {e}");
        }
        assert!(Format::decide(None, Some(Path::new("x.qcow2"))).is_err());
    }
}
