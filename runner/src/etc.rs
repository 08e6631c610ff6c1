//! The files of /etc that are the container's own and not the image's: hosts, hostname, resolv.conf.

use std::path::Path;

use crate::from_image::{flags::Flags, short};
use crate::mounts::Mount;
use crate::network;
use crate::spec;

/// What is mounted, where.
const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Those of the container with this id and directory, but for those in whose place something else is mounted.
pub(crate) fn mounts(
    id: &str,
    dir: &Path,
    flags: &Flags,
    network: &network::Plan,
    taken: &[spec::Mount],
) -> Vec<Mount> {
    let host_uts = flags.uts.as_deref() == Some("host");
    let name = match &flags.hostname {
        Some(name) => name.clone(),
        None if host_uts => {
            nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default()
        }
        None => short(id).to_owned(),
    };
    let mut all = Vec::new();
    for file in FILES {
        let at = Path::new("/etc").join(file);
        if taken.iter().any(|m| m.destination == at) || flags.no_hostname && file == "hostname" {
            continue;
        }
        if let Some(kept) = network.hosts_file(dir).filter(|_| file == "hosts") {
            all.push(Mount::file(at, kept));
            continue;
        }
        let text = match file {
            "hosts" => network.hosts_text(&name),
            "hostname" => format!("{name}\n"),
            // Read as it is now: a container that lives long is told of changes by nobody.
            _ => network.resolv_text(),
        };
        all.push(Mount::text(at, text));
    }
    all
}
