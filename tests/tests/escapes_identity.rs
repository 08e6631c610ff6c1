//! The escape corpus, part three: who the payload is, what it may do, and what a configuration can
//! smuggle in. One test a trick.

use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::folder_works()
}

/// A line of /proc/self/status in a program's output.
#[track_caller]
fn field<'a>(out: &'a Output, name: &str) -> &'a str {
    let line = out.stdout.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}\n{out}")).trim()
}

// CVE-2016-3697
#[test]
fn a_number_is_never_looked_up_as_a_name() {
    if !ready() {
        return;
    }
    let store = Store::new("digits");
    let passwd = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\n";
    let image = Image::busybox().expect("busybox").file("etc/passwd", passwd);
    let _image = image.file("etc/group", "root:x:0:\n1000:x:0:\n").plain(&store, "image");
    let out = store.run("-u 1000:1000 --rootfs image cat /proc/self/status").ok();
    assert_eq!(field(&out, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&out, "Gid"), "1000\t1000\t1000\t1000");
}

// CVE-2024-40635, CVE-2026-46680
#[test]
fn a_uid_that_is_out_of_range_is_refused() {
    if !ready() {
        return;
    }
    let store = Store::new("range");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let hostile = [
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "+1",
        "1e3",
        "0x1",
        "1 ",
        " 1",
        "1.5",
        "1:-1",
    ];
    for user in hostile.iter().chain(&["1:4294967296", "65536:65536:0"]) {
        let out = store.run("-u").arg(user).words("--rootfs image id").run();
        assert!(out.code() != 0, "{user}: {out}");
        assert!(!out.stdout.contains("uid=0"), "{user}: {out}");
    }
}

// CVE-2026-30892
#[test]
fn exec_takes_a_user_as_run_does() {
    if !ready() {
        return;
    }
    let store = Store::new("exec-user");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let container = store.run("--name who --rootfs image sh -c").arg("echo ready; sleep 1000").spawn();
    container.wait_for("ready");
    let out = store.runner().words("exec -u 1 who cat /proc/self/status").ok();
    assert_eq!(field(&out, "Uid"), "1\t1\t1\t1");
    let out = store.runner().words("exec -u 5:7 who cat /proc/self/status").ok();
    assert_eq!((field(&out, "Uid"), field(&out, "Gid")), ("5\t5\t5\t5", "7\t7\t7\t7"));
    for user in ["4294967296", "-1", "nobody-here"] {
        let out = store.runner().args(["exec", "-u", user, "who", "id"]).run();
        assert!(out.code() != 0 && out.stdout.is_empty(), "{out}");
    }
    store.runner().words("kill who").ok();
}

// CVE-2022-2990, CVE-2022-36109, CVE-2022-2995, CVE-2023-25173
#[test]
fn the_primary_group_is_among_the_groups() {
    if !ready() || !need(Privilege::Root) {
        return;
    }
    let store = Store::new("groups");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\n";
    let image = Image::busybox().expect("busybox").file("etc/passwd", passwd);
    let group = "root:x:0:\nann:x:1001:\nextra:x:1002:ann\n";
    let _image = image.file("etc/group", group).plain(&store, "image");
    let groups = |flags: &str| {
        let out = store.run(flags).words("--rootfs image cat /proc/self/status").ok();
        let mut list: Vec<u32> =
            field(&out, "Groups").split(' ').map(|g| g.parse().expect("a gid")).collect();
        list.sort_unstable();
        list
    };
    assert_eq!(groups("-u ann"), [1001, 1002]);
    assert_eq!(groups("-u 1000:5"), [5]);
    assert_eq!(groups("-u 1000:5 --group-add 7"), [5, 7]);
    assert!(groups("-u 0").contains(&0));
}

// CVE-2022-4318
#[test]
fn a_control_character_is_refused_where_a_line_is_written() {
    if !ready() {
        return;
    }
    let store = Store::new("newline");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let hostile: [[&str; 2]; 5] = [
        ["-h", "host\nroot::0:0::/:/bin/sh"],
        ["-u", "root\nx"],
        ["--name", "a\nb"],
        ["-h", "host\tname"],
        ["-h", "-host"],
    ];
    for flags in hostile {
        let out = store.run("").args(flags).words("--rootfs image cat /etc/hosts /etc/passwd").run();
        assert!(out.code() != 0 && out.stdout.is_empty(), "{flags:?}: {out}");
    }
}

// CVE-2022-24769, CVE-2022-27649..27652, CVE-2022-29162, CVE-2025-27612
#[test]
fn nothing_is_inheritable_inside() {
    if !ready() {
        return;
    }
    let store = Store::new("inheritable");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    for flags in ["", "--cap-add SYS_ADMIN"] {
        let out = store.run(flags).words("--rootfs image cat /proc/self/status").ok();
        assert_eq!(field(&out, "CapInh"), "0000000000000000", "{flags}");
    }
    let container = store.run("--name inh --rootfs image sh -c").arg("echo ready; sleep 1000").spawn();
    container.wait_for("ready");
    for flags in ["", "-u 1000"] {
        let out = store.runner().arg("exec").words(flags).words("inh cat /proc/self/status").ok();
        assert_eq!(field(&out, "CapInh"), "0000000000000000", "exec {flags}");
    }
    store.runner().words("kill inh").ok();
}

// CVE-2018-10856
#[test]
fn an_ordinary_user_inside_has_no_capability_unless_it_was_asked_for() {
    if !ready() {
        return;
    }
    let store = Store::new("caps");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let out = store.run("-u 1000:1000 --rootfs image cat /proc/self/status").ok();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&out, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&out, "CapBnd"), "00000000a80425fb", "docker's fourteen");
    // Asked for, it takes effect: what docker does not do.
    let out = store.run("-u 1000:1000 --cap-add NET_ADMIN --rootfs image cat /proc/self/status").ok();
    assert_eq!(field(&out, "CapEff"), "0000000000001000");
    let out = store.run("--cap-drop ALL --rootfs image cat /proc/self/status").ok();
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&out, set), "0000000000000000", "{set}");
    }
}

// CVE-2022-0811
#[test]
fn one_sysctl_sets_one_sysctl() {
    if !ready() {
        return;
    }
    let pattern = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read core_pattern");
    let before = pattern();
    let store = Store::new("sysctl");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let hostile = [
        "kernel.shm_rmid_forced=1+kernel.core_pattern=|/bin/evil",
        "kernel.shm_rmid_forced=1 kernel.core_pattern=|/bin/evil",
        "kernel.shm_rmid_forced=1\nkernel.core_pattern=|/bin/evil",
        "net/../kernel/core_pattern=|/bin/evil",
        "net...kernel.core_pattern=|/bin/evil",
        "net.../kernel/core_pattern=|/bin/evil",
        "kernel.core_pattern=|/bin/evil",
    ];
    for sysctl in hostile {
        store.run("--sysctl").arg(sysctl).words("--rootfs image true").run();
        assert_eq!(pattern(), before, "{sysctl:?}");
    }
}

// GHSA-w2j5
#[test]
fn a_sysctl_of_the_host_is_refused() {
    if !ready() {
        return;
    }
    let store = Store::new("host-sysctl");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let refused = [
        "--sysctl kernel.panic=0",
        "--sysctl vm.swappiness=60",
        "--sysctl fs.file-max=100000",
        "--network host --sysctl net.ipv4.ip_forward=0",
    ];
    for flags in refused {
        let out = store.run(flags).words("--rootfs image true").run();
        assert!(out.code() != 0 && out.stderr.contains("sysctl"), "{flags}: {out}");
    }
    let out =
        store.run("--sysctl net.ipv4.ip_forward=1 --rootfs image cat /proc/sys/net/ipv4/ip_forward").ok();
    assert_eq!(out.text(), "1");
}

// GHSA-g54h
#[test]
fn a_device_that_is_not_listed_cannot_be_opened() {
    if !ready() || !need(Privilege::Root) || !need(Privilege::Controller("devices")) {
        return;
    }
    let store = Store::new("devices");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    // Made, as docker allows; opened, never: kmsg, mem, and a disk.
    let look = "for d in 'c 1 11' 'c 1 1' 'b 254 0' 'b 8 0' 'b 7 0' 'c 10 229'; do \
                rm -f /tmp/d; mknod /tmp/d $d || continue; (: < /tmp/d) 2>&1; done; echo looked";
    let out = store.run("--rootfs image sh -c").arg(look).ok().prints("looked");
    assert_eq!(out.stdout.matches("Operation not permitted").count(), 6, "{out}");
    let listed =
        "mknod /tmp/null c 1 3; echo through > /tmp/null && cat /dev/null && head -c 1 /dev/zero | wc -c";
    store.run("--rootfs image sh -c").arg(listed).ok().prints("1");
}

// CVE-2023-25809
#[test]
fn the_cgroup_tree_cannot_be_written_inside() {
    if !ready() {
        return;
    }
    let store = Store::new("cgroup-tree");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let attempt = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made && echo made; \
                   echo 1 > $d/cgroup.procs && echo written; done 2>/dev/null; echo tried";
    for flags in ["", "--pids-limit 50"] {
        if !flags.is_empty() && !need(Privilege::Controller("pids")) {
            continue;
        }
        let out = store.run(flags).args(["--rootfs", "image", "sh", "-c", attempt]).ok();
        assert_eq!(out.text(), "tried", "{flags}");
    }
}

// GHSA-jq35, GHSA-6fw5, and the list of the defaults
#[test]
fn what_is_masked_shows_nothing_and_what_is_read_only_takes_nothing() {
    if !ready() {
        return;
    }
    let store = Store::new("masked");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let files = "/proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/timer_list /proc/timer_stats";
    let dirs = "/proc/acpi /proc/asound /proc/scsi /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux \
                /sys/devices/system/cpu/cpu*/thermal_throttle";
    let look = format!(
        "for f in {files}; do [ ! -e $f ] || head -c 1 $f; done; for d in {dirs}; do [ ! -d $d ] || ls $d; done; \
         for d in /proc/bus /proc/fs /proc/irq /proc/sys; do [ ! -d $d ] || \
         grep -q \" $d [a-z]* ro,\" /proc/mounts || echo writable: $d; done; \
         (echo h > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
         (echo x > /proc/sys/kernel/domainname) 2>/dev/null && echo sys; true"
    );
    for flags in ["", "-u 1000", "--cap-add SYS_ADMIN"] {
        let out = store.run(flags).args(["--rootfs", "image", "sh", "-c", &look]).ok();
        let shown: Vec<&str> =
            out.stdout.lines().filter(|l| !l.starts_with("/proc/") || l.contains("made")).collect();
        assert!(shown.is_empty(), "{flags}: {out}");
    }
}

// CVE-2024-32473
#[test]
fn ipv6_that_is_turned_off_is_off() {
    if !ready() {
        return;
    }
    let store = Store::new("ipv6");
    let _image = Image::busybox().expect("busybox").plain(&store, "image");
    let off = "--sysctl net.ipv6.conf.all.disable_ipv6=1 --sysctl net.ipv6.conf.default.disable_ipv6=1";
    let out =
        store.run(off).args(["--rootfs", "image", "sh", "-c", "cat /proc/net/if_inet6; echo shown"]).ok();
    assert_eq!(out.text(), "shown", "{out}");
}
