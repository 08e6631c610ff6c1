//! The store as its callers use it, on a real disk.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use coracle_sys::file::{remove_tree, unique_name};

use crate::image::{Descriptor, ImageConfig, RootFs, media_type};
use crate::ingest::{Quiet, Source, Wanted};
use crate::layer::pack::{Archive, Content, Meta};
use crate::{Digest, Locations, Store};

/// A store in a directory of its own, gone when dropped.
struct Scratch {
    dir: PathBuf,
    store: Store,
}

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(unique_name("coracle-store-"));
        let store = Store::open(&Locations { main: dir.join("s"), behind: Vec::new() }).unwrap();
        Self { dir, store }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.dir);
    }
}

fn layer(files: &[(&str, &str)]) -> Archive {
    let mut a = Archive::new();
    for (path, text) in files {
        a.put(path, Meta::new(0o644), Content::Bytes(text.as_bytes().to_vec())).unwrap();
    }
    a.put_parents();
    a
}

/// Put an image of these layers, bottom first.
fn put(store: &mut Store, name: &str, layers: &[Archive]) {
    let tx = store.begin().unwrap();
    let (mut ids, mut descriptors) = (Vec::new(), Vec::new());
    for a in layers {
        let l = tx.put_layer(a, &ids).unwrap();
        ids.push(l.diff_id);
        descriptors.push(l.descriptor);
    }
    let config = ImageConfig {
        architecture: crate::image::Platform::host().architecture,
        os: "linux".into(),
        rootfs: RootFs { diff_ids: ids, ..Default::default() },
        ..Default::default()
    };
    let manifest = tx.put_image(&config, descriptors).unwrap();
    tx.tag(name, &manifest).unwrap();
}

#[test]
fn an_image_that_was_put_is_found_by_name_and_by_id() {
    let mut s = Scratch::new();
    assert!(s.store.resolve("a").is_err());
    put(&mut s.store, "localhost/a:latest", &[layer(&[("etc/x", "1")]), layer(&[("etc/y", "2")])]);
    let again = Store::open(&Locations { main: s.dir.join("s"), behind: Vec::new() }).unwrap();
    let image = again.resolve("a").unwrap();
    assert_eq!(image.name.as_deref(), Some("localhost/a:latest"));
    for typed in [image.id().to_string(), image.id().short(), image.manifest_digest.to_string()] {
        assert_eq!(again.resolve(&typed).unwrap().id(), image.id());
    }
    let at = format!("a@{}", image.manifest_digest);
    assert_eq!(again.resolve(&at).unwrap().id(), image.id());
    let dirs = again.layer_dirs(&image).unwrap();
    let read = |n: usize, p: &str| fs::read_to_string(format!("/proc/self/fd/{}/{p}", dirs[n].as_raw_fd()));
    assert_eq!((read(0, "etc/x").unwrap(), read(1, "etc/y").unwrap()), ("1".into(), "2".into()));
    assert!(read(1, "etc/x").is_err());
}

#[test]
fn a_store_behind_the_first_is_read_and_never_written() {
    let mut s = Scratch::new();
    put(&mut s.store, "localhost/a:latest", &[layer(&[("x", "1")])]);
    let at = Locations { main: s.dir.join("new"), behind: vec![s.dir.join("s")] };
    let mut both = Store::open(&at).unwrap();
    let before = fs::metadata(s.dir.join("s/index.json")).unwrap().ino();
    let image = both.resolve("a").unwrap();
    assert_eq!(both.layer_dirs(&image).unwrap().len(), 1);
    let tx = both.begin().unwrap();
    tx.tag("localhost/b:latest", &image.descriptor).unwrap();
    drop(tx);
    assert_eq!(fs::metadata(s.dir.join("s/index.json")).unwrap().ino(), before);
    assert_eq!(both.resolve("b").unwrap().id(), image.id());
}

#[test]
fn what_nothing_uses_is_pruned_and_what_a_container_uses_is_not() {
    let mut s = Scratch::new();
    put(&mut s.store, "localhost/a:latest", &[layer(&[("x", "1")])]);
    put(&mut s.store, "localhost/b:latest", &[layer(&[("x", "1")]), layer(&[("y", "1")])]);
    let (a, b) = (s.store.resolve("a").unwrap(), s.store.resolve("b").unwrap());
    s.store.new_container("c1", Some(&b.manifest_digest)).unwrap();
    let tx = s.store.begin().unwrap();
    tx.untag("localhost/a:latest").unwrap();
    tx.untag("localhost/b:latest").unwrap();
    drop(tx);
    let pruned = s.store.prune().unwrap();
    assert_eq!(
        (pruned.blobs.len(), pruned.layers.len()),
        (2, 0),
        "a's config and manifest go, the shared layer stays"
    );
    assert!(s.store.layer_dirs(&b).is_ok() && s.store.layer_dirs(&a).is_ok());
    s.store.remove_container("c1").unwrap();
    let pruned = s.store.prune().unwrap();
    assert_eq!((pruned.blobs.len(), pruned.layers.len()), (4, 2));
    assert!(s.store.layer_dirs(&a).is_err());
}

#[test]
fn what_the_disk_has_changed_is_written_again_by_whoever_puts_it_again() {
    let mut s = Scratch::new();
    let layers = [layer(&[("x", "1")])];
    put(&mut s.store, "localhost/a:latest", &layers);
    let image = s.store.resolve("a").unwrap();
    for digest in [image.id(), image.manifest_digest] {
        let path = s.store.main().blob(&digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[1] ^= 1;
        fs::write(&path, &bytes).unwrap();
        put(&mut s.store, "localhost/a:latest", &layers);
        assert_eq!(s.store.resolve("a").unwrap().id(), image.id());
    }
}

#[test]
fn a_writer_sweeps_what_killed_ones_left() {
    let mut s = Scratch::new();
    put(&mut s.store, "localhost/a:latest", &[layer(&[("x", "1")])]);
    let left = s.store.main().tmp().join("left");
    fs::create_dir_all(left.join("fs")).unwrap();
    let held = s.store.main().tmp().join("held");
    fs::write(&held, "").unwrap();
    let lock = crate::lock::Lock::try_existing(&held).unwrap().unwrap();
    drop(s.store.begin().unwrap());
    assert!(!left.exists() && held.exists());
    drop(lock);
}

#[test]
fn a_container_without_a_name_is_called_by_its_id() {
    let mut s = Scratch::new();
    let (one, other) = ("01abcdef99", "12abcdef99");
    s.store.new_container(one, None).unwrap();
    s.store.new_container(other, None).unwrap();
    let name = crate::names::made_up(one);
    assert_eq!(s.store.named(&name).as_deref(), Some(one));
    assert_eq!(s.store.find_container(&name).unwrap().id, one);
    assert!(s.store.claim_name(&name, other).unwrap_err().to_string().contains(one));
    s.store.remove_container(one).unwrap();
    s.store.claim_name(&name, other).unwrap();
    assert_eq!(s.store.named(&name).as_deref(), Some(other));
}

#[test]
fn a_directory_without_a_record_is_an_orphan_once_its_maker_is_gone() {
    let mut s = Scratch::new();
    let (dir, held) = s.store.new_container("abc1", None).unwrap();
    s.store.sweep_containers(|_| false).unwrap();
    assert!(dir.path.is_dir(), "its maker is at it");
    drop(held);
    s.store.sweep_containers(|_| true).unwrap();
    assert!(dir.path.is_dir(), "it has a record");
    s.store.sweep_containers(|_| false).unwrap();
    assert!(!dir.path.exists());
}

#[test]
fn a_name_belongs_to_one_living_container() {
    let mut s = Scratch::new();
    s.store.new_container("abc1", None).unwrap();
    s.store.new_container("abd2", None).unwrap();
    s.store.claim_name("web", "abc1").unwrap();
    assert!(s.store.claim_name("web", "abd2").unwrap_err().to_string().contains("abc1 has that name"));
    assert_eq!(s.store.find_container("web").unwrap().id, "abc1");
    assert_eq!(s.store.find_container("abd").unwrap().id, "abd2");
    assert!(s.store.find_container("ab").is_err());
    assert!(s.store.find_container("../s").is_err());
    s.store.remove_container("abc1").unwrap();
    s.store.claim_name("web", "abd2").unwrap();
    assert_eq!(s.store.find_container("web").unwrap().id, "abd2");
}

/// Blobs in memory.
struct Memory(Vec<(Digest, Vec<u8>)>);

impl Source for Memory {
    fn open(&self, d: &Descriptor, from: u64) -> coracle_sys::Result<Box<dyn std::io::Read + Send + '_>> {
        let (_, bytes) = self.0.iter().find(|(digest, _)| *digest == d.digest).unwrap();
        Ok(Box::new(&bytes[from as usize..]))
    }
}

#[test]
fn a_layer_that_leans_and_stands_twice_in_an_image_comes_once_and_is_applied_twice() {
    let mut s = Scratch::new();
    let tar = |path: &str| {
        // Without its parents, a layer leans on what is below it.
        let mut archive = Archive::new();
        archive.put(path, Meta::new(0o644), Content::Bytes(path.into())).unwrap();
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        (Digest::of(&bytes), bytes)
    };
    let (lean, other) = (tar("tmp/x"), tar("tmp/y"));
    let wanted: Vec<Wanted> = [&lean, &other, &lean]
        .map(|(digest, bytes)| Wanted {
            descriptor: Descriptor::new(media_type::LAYER, *digest, bytes.len() as u64),
            diff_id: *digest,
        })
        .into();
    let ids: Vec<Digest> = wanted.iter().map(|w| w.diff_id).collect();
    let tx = s.store.begin().unwrap();
    tx.ingest(&[], &wanted, &Memory(vec![lean, other]), &Quiet).unwrap();
    drop(tx);
    assert_eq!(s.store.stack_paths(&ids).unwrap().last().map(|p| p.join("tmp/x").exists()), Some(true));
    assert_eq!(fs::read_dir(s.dir.join("s/cache/partial")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(s.dir.join("s/blobs/sha256")).unwrap().count(), 2);
}

/// Gives the first blob only once the others were read to their ends.
struct FirstLast {
    blobs: Memory,
    ends: Mutex<usize>,
    ended: Condvar,
}

struct Counted<'a>(Box<dyn std::io::Read + Send + 'a>, &'a FirstLast);

impl std::io::Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        if n == 0 {
            *self.1.ends.lock().unwrap() += 1;
            self.1.ended.notify_all();
        }
        Ok(n)
    }
}

impl Source for FirstLast {
    fn open(&self, d: &Descriptor, from: u64) -> coracle_sys::Result<Box<dyn std::io::Read + Send + '_>> {
        let blob = self.blobs.open(d, from)?;
        if d.digest == self.blobs.0[0].0 {
            let others = self.blobs.0.len() - 1;
            drop(self.ended.wait_while(self.ends.lock().unwrap(), |ends| *ends < others).unwrap());
            return Ok(blob);
        }
        Ok(Box::new(Counted(blob, self)))
    }
}

#[test]
fn a_layer_that_leans_does_not_wait_for_what_is_below_and_is_right_all_the_same() {
    let mut s = Scratch::new();
    let tar = |put: &dyn Fn(&mut Archive)| {
        let mut archive = Archive::new();
        put(&mut archive);
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        (Digest::of(&bytes), bytes)
    };
    let text = |a: &mut Archive, path: &str| {
        a.put(path, Meta::new(0o644), Content::Bytes(path.into())).unwrap();
    };
    let base = tar(&|a| {
        a.put("tmp", Meta::new(0o1777), Content::Dir).unwrap();
        a.put("usr", Meta::new(0o711), Content::Dir).unwrap();
        a.put("usr/lib", Meta::new(0o700), Content::Dir).unwrap();
        a.put("lib", Meta::new(0o777), Content::Symlink("usr/lib".into())).unwrap();
        text(a, "usr/lib/old");
    });
    let right = tar(&|a| {
        text(a, "tmp/x");
        text(a, "usr/share/y");
    });
    // Below, this is a link: what was guessed of it is wrong.
    let wrong = tar(&|a| {
        text(a, "lib/z");
        a.put("tmp/hard", Meta::new(0o644), Content::HardLink("lib/z".into())).unwrap();
    });
    let wanted: Vec<Wanted> = [&base, &right, &wrong]
        .map(|(digest, bytes)| Wanted {
            descriptor: Descriptor::new(media_type::LAYER, *digest, bytes.len() as u64),
            diff_id: *digest,
        })
        .into();
    let ids: Vec<Digest> = wanted.iter().map(|w| w.diff_id).collect();
    let blobs = Memory(vec![base, right, wrong]);
    let source = FirstLast { blobs, ends: Mutex::new(0), ended: Condvar::new() };
    let tx = s.store.begin().unwrap();
    tx.ingest(&[], &wanted, &source, &Quiet).unwrap();
    drop(tx);
    let trees = s.store.stack_paths(&ids).unwrap();
    let mode = |n: usize, path: &str| trees[n].join(path).metadata().map(|m| m.mode() & 0o7777).ok();
    assert_eq!(
        (mode(1, "tmp"), mode(1, "usr"), mode(1, "usr/share")),
        (Some(0o1777), Some(0o711), Some(0o755))
    );
    assert_eq!((mode(2, "lib"), mode(2, "usr/lib"), mode(2, "usr/lib/z")), (None, Some(0o700), Some(0o644)));
    assert_eq!(fs::metadata(trees[2].join("tmp/hard")).unwrap().nlink(), 2);
    assert_eq!(
        fs::read_dir(s.dir.join("s/tmp")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(),
        0
    );
}

#[test]
fn packages_and_builds_that_were_used_since_then_are_kept() {
    let mut s = Scratch::new();
    put(&mut s.store, "localhost/a:latest", &[layer(&[("x", "1")])]);
    let packages = s.store.main().root().join("cache/deb/sha256");
    fs::create_dir_all(&packages).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let then = std::time::SystemTime::now() - hour;
    for (name, age) in [("new", 0), ("old", 2)] {
        let file = fs::File::create(packages.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - age * hour).unwrap();
    }
    s.store.prune_builds(Some(then), true).unwrap();
    assert!(packages.join("new").exists() && !packages.join("old").exists());
    s.store.prune_builds(None, true).unwrap();
    assert!(!packages.join("new").exists());
}
