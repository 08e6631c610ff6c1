//! The walk over the archive: what is sound, what is not, in which forms numbers and holes come.

use std::io::Read;

use super::*;

#[test]
fn a_pax_size_beats_the_headers_and_belongs_to_the_file() {
    for ustar_size in ["00000000000", "00000001000", "00000000001"] {
        let data = [b'a'; 700];
        let tar = Tar::new()
            .pax(&[("size", b"700")])
            .entry(b"././@LongLink", b'L', b"a-long-name\0", b"", 0)
            .entry(b"././@LongLink", b'K', b"a-long-target\0", b"", 0)
            .put(Tar::header(b"short", b'0', ustar_size, b"", 0o644), &data)
            .file("after", "x");
        let all = walk_all(&tar.end()).unwrap();
        assert_eq!(all[0].0.path, b"a-long-name");
        assert_eq!((all[0].0.size, &all[0].1[..]), (700, &data[..]));
        assert_eq!((&all[1].0.path[..], &all[1].1[..]), (&b"after"[..], &b"x"[..]));
    }
}

#[test]
fn what_is_no_sound_archive_is_an_error_and_never_a_hang() {
    let good = Tar::new().file("f", "text").end();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("text".into(), b"this is not a tar".repeat(100)),
        ("a block of text".into(), vec![b'x'; 512]),
        ("a zip".into(), [b"PK\x03\x04", &[0u8; 600][..]].concat()),
        ("an extension at the end".into(), Tar::new().pax(&[("path", b"x")]).end()),
        ("an unknown type".into(), Tar::new().entry(b"x", b'M', b"", b"", 0).end()),
        ("a size that is no number".into(), Tar::new().put(Tar::header(b"x", b'0', "zz", b"", 0), b"").end()),
        ("zeros in between".into(), [&[0; 512], &good[..]].concat()),
        ("a NUL in a name".into(), Tar::new().pax(&[("path", b"a\0b")]).file("x", "").end()),
    ];
    for n in [1, 100, 511, 513, 515, 600, 1023] {
        cases.push((format!("cut at {n}"), good[..n].to_vec()));
    }
    let mut bad_sum = good.clone();
    bad_sum[0] = b'g';
    cases.push(("a wrong checksum".into(), bad_sum));
    for record in [
        &b"5 a=b\n"[..],
        b"x a=b\n",
        b"99 a=b\n",
        b"6 a=b",
        b"0 \n",
        b"3 \n",
        b"9999999999999999999999 a=b\n",
    ] {
        let tar = Tar::new().entry(b"p", b'x', record, b"", 0).file("x", "").end();
        cases.push((format!("the record {:?}", String::from_utf8_lossy(record)), tar));
    }
    for (key, value) in
        [("size", "-1"), ("size", "1e3"), ("size", "99999999999999999999"), ("mtime", "x"), ("uid", "-1")]
    {
        cases
            .push((format!("{key}={value}"), Tar::new().pax(&[(key, value.as_bytes())]).file("x", "").end()));
    }
    for (what, tar) in cases {
        assert!(walk_all(&tar).is_err(), "{what}");
    }
}

#[test]
fn odd_endings_of_archives_are_accepted() {
    let whole = Tar::new().file("f", "text").end();
    for (what, tar, entries) in [
        ("no end blocks", whole[..1024].to_vec(), 1),
        ("one end block", whole[..1536].to_vec(), 1),
        ("bytes after the end", [&whole[..], b"anything"].concat(), 1),
        ("only zeros", vec![0; 10240], 0),
        ("nothing", Vec::new(), 0),
    ] {
        assert_eq!(walk_all(&tar).unwrap_or_else(|e| panic!("{what}: {e}")).len(), entries, "{what}");
    }
}

#[test]
fn caps_hold_and_nothing_is_allocated_for_a_claim() {
    let claim = Tar::new().put(Tar::header(b"big", b'0', "", b"", 0o644), b"");
    let mut header: [u8; 512] = claim.0[..512].try_into().unwrap();
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]); // 2^62
    let e = walk_all(&Tar::new().put(header, b"").end()).unwrap_err().to_string();
    assert!(e.contains("larger than"), "{e}");
    header[156] = b'x';
    assert!(walk_all(&Tar::new().put(header, b"").end()).unwrap_err().to_string().contains("extension"));
    let limits = Limits { entries: 2, ..Limits::default() };
    let three = Tar::new().file("a", "").file("b", "").file("c", "").end();
    assert!(walk_limited(&three, limits).unwrap_err().to_string().contains("more than 2 entries"));
    let limits = Limits { size: 3, ..Limits::default() };
    assert!(walk_limited(&Tar::new().file("a", "12").file("b", "34").end(), limits).is_err());
    let deep = "d/".repeat(300);
    assert!(refused(&[Tar::new().pax(&[("path", deep.as_bytes())]).dir("x", 0o755)]).contains("deeper"));
}

#[test]
fn the_extensions_of_one_entry_are_bounded_together() {
    let value = vec![b'v'; 600_000];
    let one = |tar: Tar| tar.pax(&[("SCHILY.xattr.user.a", &value)]);
    assert_eq!(walk_all(&one(one(Tar::new()).file("a", "")).file("b", "").end()).unwrap().len(), 2);
    let e = walk_all(&one(one(Tar::new())).file("a", "").end()).unwrap_err().to_string();
    assert!(e.contains("one entry's hold"), "{e}");
    let limits = Limits { size: 1 << 20, ..Limits::default() };
    let e = walk_limited(&one(one(Tar::new()).file("a", "")).file("b", "").end(), limits).unwrap_err();
    assert!(e.to_string().contains("larger than"), "{e}");
}

#[test]
fn what_stands_behind_the_end_is_bounded() {
    let behind = |bytes| {
        let archive = Tar::new().file("a", "").end();
        let input = (&archive[..]).chain(std::io::repeat(0).take(bytes));
        let mut walk = Walk::new(input, Limits::default());
        while walk.next_entry()?.is_some() {}
        Ok::<_, coracle_sys::Error>(())
    };
    behind(10 << 20).unwrap();
    assert!(behind(u64::MAX).unwrap_err().to_string().contains("behind its end"));
}

#[test]
fn owners_and_devices_that_the_kernel_would_take_for_others_are_refused() {
    for (id, sound) in [("4294967294", true), ("4294967295", false), ("4294967296", false)] {
        for key in ["uid", "gid"] {
            let tar = Tar::new().pax(&[(key, id.as_bytes())]).file("f", "").end();
            assert_eq!(walk_all(&tar).is_ok(), sound, "{key}={id}");
        }
    }
    for (major, minor, sound) in
        [("0007777", "3777777", true), ("0010000", "0000000", false), ("0000001", "4000000", false)]
    {
        let mut header = Tar::header(b"d", b'3', "", b"", 0o600);
        header[329..336].copy_from_slice(major.as_bytes());
        header[337..344].copy_from_slice(minor.as_bytes());
        assert_eq!(walk_all(&Tar::new().put(header, b"").end()).is_ok(), sound, "{major}:{minor}");
    }
}

#[test]
fn numbers_are_read_in_every_form() {
    let mut header = Tar::header(b"f", b'0', "00000000000", b"", 0o644);
    header[136..148].copy_from_slice(&[0xff; 12]); // -1 in base 256
    header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0]); // 4,000,000,000
    let all = walk_all(&Tar::new().put(header, b"").end()).unwrap();
    assert_eq!((all[0].0.mtime, all[0].0.uid), ((-1, 0), 4_000_000_000));
    for (text, time) in [
        ("1.5", (1, 500_000_000)),
        ("-1.25", (-2, 750_000_000)),
        ("-3", (-3, 0)),
        ("4102444800.123456789", (4_102_444_800, 123_456_789)),
        ("1.1234567899", (1, 123_456_789)),
    ] {
        let all = walk_all(&Tar::new().pax(&[("mtime", text.as_bytes())]).file("f", "").end()).unwrap();
        assert_eq!(all[0].0.mtime, time, "{text}");
    }
}

#[test]
fn names_and_targets_come_in_gnus_long_form_and_belong_to_the_next_entry_alone() {
    let (name, target) = ("n/".repeat(150) + "end", "t/".repeat(1000));
    let long = |kind, text: &str| Tar::new().entry(b"././@LongLink", kind, text.as_bytes(), b"", 0).0;
    for ends in ["", "\0"] {
        let mut tar = Tar(long(b'K', &format!("{target}{ends}")));
        tar.0.extend(long(b'L', &format!("{name}{ends}")));
        let all = walk_all(&tar.link("short", "short").hard("next", "other").end()).unwrap();
        assert_eq!((&all[0].0.path[..], &all[0].0.link[..]), (name.as_bytes(), target.as_bytes()));
        assert_eq!((&all[1].0.path[..], &all[1].0.link[..]), (&b"next"[..], &b"other"[..]));
    }
    // As C reads it.
    let all = walk_all(&Tar(long(b'L', "a\0b")).file("x", "").end()).unwrap();
    assert_eq!(all[0].0.path, b"a");
    for (what, tar) in [
        ("a name that is longer than a path", long(b'L', &"x/".repeat(3000))),
        ("a target that is longer than a path", long(b'K', &"x/".repeat(3000))),
        ("a name and then the end", Tar(long(b'L', "name")).end()),
    ] {
        let tar = if what.ends_with("end") { tar } else { Tar(tar).link("x", "y").end() };
        assert!(walk_all(&tar).is_err(), "{what}");
    }
}

#[test]
fn a_global_header_is_ignored() {
    let all = walk_all(&Tar::new().entry(b"g", b'g', b"12 path=bad\n", b"", 0).file("f", "x").end()).unwrap();
    assert_eq!(all[0].0.path, b"f");
}

#[test]
fn sparse_files_are_read_in_every_format() {
    let map = b"2\n3\n2\n10\n1\n";
    let mut v10 = map.to_vec();
    v10.resize(512, 0);
    v10.extend_from_slice(b"abc");
    let mut old = Tar::header(b"f", b'S', "00000000003", b"", 0o644);
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..].fill(0);
    for (at, n) in [(386, 3), (398, 2), (410, 10), (422, 1), (483, 12)] {
        old[at..at + 11].copy_from_slice(format!("{n:011o}").as_bytes());
    }
    let formats: [(&str, Tar); 4] = [
        ("S", Tar::new().put(old, b"abc")),
        (
            "0.0",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.size", b"12"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"3"),
                    ("GNU.sparse.numbytes", b"2"),
                    ("GNU.sparse.offset", b"10"),
                    ("GNU.sparse.numbytes", b"1"),
                ])
                .file("f", "abc"),
        ),
        (
            "0.1",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.size", b"12"),
                    ("GNU.sparse.name", b"f"),
                    ("GNU.sparse.map", b"3,2,10,1"),
                ])
                .file("GNUSparseFile.0/f", "abc"),
        ),
        (
            "1.0",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"f"),
                    ("GNU.sparse.realsize", b"12"),
                ])
                .entry(b"GNUSparseFile.0/f", b'0', &v10, b"", 0o644),
        ),
    ];
    for (format, tar) in formats {
        let seen = see(&[tar.file("after", "x")]);
        assert_eq!(seen["f"], "file 644 7 \0\0\0ab\0\0\0\0\0c\0", "{format}");
        assert_eq!(seen.len(), 2, "{format}");
    }
    for map in
        [&b"3,2,4,1"[..], b"3,2,12,1", b"3,2", b"3,2,10,1,11,1", b"10,1,3,2", b"18446744073709551615,2", b"3"]
    {
        let tar = Tar::new().pax(&[("GNU.sparse.size", b"12"), ("GNU.sparse.map", map)]).file("f", "abc");
        assert!(walk_all(&tar.end()).is_err(), "{:?}", String::from_utf8_lossy(map));
    }
}

#[test]
fn no_mutation_of_an_archive_hangs_the_walk_or_leaves_the_jail() {
    let seed_tar = Tar::new()
        .dir("d", 0o755)
        .file("d/f", "some text")
        .link("l", "/canary")
        .hard("h", "d/f")
        .pax(&[("path", b"p/q"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b"), ("size", b"3")])
        .file("x", "abc")
        .file("d/.wh.gone", "")
        .pax(&[("GNU.sparse.size", b"12"), ("GNU.sparse.map", b"3,2,10,1")])
        .file("s", "abc")
        .end();
    let mut seed = 11u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    let limits = Limits { size: 1 << 20, entries: 100, depth: 16, ..Limits::default() };
    let dir = std::env::temp_dir().join(unique_name("coracle-fuzz-"));
    let mut applied = 0;
    for round in 0..4000 {
        let mut tar = seed_tar.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % tar.len();
            match next() % 5 {
                0 => tar[at] = next() as u8,
                1 => tar[at] = b"/.0123457xgLKS\0-=\n"[next() % 18],
                2 => tar.truncate(at.next_multiple_of(512)),
                3 => {
                    let (from, to) = (at / 512 * 512, next() % tar.len() / 512 * 512);
                    let block = tar[from..from + 512].to_vec();
                    tar[to..to + 512].copy_from_slice(&block);
                }
                _ => {
                    // Headers whose checksum is right again reach further.
                    let from = at / 512 * 512;
                    let h = &mut tar[from..from + 512];
                    h[next() % 148] ^= 1 << (next() % 8);
                    h[148..156].copy_from_slice(b"        ");
                    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
                    h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
                }
            }
            if tar.is_empty() {
                break;
            }
        }
        let _ = walk_limited(&tar, limits);
        if round % 8 == 0 {
            fs::create_dir_all(dir.join("jail")).unwrap();
            let root = coracle_sys::file::open_dir(&dir.join("jail")).unwrap();
            let options =
                crate::layer::unpack::Options { limits, ..crate::layer::unpack::Options::of_this_process() };
            applied += usize::from(
                crate::layer::unpack::unpack(&tar[..], root, Vec::new().into(), Vec::new(), options).is_ok(),
            );
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "round {round}");
            remove_tree(&dir.join("jail")).unwrap();
        }
    }
    assert!(applied > 20, "{applied}");
    remove_tree(&dir).unwrap();
}

#[test]
fn compression_is_what_the_media_type_says() {
    use std::io::Write;
    let tar = Tar::new().file("f", "x").end();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar[..700]).unwrap();
    let mut members = gz.finish().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar[700..]).unwrap();
    members.extend(gz.finish().unwrap());
    let mut stack = Stack::new(Driver::Overlay);
    assert_eq!(stack.put(&members).unwrap().diff_id, Digest::of(&tar), "two members are one archive");
    use crate::layer::Compression::{Gzip, None as Plain};
    assert!(crate::layer::decompress(&tar[..], Some(Gzip)).is_err());
    assert!(crate::layer::decompress(&members[..], Some(Plain)).is_err());
    let mut flipped = members.clone();
    let crc = members.len() - 8;
    flipped[crc] ^= 1;
    for (what, bytes) in [
        ("cut off", members[..members.len() - 9].to_vec()),
        ("cut in the trailer", members[..members.len() - 2].to_vec()),
        ("a bad CRC", flipped),
        ("garbage after it", [&members[..], b"garbage"].concat()),
    ] {
        stack.ids.clear();
        assert!(stack.put(&bytes).is_err(), "{what}");
    }
}
