//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::case::{Case, case};

fn place(bundle: &Path) {
    fs::create_dir_all(bundle.join("rootfs/folder/sub")).expect("mkdir");
    fs::write(bundle.join("rootfs/folder/file"), "secret").expect("write");
    fs::write(bundle.join("rootfs/file"), "secret").expect("write");
    symlink("file", bundle.join("rootfs/link")).expect("link");
    symlink("../../..", bundle.join("rootfs/out")).expect("link");
    nix::unistd::mkfifo(&bundle.join("rootfs/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
}

/// Paths that are masked, or read only, and a look at them and at what is inside.
fn paths(kind: &str, name: &str, list: &[&str]) -> Case {
    let list: Vec<&str> = list.to_vec();
    let asked: Vec<String> = list.iter().map(|p| format!("path={p}")).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    case(format!("paths: {name}"))
        .prepare(place)
        .set("/root/readonly", json!(false))
        .set(&format!("/linux/{kind}"), json!(list))
        .ask(&asked)
        .ask(&["path=/folder/file", "path=/file"])
}

pub(super) fn cases() -> Vec<Case> {
    let masked = |name: &str, list: &[&str]| paths("maskedPaths", name, list);
    let readonly = |name: &str, list: &[&str]| paths("readonlyPaths", name, list);
    let usual =
        ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/proc/acpi"];
    let asked: Vec<String> = usual
        .iter()
        .chain(&["/proc/bus", "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/fs"])
        .map(|p| format!("path={p}"))
        .collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    vec![
        case("paths: those of runc spec").ask(&asked),
        masked("a folder is masked", &["/folder"]),
        masked("a file is masked", &["/file"]),
        masked("a fifo is masked", &["/fifo"]),
        masked("a link is masked", &["/link"]),
        masked("a link that leads out is masked", &["/out/etc"]),
        masked("a device is masked", &["/dev/zero"]),
        masked("what is missing is masked", &["/none"]),
        masked("what is below a file is masked", &["/file/none"]),
        masked("a path that is not absolute is masked", &["folder"]),
        masked("a path that climbs is masked", &["/folder/../file"]),
        masked("one path is masked twice", &["/file", "/file"]),
        masked("a folder is masked, then what is inside", &["/folder", "/folder/file"]),
        masked("what is inside is masked, then the folder", &["/folder/file", "/folder"]),
        masked("a path of nothing is masked", &[""]),
        masked("the root is masked", &["/"]),
        masked("no path is masked", &[]),
        case("paths: without maskedPaths").without("/linux/maskedPaths").ask(&asked),
        readonly("a folder is read only", &["/folder"]),
        readonly("a file is read only", &["/file"]),
        readonly("a fifo is read only", &["/fifo"]),
        readonly("a link is read only", &["/link"]),
        readonly("a device is read only", &["/dev/zero"]),
        readonly("what is missing is read only", &["/none"]),
        readonly("a path that is not absolute is read only", &["folder"]),
        readonly("one path is read only twice", &["/file", "/file"]),
        readonly("a folder is read only, then what is inside", &["/folder", "/folder/file"]),
        readonly("the root is read only", &["/"]),
        readonly("no path is read only", &[]),
        readonly("a path with what is mounted inside is read only", &["/data"])
            .mount("/data", "tmpfs", "tmpfs", &["nosuid", "noexec"])
            .mount("/data/in", "tmpfs", "tmpfs", &[])
            .ask(&["path=/data/in"]),
        case("paths: without readonlyPaths").without("/linux/readonlyPaths").ask(&asked),
        readonly("a path is masked and read only", &["/folder"])
            .set("/linux/maskedPaths", json!(["/folder"])),
        readonly("a path is read only without a mount namespace", &["/folder"]).shares("mount"),
        masked("a path is masked without a mount namespace", &["/folder"]).shares("mount"),
        masked("a mount is masked", &["/data"]).mount("/data", "tmpfs", "tmpfs", &[]),
    ]
}
