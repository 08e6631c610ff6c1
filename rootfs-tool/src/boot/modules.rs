//! A kernel's modules: which files to load, and in which order, for what a machine needs. The tables are those of
//! depmod(8) (modules.dep(5)); where a tree comes without them, as in a package, they are made here the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use coracle_store::layer::decompress;
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Context, Error, Result, file};

use super::modinfo;
use crate::archive::packed;

/// The most that a file of a kernel has, decompressed.
const MAX: u64 = 1 << 30;

/// How files of modules end.
pub(super) const ENDS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// The bytes of an entry.
pub(crate) fn bytes(content: &Content) -> Result<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.clone()),
        Content::File { path, .. } => file::read_plain(path),
        _ => Err(Error::invalid("it is no file")),
    }
}

/// Bytes as they are, or decompressed where they are compressed.
pub(crate) fn plain(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let inner = decompress(std::io::BufReader::new(packed::open(&bytes[..])?), None)?;
    inner.take(MAX + 1).read_to_end(&mut out).context(|| "decompress it")?;
    if out.len() as u64 > MAX {
        return Err(Error::invalid(format!("it has more than {MAX} bytes")));
    }
    Ok(out)
}

/// The modules of a tree.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// By name: the file, from the tree's folder on, and those that it depends on, each before those that depend on it.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// What is in the kernel itself, by name.
    builtin: BTreeSet<String>,
    /// What should be loaded before a module, by its name.
    before: BTreeMap<String, Vec<String>>,
}

/// A module's name by its file: dashes are underscores, as the kernel has it.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = ENDS.iter().find_map(|end| file.strip_suffix(end))?;
    Some(name.replace('-', "_"))
}

impl Modules {
    /// Those in the folder `dir` of an archive, by its tables.
    pub(crate) fn of(archive: &Archive, dir: &str) -> Result<Self> {
        let text = |name: &str| -> Result<String> {
            match archive.get(format!("{dir}/{name}")) {
                Some((_, content)) => Ok(String::from_utf8_lossy(&bytes(content)?).into_owned()),
                None => Ok(String::new()),
            }
        };
        let read = || -> Result<Self> {
            Ok(Self::parse(&text("modules.dep")?, &text("modules.builtin")?, &text("modules.softdep")?))
        };
        read().context(|| format!("read the modules in {dir}"))
    }

    fn parse(dep: &str, builtin: &str, softdep: &str) -> Self {
        let mut all = Self::default();
        for line in dep.lines() {
            let Some((path, needed)) = line.split_once(':') else { continue };
            let Some(name) = name_of(path) else { continue };
            // What stands last is loaded first.
            let needed = needed.split_whitespace().rev().map(str::to_owned).collect();
            all.files.insert(name, (path.to_owned(), needed));
        }
        all.builtin.extend(builtin.lines().filter_map(name_of));
        for line in softdep.lines() {
            let Some((name, text)) = line.strip_prefix("softdep ").and_then(|l| l.split_once(' ')) else {
                continue;
            };
            all.before.entry(name.replace('-', "_")).or_default().extend(wanted_before(text));
        }
        all
    }

    /// Is it there, as a file or in the kernel?
    pub(crate) fn has(&self, name: &str) -> bool {
        let name = name.replace('-', "_");
        self.builtin.contains(&name) || self.files.contains_key(&name)
    }

    /// Are there none, and no table of what is built in?
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.builtin.is_empty()
    }

    /// The words of a kernel's command line without those that ask init for modules which are here, and their names: where
    /// modules are chosen beforehand, init has no table by which it would find others.
    pub(crate) fn take_asked(&self, line: &str) -> (String, Vec<String>) {
        let (mut left, mut names) = (Vec::new(), Vec::new());
        for word in line.split(' ') {
            let list = word.strip_prefix("init.modules=");
            let asked: Vec<&str> = list.into_iter().flat_map(|list| list.split(',')).collect();
            match !asked.is_empty() && asked.iter().all(|name| self.has(name)) {
                true => names.extend(asked.into_iter().map(str::to_owned)),
                false => left.push(word),
            }
        }
        (left.join(" "), names)
    }

    /// The files to load for these, from the tree's folder on, in order.
    pub(crate) fn order(&self, names: &[&str]) -> Result<Vec<String>> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        for name in names {
            let name = name.replace('-', "_");
            if !self.has(&name) {
                return Err(Error::not_found(format!("find the module {name}: the kernel's tree has none")));
            }
            self.visit(&name, &mut order, &mut seen);
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<String>, seen: &mut BTreeSet<String>) {
        let Some((path, needed)) = self.files.get(name).filter(|_| seen.insert(name.to_owned())) else {
            return;
        };
        // A wish that cannot be met is none.
        self.before.get(name).into_iter().flatten().for_each(|other| self.visit(other, order, seen));
        needed.iter().filter_map(|path| name_of(path)).for_each(|other| self.visit(&other, order, seen));
        order.push(path.clone());
    }
}

/// The `pre:` of a softdep, as names.
fn wanted_before(text: &str) -> Vec<String> {
    let mut pre = false;
    let mut names = Vec::new();
    for word in text.split_whitespace() {
        match word {
            "pre:" => pre = true,
            "post:" => pre = false,
            name if pre => names.push(name.replace('-', "_")),
            _ => {}
        }
    }
    names
}

/// Put the tables that depmod(8) would make into a tree without them, dated `mtime`.
pub(crate) fn put_tables(archive: &mut Archive, dir: &str, mtime: (i64, u32)) -> Result<()> {
    let mut infos = BTreeMap::new();
    for (path, _, content) in archive.inside(dir.as_bytes()) {
        let path = String::from_utf8_lossy(path).into_owned();
        let below = path[dir.len() + 1..].to_owned();
        let Some(name) = name_of(&below) else { continue };
        let info = bytes(content).and_then(plain).and_then(|bytes| modinfo::read(&bytes));
        infos.insert(name, (below, info.context(|| format!("read the module {path:?}"))?));
    }
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    let (mut alias, mut softdep) = (String::new(), String::new());
    for (name, (path, info)) in &infos {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::from([name.as_str()]));
        info.depends.iter().for_each(|other| depend(&infos, other, &mut order, &mut seen));
        let needed: String = order.iter().rev().map(|path| format!(" {path}")).collect();
        lines.insert(path, format!("{path}:{needed}\n"));
        info.alias.iter().for_each(|pattern| alias += &format!("alias {pattern} {name}\n"));
        info.softdep.iter().for_each(|text| softdep += &format!("softdep {name} {text}\n"));
    }
    let dep: String = lines.into_values().collect();
    for (name, text) in [("modules.dep", dep), ("modules.alias", alias), ("modules.softdep", softdep)] {
        let path = Path::new(dir).join(name);
        archive.put(path, Meta { mtime, ..Meta::new(0o644) }, Content::Bytes(text.into_bytes()))?;
    }
    Ok(())
}

fn depend<'a>(
    infos: &'a BTreeMap<String, (String, modinfo::Info)>,
    name: &str,
    order: &mut Vec<&'a str>,
    seen: &mut BTreeSet<&'a str>,
) {
    // What has no file is in the kernel itself.
    let Some((name, (path, info))) = infos.get_key_value(&name.replace('-', "_")) else { return };
    if seen.insert(name) {
        info.depends.iter().for_each(|other| depend(infos, other, order, seen));
        order.push(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/net.ko.xz: kernel/fail.ko kernel/virtio-ring.ko kernel/virtio.ko\n\
        kernel/virtio-ring.ko: kernel/virtio.ko\nkernel/virtio.ko:\nkernel/fail.ko:\nkernel/crc.ko:\n";

    #[test]
    fn the_kernel_s_command_line_names_modules_too() {
        let all = Modules::parse(DEP, "kernel/nvme-core.ko\n", "");
        let line =
            "quiet init.modules=net,nvme_core x=\"a  b\" init.modules=gone modules=crc init.modules=crc";
        let (left, names) = all.take_asked(line);
        assert_eq!(left, "quiet x=\"a  b\" init.modules=gone modules=crc");
        assert_eq!(names, ["net", "nvme_core", "crc"]);
        assert_eq!(all.take_asked(""), (String::new(), Vec::new()));
    }

    #[test]
    fn what_is_needed_is_loaded_first_and_once() {
        let all = Modules::parse(DEP, "kernel/nvme-core.ko\n", "softdep net pre: crc gone post: fail\n");
        let order = |names: &[&str]| all.order(names).map(|o| o.join(" "));
        assert_eq!(order(&["virtio_ring"]).unwrap(), "kernel/virtio.ko kernel/virtio-ring.ko");
        assert_eq!(
            order(&["net", "virtio-ring", "nvme_core"]).unwrap(),
            "kernel/crc.ko kernel/virtio.ko kernel/virtio-ring.ko kernel/fail.ko kernel/net.ko.xz"
        );
        assert_eq!(order(&["9p"]).unwrap_err().to_string(), "find the module 9p: the kernel's tree has none");
        assert!(all.has("nvme-core") && !all.has("9p"));
    }

    #[test]
    fn tables_are_made_of_what_modules_say() {
        let mut archive = Archive::new();
        for (path, bytes) in [
            ("m/kernel/a.ko", modinfo::tests::module(b"depends=b,virtio\0alias=virtio:*\0")),
            ("m/kernel/b-c.ko", modinfo::tests::module(b"depends=\0softdep=pre: a\0")),
            ("m/kernel/b.ko", modinfo::tests::module(b"depends=b-c\0")),
            ("m/modules.order", b"kernel/a.ko\n".to_vec()),
        ] {
            archive.put(path, Meta::new(0o644), Content::Bytes(bytes)).unwrap();
        }
        put_tables(&mut archive, "m", (7, 0)).unwrap();
        let text = |name: &str| {
            let (meta, content) = archive.get(format!("m/{name}")).unwrap();
            assert_eq!(meta.mtime, (7, 0));
            String::from_utf8(bytes(content).unwrap()).unwrap()
        };
        assert_eq!(
            text("modules.dep"),
            "kernel/a.ko: kernel/b.ko kernel/b-c.ko\nkernel/b-c.ko:\nkernel/b.ko: kernel/b-c.ko\n"
        );
        assert_eq!(text("modules.alias"), "alias virtio:* a\n");
        assert_eq!(text("modules.softdep"), "softdep b_c pre: a\n");
        let order = Modules::of(&archive, "m").unwrap().order(&["a"]).unwrap().join(" ");
        assert_eq!(order, "kernel/b-c.ko kernel/b.ko kernel/a.ko");
        archive.put("m/bad.ko", Meta::new(0o644), Content::Bytes(b"text".to_vec())).unwrap();
        let e = put_tables(&mut archive, "m", (7, 0)).unwrap_err().to_string();
        assert_eq!(e, "read the module \"m/bad.ko\": it is no kernel module");
    }

    #[test]
    fn a_compressed_module_is_read_as_what_is_inside() {
        assert_eq!(plain(include_bytes!("../archive/hello.xz").to_vec()).unwrap(), b"hello");
        assert_eq!(plain(b"\x7fELF".to_vec()).unwrap(), b"\x7fELF");
        assert!(plain(b"\x28\xb5\x2f\xfdcut".to_vec()).is_err());
    }
}
