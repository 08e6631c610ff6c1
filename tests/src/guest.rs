//! Machines whose first process is our init: its ports, its console, its disks, and what people do to a machine.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{all_fetched, lines, pack};
use crate::{Privilege, Scratch, binaries, need, peer};

/// What the ports need, in the order of loading.
const MODULES: [&str; 6] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_console",
];
const PORTS: [&str; 3] = ["exit", "stdout", "stderr"];

/// What is done when the console has said something.
#[derive(Clone, Copy)]
pub enum Do {
    /// Keys, typed on the console.
    Type(&'static str),
    /// A command of the emulator's monitor.
    Monitor(&'static str),
    /// The power is cut.
    Cut,
}

/// A machine that is switched off.
pub struct Guest {
    dir: PathBuf,
    kernel: PathBuf,
    modules: Vec<PathBuf>,
    arguments: Vec<OsString>,
    answers: Vec<(&'static str, Do)>,
    streams: bool,
}

/// What it has said.
#[derive(Debug)]
pub struct Said {
    /// Its console.
    pub console: String,
    /// The port that its end is told on.
    pub exit: String,
    /// CMD's standard output, where that is a port.
    pub stdout: String,
    /// CMD's standard error, likewise.
    pub stderr: String,
    /// It was switched off, by itself or by cutting its power.
    pub ended: bool,
}

impl Guest {
    /// One with a static busybox, this boot.conf, and these modules besides those of its ports; none where it cannot be
    /// booted here.
    pub fn new(scratch: &Scratch, name: &str, conf: &str, modules: &[&str]) -> Option<Self> {
        // What is inside does not depend on who boots it, and one boot takes long enough.
        let needed = [Privilege::Root, Privilege::Peer("qemu-system-x86_64"), Privilege::Peer("busybox")];
        if !needed.into_iter().all(need) {
            return None;
        }
        let kernel = all_fetched(&["vmlinuz"], name)?.remove(0);
        let files: Vec<String> = MODULES.iter().chain(modules).map(|name| format!("{name}.ko")).collect();
        let modules = all_fetched(&files.iter().map(String::as_str).collect::<Vec<_>>(), name)?;
        let dir = scratch.mkdir(name);
        let guest = Self { dir, kernel, modules, arguments: Vec::new(), answers: Vec::new(), streams: true };
        guest.folder("dev").folder("tmp").folder("lib/modules");
        tools(&guest.tree());
        let guest = guest.file("etc/coracle/boot.conf", conf);
        std::fs::copy(binaries::init(), guest.tree().join("init")).expect("copy init");
        let mut list = String::new();
        for module in &guest.modules {
            let name = module.file_name().expect("its name").to_str().expect("a plain name");
            std::fs::copy(module, guest.tree().join("lib/modules").join(name)).expect("copy a module");
            list += &format!("/lib/modules/{name}\n");
        }
        Some(guest.file("etc/coracle/modules", list))
    }

    /// The tree of its initramfs.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn folder(&self, name: &str) -> &Self {
        std::fs::create_dir_all(self.tree().join(name)).expect("make a folder");
        self
    }

    /// With a file in its initramfs, which can be executed.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        put(&self.tree().join(name), content);
        self
    }

    /// With a disk, whose content it keeps.
    pub fn disk(self, disk: &Path) -> Self {
        let nth = self.arguments.len();
        let drive = format!("if=none,id=disk{nth},format=raw,file={}", disk.display());
        self.argument("-drive")
            .argument(drive)
            .argument("-device")
            .argument(format!("nvme,drive=disk{nth},serial={nth}"))
    }

    /// With a word for the emulator.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With the console for CMD's streams.
    pub fn without_streams(mut self) -> Self {
        self.streams = false;
        self
    }

    /// When its console says this, do that.
    pub fn when(mut self, says: &'static str, what: Do) -> Self {
        self.answers.push((says, what));
        self
    }

    /// Boot it with further words for the kernel, and wait until it is switched off.
    ///
    /// The emulator hangs in the firmware or in the kernel's first steps once in some hundred times, or has its timer come too late
    /// for the kernel on a busy host: a machine that has told nothing on its port is switched off and on again, twice at most.
    pub fn boot(&self, words: &str) -> Said {
        pack(&self.tree(), &self.dir.join("initramfs"));
        let mut said = self.switch_on(words);
        for _ in 0..2 {
            if said.ended && !said.console.contains("Kernel panic") || !said.exit.is_empty() {
                break;
            }
            eprintln!("the machine told nothing:\n{}", said.console);
            said = self.switch_on(words);
        }
        said
    }

    fn switch_on(&self, words: &str) -> Said {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "256", "-smp", "1"]);
        command.args([
            "-nographic",
            "-no-reboot",
            "-nodefaults",
            "-serial",
            "stdio",
            "-device",
            "virtio-serial-pci",
        ]);
        let monitor = self.dir.join("monitor");
        let _ = std::fs::remove_file(&monitor);
        command.arg("-monitor").arg(format!("unix:{},server,nowait", monitor.display()));
        for port in PORTS.iter().take(if self.streams { 3 } else { 1 }) {
            command.arg("-chardev").arg(format!("file,id={port},path={}", self.dir.join(port).display()));
            command.arg("-device").arg(format!("virtserialport,chardev={port},name=coracle.{port}"));
        }
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.dir.join("initramfs"));
        command.args(["-append", &format!("console=ttyS0 quiet loglevel=1 panic=-1 {words}")]);
        command.args(&self.arguments);
        let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start qemu");
        let (console, ended) = self.attend(&mut qemu, &monitor);
        let _ = qemu.kill();
        let _ = qemu.wait();
        let read = |port: &str| {
            String::from_utf8_lossy(&std::fs::read(self.dir.join(port)).unwrap_or_default()).into_owned()
        };
        Said { console, exit: read("exit"), stdout: read("stdout"), stderr: read("stderr"), ended }
    }

    /// Read its console and answer it.
    fn attend(&self, qemu: &mut Child, monitor: &Path) -> (String, bool) {
        let lines = lines(qemu);
        let mut keys = qemu.stdin.take().expect("its keys");
        let mut console = String::new();
        let mut answers = self.answers.iter();
        let mut next = answers.next();
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return (console, true),
                Err(_) => return (console, false),
            };
            console += &(line.clone() + "\n");
            let Some((_, what)) = next.filter(|(says, _)| line.contains(says)) else { continue };
            match what {
                Do::Type(text) => keys.write_all(text.as_bytes()).expect("type"),
                Do::Monitor(text) => {
                    let mut monitor = UnixStream::connect(monitor).expect("the monitor");
                    monitor.write_all(format!("{text}\n").as_bytes()).expect("tell the monitor");
                    // It reads what is there before it sees that nobody is left.
                    std::thread::sleep(Duration::from_millis(200));
                }
                Do::Cut => return (console, true),
            }
            next = answers.next();
        }
    }
}

impl Said {
    /// So its port was told.
    #[track_caller]
    pub fn told(&self, text: &str) -> &Self {
        assert!(self.exit == text && self.ended, "{self:#?}");
        self
    }

    /// Each of these checks of its own was passed, and no other was made: lines `ok NAME` of CMD's standard output.
    #[track_caller]
    pub fn passed(&self, names: &[&str]) -> &Self {
        let lines: Vec<&str> = self.stdout.lines().collect();
        let expected: Vec<String> = names.iter().map(|name| format!("ok {name}")).collect();
        assert!(lines == expected, "{self:#?}");
        self
    }
}

/// A folder with a static busybox and all its names.
pub fn tools(tree: &Path) {
    let busybox = peer("busybox").expect("busybox");
    std::fs::create_dir_all(tree.join("bin")).expect("make a folder");
    std::fs::copy(&busybox, tree.join("bin/busybox")).expect("copy busybox");
    let names = crate::Cmd::new(&busybox).arg("--list").ok();
    for name in names.text().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).expect("link a tool");
    }
}

/// Write a file that can be executed, and the folders that it is in.
pub fn put(path: &Path, content: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().expect("its folder")).expect("make a folder");
    std::fs::write(path, content).expect("write a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("let it be executed");
}
