//! Hostile archives: nothing outside the root is reached.

use std::os::unix::fs::symlink;

use super::*;

/// Where a link in an image may point on the host: the canary, by every route.
fn routes_out(stack: &Path) -> Vec<String> {
    let canary = stack.join("canary").to_string_lossy().into_owned();
    vec![
        canary.clone(),
        format!("../../../../../../../../../../../../..{canary}"),
        format!("/proc/self/root{canary}"),
    ]
}

#[test]
fn an_entry_that_is_the_root_and_no_directory_never_replaces_it() {
    for name in [".", "/", "./", "./.", "//"] {
        for kind in *b"0123467" {
            if name.ends_with('/') && matches!(kind, b'0' | b'7') {
                continue; // old archives write directories so
            }
            let tar = Tar::new().file("kept", "").entry(name.as_bytes(), kind, b"", b"/etc", 0o777);
            let e = refused(&[tar]);
            assert!(e.contains("root"), "{name:?} {}: {e}", char::from(kind));
        }
    }
}

#[test]
fn whiteouts_of_dot_and_dot_dot_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", "../.wh..."] {
        refused(&[Tar::new().dir("d", 0o755).file("d/f", ""), Tar::new().file(name, "")]);
    }
}

#[test]
fn a_link_to_the_host_is_never_followed_out_of_the_root() {
    type Second = fn(Tar) -> Tar;
    let seconds: [(&str, Second); 8] = [
        ("write", |t| t.file("l/file", "bad")),
        ("write new", |t| t.file("l/new", "bad")),
        ("whiteout", |t| t.file("l/.wh.file", "")),
        ("opaque", |t| t.file("l/.wh..wh..opq", "")),
        ("hard link", |t| t.hard("stolen", "l/file")),
        ("directory", |t| t.dir("l/sub", 0o777)),
        ("directory itself", |t| t.dir("l", 0o700)),
        ("chmod by link", |t| t.hard("l2", "l").entry(b"l2", b'5', b"", b"", 0o7777)),
    ];
    for driver in [Driver::Vfs, Driver::Overlay] {
        for (what, second) in seconds {
            for n in 0..3 {
                for one_layer in [true, false] {
                    let mut stack = Stack::new(driver);
                    let out = &routes_out(&stack.dir)[n];
                    // The target may be too long for a ustar header.
                    let first = Tar::new().pax(&[("linkpath", out.as_bytes())]).link("l", "x");
                    let results = if one_layer {
                        vec![stack.put(&second(first).end())]
                    } else {
                        vec![stack.put(&first.end()), stack.put(&second(Tar::new()).end())]
                    };
                    stack.canary_lives();
                    // A link to a file that is not in the tree is an error; all else is applied inside.
                    let ok = results.iter().all(Result::is_ok);
                    assert_eq!(ok, what != "hard link", "{driver} {what} {out}: {results:?}");
                }
            }
        }
    }
}

#[test]
fn dot_dot_stays_inside() {
    assert_eq!(paths(&[Tar::new().file("../../../x", "1").file("a/../../y", "2")]), ["a", "x", "y"]);
    refused(&[Tar::new().file("a/..", "")]);
    refused(&[Tar::new().hard("x", "../../canary/file")]);
    refused(&[Tar::new().file("", "")]);
}

#[test]
fn a_loop_of_links_is_an_error() {
    let e = refused(&[Tar::new().link("a", "b").link("b", "a").file("a/x", "")]);
    assert!(e.contains("symbolic links"), "{e}");
}

#[test]
fn a_directory_after_a_link_of_its_name_leaves_the_target_alone() {
    let t = Tar::new().dir("real", 0o755).link("d", "real").dir("d", 0o700);
    let seen = see(&[t]);
    assert_eq!((&*seen["real"], &*seen["d"]), ("dir 755 7", "dir 700 7"));
}

#[test]
fn overlays_own_attributes_in_an_archive_are_dropped() {
    let below = Tar::new().dir("d", 0o755).file("d/x", "").dir("other", 0o755).file("other/y", "");
    for key in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let t = Tar::new().pax(&[(&format!("SCHILY.xattr.{key}"), b"y")]).dir("d", 0o755);
        assert!(paths(&[below.clone(), t]).contains(&"d/x".to_owned()), "{key}");
    }
    let t = Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/other")]).dir("d", 0o755);
    assert!(!paths(&[below, t]).contains(&"d/y".to_owned()));
}

#[test]
fn a_host_link_beside_the_layer_is_no_way_in() {
    // Whoever can write into the store's parents is the user: what counts is that the last step of
    // opening a layer follows no link.
    let mut stack = Stack::new(Driver::Overlay);
    let put = stack.put(&Tar::new().file("f", "").end()).unwrap();
    let dir = stack.dir.join("s/layers/overlay").join(put.diff_id.hex());
    remove_tree(&dir.join("fs")).unwrap();
    symlink(stack.dir.join("canary"), dir.join("fs")).unwrap();
    assert!(stack.store.stack_dirs(&stack.ids).is_err());
}

#[test]
fn what_waits_for_an_archives_end_is_bounded() {
    let value = vec![b'x'; 3 << 10];
    let with_xattr =
        |t: Tar, n: usize| t.pax(&[("SCHILY.xattr.user.x", &value)]).dir(&format!("d{n}"), 0o755);
    let deep = |t: Tar, n: usize| t.dir(&format!("{}{n}", "a/".repeat(30)), 0o755);
    for tar in [(0..20).fold(Tar::new(), with_xattr), (0..100).fold(Tar::new(), deep)] {
        let dir = std::env::temp_dir().join(unique_name("coracle-layer-"));
        fs::create_dir(&dir).unwrap();
        let apply = |waiting: usize| {
            let mut options = unpack::Options::of_this_process();
            options.limits.waiting = waiting;
            let tree = dir.join(unique_name("tree-"));
            fs::create_dir(&tree).unwrap();
            let root = coracle_sys::file::open_dir(&tree).unwrap();
            unpack::unpack(
                &tar.clone().end()[..],
                root,
                unpack::Lowers::from(Vec::new()),
                Vec::new(),
                options,
            )
        };
        let e = apply(50 << 10).expect_err("it is refused").to_string();
        let well = apply(1 << 20).is_ok();
        remove_tree(&dir).unwrap();
        assert!(e.contains("what it says of its directories"), "{e}");
        assert!(well);
    }
}
