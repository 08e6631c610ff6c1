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
    assert_eq!(copy(&["d"], &with).unwrap(), "x/ 755, x/e/ 640, x/e/f 640, x/same 640");
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
    assert!(copy(&["d/none"], &with).is_err());
}
