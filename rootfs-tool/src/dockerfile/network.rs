//! The network of RUN: which of the runner's it is. A command has a network of its own, as in docker, so what listens on
//! the host's loopback device is not reached by it.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use coracle_sys::{namespace, process};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{AccessFlags, access};

/// CAP_NET_ADMIN.
const NET_ADMIN: u32 = 12;
/// Both programs stand on the device that packets are written to.
const TUN: &str = "/dev/net/tun";
/// Who carries an ordinary user's packets, the better one first.
const PROGRAMS: [&str; 2] = ["pasta", "slirp4netns"];

/// What a command is given where nothing is asked for: the runner's word, and what there is to say of it.
pub(crate) struct Default {
    pub(crate) word: &'static str,
    pub(crate) warning: Option<String>,
}

/// What this process can give.
pub(crate) fn default() -> Default {
    let path = std::env::var_os("PATH").unwrap_or_default();
    decide(owns_network(), PROGRAMS.into_iter().find(|name| is_installed(&path, name)), has_tun())
}

/// A bridge takes rights over the network that this process is in. Who has none has packets carried by a program.
fn decide(owns: bool, program: Option<&'static str>, tun: bool) -> Default {
    let why = match (owns, program, tun) {
        (true, ..) => return Default { word: "bridge", warning: None },
        (false, Some(word), true) => return Default { word, warning: None },
        (false, None, _) => "neither pasta nor slirp4netns is installed".to_owned(),
        (false, Some(_), false) => format!("{TUN} is not for this user to open"),
    };
    let text = format!("RUN has the host's network, its loopback device too: a bridge takes root, and {why}");
    Default { word: "host", warning: Some(text) }
}

/// Is this process's network one of its own user namespace, to change which it has the right?
fn owns_network() -> bool {
    let network = open("/proc/self/ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let owner = network.ok().and_then(|fd| namespace::owner(fd.as_fd()).ok());
    let owner = owner.and_then(|fd| fstat(fd.as_fd()).ok());
    let own = Path::new("/proc/self/ns/user").metadata();
    let same = owner.zip(own.ok()).is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.dev(), b.ino()));
    same && process::capget().is_ok_and(|(effective, ..)| effective & 1 << NET_ADMIN != 0)
}

fn has_tun() -> bool {
    access(TUN, AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
}

/// Where the runner looks for it as well.
fn is_installed(path: &OsStr, name: &str) -> bool {
    let usual = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    let runs = |file: PathBuf| {
        file.is_absolute()
            && file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).chain(usual).any(|dir| runs(dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_for_who_may_make_one_and_the_hosts_network_is_the_last_resort() {
        let word = |owns, program, tun| {
            let found = decide(owns, program, tun);
            (found.word, found.warning.unwrap_or_default())
        };
        assert_eq!(word(true, None, false), ("bridge", String::new()));
        assert_eq!(word(false, Some("pasta"), true), ("pasta", String::new()));
        let (host, why) = word(false, None, true);
        assert!(host == "host" && why.contains("neither pasta nor slirp4netns"), "{why}");
        let (host, why) = word(false, Some("pasta"), false);
        assert!(host == "host" && why.contains("/dev/net/tun"), "{why}");
    }
}
