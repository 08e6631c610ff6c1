//! Layers that we make.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_a_container_changed_is_the_same_again_from_the_layer_made_of_it() {
    let below = Tar::new()
        .dir("d", 0o755)
        .file("d/gone", "")
        .file("d/kept", "kept")
        .dir("again", 0o755)
        .file("again/old", "")
        .file("file", "")
        .dir("dir", 0o755)
        .file("dir/in", "")
        .file("mode", "same");
    let change = |root: &Path| {
        fs::remove_file(root.join("d/gone")).unwrap();
        fs::remove_dir_all(root.join("again")).unwrap();
        fs::create_dir(root.join("again")).unwrap();
        fs::write(root.join("again/new"), "new").unwrap();
        fs::remove_file(root.join("file")).unwrap();
        fs::create_dir(root.join("file")).unwrap();
        fs::write(root.join("file/in"), "").unwrap();
        fs::remove_dir_all(root.join("dir")).unwrap();
        symlink("d", root.join("dir")).unwrap();
        fs::set_permissions(root.join("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o4711)).unwrap();
        let long = format!("{}/{}", "a".repeat(200), "b".repeat(200));
        fs::create_dir(root.join("a".repeat(200))).unwrap();
        fs::write(root.join(&long), "long").unwrap();
        fs::hard_link(root.join(&long), root.join("hard")).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1250);
        fs::File::options().write(true).open(root.join("hard")).unwrap().set_modified(old).unwrap();
    };
    let Some((stack, archive)) = changed(below, change) else { return };
    let marks: Vec<_> = archive.paths().filter(|p| p.to_string_lossy().contains(".wh.")).collect();
    assert!(marks.contains(&Path::new("d/.wh.gone")), "{marks:?}");
    stack.look(|root| {
        let m = fs::metadata(root.join("hard")).unwrap();
        assert_eq!((m.nlink(), m.mtime(), m.mtime_nsec()), (2, -2, 750_000_000));
    });
}

#[test]
fn a_directory_packs_to_the_same_bytes_whoever_made_it_and_when() {
    let dir = std::env::temp_dir().join(unique_name("coracle-pack-"));
    let make = |name: &str, order: &[&str]| {
        let root = dir.join(name);
        fs::create_dir_all(root.join("sub")).unwrap();
        for file in order {
            fs::write(root.join(file), file).unwrap();
        }
        fs::hard_link(root.join("b"), root.join("sub/link")).unwrap();
        let mut archive = crate::layer::pack::Archive::new();
        let how = crate::layer::pack::FromDir { latest: Some(1000), ..Default::default() };
        archive.put_dir(&root, "srv", how).unwrap();
        archive.put_parents();
        let mut tar = Vec::new();
        archive.write(&mut tar).unwrap();
        tar
    };
    let one = make("one", &["a", "b", "sub/c"]);
    let two = make("two", &["sub/c", "b", "a"]);
    assert_eq!(one, two);
    let all = walk_all(&one).unwrap();
    let paths: Vec<String> = all.iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(paths, ["srv", "srv/a", "srv/b", "srv/sub", "srv/sub/c", "srv/sub/link"]);
    assert!(all.iter().all(|(e, _)| (e.uid, e.gid, e.mtime) == (0, 0, (1000, 0))));
    remove_tree(&dir).unwrap();
}

#[test]
fn no_entry_of_an_archive_that_is_made_leads_out_of_the_root() {
    use crate::layer::pack::{Archive, Content, Meta};
    let mut a = Archive::new();
    for bad in ["..", "../x", "a/../../x", "a/.."] {
        assert!(a.put(bad, Meta::new(0o755), Content::Dir).is_err(), "{bad:?}");
    }
    a.put("/a//b/./c/", Meta::new(0o755), Content::Dir).unwrap();
    assert!(a.get("a/b/c").is_some());
}

#[test]
fn owners_and_devices_of_a_layer_that_one_id_applied_are_the_archives_again() {
    use crate::layer::pack::{Archive, Content, FromDir, Meta};
    use crate::layer::unpack::{Options, unpack};
    use crate::layer::{Marks, Owners, key, owners};
    use coracle_sys::file::open_dir;

    let dir = std::env::temp_dir().join(unique_name("coracle-owners-"));
    let tree = dir.join(key::TREE);
    fs::create_dir_all(&tree).unwrap();
    let mut first = Archive::new();
    let mut put = |path: &str, ids: (u32, u32), content| {
        first.put(path, Meta { uid: ids.0, gid: ids.1, ..Meta::new(0o755) }, content).unwrap();
    };
    put("", (3, 4), Content::Dir);
    put("d", (1000, 5), Content::Dir);
    put("d/f%\u{e9}", (7, 8), Content::Bytes(b"text".to_vec()));
    put("a", (7, 8), Content::HardLink("d/f%\u{e9}".into()));
    put("link", (7, 8), Content::Symlink("d".into()));
    put("root's", (0, 0), Content::Bytes(Vec::new()));
    put("null", (0, 0), Content::Char(1, 3));
    put("disk", (0, 6), Content::Block(8, 1));
    put("large", (4_000_000_000, 1), Content::Fifo);
    let mut tar = Vec::new();
    first.write(&mut tar).unwrap();
    let options = Options { owners: Owners::Table, marks: Marks::User, ..Options::of_this_process() };
    let applied = unpack(&tar[..], open_dir(&tree).unwrap(), Vec::new().into(), Vec::new(), options).unwrap();
    assert!(applied.root);
    owners::write(&dir, &applied.owners).unwrap();
    fs::write(dir.join(key::ROOT), "").unwrap();
    let mut again = Archive::new();
    let how = FromDir { owner: None, latest: None, xattrs: true };
    again.put_layer(&tree, Marks::User, how).unwrap();
    let ids = |a: &Archive| -> Vec<_> {
        let paths: Vec<PathBuf> = a.paths().map(Path::to_owned).collect();
        let one = |p: PathBuf| a.get(&p).map(|(m, _)| (m.uid, m.gid, m.mode & 0o700)).map(|m| (p, m));
        paths.into_iter().filter_map(one).collect()
    };
    assert_eq!(ids(&again).len(), 9);
    for (was, is) in ids(&first).into_iter().zip(ids(&again)) {
        assert_eq!((was.0, was.1.0, was.1.1), (is.0, is.1.0, is.1.1));
    }
    assert_eq!(again.get("null").unwrap().1, &Content::Char(1, 3));
    assert_eq!(again.get("disk").unwrap().1, &Content::Block(8, 1));
    // A layer whose archive did not name its root has none.
    fs::remove_file(dir.join(key::ROOT)).unwrap();
    let mut without = Archive::new();
    without.put_layer(&tree, Marks::User, how).unwrap();
    assert!(without.get("").is_none() && without.len() == 8);
    // Applying it once more, the same comes out: nothing is lost on the way.
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    again.write(&mut once).unwrap();
    let other = dir.join("other").join(key::TREE);
    fs::create_dir_all(&other).unwrap();
    let applied =
        unpack(&once[..], open_dir(&other).unwrap(), Vec::new().into(), Vec::new(), options).unwrap();
    owners::write(&dir.join("other"), &applied.owners).unwrap();
    fs::write(dir.join("other").join(key::ROOT), "").unwrap();
    let mut last = Archive::new();
    last.put_layer(&other, Marks::User, how).unwrap();
    last.write(&mut twice).unwrap();
    assert!(once == twice, "the archive changed");
    remove_tree(&dir).unwrap();
}

#[test]
fn a_file_that_was_changed_since_it_was_seen_is_told_whatever_its_size_and_time() {
    let dir = std::env::temp_dir().join(unique_name("coracle-seen-"));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    for (content, restore) in [("same", false), ("other", true)] {
        let size = content.len();
        fs::write(&path, "x".repeat(size)).unwrap();
        let mut archive = Archive::new();
        archive.put_dir(&dir, "", FromDir::default()).unwrap();
        assert!(archive.write(&mut Vec::new()).unwrap());
        let mtime = path.metadata().unwrap().modified().unwrap();
        // The kernel's clock for files goes on in steps.
        std::thread::sleep(std::time::Duration::from_millis(30));
        fs::write(&path, content).unwrap();
        if restore {
            fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        }
        let mut tar = Vec::new();
        assert!(!archive.write(&mut tar).unwrap());
        assert!(tar.windows(size).any(|w| w == content.as_bytes()));
    }
    // Another size is an error, as is a small file that has grown or shrunk.
    let mut archive = Archive::new();
    archive.put_dir(&dir, "", FromDir::default()).unwrap();
    for content in ["", "oth", "others"] {
        fs::write(&path, content).unwrap();
        let e = archive.write(&mut Vec::new()).unwrap_err().to_string();
        assert!(e.contains("its size changed from 5"), "{e}");
    }
    remove_tree(&dir).unwrap();
}
