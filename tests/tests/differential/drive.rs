//! One variation under one runtime: a bundle of its own, namespaces of its own in which the runtime can do
//! no harm to the host, and everything that came of it, as it came.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coracle_tests::{Cmd, Scratch, peer, rootfs};

use crate::case::Case;

/// The runtimes, ours first.
pub(crate) const RUNTIMES: [&str; 3] = ["runner", "runc", "crun"];

/// The programs of every container: compiled once, linked into each root.
pub(crate) struct Programs(Scratch);

impl Programs {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new("differential");
        let source = concat!(include_str!("words.c"), include_str!("probe.c"));
        rootfs::compile(source, &scratch.join("probe")).expect("a C compiler");
        fs::copy(peer("busybox").expect("busybox"), scratch.join("busybox")).expect("copy busybox");
        Self(scratch)
    }

    /// Fill a root: two programs, the usual folders.
    fn fill(&self, root: &Path) {
        for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
            fs::create_dir_all(root.join(dir)).expect("make a folder");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        )
        .expect("write passwd");
        fs::hard_link(self.0.join("probe"), root.join("probe")).expect("link the probe");
        fs::hard_link(self.0.join("busybox"), root.join("bin/sh")).expect("link busybox");
    }
}

/// How a container is started.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By `run`, which attends it.
    Run,
    /// By `create`, `start` and `delete`, with `state` between them.
    Apart,
}

/// What came of a start.
pub(crate) struct Outcome {
    /// The exit code; 128 and the signal's number; none when it did not end.
    pub(crate) code: Option<i32>,
    /// What the container wrote: the probe's report, or something else, or nothing.
    pub(crate) stdout: String,
    /// What the runtime said.
    pub(crate) stderr: String,
    /// What the hooks wrote, a line each.
    pub(crate) hooks: String,
    /// The runtime's own namespaces and groups, and namespaces made to be joined.
    pub(crate) outer: String,
    /// What the verbs answered, a line each: name, exit code, standard output.
    pub(crate) verbs: String,
    /// What is left of it.
    pub(crate) left: Vec<String>,
    /// The bundle's folder, which is gone by now, and the container's id.
    pub(crate) bundle: PathBuf,
    pub(crate) id: String,
}

/// What every runtime is started by. `$0` is the bundle, the rest is the runtime's command line. The devices
/// that it may spoil are copies, the mounts that it may leave vanish with this mount namespace.
const STAGE: &str = r#"
B=$0
mount -t tmpfs -o mode=755 none "$B/host" && cd /dev && cp -a null zero full random urandom tty fuse kmsg "$B/host" &&
    mkdir "$B/host/pts" "$B/host/shm" "$B/host/mqueue" &&
    ln -s /proc/self/fd "$B/host/fd" && ln -s pts/ptmx "$B/host/ptmx" &&
    cd / && mount --bind "$B/host" /dev && mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts || exit 99
# crun refuses a mix of cgroup versions: it sees v1 alone.
case $1 in *crun) if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi ;; esac
{ for n in /proc/self/ns/*; do readlink "$n"; done; cat /proc/self/cgroup; } > "$B/outer"
# A namespace to be joined: `keep net` makes $B/ns-net.
keep() {
    kind=$1; shift
    touch "$B/ns-$kind"
    if [ "$kind" = pid ]; then
        unshare --pid="$B/ns-pid" --fork --kill-child sleep 60 >&- 2>&- <&- &
        kept=$!
        until mountpoint -q "$B/ns-pid"; do sleep 0.01; done
    else
        unshare --"$kind"="$B/ns-$kind" "$@" true
    fi
    echo "kept $kind:[$(stat -Lc %i "$B/ns-$kind")]" >> "$B/outer"
}
[ -f "$B/before" ] && . "$B/before"
grep -F "$B" /proc/self/mountinfo | sed 's/^/mount /' >> "$B/outer"
if [ -n "$APART" ]; then
    # The runtime and its global flags, then `run --bundle DIR ID`.
    runtime="$1 $2 $3" bundle=$6 id=$7
    say() {
        name=$1; shift
        $runtime "$@" > "$B/said" 2>> "$B/complaints"
        echo "$name $? $(tr -d '\n' < "$B/said")" >> "$B/verbs"
    }
    $runtime create --bundle "$bundle" "$id"
    code=$?
    echo "create $code" >> "$B/verbs"
    say created state "$id"
    if [ $code = 0 ]; then
        say start start "$id"
        for n in $(seq 200); do
            case $($runtime state "$id" 2>&1) in *'"running"'*) sleep 0.05 ;; *) break ;; esac
        done
        say stopped state "$id"
        say delete delete "$id"
        say gone state "$id"
    fi
else
    "$@"
    code=$?
fi
[ -z "$kept" ] || kill "$kept"
echo "null $(stat -c '%u:%g %a' /dev/null)" >> "$B/outer"
exit $code
"#;

/// Run it.
pub(crate) fn run(case: &Case, runtime: &str, way: Way, programs: &Programs) -> Outcome {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("differential-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let scratch = Scratch::new("differential-bundle");
    let bundle = scratch.path().to_path_buf();
    for dir in ["host", "log"] {
        scratch.mkdir(dir);
    }
    programs.fill(&scratch.mkdir("rootfs"));
    for prepare in &case.prepare {
        prepare(&bundle);
    }
    let text = match &case.config {
        Ok(config) => serde_json::to_string_pretty(config).expect("JSON"),
        Err(raw) => raw.clone(),
    };
    let text = text.replace("@BUNDLE@", &bundle.to_string_lossy()).replace("@ID@", &id);
    scratch.write("config.json", text);
    if !case.before.is_empty() {
        scratch.write("before", &case.before);
    }
    let program = if runtime == "runner" {
        coracle_tests::binaries::runner()
    } else {
        peer(runtime).expect("asked for before")
    };
    // The state is elsewhere, so that what a container sees of its bundle does not hold it.
    let state = Scratch::new("differential-state");
    let command =
        Cmd::new("unshare").words("-m -u -i -n --propagation private sh -c").arg(STAGE).arg(&bundle);
    let command =
        command.arg(program).arg("--root").arg(state.path()).words("run --bundle").arg(&bundle).arg(&id);
    let command = command.env("APART", if way == Way::Apart { "yes" } else { "" });
    let ended = command.spawn().wait(Duration::from_secs(20));
    let (code, stdout, stderr) = match ended {
        Ok(out) => (Some(out.code()), out.stdout, out.stderr),
        Err(partial) => (None, String::new(), partial),
    };
    let read = |name: &str| fs::read_to_string(bundle.join(name)).unwrap_or_default();
    let mut left = groups_left(&id);
    if has_name(state.path(), &id) {
        left.push("state".to_owned());
    }
    Outcome {
        code,
        stdout,
        stderr,
        hooks: read("log/hooks"),
        outer: read("outer"),
        verbs: read("verbs"),
        left,
        bundle,
        id,
    }
}

/// The groups that still carry the id, and away with them.
fn groups_left(id: &str) -> Vec<String> {
    fn look(dir: &Path, id: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if depth < 6 {
                look(&entry.path(), id, depth + 1, found);
            }
            if entry.path().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
        }
    }
    let top = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    look(top, id, 0, &mut found);
    for dir in &found {
        // One whose last process has just gone may be busy for a moment.
        coracle_tests::eventually("a group that is left is empty", || {
            fs::remove_dir(dir).is_ok() || !dir.exists()
        });
    }
    found.sort_unstable();
    let mut names: Vec<String> = found
        .iter()
        .filter_map(|dir| dir.strip_prefix(top).ok()?.iter().next())
        .map(|name| format!("group in {}", name.to_string_lossy()))
        .collect();
    names.dedup();
    names
}

fn has_name(dir: &Path, id: &str) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        entry.file_name().to_string_lossy().contains(id)
            || entry.file_type().is_ok_and(|t| t.is_dir()) && has_name(&entry.path(), id)
    })
}
