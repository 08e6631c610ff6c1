//! The escape corpus, part one: handles of the host that a container gets hold of, and programs of the
//! container that the host runs. One test a trick.

use coracle_tests::canary::{Canary, file_hash};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, dist, eventually, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::folder_works()
}

fn our_hashes() -> Vec<String> {
    ["init", "runner", "rootfs-tool"].iter().map(|b| file_hash(&dist().join(b))).collect()
}

/// A command that names itself as its own interpreter calls itself for ever: it may fill its container, not
/// the machine.
fn few_processes() -> &'static str {
    if nix::unistd::geteuid().is_root() { "--pids-limit 200" } else { "--ulimit nproc=200:200" }
}

// CVE-2016-9962, CVE-2024-21626: what joins a container must hold nothing of the host while it is seen there.
#[test]
fn a_process_that_joins_holds_no_descriptor_of_the_host() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("join"), Canary::new());
    let image = Image::busybox().expect("busybox");
    let scan = "echo ready; while :; do for p in /proc/[0-9]*; do cat $p/fd/*/secret $p/cwd/secret \
                $p/root/secret; done; done 2>/dev/null";
    let container = store
        .run("--name scan --cap-add SYS_PTRACE --rootfs")
        .arg(image.rootfs())
        .words("sh -c")
        .arg(scan)
        .dir(canary.path())
        .spawn();
    container.wait_for("ready");
    for _ in 0..100 {
        let joining = store.runner().words("exec scan true").leak(canary.path(), 3..9);
        joining.dir(canary.path()).ok();
    }
    canary.assert_unread(&container.stdout_so_far());
    store.runner().words("kill scan").ok();
    canary.assert_untouched();
}

// CVE-2019-5736
#[test]
fn a_command_that_is_proc_self_exe_reaches_no_binary_of_the_host() {
    if !ready() {
        return;
    }
    let before = our_hashes();
    let store = Store::new("self-exe");
    let overwrite = "for p in /proc/[0-9]*/exe; do echo overwritten > $p; done; echo tried";
    let _image = Image::busybox()
        .expect("busybox")
        .script("bin/evil", "#!/proc/self/exe\n")
        .script("bin/overwrite", &format!("#!/bin/sh\n{overwrite}\n"))
        .plain(&store, "image");
    for flags in ["", "--user 1000"] {
        let out = store.run(flags).words(few_processes()).words("--rootfs image /bin/evil").run();
        assert!(!out.stdout.contains("rootfs-tool") && !out.stdout.contains("--bundle"), "{out}");
        store.run(flags).words("--rootfs image /bin/overwrite").ok().prints("tried");
    }
    assert_eq!(our_hashes(), before);
}

// CVE-2019-5736, the way of `exec`: the runner that joins is seen by the container as /proc/N/exe.
#[test]
fn a_process_that_joins_cannot_be_overwritten_through_its_exe() {
    if !ready() {
        return;
    }
    let before = our_hashes();
    let store = Store::new("join-exe");
    let _image =
        Image::busybox().expect("busybox").script("bin/evil", "#!/proc/self/exe\n").plain(&store, "image");
    let overwrite = "echo ready; while :; do for p in /proc/[0-9]*/exe; do echo overwritten > $p; done; done";
    let container = store
        .run(few_processes())
        .words("--name over --rootfs image sh -c")
        .arg(format!("{overwrite} 2>/dev/null"))
        .spawn();
    container.wait_for("ready");
    for _ in 0..50 {
        store.runner().words("exec over true").ok();
        // It names itself as its own interpreter, for ever: it is ended, not waited for.
        drop(store.runner().words("exec over /bin/evil").spawn());
    }
    store.runner().words("kill over").ok();
    assert_eq!(our_hashes(), before);
}

// CVE-2024-21626
#[test]
fn a_working_directory_in_proc_self_fd_never_is_a_leaked_folder_of_the_host() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("cwd"), Canary::new());
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let look = "cat secret ./secret ../secret ../../*/secret; true";
    for n in 3..64 {
        for cwd in
            [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../.."), format!("/proc/1/fd/{n}")]
        {
            let run = store
                .run("-w")
                .arg(cwd)
                .args(["--rootfs", "image", "sh", "-c", look])
                .leak(canary.path(), 3..64);
            let out = run.run();
            canary.assert_unread(&out.stdout);
            assert!(out.code() != 0 || !out.stdout.contains("canary"), "{out}");
        }
    }
    let container = store.run("--name cwd --rootfs image sh -c").arg("echo ready; sleep 1000").spawn();
    container.wait_for("ready");
    for n in 3..64 {
        let exec =
            store.runner().args(["exec", "-w", &format!("/proc/self/fd/{n}"), "cwd", "sh", "-c", look]);
        canary.assert_unread(&exec.leak(canary.path(), 3..64).run().stdout);
    }
    store.runner().words("kill cwd").ok();
    canary.assert_untouched();
}

// CVE-2024-21626, the plain half: a leaked descriptor is not there inside at all.
#[test]
fn no_descriptor_of_the_host_is_open_inside() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("fds"), Canary::new());
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    for flags in ["", "--cap-add SYS_ADMIN"] {
        let run =
            store.run(flags).args(["--rootfs", "image", "ls", "/proc/self/fd"]).leak(canary.path(), 3..64);
        let out = run.ok();
        // 3 is the folder that ls itself reads.
        let open: Vec<&str> = out.stdout.split_whitespace().collect();
        assert_eq!(open, ["0", "1", "2", "3"], "{out}");
    }
    let out = store.run("--rootfs image sh -c").arg("ls -l /proc/1/fd").leak(canary.path(), 3..64).ok();
    assert!(!out.stdout.contains("canary"), "{out}");
}

// CVE-2020-15257
#[test]
fn no_abstract_socket_is_there_for_a_container_with_the_hosts_network() {
    if !ready() || !need(Privilege::Root) || !need(Privilege::Peer("unshare")) {
        return;
    }
    let store = Store::new("abstract");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    // A network namespace of its own stands for the host's, so that no other program's sockets are seen.
    let run = Cmd::new("unshare").dir(store.scratch.path()).arg("-n").arg(coracle_tests::binaries::runner());
    let run = run.env("CORACLE_STORE", store.path()).arg("--root").arg(store.state());
    let out = run.words("run --rm --network host --rootfs image cat /proc/net/unix").ok();
    assert!(!out.stdout.contains('@'), "{out}");
}

// CVE-2021-3602
#[test]
fn a_variable_of_the_caller_is_seen_in_no_environment_inside() {
    if !ready() {
        return;
    }
    let store = Store::new("environ");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let look = "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; echo done";
    for flags in ["", "--user 1000", "--cap-add SYS_PTRACE"] {
        let run =
            store.run(flags).args(["--rootfs", "image", "sh", "-c", look]).env("CORACLE_CANARY", "sings");
        let out = run.ok().prints("done");
        assert!(!out.stdout.contains("CORACLE_CANARY"), "{out}");
    }
}

// CVE-2022-1227
#[test]
fn a_program_of_the_image_never_runs_on_the_host() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("traps"), Canary::new());
    let trap = format!("#!/bin/sh\ntouch {}/trapped\n", canary.path().display());
    let traps = ["nsenter", "ps", "newuidmap", "newgidmap", "init", "runner", "rootfs-tool", "mount", "ip"];
    let image = traps.iter().fold(Image::busybox().expect("busybox"), |image, name| {
        let path = image.at(format!("bin/{name}"));
        let _ = std::fs::remove_file(path);
        image.script(&format!("bin/{name}"), &trap).script(&format!("usr/bin/{name}"), &trap)
    });
    let image = image.plain(&store, "image");
    let container = store.run("--name traps --rootfs image sh -c").arg("echo ready; sleep 1000").spawn();
    container.wait_for("ready");
    store.runner().words("exec traps true").ok();
    store.runner().words("ps").dir(image.rootfs()).ok();
    store.runner().words("kill traps").ok();
    store.run("--rootfs").arg(image.rootfs()).arg("true").dir(image.rootfs().join("bin")).ok();
    canary.assert_untouched();
}

// CVE-2024-32462
#[test]
fn a_command_that_begins_with_a_dash_is_a_command() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("dash"), Canary::new());
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let bind = format!("--volume={}:/canary", canary.path().display());
    store.run("--rootfs image").args([bind.as_str(), "cat", "/canary/secret"]).fails(127);
    store.run("--rootfs image").args(["--privileged", "true"]).fails(127);
    store
        .run("--rootfs image sh -c")
        .arg("echo \"$@\"")
        .args(["sh", "--rm", "--", "-v"])
        .ok()
        .prints("--rm -- -v");
    canary.assert_untouched();
}

// CVE-2021-41091, CVE-2021-41103, CVE-2024-25621
#[test]
fn other_users_cannot_enter_a_containers_folders() {
    if !ready() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let store = Store::new("modes");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let container = store.run("--name modes --rootfs image sh -c").arg("echo ready; sleep 1000").spawn();
    container.wait_for("ready");
    eventually("the container is listed", || store.runner().arg("ps").ok().stdout.contains("modes"));
    let mode = |path: &std::path::Path| path.metadata().map(|m| m.mode() & 0o777);
    // Closed itself, or within a store that is.
    let closed = mode(&store.path()).is_ok_and(|m| m & 0o077 == 0)
        || mode(&store.path().join("containers")).is_ok_and(|m| m & 0o077 == 0);
    assert!(closed, "containers: {:o}", mode(&store.path().join("containers")).unwrap_or_default());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(mode("/run/coracle".as_ref()).expect("the folder of states") & 0o077, 0);
    }
    store.runner().words("kill modes").ok();
}
