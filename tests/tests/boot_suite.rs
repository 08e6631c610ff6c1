//! The runner's own tests inside a machine that `rootfs-tool boot` boots: its first process is our init, its groups
//! are those of cgroup v2 alone, its kernel is Debian's.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coracle_tests::{Cmd, Privilege, Scratch, Store, binaries, machine, need, peer};

/// What is run there each time, and what `make test-all` runs besides.
const SUITES: &[&str] = &["cgroups"];
const MORE: &[&str] = &[
    "run",
    "bundle",
    "bundle_confined",
    "bundle_devices",
    "bundle_mounts",
    "bundle_namespaces",
    "bundle_process",
    "escapes_bundles",
    "escapes_identity",
    "escapes_paths",
    "fallback",
    "oci_life",
    "oci_verbs",
    "seccomp",
    "terminal",
    "untrusted",
];

/// What the kernel would ask modprobe for: overlays, a disk for them, devices, and the networks of containers.
const MODULES: &[&str] = &[
    "overlay",
    "loop",
    "ext4",
    "fuse",
    "tun",
    "bridge",
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_fib_inet",
    "nf_conntrack_netlink",
];

/// A disk for stores: a tmpfs of this kernel maps no ids. What a file of a recipe has not is the right to map those of others. Go's
/// programs, runc among them, raise the number of files to what they may have: so it is that for all.
const SURROUNDINGS: &str = "mount -t securityfs none /sys/kernel/security && chmod u+s $(which newuidmap newgidmap) && \
     truncate -s 3G /tmp/disk && mkfs.ext4 -q /tmp/disk && mkdir /tmp/stores && mount -o loop /tmp/disk /tmp/stores && \
     chmod 1777 /tmp/stores && export TMPDIR=/tmp/stores && ulimit -n $(ulimit -Hn) || exit 1";

/// The programs of these suites, which lie beside this one: the newest of each.
fn programs(names: &[&str]) -> Vec<(String, PathBuf)> {
    let own = std::env::current_exe().expect("the path of this program");
    let dir = own.parent().expect("its folder");
    let newest = |name: &&str| {
        let is_it = |path: &Path| {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            file.rsplit_once('-').is_some_and(|(stem, hash)| stem == *name && !hash.contains('.'))
        };
        let all = std::fs::read_dir(dir).expect("list the programs").flatten().map(|e| e.path());
        let age =
            |path: &PathBuf| path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let found = all.filter(|path| is_it(path)).max_by_key(age);
        ((*name).to_owned(), found.unwrap_or_else(|| panic!("{name} is not built")))
    };
    names.iter().map(newest).collect()
}

/// An image of the suites with all that they need of this machine.
fn image(store: &Store, programs: &[(String, PathBuf)]) {
    let recipe = Scratch::new("suite");
    let mut bins: Vec<String> =
        programs.iter().map(|(name, path)| format!("{}:/suites/{name}", path.display())).collect();
    for tool in [
        "unshare",
        "mount",
        "umount",
        "setpriv",
        "prlimit",
        "pgrep",
        "id",
        "su",
        "newuidmap",
        "newgidmap",
        "crun",
        "runc",
        "ip",
        "mkfs.ext4",
    ] {
        bins.extend(peer(tool).map(|path| path.display().to_string()));
    }
    for name in ["runner", "rootfs-tool", "init"] {
        bins.push(format!("{}:/dist/{name}", binaries::ours(name).display()));
    }
    let busybox = peer("busybox").expect("busybox");
    bins.push(format!("{}:/bin/busybox", busybox.display()));
    let applets = Cmd::new(&busybox).arg("--list").ok().stdout;
    let links: Vec<String> = applets
        .lines()
        .filter(|name| {
            !matches!(*name, "busybox" | "mount" | "umount" | "unshare" | "id" | "setpriv" | "su" | "ip")
        })
        .map(|name| format!("\"bin/{name}\" = \"busybox\"\n"))
        .collect();
    let text = format!(
        "[[layer]]\nstandard = true\nusers = [{{ name = \"coracle-test\", uid = 1000, home = \"/home/coracle-test\" }}]\n\
         [[layer]]\nbin = {bins:?}\nnss = true\n[layer.link]\n{}[layer.file]\n\
         \"etc/subuid\" = \"coracle-test:100000:65536\\n\"\n\"etc/subgid\" = \"coracle-test:100000:65536\\n\"\n\
         [boot]\nmodules = {MODULES:?}\n",
        links.concat()
    );
    recipe.write("rootfs.toml", text);
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-q", "-t", "suite"]).ok();
}

#[test]
fn the_runner_s_own_tests_pass_in_a_booted_machine() {
    if !need(Privilege::Root)
        || !need(Privilege::Peer("qemu-system-x86_64"))
        || !need(Privilege::Peer("busybox"))
    {
        return;
    }
    let Some((kernel, modules)) = machine::need_kernel() else { return };
    let all = coracle_tests::test_all();
    let names: Vec<&str> = SUITES.iter().chain(MORE.iter().filter(|_| all)).copied().collect();
    let store = Store::new("boot-suite");
    image(&store, &programs(&names));
    let script = format!(
        "cat /proc/self/cgroup; {SURROUNDINGS}; for suite in {}; do echo SUITE $suite; /suites/$suite --test-threads=1 2>&1 || failed=\"$failed $suite\"; \
         done; echo FAILED:$failed; [ -z \"$failed\" ]",
        names.join(" ")
    );
    let boot = store.rootfs_tool().words("boot --kvm off --memory 2g --root squashfs");
    let boot = boot.words("--cmdline init.mount=none:/tmp:tmpfs --kernel").arg(kernel);
    let boot = boot.arg("--modules").arg(modules).args([
        "-e",
        "CORACLE_DIST=/dist",
        "-e",
        "CORACLE_WORKSPACE=/",
        "suite",
        "--",
        "sh",
        "-c",
    ]);
    let done = boot.arg(script).limit(Duration::from_secs(if all { 3600 } else { 600 })).run();
    let results: Vec<&str> =
        done.stdout.lines().filter(|line| line.starts_with("test result: ok. ")).collect();
    assert!(
        done.status.success() && results.len() == names.len() && done.stdout.starts_with("0::/"),
        "{}\n{}",
        done.stdout,
        done.stderr
    );
    // What was skipped there has not passed.
    let passed = |line: &&&str| line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(results.iter().all(|line| passed(&line) > 3), "{results:?}");
}
