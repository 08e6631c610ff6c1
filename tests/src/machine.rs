//! Machines that tests boot: Debian's cloud kernel in an emulator, with an initramfs of busybox and our programs, and a
//! script of `tests/boot` as its first process. Each line `CHECK ok NAME` of its console is a check that was passed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::{Cmd, Privilege, Scratch, binaries, need, peer, workspace};

const TOOLS: &str = "sh mount mkdir cp ln switch_root sed grep cat ls sleep kill tr rm chmod chown su find poweroff head \
    umount rmdir insmod sort cmp sync df awk wc stat dd readlink tail";

/// What each script says first.
const STARTED: &str = "STARTED";

/// A machine that is switched off.
pub struct Machine {
    kernel: PathBuf,
    image: PathBuf,
    disk: Option<PathBuf>,
}

/// The kernel that machines of tests are booted with.
pub fn kernel() -> Option<PathBuf> {
    fetched("vmlinuz")
}

/// The kernel and these modules of it, or none where there is a file missing: then it is said, or required.
pub(crate) fn all_fetched(names: &[&str], what: &str) -> Option<Vec<PathBuf>> {
    names.iter().map(|name| fetched(name).or_else(|| missing(name, what))).collect()
}

/// Nothing, which is said, or required.
fn missing<T>(name: &str, what: &str) -> Option<T> {
    let required = std::env::var("REQUIRE_ALL").is_ok_and(|v| !matches!(v.as_str(), "" | "0"));
    assert!(!required, "REQUIRE_ALL is set and there is no {name} to boot (tests/needs fetches it)");
    eprintln!("skipped: {what}: no {name} to boot (tests/needs fetches it)");
    None
}

/// The same with the folder of its modules.
pub fn kernel_with_modules() -> Option<(PathBuf, PathBuf)> {
    let kernel = fetched("vmlinuz")?;
    let modules = std::fs::read_dir(kernel.with_file_name("lib/modules")).ok()?.flatten().next()?.path();
    Some((kernel, modules))
}

/// The same for a test that cannot do without: missing, it is listed as skipped or fails.
#[track_caller]
pub fn need_kernel() -> Option<(PathBuf, PathBuf)> {
    kernel_with_modules().or_else(|| missing("kernel", "a machine"))
}

/// A file beside the kernel that `make test` fetched, or the kernel that `$CORACLE_TEST_KERNEL` names.
fn fetched(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CORACLE_TEST_KERNEL").filter(|v| !v.is_empty()).map(PathBuf::from);
    let kernel = named.unwrap_or_else(|| workspace().join("target/test-kernel/vmlinuz"));
    let file = kernel.with_file_name(if name == "vmlinuz" { kernel.file_name()?.to_str()? } else { name });
    file.is_file().then_some(file)
}

/// What an emulator's console says, line by line, until it is closed.
pub fn lines(qemu: &mut Child) -> Receiver<String> {
    let (send, lines) = std::sync::mpsc::channel();
    let output = BufReader::new(qemu.stdout.take().expect("its console"));
    std::thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            let _ = send.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    lines
}

/// Make an initramfs of a tree.
pub(crate) fn pack(root: &Path, image: &Path) {
    let busybox = peer("busybox").expect("busybox");
    let pack = "cd \"$1\" && find . | \"$0\" cpio -o -H newc >\"$2\"";
    crate::Cmd::new("sh").args(["-c", pack]).arg(busybox).arg(root).arg(image).ok();
}

/// Longer than any step of a script takes.
const SILENCE: Duration = Duration::from_secs(120);

impl Machine {
    /// One whose first process is this script, with these files of the fetched kernel in its root; none where it cannot be
    /// booted here.
    pub fn new(scratch: &Scratch, script: &str, modules: &[&str]) -> Option<Self> {
        // What is inside does not depend on who boots it, and one boot takes long enough.
        if !need(Privilege::Root)
            || !need(Privilege::Peer("qemu-system-x86_64"))
            || !need(Privilege::Peer("busybox"))
        {
            return None;
        }
        let root = scratch.mkdir("initramfs");
        let kernel = all_fetched(&["vmlinuz"], script)?.remove(0);
        for (name, file) in modules.iter().zip(all_fetched(modules, script)?) {
            std::fs::copy(file, root.join(name)).expect("copy a module");
        }
        let busybox = peer("busybox").expect("busybox");
        let bin = scratch.mkdir("initramfs/bin");
        scratch.mkdir("initramfs/new");
        scratch.mkdir("initramfs/dev");
        for (from, name) in [
            (busybox.clone(), "busybox"),
            (binaries::runner(), "runner"),
            (binaries::rootfs_tool(), "rootfs-tool"),
        ] {
            std::fs::copy(from, bin.join(name)).expect("copy a program");
        }
        for tool in TOOLS.split_whitespace() {
            std::os::unix::fs::symlink("busybox", bin.join(tool)).expect("link a tool");
        }
        let script = workspace().join("tests/boot").join(script);
        crate::Cmd::new("install").args(["-m", "755"]).arg(script).arg(root.join("init")).ok();
        let machine = Self { kernel, image: scratch.join("initramfs.cpio"), disk: None };
        pack(&root, &machine.image);
        Some(machine)
    }

    /// With a disk, whose content it keeps.
    pub fn with_disk(mut self, disk: PathBuf) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Boot it with further words for the kernel. It runs until it is switched off; or until the check `cut` was passed, when
    /// its power is cut. What its console said.
    ///
    /// The emulator hangs in the firmware or in the kernel's first steps once in some hundred times, and more seldom loses the
    /// machine's clock: one whose first process has not said `STARTED`, or that then says nothing for long, is switched off and
    /// on again with the disk of before, twice at most.
    #[track_caller]
    pub fn boot(&self, words: &str, cut: Option<&str>) -> Console {
        let before = self.disk.as_ref().map(|disk| (disk, disk.with_extension("before")));
        let copy =
            |from: &Path, to: &Path| drop(Cmd::new("cp").arg("--sparse=always").arg(from).arg(to).ok());
        if let Some((disk, before)) = &before {
            copy(disk, before);
        }
        for _ in 0..2 {
            let (console, whole) = self.switch_on(words, cut);
            if whole {
                return console;
            }
            eprintln!("the machine stood still, and is started again:\n{}", console.0.join("\n"));
            if let Some((disk, before)) = &before {
                copy(before, disk);
            }
        }
        self.switch_on(words, cut).0
    }

    /// What it said, and whether it was started and did not stand still.
    fn switch_on(&self, words: &str, cut: Option<&str>) -> (Console, bool) {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1536", "-smp", "1"]);
        command.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.image);
        let line = format!("console=ttyS0 quiet loglevel=0 panic=-1 cgroup_no_v1=all {words}");
        command.args(["-append", &line]);
        if let Some(disk) = &self.disk {
            command.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", disk.display()));
            command.args(["-device", "nvme,drive=disk,serial=disk"]);
        }
        let mut qemu = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start qemu");
        let lines = lines(&mut qemu);
        let mut end = Instant::now() + Duration::from_secs(90);
        let (mut console, mut whole) = (Console(Vec::new()), false);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(left.min(SILENCE)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    whole &= left < SILENCE;
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let over = cut.is_some_and(|cut| line.ends_with(&format!("CHECK ok {cut}")));
            if line.ends_with(STARTED) {
                end = Instant::now() + Duration::from_secs(400);
                whole = true;
            }
            console.0.push(line);
            if over {
                break;
            }
        }
        // A machine that was switched off has ended; of any other the power goes now.
        let _ = qemu.kill();
        let _ = qemu.wait();
        (console, whole)
    }
}

/// What a machine has said.
pub struct Console(Vec<String>);

impl Console {
    /// So many checks were made, the last one is this, and all were passed.
    #[track_caller]
    pub fn passed(&self, checks: usize, last: &str) {
        // The firmware leaves its own last line open.
        let check = |l: &String| l.find("CHECK").map(|at| l[at..].to_owned());
        let lines: Vec<String> = self.0.iter().filter_map(check).collect();
        let failed = lines.iter().any(|l| !l.starts_with("CHECK ok ") && l != "CHECKS DONE");
        assert!(
            !failed && lines.len() == checks && lines.last().is_some_and(|l| l == last),
            "{} checks:\n{}",
            lines.len(),
            self.0.join("\n")
        );
    }
}
