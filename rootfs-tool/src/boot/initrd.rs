//! What the kernel unpacks into memory: the image's tree where that is the root, and behind it, as an archive of its own,
//! init, its boot.conf and the modules. cpio(1) reads the first archive and stops: it sees the image and nothing else.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use coracle_store::layer::pack::{Archive, Content};
use coracle_sys::{Context, Result};

use super::conf;
use super::kernel::Kernel;
use super::modules::{self, Modules};
use crate::compose::deb::through_links;
use crate::pack::cpio::{DIR, FILE, Head, Writer};

/// Files of modules in the order in which they are loaded, one a line.
const LIST: &str = "etc/coracle/modules";

/// A module: its path in the machine, and its bytes.
pub(crate) type Module = (String, Vec<u8>);

/// The modules of these names with all that they need, decompressed: the kernel's own decompressor is not always there.
pub(crate) fn modules(kernel: &Kernel, of: &Modules, names: &[&str]) -> Result<Vec<Module>> {
    let mut all = Vec::new();
    for file in of.order(names)? {
        let path = format!("{}/{file}", kernel.dir());
        let bytes = kernel.bytes(&path)?.unwrap_or_default();
        let bytes = modules::plain(bytes).context(|| format!("read the module {path}"))?;
        let plain = path.rsplit_once(".ko").map_or(path.as_str(), |(stem, _)| stem);
        all.push((format!("{plain}.ko"), bytes));
    }
    Ok(all)
}

/// Write the second archive. Directories that `root`, the first one's tree, has are its own: named again they would take
/// the place of a link of that name.
pub(crate) fn write(
    root: Option<&Archive>,
    init: &[u8],
    conf: &[u8],
    modules: &[Module],
    out: impl Write,
) -> Result<()> {
    let list: String = modules.iter().map(|(path, _)| format!("/{path}\n")).collect();
    let mut files: Vec<(&str, u32, &[u8])> = vec![("init", 0o755, init), (conf::PATH, 0o600, conf)];
    files.push((LIST, 0o644, list.as_bytes()));
    files.extend(modules.iter().map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice())));
    let mut out = Writer::new(out);
    let (mut number, mut made) = (0, BTreeSet::new());
    let mut next = || {
        number += 1;
        number
    };
    for (path, mode, bytes) in files {
        let at = match (root, path) {
            // The kernel unpacks into the root itself, and takes a file's place whatever it is.
            (None, _) | (_, "init") => path.into(),
            (Some(root), _) => through_links(root, Path::new(path))?,
        };
        let dirs: Vec<&Path> = at.ancestors().skip(1).filter(|d| !d.as_os_str().is_empty()).collect();
        for dir in dirs.into_iter().rev() {
            let is_there = root.and_then(|root| root.get(dir)).is_some_and(|(_, c)| *c == Content::Dir);
            if !is_there && made.insert(dir.to_owned()) {
                let head = Head { links: 2, ..Head::new(next(), DIR | 0o755) };
                out.entry(dir.as_os_str().as_encoded_bytes(), &head, 0, &mut std::io::empty())?;
            }
        }
        let name = at.as_os_str().as_encoded_bytes();
        out.entry(name, &Head::new(next(), FILE | mode), bytes.len() as u64, &mut &bytes[..])?;
    }
    out.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use coracle_store::layer::pack::Meta;

    use super::*;

    /// Path and mode of each entry.
    fn entries(archive: &[u8]) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(archive).into_owned();
        let entry =
            |e: &str| (e[104..].split('\0').next().unwrap_or_default().to_owned(), e[11..16].to_owned());
        text.split("070701").skip(1).map(entry).collect()
    }

    #[test]
    fn modules_land_where_the_image_s_links_lead_and_its_directories_stay() {
        let mut root = Archive::new();
        for (path, content) in [
            ("lib", Content::Symlink("usr/lib".into())),
            ("usr", Content::Dir),
            ("usr/lib", Content::Dir),
            ("etc", Content::Dir),
            ("init", Content::Symlink("bin/init".into())),
        ] {
            root.put(path, Meta::new(0o700), content).unwrap();
        }
        let modules = [("lib/modules/6.1/a.ko".to_owned(), b"module".to_vec())];
        let mut out = Vec::new();
        write(Some(&root), b"INIT", b"arg=x\n", &modules, &mut out).unwrap();
        let expected = [
            ("init", "81ED"),
            ("etc/coracle", "41ED"),
            ("etc/coracle/boot.conf", "8180"),
            ("etc/coracle/modules", "81A4"),
            ("usr/lib/modules", "41ED"),
            ("usr/lib/modules/6.1", "41ED"),
            ("usr/lib/modules/6.1/a.ko", "81A4"),
            ("TRAILER!!!", "0000"),
        ];
        let expected = expected.map(|(path, mode)| (path.to_owned(), format!("0{mode}")));
        assert_eq!(entries(&out), expected);
        assert!(String::from_utf8_lossy(&out).contains("/lib/modules/6.1/a.ko\n"));
        out.clear();
        write(None, b"INIT", b"", &[], &mut out).unwrap();
        let paths: Vec<String> = entries(&out).into_iter().map(|e| e.0).collect();
        assert_eq!(
            paths.join(" "),
            "init etc etc/coracle etc/coracle/boot.conf etc/coracle/modules TRAILER!!!"
        );
    }
}
