//! kill -9 and full disks in the middle of what changes a store: it verifies every time, and the next command
//! finishes the job.

use std::time::Duration;

use coracle_tests::layout::assert_valid;
use coracle_tests::noise::noise;
use coracle_tests::registry::{Registry, tool};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need, rounds};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

/// A recipe of three layers with a few hundred files, two megabytes in all.
fn recipe() -> Scratch {
    let recipe = Scratch::new("recipe");
    let mut text = String::new();
    for layer in 0..3 {
        for n in 0..80 {
            let bytes = noise(layer * 80 + n, 8000);
            recipe.write(format!("l{layer}/d{}/f{n}", n % 7), bytes);
        }
        text.push_str(&format!("[[layer]]\ndir = \"l{layer}\"\n"));
    }
    recipe.write("rootfs.toml", text);
    recipe
}

struct Work {
    registry: Registry,
    recipe: Scratch,
    name: String,
    archive: std::path::PathBuf,
    _origin: Store,
}

impl Work {
    fn new() -> Self {
        let (registry, recipe, origin) = (Registry::plain(), recipe(), Store::new("faults"));
        origin.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
        let name = registry.name("app:1");
        tool(&origin).args(["copy", "-q", "app", &format!("docker://{name}")]).ok();
        let archive = origin.scratch.join("app.tar");
        origin.rootfs_tool().args(["save", "app", "-o"]).arg(&archive).ok();
        Self { registry, recipe, name, archive, _origin: origin }
    }

    /// One of the ways to change a store; the image's name, where it makes one.
    fn command(&self, store: &Store, which: usize) -> (Cmd, Option<String>) {
        match which % 4 {
            0 => (tool(store).args(["pull", "-q", &self.name]), Some(self.name.clone())),
            1 => (tool(store).args(["load", "-q", "-i"]).arg(&self.archive), Some("app".to_owned())),
            2 => {
                let compose = tool(store).arg("compose").arg(self.recipe.path()).args(["-q", "-t", "made"]);
                (compose, Some("made".to_owned()))
            }
            _ => {
                let names = tool(store).args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
                let first = names.text().lines().next().unwrap_or("none").to_owned();
                (tool(store).args(["rmi", &first]), None)
            }
        }
    }
}

#[test]
fn a_store_whose_writers_are_killed_verifies_and_the_next_finishes() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let work = Work::new();
    let store = Store::new("faults");
    for round in 0..rounds(12, 200) {
        let (cmd, _) = work.command(&store, round);
        let running = cmd.spawn();
        std::thread::sleep(Duration::from_millis((round as u64 * 37) % 120));
        running.signal(Signal::SIGKILL);
        let _ = running.wait(Duration::from_secs(30));
        tool(&store).args(["verify"]).ok();
        let (again, made) = work.command(&store, round);
        if let Some(name) = made {
            again.ok();
            tool(&store).args(["verify", &name]).ok().prints("good");
        }
    }
    // Whoever writes next sweeps what the dead have left.
    tool(&store).args(["pull", "-q", &work.name]).ok();
    let left = std::fs::read_dir(store.path().join("tmp")).expect("list tmp").count();
    assert_eq!(left, 0);
    assert!(work.registry.log().contains("GET"));
}

#[test]
fn a_pull_that_is_interrupted_leaves_nothing_half_made() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let work = Work::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for delay in [5, 15, 40] {
            let store = Store::new("faults");
            let running = tool(&store).args(["pull", &work.name]).spawn();
            std::thread::sleep(Duration::from_millis(delay));
            running.signal(signal);
            let out = running.wait(Duration::from_secs(30)).expect("it ends");
            assert!([0, 128 + signal as i32].contains(&out.code()), "{out}");
            let tmp = std::fs::read_dir(store.path().join("tmp"));
            assert_eq!(tmp.map_or(0, Iterator::count), 0, "{out}");
            tool(&store).args(["pull", "-q", &work.name]).ok();
            tool(&store).args(["verify"]).ok();
        }
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_the_store_as_it_was() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Root)) {
        return;
    }
    let work = Work::new();
    for kilobytes in [500, 1000, 2000, 3000, 3800, 4400] {
        for which in 0..3 {
            let store = Store::new("faults");
            let at = store.scratch.mkdir("store");
            let size = format!("size={kilobytes}k,mode=0755");
            mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect("mount");
            let (cmd, _) = work.command(&store, which);
            let out = cmd.run();
            if out.code() != 0 {
                assert_eq!(out.code(), 1, "{out}");
                assert!(out.stderr.contains("No space left on device"), "{out}");
                assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
                assert_eq!(tool(&store).words("images -q").ok().text(), "", "{out}");
            }
            // With room, the same command does it. To verify takes room as well: a layer's, once more.
            let more = Some("size=64m");
            mount(None::<&str>, &at, None::<&str>, MsFlags::MS_REMOUNT, more).expect("remount");
            tool(&store).args(["verify"]).ok();
            let (again, made) = work.command(&store, which);
            again.ok();
            tool(&store).args(["verify", &made.expect("a name")]).ok().prints("good");
        }
    }
}

/// Write until nothing more can be written, to the last byte.
fn fill(disk: &std::path::Path) {
    use std::io::Write;
    for (name, piece) in [("fill", 1 << 16), ("rest", 1)] {
        let mut file = std::fs::File::create(disk.join(name)).expect("make a file");
        while file.write_all(&vec![0; piece]).and_then(|()| file.sync_data()).is_ok() {}
    }
}

#[test]
fn an_image_is_removed_where_nothing_more_can_be_written() {
    if !(need(Privilege::Root) && need(Privilege::Peer("mkfs.ext4"))) {
        return;
    }
    let recipe = recipe();
    for kind in ["tmpfs", "ext4"] {
        let store = Store::new("faults-rmi");
        let at = store.scratch.mkdir("store");
        if kind == "tmpfs" {
            mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some("size=24m")).expect("mount");
        } else {
            let disk = store.scratch.join("disk");
            std::fs::File::create(&disk).and_then(|f| f.set_len(24 << 20)).expect("a disk");
            Cmd::new("mkfs.ext4").args(["-qF", "-m", "0"]).arg(&disk).ok();
            Cmd::new("mount").args(["-o", "loop"]).args([&disk, &at]).ok();
        }
        for name in ["one", "two", "three"] {
            // The same layers: what goes with the first gives nothing back.
            tool(&store).arg("compose").arg(recipe.path()).args(["-q", "-t", name]).ok();
        }
        fill(&at);
        let full = tool(&store).args(["tag", "one", "four"]).fails(1);
        assert!(full.stderr.contains("No space left on device"), "{kind}: {full}");
        tool(&store).args(["rmi", "one"]).ok().prints("one");
        assert_valid(&store.path(), kind);
        std::fs::remove_file(at.join("rest")).expect("unlink");
        tool(&store).args(["rmi", "two", "three"]).ok();
        assert_eq!(tool(&store).words("images -q").ok().text(), "", "{kind}");
        // With room again, some of it is put aside for the next time.
        std::fs::remove_file(at.join("fill")).expect("unlink");
        tool(&store).arg("compose").arg(recipe.path()).args(["-q", "-t", "again"]).ok();
        fill(&at);
        tool(&store).args(["rmi", "again"]).ok();
        assert_valid(&store.path(), kind);
        Cmd::new("umount").arg(&at).ok();
    }
}

#[test]
fn two_pulls_of_one_image_at_once_and_a_prune_beside_them_are_right() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let work = Work::new();
    for _ in 0..3 {
        let store = Store::new("faults");
        tool(&store).arg("compose").arg(work.recipe.path()).args(["-q", "-t", "other"]).ok();
        tool(&store).args(["rmi", "other"]).ok();
        let pulls: Vec<_> = (0..3).map(|_| tool(&store).args(["pull", "-q", &work.name]).spawn()).collect();
        let removals: Vec<_> = (0..2).map(|_| tool(&store).args(["rmi", "none"]).spawn()).collect();
        for pull in pulls {
            pull.wait(Duration::from_secs(60)).expect("it ends").ok();
        }
        removals.into_iter().for_each(|r| drop(r.wait(Duration::from_secs(60))));
        tool(&store).args(["verify"]).ok().prints("good");
        assert_eq!(tool(&store).words("images -q").ok().text().lines().count(), 1);
    }
}

#[test]
fn a_prune_takes_no_image_away_that_is_named_beside_it() {
    let (store, other) = (Store::new("faults"), Store::new("faults"));
    let recipe = recipe();
    for store in [&store, &other] {
        store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    }
    let archive = store.scratch.join("app.tar");
    store.rootfs_tool().args(["save", "app", "-o"]).arg(&archive).ok();
    for round in 0..rounds(12, 200).min(40) {
        let loading = other.rootfs_tool().args(["load", "-q", "-i"]).arg(&archive).spawn();
        let tagging = other.rootfs_tool().args(["tag", "app", &format!("again:{round}")]).spawn();
        let pruning = other.rootfs_tool().words("prune -a -f").spawn();
        let limit = std::time::Duration::from_secs(60);
        let loaded = loading.wait(limit).expect("it ends").ok();
        drop(tagging.wait(limit).expect("it ends"));
        pruning.wait(limit).expect("it ends").ok();
        drop(loaded);
        // What has a name is whole.
        other.rootfs_tool().arg("verify").ok();
        let names = other.rootfs_tool().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
        for name in names.text().lines() {
            other.rootfs_tool().args(["inspect", name]).ok();
        }
    }
}
