//! The escape corpus on bundles: a hostile root filesystem, a config.json bent at will, descriptors that the
//! caller leaked. The canary tree on the host is what every trick aims at; it must be neither read nor
//! changed. An ordinary user's bundles have a user namespace.

use std::path::Path;

use coracle_tests::bundle::{Bundle, works};
use coracle_tests::canary::{Canary, file_hash};
use coracle_tests::racer::Racer;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, dist, need, rootfs, rounds};
use serde_json::json;

fn ready_for_bundles() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && works()
}

/// What the kernel would do for whoever writes there: a trick that reaches them changes the machine.
fn kernel_knobs() -> (String, String) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    (read("/proc/sys/kernel/core_pattern"), read("/proc/sys/kernel/sysrq"))
}

/// A line of /proc/self/status in a program's output.
#[track_caller]
fn field<'a>(out: &'a Output, name: &str) -> &'a str {
    let line = out.stdout.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}\n{out}")).trim()
}

fn our_hashes() -> Vec<String> {
    ["init", "runner", "rootfs-tool"].iter().map(|b| file_hash(&dist().join(b))).collect()
}

/// A busybox bundle that runs one line of shell.
fn shell(line: &str) -> Bundle {
    Bundle::busybox(&["sh", "-c", line]).expect("busybox")
}

// CVE-2019-16884
#[test]
fn proc_is_procfs_or_nothing_starts() {
    if !ready_for_bundles() {
        return;
    }
    let fake = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
    let bundle = Bundle::busybox(&["cat", "/proc/self/status"]).expect("busybox").set("/mounts/0", fake);
    let out = bundle.run().run();
    assert!(out.code() != 0 && out.stderr.contains("/proc"), "{out}");
}

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642
#[test]
fn a_proc_or_sys_that_is_a_link_leads_nowhere() {
    if !ready_for_bundles() {
        return;
    }
    for name in ["proc", "sys"] {
        let canary = Canary::new();
        let bundle = Bundle::busybox(&["sh", "-c", "cat /proc/secret /sys/secret; ls /"]).expect("busybox");
        std::fs::remove_dir(bundle.rootfs(name)).expect("remove the folder");
        std::os::unix::fs::symlink(canary.path(), bundle.rootfs(name)).expect("make the link");
        let out = bundle.run().run();
        assert!(out.code() != 0, "{out}");
        canary.assert_unread(&out.stdout);
        canary.assert_untouched();
    }
}

// CVE-2019-19921, as a race
#[test]
fn a_proc_that_is_swapped_for_a_link_leads_nowhere() {
    if !ready_for_bundles() {
        return;
    }
    let (canary, knobs) = (Canary::new(), kernel_knobs());
    let bundle = Bundle::busybox(&["sh", "-c", "cat /proc/secret /evil/secret 2>/dev/null; true"])
        .expect("busybox")
        .set("/linux/sysctl", json!({"kernel.shm_rmid_forced": "1"}));
    std::os::unix::fs::symlink(canary.path(), bundle.rootfs("evil")).expect("make the link");
    let racer = Racer::exchange(bundle.rootfs("proc"), bundle.rootfs("evil"));
    for _ in 0..rounds(30, 1000) {
        canary.assert_unread(&bundle.run().run().stdout);
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
    drop(racer);
    canary.assert_untouched();
    assert_eq!(kernel_knobs(), knobs);
}

// CVE-2025-31133
#[test]
fn masking_never_binds_what_a_false_dev_null_points_at() {
    if !ready_for_bundles() {
        return;
    }
    for target in ["/proc/sys/kernel/core_pattern", "/etc/passwd"] {
        let bundle = Bundle::busybox(&["cat", "/etc/masked"])
            .expect("busybox")
            .edit(|config| {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
            })
            .set("/linux/maskedPaths", json!(["/etc/masked", "/proc/kcore"]));
        std::fs::write(bundle.rootfs("etc/masked"), "plain\n").expect("write a file");
        std::os::unix::fs::symlink(target, bundle.rootfs("dev/null")).expect("make the link");
        let out = bundle.run().run();
        assert_eq!(out.stdout, "", "{out}");
    }
}

// CVE-2025-52881
#[test]
fn a_sysctl_is_written_to_procfs_whatever_is_mounted_there() {
    if !ready_for_bundles() {
        return;
    }
    let knobs = kernel_knobs();
    let scratch = Scratch::new("sysctl");
    let fake = scratch.write("core_pattern", "fake\n");
    let bind = json!({"destination": "/proc/sys/kernel/shm_rmid_forced", "type": "bind",
        "source": "/proc/sys/kernel/core_pattern", "options": ["bind"]});
    let bundle = Bundle::busybox(&["true"])
        .expect("busybox")
        .set("/linux/sysctl", json!({"kernel.shm_rmid_forced": "1"}))
        .set("/mounts/-", bind);
    bundle.run().run();
    assert_eq!(kernel_knobs(), knobs);
    assert_eq!(std::fs::read_to_string(fake).expect("read"), "fake\n");
}

// CVE-2024-45310
#[test]
fn a_mount_point_is_never_made_through_a_link() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    for target in ["/link/made", "/link/sub/made/deep", "/relative/made"] {
        let mount = json!({"destination": target, "type": "tmpfs", "source": "tmpfs"});
        let bundle = Bundle::busybox(&["true"]).expect("busybox").set("/mounts/-", mount);
        let up = format!("../../../../../../../..{}", canary.path().display());
        std::os::unix::fs::symlink(canary.path(), bundle.rootfs("link")).expect("make the link");
        std::os::unix::fs::symlink(up, bundle.rootfs("relative")).expect("make the link");
        bundle.run().run();
        canary.assert_untouched();
    }
}

// CVE-2026-41579, with the image's /dev kept
#[test]
fn a_bundles_dev_that_is_a_link_populates_nothing_outside() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    let bundle = Bundle::busybox(&["true"]).expect("busybox").edit(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
    });
    std::fs::remove_dir(bundle.rootfs("dev")).expect("remove the folder");
    std::os::unix::fs::symlink(canary.path(), bundle.rootfs("dev")).expect("make the link");
    bundle.run().run();
    canary.assert_untouched();
}

// CVE-2021-43784
#[test]
fn a_message_longer_than_sixteen_bits_can_say_overflows_nothing() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    let long = format!("/{}", "a/".repeat(35_000));
    let mount = json!({"destination": long, "type": "bind", "source": canary.path(), "options": ["rbind"]});
    let bundle = Bundle::busybox(&["sh", "-c", "cat /secret /a/secret"]).expect("busybox");
    let out = bundle.set("/mounts/-", mount).run().run();
    assert!(out.code() != 0 && !out.stderr.is_empty(), "{out}");
    canary.assert_unread(&out.stdout);

    let ids: Vec<_> =
        (0..4000).map(|n| json!({"containerID": n, "hostID": 100_000 + n * 2, "size": 1})).collect();
    let bundle = Bundle::busybox(&["cat", "/proc/self/uid_map"]).expect("busybox");
    let bundle = bundle.set("/linux/namespaces/-", json!({"type": "user"}));
    let bundle = bundle.set("/linux/uidMappings", json!(ids)).set("/linux/gidMappings", json!(ids));
    // The kernel takes 340 lines: more are an error of ours or of the kernel's, never the host's identity.
    let out = bundle.run().run();
    assert!(out.code() != 0 && !out.stdout.contains("4294967295"), "{out}");

    let long = "x".repeat(70_000);
    let bundle = Bundle::busybox(&["sh", "-c", "echo ${#LONG}"]).expect("busybox");
    let env = json!([format!("LONG={long}"), "PATH=/bin"]);
    bundle.set("/process/env", env).run().ok().prints("70000");
}

// CVE-2023-6476, CVE-2024-3154
#[test]
fn an_annotation_changes_nothing() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    let status = &["sh", "-c", "cat /proc/self/status; ls /canary"];
    let plain = Bundle::busybox(status).expect("busybox").run().run();
    let annotated = Bundle::busybox(status).expect("busybox").set(
        "/annotations",
        json!({
            "org.systemd.property.ExecStartPre": format!("[('/bin/touch', ['{}/made'])]", canary.path().display()),
            "run.oci.mount_context_type": "rootcontext",
            "run.oci.seccomp_fail_unknown_syscall": "0",
            "run.oci.hooks.stdout": canary.path().join("made"),
            "run.oci.keep_original_groups": "1",
            "io.kubernetes.cri-o.UnifiedCgroup": "memory.max=max",
            "io.podman.annotations.privileged": "TRUE",
        }),
    );
    let out = annotated.run().run();
    assert_eq!(out.code(), plain.code(), "{out}");
    for set in ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Groups"] {
        assert_eq!(field(&out, set), field(&plain, set), "{set}");
    }
    canary.assert_untouched();
}

// crun 1.28 and 1.29
#[test]
fn an_id_is_a_name_and_never_a_path() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    let hostile = ["../../x", "a/b", "/", ".", "..", "", "a\nb", "a b", "ab\u{7f}", "é"];
    for id in
        hostile.iter().map(ToString::to_string).chain([format!("../{}", "x".repeat(300)), "x".repeat(2000)])
    {
        let bundle = Bundle::busybox(&["echo", "started"]).expect("busybox");
        bundle.write();
        let store = Store::new("ids");
        let run = store.runner().arg("run").arg("--bundle").arg(bundle.path()).arg(&id);
        let out = run.run();
        assert!(out.code() != 0 && !out.stdout.contains("started"), "{id:?}: {out}");
    }
    let bundle = Bundle::busybox(&["echo", "started"]).expect("busybox");
    for path in ["../../../outside", "/../../outside", "a/../../b"] {
        let bundle = Bundle::busybox(&["echo", "started"]).expect("busybox");
        bundle.set("/linux/cgroupsPath", json!(path)).run().run();
        for root in ["/sys/fs/cgroup", "/sys/fs"] {
            assert!(!Path::new(root).join("outside").exists(), "{path}");
        }
    }
    bundle.run().ok().prints("started");
    canary.assert_untouched();
}

// CVE-2019-5736
#[test]
fn a_command_that_is_proc_self_exe_reaches_no_binary_of_the_host() {
    if !ready_for_bundles() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let before = our_hashes();
    // It names itself as its own interpreter, for ever: it may fill its container, not the machine.
    let bundle = Bundle::busybox(&["/bin/evil"]).expect("busybox");
    let bundle = match nix::unistd::geteuid().is_root() {
        true => bundle.set("/linux/resources", json!({"pids": {"limit": 200}})),
        false => bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NPROC", "soft": 200, "hard": 200}])),
    };
    std::fs::write(bundle.rootfs("bin/evil"), "#!/proc/self/exe\n").expect("write");
    std::fs::set_permissions(bundle.rootfs("bin/evil"), PermissionsExt::from_mode(0o755)).expect("chmod");
    let out = bundle.run().run();
    assert!(!out.stdout.contains("--bundle"), "the runner ran inside: {out}");
    let overwrite = "for p in /proc/[0-9]*/exe; do echo overwritten > $p; done; echo tried";
    shell(overwrite).run().run().prints("tried");
    assert_eq!(our_hashes(), before);
}

// CVE-2024-21626
#[test]
fn a_working_directory_in_proc_self_fd_never_is_a_leaked_folder_of_the_host() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    for n in 3..64 {
        for cwd in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/sub/..")] {
            let bundle = shell("cat secret ../secret ./*/secret; ls").set("/process/cwd", json!(cwd));
            let out = bundle.run().leak(canary.path(), 3..64).run();
            canary.assert_unread(&out.stdout);
            assert!(!out.stdout.contains("sub"), "{cwd}: {out}");
        }
    }
    canary.assert_untouched();
}

// CVE-2024-21626, the plain half, and CVE-2016-9962
#[test]
fn no_descriptor_of_the_host_is_open_inside() {
    if !ready_for_bundles() {
        return;
    }
    let canary = Canary::new();
    let listing = Bundle::busybox(&["ls", "/proc/self/fd"]).expect("busybox");
    let out = listing.run().leak(canary.path(), 3..64).ok();
    // 3 is the folder that ls itself reads.
    assert_eq!(out.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{out}");
    let reach = shell("cat /proc/[0-9]*/fd/*/secret /proc/[0-9]*/cwd/secret /proc/[0-9]*/root/secret; true");
    let out = reach.run().leak(canary.path(), 3..64).dir(canary.path()).ok();
    canary.assert_unread(&out.stdout);
}

// CVE-2021-3602
#[test]
fn a_variable_of_the_caller_is_seen_in_no_environment_inside() {
    if !ready_for_bundles() {
        return;
    }
    let bundle = shell("cat /proc/[0-9]*/environ | tr '\\0' '\\n'; echo done");
    let out = bundle.run().env("CORACLE_CANARY", "sings").ok().prints("done").prints("PATH=/bin");
    assert!(!out.stdout.contains("CORACLE_CANARY"), "{out}");
}

// CVE-2022-1227
#[test]
fn a_program_of_the_root_filesystem_never_runs_on_the_host() {
    if !ready_for_bundles() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let canary = Canary::new();
    let bundle = Bundle::busybox(&["/bin/busybox", "echo", "started"]).expect("busybox");
    for name in ["init", "runner", "nsenter", "newuidmap", "newgidmap", "mount", "umount", "sh"] {
        let path = bundle.rootfs("bin").join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, format!("#!/bin/busybox sh\ntouch {}/made\n", canary.path().display()))
            .expect("write a trap");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    bundle.run().dir(bundle.rootfs("bin")).ok().prints("started");
    canary.assert_untouched();
}

// CVE-2022-24769, CVE-2022-29162, CVE-2025-27612
#[test]
fn nothing_is_inheritable_that_was_not_asked_for() {
    if !ready_for_bundles() {
        return;
    }
    let out = shell("cat /proc/self/status").run().ok();
    assert_eq!(field(&out, "CapInh"), "0000000000000000");
    assert_eq!(field(&out, "CapAmb"), "0000000000000000");
    assert_eq!(field(&out, "CapBnd"), "00000000a80425fb", "docker's fourteen");
    assert_eq!(field(&out, "NoNewPrivs"), "1");
}

// CVE-2018-10856
#[test]
fn an_ordinary_user_inside_has_no_capability() {
    if !ready_for_bundles() {
        return;
    }
    let bundle = shell("cat /proc/self/status").set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let out = bundle.run().ok();
    assert_eq!(field(&out, "Uid"), "1000\t1000\t1000\t1000");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&out, set), "0000000000000000", "{set}");
    }
}

// GHSA-w2j5, CVE-2022-0811
#[test]
fn one_sysctl_sets_one_sysctl_and_none_of_the_hosts() {
    if !ready_for_bundles() {
        return;
    }
    let knobs = kernel_knobs();
    let hostile = [
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/bin/evil"),
        ("kernel.core_pattern", "|/bin/evil"),
        ("net/../kernel/core_pattern", "|/bin/evil"),
        ("net...kernel.core_pattern", "|/bin/evil"),
        ("net.../kernel/core_pattern", "|/bin/evil"),
        ("kernel.panic", "0"),
        ("vm.swappiness", "60"),
    ];
    for (name, value) in hostile {
        let out = shell("echo started").edit(|c| c["linux"]["sysctl"] = json!({name: value})).run().run();
        assert!(name.starts_with("kernel.shm") || out.code() != 0, "{name}: {out}");
        assert_eq!(kernel_knobs(), knobs, "{name}");
    }
    let host_network = shell("echo started")
        .edit(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.retain(|n| n["type"] != "network");
        })
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "0"}));
    let out = host_network.run().run();
    assert!(out.code() != 0 && !out.stdout.contains("started"), "{out}");
}

// CVE-2021-30465, CVE-2024-45310
#[test]
fn a_mount_target_that_is_swapped_stays_inside() {
    if !ready_for_bundles() {
        return;
    }
    let (canary, shared) = (Canary::new(), Scratch::new("shared"));
    shared.mkdir("swap");
    std::os::unix::fs::symlink(canary.path(), shared.join("link")).expect("make the link");
    let source = Scratch::new("source");
    source.write("file", "mine\n");
    let bind = |from: &Path, to: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "rw"]});
    let bundle = shell("cat /shared/swap/secret /shared/link/secret 2>/dev/null; true")
        .edit(|c| c["mounts"].as_array_mut().expect("mounts").push(bind(shared.path(), "/shared")))
        .edit(|c| {
            c["mounts"].as_array_mut().expect("mounts").push(bind(source.path(), "/shared/swap/made/here"))
        });
    let racer = Racer::exchange(shared.join("swap"), shared.join("link"));
    for _ in 0..rounds(100, 1000) {
        canary.assert_unread(&bundle.run().run().stdout);
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
    drop(racer);
    canary.assert_untouched();
}

// CVE-2017-5226, CVE-2019-10063
#[test]
fn what_a_container_types_is_not_read_by_the_callers_shell() {
    if !ready_for_bundles() || !need(Privilege::Peer("cc")) || !need(Privilege::Peer("script")) {
        return;
    }
    let bundle = Bundle::busybox(&["inject"]).expect("busybox");
    rootfs::compile(INJECT, &bundle.rootfs("bin/inject")).expect("a compiler");
    let command = bundle.run().shown();
    // A shell of the host on a terminal of its own: it reads what was typed there, if anything was.
    let shell = format!("{command}; IFS= read -r -t 1 line; echo \"host read: [$line]\"");
    let out = Cmd::new("script")
        .args(["-qec", &format!("bash -c '{shell}'"), "/dev/null"])
        .env("SHELL", "/bin/sh")
        .run();
    assert!(out.stdout.contains("tried") && out.stdout.contains("host read: []"), "{out}");
}

const INJECT: &str = "
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    const char *line = \"echo injected\\n\";
    int fds[] = {0, 1, 2, open(\"/dev/tty\", O_RDWR), open(\"/dev/console\", O_RDWR)};
    for (int i = 0; i < 5; i++) {
        for (const char *c = line; *c; c++) {
            syscall(SYS_ioctl, fds[i], 0x5412UL, c);
            syscall(SYS_ioctl, fds[i], 0x5412UL | 1UL << 32, c);
        }
        char paste[] = {3, 0};
        syscall(SYS_ioctl, fds[i], 0x541CUL, paste);
        syscall(SYS_ioctl, fds[i], 0x541CUL | 1UL << 32, paste);
    }
    puts(\"tried\");
    return 0;
}";
