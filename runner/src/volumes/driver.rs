//! The options of docker's driver `local`: `type`, `device` and `o` say what is mounted in a volume's place. Here each
//! container mounts it for itself, so what would be mounted with the host's network is refused by name. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_sys::{Error, Result};

use crate::spec::Mount;

/// Reached over the network: the container has its own by then.
const REMOTE: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs", "virtiofs"];

type Words = BTreeMap<String, String>;

/// What cannot be served is refused when the volume is made.
pub(crate) fn check(options: &Words) -> Result<()> {
    for key in options.keys() {
        match key.as_str() {
            "type" | "device" | "o" => {}
            "size" => {
                return Err(Error::unsupported(
                    "option \"size\": volumes have no quota of their own (type=tmpfs with o=size= has one)",
                ));
            }
            other => return Err(Error::usage(format!("invalid option: {other:?}"))),
        }
    }
    if options.is_empty() {
        return Ok(());
    }
    for key in ["device", "type"] {
        if options.get(key).is_none_or(String::is_empty) {
            return Err(Error::usage(format!("missing required option: {key:?}")));
        }
    }
    mount(options, Path::new("/volume"), &[]).map(drop)
}

/// Is it memory, which every container would have for itself?
pub(crate) fn is_memory(options: &Words) -> bool {
    matches!(options.get("type").map(String::as_str), Some("tmpfs" | "ramfs"))
}

/// The mount at `at`, with the words of the container's own flag.
pub(crate) fn mount(options: &Words, at: &Path, own: &[String]) -> Result<Mount> {
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (text("type"), text("device"));
    let words: Vec<String> = text("o").split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let bind = kind == "bind" || words.iter().any(|w| w == "bind" || w == "rbind");
    if REMOTE.contains(&kind) || kind.starts_with("fuse") {
        return Err(Error::unsupported(format!(
            "type={kind}: mount it on the host, and name that folder (type=none, o=bind, device=FOLDER)"
        )));
    }
    if bind && !device.starts_with('/') {
        return Err(Error::usage(format!("device={device:?}: a folder's path begins with /")));
    }
    if kind == "none" && !bind {
        return Err(Error::usage("type=none needs o=bind"));
    }
    let kind = if bind { "bind" } else { kind };
    // A bind is told its propagation, a file system of its own has none to share.
    let own = own.iter().filter(|word| bind || *word != "rprivate");
    Ok(Mount {
        destination: at.to_path_buf(),
        kind: Some(kind.to_owned()),
        source: Some(device.into()),
        options: words.iter().chain(own).cloned().collect(),
        ..Mount::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        let pair = |w: &str| w.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.split_whitespace().filter_map(pair).collect()
    }

    #[test]
    fn options_are_those_of_mount_and_others_are_named() {
        for good in ["", "type=tmpfs device=tmpfs o=size=10m,uid=5", "type=none device=/d o=bind,ro"] {
            assert!(check(&words(good)).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("foo=bar", "invalid option: \"foo\""),
            ("type=tmpfs", "missing required option: \"device\""),
            ("device=/tmp o=bind", "missing required option: \"type\""),
            ("type=nfs device=:/x o=addr=10.0.0.1", "type=nfs"),
            ("type=none device=/x", "o=bind"),
            ("type=none device=x o=bind", "device=\"x\""),
            ("size=1g", "size"),
        ] {
            let e = check(&words(bad)).unwrap_err().to_string();
            assert!(e.contains(says), "{bad}: {e}");
        }
    }

    #[test]
    fn a_mount_has_the_volumes_words_and_then_the_containers() {
        let own = ["ro".to_owned(), "rprivate".to_owned()];
        let m = mount(&words("type=tmpfs device=t o=size=1m"), Path::new("/x"), &own).unwrap();
        assert_eq!((m.kind.as_deref(), m.options.join(",")), (Some("tmpfs"), "size=1m,ro".to_owned()));
        let m = mount(&words("type=none device=/d o=bind"), Path::new("/x"), &own).unwrap();
        assert_eq!((m.kind.as_deref(), m.options.join(",")), (Some("bind"), "bind,ro,rprivate".to_owned()));
    }
}
