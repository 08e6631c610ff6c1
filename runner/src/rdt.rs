//! Cache and memory bandwidth (`linux.intelRdt`): the container's class in a mounted resctrl file system, and the group
//! that it is watched in. A class that the client named stays when the container goes; what has the container's name goes
//! with it. What was used is not read here.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, file, read_json};
use serde::Serialize;

use crate::cgroups::unescape;
use crate::spec::IntelRdt;

/// A class, fully decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The class's directory below it; nothing for the default class.
    class: String,
    /// The client named it.
    named: bool,
    /// Lines for its `schemata`.
    schemata: Vec<String>,
    /// The monitoring group to make in it.
    monitor: Option<String>,
}

/// What later calls about the container need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Class {
    /// The directories that its processes are in.
    tasks: Vec<PathBuf>,
    /// Those that go with it.
    made: Vec<PathBuf>,
}

read_json!(Class {
    tasks: must "tasks",
    made: must "made",
});

/// Decide it. `mountinfo` is read only where there is something to decide.
pub(crate) fn plan(
    rdt: Option<&IntelRdt>,
    id: &str,
    mountinfo: fn() -> Result<Vec<u8>>,
) -> Result<Option<Plan>> {
    let Some(rdt) = rdt else { return Ok(None) };
    let class = match rdt.clos_id.as_deref().filter(|name| !name.is_empty()) {
        None => id,
        Some("/") => "",
        // What the kernel itself has there is no class.
        Some(name)
            if name.contains('/') || matches!(name, "." | ".." | "info" | "mon_data" | "mon_groups") =>
        {
            return Err(Error::invalid(format!("linux.intelRdt.closID {name:?} is no name of a class")));
        }
        Some(name) => name,
    };
    let text = |field: &Option<String>| field.clone().filter(|line| !line.is_empty());
    let mut schemata: Vec<String> = Vec::new();
    schemata.extend(text(&rdt.l3_cache_schema));
    if let Some(line) = text(&rdt.mem_bw_schema) {
        if !line.starts_with("MB:") {
            return Err(Error::invalid(format!(
                "linux.intelRdt.memBwSchema {line:?} does not begin with MB:"
            )));
        }
        schemata.push(line);
    }
    schemata.extend_from_slice(&rdt.schemata);
    if let Some(line) = schemata.iter().find(|line| line.contains('\n') || !line.contains(':')) {
        return Err(Error::invalid(format!("linux.intelRdt: {line:?} is no line of schemata")));
    }
    let root = mount_point(&String::from_utf8_lossy(&mountinfo()?)).ok_or_else(|| {
        Error::unsupported(
            "linux.intelRdt: no resctrl file system is mounted here (mount -t resctrl resctrl /sys/fs/resctrl, where kernel and processor have it)",
        )
    })?;
    let named = rdt.clos_id.as_ref().is_some_and(|name| !name.is_empty());
    let monitor = (rdt.enable_monitoring == Some(true)).then(|| id.to_owned());
    Ok(Some(Plan { root, class: class.to_owned(), named, schemata, monitor }))
}

/// The mounts of this process.
pub(crate) fn mountinfo() -> Result<Vec<u8>> {
    file::read(Path::new("/proc/self/mountinfo"))
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let is_it = |line: &&str| line.split_once(" - ").is_some_and(|(_, of)| of.starts_with("resctrl "));
    mountinfo.lines().find(is_it)?.split(' ').nth(4).map(unescape)
}

impl Plan {
    /// Have the container's first process, and all that it makes, in the class. On an error nothing is left of it.
    pub(crate) fn enter(&self, pid: i32) -> Result<Class> {
        let mut class = Class::default();
        let made = self.make(&mut class).and_then(|()| class.enter(pid)).map_err(|e| self.explain(e));
        if made.is_err() {
            let _ = class.remove();
        } else if self.named {
            class.made.retain(|dir| *dir != self.dir());
        }
        made.map(|()| class)
    }

    fn dir(&self) -> PathBuf {
        if self.class.is_empty() { self.root.clone() } else { self.root.join(&self.class) }
    }

    fn make(&self, class: &mut Class) -> Result<()> {
        let dir = self.dir();
        let there = dir.is_dir();
        if self.named && there && !self.schemata.is_empty() {
            let has = file::read(&dir.join("schemata"))?;
            if !agree(&String::from_utf8_lossy(&has), &self.schemata) {
                return Err(Error::invalid(format!(
                    "the class {:?} is there with other schemata",
                    self.class
                )));
            }
        } else if self.named && !there && self.schemata.is_empty() {
            return Err(Error::not_found(format!(
                "there is no class {:?}, and no schemata for one",
                self.class
            )));
        }
        if !there {
            fs::create_dir(&dir).context(|| format!("mkdir({dir:?})"))?;
        }
        // One with the container's name that is there was left by a runner that was killed.
        if !there || !self.named {
            class.made.push(dir.clone());
            if !self.schemata.is_empty() {
                write(&dir.join("schemata"), &(self.schemata.join("\n") + "\n"))?;
            }
        }
        if let Some(name) = &self.monitor {
            let group = dir.join("mon_groups").join(name);
            match fs::create_dir(&group) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(e).context(|| format!("mkdir({group:?})"));
                }
                _ => class.made.push(group.clone()),
            }
            class.tasks.push(group);
        }
        class.tasks.insert(0, dir);
        Ok(())
    }

    /// With what the kernel says of its last refusal.
    fn explain(&self, e: Error) -> Error {
        let said = file::read(&self.root.join("info/last_cmd_status")).unwrap_or_default();
        match String::from_utf8_lossy(&said).trim() {
            "" | "ok" => e.wrap("linux.intelRdt"),
            said => e.wrap(format!("linux.intelRdt ({said})")),
        }
    }
}

impl Class {
    /// Whether there is nothing to do.
    pub(crate) fn is_none(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Put a process in; 0 is this one.
    pub(crate) fn enter(&self, pid: i32) -> Result<()> {
        self.tasks.iter().try_for_each(|dir| write(&dir.join("tasks"), &pid.to_string()))
    }

    /// Change its schemata.
    pub(crate) fn change(&self, lines: &[&str]) -> Result<()> {
        match self.tasks.first() {
            Some(dir) if !lines.is_empty() => write(&dir.join("schemata"), &(lines.join("\n") + "\n")),
            _ => Ok(()),
        }
    }

    /// Take away what goes with the container.
    pub(crate) fn remove(&self) -> Result<()> {
        for dir in self.made.iter().rev() {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).context(|| format!("rmdir({dir:?})"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("write({path:?}, {text:?})"))
}

/// Whether a class has what is wanted: of each resource those domains that are named, however many zeros the kernel
/// shows before a number.
fn agree(has: &str, wanted: &[String]) -> bool {
    let plain = |part: &str| {
        let (id, value) = part.split_once('=').unwrap_or((part, ""));
        [id.trim(), "=", value.trim().trim_start_matches('0')].concat().to_ascii_lowercase()
    };
    wanted.iter().filter_map(|line| line.split_once(':')).all(|(resource, wanted)| {
        let lines = has.lines().filter_map(|line| line.split_once(':'));
        let has = lines.filter(|(of, _)| of.trim() == resource.trim());
        let domains: Vec<String> = has.flat_map(|(_, list)| list.split(';')).map(plain).collect();
        wanted.split(';').all(|part| domains.contains(&plain(part)))
    })
}

#[cfg(test)]
mod tests {
    use coracle_sys::{Kind, json};

    use super::*;

    fn mounted() -> Result<Vec<u8>> {
        Ok(b"20 1 0:5 / /proc rw - proc proc rw\n21 1 0:6 / /sys/fs/res\\040ctrl rw shared:3 - resctrl resctrl rw\n"
            .to_vec())
    }

    fn decide(text: &str) -> Result<Plan> {
        let rdt: IntelRdt = json::from_slice(text.as_bytes()).unwrap();
        plan(Some(&rdt), "box", mounted).map(Option::unwrap)
    }

    /// A folder that looks like resctrl with one class, `gold`.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("coracle-rdt-{name}-{}", std::process::id()));
            for dir in ["info", "mon_groups", "gold/mon_groups"] {
                fs::create_dir_all(root.join(dir)).unwrap();
            }
            fs::write(root.join("gold/schemata"), "    L3:0=007ff;1=0001f\n    MB:0= 20;1=100\n").unwrap();
            fs::write(root.join("info/last_cmd_status"), "ok\n").unwrap();
            Self(root)
        }

        fn enter(&self, text: &str) -> Result<Class> {
            Plan { root: self.0.clone(), ..decide(text)? }.enter(7)
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap_or_default()
        }

        /// The kernel takes a class away with its files, a temporary folder does not.
        fn empty(&self, dir: &str) {
            for file in ["schemata", "tasks"] {
                let _ = fs::remove_file(self.0.join(dir).join(file));
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_class_is_decided_and_what_is_wrong_is_named() {
        let all = decide(
            r#"{"memBwSchema":"MB:0=20","l3CacheSchema":"L3:0=f","schemata":["L2:0=3"],"enableMonitoring":true}"#,
        );
        let all = all.unwrap();
        assert_eq!(all.root, Path::new("/sys/fs/res ctrl"));
        assert_eq!(all.schemata, ["L3:0=f", "MB:0=20", "L2:0=3"]);
        assert_eq!((&*all.class, all.named, all.monitor.as_deref()), ("box", false, Some("box")));
        assert_eq!(decide(r#"{"closID":"/"}"#).unwrap().dir(), Path::new("/sys/fs/res ctrl"));
        assert_eq!(plan(None, "box", || unreachable!()).unwrap(), None);
        for (text, says) in [
            (r#"{"closID":"a/b"}"#, "closID \"a/b\""),
            (r#"{"closID":".."}"#, "closID \"..\""),
            (r#"{"closID":"info"}"#, "closID \"info\""),
            (r#"{"memBwSchema":"L3:0=f"}"#, "does not begin with MB:"),
            (r#"{"schemata":["L3:0=f\nMB:0=1"]}"#, "is no line of schemata"),
            (r#"{"schemata":["L3"]}"#, "\"L3\" is no line"),
        ] {
            let e = decide(text).unwrap_err().to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
        let e = plan(Some(&IntelRdt::default()), "box", || Ok(Vec::new())).unwrap_err();
        assert!(e.kind() == Kind::Unsupported && e.to_string().contains("no resctrl"), "{e}");
    }

    #[test]
    fn a_class_of_its_own_goes_with_the_container() {
        let tree = Tree::new("own");
        let class = tree.enter(r#"{"schemata":["L3:0=f","MB:0=50"]}"#).unwrap();
        assert_eq!((&*tree.read("box/schemata"), &*tree.read("box/tasks")), ("L3:0=f\nMB:0=50\n", "7"));
        class.change(&["L3:0=3"]).unwrap();
        assert_eq!(tree.read("box/schemata"), "L3:0=3\n");
        class.enter(0).unwrap();
        assert_eq!(tree.read("box/tasks"), "0");
        tree.empty("box");
        class.remove().unwrap();
        assert!(!tree.0.join("box").exists());
        class.remove().unwrap();
    }

    #[test]
    fn a_class_that_was_named_stays_and_its_monitoring_group_goes() {
        let tree = Tree::new("named");
        let text =
            r#"{"closID":"gold","l3CacheSchema":"L3:1=1F","memBwSchema":"MB:0=20","enableMonitoring":true}"#;
        let class = tree.enter(text).unwrap();
        assert_eq!((&*tree.read("gold/tasks"), &*tree.read("gold/mon_groups/box/tasks")), ("7", "7"));
        tree.empty("gold/mon_groups/box");
        class.remove().unwrap();
        assert!(tree.0.join("gold").exists() && !tree.0.join("gold/mon_groups/box").exists());
        let made = tree.enter(r#"{"closID":"iron","schemata":["L3:0=1"]}"#).unwrap();
        made.remove().unwrap();
        assert_eq!((&*tree.read("iron/schemata"), &*tree.read("iron/tasks")), ("L3:0=1\n", "7"));
        let default = tree.enter(r#"{"closID":"/"}"#).unwrap();
        default.remove().unwrap();
        assert!(tree.read("tasks") == "7" && tree.read("schemata").is_empty());
    }

    #[test]
    fn what_cannot_be_had_leaves_nothing() {
        let tree = Tree::new("refused");
        for (text, says) in [
            (r#"{"closID":"gold","schemata":["L3:0=7fe"]}"#, "other schemata"),
            (r#"{"closID":"gold","schemata":["L2:0=1"]}"#, "other schemata"),
            (r#"{"closID":"lead"}"#, "no class \"lead\""),
            // This folder makes no mon_groups in a class that is new.
            (r#"{"closID":"lead","enableMonitoring":true}"#, "no class \"lead\""),
            (r#"{"enableMonitoring":true}"#, "mkdir("),
        ] {
            let e = tree.enter(text).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("linux.intelRdt"), "{text}: {e}");
        }
        fs::write(tree.0.join("info/last_cmd_status"), "Out of range\n").unwrap();
        let e = tree.enter(r#"{"closID":"lead"}"#).unwrap_err().to_string();
        assert!(e.contains("Out of range"), "{e}");
        let entries = fs::read_dir(&tree.0).unwrap().count();
        assert_eq!(entries, 3, "info, mon_groups and gold");
    }
}
