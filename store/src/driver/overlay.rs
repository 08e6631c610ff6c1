//! The overlay driver: directories stacked by the kernel's overlay file system, as a detached mount.
//! redirect_dir, metacopy and index are pinned off, so that an upper is always a layer. Which
//! directories, and where the mount goes, is the callers' business.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use coracle_sys::mount::{self, FsContext, attr};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, unshare};

/// How to mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Skip every sync: for what is removed after use, or synced by other means.
    pub volatile: bool,
    /// The overlay's own marks are `user.overlay.*`, as they are without root.
    pub userxattr: bool,
    /// `MOUNT_ATTR_*` flags of the mount.
    pub attrs: u64,
}

impl Options {
    /// What fits this process: `userxattr` where it is not root of the whole machine.
    pub fn of_this_process(volatile: bool) -> Self {
        let userxattr = crate::layer::Marks::of_this_process() == crate::layer::Marks::User;
        Self { volatile, userxattr, attrs: 0 }
    }
}

/// The writable top of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Top<'a> {
    /// Where changes go.
    pub upper: &'a Path,
    /// An empty directory of the same file system.
    pub work: &'a Path,
}

/// Mount layers, bottom first, under a writable top; without a top the mount is read only. The
/// mount is detached: attach it with [`mount::attach`].
pub fn mount(layers: &[impl AsFd + Sync], top: Option<Top<'_>>, options: Options) -> Result<OwnedFd> {
    mount_over(layers, top, options, &[])
}

/// [`mount`], where layers or the top lie on mounts that are attached nowhere, `detached`. They serve for one try: on older
/// kernels they have been attached then.
pub fn mount_over(
    layers: &[impl AsFd + Sync],
    top: Option<Top<'_>>,
    options: Options,
    detached: &[BorrowedFd<'_>],
) -> Result<OwnedFd> {
    if layers.is_empty() {
        return Err(Error::invalid("mount the overlay: there is no layer"));
    }
    if top.is_none()
        && let [only] = layers
    {
        // One directory is no overlay.
        let tree = mount::clone_tree(only.as_fd(), Path::new(""), false)?;
        return finish(tree, options.attrs | attr::RDONLY);
    }
    let made = match by_descriptor(layers, top, options) {
        Err(e) if wants_older_way(&e) && detached.is_empty() => by_working_directory(layers, top, options),
        Err(e) if wants_older_way(&e) => attached(detached, || by_working_directory(layers, top, options)),
        other => other,
    };
    made.map_err(|e| explain(e, top)).map_err(|e| e.wrap("mount the overlay"))
}

/// Since Linux 6.13 the layers are passed as descriptors: no path is looked up, and none is too long.
fn by_descriptor(layers: &[impl AsFd], top: Option<Top<'_>>, options: Options) -> Result<OwnedFd> {
    let fs = FsContext::open("overlay")?;
    for layer in layers.iter().rev() {
        fs.fd("lowerdir+", layer.as_fd())?;
    }
    if let Some(top) = top {
        fs.fd("upperdir", open(top.upper)?.as_fd())?;
        fs.fd("workdir", open(top.work)?.as_fd())?;
    }
    for (key, value) in PINNED {
        fs.string(key, value)?;
    }
    if options.volatile && top.is_some() {
        fs.flag("volatile")?;
    }
    if options.userxattr {
        fs.flag("userxattr")?;
    }
    fs.create()?;
    fs.mount(options.attrs)
}

/// What must not be left to the kernel's build. `nofollow` is `off` without exception, and the one
/// value that is allowed together with `userxattr`.
const PINNED: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// Did the kernel refuse the way of asking, rather than what was asked?
fn wants_older_way(e: &Error) -> bool {
    match e.errno() {
        // No fsopen; an overlay that takes no descriptors, as that of Linux 6.1.
        Some(Errno::ENOSYS | Errno::EOPNOTSUPP) => true,
        // Keys or descriptors that it does not know.
        Some(Errno::EINVAL | Errno::EBADF | Errno::ENOTDIR | Errno::ENOENT) => true,
        _ => false,
    }
}

/// Before Linux 6.15 overlay takes nothing that lies on a mount outside of the caller's mount namespace, as those are that are
/// attached nowhere. They are attached in one that ends with this call, whoever is killed meanwhile.
fn attached<T: Send>(trees: &[BorrowedFd<'_>], act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    /// A few frames, and a page of options.
    const STACK: usize = 256 << 10;
    let work = || {
        unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare(CLONE_NEWNS)")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .context(|| "mount(\"/\", MS_REC | MS_PRIVATE)")?;
        // Over the root: who looks for a path begins below it.
        let root = open(Path::new("/"))?;
        trees.iter().try_for_each(|tree| mount::attach(*tree, root.as_fd()))?;
        act()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.context(|| "clone(CLONE_THREAD)")?;
        thread.join().unwrap_or_else(|_| Err(Error::new(Kind::System, "the thread has panicked")))
    })
}

/// Before Linux 6.13: mount(2), with the working directory in /proc/self/fd so that the options,
/// which have one page, hold numbers rather than paths: 128 layers take 474 bytes. The mount
/// appears on the work directory's parent for a moment, and is then taken from there.
fn by_working_directory(layers: &[impl AsFd], top: Option<Top<'_>>, options: Options) -> Result<OwnedFd> {
    let numbers: Vec<String> = layers.iter().rev().map(|l| l.as_fd().as_raw_fd().to_string()).collect();
    let lower = numbers.join(":");
    let mut data = String::new();
    let mut held = Vec::new();
    if let Some(top) = top {
        let (upper, work) = (open(top.upper)?, open(top.work)?);
        data = format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
        held.extend([upper, work]);
        if options.volatile {
            data.push_str(",volatile");
        }
    }
    if options.userxattr {
        data.push_str(",userxattr");
    }
    for (key, value) in PINNED {
        data.push_str(&format!(",{key}={value}"));
    }
    let data = format!("lowerdir={lower}{data}");
    // The mount point is a directory that is ours alone and holds nothing that is needed meanwhile.
    let point = std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-mount-"));
    let point = top.map_or(point, |t| t.work.with_file_name("mount"));
    match std::fs::create_dir(&point) {
        // Left behind by one that was killed just here.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && top.is_some() => {}
        made => made.context(|| format!("mkdir({point:?})"))?,
    }
    let tree = mount_there(&data, &point, options);
    let _ = std::fs::remove_dir(&point);
    drop(held);
    tree
}

fn mount_there(data: &str, point: &Path, options: Options) -> Result<OwnedFd> {
    let back = open(Path::new("."))?;
    nix::unistd::chdir("/proc/self/fd").context(|| "chdir(\"/proc/self/fd\")")?;
    let none = MsFlags::empty();
    let mounted = nix::mount::mount(Some("overlay"), point, Some("overlay"), none, Some(data));
    nix::unistd::fchdir(back).context(|| "fchdir()")?;
    mounted.context(|| format!("mount(\"overlay\", {point:?}, {data:?})"))?;
    let tree = mount::clone_host_tree(point, false);
    nix::mount::umount2(point, MntFlags::MNT_DETACH).context(|| format!("umount2({point:?}, MNT_DETACH)"))?;
    let tree = tree?;
    finish(tree, options.attrs)
}

fn finish(tree: OwnedFd, set: u64) -> Result<OwnedFd> {
    if set != 0 {
        let clear = if set & attr::ATIME != 0 { attr::ATIME } else { 0 };
        mount::set_attrs(tree.as_fd(), mount::Attrs { set, clear, ..Default::default() }, false)?;
    }
    Ok(tree)
}

/// Where overlay's errno is famous for misleading, say what it means.
fn explain(e: Error, top: Option<Top<'_>>) -> Error {
    let hint = match e.errno() {
        Some(Errno::EINVAL) if top.is_some() => {
            "the file system of the upper directory cannot hold one: it is itself an overlay, NFS, or \
             lacks extended attributes; use --scratch tmpfs:SIZE, or a store with the driver vfs"
        }
        Some(Errno::ELOOP) => "upper or work is in use by another mount, or lies inside a layer",
        Some(Errno::ENODEV) => "the kernel has no overlay file system; use a store with the driver vfs",
        Some(Errno::EPERM) => {
            "overlay without root needs a user namespace and Linux 5.11; use a store with the driver vfs"
        }
        _ => return e,
    };
    let kind = if e.errno() == Some(Errno::ELOOP) { Kind::Busy } else { Kind::Unsupported };
    e.with_kind(kind).wrap(hint)
}

/// Can a directory be the upper of an overlay? Answered by making one, in `dir`, as this process.
pub fn works_in(dir: &Path) -> Result<()> {
    let probe = dir.join(coracle_sys::file::unique_name("probe-"));
    let made = (|| {
        for name in ["", "lower", "upper", "work"] {
            let path = probe.join(name);
            std::fs::create_dir(&path).context(|| format!("mkdir({path:?})"))?;
        }
        let (upper, work) = (probe.join("upper"), probe.join("work"));
        let lower = open(&probe.join("lower"))?;
        let options = Options::of_this_process(false);
        mount(&[lower], Some(Top { upper: &upper, work: &work }), options)
    })();
    let removed = coracle_sys::file::remove_tree(&probe);
    drop(made?);
    removed
}

fn open(path: &Path) -> Result<OwnedFd> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).context(|| format!("open({path:?}, O_PATH)"))
}

/// A descriptor of a layer given by its path.
pub fn open_layer(path: &Path) -> Result<OwnedFd> {
    open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sys::file::{remove_tree, unique_name};
    use std::fs;
    use std::path::PathBuf;

    /// Where overlay can have its upper, and mount is allowed; the reason when it is not.
    fn scratch() -> Option<PathBuf> {
        let dir = std::env::temp_dir().join(unique_name("coracle-overlay-"));
        fs::create_dir(&dir).unwrap();
        match works_in(&dir) {
            Ok(()) => Some(dir),
            Err(e) => {
                remove_tree(&dir).unwrap();
                assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{e}");
                println!("skipped: {e}");
                None
            }
        }
    }

    fn stack(dir: &Path, n: usize) -> Vec<OwnedFd> {
        (0..n)
            .map(|n| {
                let layer = dir.join(format!("{n:064}"));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join("who"), n.to_string()).unwrap();
                fs::write(layer.join(format!("only{n}")), "").unwrap();
                open(&layer).unwrap()
            })
            .collect()
    }

    fn see(mount: &OwnedFd, name: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/self/fd/{}/{name}", mount.as_raw_fd())).ok()
    }

    #[test]
    fn a_hundred_and_twenty_eight_layers_stack_either_way() {
        let Some(dir) = scratch() else { return };
        let layers = stack(&dir, 128);
        type Way = fn(&[OwnedFd], Option<Top<'_>>, Options) -> Result<OwnedFd>;
        let ways: [(&str, Way); 2] =
            [("new", |l, t, o| mount(l, t, o)), ("old", |l, t, o| by_working_directory(l, t, o))];
        for (name, way) in ways {
            let home = dir.join(name);
            let (upper, work) = (home.join("upper"), home.join("work"));
            fs::create_dir_all(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            let top = Some(Top { upper: &upper, work: &work });
            let m = way(&layers, top, Options::of_this_process(true)).unwrap();
            assert_eq!(see(&m, "who").as_deref(), Some("127"), "{name}");
            assert!(see(&m, "only0").is_some() && see(&m, "only127").is_some(), "{name}");
            fs::write(format!("/proc/self/fd/{}/new", m.as_raw_fd()), name).unwrap();
            drop(m);
            assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), name);
            assert!(!home.join("mount").exists());
            let m = way(&layers[..2], None, Options::of_this_process(false)).unwrap();
            assert_eq!(see(&m, "who").as_deref(), Some("1"), "{name}");
            let read_only = fs::write(format!("/proc/self/fd/{}/x", m.as_raw_fd()), "").unwrap_err();
            assert_eq!(read_only.raw_os_error(), Some(Errno::EROFS as i32), "{name}");
        }
        let m = mount(&layers[..1], None, Options::of_this_process(false)).unwrap();
        assert_eq!(see(&m, "who").as_deref(), Some("0"));
        let read_only = fs::write(format!("/proc/self/fd/{}/x", m.as_raw_fd()), "").unwrap_err();
        assert_eq!(read_only.raw_os_error(), Some(Errno::EROFS as i32));
        drop(m);
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn an_upper_on_an_overlay_is_a_sentence_and_not_a_bare_einval() {
        let Some(dir) = scratch() else { return };
        let layers = stack(&dir, 2);
        let m = mount(&layers, None, Options::of_this_process(false)).unwrap();
        let inside = PathBuf::from(format!("/proc/self/fd/{}", m.as_raw_fd()));
        let top = Some(Top { upper: &inside, work: &inside });
        let e = mount(&layers, top, Options::of_this_process(false)).unwrap_err();
        assert!(e.to_string().len() > 60 && e.to_string().starts_with("mount the overlay: "), "{e}");
        drop(m);
        remove_tree(&dir).unwrap();
    }
}
