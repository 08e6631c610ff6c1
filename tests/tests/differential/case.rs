//! One variation: a sentence, a config.json made of the base, what has to be on the host before. Nothing is
//! run here.
//!
//! `@BUNDLE@` and `@ID@` in a config stand for the bundle's folder and the container's id.

use std::path::Path;

use serde_json::{Value, json};

/// What makes files and folders of a bundle before a container is made of it.
type Prepare = Box<dyn Fn(&Path) + Send + Sync>;

/// One variation.
pub(crate) struct Case {
    /// `subject: a sentence`.
    pub(crate) name: String,
    /// The config, or the bytes that stand in its place.
    pub(crate) config: Result<Value, String>,
    /// Files and folders of the bundle.
    pub(crate) prepare: Vec<Prepare>,
    /// A line of shell that runs before the runtime, in the mount namespace that the runtime gets.
    pub(crate) before: String,
}

/// A variation that changes nothing as yet.
pub(crate) fn case(name: impl Into<String>) -> Case {
    Case { name: name.into(), config: Ok(base()), prepare: Vec::new(), before: String::new() }
}

impl Case {
    fn config(&mut self) -> &mut Value {
        self.config.as_mut().expect("a config that is JSON")
    }

    /// Set one value by its JSON pointer; what leads to it is made. `-` is a new element.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = self.config();
        for key in pointer.split('/').skip(1) {
            if key == "-" && at.is_null() {
                *at = json!([]);
            }
            at = match at {
                Value::Array(list) => {
                    let n = if key == "-" { list.len() } else { key.parse().expect("an index") };
                    if n == list.len() {
                        list.push(Value::Null);
                    }
                    &mut list[n]
                }
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    /// Take one member out.
    pub(crate) fn without(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.config().pointer_mut(parent).expect("it is there");
        parent.as_object_mut().expect("an object").remove(key).expect("it is there");
        self
    }

    /// Change the config.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(self.config());
        self
    }

    /// Under another name: one of a family that stands alone.
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Bytes in the place of a config.
    pub(crate) fn raw(mut self, text: &str) -> Self {
        self.config = Err(text.to_owned());
        self
    }

    /// Ask the probe for more.
    pub(crate) fn ask(self, words: &[&str]) -> Self {
        words.iter().fold(self, |case, word| case.set("/process/args/-", json!(word)))
    }

    /// One mount more.
    pub(crate) fn mount(self, at: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": at, "type": kind, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Take the mounts away whose destination is one of these.
    pub(crate) fn unmounted(self, destinations: &[&str]) -> Self {
        self.edit(|config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|m| !destinations.iter().any(|d| m["destination"] == *d));
        })
    }

    /// Without a namespace.
    pub(crate) fn shares(self, kind: &str) -> Self {
        self.edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            list.retain(|n| n["type"] != kind);
        })
    }

    /// With a user namespace in which root is 100000 of the host, and the bundle is that one's.
    pub(crate) fn user_namespace(self) -> Self {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.set("/linux/namespaces/-", json!({"type": "user"}))
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .prepare(|bundle| {
                for name in ["rootfs", "rootfs/dev", "rootfs/proc", "rootfs/sys", "rootfs/tmp", "log"] {
                    std::os::unix::fs::chown(bundle.join(name), Some(100_000), Some(100_000)).expect("chown");
                }
            })
    }

    /// Look at the limits of the own groups: the host's cgroup tree is bound in.
    pub(crate) fn groups(self) -> Self {
        self.mount("/groups", "bind", "/sys/fs/cgroup", &["rbind", "ro"])
            .set("/linux/cgroupsPath", json!("/@ID@"))
            .ask(&["groups=/groups"])
    }

    /// Make something in the bundle before.
    pub(crate) fn prepare(mut self, make: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        self.prepare.push(Box::new(make));
        self
    }

    /// A line of shell before the runtime; `$B` is the bundle.
    pub(crate) fn before(mut self, line: &str) -> Self {
        self.before.push_str(line);
        self.before.push('\n');
        self
    }
}

/// What `runc spec` writes, without its terminal and with the probe as its command.
pub(crate) fn base() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": source, "options": options});
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|n| json!({"type": n}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runtime",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &terminals),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
