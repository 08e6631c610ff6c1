//! Layers with everything in them that a file system can hold, beside umoci: the same tree in modes, owners, times,
//! contents, attributes, links and devices, whichever way it comes out of the store.

use std::path::Path;

use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// The lower layer.
const LOWER: &str = r#"
mkdir -p l/d/sub l/modes/closed l/usr/lib l/times l/odd l/to-file l/to-link l/hidden l/tmp l/kept l/deep/er
echo text > l/d/file; ln l/d/file l/d/second; ln l/d/file l/third; ln -s d/file l/d/link; ln l/d/link l/d/link-again
echo gone > l/d/gone; echo in > l/to-file/in; echo in > l/to-link/in; echo old > l/hidden/old; echo f > l/file; ln -s d l/link
ln -s usr/lib l/lib; chmod 1777 l/tmp; chmod 751 l/usr/lib
echo 1 > l/modes/su; chown 12:34 l/modes/su; chmod 6755 l/modes/su
echo 1 > l/modes/none; chmod 0 l/modes/none; echo 1 > l/modes/closed/in; chmod 0 l/modes/closed
mkdir l/modes/set; chmod 2750 l/modes/set; mkdir l/modes/sticky; chmod 1777 l/modes/sticky
echo 1 > l/modes/far; chown 4000000000:4000000001 l/modes/far; ln -s none l/modes/link; chown -h 7:8 l/modes/link
mkfifo l/odd/fifo; mknod l/odd/null c 1 3; mknod l/odd/disk b 8 512; mknod l/odd/large c 300 70000; chown 0:6 l/odd/disk
ln -s "$(printf 't/%.0s' $(seq 2000) | head -c 3999)" l/odd/long-target; ln -s /etc/passwd l/odd/absolute
echo 1 > l/odd/$(printf 'n%.0s' $(seq 255)); echo 1 > "l/odd/$(printf 'new\nline')"; echo 1 > "l/odd/$(printf '\377\376')"
echo 1 > 'l/odd/ spaces and \ "quotes" '; : > l/odd/empty
setfattr -n user.key -v value l/d/file; setfattr -n user.dir -v x l/d; setfattr -n trusted.key -v 0x00ff l/odd/fifo
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 l/modes/su
head -c 10000 /dev/zero > l/odd/holes; echo end >> l/odd/holes; truncate -s 3M l/odd/holes
touch -d '1960-02-03 04:05:06.7' l/times/early; touch -d '2100-01-01 00:00:00.123456789' l/times/late
chown 7:8 l/kept; setfattr -n user.kept -v x l/usr/lib
touch -h -d '2001-02-03 04:05:06.5' l/d/link l/modes/link; touch -d '1999-12-31 23:59:59' l/times l/modes/closed l/d/sub
"#;

/// The upper one. `deep/er/file` and those behind links come without the directories on their way.
const UPPER: &str = r#"
mkdir -p u/d u/hidden u/file u/link-dir u/kept
: > u/d/.wh.gone; : > u/hidden/.wh..wh..opq; echo new > u/hidden/new; : > u/.wh.third
echo now a file > u/to-file; ln -s d u/to-link; echo in > u/file/in; : > u/.wh..wh.plnk
chmod 700 u/kept; setfattr -n user.other -v x u/kept; touch -d '2002-02-02 02:02:02' u/kept u/d
mkdir -p u/tmp u/lib u/deep/er u/modes/closed; echo x > u/tmp/x; echo x > u/lib/x; echo x > u/deep/er/file; echo x > u/modes/closed/x
"#;

const LISTS: [&str; 2] =
    ["d hidden file to-file to-link kept .wh.third .wh..wh.plnk", "tmp/x lib/x deep/er/file modes/closed/x"];

/// All that is to be seen of a tree.
const LOOK: &str = r#"
find . -mindepth 1 ! -type d -printf '%p %y %m %U:%G %T@ %l %s\n' | sort
find . -mindepth 1 -type d -printf '%p %y %m %U:%G %T@\n' | sort
find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | sort
find . ! -type d -links +1 -printf '%i %p\n' | sort | awk '{n[$1] = n[$1] " " $2} END {for (i in n) print n[i]}' | sort
getfattr -R -P -h -d -m '^(user|trusted\.key|security\.capability)' -e hex . | grep -v overlay
find . -type f -print0 | sort -z | xargs -0 sha256sum
"#;

fn look(dir: &Path) -> String {
    Cmd::new("bash").args(["-euc", LOOK]).dir(dir).ok().stdout
}

#[test]
fn a_tree_with_everything_in_it_is_the_one_that_umoci_makes() {
    let peers = ["umoci", "getfattr"].map(Privilege::Peer);
    if !need(Privilege::Root) || !peers.into_iter().all(need) {
        return;
    }
    let recipe = Scratch::new("everything");
    Cmd::new("bash").args(["-euc", LOWER]).dir(recipe.path()).ok();
    Cmd::new("bash").args(["-euc", UPPER]).dir(recipe.path()).ok();
    let tar = "tar --format=posix --xattrs --xattrs-include=* --sparse --numeric-owner -b1";
    Cmd::new("sh").args(["-fc", &format!("{tar} -C l -cf lower.tar .")]).dir(recipe.path()).ok();
    let [first, second] = LISTS;
    Cmd::new("sh")
        .args(["-fc", &format!("{tar} -C u -cf upper.tar {first} {second}")])
        .dir(recipe.path())
        .ok();
    recipe.write("rootfs.toml", "[[layer]]\ntar = \"lower.tar\"\n[[layer]]\ntar = \"upper.tar\"\n");
    for driver in ["overlay", "vfs"] {
        let store = Store::new("everything");
        let compose =
            store.rootfs_tool().env("CORACLE_STORAGE_DRIVER", driver).arg("compose").arg(recipe.path());
        compose.args(["-t", "app", "-q"]).ok();
        let theirs = store.scratch.join("theirs");
        let image = format!("{}:localhost/app:latest", store.path().display());
        Cmd::new("umoci").words("raw unpack --image").arg(image).arg(&theirs).ok();
        let theirs = look(&theirs);
        for sign in [
            "./odd/disk 8:200",
            "./tmp d 1777",
            "./usr/lib/x f",
            "0x00ff",
            "./modes/far f 644 4000000000:4000000001",
        ] {
            assert!(theirs.contains(sign), "{sign:?} is not in {theirs}");
        }
        let ours = store.scratch.join("ours");
        store.rootfs_tool().args(["copy", "-q", "app"]).arg(format!("dir:{}", ours.display())).ok();
        same(&look(&ours), &theirs, "unpacked");
        let mounted = store.rootfs_tool().args(["mount", "app"]).ok();
        same(&look(Path::new(mounted.text())), &theirs, driver);
        store.rootfs_tool().args(["umount", "app"]).ok();
        // Out as one layer, and in again.
        store.rootfs_tool().args(["export", "app", "-o", "flat.tar"]).ok();
        store.rootfs_tool().args(["import", "flat.tar", "flat"]).ok();
        let flat = store.scratch.join("flat");
        store.rootfs_tool().args(["copy", "-q", "flat"]).arg(format!("dir:{}", flat.display())).ok();
        same(&look(&flat), &theirs, "exported");
    }
}

/// Line by line: the whole is long.
#[track_caller]
fn same(ours: &str, theirs: &str, how: &str) {
    let lines = |a: &str, b: &str| {
        let b: std::collections::HashSet<&str> = b.lines().collect();
        a.lines().filter(|l| !b.contains(l)).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert!(
        ours == theirs,
        "{how}\nours alone:\n{}\ntheirs alone:\n{}",
        lines(ours, theirs),
        lines(theirs, ours)
    );
}
