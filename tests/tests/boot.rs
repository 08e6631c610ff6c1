//! Images that boot: what a command does in a machine is what it does in a container, and what goes wrong is told. Each
//! boot is emulated and takes some seconds, so one looks at several things.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_tests::registry::Registry;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, eventually, machine, need};
use nix::sys::signal::Signal;

/// A store with the image `box` of busybox; none where nothing can be booted.
fn store() -> Option<Store> {
    // What is inside does not depend on who boots it.
    let peers = ["qemu-system-x86_64", "busybox"];
    if !need(Privilege::Root) || !peers.iter().all(|peer| need(Privilege::Peer(peer))) {
        return None;
    }
    machine::need_kernel()?;
    let store = Store::new("boot");
    let image = Image::busybox()?.file("etc/group", "root:x:0:\nwheel:x:7:ann\n");
    let image = image.config("cmd = [\"sh\", \"-c\", \"echo hello\"]").config("stop_signal = \"SIGUSR1\"");
    image.config("env = { FROM = \"image\" }").compose(&store, "box");
    Some(store)
}

/// `boot --kvm off` with this kernel and flags, up to the image.
fn with_kernel(store: &Store, flags: &str) -> Cmd {
    let (vmlinuz, modules) = machine::kernel_with_modules().expect("a kernel");
    let cmd = store.rootfs_tool().words("boot --kvm off").limit(Duration::from_secs(200));
    let cmd = if flags.contains("--kernel") || flags.contains("--bootfs") {
        cmd
    } else {
        cmd.arg("--kernel").arg(vmlinuz).arg("--modules").arg(modules)
    };
    cmd.words(flags)
}

/// With a script in the image `box`.
fn boot(store: &Store, flags: &str, script: &str) -> Cmd {
    let cmd = with_kernel(store, flags).arg("box");
    if script.is_empty() { cmd } else { cmd.args(["--", "sh", "-c", script]) }
}

/// An error of its own: one line, and 125.
fn refused(out: Output, says: &str) {
    assert_eq!(out.stderr.trim().lines().count(), 1, "one line: {}", out.stderr);
    out.fails(125).complains(says);
}

#[test]
fn the_image_s_command_runs_and_its_code_is_ours() {
    let Some(store) = store() else { return };
    let store = &store;
    let hello = boot(store, "", "").ok();
    assert_eq!((hello.stdout.as_str(), hello.stderr.as_str()), ("hello\n", ""));
    let script = "echo out; echo err >&2; id; pwd; hostname; echo $FROM $A; exit 7";
    // A module that the kernel's command line asks for is loaded, as is one of the recipe.
    let flags = "-u 3:5 -w /tmp -e A=b --hostname box --cpus 2 -m 400m --cmdline init.modules=softdog";
    let out = boot(store, flags, &format!("grep -o ^softdog /proc/modules; {script} # $(nproc)")).fails(7);
    assert_eq!(out.stdout, "softdog\nout\nuid=3 gid=5 groups=5\n/tmp\nbox\nimage b\n");
    assert_eq!(out.stderr, "err\n");
    let many =
        with_kernel(store, "").words("box -- sh -c").arg("echo $#").args((0..3000).map(|n| n.to_string()));
    assert_eq!(many.ok().stdout, "2999\n");
}

#[test]
fn what_is_carried_is_carried_byte_by_byte_up_to_its_end() {
    let Some(store) = store() else { return };
    let store = &store;
    let lines: String = (0..150_000).map(|n| format!("{n}\n")).collect();
    let out = boot(store, "", "cat >/f; cat /f; cat /f >&2; echo the end").stdin(lines.clone()).ok();
    assert!(out.stdout == lines.clone() + "the end\n", "{} of {} bytes", out.stdout.len(), lines.len());
    assert!(out.stderr == lines, "{} of {} bytes", out.stderr.len(), lines.len());
}

#[test]
fn a_command_opens_its_streams_by_name_and_what_it_writes_is_whole() {
    let Some(store) = store() else { return };
    let store = &store;
    let by_name = "echo a >/dev/stdout; echo b >/dev/stderr; cat /dev/stdin; exit 3";
    // Not only root can: the pipes are theirs whose streams they are.
    for flags in ["", "-u 3:5"] {
        let out = boot(store, flags, by_name).stdin("typed").fails(3);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("a\ntyped", "b\n"), "{flags}");
    }
    // In single bytes, then a megabyte at once, and what is written last is nobody's to wait for but init's.
    let script = "seq 1 160000 | head -c 1000000 >/f; dd if=/f bs=1 count=50000 2>/dev/null; cat /f; exec tail -c 60000 /f >&2";
    let lines: String = (1..=160_000).map(|n| format!("{n}\n")).collect();
    let lines = &lines[..1_000_000];
    let out = boot(store, "", script).ok();
    assert!(out.stdout == format!("{}{lines}", &lines[..50_000]), "{} bytes", out.stdout.len());
    assert!(out.stderr == lines[940_000..], "{} bytes", out.stderr.len());
}

#[test]
fn a_command_that_is_killed_or_not_there_ends_as_it_would_in_a_container() {
    let Some(store) = store() else { return };
    let store = &store;
    boot(store, "", "kill -9 $$").fails(137);
    with_kernel(store, "").words("box -- nonexistent").fails(127).complains("nonexistent");
}

#[test]
fn a_machine_that_comes_to_nothing_is_an_error_that_says_why() {
    let Some(store) = store() else { return };
    let store = &store;
    let panic = boot(store, "--cmdline rdinit=/nonexistent", "true").fails(125);
    let last = panic.stderr.trim().lines().last().unwrap_or_default().to_owned();
    assert!(
        last.starts_with("rootfs-tool: the machine ended without an exit code: kernel panic, "),
        "{last}"
    );
    let none = boot(store, "--cmdline init.modules=no-such", "true").run();
    refused(none, "the machine's init: load modules no-such: ");
    let no_root = boot(store, "--cmdline root=/dev/vdz --cmdline init.wait=1", "true").run();
    refused(no_root, "the machine's init: find /dev/vdz");
    let port = std::net::TcpListener::bind("0.0.0.0:0").expect("bind");
    let taken = port.local_addr().expect("its address").port();
    refused(boot(store, &format!("-p {taken}:80"), "true").run(), "host forwarding rule");
    let before = Instant::now();
    let late = boot(store, "--timeout 1.5", "sleep 1000").fails(137);
    late.complains("its time of 1.5 s was over");
    assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());
}

#[test]
fn ports_and_folders_of_the_host_are_in_the_machine() {
    let Some(store) = store() else { return };
    let store = &store;
    let folder = store.scratch.mkdir("shared");
    store.scratch.write("shared/index.html", "of the host\n");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    let flags = format!("-p 127.0.0.1:{port}:80 -v {0}:/srv -v {0}:/ro:ro", folder.display());
    let script = "echo of the machine >/srv/made; echo x >/ro/made; echo wrote $?; mount -o remount,rw /ro; \
        echo x >/ro/made; echo wrote $?; cat /etc/resolv.conf; exec httpd -f -h /srv";
    let machine = boot(store, &flags, script).spawn();
    let fetch = || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.ends_with("of the host\n").then_some(())
    };
    eventually("the machine serves a page", || fetch().is_some());
    assert_eq!(std::fs::read_to_string(folder.join("made")).expect("what it wrote"), "of the machine\n");
    machine.signal(Signal::SIGTERM);
    let out = machine.wait(Duration::from_secs(60)).expect("it ends");
    assert_eq!(out.stdout, "wrote 1\nwrote 1\nnameserver 10.0.2.3\n");
    assert_eq!(out.code(), 128 + Signal::SIGUSR1 as i32, "by the image's stop signal: {}", out.stderr);
}

/// The emulators that were told of this machine by name, and what serves this folder to it.
fn emulators(name: &str, folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let line = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let names = all.filter_map(|e| e.file_name().into_string().ok());
    names
        .filter(|pid| {
            let line = String::from_utf8_lossy(&line(pid)).into_owned();
            let source = format!("source={}", folder.display());
            line.starts_with("/usr/bin/qemu") && line.contains(name) || line.contains(&source)
        })
        .collect()
}

#[test]
fn the_power_button_is_pressed_for_a_signal_and_no_machine_outlives_its_program() {
    let Some(store) = store() else { return };
    let store = &store;
    let stopped =
        boot(store, "", "trap 'echo stopping; exit 3' USR1; echo ready; while :; do sleep 0.1; done").spawn();
    stopped.wait_for("ready");
    stopped.signal(Signal::SIGINT);
    let out = stopped.wait(Duration::from_secs(60)).expect("it ends");
    assert_eq!((out.code(), out.stdout.as_str()), (3, "ready\nstopping\n"), "{}", out.stderr);

    let name = format!("coracle.test={}", std::process::id());
    let (folder, temp) = (store.scratch.mkdir("served"), store.scratch.mkdir("temp"));
    let flags = format!("--cmdline {name} -v {}:/served", folder.display());
    let killed = boot(store, &flags, "echo ready; sleep 1000").env("TMPDIR", &temp).spawn();
    killed.wait_for("ready");
    let by = emulators(&name, &folder).len();
    assert!(by > 1, "the emulator and what serves the folder: {by}");
    killed.signal(Signal::SIGKILL);
    killed.wait(Duration::from_secs(20)).expect("it ends");
    eventually("the emulator and what serves it are gone", || emulators(&name, &folder).is_empty());
    assert_eq!(std::fs::read_dir(&temp).expect("list").count(), 0, "no file of it is left");
    // What serves a folder is the first to know why it cannot.
    let path = store.scratch.mkdir("path");
    Cmd::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path.join("virtiofsd"))
        .stdin("#!/bin/sh\necho it is broken >&2\nexit 1\n")
        .ok();
    let first = format!("{}:{}", path.display(), std::env::var("PATH").expect("PATH"));
    let broken = boot(store, &flags, "true").env("PATH", first).run();
    refused(broken, "virtiofsd: it is broken");
}

#[test]
fn one_bootfs_boots_different_systems() {
    let Some(store) = store() else { return };
    let store = &store;
    let (vmlinuz, modules) = machine::kernel_with_modules().expect("a kernel");
    let bootfs =
        || store.rootfs_tool().arg("bootfs").arg("--kernel").arg(&vmlinuz).arg("--modules").arg(&modules);
    bootfs().ok();
    let id = store.image_id("bootfs");
    // This machine's own programs and C library, and busybox, which has none.
    store.compose("shell");
    let script = "cat /proc/1/comm; uname -r";
    let own = with_kernel(store, "--bootfs bootfs").words("shell -- sh -c").arg(script).ok();
    let other = boot(store, "--bootfs bootfs", script).ok();
    assert_eq!(own.stdout, other.stdout);
    assert!(own.stdout.starts_with("init\n"), "{}", own.stdout);
    bootfs().ok();
    assert_eq!(store.image_id("bootfs"), id);
    // It is pulled like any image.
    if need(Privilege::Peer("docker-registry")) {
        let registry = Registry::plain();
        let name = registry.name("bootfs:1");
        store.rootfs_tool().args(["tag", "bootfs", &name]).ok();
        store.rootfs_tool().args(["push", &name]).ok();
        store.rootfs_tool().args(["rmi", &name, "bootfs"]).ok();
        boot(store, &format!("--dry-run --bootfs {name}"), "true").ok();
        assert_eq!(store.image_id(&name), id);
    }
}

#[test]
fn the_root_is_a_file_system_on_a_disk_where_that_is_asked_for() {
    let Some(store) = store() else { return };
    let store = &store;
    let script = "echo x >/written && cat /written; grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f3; \
        cat /sys/block/vda/ro; exit 5";
    for root in ["squashfs", "erofs", "ext4"] {
        let out = boot(store, &format!("--root {root}"), script).fails(5);
        assert_eq!(out.stdout, "x\noverlay\n1\n", "{root}: {}", out.stderr);
    }
}

#[test]
fn a_command_with_the_console_has_a_terminal() {
    let Some(store) = store() else { return };
    let store = &store;
    let out =
        boot(store, "-t", "tty; stty -g >/dev/null && echo settings; read line; echo \"got $line\"; exit 4");
    let out = out.stdin("typed\n").fails(4);
    assert!(out.stdout.contains("settings\r\n") && out.stdout.contains("got typed\r\n"), "{}", out.stdout);
    assert!(out.stdout.contains("/dev/"), "{}", out.stdout);
}

#[test]
fn what_cannot_be_booted_is_refused_in_one_line_before_anything_starts() {
    let Some(store) = store() else { return };
    let store = &store;
    for (flags, says) in [
        ("--kvm maybe", "--kvm \"maybe\""),
        ("-p 80", "HOST:GUEST"),
        ("-v /etc/passwd:/x", "is no folder"),
        ("-v /nonexistent:/x", "/nonexistent"),
        ("-v /etc:/", "it is DIR:/TARGET"),
        ("-m 1", "64M at least"),
        ("-m 512mx", "--memory 512mx: a size is"),
        ("--cpus 0", "--cpus 0: a machine has 1, 2 or more processors"),
        ("--cpus 1.5", "--cpus 1.5: "),
        ("--cpus many", "--cpus many: "),
        ("-v data:/x", "-v \"data:/x\": there is no folder \"data\" here"),
        ("-v /etc:/x:z", "-v \"/etc:/x:z\": it is DIR:/TARGET"),
        // What users of docker and QEMU type.
        ("-it --rm --name x", "unknown flag: --name: a machine is called by its --hostname"),
        ("--smp=2", "unknown flag: --smp: processors are --cpus"),
        ("-smp 2", "unknown flag: -smp: processors are --cpus"),
        ("-d", "unknown flag: -d: a machine runs as long as this program"),
        ("-P", "unknown flag: -P: ports are named one by one"),
        ("--mount type=bind,src=/etc,dst=/x", "unknown flag: --mount: a folder is shared by -v"),
        ("-append quiet", "unknown flag: -append: words for the kernel are --cmdline"),
        ("-nographic", "unknown flag: -nographic: the console is"),
        ("--privileged", "unknown flag: --privileged: that is for containers"),
        ("--timeout 0", "above 0"),
        ("--network lan", "user or none"),
        ("--network none -p 1:2", "-p does not go with it"),
        ("--root btrfs", "it is initramfs, squashfs, erofs or ext4"),
        ("--kernel /dev/null", "/dev/null"),
        ("--kernel host --modules /lib", "--modules goes with --kernel FILE"),
        ("--kernel package --bootfs x", "it is one or the other"),
        ("--bootfs localhost/gone:1", "localhost/gone:1"),
        ("--bootfs box", "it is no bootfs"),
        ("--init /nonexistent", "/nonexistent"),
        ("--init /etc/passwd", "is no program"),
        ("-u nobody-here", "nobody-here"),
        ("--frobnicate", "unknown flag: --frobnicate"),
    ] {
        refused(boot(store, flags, "true").run(), says);
    }
    let late = store.rootfs_tool().words("boot box --kvm off").run();
    refused(late, "--kvm is behind the image, where the command stands");
    let (vmlinuz, modules) = machine::kernel_with_modules().expect("a kernel");
    let kernel = std::fs::read(&vmlinuz).expect("read");
    let mut of_arm = vec![0; 0x1000];
    of_arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    of_arm[0x100..0x11d].copy_from_slice(b"Linux version 6.12.9-arm64 x\n");
    for (content, says) in [
        (&kernel[..kernel.len() / 2], format!("it is cut off: it has {} bytes of ", kernel.len() / 2)),
        (&kernel[..0x300], "it is cut off: it has 768 bytes of ".to_owned()),
        (&kernel[0x400..0x20000], "it is no kernel".to_owned()),
        (b"<html><title>404 Not Found</title></html>", "it is no kernel".to_owned()),
        (b"", "it is no kernel".to_owned()),
        (&of_arm, "is for arm64, and the image for amd64".to_owned()),
    ] {
        let file = store.scratch.write("kernel", content);
        refused(boot(store, &format!("--kernel {}", file.display()), "true").run(), &says);
    }
    let file = vmlinuz.display();
    for (dir, says) in
        [("/etc", "\"/etc\" has no *.ko"), ("/nonexistent", "/nonexistent"), ("/etc/passwd", "/etc/passwd")]
    {
        refused(boot(store, &format!("--kernel {file} --modules {dir}"), "true").run(), says);
    }
    // The folder of folders of modules, and the one above, will do.
    for dir in modules.ancestors().skip(1).step_by(2).take(2) {
        boot(store, &format!("--dry-run --kernel {file} --modules {}", dir.display()), "true").ok();
    }
    let long = format!("--cmdline init.env=A={}", "x".repeat(2100));
    refused(boot(store, &long, "true").run(), "2047 are the most");
    for (flags, word) in [
        ("-p 8080:80", "hostfwd=tcp::8080-:80"),
        ("-it --rm", "accel=tcg"),
        ("-m 512", "-m 512M "),
        ("-m 512m", "-m 512M "),
        ("-m 512mb", "-m 512M "),
        ("--memory=1.5g", "-m 1536M "),
        ("-m 1073741824", "-m 1024M "),
        ("--cpus=3", "-smp 3 "),
    ] {
        let line = boot(store, &format!("--dry-run {flags}"), "true").ok().stdout;
        assert!(line.contains(word), "{flags}: {line}");
    }
}

#[test]
fn a_file_in_an_image_s_place_is_refused_with_the_command_that_boots_it() {
    let store = Store::new("boot-file");
    let scratch = &store.scratch;
    for (name, says) in [
        ("disk.img", "-bios /usr/share/ovmf/OVMF.fd -drive if=virtio,format=raw,file=./disk.img boots it"),
        ("a,b.qcow2", "-drive if=virtio,format=qcow2,file=./a,,b.qcow2 boots it"),
        ("Live CD.iso", "-cdrom './Live CD.iso' boots it"),
        ("image.tar.gz", "rootfs-tool load -i ./image.tar.gz"),
    ] {
        scratch.write(name, "");
        let path = format!("./{name}");
        let out = store.rootfs_tool().arg("boot").arg(&path).dir(scratch.path()).run();
        assert!(
            out.stderr.starts_with(&format!("rootfs-tool: boot {path:?}: it is a file")),
            "{}",
            out.stderr
        );
        refused(out, says);
        // The runner hands it over.
        refused(store.runner().arg("boot").arg(&path).dir(scratch.path()).run(), says);
    }
}
