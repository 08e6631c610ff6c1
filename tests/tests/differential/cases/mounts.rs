//! `mounts`: what is mounted where.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::case::{Case, case};

/// A folder with a file, a folder and a link, to be bound.
fn shared(bundle: &Path) {
    fs::create_dir_all(bundle.join("shared/sub")).expect("mkdir");
    fs::write(bundle.join("shared/file"), "of the host\n").expect("write");
    symlink("file", bundle.join("shared/link")).expect("link");
}

/// A folder bound at /data.
fn bind(name: &str, source: &str, options: &[&str]) -> Case {
    case(format!("mounts: {name}")).prepare(shared).mount("/data", "bind", source, options).ask(&[
        "path=/data",
        "ls=/data",
        "cat=/data/file",
        "path=/data/file",
    ])
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        bind("a folder is bound", "@BUNDLE@/shared", &["bind"]),
        bind("a folder is bound read only", "@BUNDLE@/shared", &["bind", "ro"]),
        bind("a folder is bound by a path from the bundle", "shared", &["bind"]),
        bind("a folder is bound by a path with dots from the bundle", "./log/../shared", &["bind"]),
        bind("a folder is bound through a link of the host", "@BUNDLE@/way", &["bind"])
            .prepare(|b| symlink("shared", b.join("way")).expect("link")),
        bind("a file is bound", "@BUNDLE@/shared/file", &["bind"]),
        bind("a file is bound read only", "@BUNDLE@/shared/file", &["bind", "ro"]),
        bind("the source is missing", "@BUNDLE@/none", &["bind"]),
        bind("a socket is bound", "@BUNDLE@/socket", &["bind"])
            .prepare(|b| drop(std::os::unix::net::UnixListener::bind(b.join("socket")).expect("bind"))),
        bind("a device is bound", "/dev/null", &["bind"]),
        bind("without a type and with bind among the options", "@BUNDLE@/shared", &["bind"]).edit(|c| {
            c["mounts"][6].as_object_mut().expect("a mount").remove("type");
        }),
        bind("of type none with bind among the options", "@BUNDLE@/shared", &["bind"])
            .set("/mounts/6/type", json!("none")),
        bind("of type bind without an option", "@BUNDLE@/shared", &[]),
        bind("of another type with bind among the options", "@BUNDLE@/shared", &["bind"])
            .set("/mounts/6/type", json!("ext4")),
        bind("bind without rbind leaves what is mounted inside", "@BUNDLE@/shared", &["bind"])
            .before("mount -t tmpfs none $B/shared/sub; touch $B/shared/sub/inner"),
        bind("rbind takes what is mounted inside", "@BUNDLE@/shared", &["rbind"])
            .before("mount -t tmpfs none $B/shared/sub; touch $B/shared/sub/inner")
            .ask(&["ls=/data/sub"]),
        bind("rbind with ro is read only at its top", "@BUNDLE@/shared", &["rbind", "ro"])
            .before("mount -t tmpfs none $B/shared/sub")
            .ask(&["path=/data/sub"]),
        bind("rbind with rro is read only throughout", "@BUNDLE@/shared", &["rbind", "rro"])
            .before("mount -t tmpfs none $B/shared/sub")
            .ask(&["path=/data/sub"]),
        bind("the source is mounted noexec and nosuid", "@BUNDLE@/shared", &["bind"])
            .before("mount -t tmpfs -o noexec,nosuid,nodev,noatime none $B/shared; echo x > $B/shared/file"),
        bind(
            "the source is mounted noexec, and exec is asked for",
            "@BUNDLE@/shared",
            &["bind", "exec", "suid"],
        )
        .before("mount -t tmpfs -o noexec,nosuid none $B/shared; echo x > $B/shared/file"),
        bind("the source is mounted read only, and rw is asked for", "@BUNDLE@/shared", &["bind", "rw"])
            .before("mount -t tmpfs -o ro none $B/shared"),
        bind("the source is mounted read only", "@BUNDLE@/shared", &["bind"])
            .before("mount -t tmpfs -o ro none $B/shared"),
        bind("a source whose mount is shared", "@BUNDLE@/shared", &["rbind"])
            .before("mount -t tmpfs none $B/shared; mount --make-shared $B/shared"),
        bind("a source whose mount is shared, as rslave", "@BUNDLE@/shared", &["rbind", "rslave"])
            .before("mount -t tmpfs none $B/shared; mount --make-shared $B/shared"),
        bind("a source whose mount is shared, as rshared", "@BUNDLE@/shared", &["rbind", "rshared"])
            .before("mount -t tmpfs none $B/shared; mount --make-shared $B/shared"),
        bind("a source that cannot be bound", "@BUNDLE@/shared", &["bind"])
            .before("mount -t tmpfs none $B/shared; mount --make-unbindable $B/shared"),
        case("mounts: a file over a file of the root")
            .prepare(shared)
            .mount("/etc/passwd", "bind", "@BUNDLE@/shared/file", &["bind"])
            .ask(&["cat=/etc/passwd"]),
        case("mounts: a folder over a file of the root").prepare(shared).mount(
            "/etc/passwd",
            "bind",
            "@BUNDLE@/shared",
            &["bind"],
        ),
        case("mounts: a file over a folder of the root").prepare(shared).mount(
            "/tmp",
            "bind",
            "@BUNDLE@/shared/file",
            &["bind"],
        ),
        case("mounts: a destination that is not absolute")
            .mount("data", "tmpfs", "tmpfs", &[])
            .ask(&["path=/data"]),
        case("mounts: a destination with dots")
            .mount("/tmp/../data/./x", "tmpfs", "tmpfs", &[])
            .ask(&["path=/data/x"]),
        case("mounts: a destination that climbs")
            .mount("/../../data", "tmpfs", "tmpfs", &[])
            .ask(&["path=/data"]),
        case("mounts: a destination with a space").mount("/a b", "tmpfs", "tmpfs", &[]).ask(&["path=/a b"]),
        case("mounts: a destination that ends in a slash").mount("/data/", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination that is the root").mount("/", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination of nothing").mount("", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination deep below what is missing")
            .mount("/a/b/c/d", "tmpfs", "tmpfs", &[])
            .ask(&["path=/a", "path=/a/b/c/d"]),
        case("mounts: a destination behind a link of the root")
            .prepare(|b| symlink("/tmp", b.join("rootfs/way")).expect("link"))
            .mount("/way/data", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination that is a link of the root")
            .prepare(|b| symlink("/tmp", b.join("rootfs/way")).expect("link"))
            .mount("/way", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination that is a link to nowhere")
            .prepare(|b| symlink("/none/such", b.join("rootfs/way")).expect("link"))
            .mount("/way", "tmpfs", "tmpfs", &[]),
        case("mounts: a destination that is a link out of the root")
            .prepare(|b| symlink("../../../../../tmp", b.join("rootfs/way")).expect("link"))
            .mount("/way/data", "tmpfs", "tmpfs", &[]),
        case("mounts: a file bound where a link is")
            .prepare(shared)
            .prepare(|b| symlink("/etc/target", b.join("rootfs/way")).expect("link"))
            .mount("/way", "bind", "@BUNDLE@/shared/file", &["bind"])
            .ask(&["cat=/etc/target"]),
        case("mounts: one inside another")
            .mount("/data", "tmpfs", "tmpfs", &["mode=700"])
            .mount("/data/in/side", "tmpfs", "tmpfs", &["ro"])
            .ask(&["path=/data/in", "path=/data/in/side"]),
        case("mounts: one over another")
            .mount("/data", "tmpfs", "one", &["size=1m"])
            .mount("/data", "tmpfs", "two", &["size=2m"])
            .ask(&["path=/data"]),
        case("mounts: one that hides what was mounted inside")
            .mount("/data/in", "tmpfs", "one", &[])
            .mount("/data", "tmpfs", "two", &[])
            .ask(&["ls=/data"]),
        case("mounts: inside a tmpfs that is read only").mount("/data", "tmpfs", "one", &["ro"]).mount(
            "/data/in",
            "tmpfs",
            "two",
            &[],
        ),
        case("mounts: proc with hidepid").set("/mounts/0/options", json!(["hidepid=2", "gid=5"])),
        case("mounts: proc read only").set("/mounts/0/options", json!(["ro", "nosuid"])),
        case("mounts: proc in another place too").mount("/data", "proc", "proc", &["ro"]),
        case("mounts: without /proc").unmounted(&["/proc"]),
        case("mounts: without /dev").unmounted(&["/dev"]),
        case("mounts: without /dev/pts").unmounted(&["/dev/pts"]),
        case("mounts: without /sys").unmounted(&["/sys"]),
        case("mounts: without any").set("/mounts", json!([])),
        case("mounts: without a list").without("/mounts"),
        case("mounts: /dev is bound from the host")
            .set(
                "/mounts/1",
                json!({"destination": "/dev", "type": "bind",
            "source": "/dev", "options": ["rbind"]}),
            )
            .unmounted(&["/dev/pts", "/dev/shm", "/dev/mqueue"]),
        case("mounts: /sys is bound from the host").set(
            "/mounts/5",
            json!({"destination": "/sys", "type": "none",
            "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}),
        ),
        case("mounts: the tree of groups")
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
            .ask(&["path=/sys/fs/cgroup"]),
        case("mounts: the tree of groups, to be written to").mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "rw"],
        ),
        case("mounts: the tree of groups in a namespace of groups")
            .set("/linux/namespaces/-", json!({"type": "cgroup"}))
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        case("mounts: an unknown file system").mount("/data", "nonesuchfs", "none", &[]),
        case("mounts: no type and no option that says bind").mount("/data", "", "none", &[]),
        case("mounts: a ramfs").mount("/data", "ramfs", "ramfs", &["mode=711"]).ask(&["path=/data"]),
        case("mounts: an overlay")
            .prepare(|b| {
                for dir in ["low", "up", "work"] {
                    fs::create_dir(b.join(dir)).expect("mkdir");
                }
                fs::write(b.join("low/file"), "low").expect("write");
            })
            .before("mount -t tmpfs none $B/log; mkdir $B/log/up $B/log/work")
            .mount(
                "/data",
                "overlay",
                "overlay",
                &["lowerdir=@BUNDLE@/low,upperdir=@BUNDLE@/log/up", "workdir=@BUNDLE@/log/work"],
            )
            .ask(&["cat=/data/file", "path=/data"]),
        case("mounts: an idmapped one")
            .prepare(shared)
            .mount("/data", "bind", "@BUNDLE@/shared", &["bind"])
            .set("/mounts/6/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 10}]))
            .set("/mounts/6/gidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 10}]))
            .ask(&["path=/data"]),
        case("mounts: a root that is shared").set("/linux/rootfsPropagation", json!("shared")),
        case("mounts: a root that is rshared").set("/linux/rootfsPropagation", json!("rshared")),
        case("mounts: a root that is slave").set("/linux/rootfsPropagation", json!("slave")),
        case("mounts: a root that is rslave").set("/linux/rootfsPropagation", json!("rslave")),
        case("mounts: a root that is private").set("/linux/rootfsPropagation", json!("private")),
        case("mounts: a root that is rprivate").set("/linux/rootfsPropagation", json!("rprivate")),
        case("mounts: a root that is unbindable").set("/linux/rootfsPropagation", json!("unbindable")),
        case("mounts: a root whose propagation is no word")
            .set("/linux/rootfsPropagation", json!("everywhere")),
        case("mounts: a slave root of a shared mount")
            .before("mount --bind $B/rootfs $B/rootfs; mount --make-shared $B/rootfs")
            .set("/linux/rootfsPropagation", json!("rslave")),
        case("mounts: a label for mounts on a host without SELinux")
            .set("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811")),
    ]
}
