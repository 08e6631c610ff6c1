//! A writer that is killed at any moment leaves a valid store. This test is its own writer: called
//! with a store's path it writes images until it is killed; called without it kills itself many
//! times over and looks at what is left. (It has a main of its own, hence.)

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use coracle_store::image::{ImageConfig, RootFs};
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_store::{Locations, Store};
use coracle_sys::Result;

const KILLS: u64 = 60;

fn main() {
    match std::env::args().nth(1).filter(|a| a.starts_with('/')) {
        Some(store) => write_for_ever(Path::new(&store)),
        None => a_writer_killed_at_any_moment_leaves_a_valid_store(),
    }
}

fn open(at: &Path) -> Store {
    Store::open(&Locations { main: at.to_owned(), behind: Vec::new() }).expect("open the store")
}

/// An image of two layers, the lower one shared by all; both say which image it is.
fn put(store: &mut Store, name: &str) -> Result<()> {
    let layer = |path: &str, text: &str| {
        let mut a = Archive::new();
        a.put(path, Meta::new(0o644), Content::Bytes(text.repeat(2000).into_bytes()))?;
        a.put_parents();
        Ok(a)
    };
    let tx = store.begin()?;
    let below = tx.put_layer(&layer("etc/base", "base")?, &[])?;
    let top = tx.put_layer(&layer("etc/name", name)?, &[below.diff_id])?;
    let config = ImageConfig {
        architecture: coracle_store::image::Platform::host().architecture,
        os: "linux".into(),
        rootfs: RootFs { diff_ids: vec![below.diff_id, top.diff_id], ..Default::default() },
        ..Default::default()
    };
    let manifest = tx.put_image(&config, vec![below.descriptor, top.descriptor])?;
    tx.tag(&format!("localhost/{name}:latest"), &manifest)?;
    Ok(())
}

fn write_for_ever(at: &Path) {
    let me = std::process::id();
    for n in 0u64.. {
        let mut store = open(at);
        let name = format!("i{me}-{}", n % 3);
        put(&mut store, &name).expect("put an image");
        match n % 4 {
            1 => drop(
                store.begin().and_then(|tx| tx.untag(&format!("localhost/{name}:latest"))).expect("untag"),
            ),
            3 => drop(store.prune().expect("prune")),
            _ => {}
        }
        let id = format!("c{me}-{n}");
        store.new_container(&id, None).expect("make a container");
        store.remove_container(&id).expect("remove a container");
    }
}

/// Everything that the index names is there, has its digest, and every layer has all its bytes.
fn check(at: &Path) -> usize {
    let store = open(at);
    let entries = store.entries().expect("read the index");
    for (_, d) in &entries {
        let name = d.ref_name().expect("a name").to_owned();
        let image = store.resolve(&name).expect("resolve");
        for l in &image.manifest.layers {
            let mut all = Vec::new();
            store.open_blob(l).expect("open a blob").read_to_end(&mut all).expect("read a blob");
        }
        let dirs = store.layer_dirs(&image).expect("find the layers");
        let short = name.trim_start_matches("localhost/").trim_end_matches(":latest");
        for (dir, file, text) in [(&dirs[0], "base", "base"), (&dirs[1], "name", short)] {
            let path = format!("/proc/self/fd/{}/etc/{file}", dir.as_raw_fd());
            assert_eq!(std::fs::read_to_string(path).expect("read a layer"), text.repeat(2000), "{name}");
        }
    }
    entries.len()
}

fn a_writer_killed_at_any_moment_leaves_a_valid_store() {
    let dir = Scratch(std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-crash-")));
    let at = dir.0.join("store");
    std::fs::create_dir_all(&dir.0).expect("make a directory");
    let me = std::env::current_exe().expect("this program's path");
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut seen = 0;
    for round in 0..KILLS {
        // Two at a time, so that one may be killed while the other waits for its lock.
        let mut writers: Vec<Writer> =
            (0..2).map(|_| Writer(Command::new(&me).arg(&at).spawn().expect("start a writer"))).collect();
        for writer in &mut writers {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            std::thread::sleep(Duration::from_micros((seed >> 33) % (500 + 1500 * (round % 40))));
            if let Some(status) = writer.0.try_wait().expect("wait for a writer") {
                panic!("a writer ended by itself: {status}");
            }
            writer.0.kill().expect("kill a writer");
            writer.0.wait().expect("wait for a writer");
        }
        if at.join("VERSION").exists() {
            seen += check(&at);
        }
    }
    assert!(seen > 20, "the writers got somewhere: {seen}");
    let mut store = open(&at);
    store.prune().expect("prune");
    let left = std::fs::read_dir(at.join("tmp")).expect("list tmp").count();
    assert_eq!(left, 0, "nothing is left in tmp");
    put(&mut store, "last").expect("put an image");
    check(&at);
    println!("{KILLS} times two writers were killed, {seen} images looked at: ok");
}

/// A writer, killed when the test ends early.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = coracle_sys::file::remove_tree(&self.0);
    }
}
