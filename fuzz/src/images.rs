//! Images: names, documents, layers, archives, and what a registry or a command line says of them.

use std::io::Cursor;

use coracle_rootfs_tool::archive::docker;
use coracle_rootfs_tool::change::Change;
use coracle_rootfs_tool::registry::challenge;
use coracle_store::image::{Descriptor, ImageConfig, Index, Manifest, Platform, ProcessConfig};
use coracle_store::layer::walk::Walk;
use coracle_store::layer::{Limits, decompress};
use coracle_store::{Digest, Reference};
use coracle_sys::json;

/// Names of images and digests print as they were read.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
        let full = reference.qualified();
        assert_eq!(full.to_string().parse::<Reference>().expect("a full name is a name"), full);
        assert!(!full.path.split('/').any(|part| part == ".." || part.is_empty()));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}

/// Manifests, indexes, configs and descriptors are the same when they are written and read again.
pub fn image_json(data: &[u8]) {
    macro_rules! round {
        ($($kind:ty),*) => {$(
            if let Ok(value) = json::from_slice::<$kind>(data) {
                let text = serde_json::to_vec(&value).expect("what was read can be written");
                assert_eq!(json::from_slice::<$kind>(&text).expect("and read again"), value);
            }
        )*};
    }
    round!(Index, Manifest, ImageConfig, Descriptor);
}

/// A layer's archive, in any compression, is walked to its end or to an error, in bounded memory.
pub fn layer(data: &[u8]) {
    let Ok(archive) = decompress(Cursor::new(data), None) else { return };
    let limits = Limits { size: 1 << 24, entries: 1000, depth: 64, ..Limits::default() };
    let mut walk = Walk::new(archive, limits);
    let mut buf = [0; 4096];
    let (mut entries, mut bytes) = (0, 0u64);
    while let Ok(Some(entry)) = walk.next_entry() {
        entries += 1;
        assert!(entries <= limits.entries && entry.path.len() <= 4096 && entry.link.len() <= 4096);
        while let Ok(n) = walk.read_data(&mut buf)
            && n > 0
        {
            bytes += n as u64;
            assert!(bytes <= limits.size);
        }
    }
}

/// `manifest.json` of docker's archives.
pub fn docker_archive(data: &[u8]) {
    if let Ok(entries) = docker::parse(data) {
        let text = serde_json::to_vec(&entries).expect("what was read can be written");
        assert_eq!(docker::parse(&text).expect("and read again"), entries);
    }
}

/// `WWW-Authenticate`.
pub fn auth_header(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for challenge in challenge::parse(&text) {
        assert!(!challenge.scheme.is_empty());
        assert!(challenge.parameters.iter().all(|(name, _)| !name.is_empty()));
    }
}

/// `--change`.
pub fn change(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(change) = text.parse::<Change>() {
        let _ = change.apply(&mut ProcessConfig::default());
    }
}

/// `--platform`.
pub fn platform(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(platform) = text.parse::<Platform>() {
        assert!(!platform.os.is_empty() && !platform.architecture.is_empty());
    }
}

/// What is sound.
pub(crate) mod seeds {
    use std::io::Write;

    use coracle_store::Digest;
    use coracle_store::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
    use coracle_store::layer::pack::{Archive, Content, Meta};
    use flate2::write::GzEncoder;

    fn texts(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|t| t.as_bytes().to_vec()).collect()
    }

    pub(crate) fn references() -> Vec<Vec<u8>> {
        let digest = Digest::of(b"x").to_string();
        let full = format!("localhost:5000/a/b-c:1.2@{digest}");
        texts(&["debian", "a__b.c/d:T", "[::1]:5/x", &full, &digest])
    }

    pub(crate) fn json() -> Vec<Vec<u8>> {
        let d = || Descriptor::new(media_type::LAYER_GZIP, Digest::of(b"x"), 7);
        let manifest = Manifest::new(d(), vec![d(), d()]);
        let index = Index { manifests: vec![d()], ..Index::empty() };
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":null,"Healthcheck":
            {"Test":["NONE"],"Interval":5},"ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":null},
            "history":[{"created_by":"x","empty_layer":true}]}"#;
        let mut out = texts(&[config]);
        out.extend(serde_json::to_vec(&manifest));
        out.extend(serde_json::to_vec(&index));
        out.extend(serde_json::to_vec(&ImageConfig::default()));
        out
    }

    pub(crate) fn layers() -> Vec<Vec<u8>> {
        let mut archive = Archive::new();
        let mut meta = Meta::new(0o4755);
        meta.mtime = (-5, 7);
        meta.xattrs.insert(b"user.x".to_vec(), b"y".to_vec());
        let long = "n".repeat(200);
        for (path, content) in [
            ("d", Content::Dir),
            ("d/file", Content::Bytes(vec![7; 700])),
            ("d/link", Content::Symlink("../x".into())),
            ("d/second", Content::HardLink("d/file".into())),
            ("null", Content::Char(1, 3)),
            (&long, Content::Fifo),
        ] {
            let _ = archive.put(path, meta.clone(), content);
        }
        let _ = archive.whiteout("gone");
        let mut tar = Vec::new();
        let _ = archive.write(&mut tar);
        let middle = tar.len() / 2;
        let gzip = |bytes: &[u8]| {
            let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let _ = gz.write_all(bytes);
            gz.finish().unwrap_or_default()
        };
        // With its content's checksum, and a frame to skip as zstd:chunked has one.
        let zstd = |bytes: &[u8]| {
            let mut zst = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
            let _ = zst.include_checksum(true).and_then(|()| zst.write_all(bytes));
            zst.finish().unwrap_or_default()
        };
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"note"].concat();
        let gzipped = [gzip(&tar[..middle]), gzip(&tar[middle..])].concat();
        let zstded = [zstd(&tar[..middle]), skipped, zstd(&tar[middle..])].concat();
        vec![tar, gzipped, zstded]
    }

    pub(crate) fn docker() -> Vec<Vec<u8>> {
        texts(&[
            r#"[{"Config":"a.json","RepoTags":["x:1",null],"Layers":["a/layer.tar"]},{"Config":"b","RepoTags":null}]"#,
        ])
    }

    pub(crate) fn challenges() -> Vec<Vec<u8>> {
        texts(&[
            r#"Bearer realm="https://a.b/t?x=\"1\"",service="r, s",scope="x:y:z", Basic realm="é", Negotiate"#,
        ])
    }

    pub(crate) fn changes() -> Vec<Vec<u8>> {
        texts(&[
            "CMD [\"a\", \"b\"]",
            "ENV A=1 B=\"x y\" C=a\\ b",
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            "LABEL k='v w'",
        ])
    }

    pub(crate) fn platforms() -> Vec<Vec<u8>> {
        texts(&["linux/amd64", "arm64", "linux/arm/v7", "linux/x86_64"])
    }
}
