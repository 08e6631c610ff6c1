//! What honest archives mean: whiteouts, links, replacements, parents.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use super::*;

#[test]
fn an_opaque_whiteout_hides_only_what_is_below_wherever_it_stands() {
    let below = || {
        Tar::new().dir("d", 0o755).file("d/old", "").dir("d/sub", 0o755).file("d/sub/x", "").file("top", "")
    };
    let first = Tar::new().dir("d", 0o755).file("d/.wh..wh..opq", "").file("d/new", "");
    let last = Tar::new().dir("d", 0o755).file("d/new", "").file("d/.wh..wh..opq", "");
    assert_eq!(paths(&[below(), first]), ["d", "d/new", "top"]);
    assert_eq!(paths(&[below(), last]), ["d", "d/new", "top"]);
    let root_last = Tar::new().dir("d", 0o755).file("d/new", "").file(".wh..wh..opq", "");
    assert_eq!(paths(&[below(), root_last.clone()]), ["d", "d/new"]);
    let root_first = Tar::new().file(".wh..wh..opq", "").dir("d", 0o755).file("d/new", "");
    assert_eq!(paths(&[below(), root_first]), ["d", "d/new"]);
    assert_eq!(paths(&[below(), below(), root_last]), ["d", "d/new"]);
}

#[test]
fn a_whiteout_after_a_file_of_its_name_leaves_the_file() {
    assert_eq!(paths(&[Tar::new().file("foo", "1").file(".wh.foo", "")]), ["foo"]);
    let below = Tar::new().dir("d", 0o755).file("d/old", "").file("foo", "old");
    let t =
        Tar::new().file("foo", "new").file(".wh.foo", "").dir("d", 0o755).file("d/new", "").file(".wh.d", "");
    let seen = see(&[below, t]);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["d", "d/new", "foo"]);
    assert!(seen["foo"].ends_with("new"));
}

#[test]
fn of_duplicate_names_the_last_wins_and_has_its_own_inode() {
    let seen = see(&[Tar::new().file("a", "1").hard("b", "a").file("a", "2")]);
    assert!(seen["a"].ends_with(" 2") && seen["b"].ends_with(" 1"), "{seen:?}");
}

#[test]
fn a_name_that_a_later_layer_replaces_leaves_its_other_names_alone() {
    let below = || Tar::new().file("a", "1").hard("b", "a").dir("d", 0o755).hard("d/c", "a");
    for (what, layer) in [
        ("a file", Tar::new().file("a", "2")),
        ("a link", Tar::new().link("a", "b")),
        ("a directory", Tar::new().dir("a", 0o755)),
        ("a whiteout", Tar::new().file(".wh.a", "")),
        ("another mode", Tar::new().entry(b"a", b'0', b"1", b"", 0o600)),
    ] {
        let seen = see(&[below(), layer]);
        assert_eq!((&*seen["b"], &*seen["d/c"]), ("file 644 7 1", "file 644 7 1"), "{what}");
    }
}

#[test]
fn a_directory_is_what_the_topmost_entry_says_and_nothing_of_what_it_was() {
    let below = Tar::new()
        .pax(&[
            ("uid", b"7"),
            ("gid", b"8"),
            ("SCHILY.xattr.user.old", b"1"),
            ("SCHILY.xattr.user.both", b"1"),
        ])
        .dir("d", 0o2755)
        .pax(&[("uid", b"7"), ("SCHILY.xattr.user.old", b"1")])
        .dir("through", 0o711);
    let above = Tar::new().pax(&[("SCHILY.xattr.user.both", b"2")]).dir("d", 0o700).file("through/f", "");
    let disk = crate::layer::Owners::of_this_process() == crate::layer::Owners::Disk;
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        stack.put(&below.clone().end()).unwrap();
        stack.put(&above.clone().end()).unwrap();
        stack.look(|root| {
            let dir = coracle_sys::file::open_dir(root).unwrap();
            let value = |name: &str, key| {
                coracle_sys::file::xattr_at(dir.as_fd(), std::ffi::OsStr::new(name), key).unwrap()
            };
            assert_eq!(value("d", c"user.old"), None, "{driver}");
            assert_eq!(value("d", c"user.both").as_deref(), Some(&b"2"[..]), "{driver}");
            assert_eq!(value("through", c"user.old").as_deref(), Some(&b"1"[..]), "{driver}");
            let ids = |name| fs::metadata(root.join(name)).map(|m| (m.uid(), m.gid())).unwrap();
            if disk {
                assert_eq!((ids("d"), ids("through")), ((0, 0), (7, 0)), "{driver}");
            }
        });
    }
}

#[test]
fn capabilities_are_set_after_the_owner_which_would_take_them_away() {
    if crate::layer::Marks::of_this_process() != crate::layer::Marks::Trusted {
        return println!("skipped: root alone can give files capabilities");
    }
    // VFS_CAP_REVISION_2, effective, CAP_NET_RAW.
    let value = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let file =
        || Tar::new().pax(&[("SCHILY.xattr.security.capability", &value), ("uid", b"12"), ("gid", b"34")]);
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        let tar = file().entry(b"ping", b'0', b"x", b"", 0o6755).hard("second", "ping");
        stack.put(&tar.end()).unwrap();
        stack.look(|root| {
            let dir = coracle_sys::file::open_dir(root).unwrap();
            for name in ["ping", "second"] {
                let name = std::ffi::OsStr::new(name);
                let found = coracle_sys::file::xattr_at(dir.as_fd(), name, c"security.capability").unwrap();
                assert_eq!(found.as_deref(), Some(&value[..]), "{driver} {name:?}");
                let m = fs::metadata(root.join(name)).unwrap();
                assert_eq!((m.uid(), m.gid(), m.mode() & 0o7777), (12, 34, 0o6755), "{driver} {name:?}");
            }
        });
    }
}

#[test]
fn a_hard_link_to_a_file_below_works() {
    let below = Tar::new().dir("d", 0o755).entry(b"d/f", b'0', b"text", b"", 0o4755);
    let seen = see(&[below.clone(), Tar::new().hard("l", "d/f")]);
    assert_eq!((&*seen["l"], &*seen["d/f"]), ("file 4755 7 text", "file 4755 7 text"));
    refused(&[below.clone(), Tar::new().hard("l", "d")]);
    refused(&[below, Tar::new().file("d/.wh.f", "").hard("l", "d/f")]);
}

#[test]
fn types_replace_each_other_and_nothing_is_written_through() {
    let below = || Tar::new().dir("d", 0o755).file("d/x", "").file("f", "").link("l", "d").link("lf", "f");
    let seen = see(&[below(), Tar::new().file("d", "now a file")]);
    assert!(seen["d"].starts_with("file") && !seen.contains_key("d/x"));
    let seen = see(&[below(), Tar::new().link("d", "f")]);
    assert_eq!((&*seen["d"], seen.contains_key("d/x")), ("-> f", false));
    let seen = see(&[below(), Tar::new().dir("l", 0o711)]);
    assert_eq!((&*seen["l"], seen.contains_key("l/x"), seen.contains_key("d/x")), ("dir 711 7", false, true));
    let seen = see(&[below(), Tar::new().dir("f", 0o711).file("f/y", "")]);
    assert_eq!(seen["f"], "dir 711 7");
    let seen = see(&[below(), Tar::new().file("lf", "own")]);
    assert!(seen["lf"].ends_with("own") && seen["f"].ends_with(' '));
    let seen = see(&[below(), Tar::new().file(".wh.d", ""), Tar::new().dir("d", 0o755).file("d/z", "")]);
    assert!(seen.contains_key("d/z") && !seen.contains_key("d/x"));
}

#[test]
fn a_device_0_0_in_an_archive_is_no_whiteout() {
    let mut device = Tar::header(b"f", b'3', "00000000000", b"", 0o644);
    device[329..336].copy_from_slice(b"0000000");
    device[337..344].copy_from_slice(b"0000000");
    let seen = see(&[Tar::new().file("f", "kept"), Tar::new().put(device, b"")]);
    assert_eq!(seen["f"], "file 644 7 kept");
}

#[test]
fn setuid_bits_survive_the_owner_and_directories_keep_their_times() {
    let t = Tar::new()
        .dir("d", 0o2750)
        .pax(&[("uid", b"12"), ("gid", b"34")])
        .entry(b"d/su", b'0', b"x", b"", 0o6755);
    let t = t.dir("closed", 0).file("closed/in", "").file("d/later", "");
    let seen = see(&[t]);
    assert_eq!((&*seen["d"], &*seen["closed"]), ("dir 2750 7", "dir 0 7"));
    assert_eq!(seen["d/su"], "file 6755 7 x");
}

#[test]
fn strange_names_numbers_and_files_are_as_in_the_archive() {
    let long = "n".repeat(255);
    let target = "t/".repeat(2000);
    let mut t = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("x", "long")
        .pax(&[("linkpath", &target.as_bytes()[..3999])])
        .link("far", "x")
        .entry(b"new\nline", b'0', b"", b"", 0o644)
        .entry(b"\xff\xfe", b'0', b"bytes", b"", 0o644)
        .entry(b"fifo", b'6', b"", b"", 0o600);
    let mut device = Tar::header(b"dev", b'4', "00000000000", b"", 0o600);
    device[329..336].copy_from_slice(b"0000010");
    device[337..344].copy_from_slice(b"0001000");
    t = t.put(device, b"");
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        stack.put(&t.clone().end()).unwrap();
        stack.look(|root| {
            use std::os::unix::ffi::OsStrExt;
            assert!(root.join(&long).exists() && root.join("new\nline").exists());
            assert!(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")).exists());
            assert_eq!(fs::read_link(root.join("far")).unwrap().as_os_str().len(), 3999);
            assert!(fs::symlink_metadata(root.join("fifo")).unwrap().file_type().is_fifo());
            if crate::layer::Marks::of_this_process() == crate::layer::Marks::Trusted {
                let rdev = fs::symlink_metadata(root.join("dev")).unwrap().rdev();
                assert_eq!((nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)), (8, 512));
            }
        });
    }
}

#[test]
fn leftovers_of_aufs_never_surface() {
    let t = Tar::new().dir(".wh..wh.plnk", 0o700).file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "");
    assert_eq!(paths(&[t.dir(".wh..wh.orph", 0o700).file("real", "")]), ["real"]);
}

#[test]
fn a_whiteout_below_a_whited_out_directory_is_accepted() {
    let below = Tar::new().dir("d", 0o755).dir("d/e", 0o755).file("d/e/f", "").file("x", "");
    let t = Tar::new().file(".wh.d", "").file("d/.wh.e", "").file("d/e/.wh.f", "").file("none/.wh.f", "");
    assert_eq!(paths(&[below, t.file("x/.wh.y", "")]), ["x"]);
}

#[test]
fn a_layer_that_names_no_parent_leaves_the_lower_directory_as_it_was() {
    let below = Tar::new()
        .dir("tmp", 0o1777)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o751)
        .link("lib", "usr/lib")
        .link("a", "/tmp");
    let t = Tar::new().file("tmp/x", "").file("lib/y", "").file("a/z", "");
    let seen = see(&[below, t]);
    assert_eq!((&*seen["tmp"], &*seen["lib"], &*seen["usr/lib"]), ("dir 1777 7", "-> usr/lib", "dir 751 7"));
    for file in ["tmp/x", "usr/lib/y", "tmp/z"] {
        assert!(seen.contains_key(file), "{file}: {seen:?}");
    }
}

#[test]
fn a_layer_that_stands_alone_is_shared_and_one_that_leans_is_not() {
    let mut stack = Stack::new(Driver::Overlay);
    let alone = Tar::new().dir("d", 0o755).file("d/f", "").end();
    let leans = Tar::new().file("d/g", "").end();
    let put = stack.put(&alone).unwrap();
    stack.put(&leans).unwrap();
    stack.ids.clear();
    stack.put(&leans).unwrap();
    stack.put(&alone).unwrap();
    let layers = fs::read_dir(stack.dir.join("s/layers/overlay")).unwrap();
    let names: Vec<String> = layers.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|n| n.ends_with(".chain")).count(), 2, "{names:?}");
    assert!(names.contains(&put.diff_id.hex()) && names.len() == 3, "{names:?}");
}
