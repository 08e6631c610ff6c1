//! Compressed archives: every form that writers give them, byte by byte where the library would not write it, and
//! what they may cost.

use std::io::{BufReader, Read, Write};

use super::*;
use crate::layer::Compression::{Gzip, None as Plain, Zstd};
use crate::layer::decompress;

/// An archive long enough to be cut in several parts.
fn archive() -> Vec<u8> {
    Tar::new().dir("d", 0o755).file("d/f", &"text ".repeat(3000)).file("last", "x").end()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A zstd frame whose header asks for a window of 2^`log` bytes, with blocks that are stored
/// (RFC 8878, section 3.1.1).
fn frame(log: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let mut blocks = content.chunks(1 << log.min(16)).peekable();
    while let Some(block) = blocks.next() {
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

/// A frame that readers pass over, as zstd:chunked and pzstd write them (section 3.1.2).
fn skippable(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[0x50 | kind, 0x2a, 0x4d, 0x18][..], &(content.len() as u32).to_le_bytes(), content].concat()
}

fn read(bytes: &[u8], claimed: Option<crate::layer::Compression>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let read = decompress(bytes, claimed)?.read_to_end(&mut out);
    read.map(|_| out).map_err(|e| coracle_sys::Error::invalid(e.to_string()))
}

#[test]
fn an_archive_in_several_members_or_frames_is_one_archive() {
    let tar = archive();
    let (a, b) = tar.split_at(7000);
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let note = skippable(0, b"a table of contents");
    for (what, kind, bytes) in [
        ("two members", Gzip, [gzip(a), gzip(b)].concat()),
        ("an empty member between", Gzip, [gzip(a), gzip(b""), gzip(b)].concat()),
        ("an empty member first", Gzip, [gzip(b""), gzip(&tar)].concat()),
        ("an empty member last", Gzip, [gzip(&tar), gzip(b"")].concat()),
        ("a member for each 512 bytes", Gzip, tar.chunks(512).flat_map(gzip).collect()),
        ("two frames", Zstd, [zstd(a), zstd(b)].concat()),
        ("a frame for each 512 bytes", Zstd, tar.chunks(512).flat_map(zstd).collect()),
        ("an empty frame between", Zstd, [zstd(a), zstd(b""), zstd(b)].concat()),
        ("stored blocks", Zstd, frame(20, &tar)),
        ("something to skip at the end", Zstd, [zstd(&tar), note.clone(), skippable(15, b"")].concat()),
        ("something to skip between", Zstd, [zstd(a), note.clone(), zstd(b)].concat()),
        ("something to skip first", Zstd, [note.clone(), zstd(&tar)].concat()),
        ("another thing to skip first", Zstd, [skippable(9, b""), note, zstd(a), zstd(b)].concat()),
    ] {
        for claimed in [Some(kind), None] {
            assert!(read(&bytes, claimed).unwrap_or_else(|e| panic!("{what}: {e}")) == tar, "{what}");
        }
        let mut stack = Stack::new(Driver::Overlay);
        let put = stack.put(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(put.diff_id, Digest::of(&tar), "{what}");
    }
}

#[test]
fn fields_of_a_gzip_header_are_passed_over() {
    let tar = archive();
    let mut gz = flate2::GzBuilder::new()
        .filename("layer.tar")
        .comment("a comment")
        .extra(vec![7; 300])
        .mtime(1_000_000_000)
        .write(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    assert!(read(&gz.finish().unwrap(), Some(Gzip)).unwrap() == tar);
}

#[test]
fn a_compressed_archive_that_is_cut_or_bent_is_an_error() {
    let tar = archive();
    let mut checked = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    checked.include_checksum(true).unwrap();
    checked.write_all(&tar).unwrap();
    let zst = checked.finish().unwrap();
    let two = [gzip(&tar[..7000]), gzip(&tar[7000..])].concat();
    let end = |bytes: &[u8], n: usize| bytes[..bytes.len() - n].to_vec();
    let mut sum = zst.clone();
    *sum.last_mut().unwrap() ^= 1;
    for (what, kind, bytes) in [
        ("zstd cut in its checksum", Zstd, end(&zst, 1)),
        ("zstd cut in its last block", Zstd, end(&zst, 6)),
        ("zstd cut in its header", Zstd, zst[..5].to_vec()),
        ("zstd with another checksum", Zstd, sum),
        ("zstd and garbage", Zstd, [&zst[..], b"garbage"].concat()),
        ("zstd and a gzip", Zstd, [zst.clone(), two.clone()].concat()),
        ("a frame to skip that is cut", Zstd, end(&[zst.clone(), skippable(3, b"123456")].concat(), 2)),
        (
            "a frame to skip that claims 4 GiB",
            Zstd,
            [&zst[..], &[0x50, 0x2a, 0x4d, 0x18], &[0xff; 4]].concat(),
        ),
        ("nothing but frames to skip that are cut", Zstd, end(&skippable(3, b"123456"), 2)),
        ("gzip cut in its second member", Gzip, end(&two, 20)),
        ("gzip cut in the trailer of its second member", Gzip, end(&two, 3)),
        ("gzip and a zstd", Gzip, [two.clone(), zst.clone()].concat()),
        ("gzip and zeros", Gzip, [&two[..], &[0; 10]].concat()),
        ("gzip under zstd's media type", Zstd, two.clone()),
        ("zstd under gzip's media type", Gzip, zst.clone()),
        ("a frame to skip under gzip's media type", Gzip, [skippable(0, b"x"), zst.clone()].concat()),
        ("zstd under no compression's media type", Plain, zst),
    ] {
        assert!(read(&bytes, Some(kind)).is_err(), "{what}");
        let mut stack = Stack::new(Driver::Overlay);
        if !what.contains("under") {
            assert!(stack.put(&bytes).is_err(), "{what}");
        }
    }
}

#[test]
fn a_zstd_window_is_what_zstd_gives_by_itself_and_no_larger() {
    let tar = archive();
    for log in [10, 20, 23, 27] {
        assert!(read(&frame(log, &tar), Some(Zstd)).unwrap() == tar, "2^{log}");
    }
    for log in [28, 31, 41] {
        let e = read(&frame(log, &tar), Some(Zstd)).unwrap_err().to_string();
        assert!(e.contains("memory") && !e.contains('\n'), "2^{log}: {e}");
        // After a frame that is sound, too.
        let late = [frame(20, &tar[..512]), frame(log, &tar[512..])].concat();
        assert!(read(&late, Some(Zstd)).is_err(), "2^{log}");
    }
}

#[test]
fn what_a_stream_is_does_not_depend_on_how_its_first_bytes_come() {
    let tar = archive();
    for bytes in [gzip(&tar), zstd::bulk::compress(&tar, 3).unwrap(), tar.clone()] {
        for at_once in [1, 2, 3] {
            let mut out = Vec::new();
            let slow = BufReader::with_capacity(at_once, &bytes[..]);
            decompress(slow, None).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == tar, "{at_once} at once of {:x?}", &bytes[..4]);
        }
    }
}
