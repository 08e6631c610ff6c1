//! `init` as the machine's PID 1: what a command finds, how it ends, and what is said when something is missing.

use coracle_tests::guest::{Do, Guest};
use coracle_tests::{Cmd, Scratch, workspace};

/// A script of `tests/boot`, with what all of them share in front.
fn script(name: &str) -> String {
    let read =
        |name: &str| std::fs::read_to_string(workspace().join("tests/boot").join(name)).expect("a script");
    read("checks.sh") + &read(name)
}

#[test]
fn a_command_finds_a_whole_machine_and_its_exit_code_is_told() {
    let scratch = Scratch::new("boot-init");
    let conf = "arg=/check\narg=two words\narg=back\\\\slash\\nline\nhostname=coracle\nuser=1234:567\ngroups=5,6\ncwd=/tmp/below\n\
                env=A=first\nenv=A=b c\nip=10.0.2.15/24,10.0.2.2,10.0.2.3\nmount=none:/tmp/mounted:tmpfs:size=64k,nodev\n";
    let Some(guest) = Guest::new(&scratch, "command", conf, &["failover", "net_failover", "virtio_net"])
    else {
        return;
    };
    let network = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="];
    let guest = network.into_iter().fold(guest, Guest::argument).file("check", script("command.sh"));
    std::fs::create_dir_all(guest.tree().join("tmp/below")).expect("make a folder");
    let said = guest.boot("init.env=B=\"from the line\" init.arg=last");
    said.told("up\n7\n").passed(&[
        "words and environment",
        "user and groups",
        "working directory and host name",
        "file systems",
        "every controller is enabled",
        "loopback",
        "address, gateway and name server",
        "a mount of its own",
        "signals are as they should be",
        "no descriptor of init's",
        "init is small",
        "orphans are reaped",
    ]);
    assert_eq!(said.stderr, "to stderr\n", "{said:#?}");
}

#[test]
fn on_a_terminal_there_is_job_control_and_ctrl_alt_del_ends_the_machine_in_order() {
    let scratch = Scratch::new("boot-tty");
    let conf = "arg=/check\ntty=1\nenv=X=1\n";
    let Some(guest) = Guest::new(&scratch, "tty", conf, &[]) else { return };
    let said = guest
        .file("check", script("terminal.sh"))
        .without_streams()
        .when("READY FOR CTRL-C", Do::Type("\x03"))
        .when("READY FOR CTRL-ALT-DEL", Do::Monitor("sendkey ctrl-alt-delete"))
        .boot("");
    said.told("up\n23\n");
    for line in [
        "ok term vt220",
        "ok terminal",
        "ok job control",
        "ok interrupted",
        "ok asked to end",
        "reboot: Restarting system",
    ] {
        assert!(said.console.contains(line), "{line}: {said:#?}");
    }
}

#[test]
fn what_is_missing_is_told_in_one_line_and_the_machine_does_not_hang() {
    let scratch = Scratch::new("boot-missing");
    let Some(guest) = Guest::new(&scratch, "missing", "arg=true\nwait=0.5\n", &[]) else { return };
    let cases = [
        ("root=LABEL=nowhere", "find LABEL=nowhere: no such device has appeared"),
        ("init.colour=red", "read colour: there is no such key"),
        ("init.log=9", "read log: takes one of: 0 1 2"),
        ("init.env=NAME", "read env: takes NAME=VALUE"),
        ("init.arg=\"two words", "read init.arg=two words: a \" is not closed"),
    ];
    for (words, line) in cases {
        let said = guest.boot(words);
        said.told(&format!("error {line}\n"));
        assert!(said.console.contains(&format!("init: {line}\n")), "{said:#?}");
    }
    let said = guest
        .when("a shell to rescue", Do::Type("echo rescued as $(id -u); exit\n"))
        .boot("init.rescue=1 root=/dev/nowhere");
    said.told("error find /dev/nowhere: no such device has appeared\n");
    assert!(said.console.contains("rescued as 0"), "{said:#?}");
}

#[test]
fn a_root_on_a_disk_is_entered_and_the_initramfs_is_freed() {
    let scratch = Scratch::new("boot-root");
    let modules = ["overlay", "crc32c-intel", "libcrc32c", "erofs"];
    let Some(guest) = Guest::new(&scratch, "root", "arg=/check\n", &modules) else { return };
    if !coracle_tests::need(coracle_tests::Privilege::Peer("mkfs.erofs")) {
        return;
    }
    let tree = scratch.mkdir("content");
    coracle_tests::guest::tools(&tree);
    coracle_tests::guest::put(&tree.join("check"), script("root.sh"));
    coracle_tests::guest::put(&tree.join("etc/coracle/boot.conf"), "arg=/bin/false\n");
    for place in ["proc", "sys", "dev", "run", "tmp"] {
        std::fs::create_dir(tree.join(place)).expect("make a folder");
    }
    let (ext4, erofs) = (scratch.join("ext4"), scratch.join("erofs"));
    Cmd::new("truncate").args(["-s", "48M"]).arg(&ext4).ok();
    Cmd::new("mkfs.ext4").args(["-q", "-L", "the-root", "-d"]).arg(&tree).arg(&ext4).ok();
    let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
    Cmd::new("mkfs.erofs").args(["-U", uuid]).arg(&erofs).arg(&tree).ok();
    // Of no use but to take room: what is left of it afterwards shows.
    let guest = guest.file("ballast", vec![b'x'; 48 << 20]).disk(&ext4).disk(&erofs);
    // The other disk is what can be written to above it, and has the folders of an overlay afterwards.
    let said = guest.boot(&format!("root=UUID={uuid} init.overlay=LABEL=the-root init.env=KIND=erofs"));
    let own = "the root's boot.conf is not read";
    said.told("up\n0\n").passed(&[
        "the initramfs is gone",
        "what is written is on the disk above the root",
        own,
    ]);
    let said = guest.boot("root=LABEL=the-root rw rootflags=noatime init.env=KIND=ext4");
    said.told("up\n0\n").passed(&["the initramfs is gone", "the root can be written to", own]);
    let said = guest.boot("root=LABEL=the-root init.overlay=tmpfs init.env=KIND=tmpfs");
    said.told("up\n0\n").passed(&[
        "the initramfs is gone",
        "what is written above the root is in memory",
        own,
    ]);
    // It was unmounted each time.
    Cmd::new("e2fsck").args(["-fn"]).arg(&ext4).ok();
    let header = Cmd::new("dumpe2fs").arg("-h").arg(&ext4).ok();
    assert!(header.text().contains("Filesystem state:         clean"), "{}", header.text());
    assert!(!header.text().contains("needs_recovery"), "{}", header.text());
}

#[test]
fn the_data_partition_of_a_disk_grows_and_keeps_what_is_on_it() {
    let scratch = Scratch::new("boot-data");
    let conf = "arg=/check\ndata=PARTLABEL=data:/data\nwatchdog=30\n";
    let Some(guest) = Guest::new(&scratch, "data", conf, &["squashfs", "watchdog", "softdog"]) else {
        return;
    };
    if !coracle_tests::need(coracle_tests::Privilege::Peer("mksquashfs")) {
        return;
    }
    let tree = scratch.mkdir("content");
    coracle_tests::guest::tools(&tree);
    coracle_tests::guest::put(&tree.join("check"), script("data.sh"));
    for place in ["proc", "sys", "dev", "run", "tmp", "data"] {
        std::fs::create_dir(tree.join(place)).expect("make a folder");
    }
    let (root, data, disk) = (scratch.join("root"), scratch.join("data-fs"), scratch.join("disk"));
    Cmd::new("mksquashfs").arg(&tree).arg(&root).args(["-quiet", "-noappend"]).ok();
    Cmd::new("truncate").args(["-s", "8M"]).arg(&data).ok();
    Cmd::new("mkfs.ext4").args(["-q", "-L", "data"]).arg(&data).ok();
    Cmd::new("truncate").args(["-s", "24M"]).arg(&disk).ok();
    let parts = [
        "-n",
        "1:2048:+8M",
        "-c",
        "1:root",
        "-n",
        "2:0:+8M",
        "-c",
        "2:data",
        "-u",
        "1:11223344-5566-4788-99AA-BBCCDDEEFF00",
    ];
    Cmd::new("sgdisk").args(parts).arg(&disk).ok();
    for (image, sector) in [(&root, 2048), (&data, 2048 + 16384)] {
        let place =
            [format!("if={}", image.display()), format!("of={}", disk.display()), format!("seek={sector}")];
        Cmd::new("dd").args(place).args(["conv=notrunc", "status=none"]).ok();
    }
    Cmd::new("truncate").args(["-s", "64M"]).arg(&disk).ok();
    let guest = guest.disk(&disk);
    let names = [
        "the root is a squashfs",
        "the data partition has grown",
        "it can be written to",
        "the watchdog is watched",
    ];
    guest
        .boot("root=PARTUUID=11223344-5566-4788-99aa-bbccddeeff00 init.arg=first")
        .told("up\n0\n")
        .passed(&names);
    Cmd::new("sgdisk").arg("-v").arg(&disk).ok().prints("No problems found");
    let cut = |to: &std::path::Path| {
        let place = [format!("if={}", disk.display()), format!("of={}", to.display()), "skip=18432".into()];
        Cmd::new("dd").args(place).args(["status=none"]).ok();
        Cmd::new("e2fsck").arg("-fn").arg(to).ok();
        let seed = to.with_extension("seed");
        Cmd::new("debugfs").arg("-R").arg(format!("dump /random-seed {}", seed.display())).arg(to).ok();
        std::fs::read(seed).expect("the seed")
    };
    let first = cut(&scratch.join("first"));
    assert_eq!(first.len(), 512);
    let names = [
        "the root is a squashfs",
        "the data partition has grown",
        "what was written is there",
        "the watchdog is watched",
    ];
    guest.boot("root=PARTLABEL=root init.arg=second").told("up\n0\n").passed(&names);
    assert_ne!(cut(&scratch.join("second")), first, "the seed is another each time");
}

/// Says that it is ready as sd_notify(3) has it, after something else.
const TELLS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
    const char *said[] = {"STATUS=READY=1 soon", "MAINPID=1\nREADY=1\n"};
    for (int i = 0; i < 2; i++) {
        if (sendto(fd, said[i], strlen(said[i]), 0, (void *)&to, sizeof to) < 0)
            return 1;
        if (!i) {
            sleep(1);
            FILE *order = fopen("/run/order", "a");
            fputs("told is ready\n", order);
            fclose(order);
        }
    }
    pause();
}
"#;

/// A service that tells when it starts and when it is told to end.
fn service(name: &str, before: &str, keys: &str) -> String {
    let script = format!(
        "command=/bin/sh\narg=-c\narg=echo {name} starts >>/run/order; trap 'echo {name} stops >/dev/console; exit 0' TERM; {before} \
         while :; do sleep 0.1; done\n"
    );
    script + keys
}

#[test]
fn services_start_in_order_are_restarted_and_stop_in_reverse_order() {
    let scratch = Scratch::new("boot-services");
    let conf = "arg=/check\ngrace=2\n";
    let Some(guest) = Guest::new(&scratch, "services", conf, &[]) else { return };
    let services = [
        ("slow", service("slow", "sleep 1; echo slow is ready >>/run/order; echo >&5;", "ready=fd:5\n")),
        ("after-slow", service("after-slow", "", "after=slow\n")),
        ("told", "command=/tells\nready=notify\nuser=0:0\n".into()),
        ("after-told", service("after-told", "", "after=told\nafter=after-slow\n")),
        ("once", "command=sh\narg=-c\narg=sleep 0.5; echo once is done >>/run/order\noneshot=1\n".into()),
        ("after-once", service("after-once", "", "after=once\n")),
        ("fails", service("fails", "[ $(grep -c fails /run/order) = 3 ] && echo >&3 || exit 3;", "restart=on-failure\nready=fd:3\n")),
        ("gives-up", service("gives-up", "exit 4;", "")),
        ("stubborn", service("stubborn", "trap '' TERM;", "stop-timeout=0.5\n")),
        ("someone", "command=sh\narg=-c\narg=echo $(id -u):$(id -g):$(id -G) >/run/user; env >/run/environment\nenv=X=a b\nuser=web\ngroups=7\noneshot=1\nafter=writable\n".into()),
        ("writable", "command=sh\narg=-c\narg=mkdir -p /run/logs; touch /run/user /run/environment; chown 33 /run/user /run/environment\noneshot=1\n".into()),
        ("talks", "command=sh\narg=-c\narg=seq 1 2000; echo last line\nlog=/run/logs/talks:4k\nafter=writable\nstop-signal=KILL\n".into()),
        ("circle-a", service("circle-a", "", "after=circle-b\n")),
        ("circle-b", service("circle-b", "", "after=circle-a\n")),
        ("not-one~", "command=/nowhere\n".into()),
    ];
    let guest = services
        .iter()
        .fold(guest, |guest, (name, text)| guest.file(&format!("etc/coracle/services/{name}"), text));
    let guest = guest
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
        .file("check", script("services.sh"));
    if coracle_tests::rootfs::compile(TELLS, &guest.tree().join("tells")).is_none() {
        return;
    }
    let said = guest.boot("init.env=NOT=for-services");
    said.told("up\n5\n").passed(&[
        "who comes after one starts when that is ready, by a descriptor or by a message",
        "who comes after one that ends starts when it has ended",
        "who fails is started again where that is said",
        "a service has its own user and environment",
        "what a service writes goes to a file that is put aside",
        "of those that wait for each other the first is left out, and keeps nobody",
    ]);
    let place = |line: &str| said.console.find(line).unwrap_or_else(|| panic!("{line}: {said:#?}"));
    assert!(place("after-told stops") < place("after-slow stops"), "{said:#?}");
    assert!(place("after-slow stops") < place("slow stops\n"), "{said:#?}");
    assert!(place("service fails: ended with exit code 3") < place("after-once stops"), "{said:#?}");
    assert!(place("start service circle-a: it comes after itself, by way of others") > 0);
    assert!(!said.console.contains("stubborn stops"), "{said:#?}");
}

#[test]
fn a_machine_that_is_still_starting_can_be_switched_off_and_halted() {
    let scratch = Scratch::new("boot-signals");
    // The first never becomes ready, so the second and CMD never start.
    let Some(guest) = Guest::new(&scratch, "signals", "arg=/bin/echo\narg=NEVER\n", &["button", "evdev"])
    else {
        return;
    };
    let guest = guest
        .file(
            "etc/coracle/services/never",
            service("never", "echo READY FOR THE BUTTON >/dev/console;", "ready=fd:3\n"),
        )
        .file("etc/coracle/services/waits", service("waits", "", "after=never\n"))
        .when("READY FOR THE BUTTON", Do::Monitor("system_powerdown"));
    let said = guest.boot("");
    said.told("0\n");
    assert!(said.console.contains("never stops") && said.console.contains("reboot: Power down"), "{said:#?}");
    assert!(!said.stdout.contains("NEVER") && !said.console.contains("waits stops"), "{said:#?}");
    // Each signal that ends a machine, sent by a service of a machine that has no CMD.
    for (signal, line) in [
        ("USR2", "reboot: Power down"),
        ("TERM", "reboot: Restarting system"),
        ("USR1", "reboot: System halted"),
    ] {
        let one = Guest::new(&scratch, signal, "", &[]).expect("as above");
        let kills = service("kills", &format!("kill -{signal} 1;"), "");
        let said = one.file("etc/coracle/services/kills", kills).when("System halted", Do::Cut).boot("");
        said.told("up\n0\n");
        assert!(said.console.contains("kills stops") && said.console.contains(line), "{signal}: {said:#?}");
    }
}
