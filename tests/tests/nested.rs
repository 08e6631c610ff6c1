//! Inside other containers: docker's, with its default options and privileged, and rootless podman's. The
//! daemon is this test's own, on a socket and a data folder of its own, and ends with it. What the kernel
//! permits there works; for what it does not there is one plain sentence.

use std::path::PathBuf;

use coracle_tests::binaries::{rootfs_tool, runner};
use coracle_tests::bundle::base;
use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::busybox;
use coracle_tests::{Cmd, Output, Privilege, Scratch, need};

/// The archive of an outer image: a busybox, our runner, and a bundle to run inside.
fn outer_image(scratch: &Scratch) -> PathBuf {
    let outer = scratch.mkdir("outer");
    busybox(&outer).expect("busybox");
    std::fs::copy(runner(), outer.join("bin/runner")).expect("copy the runner");
    std::fs::copy(rootfs_tool(), outer.join("bin/rootfs-tool")).expect("copy the tool");
    busybox(&scratch.mkdir("outer/recipe/rootfs")).expect("busybox");
    let recipe = "[[layer]]\ndir = \"rootfs/\"\n";
    std::fs::write(outer.join("recipe/rootfs.toml"), recipe).expect("write the recipe");
    busybox(&scratch.mkdir("outer/bundle/rootfs")).expect("busybox");
    let config = base(&["sh", "-c", "echo \"inner $$ $(hostname)\"; id -u"]);
    std::fs::write(outer.join("bundle/config.json"), config.to_string()).expect("write config.json");
    let archive = scratch.join("outer.tar");
    Cmd::new("tar").arg("-C").arg(&outer).arg("-cf").arg(&archive).arg(".").ok();
    archive
}

/// What runs inside.
const NEST: &str = "outer:1 runner --root /tmp/state run --bundle /bundle inner";

/// Compose an image inside, on the outer container's own overlay, and run it: init is PID 1 there.
const COMPOSE: &str = "rootfs-tool compose -q /recipe -t inner >/dev/null && runner run --rm --best-effort -h bundle \
     inner sh -c 'test \"$(head -n 1 /proc/1/status)\" = \"Name:\tmemfd:init\" && ps >/dev/null && \
     echo \"inner $(($$ - 1)) $(hostname)\"; id -u'";

/// It ran, in namespaces of its own.
#[track_caller]
fn ran(out: &Output) {
    assert!(out.code() == 0 && out.stdout.contains("inner 1 bundle\n0"), "{out}");
}

/// What the sentences tell the reader to change.
const REMEDIES: &[&str] = &[
    "add {\"type\": \"user\"}",
    "a host may forbid user namespaces",
    "start that with --security-opt",
    "it needs the capabilities",
    "set XDG_RUNTIME_DIR",
];

/// Either it ran, or it said in one line of its own what is not to be had.
#[track_caller]
fn ran_or_said_why(out: &Output) {
    if out.code() == 0 {
        return ran(out);
    }
    let said: Vec<&str> = out.stderr.lines().filter(|l| l.starts_with("runner: ")).collect();
    assert!(out.code() == 125 && said.len() == 1 && out.stdout.is_empty(), "{out}");
    // What to do about it is in it.
    assert!(REMEDIES.iter().any(|remedy| said[0].contains(remedy)), "no remedy: {out}");
    eprintln!("inside: {}", said[0]);
}

/// Run the bundle inside the outer image.
fn nest(daemon: &Dockerd, flags: &str) -> Output {
    daemon.docker("run --rm --network none").words(flags).words(NEST).run()
}

/// `--privileged`, or the next best where this machine lacks a capability that docker would give.
fn privileged() -> &'static str {
    let status = std::fs::read_to_string("/proc/self/status").expect("read the status");
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).expect("a bounding set");
    let has_resource = u64::from_str_radix(bounding, 16).expect("hex") & (1 << 24) != 0;
    match has_resource {
        true => "--privileged",
        false => {
            "--cap-add ALL --cap-drop SYS_RESOURCE --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
        }
    }
}

#[test]
fn inside_docker_a_container_runs_or_the_reason_is_said() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) || !need(Privilege::Peer("dockerd")) {
        return;
    }
    let daemon = Dockerd::start(&[]);
    daemon.docker("import").arg(outer_image(&daemon.scratch)).arg("outer:1").ok();
    ran(&nest(&daemon, privileged()));
    let composed = daemon.docker("run --rm --network none").words(privileged());
    let composed = composed.args(["outer:1", "sh", "-c", COMPOSE]).run();
    ran(&composed);
    assert!(composed.stderr.contains("kept in memory"), "{composed}");
    let compose = |flags: &str| {
        let run = daemon.docker("run --rm --network none -e CORACLE_STORE=/dev/shm/store").words(flags);
        run.args(["outer:1", "sh", "-c", COMPOSE]).run()
    };
    for flags in ["", "--user 1000", "--cap-drop ALL", "--security-opt seccomp=unconfined"] {
        ran_or_said_why(&nest(&daemon, flags));
        ran_or_said_why(&compose(flags));
    }
    // What the sentences say to do is enough.
    ran(&compose("--security-opt seccomp=unconfined --security-opt systempaths=unconfined"));
}

/// The process that podman leaves behind to hold its user namespace, known by the file that names it.
struct Pause(PathBuf);

impl Drop for Pause {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.join("libpod/tmp/pause.pid"));
        if let Some(pid) = pid.ok().and_then(|pid| pid.trim().parse().ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn inside_rootless_podman_a_container_runs_or_the_reason_is_said() {
    if !need(Privilege::Root)
        || !need(Privilege::UserNamespaces)
        || !need(Privilege::Peer("busybox"))
        || !need(Privilege::Peer("podman"))
        || !need(Privilege::Peer("crun"))
    {
        return;
    }
    let scratch = Scratch::of_user("podman");
    let archive = outer_image(&scratch);
    let user = coracle_tests::privilege::ordinary_user().expect("need(UserNamespaces) comes first");
    // crun refuses a hybrid cgroup tree: it gets a mount namespace in which v2 is not to be seen.
    let prepare = "umount /sys/fs/cgroup/unified 2>/dev/null; mount --make-rshared /; exec \"$@\"";
    let podman = |words: &str| {
        Cmd::new("unshare")
            .args(["-m", "sh", "-c", prepare, "sh", "runuser", "-u", &user.name, "--", "podman"])
            .args(["--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--root"])
            .arg(scratch.join("store"))
            .arg("--runroot")
            .arg(scratch.join("run"))
            .words(words)
            .env("HOME", scratch.path())
            .env("XDG_RUNTIME_DIR", scratch.join("xdg"))
            .dir("/")
    };
    let xdg = scratch.mkdir("xdg");
    std::os::unix::fs::chown(xdg, Some(user.uid), Some(user.gid)).expect("chown");
    let _pause = Pause(scratch.join("xdg"));
    podman("import -q").arg(&archive).arg("outer:1").ok();
    let nest =
        |flags: &str| podman("run --rm --network none --cgroups disabled").words(flags).words(NEST).run();
    let compose = |flags: &str| {
        let run =
            podman("run --rm --network none --cgroups disabled -e CORACLE_STORE=/tmp/store").words(flags);
        run.args(["outer:1", "sh", "-c", COMPOSE]).run()
    };
    ran(&nest("--privileged"));
    ran(&compose("--privileged"));
    for flags in ["", "--cap-drop ALL", "--security-opt seccomp=unconfined"] {
        ran_or_said_why(&nest(flags));
        ran_or_said_why(&compose(flags));
    }
    ran(&compose("--security-opt seccomp=unconfined --security-opt unmask=ALL"));
}
