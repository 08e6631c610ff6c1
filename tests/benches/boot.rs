//! From the emulator's start to the command, under one kernel after another first process: none at all, ours, busybox's
//! init and systemd; and the memory that is taken by then. Each has the initramfs that it needs, made by
//! `rootfs-tool pack`. Software emulation: what counts is the difference to the kernel alone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle_tests::rootfs::{self, Image};
use coracle_tests::{Cmd, Store, binaries, machine, peer, workspace};

const ROUNDS: usize = 7;

/// One of the field: its initramfs, further words for the kernel, what was measured.
struct Machine {
    name: &'static str,
    initrd: PathBuf,
    words: &'static str,
    times: Vec<Duration>,
    memory: Vec<u64>,
}

fn main() {
    let (Some(kernel), Some(_)) = (machine::kernel(), peer("qemu-system-x86_64")) else {
        println!("left out: boot: no kernel or no qemu-system-x86_64 here");
        return;
    };
    let store = Store::new("bench-boot");
    let up = store.scratch.join("up");
    if rootfs::compile(include_str!("up.c"), &up).is_none() {
        println!("left out: boot: no C compiler");
        return;
    }
    let field = [
        ("kernel alone", alone(&store, &up), "rdinit=/init"),
        ("init", ours(&store, &up), "rdinit=/init"),
        ("busybox init", busybox(&store, &up), "rdinit=/sbin/init"),
        ("systemd", systemd(&store, &up), "rdinit=/lib/systemd/systemd systemd.log_level=err"),
    ];
    let mut field: Vec<Machine> = field
        .into_iter()
        .filter_map(|(name, initrd, words)| {
            let Some(initrd) = initrd else {
                println!("left out: {name}: it cannot be made here");
                return None;
            };
            Some(Machine { name, initrd, words, times: Vec::new(), memory: Vec::new() })
        })
        .collect();
    for _ in 0..ROUNDS {
        for machine in &mut field {
            machine.boot(&kernel);
        }
    }
    print(&field);
}

impl Machine {
    fn boot(&mut self, kernel: &Path) {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot"]);
        command
            .args(["-nodefaults", "-serial", "stdio", "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(&self.initrd);
        command.args(["-append", &format!("console=ttyS0 quiet loglevel=0 panic=-1 {}", self.words)]);
        let begin = Instant::now();
        let mut qemu = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start qemu");
        let lines =
            BufReader::new(qemu.stdout.take().expect("its console")).split(b'\n').map_while(Result::ok);
        for line in lines {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(at) = line.find("UP ") {
                self.times.push(begin.elapsed());
                self.memory.extend(line[at + 3..].trim().parse::<u64>());
                break;
            }
        }
        let _ = qemu.kill();
        let _ = qemu.wait();
    }
}

fn pack(store: &Store, name: &str) -> PathBuf {
    let file = store.scratch.join(format!("{name}.cpio"));
    store.rootfs_tool().args(["pack", "--format", "cpio", name, "-o"]).arg(&file).ok();
    file
}

fn install(image: &Image, program: &Path, to: &str) {
    Cmd::new("install").arg("-D").args(["-m", "755"]).arg(program).arg(image.at(to)).ok();
}

fn alone(store: &Store, up: &Path) -> Option<PathBuf> {
    let image = Image::busybox()?;
    install(&image, up, "init");
    let _image = image.compose(store, "alone");
    Some(pack(store, "alone"))
}

fn ours(store: &Store, up: &Path) -> Option<PathBuf> {
    let image = Image::busybox()?.file("etc/coracle/boot.conf", "arg=/up\n");
    install(&image, up, "up");
    install(&image, &binaries::init(), "init");
    let _image = image.compose(store, "ours");
    Some(pack(store, "ours"))
}

fn busybox(store: &Store, up: &Path) -> Option<PathBuf> {
    let mounts = "#!/bin/sh\nmount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n\
                  mkdir -p /dev/pts /dev/shm /run\nmount -t devpts pts /dev/pts\nmount -t tmpfs shm /dev/shm\n\
                  mount -t tmpfs run /run\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\nip link set lo up\n";
    let image = Image::busybox()?
        .file("etc/inittab", "::sysinit:/etc/rc\n::once:/up\n")
        .script("etc/rc", mounts)
        .link("sbin/init", "/bin/busybox");
    install(&image, up, "up");
    let _image = image.compose(store, "busybox-init");
    Some(pack(store, "busybox-init"))
}

/// Debian's, on what its package needs, with the command as the last unit of the usual target.
fn systemd(store: &Store, up: &Path) -> Option<PathBuf> {
    let recipe = store.scratch.mkdir("systemd");
    let unit = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/up\n[Install]\nWantedBy=multi-user.target\n";
    let text = format!(
        "[[layer]]\ndeb = {{ suite = \"bookworm\", packages = [\"systemd-sysv\"] }}\n\
         [[layer]]\ndir = \"files\"\nmode = \"keep\"\n[layer.link]\n\
         \"etc/systemd/system/multi-user.target.wants/up.service\" = \"../up.service\"\n\
         \"etc/systemd/system/default.target\" = \"/lib/systemd/system/multi-user.target\"\n\
         [layer.file]\n\"etc/systemd/system/up.service\" = '''\n{unit}'''\n"
    );
    std::fs::write(recipe.join("rootfs.toml"), text).expect("write the recipe");
    Cmd::new("install").arg("-D").args(["-m", "755"]).arg(up).arg(recipe.join("files/up")).ok();
    let composed = store.rootfs_tool().arg("compose").arg(&recipe).args(["-q", "-t", "systemd"]);
    let composed = composed.limit(Duration::from_secs(600)).dir(workspace()).run();
    composed.status.success().then(|| pack(store, "systemd"))
}

fn print(field: &[Machine]) {
    let median = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let base = field.first().map(|m| median(m.times.clone())).unwrap_or_default();
    println!("{:<14} {:>10} {:>12} {:>12} {:>8}", "", "median ms", "over kernel", "memory kB", "boots");
    for machine in field {
        let took = median(machine.times.clone());
        let mut memory = machine.memory.clone();
        memory.sort_unstable();
        println!(
            "{:<14} {:>10.0} {:>12.0} {:>12} {:>8}",
            machine.name,
            took.as_secs_f64() * 1e3,
            (took.as_secs_f64() - base.as_secs_f64()) * 1e3,
            memory.get(memory.len() / 2).copied().unwrap_or(0),
            machine.times.len()
        );
    }
}
