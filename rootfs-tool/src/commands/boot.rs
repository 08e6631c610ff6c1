//! `rootfs-tool boot`: from what was typed to a machine that is decided, which [`crate::boot::run`] runs.

mod hints;
mod prepare;
mod root;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Error, Result};

pub(crate) use self::hints::hinted;
use self::root::Root;
use super::source::Source;
use crate::boot::qemu::{Forward, mebibytes};
use crate::boot::run::{self, Kvm};
use crate::boot::share::Folder;

/// Boot an image as a machine in QEMU and run its command there: flags before the image, the command behind it.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "boot",
    example = "rootfs-tool boot shell
rootfs-tool boot shell -- sh -c 'uname -r; id'
rootfs-tool boot -p 8080:80 -v .:/srv:ro nginx",
    note = "The exit code is the command's, 128+n where signal n killed it, and 125 where the machine came to nothing. The
kernel is that of the image bootfs where there is one (rootfs-tool bootfs), else this machine's own. With a
terminal the command has the machine's console as its terminal, and three Ctrl-] within a second end the machine; else its streams are
passed on as they are. SIGINT and SIGTERM press the power button.",
    error_code(125, "the machine could not be started, or ended without an exit code")
)]
#[allow(clippy::struct_excessive_bools)] // switches
pub(crate) struct Boot {
    /// the command has the console as its terminal, as it has by itself on a terminal
    #[argh(switch, short = 't')]
    tty: bool,
    /// the word for --tty=false
    #[argh(switch, long = "no-tty", hidden_help)]
    no_tty: bool,
    /// pass standard input on, which is done anyhow
    #[argh(switch, short = 'i')]
    #[allow(dead_code)] // it is so anyhow
    interactive: bool,
    /// leave nothing of it, as no machine does
    #[argh(switch, hidden_help)]
    #[allow(dead_code)] // it is so anyhow
    rm: bool,
    /// a variable of the command: NAME=VALUE, or NAME to pass it on
    #[argh(option, short = 'e', arg_name = "VARIABLE")]
    env: Vec<String>,
    /// the folder in which the command begins
    #[argh(option, short = 'w', arg_name = "DIR")]
    workdir: Option<String>,
    /// as whom: USER[:GROUP]
    #[argh(option, short = 'u', arg_name = "USER")]
    user: Option<String>,
    /// the machine's name
    #[argh(option, arg_name = "NAME")]
    hostname: Option<String>,
    /// instead of the image's entrypoint
    #[argh(option, arg_name = "WORD")]
    entrypoint: Option<String>,
    /// a port of this machine that leads into the booted one: [IP:]HOST:GUEST[/udp]
    #[argh(option, short = 'p', arg_name = "PORT")]
    publish: Vec<String>,
    /// a folder of this machine in the booted one: DIR:/TARGET[:ro]
    #[argh(option, short = 'v', arg_name = "FOLDER")]
    volume: Vec<String>,
    /// user, which reaches out through this machine, or none
    #[argh(option, arg_name = "WORD")]
    network: Option<String>,
    /// memory, such as 512, which is of MiB, or 2g; by itself what the image takes and half a gibibyte
    #[argh(option, short = 'm', arg_name = "SIZE")]
    memory: Option<String>,
    /// processors, 1 if not said
    #[argh(option, arg_name = "NUMBER")]
    cpus: Option<String>,
    /// the kernel: a file, package, host, or bootfs for that of the image bootfs
    #[argh(option, arg_name = "FILE|WORD")]
    kernel: Option<String>,
    /// of --kernel FILE: the folder of its modules, instead of /lib/modules/VERSION; an empty one where all is in the kernel
    #[argh(option, arg_name = "DIR")]
    modules: Option<PathBuf>,
    /// the image with the kernel, instead of localhost/bootfs:latest
    #[argh(option, arg_name = "IMAGE")]
    bootfs: Option<String>,
    /// init's file, instead of the one that the runner carries
    #[argh(option, arg_name = "FILE")]
    init: Option<PathBuf>,
    /// further words of the kernel's command line
    #[argh(option, arg_name = "WORDS")]
    cmdline: Vec<String>,
    /// what the root is: initramfs, all in memory, if not said; or squashfs, erofs or ext4, on a disk, with what is written in
    /// memory
    #[argh(option, arg_name = "WORD")]
    root: Option<String>,
    /// auto, on or off: hardware virtualisation; by itself where it works
    #[argh(option, arg_name = "WORD")]
    kvm: Option<String>,
    /// show the machine's console on standard error
    #[argh(switch)]
    console: bool,
    /// switch the machine off after so many seconds
    #[argh(option, arg_name = "SECONDS")]
    timeout: Option<f64>,
    /// print the emulator's command line, and boot nothing
    #[argh(switch, long = "dry-run")]
    dry_run: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or an id
    #[argh(positional, arg_name = "image")]
    image: String,
}

/// What was typed, read.
struct Typed {
    forwards: Option<Vec<Forward>>,
    folders: Vec<Folder>,
    memory: Option<u64>,
    cpus: u32,
    kvm: Kvm,
    timeout: Option<Duration>,
    tty: bool,
    root: Root,
}

impl Boot {
    /// Run it with the words behind the image. The exit code is the command's.
    pub(crate) fn run(self, tail: &[OsString]) -> Result<u8> {
        let typed = self.read()?;
        let Some(ready) = prepare::prepare(&self, &typed, tail)? else { return Ok(prepare::TOLD) };
        if self.dry_run {
            coracle_sys::say!("{}", ready.line());
            return Ok(0);
        }
        run::run(&ready.job(&typed, self.console))
    }

    fn source(&self) -> Source<'_> {
        Source {
            kernel: self.kernel.as_deref(),
            modules: (self.modules.as_deref(), "--modules"),
            bootfs: self.bootfs.as_deref(),
            init: self.init.as_deref(),
        }
    }

    fn read(&self) -> Result<Typed> {
        let root = self.root.as_deref().map_or(Ok(Root::INITRAMFS), Root::parse)?;
        let forwards = self.publish.iter().map(|p| Forward::parse(p)).collect::<Result<Vec<_>>>()?;
        let forwards = match self.network.as_deref() {
            None | Some("user") => Some(forwards),
            Some("none") if forwards.is_empty() => None,
            Some("none") => return Err(Error::usage("--network none has no ports: -p does not go with it")),
            Some(other) => return Err(Error::usage(format!("--network {other:?}: it is user or none"))),
        };
        let kvm = match self.kvm.as_deref() {
            None | Some("auto") => Kvm::Auto,
            Some("on") => Kvm::On,
            Some("off") => Kvm::Off,
            Some(other) => return Err(Error::usage(format!("--kvm {other:?}: it is auto, on or off"))),
        };
        let timeout = self.timeout.map(|seconds| {
            let time = Duration::try_from_secs_f64(seconds).ok().filter(|t| !t.is_zero());
            time.ok_or_else(|| {
                Error::usage(format!("--timeout {seconds}: it is a number of seconds above 0"))
            })
        });
        let cpus = self.cpus.as_deref().unwrap_or("1");
        let whole = |n: &u32| (1..=1024).contains(n);
        let cpus = cpus.parse().ok().filter(whole).ok_or_else(|| {
            Error::usage(format!("--cpus {cpus}: a machine has 1, 2 or more processors, and whole ones"))
        })?;
        self.source().check()?;
        let on_terminal = |fd| nix::unistd::isatty(fd) == Ok(true);
        let here = on_terminal(coracle_sys::terminal::standard_input())
            && on_terminal(coracle_sys::terminal::standard_output());
        Ok(Typed {
            forwards,
            folders: self.volume.iter().map(|v| Folder::parse(v)).collect::<Result<_>>()?,
            memory: self.memory.as_deref().map(mebibytes).transpose()?,
            cpus,
            kvm,
            timeout: timeout.transpose()?,
            tty: !self.no_tty && (self.tty || here),
            root,
        })
    }
}
