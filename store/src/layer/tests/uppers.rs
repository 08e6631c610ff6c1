//! What a container did becomes a layer that says that, and no more.

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::layer::pack::Content;

fn names(archive: &Archive) -> Vec<String> {
    let names = archive.paths().map(|p| p.to_string_lossy().into_owned());
    names.filter(|n| !n.is_empty()).collect()
}

fn inode(root: &Path, name: &str) -> u64 {
    fs::symlink_metadata(root.join(name)).unwrap().ino()
}

#[test]
fn a_link_to_a_file_of_a_lower_layer_brings_the_file_along() {
    let below = Tar::new().dir("d", 0o755).file("d/f", "text");
    let change = |root: &Path| fs::hard_link(root.join("d/f"), root.join("second")).unwrap();
    let Some((stack, archive)) = changed(below, change) else { return };
    assert_eq!(names(&archive), ["d", "d/f", "second"]);
    assert_eq!(archive.get("second").unwrap().1, &Content::HardLink("d/f".into()));
    stack.look(|root| assert_eq!(inode(root, "d/f"), inode(root, "second")));
}

#[test]
fn where_a_directory_was_nothing_below_the_name_is_said_to_be_gone() {
    let below = Tar::new()
        .dir("to-file", 0o755)
        .file("to-file/in", "")
        .dir("to-link", 0o755)
        .dir("to-link/sub", 0o755)
        .file("to-link/sub/in", "")
        .dir("target", 0o755)
        .file("target/sub", "kept")
        .dir("gone", 0o755)
        .file("gone/in", "");
    let change = |root: &Path| {
        for name in ["to-file", "to-link", "gone"] {
            fs::remove_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("to-file"), "").unwrap();
        symlink("target", root.join("to-link")).unwrap();
    };
    let Some((_, archive)) = changed(below, change) else { return };
    assert_eq!(names(&archive), [".wh.gone", "to-file", "to-link"]);
}

#[test]
fn a_directory_that_is_new_in_the_place_of_something_hides_what_is_below() {
    let below = Tar::new().dir("again", 0o755).file("again/old", "").file("file", "").link("link", "again");
    let change = |root: &Path| {
        fs::remove_dir_all(root.join("again")).unwrap();
        for name in ["file", "link"] {
            fs::remove_file(root.join(name)).unwrap();
        }
        for name in ["again", "file", "link"] {
            fs::create_dir(root.join(name)).unwrap();
        }
    };
    let Some((_, archive)) = changed(below, change) else { return };
    for name in ["again", "file", "link"] {
        assert!(names(&archive).contains(&format!("{name}/.wh..wh..opq")), "{name}: {:?}", names(&archive));
    }
}

#[test]
fn new_modes_alone_bring_no_file_and_break_no_link() {
    let below = Tar::new()
        .dir("d", 0o755)
        .file("d/a", "both")
        .hard("d/b", "d/a")
        .file("alone", "text")
        .dir("other", 0o755)
        .hard("other/c", "d/a");
    let change = |root: &Path| {
        for (name, mode) in [("d", 0o700), ("other", 0o1777), ("alone", 0o600)] {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let Some((stack, archive)) = changed(below, change) else { return };
    assert_eq!(names(&archive), ["alone", "d", "other"]);
    stack.look(|root| {
        let all = ["d/a", "d/b", "other/c"].map(|name| inode(root, name));
        assert!(all.iter().all(|i| *i == all[0]), "{all:?}");
    });
}

#[test]
fn what_overlay_notes_for_itself_never_leaves() {
    let below = Tar::new().dir("d", 0o755).file("d/f", "text").dir("again", 0o755).file("again/x", "");
    let change = |root: &Path| {
        fs::write(root.join("d/f"), "other").unwrap();
        fs::remove_dir_all(root.join("again")).unwrap();
        fs::create_dir(root.join("again")).unwrap();
    };
    let Some((stack, archive)) = changed(below, change) else { return };
    let upper = coracle_sys::file::open_dir(&stack.dir.join("upper")).unwrap();
    let on_disk = coracle_sys::file::xattr_names_at(upper.as_fd(), std::ffi::OsStr::new("again")).unwrap();
    assert!(on_disk.iter().any(|n| n.to_string_lossy().contains("overlay.opaque")), "{on_disk:?}");
    for path in archive.paths() {
        let (meta, _) = archive.get(path).unwrap();
        let keys: Vec<_> = meta.xattrs.keys().map(|k| String::from_utf8_lossy(k)).collect();
        assert!(!keys.iter().any(|k| k.contains("overlay")), "{path:?}: {keys:?}");
    }
}

#[test]
fn of_what_is_put_twice_the_last_is_written_once() {
    let mut archive = Archive::new();
    let mut put = |path: &str, text: &str| {
        let content = Content::Bytes(text.as_bytes().to_vec());
        archive.put(path, crate::layer::pack::Meta::new(0o644), content).unwrap();
    };
    for (path, text) in [("a/b", "1"), ("/a//./b/", "2"), ("c", "3"), ("a/b", "4")] {
        put(path, text);
    }
    let mut tar = Vec::new();
    archive.write(&mut tar).unwrap();
    let all: Vec<_> = walk_all(&tar).unwrap().into_iter().map(|(e, data)| (e.path, data)).collect();
    assert_eq!(all, [(b"a/b".to_vec(), b"4".to_vec()), (b"c".to_vec(), b"3".to_vec())]);
}
