//! The network of an ordinary user's container: a program of somebody else's carries its packets, when it is installed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coracle_sys::handle::Handle;
use coracle_sys::process::{self, Cloned};
use coracle_sys::{Context, Error, Kind, Result, namespace};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;

use super::ports::Asked;

/// Which one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    path: PathBuf,
    pasta: bool,
}

/// One that runs, and what it takes for the container. Both end with this, and with this process.
pub(crate) struct Running {
    child: Child,
    holder: Holder,
    #[allow(dead_code)] // it is dropped
    watcher: Option<Watcher>,
}

/// Is this the user namespace that we are in? Nobody can enter that again.
fn is_ours(user: BorrowedFd<'_>) -> bool {
    let own = Path::new("/proc/self/ns/user").metadata();
    let same = fstat(user).ok().zip(own.ok());
    same.is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.dev(), b.ino()))
}

/// A process that does nothing in the container's namespaces: one that has changed its ids, as the container's own has,
/// shows its namespaces to nobody.
struct Holder(i32);

impl Holder {
    fn new(user: BorrowedFd<'_>, network: BorrowedFd<'_>) -> Result<Self> {
        let (ready, tell) = nix::unistd::pipe().context(|| "pipe()")?;
        match process::clone(0, None)? {
            Cloned::Parent { pid, .. } => {
                let holder = Self(pid);
                drop(tell);
                match nix::unistd::read(&ready, &mut [0]).context(|| "read(pipe)")? {
                    1 => Ok(holder),
                    _ => Err(Error::new(Kind::System, "join the container's namespaces for its network")),
                }
            }
            Cloned::Child => {
                let enter = || {
                    if !is_ours(user) {
                        setns(user, CloneFlags::CLONE_NEWUSER)?;
                    }
                    setns(network, CloneFlags::CLONE_NEWNET)?;
                    // What looks here from the same namespace has given its rights away, and sees nobody who has more.
                    process::capset(0, 0, 0).map_err(|_| Errno::EPERM)?;
                    prctl::set_dumpable(true)?;
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    nix::unistd::write(&tell, &[1])
                };
                if enter().is_ok() {
                    // A caller may wait for the end of our output.
                    let _ = process::close_all_but(0, &[ready.as_raw_fd()]);
                    nix::unistd::pause();
                }
                process::exit_now(1)
            }
        }
    }
}

/// A process that ends the program when we are gone. The program takes other rights, by which the kernel forgets what it
/// is to get at its parent's death, and it is not told of its network's end.
struct Watcher {
    pid: i32,
    held: Option<OwnedFd>,
}

impl Watcher {
    fn new(program: i32) -> Result<Self> {
        let (gone, held) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "pipe2(O_CLOEXEC)")?;
        match process::clone(0, None)? {
            Cloned::Parent { pid, .. } => Ok(Self { pid, held: Some(held) }),
            Cloned::Child => {
                let watch = || {
                    process::close_all_but(0, &[gone.as_raw_fd()])?;
                    let program = Handle::open(program)?;
                    program.wait(Some(gone.as_fd()), None)?;
                    program.signal(libc::SIGKILL)
                };
                process::exit_now(i32::from(watch().is_err()))
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.held.take());
        let _ = process::wait(self.pid);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
        let _ = process::wait(self.0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one that was asked for, or the better one that is installed.
pub(crate) fn find(asked: Option<&str>) -> Result<Option<Program>> {
    let names: &[&str] = match asked {
        Some("pasta") => &["pasta"],
        Some(_) => &["slirp4netns"],
        None => &["pasta", "slirp4netns"],
    };
    let found =
        names.iter().find_map(|name| Some(Program { path: installed(name)?, pasta: *name == "pasta" }));
    match (found, asked) {
        (None, Some(name)) => Err(Error::not_found(format!("--network {name}: {name} is not installed"))),
        (Some(_), None) if !has_tun() => Ok(None),
        (found, _) => Ok(found),
    }
}

/// Both stand on the device that packets are written to.
fn has_tun() -> bool {
    use nix::unistd::{AccessFlags, access};
    access("/dev/net/tun", AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")];
    let mut all = std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name));
    all.find(|file| file.is_absolute() && is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl Program {
    pub(crate) fn name(&self) -> &'static str {
        if self.pasta { "pasta" } else { "slirp4netns" }
    }

    /// What it cannot do is refused.
    pub(crate) fn check(&self, flag: &str) -> Result<()> {
        match flag {
            "-p" | "-P" if self.pasta => Ok(()),
            flag => Err(Error::unsupported(format!(
                "{flag} does not go with {}{}",
                self.name(),
                if flag.eq_ignore_ascii_case("-p") { ": install pasta (the package passt)" } else { "" }
            ))),
        }
    }

    /// Start it for a container's first process, and wait until the network is there.
    pub(crate) fn run(&self, network: BorrowedFd<'_>, ports: &[Asked]) -> Result<Running> {
        let user = namespace::owner(network)?;
        let holder = Holder::new(user.as_fd(), network)?;
        let mut command = Command::new(&self.path);
        match self.pasta {
            true => {
                command.args(["--config-net", "--foreground", "--quiet", "-T", "none", "-U", "none"]);
                for (flag, udp) in [("-t", false), ("-u", true)] {
                    let mut any = false;
                    for spec in ports.iter().filter_map(|asked| asked.for_pasta(udp)) {
                        command.args([flag, &spec?]);
                        any = true;
                    }
                    if !any {
                        command.args([flag, "none"]);
                    }
                }
            }
            false => {
                command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
            }
        }
        match (self.pasta, is_ours(user.as_fd())) {
            (true, false) => command.arg(holder.0.to_string()),
            (true, true) => {
                command.args(["--netns-only", "--netns"]).arg(format!("/proc/{}/ns/net", holder.0))
            }
            (false, false) => command.args([&holder.0.to_string(), "tap0"]),
            (false, true) => {
                command.args(["--netns-type=path", &format!("/proc/{}/ns/net", holder.0), "tap0"])
            }
        };
        let name = self.name();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.context(|| format!("start {name}"))?;
        let mut running = Running { child, holder, watcher: None };
        running.watcher = Some(Watcher::new(running.child.id().cast_signed())?);
        running.wait_until_set_up(name)?;
        Ok(running)
    }
}

impl Running {
    /// Its device is there once it has set it up: it says so to nobody else. The holder shows that, whatever becomes of the
    /// container's own process meanwhile.
    fn wait_until_set_up(&mut self, name: &str) -> Result<()> {
        let table = format!("/proc/{}/net/route", self.holder.0);
        for _ in 0..10_000 {
            if let Ok(Some(status)) = self.child.try_wait() {
                use std::io::Read;
                let mut text = String::new();
                let _ = self.child.stderr.take().map(|mut e| e.read_to_string(&mut text));
                let line = text.lines().next_back().unwrap_or_default();
                return Err(Error::new(Kind::System, format!("{name} ended ({status}): {line}")));
            }
            // Behind the table's head: a route by which all goes.
            let text = std::fs::read_to_string(&table).unwrap_or_default();
            let out = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
            if text.lines().skip(1).any(out) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(Error::new(Kind::System, format!("{name} sets up no network")))
    }
}
