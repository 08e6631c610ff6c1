//! Layers: archives of changes, and the directories they are applied to.

pub(crate) mod attributes;
pub mod below;
pub(crate) mod compare;
pub mod compress;
pub mod copy;
pub mod differ;
pub mod encode;
mod field;
mod flatten;
mod gather;
pub mod key;
pub mod merge;
mod over;
pub mod owners;
pub mod pack;
mod pax;
pub mod tree;
pub mod unpack;
pub mod walk;
pub mod whiteout;

#[cfg(test)]
mod tests;

use std::io::{BufRead, Cursor, Read};

use coracle_sys::{Context, Error, Result, idmap};

use crate::image::media_type;

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// What a layer's media type says. Other types are refused by name.
    pub fn of_media_type(kind: &str) -> Result<Self> {
        match kind {
            media_type::LAYER | media_type::DOCKER_LAYER => Ok(Self::None),
            media_type::LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Ok(Self::Gzip),
            media_type::LAYER_ZSTD => Ok(Self::Zstd),
            _ => Err(Error::unsupported(format!("read the layer: its media type {kind:?} is not known"))),
        }
    }

    /// What a layer is called that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::LAYER,
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
        }
    }

    /// What the first bytes look like.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame that is to be skipped (RFC 8878, section 3.1.2): pzstd begins with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A zstd frame asks for at most this much memory, as a power of two: what `zstd --long` goes up to.
const ZSTD_WINDOW: u32 = 27;

/// The archive inside a compressed stream. `claimed` is what the media type says: content that
/// looks otherwise is refused; without it the first bytes decide.
pub fn decompress<'a>(input: impl BufRead + 'a, claimed: Option<Compression>) -> Result<Box<dyn Read + 'a>> {
    decoder(Box::new(input), claimed)
}

/// One decoder of each kind, whatever it reads from.
fn decoder<'a>(mut input: Box<dyn BufRead + 'a>, claimed: Option<Compression>) -> Result<Box<dyn Read + 'a>> {
    // A pipe may give one byte at a time: what it is filled with at first is not enough to tell.
    let mut head = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut head).context(|| "read the layer")?;
    let seen = Compression::of_bytes(&head);
    let input = Cursor::new(head).chain(input);
    if let Some(claimed) = claimed
        && claimed != seen
    {
        return Err(Error::invalid(format!(
            "read the layer: its media type says {claimed:?}, its content is {seen:?}"
        )));
    }
    match seen {
        Compression::None => Ok(Box::new(input)),
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(input).context(|| "make a zstd decoder")?;
            decoder.window_log_max(ZSTD_WINDOW).context(|| "limit the zstd decoder")?;
            Ok(Box::new(decoder))
        }
    }
}

/// Read until the buffer is full or the input at its end.
pub(crate) fn fill(input: &mut impl Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match input.read(&mut buf[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Whose marks an overlay reads: `trusted.overlay.*` when root of the machine mounts it,
/// `user.overlay.*` otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`
    User,
    /// Those that the program fuse-overlayfs leaves in an upper, beside the others, which it reads as well.
    Fuse,
}

impl Marks {
    /// Those that this process can write: root of the initial user namespace has the trusted ones,
    /// unless it is confined to a container that takes CAP_SYS_ADMIN away.
    pub fn of_this_process() -> Self {
        let root = nix::unistd::geteuid().is_root() && idmap::may_have_sys_admin();
        if root && idmap::is_initial_namespace() { Self::Trusted } else { Self::User }
    }

    /// The attribute that makes a directory hide what is below it.
    pub fn opaque(self) -> &'static std::ffi::CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
            Self::Fuse => c"user.fuseoverlayfs.opaque",
        }
    }

    /// All that an upper may have in its place.
    pub fn all_opaque(self) -> impl Iterator<Item = &'static std::ffi::CStr> {
        let others = [Self::Trusted, Self::User].into_iter().filter(move |_| self == Self::Fuse);
        std::iter::once(self).chain(others).map(Self::opaque)
    }
}

/// Where the owners of a layer's files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// To the files themselves.
    Disk,
    /// To a table beside the layer: this process has one id.
    Table,
}

impl Owners {
    /// What this process can do: chown needs root of a namespace with more than one id.
    pub fn of_this_process() -> Self {
        let ids: u64 = std::fs::read_to_string("/proc/self/uid_map")
            .unwrap_or_else(|_| "0 0 4294967295".into())
            .lines()
            .filter_map(|l| l.split_whitespace().nth(2)?.parse::<u64>().ok())
            .sum();
        if nix::unistd::geteuid().is_root() && ids > 1 { Self::Disk } else { Self::Table }
    }
}

/// What an archive may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together, holes included.
    pub size: u64,
    /// Entries.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of memory, about, for the attributes of directories, which wait for the archive's end.
    pub waiting: usize,
}

impl Limits {
    /// The most that the files of one layer may hold together whose blob has `bytes`: a small blob that would
    /// fill the disk is a bomb.
    pub fn size_of(&self, bytes: u64) -> u64 {
        self.size.min((16 << 30) + bytes.saturating_mul(200))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: 256 << 30, entries: 10_000_000, depth: 256, waiting: 256 << 20 }
    }
}
