//! `runner diff`, `export` and `commit`: what a container has changed, all that it sees, and an image of it. What docker
//! tells of the same changes is a fact in a table; where dockerd is installed docker is asked again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use coracle_tests::command::Running;
use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox"))
}

/// What the image has beside its programs, in a layer of its own.
const BELOW: &str = "mkdir -p a/b op del/in keep; echo 1 >a/b/f; echo 2 >a/b/g; echo 3 >op/old; echo 4 >del/in/x; \
     ln a/b/f keep/hard; ln -s b a/link; echo same >keep/same; echo t >tofile; mkdir todir; echo x >todir/x; mkdir vol";

/// What a container does to it, and what docker calls that.
const CHANGES: &str = "echo more >>/a/b/f; rm /a/b/g; rm -r /op; mkdir /op; echo n >/op/new; rm -r /del; \
     mkdir -p /new/deep/er; echo n >/new/deep/er/f; touch /new-file; chmod 700 /keep; rm /a/link; \
     ln -s another /a/link; rm /tofile; mkdir /tofile; echo >/tofile/in; rm -r /todir; echo file >/todir; \
     echo q >/a/b/q; echo v >/vol/v; ln /keep/same /new/same; mkdir /tmp/sub; rmdir /tmp/sub";
const TOLD: &str = "A /a/b/q|A /new|A /new-file|A /new/deep|A /new/deep/er|A /new/deep/er/f|A /new/same|A /op/new|\
     A /tofile/in|C /a|C /a/b|C /a/b/f|C /a/link|C /keep|C /op|C /todir|C /tofile|D /a/b/g|D /del|D /op/old";

/// An image of two layers.
fn image(store: &Store) -> (Image, Scratch) {
    let image = Image::busybox().expect("busybox").compose(store, "base");
    let scratch = Scratch::new("below");
    scratch.mkdir("tree");
    Cmd::new("sh").args(["-c", BELOW]).dir(scratch.join("tree")).ok();
    Cmd::new("tar").words("-C tree --owner=0 --group=0 -cf layer.tar .").dir(scratch.path()).ok();
    scratch.write(
        "rootfs.toml",
        "[[layer]]\nimage = \"base\"\n[[layer]]\ntar = \"layer.tar\"\n[config]\nenv = { A = \"1\" }\ncmd = [\"sh\"]\n",
    );
    store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "image", "-q"]).ok();
    (image, scratch)
}

/// A container that has done `script` and runs on.
fn running(store: &Store, flags: &str, script: &str) -> Running {
    let script = format!("{script}; echo done; exec sleep 1000");
    let line = format!("run --name box {flags} image sh -c");
    let running = store.runner().words(&line).arg(script).spawn();
    running.wait_for("done");
    running
}

fn end(running: Running) {
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait(std::time::Duration::from_secs(30)).expect("its end");
}

fn sorted(text: &str) -> String {
    let lines: BTreeSet<&str> = text.lines().collect();
    lines.into_iter().collect::<Vec<_>>().join("|")
}

/// What names a tar holds.
fn names(tar: &std::path::Path) -> Vec<String> {
    let list = Cmd::new("tar").arg("-tf").arg(tar).ok().stdout;
    list.lines().map(str::to_owned).collect()
}

fn changes_are_told(store: &Store) {
    let volume = store.scratch.mkdir("volume");
    let _image = image(store);
    let container = running(store, &format!("-v {}:/vol", volume.display()), CHANGES);
    let told = store.runner().words("diff box").ok();
    assert_eq!(sorted(&told.stdout), TOLD, "running");
    assert_eq!(store.runner().words("container diff box").ok().stdout, told.stdout);
    let lines: Vec<&str> = told.stdout.lines().map(|l| &l[2..]).collect();
    for (n, path) in lines.iter().enumerate() {
        let parent = path.rsplit_once('/').expect("a slash").0;
        assert!(parent.is_empty() || lines[..n].contains(&parent), "{path} stands before its folder");
    }
    end(container);
    assert_eq!(store.runner().words("diff box").ok().stdout, told.stdout, "stopped");
    store.runner().words("diff none").fails(125).complains("No such container: none");
    store.runner().words("run --name same image true").ok();
    assert_eq!(store.runner().words("diff same").ok().stdout, "");
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    if !ready() {
        return;
    }
    changes_are_told(&Store::new("diff"));
    if !nix::unistd::geteuid().is_root() || coracle_tests::peer("dockerd").is_none() {
        return;
    }
    let docker = Dockerd::start(&[]);
    let scratch = &docker.scratch;
    let base = Image::busybox().expect("busybox");
    Cmd::new("sh").args(["-c", BELOW]).dir(base.rootfs()).ok();
    let tar = scratch.join("image.tar");
    Cmd::new("tar").arg("-C").arg(base.rootfs()).arg("-cf").arg(&tar).arg(".").ok();
    docker.docker("import").arg(&tar).arg("image").ok();
    let volume = format!("{}:/vol", scratch.mkdir("volume").display());
    docker.docker("run --network none --name box -v").args([&volume, "image", "sh", "-c", CHANGES]).ok();
    assert_eq!(sorted(&docker.docker("diff box").ok().stdout), TOLD, "docker");
}

#[test]
fn a_store_that_copies_layers_tells_the_same() {
    if !ready() {
        return;
    }
    let store = Store::new("diff-vfs");
    let make = store.rootfs_tool().env("CORACLE_STORAGE_DRIVER", "vfs");
    let tar = store.scratch.join("empty.tar");
    Cmd::new("tar").args(["-cf"]).arg(&tar).words("-T /dev/null").ok();
    make.arg("import").arg(&tar).arg("first").ok();
    assert!(store.path().join("layers/vfs").is_dir());
    changes_are_told(&store);
    store.runner().words("commit box committed").ok();
    store.run("committed cat /a/b/f").ok().prints("1\nmore");
}

#[test]
fn an_export_is_what_the_container_sees_without_what_is_mounted_there() {
    if !ready() {
        return;
    }
    let store = Store::new("export");
    let volume = store.scratch.mkdir("volume");
    let _image = image(&store);
    let container = running(&store, &format!("-v {}:/vol -v named:/data", volume.display()), CHANGES);
    let tar = store.scratch.join("a.tar");
    store.runner().words("export box -o").arg(&tar).ok();
    let all = names(&tar);
    let has = |name: &str| all.iter().any(|n| n == name);
    for name in
        ["a/b/f", "a/b/q", "op/new", "tofile/in", "todir", "new/deep/er/f", "vol/", "proc/", "dev/", "data/"]
    {
        assert!(has(name), "{name}: {all:?}");
    }
    for name in ["a/b/g", "op/old", "del/", "vol/v", "todir/x", "./"] {
        assert!(!has(name), "{name}: {all:?}");
    }
    assert!(!all.iter().any(|n| n.contains(".wh.") || n.starts_with("proc/") && n != "proc/"), "{all:?}");
    // The order is the same each time, and a folder stands before what is in it.
    let piped = store.scratch.join("b.tar");
    let script = format!("\"$0\" export box >{}", piped.display());
    Cmd::new("sh")
        .args(["-c", &script])
        .arg(coracle_tests::dist().join("runner"))
        .env("CORACLE_STORE", store.path())
        .ok();
    assert!(fs::read(&tar).expect("read") == fs::read(&piped).expect("read"), "the same bytes");
    end(container);
    store.runner().words("container export box -o").arg(&piped).ok();
    assert!(fs::read(&tar).expect("read") == fs::read(&piped).expect("read"), "of the stopped one too");
    store.runner().words("import").arg(&tar).arg("flat").ok();
    store.run("flat cat /a/b/f").ok().prints("1\nmore");
    store.runner().words("export box -o /none/such").fails(1).complains("No such file or directory");
    store.runner().words("export none -o x").fails(125).complains("No such container: none");
    assert!(!store.scratch.join("x").exists());
    let pty = format!("{} export box", coracle_tests::dist().join("runner").display());
    let pty = Cmd::new("script").args(["-qec", &pty, "/dev/null"]).env("CORACLE_STORE", store.path());
    pty.run().prints("an archive is not written to a terminal");
}

#[test]
fn a_committed_container_is_an_image_that_runs() {
    if !ready() {
        return;
    }
    let store = Store::new("commit");
    let _image = image(&store);
    let line = "run --name box -e B=2 -w /keep --label k=v image sh -c";
    store.runner().words(line).arg(CHANGES).ok();
    let changes = [
        "CMD [\"cat\", \"/a/b/f\"]",
        "ENV C=3",
        "EXPOSE 80",
        "LABEL x=y",
        "HEALTHCHECK --interval=5s CMD true",
        "VOLUME /v",
        "USER 0",
        "ONBUILD RUN x",
        "WORKDIR sub",
    ];
    let mut commit = store.runner().args(["commit", "-a", "me", "-m", "a remark"]);
    for change in changes {
        commit = commit.args(["-c", change]);
    }
    let id = commit.args(["box", "made/it:1"]).ok().text().to_owned();
    assert_eq!(store.image_id("made/it:1"), id);
    let inspect = |what: &str, name: &str| {
        store.rootfs_tool().args(["inspect", "-f", what, name]).ok().text().to_owned()
    };
    let config = inspect("{{json .Config}}", "made/it:1");
    for part in [
        r#""Cmd":["cat","/a/b/f"]"#,
        r#""A=1""#,
        r#""B=2""#,
        r#""C=3""#,
        r#""80/tcp""#,
        r#""k":"v""#,
        r#""x":"y""#,
        r#""CMD-SHELL","true""#,
        r#""/v""#,
        r#""WorkingDir":"/keep/sub""#,
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    assert!(!config.contains("HOSTNAME="), "{config}");
    let history = store.rootfs_tool().words("history --no-trunc made/it:1").ok().stdout;
    assert!(history.contains("a remark") && history.contains("sh -c echo more"), "{history}");
    assert_eq!(inspect("{{.Author}}", "made/it:1"), "me");
    store.run("made/it:1").ok().prints("1\nmore");
    let look =
        "ls /op /del /todir; cat /todir /a/b/g; readlink /a/link; stat -c %a /keep; stat -c %h /new/same";
    let seen = store.run("made/it:1 sh -c").arg(look).run().stdout.replace("\n\n", "\n");
    assert_eq!(seen, "/todir\n/op:\nnew\nfile\nanother\n700\n2\n");
    // The layers below are the image's own.
    let layers = |name: &str| inspect("{{json .RootFS.Layers}}", name);
    assert!(layers("made/it:1").starts_with(layers("image").trim_end_matches(']')));
    for (bad, complaint) in [
        ("-c RUN|x box", "there are CMD ENTRYPOINT"),
        ("-c HEALTHCHECK|x box", "HEALTHCHECK"),
        ("none", "No such container: none"),
        ("box UPPER", "UPPER"),
        ("box a b", "exactly 1 argument"),
    ] {
        let words: Vec<String> = bad.split(' ').map(|w| w.replace('|', " ")).collect();
        let done = store.runner().arg("commit").args(&words).run();
        assert!(done.code() != 0 && done.stderr.contains(complaint), "{bad}: {done}");
        assert_eq!(done.stdout, "", "{bad}");
    }
    store.rootfs_tool().words("verify").ok();
}

#[test]
fn a_container_that_has_written_nothing_is_an_image_of_the_same_layers() {
    if !ready() {
        return;
    }
    let store = Store::new("commit-empty");
    let _image = image(&store);
    store.runner().words("run --name box image true").ok();
    let id = store.runner().words("commit box").ok().text().to_owned();
    let layers = |name: &str| {
        store.rootfs_tool().args(["inspect", "-f", "{{json .RootFS.Layers}}", name]).ok().text().to_owned()
    };
    assert_eq!(layers(&id), layers("image"));
    assert!(store.rootfs_tool().words("images --filter dangling=true -q").ok().stdout.len() > 10);
    store.runner().args(["commit", "-c", "ENTRYPOINT [\"echo\", \"hi\"]", "box", "named"]).ok();
    assert_eq!(store.run("named").ok().text(), "hi");
}

#[test]
fn a_running_container_is_committed_while_it_is_paused() {
    if !ready() || !need(Privilege::Controller("freezer")) {
        return;
    }
    let store = Store::new("commit-running");
    let _image = image(&store);
    // With a group of its own it has a freezer.
    let script = "n=0; while :; do n=$((n+1)); echo $n >/x; echo $n >/y; done";
    let line = "run --rm --name box --pids-limit 50 image sh -c";
    let container = store.runner().words(line).arg(script).spawn();
    coracle_tests::eventually("it writes", || store.runner().words("exec box cat /y").run().code() == 0);
    for n in 0..5 {
        store.runner().words(&format!("commit -p box n:{n}")).ok();
        let seen = store.run(&format!("n:{n} cat /x /y")).ok().stdout;
        let numbers: Vec<u64> = seen.lines().filter_map(|l| l.parse().ok()).collect();
        // One of the two may have been emptied and not written.
        assert!(numbers.len() < 2 || numbers[0] - numbers[1] <= 1, "{seen}");
    }
    let before = store.runner().words("exec box cat /y").ok().stdout;
    coracle_tests::eventually("it goes on", || store.runner().words("exec box cat /y").ok().stdout != before);
    store.runner().words("commit --pause=false box unpaused").run();
    // Killed in the middle: it goes on as well.
    for wait in [1, 5, 10, 20] {
        let committing = store.runner().words("commit -p box killed").spawn();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        committing.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = committing.wait(std::time::Duration::from_secs(10));
        let before = store.runner().words("exec box cat /y").ok().stdout;
        coracle_tests::eventually("it goes on", || {
            store.runner().words("exec box cat /y").ok().stdout != before
        });
    }
    drop(container);
    store.rootfs_tool().words("verify").ok();
}

#[test]
fn what_is_in_memory_alone_is_refused_by_name() {
    if !ready() {
        return;
    }
    let store = Store::new("scratch");
    let _image = image(&store);
    let container = running(&store, "--scratch tmpfs", "echo x >/x");
    for verb in ["diff box", "export box -o t", "commit box"] {
        store.runner().words(verb).fails(1).complains("keeps what it writes in memory");
    }
    store.runner().words("cp box:/x out").ok();
    assert_eq!(fs::metadata(store.scratch.join("out")).expect("copied").size(), 2);
    end(container);
    assert_eq!(store.runner().words("diff box").ok().stdout, "", "it is gone with it");
}
