//! RUN: the runner executes the command in a root of the layers below under an upper of its own, which becomes the
//! layer. All mounts are in a namespace of the build, so that none is left however it ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_store::driver::overlay::{self, Top};
use coracle_store::driver::{Driver, btrfs, fuse};
use coracle_store::layer::differ::Difference;
use coracle_store::layer::pack::{FromDir, source_date_epoch};
use coracle_store::layer::{Marks, Owners};
use coracle_store::layers::PutLayer;
use coracle_store::upper::Workspace;
use coracle_store::{Digest, Transaction};
use coracle_sys::mount::{self, FsContext};
use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Kind, Result, file};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use super::report::Told;

/// The host name that commands see, as BuildKit has it.
const HOST_NAME: &str = "buildkitsandbox";

/// A command, fully decided.
#[derive(Debug, Default)]
pub(crate) struct Exec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Variables that nobody is to see in the list of processes.
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) user: String,
    pub(crate) cwd: String,
    /// The runner's word for it.
    pub(crate) network: &'static str,
    pub(crate) insecure: bool,
    /// Further flags of the runner.
    pub(crate) flags: Vec<String>,
    /// What is mounted: where from, where to, and whether it is read only.
    pub(crate) binds: Vec<(PathBuf, String, bool)>,
    /// `PATH[:OPTIONS]`.
    pub(crate) tmpfs: Vec<String>,
}

/// Mounts that are made from here on are seen by this process and its children alone. To be called before there is a
/// second thread.
pub(crate) fn enter_mount_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare(CLONE_NEWNS)")?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(none, "/", none, private, none).context(|| "mount(\"/\", MS_PRIVATE)")
}

/// The runner: beside this program, then in ../libexec/coracle; CORACLE_RUNNER overrides.
pub(crate) fn find_runner() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CORACLE_RUNNER").filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context(|| "readlink(\"/proc/self/exe\")")?;
    let beside = own.with_file_name("runner");
    let libexec = own.parent().map(|bin| bin.join("../libexec/coracle/runner"));
    let found = [Some(beside), libexec].into_iter().flatten().find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::not_found("find the runner, which RUN needs: it lies neither beside rootfs-tool nor in ../libexec/coracle (CORACLE_RUNNER names it elsewhere)")
    })
}

/// Something mounted, until it is dropped.
pub(crate) struct Mounted {
    /// Where.
    pub(crate) at: PathBuf,
    /// By the program fuse-overlayfs.
    by_program: bool,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// A file system in memory, mounted in a workspace.
pub(crate) fn in_memory(space: &Workspace, name: &str, attrs: u64) -> Result<Mounted> {
    let point = space.dir(name, 0o700)?;
    let fs = FsContext::open("tmpfs")?;
    fs.string("mode", "755")?;
    fs.create()?;
    let tree = fs.mount(attrs)?;
    mount::attach(tree.as_fd(), file::open_dir(&point)?.as_fd())?;
    Ok(Mounted { at: point, by_program: false })
}

/// A stack of layers, mounted in a workspace, under a top that takes what is written: as the store's driver has it, and
/// by the program where the kernel gives no overlay at all.
pub(crate) fn mount_stack(
    driver: Driver,
    layers: &[PathBuf],
    space: &Workspace,
    name: &str,
    top: Option<Top<'_>>,
) -> Result<Mounted> {
    let at = space.dir(name, 0o755)?;
    let by_kernel = || {
        let fds = layers.iter().map(|l| overlay::open_layer(l)).collect::<Result<Vec<_>>>()?;
        overlay::mount(&fds, top, overlay::Options::of_this_process(top.is_some()))
    };
    let by_program = || fuse::mount(layers, top, top.is_some(), &[]);
    let (tree, by_program) = match driver {
        Driver::Fuse => (by_program()?, true),
        _ => match by_kernel() {
            // EINVAL is the upper's.
            Err(e)
                if e.kind() == Kind::Unsupported
                    && e.errno() != Some(Errno::EINVAL)
                    && fuse::works().is_ok() =>
            {
                (by_program()?, true)
            }
            tree => (tree?, false),
        },
    };
    mount::attach(tree.as_fd(), file::open_dir(&at)?.as_fd())?;
    Ok(Mounted { at, by_program })
}

/// Execute it over the stack `below`, and keep what it wrote. `stubs` are places for what is mounted, below all layers:
/// of them nothing is found in the layer. `done` lets go of what was mounted.
pub(crate) fn run(
    tx: &Transaction<'_>,
    space: Workspace,
    below: &[Digest],
    stubs: Option<PathBuf>,
    exec: &Exec,
    told: &Told<'_>,
    done: impl FnOnce(),
) -> Result<PutLayer> {
    let layers = tx.store().stack_paths(below)?;
    // Of a store that copies as well: what is mounted here is an overlay all the same.
    let places: Vec<PathBuf> = stubs.into_iter().chain(tx.store().mount_points()).collect();
    let root = match tx.store().driver() {
        Driver::Btrfs => Root::snapshot(&space, places, &layers),
        _ => Root::stack(tx, &space, places, &layers),
    }?;
    let code = execute(tx, root.path(), exec, told);
    let written = root.close();
    done();
    coracle_sys::interrupt::check()?;
    let shown = exec.argv.join(" ");
    match code? {
        Status::Exited(0) => written.put(tx, space, below, layers.last()),
        Status::Exited(code) => {
            Err(Error::invalid(format!("process {shown:?} did not complete successfully: exit code: {code}")))
        }
        Status::Signaled(n) => Err(Error::invalid(format!("process {shown:?} was killed by signal {n}"))),
    }
}

/// Where a command runs.
enum Root {
    /// A stack of the layers under an upper, which may be in memory aside.
    Stack { mounted: Mounted, upper: PathBuf, aside: Option<(Mounted, Workspace)> },
    /// A snapshot of the layers, with places for mounts laid into it.
    Snapshot { at: PathBuf, places: Vec<PathBuf> },
}

impl Root {
    fn stack(
        tx: &Transaction<'_>,
        space: &Workspace,
        places: Vec<PathBuf>,
        layers: &[PathBuf],
    ) -> Result<Self> {
        let upper = space.upper("", layers)?;
        let work = space.dir("work", 0o700)?;
        let lower: Vec<PathBuf> = places.into_iter().chain(layers.iter().cloned()).collect();
        let driver = tx.store().driver();
        match mount_stack(driver, &lower, space, "mnt", Some(Top { upper: &upper, work: &work })) {
            // An upper that the store's file system cannot hold goes to memory for as long as the command runs.
            Err(e) if e.kind() == Kind::Unsupported => {
                let other = tx.workspace()?;
                let memory = in_memory(&other, "memory", 0)?;
                let upper = other.upper("memory/", layers)?;
                let work = other.dir("memory/work", 0o700)?;
                let top = Top { upper: &upper, work: &work };
                let mounted = mount_stack(driver, &lower, space, "mnt-memory", Some(top)).map_err(|_| e)?;
                Ok(Self::Stack { mounted, upper, aside: Some((memory, other)) })
            }
            other => Ok(Self::Stack { mounted: other?, upper, aside: None }),
        }
    }

    fn snapshot(space: &Workspace, places: Vec<PathBuf>, layers: &[PathBuf]) -> Result<Self> {
        let at = space.path().join("root");
        let top = layers.last().map(PathBuf::as_path);
        btrfs::make_root(&at, top, &places).context(|| "make a snapshot of the layers")?;
        Ok(Self::Snapshot { at, places })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Stack { mounted, .. } => &mounted.at,
            Self::Snapshot { at, .. } => at,
        }
    }

    /// Nothing is mounted after this.
    fn close(self) -> Written {
        match self {
            Self::Stack { mounted, upper, aside } => {
                let marks = if mounted.by_program { Marks::Fuse } else { Marks::of_this_process() };
                drop(mounted);
                Written::Upper { upper, marks, _aside: aside }
            }
            Self::Snapshot { at, places } => Written::Snapshot { at, places },
        }
    }
}

/// What a command has left.
enum Written {
    Upper { upper: PathBuf, marks: Marks, _aside: Option<(Mounted, Workspace)> },
    Snapshot { at: PathBuf, places: Vec<PathBuf> },
}

impl Written {
    /// As a layer. `top` is the tree of what is below.
    fn put(
        self,
        tx: &Transaction<'_>,
        space: Workspace,
        below: &[Digest],
        top: Option<&PathBuf>,
    ) -> Result<PutLayer> {
        match self {
            Self::Upper { upper, marks, .. } => {
                tx.put_upper(space, &upper, marks, below, source_date_epoch())
            }
            Self::Snapshot { at, places } => {
                let how = FromDir { owner: None, latest: source_date_epoch(), xattrs: true };
                let top = top.map(PathBuf::as_path);
                tx.put_layer(&Difference::between(top, &at, &places)?.archive(&at, how)?, below)
            }
        }
    }
}

fn execute(tx: &Transaction<'_>, root: &Path, exec: &Exec, told: &Told<'_>) -> Result<Status> {
    let mut runner = Program::new(&find_runner()?);
    runner.bound();
    runner.set("CORACLE_STORE", &tx.store().main().root().to_string_lossy());
    for word in ["run", "--rm", "--no-init", "--rootfs", "--network", exec.network] {
        runner.word(word);
    }
    // What a command writes to /etc/hostname is the image's.
    for word in ["--no-hostname", "--hostname", HOST_NAME] {
        runner.word(word);
    }
    if exec.insecure {
        runner.word("--privileged");
    }
    if !exec.user.is_empty() {
        runner.word(format!("--user={}", exec.user));
    }
    runner.word(format!("--workdir={}", exec.cwd));
    if exec.network == "host" && !coracle_sys::idmap::is_initial_namespace() {
        // A new /sys is for those alone who own the network.
        runner.word(
            "--mount=type=bind,src=/sys,dst=/sys,readonly,bind-propagation=rprivate,bind-recursive=readonly",
        );
    }
    if Owners::of_this_process() == Owners::Table {
        // Of a single id there is no group for terminals, and so no file system of them.
        runner.word("--tmpfs=/dev/pts");
    }
    exec.env.iter().for_each(|(name, value)| runner.word(format!("--env={name}={value}")));
    for (name, value) in &exec.secrets {
        runner.set(name, value);
        runner.word(format!("--env={name}"));
    }
    exec.flags.iter().for_each(|flag| runner.word(flag));
    exec.tmpfs.iter().for_each(|tmpfs| runner.word(format!("--tmpfs={tmpfs}")));
    for (from, to, readonly) in &exec.binds {
        let from = from.to_str().ok_or_else(|| Error::invalid(format!("mount {from:?}: it is not UTF-8")))?;
        if [from, to.as_str()].iter().any(|p| p.contains(',')) {
            return Err(Error::unsupported(format!("mount {to}: a comma cannot be in its path")));
        }
        let readonly = if *readonly { ",readonly" } else { "" };
        runner.word(format!("--mount=type=bind,src={from},dst={to}{readonly}"));
    }
    runner.word(root);
    exec.argv.iter().for_each(|word| runner.word(word));
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "pipe2()")?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut lines = BufReader::new(File::from(read));
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                told.says(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
                line.clear();
            }
        });
        let status = runner.run([Some(null.as_fd()), Some(write.as_fd()), Some(write.as_fd())]);
        drop(write);
        let _ = reader.join();
        status
    })
}
