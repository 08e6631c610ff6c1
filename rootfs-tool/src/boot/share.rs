//! Folders of the host in the machine: by virtiofs, which takes a program beside the emulator, or by 9p, which the
//! emulator speaks itself. The kernel decides: Debian's for machines in a cloud has virtiofs alone.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use coracle_sys::print::harmless;
use coracle_sys::process::{self, Status};
use coracle_sys::program::{self, Program};
use coracle_sys::{Context, Error, Result, file, mount, pidfd};

use super::modules::Modules;
use super::qemu::{By, Share};

/// `-v`: a folder and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    target: String,
    readonly: bool,
}

impl Folder {
    /// `DIR:/TARGET[:ro]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "-v {text:?}: it is DIR:/TARGET, with :ro behind where it is not written to"
            ))
        };
        let mut words = text.split(':');
        let (Some(dir), Some(target), mode, None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        let readonly = match mode {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err(wrong()),
        };
        if dir.is_empty() || !target.starts_with('/') || target.trim_matches('/').is_empty() {
            return Err(wrong());
        }
        let dir = match std::fs::canonicalize(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !dir.contains('/') => {
                return Err(Error::usage(format!(
                    "-v {text:?}: there is no folder {dir:?} here, and a machine has no volumes by name"
                )));
            }
            found => found.context(|| format!("-v {text:?}: realpath({dir:?})"))?,
        };
        // A comma ends a value among the options of what serves it.
        if dir.as_os_str().as_encoded_bytes().contains(&b',') {
            return Err(Error::unsupported(format!("-v {text:?}: a folder with a comma in its path")));
        }
        if !dir.is_dir() {
            return Err(Error::usage(format!(
                "-v {text:?}: {dir:?} is no folder, and a machine shares folders"
            )));
        }
        Ok(Self { dir, target: target.to_owned(), readonly })
    }
}

/// What serves what is shared.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) shares: Vec<Share>,
    /// Modules that the machine needs for it.
    pub(crate) modules: Vec<&'static str>,
    /// SOURCE:/TARGET:TYPE:OPTIONS of init.
    pub(crate) mounts: Vec<String>,
}

/// Decide. `virtiofsd` is the program.
pub(crate) fn plan(
    folders: &[Folder],
    modules: &Modules,
    virtiofsd: Option<&Path>,
    root: bool,
) -> Result<Plan> {
    let mut plan = Plan::default();
    if folders.is_empty() {
        return Ok(plan);
    }
    let plan9 = modules.has("9pnet_virtio") && modules.has("9p");
    let cannot = |why: &str| Err(Error::unsupported(format!("share a folder: {why}")));
    match (modules.has("virtiofs"), virtiofsd) {
        (true, Some(_)) if root || !plan9 => plan.modules.push("virtiofs"),
        _ if plan9 => plan.modules.extend(["9pnet_virtio", "9p"]),
        (true, _) => return cannot("the kernel has virtiofs, and the program virtiofsd is not installed"),
        (false, _) => return cannot("the kernel has neither virtiofs nor 9p among its modules"),
    }
    let by_program = plan.modules == ["virtiofs"];
    for (n, folder) in folders.iter().enumerate() {
        let tag = format!("coracle{n}");
        let options = if folder.readonly { ",ro" } else { "" };
        plan.mounts.push(match by_program {
            true => format!("{tag}:{}:virtiofs{}", folder.target, options.replace(',', ":")),
            false => {
                format!("{tag}:{}:9p:trans=virtio,version=9p2000.L,msize=512000{options}", folder.target)
            }
        });
        let by = match by_program {
            true => By::Virtiofs,
            false => By::Plan9 { as_owners: root },
        };
        let dir = folder.dir.display().to_string();
        plan.shares.push(Share { tag, dir, readonly: folder.readonly, by });
    }
    Ok(plan)
}

/// The program, where distributions put it.
pub(crate) fn virtiofsd() -> Option<PathBuf> {
    let places = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    program::find("virtiofsd").or_else(|| places.map(PathBuf::from).into_iter().find(|p| p.is_file()))
}

/// The programs that are to run beside the emulator.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) program: Option<PathBuf>,
    pub(crate) shares: Vec<Share>,
}

/// One that runs, and what it says.
struct Server {
    pid: i32,
    pidfd: OwnedFd,
    said: File,
}

/// Those that run. They end with the emulator, at the latest with the value.
#[derive(Default)]
pub(crate) struct Started(Vec<Server>);

impl Servers {
    /// Start them. Gives the emulator's end of the wire to each, too.
    pub(crate) fn start(&self) -> Result<(Started, Vec<OwnedFd>)> {
        let (mut started, mut wires) = (Started::default(), Vec::new());
        for share in self.shares.iter().filter(|share| share.by == By::Virtiofs) {
            let program = self.program.as_deref().unwrap_or(Path::new("virtiofsd"));
            let mut serve = || -> Result<()> {
                let (listener, wire) = wire()?;
                started.0.push(server(program, share, &listener)?);
                wires.push(wire);
                Ok(())
            };
            serve().context(|| format!("share {:?}", share.dir))?;
        }
        Ok((started, wires))
    }
}

/// A socket that listens, as virtiofsd wants it, and the other end of the one connection to it. The name that they take for
/// that is gone before anything is served.
fn wire() -> Result<(OwnedFd, OwnedFd)> {
    let dir = std::env::temp_dir().join(file::unique_name("coracle-boot-"));
    DirBuilder::new().mode(0o700).create(&dir).context(|| format!("mkdir({dir:?})"))?;
    let path = dir.join("wire");
    let made = UnixListener::bind(&path).and_then(|listener| Ok((listener, UnixStream::connect(&path)?)));
    let removed = file::remove_tree(&dir);
    let (listener, wire) = made.context(|| format!("bind({path:?})"))?;
    removed.map(|()| (listener.into(), wire.into()))
}

fn server(path: &Path, share: &Share, listener: &OwnedFd) -> Result<Server> {
    let mut server = Program::new(path);
    server.word(format!("--fd={}", listener.as_raw_fd()));
    // The word that the program of QEMU and its successor both know.
    server.word("-o");
    server.word(format!("source={}", share.dir));
    server.bound();
    let mut over = Vec::new();
    if share.readonly {
        // What the machine mounts read-only it could mount anew: what is served is read-only itself.
        let dir = PathBuf::from(&share.dir);
        let attrs = mount::Attrs { set: mount::attr::RDONLY, ..mount::Attrs::default() };
        let tree = mount::clone_host_tree(&dir, true);
        let tree = tree.and_then(|tree| mount::set_attrs(tree.as_fd(), attrs, true).map(|()| tree));
        over.push((tree.context(|| "serve it read-only, which takes root")?, dir));
    }
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let said = program::memory()?;
    let streams = [Some(null.as_fd()), Some(said.as_fd()), Some(said.as_fd())];
    let (pid, pidfd) = server.begin(streams, &[listener.as_fd()], &over)?;
    Ok(Server { pid, pidfd, said })
}

impl Started {
    /// End them. What one said last that had failed by itself: the emulator knows only that it does not answer.
    pub(crate) fn end(&mut self) -> Option<String> {
        let mut failed = None;
        for Server { pid, pidfd, said } in self.0.drain(..) {
            let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
            if let Ok(Status::Exited(1..)) = process::wait(pid).map(|end| end.status) {
                let text = program::heard(said).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it failed");
                failed = Some(format!("virtiofsd: {}", harmless(last)));
            }
        }
        failed
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use coracle_store::layer::pack::{Archive, Content, Meta};

    use super::*;

    fn modules(names: &[&str]) -> Modules {
        let mut archive = Archive::new();
        let text: String = names.iter().map(|name| format!("kernel/{name}.ko:\n")).collect();
        archive.put("m/modules.dep", Meta::new(0o644), Content::Bytes(text.into_bytes())).unwrap();
        Modules::of(&archive, "m").unwrap()
    }

    #[test]
    fn the_kernel_and_what_is_installed_decide_how_a_folder_is_shared() {
        let folders = [Folder::parse("/tmp:/a:ro").unwrap(), Folder::parse("/:/b").unwrap()];
        let (both, one, none) =
            (modules(&["9p", "9pnet_virtio", "virtiofs"]), modules(&["virtiofs"]), modules(&["fuse"]));
        let program = Some(Path::new("/v"));
        let plan = |m: &Modules, p, root| super::plan(&folders, m, p, root);
        let by = |m: &Modules, p, root| plan(m, p, root).unwrap();
        let virtio = by(&one, program, true);
        assert_eq!(virtio.mounts, ["coracle0:/a:virtiofs:ro", "coracle1:/b:virtiofs"]);
        assert_eq!(virtio.shares[1].by, By::Virtiofs);
        assert_eq!(by(&both, program, true).modules, ["virtiofs"]);
        for plan9 in [by(&both, None, true), by(&both, program, false)] {
            assert_eq!(plan9.modules, ["9pnet_virtio", "9p"]);
            assert_eq!(plan9.mounts[0], "coracle0:/a:9p:trans=virtio,version=9p2000.L,msize=512000,ro");
            assert!(plan9.shares[0].readonly && !plan9.shares[1].readonly);
        }
        assert_eq!(by(&both, None, true).shares[0].by, By::Plan9 { as_owners: true });
        assert!(plan(&one, None, true).unwrap_err().to_string().contains("virtiofsd is not installed"));
        assert!(plan(&none, program, true).unwrap_err().to_string().contains("neither virtiofs nor 9p"));
        assert!(super::plan(&[], &none, None, true).unwrap().shares.is_empty());
    }

    #[test]
    fn what_is_no_folder_with_a_place_is_refused() {
        for bad in ["", "/tmp", "/tmp:", "/tmp:x", ":/x", "/tmp:/x:rx", "/tmp:/x:ro:y"] {
            assert!(Folder::parse(bad).unwrap_err().to_string().contains("DIR:/TARGET"), "{bad}");
        }
        assert!(Folder::parse("/nonexistent:/x").unwrap_err().to_string().contains("/nonexistent"));
        assert!(Folder::parse("/etc/passwd:/x").unwrap_err().to_string().contains("is no folder"));
    }
}
