//! An OCI bundle whose config.json is bent at will: the base is a plain container's, a test changes
//! what it is about.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{Cmd, Scratch, privilege, rootfs};

/// A folder with `rootfs/` and `config.json`.
pub struct Bundle {
    scratch: Scratch,
    config: Value,
}

impl Bundle {
    /// A rootfs with Debian's static busybox as every tool, and a config that runs `args` as root in
    /// all namespaces. `None` where busybox-static is not installed.
    pub fn busybox(args: &[&str]) -> Option<Self> {
        let scratch = Scratch::new("bundle");
        rootfs::busybox(&scratch.mkdir("rootfs"))?;
        let config = if nix::unistd::geteuid().is_root() { base(args) } else { rootless(base(args)) };
        Some(Self { scratch, config })
    }

    /// Change the config.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Set one value by its JSON pointer; the objects that lead to it are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => {
                    let n: usize = if key == "-" { list.len() } else { key.parse().expect("an index") };
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

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().to_path_buf()
    }

    /// A name in its rootfs.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.scratch.join("rootfs").join(name)
    }

    /// Write config.json as it stands now.
    pub fn write(&self) -> PathBuf {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON");
        self.scratch.write("config.json", text)
    }

    /// `runner run --bundle DIR ID` with a state folder of its own.
    #[track_caller]
    pub fn run(&self) -> Cmd {
        self.write();
        let state = self.scratch.join("state");
        Cmd::runner().arg("--root").arg(state).arg("run").arg("--bundle").arg(self.path()).arg(self.id())
    }

    /// The same by the runner, or by crun or runc: as root, with a state folder of its own.
    #[track_caller]
    pub fn run_by(&self, runtime: &str) -> Cmd {
        if runtime == "runner" {
            return self.run();
        }
        self.write();
        // crun may replace the host's /dev/null: it gets a mount namespace and a node of its own.
        // It refuses a mix of cgroup versions, too: there it sees v1 alone.
        let own = "mount -t tmpfs none /mnt && mknod -m 666 /mnt/null c 1 3 && mount --bind /mnt/null /dev/null && \
                   if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi && exec \"$0\" \"$@\"";
        let command = Cmd::new("unshare").words("-m sh -c").arg(own).arg(runtime);
        let state = self.path().join(format!("state-{runtime}"));
        command.arg("--root").arg(state).words("run --bundle").arg(self.path()).arg(self.id())
    }

    /// What the runner keeps of the container while it runs.
    #[track_caller]
    pub fn state(&self) -> Value {
        let path = self.scratch.join("state").join(format!("{}.json", self.id()));
        let text = std::fs::read_to_string(path).expect("a state");
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    }

    /// The container's id: the folder's own name.
    pub fn id(&self) -> String {
        self.scratch.path().file_name().expect("a name").to_string_lossy().into_owned()
    }
}

/// A plain bundle starts: what makes a refusal of a hostile one mean something. Looked at once.
#[track_caller]
pub fn works() -> bool {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let bundle = Bundle::busybox(&["echo", "a plain bundle starts"]).expect("busybox");
        bundle.run().ok().prints("a plain bundle starts");
    });
    true
}

/// The same in a user namespace: root inside is the caller, the other ids are the caller's subordinate ones.
fn rootless(mut config: Value) -> Value {
    let me = privilege::ordinary_user().expect("the caller is in passwd");
    let ids = |own: u32, file: &str| {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        let mut maps = vec![json!({"containerID": 0, "hostID": own, "size": 1})];
        let line = table.lines().find_map(|l| l.strip_prefix(&me.name)?.strip_prefix(':'));
        if let Some((first, count)) = line.and_then(|l| l.split_once(':')) {
            let number = |text: &str| text.parse::<u32>().expect("a number of /etc/subuid");
            maps.push(json!({"containerID": 1, "hostID": number(first), "size": number(count)}));
        }
        maps
    };
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = ids(me.uid, "/etc/subuid").into();
    config["linux"]["gidMappings"] = ids(me.gid, "/etc/subgid").into();
    config
}

/// The config of a plain container: all namespaces, docker's capabilities, the usual mounts.
pub fn base(args: &[&str]) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin:/usr/bin:/sbin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
