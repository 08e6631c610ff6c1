//! From the emulator's start to the command, under one kernel after another first process: none at all, a program that does
//! what no machine can do without, ours, busybox's init and systemd; and the memory that is taken by then. Each has the
//! initramfs that it needs, made by `rootfs-tool pack`.
//!
//! Two measures, of which the difference to the kernel alone counts. Seconds of software emulation are mostly the translation of
//! code that runs for the first time, some twenty microseconds for each block of it. So each is booted once more with a clock that
//! goes by instructions, two nanoseconds for each: that is nearer to what a processor takes, and the same each time.

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
    /// In microseconds, by the clock that goes by instructions.
    counted: u64,
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
        ("the same steps", steps(&store, &up), "rdinit=/init"),
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
            Some(Machine { name, initrd, words, times: Vec::new(), counted: 0, memory: Vec::new() })
        })
        .collect();
    for _ in 0..ROUNDS {
        for machine in &mut field {
            let (took, said) = machine.boot(&kernel, &[]);
            machine.times.push(took);
            machine.memory.extend(said.first());
        }
    }
    for machine in &mut field {
        let (_, said) = machine.boot(&kernel, &["-icount", "shift=1,sleep=off"]);
        machine.counted = said.get(1).copied().unwrap_or_default();
    }
    print(&field);
}

impl Machine {
    /// How long it took, and what the command said.
    fn boot(&self, kernel: &Path, further: &[&str]) -> (Duration, Vec<u64>) {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot"]);
        command
            .args(["-nodefaults", "-serial", "stdio", "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(&self.initrd);
        command.args(further);
        command.args(["-append", &format!("console=ttyS0 quiet loglevel=0 panic=-1 {}", self.words)]);
        let begin = Instant::now();
        let mut qemu = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start qemu");
        let lines =
            BufReader::new(qemu.stdout.take().expect("its console")).split(b'\n').map_while(Result::ok);
        let mut lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        let said = lines.find_map(|line| line.split_once("UP ").map(|(_, numbers)| numbers.to_owned()));
        let took = begin.elapsed();
        let _ = qemu.kill();
        let _ = qemu.wait();
        let said = said.unwrap_or_else(|| panic!("{} has not come up", self.name));
        (took, said.split_whitespace().flat_map(str::parse).collect())
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

fn steps(store: &Store, up: &Path) -> Option<PathBuf> {
    let steps = store.scratch.join("steps");
    rootfs::compile(include_str!("steps.c"), &steps)?;
    let image = Image::busybox()?;
    install(&image, up, "up");
    install(&image, &steps, "init");
    let _image = image.compose(store, "steps");
    Some(pack(store, "steps"))
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
    let counted = field.first().map_or(0, |m| m.counted) as f64;
    println!(
        "{:<14} {:>10} {:>12} {:>13} {:>12} {:>8}",
        "", "median ms", "over kernel", "by count ms", "memory kB", "boots"
    );
    for machine in field {
        let took = median(machine.times.clone());
        let mut memory = machine.memory.clone();
        memory.sort_unstable();
        println!(
            "{:<14} {:>10.0} {:>12.0} {:>13.1} {:>12} {:>8}",
            machine.name,
            took.as_secs_f64() * 1e3,
            (took.as_secs_f64() - base.as_secs_f64()) * 1e3,
            (machine.counted as f64 - counted) / 1e3,
            memory.get(memory.len() / 2).copied().unwrap_or(0),
            machine.times.len()
        );
    }
}
