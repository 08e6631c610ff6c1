//! The escape corpus, part five: archives that lead out of the layer they are unpacked into. They come in
//! through `tar` layers, as an image from a stranger does.

use coracle_tests::canary::Canary;
use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Scratch, Store, need};

/// One entry of an archive, with a header written as a hostile one would be.
struct Entry<'a> {
    name: &'a str,
    kind: u8,
    link: &'a str,
    content: &'a str,
    mode: u32,
}

const FILE: u8 = b'0';
const HARD: u8 = b'1';
const LINK: u8 = b'2';
const DIR: u8 = b'5';

fn entry<'a>(name: &'a str, kind: u8, link: &'a str, content: &'a str) -> Entry<'a> {
    let mode = if kind == DIR { 0o755 } else { 0o644 };
    Entry { name, kind, link, content, mode }
}

/// A ustar archive. Names are written as they are, absolute and with `..` too.
fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for e in entries {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, e.name.as_bytes());
        put(100, format!("{:07o}\0", e.mode).as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", e.content.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[e.kind]);
        put(157, e.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(e.content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

/// Compose an image of these archives, one layer each, over a busybox, and run something in it.
fn compose(store: &Store, archives: &[Vec<u8>]) -> (Output, Image, Scratch) {
    let base = Image::busybox().expect("busybox");
    let recipe = Scratch::new("archives");
    let mut text = format!("name = \"hostile\"\n[[layer]]\ndir = {:?}\n", base.rootfs());
    for (n, archive) in archives.iter().enumerate() {
        recipe.write(format!("{n}.tar"), archive);
        text.push_str(&format!("[[layer]]\ntar = \"{n}.tar\"\n"));
    }
    recipe.write("rootfs.toml", text);
    let out = store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "hostile"]).run();
    (out, base, recipe)
}

// CVE-2020-10696, CVE-2021-32760, CVE-2018-15664, GHSA-qq3r
#[test]
fn an_archive_changes_nothing_but_its_own_layer() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    let at = canary.path().display().to_string();
    let up = format!("../../../../../../../../../..{at}");
    let (secret, up_secret) = (format!("{at}/secret"), format!("{up}/secret"));
    let (made, up_made) = (format!("{at}/made"), format!("{up}/made"));
    let changed = |name: &'static str| Entry { mode: 0o777, ..entry(name, DIR, "", "") };
    let hostile: Vec<(&str, Vec<Vec<Entry>>)> = vec![
        ("an absolute name", vec![vec![entry(&made, FILE, "", "x")]]),
        ("a name with dots", vec![vec![entry(&up_made, FILE, "", "x")]]),
        (
            "a file through an absolute link",
            vec![vec![entry("l", LINK, &at, ""), entry("l/made", FILE, "", "x")]],
        ),
        (
            "a file through a relative link",
            vec![vec![entry("l", LINK, &up, ""), entry("l/made", FILE, "", "x")]],
        ),
        ("a file over a link", vec![vec![entry("l", LINK, &secret, ""), entry("l", FILE, "", "x")]]),
        ("a folder over a link", vec![vec![entry("l", LINK, &at, ""), changed("l")]]),
        ("a hard link to the host", vec![vec![entry("h", HARD, &secret, ""), entry("h", FILE, "", "x")]]),
        ("a hard link with dots", vec![vec![entry("h", HARD, &up_secret, ""), entry("h", FILE, "", "x")]]),
        (
            "a hard link to a link",
            vec![vec![entry("l", LINK, &secret, ""), entry("h", HARD, "l", ""), entry("h", FILE, "", "x")]],
        ),
        (
            "a hard link through a link",
            vec![vec![entry("l", LINK, &at, ""), entry("h", HARD, "l/secret", "")]],
        ),
        ("a mode through a link", vec![vec![entry("l", LINK, &at, ""), changed("l/sub")]]),
        (
            "a whiteout through a link",
            vec![vec![entry("l", LINK, &at, ""), entry("l/.wh.secret", FILE, "", "")]],
        ),
        ("a whiteout with dots", vec![vec![entry(".wh...", FILE, "", ""), entry(".wh..", FILE, "", "")]]),
        (
            "an opaque mark through a link",
            vec![vec![entry("l", LINK, &at, ""), entry("l/.wh..wh..opq", FILE, "", "")]],
        ),
        (
            "one archive makes the link, the next writes through it",
            vec![vec![entry("l", LINK, &at, "")], vec![entry("l/made", FILE, "", "x")]],
        ),
        (
            "one archive makes the link, the next takes away through it",
            vec![vec![entry("l", LINK, &at, "")], vec![entry("l/.wh.secret", FILE, "", "")]],
        ),
        (
            "a chain of links",
            vec![vec![
                entry("a", LINK, "b", ""),
                entry("b", LINK, "c/d", ""),
                entry("c", LINK, &up, ""),
                entry("a/made", FILE, "", "x"),
                entry("c/made", FILE, "", "x"),
            ]],
        ),
    ];
    for (trick, archives) in hostile {
        let store = Store::new("archive");
        let archives: Vec<Vec<u8>> = archives.iter().map(|entries| tar(entries)).collect();
        let (out, _base, _recipe) = compose(&store, &archives);
        assert!(out.code() == 0 || !out.stderr.trim().is_empty(), "{trick}: {out}");
        canary.assert_untouched();
        if out.code() == 0 {
            let out = store.run("hostile sh -c").arg("cat /h /l /l/secret /c/secret 2>/dev/null; true").run();
            assert!(!out.stdout.contains("the canary sings"), "{trick}: {out}");
            canary.assert_untouched();
        }
    }
}

// CVE-2021-29136
#[test]
fn a_layer_does_not_change_what_the_root_is() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    let at = canary.path().display().to_string();
    for name in [".", "./", "/", "", "a/.."] {
        for kind in [LINK, FILE, HARD] {
            if kind == FILE && name.ends_with('/') {
                continue; // an old spelling of a folder
            }
            let store = Store::new("root");
            let link = if kind == FILE { "" } else { at.as_str() };
            let (out, _base, _recipe) = compose(&store, &[tar(&[entry(name, kind, link, "")])]);
            assert!(out.code() != 0 && !out.stderr.trim().is_empty(), "{name:?} as {kind}: {out}");
            canary.assert_untouched();
        }
    }
}

// CVE-2025-47290: what is unpacked is out of reach, so the race is on what is read.
#[test]
fn a_folder_that_is_swapped_while_it_is_packed_brings_nothing_of_the_host() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    let image = Image::busybox().expect("busybox").folder("swap/sub");
    let image = image.file("swap/sub/secret", "of the image\n").link("link", canary.path());
    let racer = coracle_tests::racer::Racer::exchange(image.at("swap"), image.at("link"));
    for _ in 0..coracle_tests::rounds(6, 20) {
        let store = Store::new("pack");
        if image.compose_command(&store, "image").run().code() == 0 {
            let out =
                store.run("image sh -c").arg("cat /swap/secret /link/secret /swap/sub/* 2>/dev/null; true");
            canary.assert_unread(&out.run().stdout);
        }
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
    drop(racer);
    canary.assert_untouched();
}

// CVE-2025-47290: a folder that others write to while an image is unpacked into it.
#[test]
fn a_folder_that_is_swapped_while_an_image_is_unpacked_leads_nowhere() {
    let (canary, store) = (Canary::new(), Store::new("unpack"));
    let recipe = Scratch::new("unpack");
    let mut text = String::new();
    for layer in ["one", "two"] {
        for n in 0..400 {
            recipe.write(format!("{layer}/swap/sub/{layer}-{n}"), "of the image\n");
        }
        text.push_str(&format!("[[layer]]\ndir = \"{layer}\"\n"));
    }
    recipe.write("rootfs.toml", text);
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "image", "-q"]).ok();
    let mut swaps = 0;
    for round in 0..20 {
        let out = store.scratch.join(format!("out-{round}"));
        let (swap, link) = (out.join("swap"), out.join("link"));
        let racer = coracle_tests::racer::Racer::exchange(&swap, &link);
        let running =
            store.rootfs_tool().args(["copy", "-q", "image", &format!("dir:{}", out.display())]).spawn();
        // It has begun by then: before, it would refuse a folder that is not empty.
        coracle_tests::eventually("it unpacks", || swap.symlink_metadata().is_ok());
        let _ = std::os::unix::fs::symlink(canary.path(), &link);
        let done = running.wait(std::time::Duration::from_secs(60)).expect("it ends");
        assert!(done.code() == 0 || done.stderr.trim_end().lines().count() == 1, "{done}");
        swaps += racer.swaps();
        drop(racer);
        canary.assert_untouched();
    }
    assert!(swaps > 100, "the race did not run: {swaps} swaps");
}
