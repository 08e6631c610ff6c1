//! The words about files that docker and podman have: --volumes-from, --mount, --secret, --env-file, --label-file,
//! --cidfile, and what z, U and idmap mean.

use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox"))
}

fn busybox() -> Image {
    Image::busybox().expect("busybox")
}

/// `run --rm FLAGS image sh -c SCRIPT`.
fn script(store: &Store, flags: &str, script: &str) -> Output {
    store.run(flags).args(["image", "sh", "-c", script]).run()
}

#[test]
fn volumes_are_taken_from_another_container() {
    if !ready() {
        return;
    }
    let store = Store::new("volumes-from");
    let _image = busybox().config("volumes = [\"/own\"]").compose(&store, "image");
    let folder = store.scratch.mkdir("folder");
    store.scratch.write("folder/there", "");
    let flags = format!("-v named:/named -v {}:/folder:ro --tmpfs /memory", folder.display());
    store
        .runner()
        .words(&format!("run --name first {flags} image sh -c"))
        .arg("echo a >/own/a; echo b >/named/b")
        .ok();
    let seen = "cat /own/a /named/b; ls /folder; touch /own/new 2>/dev/null && echo written; touch /folder/x 2>/dev/null; ls /memory 2>/dev/null";
    assert_eq!(script(&store, "--volumes-from first", seen).stdout, "a\nb\nthere\nwritten\n");
    assert_eq!(script(&store, "--volumes-from first:ro", seen).stdout, "a\nb\nthere\n");
    // Its own flag for a place comes first.
    assert_eq!(script(&store, "--volumes-from first --tmpfs /own", "ls /own").ok().text(), "");
    script(&store, "--volumes-from nobody", "true").fails(125).complains("No such container: nobody");
    script(&store, "--volumes-from first:odd", "true").fails(125).complains("invalid mode: odd");
    store.runner().words("volume rm named").fails(1).complains("volume is in use");
}

#[test]
fn volumes_that_are_lent_stay_until_their_last_user_goes() {
    if !ready() {
        return;
    }
    let store = Store::new("volumes-lent");
    let _image = busybox().config("volumes = [\"/own\"]").compose(&store, "image");
    store.runner().words("run --name first image sh -c").arg("echo a >/own/a").ok();
    store.runner().words("create --name second --volumes-from first image cat /own/a").ok();
    store.runner().words("rm first").ok();
    assert!(!store.runner().words("ps -a --format {{.Names}}").ok().stdout.contains("first"));
    store.runner().words("start -a second").ok().prints("a");
    store.runner().words("run --name first image true").ok();
    store.runner().words("rm first second").ok();
    store.runner().words("ps -a").ok();
    let left = std::fs::read_dir(store.path().join("containers")).expect("containers").count();
    assert_eq!(left, 0, "what was lent went with its last user");
}

#[test]
fn secrets_are_in_memory_with_their_owner_and_never_on_disk() {
    if !ready() {
        return;
    }
    let store = Store::new("secrets");
    let _image = busybox().compose(&store, "image");
    store.scratch.write("file", "hush-7351\n");
    let flags = "--secret id=a,src=file --secret b,src=file,uid=5,gid=6,mode=0400 --secret src=file,target=/etc/c \
         --secret d,src=file,type=env,target=D";
    let seen = "stat -c '%n %a %u:%g' /run/secrets/* /etc/c; cat /run/secrets/a; echo $D; touch /run/secrets/x /etc/c; \
         echo >/etc/c; head -c 0 /proc/mounts; stat -f -c %T /run/secrets";
    let out = script(&store, flags, seen);
    assert_eq!(
        out.stdout,
        "/run/secrets/a 444 0:0\n/run/secrets/b 400 5:6\n/etc/c 444 0:0\nhush-7351\nhush-7351\ntmpfs\n",
        "{out}"
    );
    store.runner().words("run --name kept").words(flags).words("image true").ok();
    // The kernel keeps `work` of an overlay to itself: nobody but root looks into it.
    let found = Cmd::new("grep")
        .args(["-r", "--exclude-dir=work", "hush-7351"])
        .arg(store.path().join("containers"))
        .run();
    assert_eq!(found.code(), 1, "{found}");
    // Read anew at each start.
    store.scratch.write("file", "changed\n");
    store.runner().words("create --name again --secret a,src=file image cat /run/secrets/a").ok();
    store.scratch.write("file", "again\n");
    store.runner().words("start -a again").ok().prints("again");
    for (flag, says) in [
        ("--secret a", "src=FILE is missing"),
        ("--secret a,src=none", "none"),
        ("--secret a,src=file,frob=1", "frob"),
        ("--secret ../a,src=file", "without slashes"),
        ("--secret a,src=/dev/zero", "no plain file"),
    ] {
        let out = script(&store, flag, "true").fails(125);
        assert!(out.stderr.contains(says), "{flag}: {out}");
    }
    // A link of the image's in the way leads nowhere else.
    let canary = coracle_tests::canary::Canary::new();
    let _evil = busybox().link("run", canary.path()).compose(&store, "evil");
    let out = store.run("--secret a,src=file evil cat /run/secrets/a").run();
    assert!(out.code() == 125 || out.text() == "again", "{out}");
    canary.assert_untouched();
}

#[test]
fn env_and_label_files_are_read_as_docker_reads_them() {
    if !need(Privilege::Root) || !need(Privilege::Peer("dockerd")) || !ready() {
        return;
    }
    let (store, docker) = (Store::new("env-file"), Dockerd::start(&[]));
    let image = busybox();
    Cmd::new("tar").arg("-C").arg(image.rootfs()).words("-cf image.tar .").dir(store.scratch.path()).ok();
    docker.docker("import").arg(store.scratch.join("image.tar")).arg("image").ok();
    let _image = image.compose(&store, "image");
    for text in [
        &b"A=1\nB = 2\n"[..],
        b" A=1 \n#c\n\n\tHERE\nNOPE\nC=a=b\r\nD=\n",
        b"=x\n",
        b"A\xff=1\n",
        b"\xef\xbb\xbfA=bom\n",
        b"A=1\nA=2\nA",
        b"#only",
        b"",
    ] {
        store.scratch.write("file", text);
        let file = store.scratch.join("file");
        let sorted = |out: &Output| {
            let mut lines: Vec<&str> = out.stdout.lines().collect();
            lines.retain(|l| {
                !["HOSTNAME=", "HOME=", "PATH=", "SHLVL=", "PWD="].iter().any(|n| l.starts_with(n))
            });
            lines.sort_unstable();
            lines.join("\n")
        };
        let flag = format!("--env-file {}", file.display());
        let theirs =
            docker.docker(&format!("run --rm --net=none {flag} image env")).env("HERE", "there").run();
        let ours = store.run(&format!("{flag} image env")).env("HERE", "there").run();
        let text = String::from_utf8_lossy(text);
        assert_eq!(
            (ours.code(), sorted(&ours)),
            (theirs.code(), sorted(&theirs)),
            "{text:?}: {ours} {theirs}"
        );
        if theirs.code() != 0 {
            let why = |out: &Output| {
                out.stderr.lines().next().unwrap_or("").rsplit(": ").next().unwrap_or("").to_owned()
            };
            assert!(ours.stderr.contains("invalid env file"), "{ours}");
            if !text.contains('\u{fffd}') {
                assert_eq!(why(&ours), why(&theirs), "{text:?}");
            }
        }
    }
    script(&store, "--env-file none", "true").fails(125).complains("none");
    store.scratch.write("labels", "A=file\n B= x \nNONE\n#c\n");
    store.runner().words("create --name l --label-file labels --label A=typed image true").ok();
    let ps = store.runner().words("ps -a --format").arg("{{.Label \"A\"}}|{{.Label \"B\"}}|{{.Labels}}").ok();
    assert_eq!(ps.text(), "typed| x |A=typed,B= x", "{ps}");
}

#[test]
fn a_cidfile_is_new_whole_and_told_of_when_it_is_in_the_way() {
    if !ready() {
        return;
    }
    let store = Store::new("cidfile");
    let _image = busybox().compose(&store, "image");
    let id = store.runner().words("run -d --cidfile id image true").ok().text().to_owned();
    assert_eq!(std::fs::read_to_string(store.scratch.join("id")).expect("the file"), id);
    let before = store.runner().words("ps -aq").ok().stdout;
    store.run("--cidfile id image true").fails(125).complains("container ID file found");
    store.run("--cidfile none/id image true").fails(125).complains("--cidfile");
    std::os::unix::fs::symlink("victim", store.scratch.join("link")).expect("a link");
    store.run("--cidfile link image true").fails(125).complains("container ID file found");
    assert!(!store.scratch.join("victim").exists());
    if std::path::Path::new("/dev/full").exists() {
        store.run("--cidfile /dev/full image true").fails(125);
    }
    assert_eq!(store.runner().words("ps -aq").ok().stdout, before, "nothing was left of those");
    // The command is not there: the container was, and its id is told.
    store.run("--cidfile other image /none").fails(127);
    assert_eq!(std::fs::read_to_string(store.scratch.join("other")).expect("the file").len(), 64);
}

#[test]
fn mount_is_given_in_dockers_keys() {
    if !ready() {
        return;
    }
    let store = Store::new("mount-words");
    let _image = busybox().file("data/file", "").compose(&store, "image");
    store.scratch.write("folder/sub/file", "");
    for (mount, seen, expected) in [
        ("type=bind,src=folder,dst=/x,readonly", "touch /x/a 2>/dev/null; ls /x", "sub\n"),
        ("type=bind,src=folder,dst=/x,bind-recursive=disabled,consistency=cached", "ls /x", "sub\n"),
        (
            "type=bind,src=folder,dst=/x,ro,bind-recursive=readonly,bind-propagation=rprivate",
            "touch /x/a 2>/dev/null; ls /x",
            "sub\n",
        ),
        (
            "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=0700",
            "stat -c %a /x; df -k /x | grep -c ' 1024 '",
            "700\n1\n",
        ),
        ("type=tmpfs,dst=/x,readonly", "touch /x/a 2>/dev/null || echo ro", "ro\n"),
        ("src=v,dst=/data,volume-label=a=b,volume-driver=local", "ls /data", "file\n"),
        ("src=w,dst=/data,volume-nocopy", "ls /data", ""),
    ] {
        assert_eq!(script(&store, &format!("--mount {mount}"), seen).stdout, expected, "{mount}");
    }
    assert_eq!(store.runner().words("volume ls -q -f label=a=b").ok().text(), "v");
    for (mount, says) in [
        ("type=bind,src=/none-such,dst=/x", "bind source path does not exist: /none-such"),
        ("type=bind,src=/,dst=/x,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
        ("type=bind,src=/,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=tmpfs,dst=/x,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
        ("type=image,src=x,dst=/x", "the type is bind, volume or tmpfs"),
        ("dst=/x,frob=1", "frob=1"),
        ("src=n,dst=/x,volume-driver=nfs", "volume-driver=nfs"),
        ("src=n,dst=/x,volume-opt=type=nfs,volume-opt=device=:/x", "type=nfs"),
    ] {
        let out = script(&store, &format!("--mount {mount}"), "true").fails(125);
        assert!(out.stderr.contains(says), "{mount}: {out}");
    }
}

#[test]
fn what_u_names_belongs_to_the_containers_user_and_on_disk_to_whom_it_did() {
    if !need(Privilege::Root) || !ready() {
        return;
    }
    let store = Store::new("mount-own");
    let _image = busybox().compose(&store, "image");
    let folder = store.scratch.mkdir("folder");
    std::os::unix::fs::chown(&folder, Some(1234), Some(1235)).expect("chown");
    let words = format!("{}:/x:U,z", folder.display());
    for flags in ["-u 7:8", "-u 7:8 --userns auto"] {
        let out = script(
            &store,
            &format!("{flags} -v {words}"),
            "stat -c %u:%g /x; touch /x/new; stat -c %u:%g /x/new",
        );
        assert_eq!(out.ok().stdout, "7:8\n7:8\n", "{flags}");
        let on_disk = std::fs::metadata(folder.join("new")).expect("the file");
        use std::os::unix::fs::MetadataExt;
        assert_eq!((on_disk.uid(), on_disk.gid()), (1234, 1235), "{flags}");
        std::fs::remove_file(folder.join("new")).expect("remove it");
    }
}
