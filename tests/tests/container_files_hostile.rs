//! The escape corpus, part of copies: what a container may do to be read or written where it should not, and what is left
//! when a copy is killed, or the disk is full.

use std::fs;
use std::time::Duration;

use coracle_tests::canary::Canary;
use coracle_tests::command::Running;
use coracle_tests::racer::Racer;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, need, rounds};
use nix::sys::signal::Signal;

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

fn running(store: &Store, image: Image, flags: &str) -> (Image, Running) {
    let image = image.compose(store, "image");
    let running = store.runner().words(&format!("run --rm --name box {flags} image sleep 1000")).spawn();
    coracle_tests::eventually("it runs", || store.runner().words("exec box true").run().code() == 0);
    (image, running)
}

// CVE-2018-15664, CVE-2019-10152, CVE-2019-18466, CVE-2023-0778
#[test]
fn no_link_of_a_container_leads_a_copy_out_of_it() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("cp-links"), Canary::new());
    let outside = canary.path().display().to_string();
    let image = Image::busybox()
        .expect("busybox")
        .link("abs", canary.path())
        .link("up", format!("../../../../../../..{outside}"))
        .link("proc-root", format!("/proc/1/root{outside}"))
        .link("proc-self", format!("/proc/self/root{outside}"))
        .link("proc-cwd", format!("/proc/self/cwd{outside}"))
        .link("chain", "abs");
    let (_image, container) = running(&store, image, "");
    store.scratch.write("f", "mine\n");
    let each = |state: &str| {
        for link in ["abs", "up", "proc-root", "proc-self", "proc-cwd", "chain"] {
            for words in [
                format!("box:/{link}/secret -"),
                format!("box:/{link}/ -"),
                format!("-L box:/{link} -"),
                format!("f box:/{link}/f"),
                format!("f box:/{link}"),
                format!("f box:/{link}/secret"),
            ] {
                let done = store.runner().arg("cp").words(&words).run();
                canary.assert_unread(&done.stdout);
                // A way that is missing inside is made there by the copies into it, and is then found.
                assert!(done.code() <= 1, "{state}: cp {words}: {done}");
            }
        }
        let all = store.runner().words("export box").run().stdout;
        canary.assert_unread(&all);
    };
    each("running");
    drop(container);
    coracle_tests::eventually("it is gone", || {
        !store.runner().words("ps -aq").ok().stdout.contains(|c| c != '\n')
    });
    store.runner().words("run --name box image true").ok();
    each("stopped");
    canary.assert_untouched();
}

// CVE-2018-15664, CVE-2026-41568: the name is exchanged while it is walked
#[test]
fn a_folder_that_is_exchanged_for_a_link_is_copied_from_inside_or_not_at_all() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("cp-race"), Canary::new());
    let volume = store.scratch.mkdir("volume");
    fs::create_dir_all(volume.join("swap/deep")).expect("make a folder");
    for n in 0..20 {
        fs::write(volume.join(format!("swap/file{n}")), "mine\n").expect("write");
    }
    fs::write(volume.join("swap/secret"), "mine\n").expect("write");
    std::os::unix::fs::symlink(canary.path(), volume.join("link")).expect("link");
    let flags = format!("-v {}:/v", volume.display());
    let (_image, _running) = running(&store, Image::busybox().expect("busybox"), &flags);
    store.scratch.write("f", "mine\n");
    store.scratch.mkdir("tree/deep");
    store.scratch.write("tree/deep/f", "mine\n");
    let racer = Racer::exchange(volume.join("swap"), volume.join("link"));
    for _ in 0..rounds(20, 500) {
        for words in [
            "box:/v/swap/secret -",
            "box:/v/swap -",
            "-L box:/v/link -",
            "box:/v -",
            "f box:/v/swap/f",
            "f box:/v/link",
            "tree/. box:/v/swap",
        ] {
            let done = store.runner().arg("cp").words(words).limit(Duration::from_secs(60)).run();
            canary.assert_unread(&done.stdout);
        }
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
    drop(racer);
    canary.assert_untouched();
}

// CVE-2018-15664, on the way to an archive of all that a container has written
#[test]
fn a_layer_that_is_read_while_it_changes_holds_nothing_of_the_host() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("export-race"), Canary::new());
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    let script = format!(
        "mkdir /d; for n in $(seq 50); do echo mine >/d/f$n; done; echo mine >/d/secret; ln -s {} /link",
        canary.path().display()
    );
    store.runner().words("run --name box image sh -c").arg(script).ok();
    let id = store.runner().words("ps -aq --no-trunc").ok().text().to_owned();
    let upper = store.path().join("containers").join(id).join("upper");
    let racer = Racer::exchange(upper.join("d"), upper.join("link"));
    let (mut read, mut n) = (0, 0);
    // Most of them meet a name that has gone; one that was read whole is needed to prove a thing.
    while n < rounds(15, 300) || read == 0 && n < 3000 {
        n += 1;
        let out = store.runner().words("export box").limit(Duration::from_secs(60)).run();
        canary.assert_unread(&out.stdout);
        read += usize::from(out.code() == 0);
        store.runner().words("diff box").run();
        if store.runner().words(&format!("commit box raced:{n}")).run().code() == 0 {
            canary.assert_unread(&store.runner().words(&format!("image export raced:{n}")).ok().stdout);
        }
    }
    assert!(racer.swaps() > 100 && read > 0, "{} swaps, {read} exports", racer.swaps());
    drop(racer);
    canary.assert_untouched();
}

#[test]
fn a_file_that_is_exchanged_for_a_pipe_keeps_no_copy_waiting() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-fifo");
    let volume = store.scratch.mkdir("volume");
    fs::write(volume.join("file"), "mine\n").expect("write");
    Cmd::new("mkfifo").arg(volume.join("pipe")).ok();
    let flags = format!("-v {}:/v", volume.display());
    let (_image, _running) = running(&store, Image::busybox().expect("busybox"), &flags);
    let racer = Racer::exchange(volume.join("file"), volume.join("pipe"));
    for _ in 0..rounds(20, 400) {
        store.runner().words("cp box:/v/file -").limit(Duration::from_secs(20)).run();
        store.runner().words("cp box:/v -").limit(Duration::from_secs(20)).run();
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
}

// CVE-2019-14271, CVE-2026-41567
#[test]
fn nothing_of_a_containers_is_run_or_loaded_by_a_copy() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-trap");
    let trap = "#!/bin/sh\necho sprung >/sprung\n";
    let mut image = Image::busybox().expect("busybox");
    for name in ["xz", "unxz", "gzip", "unpigz", "tar", "zstd", "docker-tar"] {
        image = image.script(&format!("usr/bin/{name}"), trap);
    }
    for name in ["libnss_files.so.2", "libc.so.6", "libnss_compat.so.2"] {
        image = image.file(&format!("lib/x86_64-linux-gnu/{name}"), "no library");
    }
    let image = image.file("etc/nsswitch.conf", "passwd: files trap\n");
    let (_image, _running) = running(&store, image, "");
    store.scratch.write("d/f", "mine\n");
    for flags in ["-c", "-cz", "-cJ", "-cj"] {
        let tar = store.scratch.join("tar");
        Cmd::new("tar").arg("-C").arg(store.scratch.path()).arg(flags).arg("-f").arg(&tar).arg("d").ok();
        let bytes = fs::read(&tar).expect("read");
        store.runner().words("cp - box:/tmp").stdin(bytes).ok();
        store.runner().words("exec box cat /tmp/d/f").ok().prints("mine");
        store.runner().words("exec box rm -rf /tmp/d").ok();
    }
    store.runner().words("cp box:/etc -").ok();
    store.runner().words("exec box test -e /sprung").fails(1);
}

/// A tar of entries: name, type, what it links to.
fn tar(entries: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link) in entries {
        let mut head = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| head[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, if *kind == b'0' { b"00000000005\0" } else { b"00000000000\0" });
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(head);
        if *kind == b'0' {
            let mut data = [0u8; 512];
            data[..5].copy_from_slice(b"evil\n");
            out.extend(data);
        }
    }
    out.extend([0; 1024]);
    out
}

#[test]
fn no_archive_is_unpacked_out_of_a_container() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("cp-tars"), Canary::new());
    let outside = canary.path().display().to_string();
    let (_image, _running) = running(&store, Image::busybox().expect("busybox"), "");
    let up = format!("../../../../../..{outside}");
    for (what, entries) in [
        ("dots", vec![("../../../../etc/evil", b'0', "")]),
        ("dots inside", vec![("a/../../../evil", b'0', "")]),
        ("through a link", vec![("l", b'2', &*outside), ("l/secret", b'0', "")]),
        ("through a relative link", vec![("l", b'2', &*up), ("l/secret", b'0', "")]),
        ("through two", vec![("a", b'2', "/"), ("b", b'2', "a"), ("b/tmp/x", b'0', "")]),
        ("another name of the host's", vec![("h", b'1', &*outside), ("h/secret", b'0', "")]),
        ("another name by dots", vec![("h", b'1', &*up)]),
        ("the root", vec![("/", b'5', ""), (&*outside, b'5', "")]),
        ("of no type", vec![("x", b'Z', "")]),
    ] {
        let done = store.runner().words("cp - box:/tmp").stdin(tar(&entries)).run();
        assert!(done.code() <= 1 && done.stderr.lines().count() <= 1, "{what}: {done}");
        canary.assert_untouched();
    }
    // A device of the host's is none of an ordinary copy's: it lands as what it is, or not at all.
    store.runner().words("exec box test -e /etc/evil").fails(1);
    store.runner().words("exec box test -e /evil").fails(1);
}

#[test]
fn what_comes_out_of_a_container_goes_through_no_link_of_the_host() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("cp-local"), Canary::new());
    let image = Image::busybox().expect("busybox").file("d/sub/secret", "evil\n").file("d/secret", "evil\n");
    let (_image, _running) = running(&store, image, "");
    let there = store.scratch.mkdir("there");
    std::os::unix::fs::symlink(canary.path(), there.join("sub")).expect("link");
    std::os::unix::fs::symlink(canary.path().join("secret"), there.join("secret")).expect("link");
    store.runner().words("cp box:/d/. there").fails(1).complains("cannot overwrite non-directory");
    // A link in a file's place is replaced.
    assert_eq!(fs::read_to_string(there.join("secret")).expect("read"), "evil\n");
    assert!(there.join("secret").symlink_metadata().expect("stat").is_file());
    canary.assert_untouched();
}

/// Names that a copy uses meanwhile.
fn unfinished(dir: &std::path::Path) -> Vec<String> {
    let out = Cmd::new("find").arg(dir).args(["-name", ".copy-*"]).run().stdout;
    out.lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_copy_leaves_whole_files_and_nothing_else() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-killed");
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    store.runner().words("run --name box image true").ok();
    let tree = store.scratch.mkdir("tree");
    for n in 0..400 {
        fs::write(tree.join(format!("file{n}")), vec![b'x'; 65536]).expect("write");
    }
    store.runner().words("cp tree box:/whole").ok();
    let (mut early, id) = (0, store.runner().words("ps -aq --no-trunc").ok().text().to_owned());
    for (n, wait) in [5, 10, 20, 40, 60, 90, 150].into_iter().enumerate() {
        for words in [format!("cp tree box:/in{n}"), format!("cp box:/whole out{n}")] {
            let copying = store.runner().words(&words).spawn();
            std::thread::sleep(Duration::from_millis(wait));
            copying.signal(Signal::SIGKILL);
            let _ = copying.wait(Duration::from_secs(30));
        }
        let upper = store.path().join("containers").join(&id).join("upper");
        // The other half of a copy ends when its pipe does.
        coracle_tests::eventually("the container is free", || {
            store.runner().words("cp box:/etc/passwd x").run().code() == 0
        });
        for dir in [upper.join(format!("in{n}")), store.scratch.join(format!("out{n}"))] {
            let files = fs::read_dir(&dir).into_iter().flatten().flatten().collect::<Vec<_>>();
            early += usize::from(files.len() < 400);
            for file in files {
                assert_eq!(file.metadata().expect("stat").len(), 65536, "{:?} is cut", file.path());
            }
        }
    }
    assert!(early > 0, "nothing was killed in time");
    assert_eq!(unfinished(store.scratch.path()), Vec::<String>::new());
    assert!(coracle_tests::scratch::mounts_beneath(store.scratch.path()).is_empty());
    store.runner().words("rm box").ok();
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    if !ready() || !need(Privilege::Root) {
        return;
    }
    let store = Store::new("cp-full");
    let small = store.scratch.mkdir("small");
    Cmd::new("mount").words("-t tmpfs -o size=1m none").arg(&small).ok();
    let image = Image::busybox().expect("busybox").file("big", vec![b'x'; 4 << 20]);
    let (_image, _running) = running(&store, image, "--tmpfs /small:size=1m");
    store.scratch.write("big", vec![b'x'; 4 << 20]);
    let full = "No space left on device";
    store.runner().words("cp box:/big small").fails(1).complains(full);
    store.runner().words("cp big box:/small").fails(1).complains(full);
    store.runner().words("export box -o small/tar").fails(1).complains(full);
    let piped = Cmd::new("sh")
        .args(["-c", "\"$0\" cp box:/big - >small/tar"])
        .arg(coracle_tests::dist().join("runner"));
    piped.env("CORACLE_STORE", store.path()).dir(store.scratch.path()).fails(1).complains(full);
    fs::remove_file(small.join("tar")).expect("the shell's file");
    assert_eq!(fs::read_dir(&small).expect("list").count(), 0);
    assert_eq!(store.runner().words("exec box ls -A /small").ok().stdout, "");
}

#[test]
fn what_changes_while_it_is_read_is_an_error_and_no_broken_archive() {
    if !ready() {
        return;
    }
    let store = Store::new("cp-changes");
    let volume = store.scratch.mkdir("volume");
    let flags = format!("-v {}:/v", volume.display());
    let (_image, _running) = running(&store, Image::busybox().expect("busybox"), &flags);
    let script = "n=0; while :; do n=$((n+1)); echo $n >>/v/grows; mkdir /v/d$n; rmdir /v/d$n; done";
    let busy = store.runner().args(["exec", "box", "sh", "-c", script]).spawn();
    coracle_tests::eventually("it grows", || volume.join("grows").exists());
    let (mut good, mut told) = (0, 0);
    for _ in 0..rounds(30, 400) {
        let out = store.runner().words("cp box:/v -").run();
        match out.code() {
            0 => {
                good += 1;
                Cmd::new("tar").arg("-t").stdin(out.stdout).ok();
            }
            1 => {
                told += 1;
                assert_eq!(out.stderr.lines().count(), 1, "{out}");
            }
            _ => panic!("{out}"),
        }
    }
    drop(busy);
    assert!(good + told > 0, "{good} {told}");
}
