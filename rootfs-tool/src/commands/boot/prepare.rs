//! What a machine needs before it is switched on: the image's config as the runner sees it, the kernel, init, and what is
//! unpacked into memory.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use coracle_store::image::Platform;
use coracle_store::{Locations, Store};
use coracle_sys::process::Status;
use coracle_sys::program;
use coracle_sys::{Context, Error, Kind, Result, terminal};
use serde_json::Value;

use super::super::config_json;
use super::{Boot, Typed, hints, root};
use crate::boot::conf::{self, Beside};
use crate::boot::initrd;
use crate::boot::kernel::{Kernel, VMLINUZ, fitting};
use crate::boot::modules::Modules;
use crate::boot::qemu::{Accel, Arch, Machine, Wires, quoted};
use crate::boot::run::{Job, Kvm};
use crate::boot::share::{self, Servers};
use crate::recipe;

/// The exit code where another program has said what is wrong.
pub(super) const TOLD: u8 = 125;

/// The machine's network as QEMU's own has it: address, gateway and name server (qemu-system(1), -netdev user).
const ADDRESS: &str = "10.0.2.15/24,10.0.2.2,10.0.2.3";

/// MiB beside what is unpacked.
const MEMORY: u64 = 512;

/// A machine that can be switched on.
pub(super) struct Ready {
    machine: Machine,
    program: PathBuf,
    files: Vec<OwnedFd>,
    servers: Servers,
    unpacked: u64,
    tty: bool,
    commanded: bool,
}

impl Ready {
    /// The emulator's command line, its words quoted for a shell. The channels have the numbers that they could have.
    pub(super) fn line(&self) -> String {
        let wires = Wires {
            console: 10,
            qmp: 11,
            exit: 12,
            streams: (!self.tty).then_some([13, 14, 15]),
            shares: (16..64).collect(),
        };
        let words = self.machine.words(Accel::Tcg, &wires);
        let quoted = words.iter().map(|word| quoted(word));
        let program = self.program.display().to_string();
        std::iter::once(program).chain(quoted).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn job(&self, typed: &Typed, console: bool) -> Job<'_> {
        Job {
            machine: &self.machine,
            program: &self.program,
            files: &self.files,
            servers: &self.servers,
            kvm: if self.machine.arch.image == Platform::host().architecture { typed.kvm } else { Kvm::Off },
            tty: typed.tty,
            // Services say on the console what they have to say.
            console: console || !self.commanded,
            commanded: self.commanded,
            unpacked: self.unpacked,
            timeout: typed.timeout,
        }
    }
}

/// Make all ready. Nothing where the runner has said why not.
pub(super) fn prepare(boot: &Boot, typed: &Typed, tail: &[OsString]) -> Result<Option<Ready>> {
    let at = Locations::from_env(boot.store.as_deref())?;
    for name in std::iter::once(&boot.image).chain(&boot.bootfs) {
        let Err(e) = Store::open(&at)?.find(name) else { continue };
        if *name == boot.image {
            hints::refuse_file(name)?;
        }
        if e.kind() == Kind::NotFound && !pull(boot, name)? {
            return Ok(None);
        }
    }
    let image = super::super::find(&Store::open(&at)?, &boot.image)?;
    let config = image.config.process();
    let named = boot.entrypoint.as_ref().map(|word| !word.is_empty());
    let entrypoint = named.unwrap_or(config.entrypoint.as_ref().is_some_and(|words| !words.is_empty()));
    hints::refuse_late_flag(tail, entrypoint)?;
    let commanded = !tail.is_empty() || named == Some(true) || config_json::has_command(&image);
    let Some(spec) = spec(boot, typed, commanded, tail)? else { return Ok(None) };
    super::super::enter_user_namespace();
    let mut store = Store::open(&at)?;
    let platform = image.config.platform();
    let arch = Arch::of(&platform.architecture)?;
    let program = program::find(arch.program).ok_or_else(|| {
        Error::not_found(format!(
            "find {}: it is not installed (apt-get install {})",
            arch.program, arch.package
        ))
    })?;
    let source = boot.source();
    let init = source.init(&platform)?;
    let kernel = source.kernel(&mut store, &platform)?;
    let modules = kernel.modules()?;
    let said = recipe::Boot::of(&config.labels.unwrap_or_default())?;
    let virtiofsd = share::virtiofsd();
    let root = nix::unistd::geteuid().is_root();
    let shared = share::plan(&typed.folders, &modules, virtiofsd.as_deref(), root)?;
    let typed_words = [said.cmdline.as_slice(), &boot.cmdline].concat().join(" ");
    let (words, mut asked) = modules.take_asked(&typed_words);
    asked.extend(said.modules);
    let names = needed(&modules, typed, &shared.modules, asked, &kernel)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let loaded = initrd::modules(&kernel, &modules, &names)?;
    let beside = Beside {
        stop_signal: config.stop_signal,
        tty: typed.tty,
        ip: typed.forwards.as_ref().map(|_| ADDRESS.to_owned()),
        mounts: shared.mounts,
        commanded,
        overlay: typed.root.kind().map(|_| "tmpfs"),
    };
    let conf = conf::of(&spec, &beside)?;
    let made = root::make(typed.root, &store, &image, &init, &conf, &loaded)?;
    let vmlinuz = memory(&kernel.bytes(VMLINUZ)?.unwrap_or_default())?;
    let mut cmdline = format!("console={} quiet panic=-1", arch.console);
    let disk = typed.root.kind().map(|kind| format!("root=/dev/vda rootfstype={kind} ro"));
    for words in disk.iter().chain([&words]).filter(|words| !words.is_empty()) {
        cmdline.push(' ');
        cmdline.push_str(words);
    }
    let cmdline = fitting(cmdline, 0)?;
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let machine = Machine {
        arch,
        memory: typed.memory.unwrap_or(MEMORY + 3 * (made.size >> 20)),
        cpus: typed.cpus,
        kernel: path(&vmlinuz),
        initrd: path(&made.initrd),
        cmdline,
        network: typed.forwards.clone(),
        shares: shared.shares.clone(),
        disk: made.disk.as_ref().map(path),
    };
    let servers = Servers { program: virtiofsd, shares: shared.shares };
    Ok(Some(Ready {
        machine,
        program,
        files: [vmlinuz, made.initrd].into_iter().chain(made.disk).collect(),
        servers,
        unpacked: made.size,
        tty: typed.tty,
        commanded,
    }))
}

/// Get an image that is not here. Whether it is now; why not has been said.
fn pull(boot: &Boot, name: &str) -> Result<bool> {
    let mut runner = config_json::runner(boot.store.as_deref(), "pull")?;
    runner.word("--");
    runner.word(name);
    // Standard output is the command's.
    Ok(runner.run([None, Some(terminal::standard_error()), None])? == Status::Exited(0))
}

/// The config.json of the same flags, by the runner. Nothing where it has said why not.
fn spec(boot: &Boot, typed: &Typed, commanded: bool, tail: &[OsString]) -> Result<Option<Value>> {
    let mut runner = config_json::spec(boot.store.as_deref())?;
    let mut flag = |name: &str, value: &str| runner.word(format!("--{name}={value}"));
    boot.env.iter().for_each(|variable| flag("env", variable));
    let single = [
        ("workdir", &boot.workdir),
        ("user", &boot.user),
        ("hostname", &boot.hostname),
        ("entrypoint", &boot.entrypoint),
    ];
    single
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .for_each(|(name, value)| flag(name, value));
    if typed.tty {
        // What a program asks for that finds no size on its terminal: a serial line has none.
        if let Ok((rows, columns)) = terminal::window_size(terminal::standard_output()) {
            flag("env", &format!("LINES={rows}"));
            flag("env", &format!("COLUMNS={columns}"));
        }
        runner.word("-t");
    }
    runner.word("--");
    runner.word(boot.image.as_str());
    tail.iter().for_each(|word| runner.word(word));
    if !commanded {
        runner.word(config_json::NO_COMMAND);
    }
    config_json::made_by(&runner)
}

/// Names of the modules to load. What is known by no name is taken to be in the kernel where it comes without a tree.
fn needed(
    of: &Modules,
    typed: &Typed,
    shared: &[&str],
    asked: Vec<String>,
    kernel: &Kernel,
) -> Result<Vec<String>> {
    if of.is_empty() {
        if kernel.from.starts_with("/boot/vmlinuz-") {
            return Err(Error::not_found(format!(
                "find the modules of {}: there is no /lib/modules/{}",
                kernel.from, kernel.version
            )));
        }
        return Ok(Vec::new());
    }
    let mut names = vec!["virtio_pci", "virtio_console"];
    names.extend(typed.forwards.as_ref().map(|_| "virtio_net"));
    if let Some(kind) = typed.root.kind() {
        names.extend(["virtio_blk", "overlay", kind]);
    }
    names.extend(shared);
    // By these the power button is heard; a machine without them is switched off all the same.
    names.extend(["button", "gpio_keys", "evdev"].into_iter().filter(|name| of.has(name)));
    Ok(names.into_iter().map(str::to_owned).chain(asked).collect())
}

fn memory(bytes: &[u8]) -> Result<OwnedFd> {
    let mut file = program::memory()?;
    file.write_all(bytes).context(|| "write(memfd)")?;
    Ok(file.into())
}
