//! Trying things in a child that is thrown away, and asking for system calls.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use coracle_sys::mount::{self, FsContext};
use coracle_sys::process::{self, Cloned};
use coracle_sys::{Context, Result};
use nix::fcntl::{OFlag, OpenHow};

/// Do it in a child. The caller must have one thread.
pub(super) fn tried(act: impl FnOnce() -> Result<()>) -> std::result::Result<(), String> {
    let (mut reader, mut writer) = std::io::pipe().map_err(|e| format!("pipe(): {e}"))?;
    match process::clone(0, None).map_err(|e| e.to_string())? {
        Cloned::Child => {
            drop(reader);
            if let Err(e) = act() {
                let _ = writer.write_all(e.to_string().as_bytes());
            }
            process::exit_now(0)
        }
        Cloned::Parent { pid, .. } => {
            drop(writer);
            let mut said = String::new();
            let _ = reader.read_to_string(&mut said);
            let ended = process::wait(pid).map_err(|e| e.to_string())?;
            match (said.is_empty(), ended.status) {
                (true, process::Status::Exited(0)) => Ok(()),
                (true, status) => Err(format!("the trial ended with {status:?}")),
                (false, _) => Err(said),
            }
        }
    }
}

/// System calls that a start is faster or safer with: name, whether they are there, since when.
pub(super) fn calls(
    enter: impl Fn() -> Result<()>,
) -> Vec<(&'static str, std::result::Result<String, String>, &'static str)> {
    let open = |dir: &str| std::fs::File::open(dir).context(|| format!("open({dir:?})"));
    let ask = |call: &dyn Fn() -> Result<()>| {
        tried(|| {
            enter()?;
            call()
        })
        .map(|()| "there".to_owned())
    };
    let new_mounts = || FsContext::open("tmpfs").map(drop);
    let set_attrs = || mount::set_attrs(open("/")?.as_fd(), mount::Attrs::default(), false);
    let openat2 = || {
        let how = OpenHow::new().flags(OFlag::O_PATH);
        nix::fcntl::openat2(nix::fcntl::AT_FDCWD, "/", how).map(drop).context(|| "openat2(\"/\")")
    };
    let pidfd = || coracle_sys::pidfd::open(nix::unistd::getpid().as_raw()).map(drop);
    vec![
        (
            "new mount calls",
            ask(&new_mounts),
            "Linux 5.2; inside a container, one whose seccomp filter allows fsopen",
        ),
        ("mount_setattr", ask(&set_attrs), "Linux 5.12"),
        ("openat2", ask(&openat2), "Linux 5.6"),
        ("pidfd", ask(&pidfd), "Linux 5.3"),
    ]
}

/// Whether a program's file grants capabilities.
pub(super) fn has_file_capabilities(program: &Path) -> bool {
    let (Some(dir), Some(name)) = (program.parent(), program.file_name()) else { return false };
    let Ok(dir) = std::fs::File::open(dir) else { return false };
    coracle_sys::file::xattr_names_at(dir.as_fd(), name)
        .is_ok_and(|names| names.iter().any(|n| n.as_c_str() == c"security.capability"))
}
