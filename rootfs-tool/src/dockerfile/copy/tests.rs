//! What COPY makes of a tree.

use super::*;

fn tree() -> Archive {
    let mut out = Archive::new();
    let file = |text: &str| Content::Bytes(text.into());
    for (path, mode, content) in [
        ("a.txt", 0o644, file("a")),
        ("b.txt", 0o755, file("b")),
        ("d", 0o750, Content::Dir),
        ("d/e", 0o700, Content::Dir),
        ("d/e/f", 0o600, file("f")),
        ("d/g.txt", 0o644, file("g")),
        ("d/same", 0o644, Content::HardLink("d/g.txt".into())),
        ("link", 0o777, Content::Symlink("d/g.txt".into())),
        ("out", 0o777, Content::Symlink("../../../etc/passwd".into())),
        ("ld", 0o777, Content::Symlink("/d".into())),
        ("loop", 0o777, Content::Symlink("loop".into())),
    ] {
        out.put(path, Meta::new(mode), content).unwrap();
    }
    out
}

fn rules(dest: &str) -> Rules {
    Rules {
        dest: dest.into(),
        owner: None,
        chmod: None,
        exclude: Ignore::default(),
        parents: false,
        now: (0, 0),
    }
}

fn copy(sources: &[&str], rules: &Rules) -> Result<String> {
    let tree = tree();
    let mut target = Target::new(None);
    for source in sources {
        target.copy(&tree, source, rules)?;
    }
    let archive = &target.archive;
    let line = |path: &Path| {
        let (meta, content) = archive.get(path).unwrap();
        let kind = match content {
            Content::Dir => "/".to_owned(),
            Content::Symlink(to) => format!("->{}", to.to_string_lossy()),
            Content::HardLink(to) => format!("={}", to.display()),
            _ => String::new(),
        };
        format!("{}{kind} {:o}", path.display(), meta.mode)
    };
    Ok(archive.paths().map(line).collect::<Vec<_>>().join(", "))
}

#[test]
fn files_and_what_directories_hold_go_where_they_are_told_to() {
    for (sources, dest, expected) in [
        (&["a.txt"][..], "/x", "x 644"),
        (&["a.txt"], "/x/", "x/ 755, x/a.txt 644"),
        (&["a.txt"], "/", "a.txt 644"),
        (&["/a.txt"], "/x/y/z", "x/ 755, x/y/ 755, x/y/z 644"),
        (&["../../a.txt"], "/x", "x 644"),
        (&["a.txt", "b.txt"], "/x/", "x/ 755, x/a.txt 644, x/b.txt 755"),
        (&["*.txt"], "/x/", "x/ 755, x/a.txt 644, x/b.txt 755"),
        (&["d/*.txt"], "/x/", "x/ 755, x/g.txt 644"),
        (&["none*"], "/x", ""),
        (&["d"], "/x", "x/ 755, x/e/ 700, x/e/f 600, x/g.txt 644, x/same=x/g.txt 644"),
        (&["d"], "/x/", "x/ 755, x/e/ 700, x/e/f 600, x/g.txt 644, x/same=x/g.txt 644"),
        (&["d/same"], "/x", "x 644"),
        (&["link"], "/x", "x 644"),
        (&["ld"], "/x", "x/ 755, x/e/ 700, x/e/f 600, x/g.txt 644, x/same=x/g.txt 644"),
        (&["ld/e/f"], "/x", "x 600"),
        (&["?.txt"], "/", "a.txt 644, b.txt 755"),
        (&["d/e/."], "/x", "x/ 755, x/f 600"),
    ] {
        assert_eq!(copy(sources, &rules(dest)).unwrap(), expected, "{sources:?} {dest}");
    }
    for missing in ["none", "out", "d/none", "a.txt/x"] {
        assert!(copy(&[missing], &rules("/x")).unwrap_err().to_string().contains("not found"), "{missing}");
    }
    assert!(copy(&["loop"], &rules("/x")).unwrap_err().to_string().contains("too many links"));
    assert!(copy(&["a.txt"], &rules("/x")).is_ok());
    let e = copy(&["a.txt", "d"], &rules("/x")).unwrap_err().to_string();
    assert!(e.contains("cannot copy to non-directory: /x"), "{e}");
}

#[test]
fn owners_modes_exclusions_and_parents() {
    let mut with = rules("/x/");
    with.chmod = Some(Chmod::parse("640").unwrap());
    with.exclude = Ignore::of(&["*.txt".to_owned()]).unwrap();
    assert_eq!(copy(&["d"], &with).unwrap(), "x/ 640, x/e/ 640, x/e/f 640, x/same 640");
    let mut with = rules("/x/");
    with.parents = true;
    assert_eq!(
        copy(&["d/e/f", "a.txt"], &with).unwrap(),
        "x/ 755, x/a.txt 644, x/d/ 750, x/d/e/ 700, x/d/e/f 600"
    );
    assert_eq!(copy(&["d/./e/f"], &with).unwrap(), "x/ 755, x/e/ 700, x/e/f 600");
    assert_eq!(
        copy(&["**/*.txt"], &with).unwrap(),
        "x/ 755, x/a.txt 644, x/b.txt 755, x/d/ 750, x/d/g.txt 644"
    );
    assert_eq!(copy(&["d*/./e/f"], &with).unwrap(), "x/ 755, x/e/ 700, x/e/f 600");
    assert_eq!(copy(&["*/./**/f", "d/./*.txt"], &with).unwrap(), "x/ 755, x/e/ 700, x/e/f 600, x/g.txt 644");
    assert!(copy(&["d/none"], &with).is_err());
}

#[test]
fn names_of_one_file_stay_that_where_its_first_name_stays_behind() {
    let mut tree = Archive::new();
    tree.put("a", Meta::new(0o644), Content::Bytes(b"a".into())).unwrap();
    tree.put("d", Meta::new(0o755), Content::Dir).unwrap();
    for name in ["d/x", "d/y"] {
        tree.put(name, Meta::new(0o644), Content::HardLink("a".into())).unwrap();
    }
    let mut target = Target::new(None);
    target.copy(&tree, "d", &rules("/o")).unwrap();
    let content = |path: &str| target.archive.get(path).unwrap().1.clone();
    assert_eq!(content("o/x"), Content::Bytes(b"a".into()));
    assert_eq!(content("o/y"), Content::HardLink("o/x".into()));
}

#[test]
fn a_directory_has_the_time_of_the_one_whose_content_it_was_given() {
    let mut tree = tree();
    tree.put("d", Meta { mtime: (77, 0), ..Meta::new(0o700) }, Content::Dir).unwrap();
    let mut target = Target::new(None);
    target.copy(&tree, "d", &Rules { now: (99, 0), ..rules("/x/y") }).unwrap();
    let meta = |path: &str| target.archive.get(path).unwrap().0.clone();
    assert_eq!((meta("x").mtime, meta("x/y").mtime), ((99, 0), (77, 0)));
    assert_eq!(meta("x/y").mode, 0o755);
}

#[test]
fn what_an_archive_holds_takes_the_place_of_what_is_of_another_kind() {
    let entry = |path: &str, content: Content| {
        let mut tree = Archive::new();
        tree.put(path, Meta::new(0o640), content).unwrap();
        tree
    };
    let mut target = Target::new(None);
    target.copy(&tree(), "d", &rules("/x")).unwrap();
    let with = Rules { owner: Some((5, 6)), ..rules("/") };
    target.merge(&entry("x", Content::Bytes(b"x".into())), b"", &with).unwrap();
    let paths = |target: &Target| target.archive.paths().map(Path::to_owned).collect::<Vec<_>>();
    assert_eq!(paths(&target), [Path::new("x")]);
    assert_eq!(target.archive.get("x").unwrap().0.uid, 5);
    target.merge(&entry("x", Content::Dir), b"", &with).unwrap();
    assert!(matches!(target.at(b"x").unwrap(), Some(Stands::Dir)));
}

#[test]
fn a_destination_with_a_slash_is_no_file() {
    let tree = tree();
    let mut target = Target::new(None);
    target.copy(&tree, "a.txt", &rules("/x")).unwrap();
    let e = target.copy(&tree, "b.txt", &rules("/x/")).unwrap_err().to_string();
    assert!(e.contains("cannot copy to non-directory: /x"), "{e}");
}
