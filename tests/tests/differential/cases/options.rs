//! `mounts[].options`, each word on a tmpfs and on a bind.

use std::fs;

use serde_json::json;

use crate::case::{Case, case};

/// Every word of the specification's table, and those that runtimes know besides.
const WORDS: &[&str] = &[
    "async",
    "atime",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "unbindable",
    "acl",
    "noacl",
    "tmpcopyup",
    "nonesuch",
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for word in WORDS {
        all.push(
            case(format!("options: a tmpfs with {word}"))
                .prepare(|b| {
                    fs::create_dir(b.join("rootfs/data")).expect("mkdir");
                    fs::write(b.join("rootfs/data/below"), "x").expect("write");
                })
                .mount("/data", "tmpfs", "tmpfs", &[word])
                .ask(&["path=/data", "ls=/data"]),
        );
    }
    for word in WORDS {
        all.push(
            case(format!("options: a bind with {word}"))
                .prepare(|b| fs::create_dir_all(b.join("shared/sub")).expect("mkdir"))
                .before("mount -t tmpfs none $B/shared/sub")
                .mount("/data", "bind", "@BUNDLE@/shared", &["rbind", word])
                .ask(&["path=/data", "path=/data/sub"]),
        );
    }
    let tmpfs = |name: &str, options: &[&str]| {
        case(format!("options: {name}"))
            .mount("/data", "tmpfs", "tmpfs", options)
            .ask(&["path=/data", "size=/data"])
    };
    all.extend([
        tmpfs(
            "a tmpfs with a size, inodes, a mode and an owner",
            &["size=1m", "nr_inodes=100", "mode=1710", "uid=5", "gid=6"],
        ),
        tmpfs("a tmpfs with a size in per cent", &["size=1%"]),
        tmpfs("a tmpfs with a size that is no number", &["size=many"]),
        tmpfs("a tmpfs with an option that tmpfs has not", &["colour=blue"]),
        tmpfs("a tmpfs with options in one string", &["size=1m,mode=700"]),
        tmpfs("a tmpfs with an option of nothing", &[""]),
        tmpfs("opposites, the last of which holds", &["ro", "rw", "noexec", "exec"]),
        tmpfs("two words about access times", &["noatime", "strictatime"]),
        tmpfs("words that are there twice", &["ro", "ro", "nosuid", "nosuid"]),
        tmpfs("a word in upper case", &["RO"]),
        tmpfs("remount", &["remount", "ro"]),
        case("options: a remount of what was mounted before")
            .mount("/data", "tmpfs", "tmpfs", &["size=1m"])
            .mount("/data", "tmpfs", "tmpfs", &["remount", "ro", "size=2m"])
            .ask(&["path=/data", "size=/data"]),
        case("options: a remount of a bind")
            .mount("/data", "bind", "@BUNDLE@/log", &["bind"])
            .mount("/data", "bind", "@BUNDLE@/log", &["bind", "remount", "ro"])
            .ask(&["path=/data", "size=/data"]),
        case("options: none for /dev").set("/mounts/1/options", json!([])),
        case("options: /dev read only")
            .set("/mounts/1/options", json!(["ro", "nosuid", "mode=755"]))
            .ask(&["path=/dev"]),
        case("options: no list for /proc").edit(|c| {
            c["mounts"][0].as_object_mut().expect("a mount").remove("options");
        }),
    ]);
    all
}
