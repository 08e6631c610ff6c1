//! The files of /etc that are the container's own and not the image's: hosts, hostname, resolv.conf.

use std::path::Path;

use coracle_sys::{Context, Result};

use crate::from_image::{flags::Flags, short};
use crate::spec::Mount;

/// What is mounted, where.
const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Write them into the container's directory, whose name is its id, and mount them from there.
pub(crate) fn mounts(dir: &Path, flags: &Flags) -> Result<Vec<Mount>> {
    let id = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
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
        let text = match file {
            "hosts" => hosts(&name),
            "hostname" => format!("{name}\n"),
            // Read as it is now: a container that lives long is told of changes by nobody.
            _ => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        let path = dir.join(file);
        std::fs::write(&path, text).context(|| format!("write({path:?})"))?;
        all.push(Mount {
            destination: Path::new("/etc").join(file),
            kind: Some("bind".to_owned()),
            source: Some(path),
            options: ["rbind", "rprivate"].map(str::to_owned).into(),
            ..Mount::default()
        });
    }
    Ok(all)
}

fn hosts(name: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback {name}\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}
