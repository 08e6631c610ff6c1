//! Loading, pulling, pushing and unpacking an image of three layers beside the peers, each on a fresh ext4, in
//! interleaved rounds: wall and processor seconds, peak memory, and the ratio to `tar -xzf`. Of docker the wall alone,
//! since its daemon, which is started before, does the work. The image is Debian's, made by mmdebstrap of the
//! packages that this machine's apt is configured for; without mmdebstrap it is of this machine's own files. Root
//! alone, since it mounts; what is not installed is said and left out.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use coracle_tests::dockerd::Dockerd;
use coracle_tests::registry::Registry;
use coracle_tests::{Cmd, Privilege, Scratch, Store, binaries, peer, privilege};

/// Bytes of a layer's files.
const LAYER: u64 = 72 << 20;

/// A command line; `{m}` is the fresh file system, `{w}` the folder with the archives, `{r}` the registry, `{e}`
/// an empty one, `{docker}` the client of a daemon whose data is on the fresh file system.
const FIELD: [(&str, &str, &str); 16] = [
    ("tar -xzf", "tar", "mkdir {m}/t; for n in 0 1 2; do tar -xzf {w}/$n.tar.gz -C {m}/t; done"),
    ("load", "", "CORACLE_STORE={m}/s {tool} load -q -i {w}/app.tar"),
    ("podman load", "podman", "podman --root {m}/p --runroot {m}/pr load -q -i {w}/app.tar"),
    ("docker load", "dockerd", "{docker} load -q -i {w}/docker.tar"),
    ("umoci unpack", "umoci", "umoci raw unpack --image {w}/layout:app {m}/u"),
    ("copy to dir:", "", "CORACLE_STORE={m}/s {tool} copy -q oci:{w}/layout:app dir:{m}/d"),
    ("pull", "", "CORACLE_STORE={m}/s {tool} pull -q {r}/app:1"),
    ("podman pull", "podman", "podman --root {m}/p --runroot {m}/pr pull -q --tls-verify=false {r}/app:1"),
    ("buildah pull", "buildah", "buildah --root {m}/p --runroot {m}/pr pull -q --tls-verify=false {r}/app:1"),
    ("docker pull", "dockerd", "{docker} pull -q {r}/app:1"),
    (
        "skopeo, not unpacked",
        "skopeo",
        "skopeo copy -q --insecure-policy --src-tls-verify=false docker://{r}/app:1 oci:{m}/o:x",
    ),
    ("copy, not unpacked", "", "{tool} copy -q docker://{r}/app:1 oci:{m}/o:x"),
    ("push", "", "{tool} copy -q oci:{w}/layout:app docker://{e}/app:1"),
    (
        "skopeo push",
        "skopeo",
        "skopeo copy -q --insecure-policy --dest-tls-verify=false oci:{w}/layout:app docker://{e}/app:1",
    ),
    (
        "buildah push",
        "buildah",
        "buildah --root {w}/b --runroot {w}/br push -q --tls-verify=false localhost/app docker://{e}/app:1",
    ),
    (
        "podman push",
        "podman",
        "podman --root {w}/b --runroot {w}/br push -q --tls-verify=false localhost/app docker://{e}/app:1",
    ),
];

fn main() {
    if !(privilege::have(Privilege::Root) && privilege::have(Privilege::Peer("docker-registry"))) {
        println!("left out: images: it needs root and docker-registry");
        return;
    }
    let work = Scratch::new("bench-images");
    let registry = Registry::plain();
    let (what, bytes) = prepare(&work, &registry);
    let field: Vec<&(&str, &str, &str)> = FIELD
        .iter()
        .filter(|(name, needs, _)| {
            let there = needs.is_empty() || peer(needs).is_some();
            if !there {
                println!("left out: {name}: {needs} is not installed");
            }
            there
        })
        .collect();
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    let mut all: Vec<Vec<[f64; 3]>> = vec![Vec::new(); field.len()];
    for _ in 0..rounds {
        for ((_, _, line), times) in field.iter().zip(&mut all) {
            times.push(on_fresh(&work, &registry, line));
        }
    }
    println!("\n{what} of three layers, {} MB of gzip, on a fresh ext4; medians of {rounds}", bytes >> 20);
    println!("{:<22} {:>8} {:>8} {:>8} {:>8}", "", "wall s", "cpu s", "peak MB", "wall");
    let median = |times: &[[f64; 3]], n: usize| {
        let mut column: Vec<f64> = times.iter().map(|t| t[n]).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    let floor = median(&all[0], 0);
    for ((name, _, _), times) in field.iter().zip(&all) {
        let [wall, cpu, peak] = [0, 1, 2].map(|n| median(times, n));
        let own = |text: String| if name.starts_with("docker") { "-".to_owned() } else { text };
        let (cpu, peak) = (own(format!("{cpu:.2}")), own(format!("{peak:.0}")));
        println!("{name:<22} {wall:>8.2} {cpu:>8} {peak:>8} {:>7.2}x", wall / floor);
    }
    println!("wall: as a ratio to tar -xzf, which verifies nothing and syncs nothing; load and pull do both");
}

/// Three layers, as a layout, archives, in the registry and in a store of buildah's. What it is an image of, and the
/// bytes of its blobs.
fn prepare(work: &Scratch, registry: &Registry) -> (&'static str, u64) {
    let what = if debian(work) { "a Debian image" } else { own_files(work) };
    let layers = (0..3).map(|n| format!("[[layer]]\ntar = \"{n}.tar.gz\"\n"));
    work.write("rootfs.toml", layers.collect::<String>());
    let store = Store::new("bench-images");
    store.rootfs_tool().arg("compose").arg(work.path()).args(["-q", "-t", "app"]).ok();
    let copy = |to: String| drop(store.rootfs_tool().args(["copy", "-q", "app", &to]).ok());
    copy(format!("oci:{}:app", work.join("layout").display()));
    copy(format!("oci-archive:{}:app", work.join("app.tar").display()));
    copy(format!("docker-archive:{}:app", work.join("docker.tar").display()));
    copy(format!("docker://{}/app:1", registry.host));
    if peer("buildah").is_some() {
        let at = |name: &str| work.join(name).display().to_string();
        let pull = Cmd::new("buildah").args(["--root", &at("b"), "--runroot", &at("br"), "pull", "-q"]);
        pull.arg(format!("oci:{}:app", at("layout"))).limit(std::time::Duration::from_secs(600)).ok();
        let name =
            Cmd::new("buildah").args(["--root", &at("b"), "--runroot", &at("br"), "images", "-q"]).ok();
        let tag = Cmd::new("buildah").args(["--root", &at("b"), "--runroot", &at("br"), "tag"]);
        tag.args([name.text(), "localhost/app"]).ok();
    }
    let bytes = |n| std::fs::metadata(work.join(format!("{n}.tar.gz"))).expect("look at a layer").len();
    (what, (0..3).map(bytes).sum())
}

/// A Debian with perl and python, of packages as apt is configured here: /usr/lib, /usr/share, and the rest.
fn debian(work: &Scratch) -> bool {
    if peer("mmdebstrap").is_none() {
        println!("left out: the Debian image: mmdebstrap is not installed");
        return false;
    }
    let make = "suite=$(. /etc/os-release; echo $VERSION_CODENAME); \
                sources=$(ls /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null); \
                mmdebstrap --quiet --variant=minbase --include=perl,python3 $suite tree.tar $sources \
                && mkdir tree && tar -C tree -xpf tree.tar && rm tree.tar \
                && tar -C tree --exclude=./usr/lib --exclude=./usr/share -czf 0.tar.gz . \
                && tar -C tree -czf 1.tar.gz ./usr/lib && tar -C tree -czf 2.tar.gz ./usr/share";
    let made =
        Cmd::new("sh").args(["-c", make]).dir(work.path()).limit(std::time::Duration::from_secs(900)).run();
    if made.code() != 0 {
        println!(
            "left out: the Debian image: mmdebstrap: {}",
            made.stderr.lines().last().unwrap_or_default()
        );
    }
    made.code() == 0
}

/// Of this machine's own files.
fn own_files(work: &Scratch) -> &'static str {
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for dir in ["/usr/share", "/usr/lib", "/usr/bin"] {
        list(Path::new(dir), &mut files);
    }
    let mut files = files.into_iter();
    for n in 0..3 {
        let mut sum = 0;
        let mut names = String::new();
        for (path, size) in files.by_ref() {
            names.push_str(&format!("{}\n", path.display()));
            sum += size;
            if sum > LAYER {
                break;
            }
        }
        work.write(format!("{n}.list"), names);
        let line = format!("tar -C / --no-recursion -czf {n}.tar.gz -T {n}.list 2>/dev/null");
        Cmd::new("sh").args(["-c", &line]).dir(work.path()).ok();
    }
    "an image"
}

/// Plain files, with their sizes.
fn list(dir: &Path, out: &mut Vec<(PathBuf, u64)>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            list(&entry.path(), out);
        } else if meta.is_file() && meta.len() < 4 << 20 && !entry.path().to_string_lossy().contains('\n') {
            out.push((entry.path(), meta.len()));
        }
    }
}

/// Wall and processor seconds, and megabytes at the peak.
fn on_fresh(work: &Scratch, registry: &Registry, line: &str) -> [f64; 3] {
    let mount = work.mkdir("m");
    let fresh = "rm -f fs.img; truncate -s 4G fs.img; mkfs.ext4 -q -F fs.img; mount -o loop fs.img m; sync";
    Cmd::new("sh").args(["-ec", fresh]).dir(work.path()).ok();
    let tool = binaries::rootfs_tool().display().to_string();
    let line = line
        .replace("{m}", &mount.display().to_string())
        .replace("{w}", &work.path().display().to_string())
        .replace("{r}", &registry.host)
        .replace("{tool}", &tool);
    let data = mount.join("docker").display().to_string();
    let daemon = line.contains("{docker}").then(|| Dockerd::start(&["--data-root", &data]));
    let line = line.replace("{docker}", &daemon.as_ref().map_or(String::new(), |d| d.docker("").shown()));
    let empty = line.contains("{e}").then(Registry::plain);
    let line = line.replace("{e}", empty.as_ref().map_or("", |r| &r.host));
    let begun = Instant::now();
    let child = Command::new("sh")
        .args(["-ec", &line])
        .env("HOME", work.path())
        .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start it");
    let (status, cpu, peak) = coracle_tests::bench::wait_for_usage(child);
    let wall = begun.elapsed().as_secs_f64();
    assert!(status.success(), "{line}");
    drop(daemon);
    Cmd::new("umount").arg(&mount).ok();
    [wall, cpu, peak]
}
