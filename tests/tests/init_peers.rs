//! `init` in the place of docker's docker-init and of podman's catatonit: `docker run --init` and
//! `podman run --init` with nothing changed but the path.

use std::path::PathBuf;

use coracle_tests::binaries::init;
use coracle_tests::dockerd::Dockerd;
use coracle_tests::podman::podman;
use coracle_tests::rootfs::busybox;
use coracle_tests::{Cmd, Output, Privilege, Scratch, need};

/// The archive of an image that holds a busybox.
fn image(scratch: &Scratch) -> PathBuf {
    busybox(&scratch.mkdir("rootfs")).expect("busybox");
    let archive = scratch.join("image.tar");
    Cmd::new("tar").arg("-C").arg(scratch.join("rootfs")).arg("-cf").arg(&archive).arg(".").ok();
    archive
}

/// What runs, and what it shows: PID 1 is init, under the name that the engine gives it; it has reaped the
/// orphan; the exit code is the command's.
const SCRIPT: &str =
    "(sleep 0 & exec true); sleep 1; cat /proc/1/comm; cat /proc/[0-9]*/stat | grep -c ' Z '; exit 7";

#[track_caller]
fn shows(output: &Output, name: &str) {
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(output.code() == 7 && lines == [name, "0"], "{output}");
}

/// Whether PID 1 of a container is this very program: its bytes are compared from outside.
#[track_caller]
fn is_ours(pid: &str) {
    let running = std::fs::read(format!("/proc/{}/exe", pid.trim())).expect("read the running program");
    assert!(running == std::fs::read(init()).expect("read init"), "PID 1 is another program");
}

#[test]
fn it_stands_in_for_docker_init() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) || !need(Privilege::Peer("dockerd")) {
        return;
    }
    let path = init();
    let daemon = Dockerd::start(&["--init-path", path.to_str().expect("a path in UTF-8")]);
    daemon.docker("import").arg(image(&daemon.scratch)).arg("box:1").ok();
    let run = |words: &str| daemon.docker("run --network none --init").words(words).arg("box:1");
    shows(&run("--rm").args(["sh", "-c", SCRIPT]).run(), "docker-init");
    run("--rm").arg("no-such-command").fails(127);
    run("--rm").args(["sh", "-c", "kill -TERM $$"]).fails(143);
    // `docker stop` is a TERM to PID 1, which is forwarded: the command ends by it, and says so.
    run("-d --name stopped")
        .args(["sh", "-c", "trap 'echo asked; exit 9' TERM; while :; do sleep 0.05; done"])
        .ok();
    is_ours(&daemon.docker("inspect -f {{.State.Pid}} stopped").ok().stdout);
    daemon.docker("stop -t 60 stopped").ok();
    let ended = daemon.docker("inspect -f {{.State.ExitCode}} stopped").ok();
    assert_eq!(ended.text(), "9");
    daemon.docker("logs stopped").ok().prints("asked");
}

#[test]
fn it_stands_in_for_podmans_init() {
    if !need(Privilege::Root)
        || !need(Privilege::Peer("busybox"))
        || !need(Privilege::Peer("podman"))
        || !need(Privilege::Peer("runc"))
    {
        return;
    }
    let scratch = Scratch::new("podman-init");
    let podman = |words: &str| podman(&scratch, words);
    podman("import -q").arg(image(&scratch)).arg("box:1").ok();
    let run = |words: &str| {
        podman("run --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --init --init-path")
            .arg(init())
            .words(words)
            .arg("box:1")
    };
    shows(&run("--rm").args(["sh", "-c", SCRIPT]).run(), "podman-init");
    run("--rm").arg("no-such-command").fails(127);
    run("--rm").args(["sh", "-c", "kill -TERM $$"]).fails(143);
    run("-d --name stopped").args(["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"]).ok();
    is_ours(&podman("inspect -f {{.State.Pid}} stopped").ok().stdout);
    podman("stop -t 60 stopped").ok();
    assert_eq!(podman("inspect -f {{.State.ExitCode}} stopped").ok().text(), "9");
    podman("rm stopped").ok();
}
