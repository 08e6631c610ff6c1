//! Packing an image beside the tools of each format, on the same tree with the same compression, in interleaved rounds:
//! wall and processor seconds, peak memory, the size of what comes of it, and the ratios of both times and of size to the tool's.
//! The tree is of this machine's own programs and libraries. Root alone; what is not installed is said and left out.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use coracle_tests::bench::wait_for_usage;
use coracle_tests::{Cmd, Privilege, Scratch, Store, binaries, peer, privilege};

/// Bytes of the tree's files.
const BYTES: u64 = 150 << 20;

/// A format, its tool, and how that writes `$1` of the tree `.`.
const FIELD: [(&str, &str, &str); 9] = [
    ("cpio:gzip", "cpio", "find . | cpio --quiet -o -H newc | gzip >$1"),
    ("cpio:zstd", "cpio", "find . | cpio --quiet -o -H newc | zstd -q -3 >$1"),
    ("squashfs:gzip", "mksquashfs", "mksquashfs . $1 -noappend -quiet -no-progress -comp gzip"),
    ("squashfs:zstd", "mksquashfs", "mksquashfs . $1 -noappend -quiet -no-progress -comp zstd"),
    ("squashfs:xz", "mksquashfs", "mksquashfs . $1 -noappend -quiet -no-progress -comp xz"),
    ("erofs", "mkfs.erofs", "mkfs.erofs --quiet $1 ."),
    ("erofs:lz4", "mkfs.erofs", "mkfs.erofs --quiet -zlz4 $1 ."),
    ("erofs:lz4hc", "mkfs.erofs", "mkfs.erofs --quiet -zlz4hc $1 ."),
    ("erofs:lzma", "mkfs.erofs", "mkfs.erofs --quiet -zlzma,6 $1 ."),
];

fn main() {
    if !privilege::have(Privilege::Root) {
        println!("left out: pack: it needs root");
        return;
    }
    let work = Scratch::new("bench-pack");
    let store = Store::new("bench-pack");
    let tree = tree(&work, &store);
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(3);
    let out = work.join("packed");
    let ours = |format: &str| {
        let mut pack = Command::new(binaries::rootfs_tool());
        pack.env("CORACLE_STORE", store.path()).args(["pack", "--format", format, "tree", "-o"]).arg(&out);
        pack
    };
    let theirs = |line: &str| {
        let mut tool = Command::new("sh");
        tool.args(["-c", line, "sh"]).arg(&out).current_dir(&tree);
        tool
    };
    println!("\n{} MiB of this machine's files, medians of {rounds}", BYTES >> 20);
    println!("{:<15} {:>8} {:>8} {:>8} {:>10}", "", "wall s", "cpu s", "peak MB", "bytes");
    for (format, tool, line) in FIELD {
        let _ = std::fs::remove_file(&out);
        let known = peer(tool).is_some()
            && theirs(line).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        let (mut own, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            own.push(once(ours(format), &out));
            if known {
                peers.push(once(theirs(line), &out));
            }
        }
        let own = medians(&own);
        tell(format, &own);
        if !known {
            println!("left out: {tool} of {format}: it is not installed, or does not know that compression");
            continue;
        }
        let peers = medians(&peers);
        tell(&format!("  {tool}"), &peers);
        let [wall, cpu, _, bytes] = [0, 1, 2, 3].map(|n| own[n] / peers[n]);
        println!("  {wall:.2}x the time, {cpu:.2}x the processor's, {bytes:.3}x the size");
    }
}

/// Files of this machine in a folder, and as an image of the same: none of more than 4 MiB.
fn tree(work: &Scratch, store: &Store) -> PathBuf {
    let tree = work.mkdir("tree");
    let take = format!(
        "cd /usr && find bin lib/python3* share/perl share/zoneinfo -xdev -size -4096k \\( -type f -o -type l \\) -printf '%s %p\\n' |
         sort -rk2 | awk '{{ sum += $1; if (sum < {BYTES}) print substr($0, length($1) + 2) }}' | tar -cf - -T - | tar -xf - -C \"$1\""
    );
    Cmd::new("sh").args(["-c", &take, "sh"]).arg(&tree).ok();
    let tar = work.join("tree.tar");
    Cmd::new("tar").args(["--numeric-owner", "-C"]).arg(&tree).arg("-cf").arg(&tar).arg(".").ok();
    store.rootfs_tool().arg("import").arg(&tar).arg("tree").ok();
    std::fs::remove_file(tar).expect("remove the tar");
    tree
}

/// Wall and processor seconds, peak memory in MB, and bytes written.
fn once(mut command: Command, out: &Path) -> [f64; 4] {
    let _ = std::fs::remove_file(out);
    command.stdout(Stdio::null()).process_group(0);
    let begun = Instant::now();
    let (status, cpu, peak) = wait_for_usage(command.spawn().expect("start it"));
    let wall = begun.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}");
    let bytes = std::fs::metadata(out).expect("what it wrote").len() as f64;
    [wall, cpu, peak, bytes]
}

fn medians(all: &[[f64; 4]]) -> [f64; 4] {
    [0, 1, 2, 3].map(|n| {
        let mut column: Vec<f64> = all.iter().map(|one| one[n]).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    })
}

fn tell(name: &str, [wall, cpu, peak, bytes]: &[f64; 4]) {
    println!("{name:<15} {wall:>8.2} {cpu:>8.2} {peak:>8.0} {bytes:>10.0}");
}
