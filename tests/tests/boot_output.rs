//! Who reads a machine's output, or does not: what is written is whole or told, and no reader keeps a machine from its end.

use std::time::Duration;

use coracle_tests::{Cmd, Privilege, Store, binaries, machine, need};

/// Starts a program with a pipe as its standard output. `unread`: nobody reads it; `late`: it does not wait, as another of its
/// users has set it (fcntl(2), O_NONBLOCK), and is read after a while. Prints how many bytes came, and the exit code.
const PIPE: &str = r#"
import fcntl, os, subprocess, sys, time
how, program = sys.argv[1], sys.argv[2:]
read, write = os.pipe()
if how == "late":
    fcntl.fcntl(write, fcntl.F_SETFL, fcntl.fcntl(write, fcntl.F_GETFL) | os.O_NONBLOCK)
started = subprocess.Popen(program, stdout=write)
os.close(write)
count = 0
if how == "late":
    time.sleep(10)
    while part := os.read(read, 4096):
        count += len(part)
print(count, started.wait(timeout=150))
"#;

/// Further words: `rootfs-tool boot` of a script in an image of busybox.
fn boot(cmd: Cmd, store: &Store, flags: &str, script: &str) -> Cmd {
    let (vmlinuz, modules) = machine::kernel_with_modules().expect("a kernel");
    let cmd = cmd.arg(binaries::rootfs_tool()).words("boot --kvm off --kernel").arg(vmlinuz);
    let cmd = cmd.arg("--modules").arg(modules).words(flags).args(["box", "--", "sh", "-c", script]);
    cmd.env("CORACLE_STORE", store.locations()).limit(Duration::from_secs(200))
}

fn piped(how: &str) -> Cmd {
    Cmd::new("python3").arg("-c").arg(PIPE).arg(how)
}

fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Root) || !["qemu-system-x86_64", "python3"].iter().all(|p| need(Privilege::Peer(p))) {
        return None;
    }
    machine::need_kernel()?;
    Store::with_box(name)
}

#[test]
fn output_that_nobody_reads_keeps_no_machine_from_its_end() {
    let Some(store) = store("boot-unread") else { return };
    let out = boot(piped("unread"), &store, "--timeout 20", "yes").ok();
    assert_eq!(out.stdout, "0 137\n");
    assert!(out.stderr.contains("its time of 20 s was over"), "{out}");
}

#[test]
fn a_pipe_that_does_not_wait_loses_nothing_and_a_full_disk_is_told() {
    let Some(store) = store("boot-late") else { return };
    let out = boot(piped("late"), &store, "", "head -c 300000 /dev/zero; exit 3").ok();
    assert_eq!(out.stdout, "300000 3\n");
    let full = Cmd::new("sh").args(["-c", "exec \"$@\" >/dev/full", "sh"]);
    let out = boot(full, &store, "", "echo lost");
    out.fails(125).complains("write the machine's output: No space left on device");
}
