//! `runner cp` beside `docker cp`: one table of cases for both directions, with what docker makes of them as facts. Where
//! dockerd is installed docker is asked again.

use std::path::Path;

use coracle_tests::command::Running;
use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need};

/// A name a line: a file with its content, a link with its target, a folder with a slash.
const LIST: &str = "for p in $(find . | sort | sed 1d); do \
     if [ -L $p ]; then echo \"$p->$(readlink $p)\"; elif [ -d $p ]; then echo $p/; else echo $p=$(cat $p); fi; done";

/// What a container has to be copied.
const SOURCE: &str = "rm -rf /s; mkdir -p /s/d/sub; echo f >/s/f; echo x >/s/d/x; echo y >/s/d/sub/y; ln -s d /s/ld; \
     ln -s f /s/lf; ln -s /s/d /s/abs; ln -s nowhere /s/dead; ln -s ../../../etc/passwd /s/up; mkfifo /s/fifo 2>/dev/null || mknod /s/fifo p";

/// What is at a copy's end before.
const TARGET: &str = "mkdir -p t/dir/d t/isdir t/over/f; echo old >t/file; ln -s dir t/ldir; ln -s file t/lfile; \
     ln -s gone t/ldead";

/// A program with containers, and one of them.
trait Engine {
    fn cp(&self, words: &str) -> Cmd;
    fn sh(&self, script: &str) -> Output;
}

struct Ours<'a> {
    store: &'a Store,
    name: &'static str,
}

impl Engine for Ours<'_> {
    fn cp(&self, words: &str) -> Cmd {
        self.store.runner().arg("cp").words(words)
    }
    fn sh(&self, script: &str) -> Output {
        self.store.runner().args(["exec", self.name, "sh", "-c", script]).ok()
    }
}

struct Theirs(Dockerd);

impl Engine for Theirs {
    fn cp(&self, words: &str) -> Cmd {
        self.0.docker("cp").words(words)
    }
    fn sh(&self, script: &str) -> Output {
        self.0.docker("exec box sh -c").arg(script).ok()
    }
}

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox"))
}

/// A store with an image, and a container of it that runs.
fn running(store: &Store, flags: &str) -> (Image, Running) {
    let image = Image::busybox().expect("busybox").compose(store, "image");
    let line = format!("run --rm --name box {flags} image sleep 1000");
    let running = store.runner().words(&line).spawn();
    coracle_tests::eventually("it runs", || store.runner().words("exec box true").run().code() == 0);
    (image, running)
}

/// docker with the same container.
fn docker() -> Option<Theirs> {
    if !nix::unistd::geteuid().is_root() || coracle_tests::peer("dockerd").is_none() {
        return None;
    }
    let daemon = Dockerd::start(&[]);
    let image = Image::busybox().expect("busybox");
    let tar = daemon.scratch.join("image.tar");
    Cmd::new("tar").arg("-C").arg(image.rootfs()).arg("-cf").arg(&tar).arg(".").ok();
    daemon.docker("import").arg(&tar).arg("image").ok();
    daemon.docker("run -d --network none --name box image sleep 100000").ok();
    Some(Theirs(daemon))
}

/// What is there now and was not, and what was there and is not.
fn difference(before: &str, after: &str) -> String {
    fn name(line: &str) -> &str {
        line.strip_prefix("./").unwrap_or(line)
    }
    let gone = before.lines().filter(|l| !after.lines().any(|a| a == *l)).map(|l| format!("-{}", name(l)));
    let new = after.lines().filter(|l| !before.lines().any(|b| b == *l)).map(|l| name(l).to_owned());
    gone.chain(new).collect::<Vec<_>>().join(" ")
}

/// Out of a container: flags, what, where to, the exit code, what is there then.
const OUT: &[(&str, &str, &str, i32, &str)] = &[
    ("", "/s/d", "t/dir", 0, "dir/d/sub/ dir/d/sub/y=y dir/d/x=x"),
    ("", "/s/d/", "t/dir", 0, "dir/d/sub/ dir/d/sub/y=y dir/d/x=x"),
    ("", "/s/d/.", "t/dir", 0, "dir/sub/ dir/sub/y=y dir/x=x"),
    ("", "s/../s/d/./x", "t/dir", 0, "dir/x=x"),
    ("", "/s/f", "t/dir", 0, "dir/f=f"),
    ("", "/s/f", "t/dir/", 0, "dir/f=f"),
    ("", "/s/d", "t/new", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "/s/d/.", "t/new", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "/s/d", "t/new/", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "/s/d/.", "t/new/", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "/s/f", "t/new", 0, "new=f"),
    ("", "/s/f", "t/new/", 1, ""),
    ("", "/s/f", "t/new/.", 1, ""),
    ("", "/s/f", "t/isdir/f", 0, "isdir/f=f"),
    ("", "/s/d", "t/file", 1, ""),
    ("", "/s/d/.", "t/file", 1, ""),
    ("", "/s/f", "t/file", 0, "-file=old file=f"),
    ("", "/s/d", "t/lfile", 1, ""),
    ("", "/s/f", "t/lfile", 0, "-file=old file=f"),
    ("", "/s/d", "t/ldir", 0, "dir/d/sub/ dir/d/sub/y=y dir/d/x=x"),
    ("", "/s/d/.", "t/ldir", 0, "dir/sub/ dir/sub/y=y dir/x=x"),
    ("", "/s/f", "t/ldir", 0, "dir/f=f"),
    ("", "/s/d", "t/ldead", 0, "gone/ gone/sub/ gone/sub/y=y gone/x=x"),
    ("", "/s/f", "t/ldead", 0, "gone=f"),
    ("", "/s/d", "t/no/such", 1, ""),
    ("", "/s/f", "t/over", 1, ""),
    ("", "/none", "t/dir", 1, ""),
    ("", "/s/f/", "t/dir", 1, ""),
    ("", "/s/ld", "t/new", 0, "new->d"),
    ("-L", "/s/ld", "t/new", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("-L", "/s/ld", "t/dir", 0, "dir/ld/ dir/ld/sub/ dir/ld/sub/y=y dir/ld/x=x"),
    ("-L", "/s/lf", "t/dir", 0, "dir/lf=f"),
    ("-L", "/s/abs", "t/dir", 0, "dir/abs/ dir/abs/sub/ dir/abs/sub/y=y dir/abs/x=x"),
    ("-L", "/s/dead", "t/dir", 1, ""),
    ("-L", "/s/f", "t/dir", 0, "dir/f=f"),
    ("", "/s/ld/", "t/dir", 0, "dir/ld/ dir/ld/sub/ dir/ld/sub/y=y dir/ld/x=x"),
    ("", "/s/ld/.", "t/dir", 0, "dir/sub/ dir/sub/y=y dir/x=x"),
    ("", "/s/ld/x", "t/dir", 0, "dir/x=x"),
    ("", "/s/dead", "t/dir", 0, "dir/dead->nowhere"),
    ("", "/s/lf", "t/file", 0, "-file=old file->f"),
    ("", "/s/up", "t/dir", 1, ""),
    ("", "/s/abs", "t/dir", 0, "dir/abs->/s/d"),
];

fn out(engine: &dyn Engine, what: &str) {
    engine.sh(SOURCE);
    for (flags, from, to, code, expected) in OUT {
        let scratch = Scratch::new("cp-out");
        let list = || Cmd::new("sh").args(["-c", LIST]).dir(scratch.join("t")).ok().stdout;
        Cmd::new("sh").args(["-c", TARGET]).dir(scratch.path()).ok();
        let before = list();
        let done = engine.cp(&format!("{flags} box:{from} {to}")).dir(scratch.path()).run();
        let after = list();
        // What a link shows of a changed file is the file's.
        let after = difference(&before, &after);
        let expected = expected.replace(" -lfile->file", "").replace(" lfile->file", "");
        assert_eq!(
            (done.code(), after.as_str()),
            (*code, expected.as_str()),
            "{what}: cp {flags} {from} {to}: {done}"
        );
    }
}

/// Into a container: flags, what, where to, the exit code, what is there then.
const IN: &[(&str, &str, &str, i32, &str)] = &[
    ("", "s/d", "/t/isdir", 0, "isdir/d/ isdir/d/sub/ isdir/d/sub/y=y isdir/d/x=x"),
    ("", "s/d/.", "/t/isdir", 0, "isdir/sub/ isdir/sub/y=y isdir/x=x"),
    ("", "s/f", "/t/isdir", 0, "isdir/f=f"),
    ("", "s/f", "t/isdir/", 0, "isdir/f=f"),
    ("", "s/d", "/t/new", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "s/d/.", "/t/new/", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("", "s/f", "/t/new", 0, "new=f"),
    ("", "s/f", "/t/new/", 1, ""),
    ("", "s/d", "/t/dir", 0, "dir/d/sub/ dir/d/sub/y=y dir/d/x=x"),
    ("", "s/f", "/t/over", 1, ""),
    ("", "s/d", "/t/file", 1, ""),
    ("", "s/f", "/t/file", 0, "-file=old file=f"),
    ("", "s/d", "/t/lfile", 1, ""),
    ("", "s/f", "/t/lfile", 0, "-file=old file=f"),
    ("", "s/d", "/t/ldir", 0, "dir/d/sub/ dir/d/sub/y=y dir/d/x=x"),
    ("", "s/d/.", "/t/ldir/", 0, "dir/sub/ dir/sub/y=y dir/x=x"),
    ("", "s/d", "/t/ldead", 0, "gone/ gone/sub/ gone/sub/y=y gone/x=x"),
    ("", "s/f", "/t/ldead", 0, "gone=f"),
    ("", "s/d", "/t/no/such", 1, ""),
    ("", "s/ld", "/t/new", 0, "new->d"),
    ("-L", "s/ld", "/t/new", 0, "new/ new/sub/ new/sub/y=y new/x=x"),
    ("-L", "s/ld", "/t/isdir", 0, "isdir/ld/ isdir/ld/sub/ isdir/ld/sub/y=y isdir/ld/x=x"),
    ("", "s/ld/", "/t/isdir", 0, "isdir/ld/ isdir/ld/sub/ isdir/ld/sub/y=y isdir/ld/x=x"),
    ("", "s/lf", "/t/isdir", 0, "isdir/lf->f"),
    ("-L", "s/lf", "/t/isdir", 0, "isdir/lf=f"),
    ("", "s/dead", "/t/isdir", 0, "isdir/dead->nowhere"),
    ("-L", "s/dead", "/t/isdir", 1, ""),
    ("", "s/none", "/t/isdir", 1, ""),
    ("", "s/f/", "/t/isdir", 1, ""),
    ("", "s/up", "/t/isdir", 1, ""),
    ("", "s/deep", "/t/isdir", 0, "isdir/deep/ isdir/deep/up->../f"),
];

fn into(engine: &dyn Engine, what: &str) {
    let scratch = Scratch::new("cp-in");
    let make = "mkdir -p s/d/sub s/deep; echo f >s/f; echo x >s/d/x; echo y >s/d/sub/y; ln -s d s/ld; ln -s f s/lf; \
         ln -s nowhere s/dead; ln -s ../x s/up; ln -s ../f s/deep/up";
    Cmd::new("sh").args(["-c", make]).dir(scratch.path()).ok();
    let again = format!("cd /; rm -rf t; {TARGET}");
    let list = || engine.sh(&format!("cd /t; {LIST}")).stdout;
    for (flags, from, to, code, expected) in IN {
        engine.sh(&again);
        let before = list();
        let done = engine.cp(&format!("{flags} {from} box:{to}")).dir(scratch.path()).run();
        let after = difference(&before, &list());
        assert_eq!(
            (done.code(), after.as_str()),
            (*code, *expected),
            "{what}: cp {flags} {from} {to}: {done}"
        );
    }
}

/// Flags, what, and the names and types of a tar of it.
const STREAM: &[(&str, &str, &str)] = &[
    ("", "/s/d", "d/ d/sub/ d/sub/y d/x"),
    ("", "/s/d/", "d/ d/sub/ d/sub/y d/x"),
    ("", "/s/d/.", "./ ./sub/ ./sub/y ./x"),
    ("", "/s/f", "f"),
    ("", "/s/ld", "ld"),
    ("", "/s/ld/", "ld/ ld/sub/ ld/sub/y ld/x"),
    ("", "/s/ld/.", "./ ./sub/ ./sub/y ./x"),
    ("-L", "/s/ld", "d/ d/sub/ d/sub/y d/x"),
    ("-L", "/s/lf", "f"),
    ("", "/s", "s/ s/abs s/d/ s/d/sub/ s/d/sub/y s/d/x s/dead s/f s/fifo s/ld s/lf s/up"),
];

fn stream(engine: &dyn Engine, what: &str) {
    engine.sh(SOURCE);
    for (flags, path, expected) in STREAM {
        let scratch = Scratch::new("cp-tar");
        let tar = engine.cp(&format!("{flags} box:{path} -")).dir(scratch.path()).ok();
        let names = Cmd::new("tar").arg("-t").stdin(tar.stdout).ok().stdout;
        assert_eq!(
            names.split_whitespace().collect::<Vec<_>>().join(" "),
            *expected,
            "{what}: cp {flags} {path} -"
        );
    }
    // In: onto a folder alone, compressed or not, with or without the folders in between.
    let scratch = Scratch::new("cp-tar-in");
    let make = "mkdir -p d/sub; echo x >d/x; echo y >d/sub/y; tar -cf plain d; tar -czf zipped d; tar -cf some d/sub/y; \
         tar -cJf xz d; tar --zstd -cf zstd d; head -c 700 plain >cut; echo rubbish >rubbish; :>empty";
    Cmd::new("sh").args(["-c", make]).dir(scratch.path()).ok();
    let whole = "dir/d/sub/ dir/d/sub/y=y dir/d/x=x";
    for (file, to, code, expected) in [
        ("plain", "/t/dir", 0, whole),
        ("zipped", "/t/dir", 0, whole),
        ("xz", "/t/dir", 0, whole),
        ("zstd", "/t/dir", 0, whole),
        ("some", "/t/ldir/", 0, "dir/d/sub/ dir/d/sub/y=y"),
        ("some", "/t/isdir", 0, "isdir/d/ isdir/d/sub/ isdir/d/sub/y=y"),
        ("plain", "/t/file", 1, ""),
        ("plain", "/t/none", 1, ""),
        ("rubbish", "/t/dir", 1, ""),
        ("empty", "/t/dir", 0, ""),
    ] {
        engine.sh(&format!("cd /; rm -rf t; {TARGET}"));
        let list = || engine.sh(&format!("cd /t; {LIST}")).stdout;
        let before = list();
        let bytes = std::fs::read(scratch.join(file)).expect("read the tar");
        if what == "docker" && matches!(file, "xz" | "zstd") {
            // It runs programs for these.
            continue;
        }
        let done = engine.cp(&format!("- box:{to}")).stdin(bytes).run();
        let after = difference(&before, &list());
        assert_eq!((done.code(), after.as_str()), (code, expected), "{what}: {file} into {to}: {done}");
    }
}

#[test]
fn a_copy_lands_where_docker_would_put_it() {
    if !ready() {
        return;
    }
    let store = Store::new("cp");
    let (_image, _running) = running(&store, "");
    let ours = Ours { store: &store, name: "box" };
    out(&ours, "runner");
    into(&ours, "runner");
    stream(&ours, "runner");
    if let Some(docker) = docker() {
        out(&docker, "docker");
        into(&docker, "docker");
        stream(&docker, "docker");
    }
}

#[test]
fn what_cannot_be_copied_is_refused_in_dockers_words() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-refused");
    let folder = store.scratch.mkdir("readable");
    let volume = format!("-v {}:/ro:ro", folder.display());
    let (_image, _running) = running(&store, &volume);
    store.scratch.write("f", "f\n");
    for (words, complaint) in [
        ("box:/a box:/b", "copying between containers is not supported"),
        ("a b", "must specify at least one container source"),
        ("./box:/a b", "must specify at least one container source"),
        ("- -", "must specify at least one container source"),
        ("f none:/x", "No such container: none"),
        ("none:/x f", "No such container: none"),
        ("f", "cp needs exactly 2 arguments"),
        ("box:/none .", "Could not find the file /none in container box"),
        ("f box:/no/such/x", "Could not find the file /no/such in container box"),
        ("box:/etc/passwd no/such", "invalid output path: directory"),
        ("box:/etc/passwd /dev/null", "got a device"),
        ("f box:/dev/null", "got a device"),
        ("f box:/ro", "mounted volume is marked read-only"),
        ("f box:/ro/x", "mounted volume is marked read-only"),
        ("box:/etc f", "cannot copy directory"),
        ("none box:/tmp", "No such file or directory"),
        ("--nonsense f box:/", "unknown"),
    ] {
        let done = store.runner().arg("cp").words(words).run();
        assert!(done.code() != 0 && done.stderr.contains(complaint), "cp {words}: {done}");
        assert_eq!(done.stderr.lines().count(), 1, "cp {words}: {done}");
    }
    assert_eq!(std::fs::read_dir(&folder).expect("list").count(), 0);
    let read_only = store.runner().words("run --rm --read-only --name ro image sleep 1000").spawn();
    coracle_tests::eventually("it runs", || store.runner().words("exec ro true").run().code() == 0);
    store.runner().words("cp f ro:/tmp").fails(1).complains("container rootfs is marked read-only");
    drop(read_only);
}

fn id(path: &Path) -> (u32, u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let m = std::fs::symlink_metadata(path).expect("stat");
    (m.uid(), m.gid(), m.mode() & 0o7777)
}

#[test]
fn owners_are_the_containers_root_inside_and_the_callers_outside_unless_they_are_kept() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-owners");
    let (_image, _running) = running(&store, "");
    let ours = Ours { store: &store, name: "box" };
    let stat = |path: &str| ours.sh(&format!("stat -c '%u:%g %a' {path}")).text().to_owned();
    store.scratch.write("f", "f\n");
    let scratch = store.scratch.path();
    let root = nix::unistd::geteuid().is_root();
    let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    ours.sh("echo own >/own; chown 5:6 /own; chmod 4755 /own; mkdir -m 2750 /d; chown 7:8 /d");
    ours.cp("box:/own own").ok();
    ours.cp("box:/d d").ok();
    // What runs as its owner inside would run as the caller outside.
    assert_eq!(id(&scratch.join("own")), (me.0, me.1, 0o755));
    assert_eq!(id(&scratch.join("d")), (me.0, me.1, 0o2750));
    if !root {
        ours.cp("-a box:/own kept").fails(2).complains("only root");
        ours.cp("f box:/f").ok();
        assert_eq!(stat("/f"), "0:0 644");
        return;
    }
    ours.cp("-a box:/own kept").ok();
    ours.cp("-a box:/d kept-d").ok();
    assert_eq!(id(&scratch.join("kept")), (5, 6, 0o4755));
    assert_eq!(id(&scratch.join("kept-d")), (7, 8, 0o2750));
    std::os::unix::fs::chown(scratch.join("f"), Some(1234), Some(1235)).expect("chown");
    Cmd::new("chmod").words("4755 f").dir(scratch).ok();
    ours.cp("f box:/f").ok();
    ours.cp("-a f box:/a").ok();
    assert_eq!((stat("/f"), stat("/a")), ("0:0 755".into(), "1234:1235 4755".into()));
}

#[test]
fn a_stopped_container_is_copied_from_and_to_with_its_volumes_and_nothing_is_left_mounted() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-stopped");
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    let (folder, fixed) = (store.scratch.mkdir("folder"), store.scratch.mkdir("fixed"));
    let volumes = format!("-v {}:/vol -v {}:/ro:ro -v named:/named", folder.display(), fixed.display());
    let script = "echo made >/made; echo v >/vol/v; echo n >/named/n; ln -s /vol /link";
    store.runner().words("run --name box").words(&volumes).args(["image", "sh", "-c", script]).ok();
    store.scratch.write("f", "f\n");
    let cp = |words: &str| store.runner().arg("cp").words(words);
    for (from, content) in [("/made", "made"), ("/vol/v", "v"), ("/link/v", "v"), ("/named/n", "n")] {
        cp(&format!("box:{from} out")).ok();
        assert_eq!(std::fs::read_to_string(store.scratch.join("out")).expect("read").trim(), content);
    }
    cp("f box:/link/f").ok();
    assert_eq!(std::fs::read_to_string(folder.join("f")).expect("in the volume"), "f\n");
    cp("f box:/ro/f").fails(1).complains("mounted volume is marked read-only");
    cp("f box:/etc/f").ok();
    cp("box:/etc/f again").ok();
    assert_eq!(std::fs::read_to_string(store.scratch.join("again")).expect("read"), "f\n");
    let changed = store.runner().words("diff box").ok().stdout;
    assert!(changed.contains("A /etc/f\n") && !changed.contains("/vol/"), "{changed}");
    assert!(coracle_tests::scratch::mounts_beneath(store.scratch.path()).is_empty());
    store.runner().words("rm box").ok();
}
