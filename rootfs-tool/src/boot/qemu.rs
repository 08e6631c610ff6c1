//! The emulator's command line (qemu-system(1)), as plain data: which machine, what is plugged into it, what is carried
//! over which channel. Nothing is looked up here and nothing is run.

use std::net::IpAddr;

use coracle_sys::{Error, Result, quantity};

/// MiB with which a kernel starts at all.
const LEAST: u64 = 64;

/// How an architecture's machine is called in QEMU.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    /// As images have it.
    pub(crate) image: &'static str,
    pub(crate) program: &'static str,
    machine: &'static str,
    /// The kernel's name of its serial console.
    pub(crate) console: &'static str,
    /// Debian's package with the program.
    pub(crate) package: &'static str,
    /// It begins with the kernel, and no firmware says anything before: a kernel that is to be quiet is not heard at all.
    pub(crate) mute: bool,
}

const ARCHS: &[Arch] = &[
    Arch {
        image: "amd64",
        program: "qemu-system-x86_64",
        machine: "q35",
        console: "ttyS0",
        package: "qemu-system-x86",
        mute: false,
    },
    Arch {
        image: "arm64",
        program: "qemu-system-aarch64",
        machine: "virt",
        console: "ttyAMA0",
        package: "qemu-system-arm",
        mute: true,
    },
    Arch {
        image: "riscv64",
        program: "qemu-system-riscv64",
        machine: "virt",
        console: "ttyS0",
        package: "qemu-system-misc",
        mute: false,
    },
];

impl Arch {
    /// By the image's name of it.
    pub(crate) fn of(image: &str) -> Result<&'static Self> {
        ARCHS.iter().find(|a| a.image == image).ok_or_else(|| {
            let all: Vec<&str> = ARCHS.iter().map(|a| a.image).collect();
            Error::unsupported(format!("boot a machine of {image}: there are {}", all.join(", ")))
        })
    }
}

/// A port of the host that leads into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// All of the host's addresses where none.
    ip: Option<IpAddr>,
    host: u16,
    guest: u16,
    protocol: &'static str,
}

impl Forward {
    /// `[IP:]HOST:GUEST[/udp]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("-p {text:?}: it is [IP:]HOST:GUEST, with /udp behind where it is UDP"));
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, "tcp"),
            Some((rest, "tcp")) => (rest, "tcp"),
            Some((rest, "udp")) => (rest, "udp"),
            Some(_) => return Err(wrong()),
        };
        let (rest, guest) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let (ip, host) = match rest.rsplit_once(':') {
            Some((ip, host)) => (Some(ip), host),
            None => (None, rest),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let bare = |ip: &str| ip.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| wrong());
        Ok(Self { ip: ip.map(bare).transpose()?, host: port(host)?, guest: port(guest)?, protocol })
    }

    fn word(&self) -> String {
        let ip = match self.ip {
            None => String::new(),
            Some(IpAddr::V4(ip)) => ip.to_string(),
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        format!("hostfwd={}:{ip}:{}-:{}", self.protocol, self.host, self.guest)
    }
}

/// How a folder is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// QEMU serves it by 9p.
    Plan9 { as_owners: bool },
    /// virtiofsd serves it, on a wire of its own.
    Virtiofs,
}

/// A folder that is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) tag: String,
    pub(crate) dir: String,
    pub(crate) readonly: bool,
    pub(crate) by: By,
}

/// By what instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
}

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) arch: &'static Arch,
    /// MiB.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
    pub(crate) kernel: String,
    pub(crate) initrd: String,
    pub(crate) cmdline: String,
    /// With its ports of the host; without a network where none.
    pub(crate) network: Option<Vec<Forward>>,
    pub(crate) shares: Vec<Share>,
    /// A file that is the disk with the root, which is never written.
    pub(crate) disk: Option<String>,
}

/// Numbers of the descriptors by which the emulator speaks to others.
#[derive(Clone, Debug)]
pub(crate) struct Wires {
    pub(crate) console: i32,
    pub(crate) qmp: i32,
    pub(crate) exit: i32,
    /// stdin, stdout and stderr of the command; none where it has the console.
    pub(crate) streams: Option<[i32; 3]>,
    /// Those to what serves folders, in their order.
    pub(crate) shares: Vec<i32>,
}

/// A value between commas.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

impl Machine {
    /// The words behind the program's name.
    pub(crate) fn words(&self, accel: Accel, wires: &Wires) -> Vec<String> {
        let mut words = Words(Vec::new());
        let (name, cpu) = match accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg => ("tcg", "max"),
        };
        let shared = self.shares.iter().any(|s| s.by == By::Virtiofs);
        let backend = if shared { ",memory-backend=memory" } else { "" };
        words.two("-machine", format!("{},accel={name}{backend}", self.arch.machine));
        words.two("-cpu", cpu.to_owned());
        words.two("-smp", self.cpus.to_string());
        words.two("-m", format!("{}M", self.memory));
        if shared {
            words.two("-object", format!("memory-backend-memfd,id=memory,size={}M,share=on", self.memory));
        }
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            words.0.push(word.to_owned());
        }
        words.two("-display", "none".to_owned());
        words.two("-kernel", self.kernel.clone());
        words.two("-initrd", self.initrd.clone());
        words.two("-append", self.cmdline.clone());
        words.channel("console", wires.console);
        words.two("-serial", "chardev:console".to_owned());
        words.channel("qmp", wires.qmp);
        words.two("-mon", "chardev=qmp,mode=control".to_owned());
        words.two("-device", "virtio-serial-pci".to_owned());
        words.port("exit", wires.exit);
        for (name, wire) in ["stdin", "stdout", "stderr"].into_iter().zip(wires.streams.into_iter().flatten())
        {
            words.port(name, wire);
        }
        if let Some(ports) = &self.network {
            let ports: String = ports.iter().map(|p| format!(",{}", p.word())).collect();
            words.two("-netdev", format!("user,id=net{ports}"));
            // Nothing is booted over the network.
            words.two("-device", "virtio-net-pci,netdev=net,romfile=".to_owned());
        }
        if let Some(disk) = &self.disk {
            words.two("-drive", format!("if=none,id=disk,format=raw,readonly=on,file={}", value(disk)));
            words.two("-device", "virtio-blk-pci,drive=disk".to_owned());
        }
        let mut others = wires.shares.iter();
        for share in &self.shares {
            words.share(share, &mut others);
        }
        words.0
    }
}

struct Words(Vec<String>);

impl Words {
    fn two(&mut self, flag: &str, value: String) {
        self.0.extend([flag.to_owned(), value]);
    }

    fn channel(&mut self, name: &str, wire: i32) {
        self.two("-chardev", format!("socket,id={name},fd={wire}"));
    }

    /// A port that the machine finds by its name.
    fn port(&mut self, name: &str, wire: i32) {
        self.channel(name, wire);
        self.two("-device", format!("virtserialport,chardev={name},name=coracle.{name}"));
    }

    fn share<'a>(&mut self, share: &Share, wires: &mut impl Iterator<Item = &'a i32>) {
        let Share { tag, dir, readonly, by } = share;
        match by {
            By::Plan9 { as_owners } => {
                let model = if *as_owners { "passthrough" } else { "none" };
                let readonly = if *readonly { ",readonly=on" } else { "" };
                let dir = value(dir);
                self.two("-fsdev", format!("local,id={tag},security_model={model}{readonly},path={dir}"));
                self.two("-device", format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
            }
            By::Virtiofs => {
                self.channel(tag, wires.next().copied().unwrap_or(-1));
                self.two("-device", format!("vhost-user-fs-pci,chardev={tag},tag={tag}"));
            }
        }
    }
}

/// A word, quoted for a shell where it has to be.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+@%[]".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// What was typed of the memory: MiB, rounded up. A mere number is of MiB, as in QEMU, unless it is so large that it can
/// only be of bytes.
pub(crate) fn mebibytes(text: &str) -> Result<u64> {
    let mebibytes = match text.parse::<u64>() {
        Ok(n @ ..0x10_0000) => n,
        _ => quantity::size(text, "--memory")?.div_ceil(1 << 20),
    };
    match mebibytes < LEAST {
        true => Err(Error::usage(format!("--memory {text}: a machine takes {LEAST}M at least"))),
        false => Ok(mebibytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            arch: Arch::of("amd64").unwrap(),
            memory: 512,
            cpus: 1,
            kernel: "/k".to_owned(),
            initrd: "/i".to_owned(),
            cmdline: "console=ttyS0 quiet".to_owned(),
            network: None,
            shares: Vec::new(),
            disk: None,
        }
    }

    fn line(machine: &Machine, accel: Accel, streams: Option<[i32; 3]>) -> String {
        machine.words(accel, &Wires { console: 3, qmp: 4, exit: 5, streams, shares: vec![9] }).join(" ")
    }

    #[test]
    fn a_machine_is_what_its_command_line_says() {
        let start = "-machine q35,accel=tcg -cpu max -smp 1 -m 512M -nodefaults -no-user-config -no-reboot -display none \
            -kernel /k -initrd /i -append console=ttyS0 quiet -chardev socket,id=console,fd=3 -serial chardev:console \
            -chardev socket,id=qmp,fd=4 -mon chardev=qmp,mode=control -device virtio-serial-pci \
            -chardev socket,id=exit,fd=5 -device virtserialport,chardev=exit,name=coracle.exit";
        assert_eq!(line(&machine(), Accel::Tcg, None), start);
        let streams = line(&machine(), Accel::Kvm, Some([6, 7, 8]));
        assert!(streams.starts_with("-machine q35,accel=kvm -cpu host "), "{streams}");
        assert!(streams.ends_with(
            "-chardev socket,id=stdin,fd=6 -device virtserialport,chardev=stdin,name=coracle.stdin \
            -chardev socket,id=stdout,fd=7 -device virtserialport,chardev=stdout,name=coracle.stdout \
            -chardev socket,id=stderr,fd=8 -device virtserialport,chardev=stderr,name=coracle.stderr"
        ));
        let share = |by| Share { tag: "t".to_owned(), dir: "/a,b".to_owned(), readonly: true, by };
        for (machine, end) in [
            (
                Machine { network: Some(vec![Forward::parse("127.0.0.1:8080:80").unwrap()]), ..machine() },
                "-netdev user,id=net,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-net-pci,netdev=net,romfile=",
            ),
            (
                Machine { disk: Some("/d,e".to_owned()), ..machine() },
                "-drive if=none,id=disk,format=raw,readonly=on,file=/d,,e -device virtio-blk-pci,drive=disk",
            ),
            (
                Machine { shares: vec![share(By::Plan9 { as_owners: true })], ..machine() },
                "-fsdev local,id=t,security_model=passthrough,readonly=on,path=/a,,b \
                -device virtio-9p-pci,fsdev=t,mount_tag=t",
            ),
        ] {
            assert_eq!(line(&machine, Accel::Tcg, None), format!("{start} {end}"));
        }
        let shared = line(&Machine { shares: vec![share(By::Virtiofs)], ..machine() }, Accel::Tcg, None);
        assert!(shared.contains("q35,accel=tcg,memory-backend=memory "), "{shared}");
        assert!(shared.contains("-object memory-backend-memfd,id=memory,size=512M,share=on"), "{shared}");
        assert!(shared.ends_with("-chardev socket,id=t,fd=9 -device vhost-user-fs-pci,chardev=t,tag=t"));
    }

    #[test]
    fn ports_are_read_as_people_type_them() {
        for (typed, word) in [
            ("8080:80", "hostfwd=tcp::8080-:80"),
            ("5353:53/udp", "hostfwd=udp::5353-:53"),
            ("127.0.0.1:1:2/tcp", "hostfwd=tcp:127.0.0.1:1-:2"),
            ("[::1]:1:2", "hostfwd=tcp:[::1]:1-:2"),
        ] {
            assert_eq!(Forward::parse(typed).unwrap().word(), word);
        }
        for bad in ["", "80", ":80", "80:", "0:80", "1:65536", "a:1:2", "1:2/sctp", "1,x:2", "1-2:3-4"] {
            assert!(Forward::parse(bad).unwrap_err().to_string().contains("HOST:GUEST"), "{bad}");
        }
    }

    #[test]
    fn memory_is_counted_in_mebibytes() {
        for (typed, n) in [
            ("512m", 512),
            ("512MB", 512),
            ("2G", 2048),
            ("268435457", 257),
            ("65536k", 64),
            ("512", 512),
            ("1.5g", 1536),
        ] {
            assert_eq!(mebibytes(typed).unwrap(), n, "{typed}");
        }
        for bad in ["", "m", "1x", "63m", "63", "512mx", "99999999999999g"] {
            assert!(mebibytes(bad).unwrap_err().to_string().starts_with("--memory "), "{bad}");
        }
    }
}
