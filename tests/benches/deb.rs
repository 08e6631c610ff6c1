//! The same Debian packages as a root file system: composed from a lock and from the index, beside mmdebstrap and
//! debootstrap, all with the packages fetched before. The peers' indexes are fetched each time. Root alone; it needs the
//! network that this machine's apt is configured for, and what is not installed is said and left out.

use std::path::Path;

use coracle_tests::bench::{Contender, print, race};
use coracle_tests::{Privilege, Scratch, Store, binaries, peer, privilege};

const RECIPE: &str = "[[layer]]\ndeb = { suite = \"bookworm\", packages = [\"apt\", \"usrmerge\"] }\n";

fn main() {
    if !(privilege::have(Privilege::Root) && privilege::have(Privilege::Peer("apt-get"))) {
        println!("left out: deb: it needs root and apt");
        return;
    }
    let (warm, work) = (Store::new("bench-deb"), Scratch::new("bench-deb"));
    work.write("recipe/rootfs.toml", RECIPE);
    let made = warm.rootfs_tool().arg("compose").arg(work.join("recipe")).args(["-t", "x"]).run();
    if made.code() != 0 {
        println!("left out: deb: {}", made.stderr.trim());
        return;
    }
    archives(&warm.path(), &work);
    let tool = binaries::rootfs_tool();
    let at = |name: &str| work.join(name).display().to_string();
    let sh = |name, script: String| Contender::new(name, ["sh", "-c", &script].map(str::to_owned));
    let fresh = |flag: &str| {
        let (store, cache) = (at("store"), warm.path().join("cache/deb"));
        let begin =
            format!("rm -rf {store} && mkdir -p {store}/cache && cp -r {} {store}/cache/", cache.display());
        format!("{begin} && CORACLE_STORE={store} {} compose {} -t x {flag}", tool.display(), at("recipe"))
    };
    let mut field =
        vec![sh("compose, locked", fresh("--locked")), sh("compose, from the index", fresh("--update"))];
    let hook = format!(
        "mkdir -p \"$1/var/cache/apt/archives\" && cp {}/*.deb \"$1/var/cache/apt/archives/\"",
        at("archives")
    );
    for (name, words) in [
        (
            "mmdebstrap",
            format!(
                "mmdebstrap --quiet --variant=essential --include=apt,usrmerge,usr-is-merged --setup-hook='{hook}' bookworm {}",
                at("x.tar")
            ),
        ),
        (
            "debootstrap",
            format!(
                "rm -rf {0} && debootstrap --variant=minbase --cache-dir={1} bookworm {0} $(apt-get indextargets --format '$(REPO_URI)' | head -n 1)",
                at("root"),
                at("archives")
            ),
        ),
    ] {
        match peer(name) {
            Some(_) => field.push(sh(name, words)),
            None => println!("left out: {name}: it is not installed"),
        }
    }
    print(&race(field, 3));
}

/// The packages of the store's cache under the names that apt and debootstrap give them.
fn archives(store: &Path, work: &Scratch) {
    let lock = std::fs::read_to_string(work.join("recipe/rootfs.lock")).expect("a lock");
    let dir = work.mkdir("archives");
    for line in lock.lines().filter(|l| l.contains("{ name =")) {
        let word = |key: &str| {
            let rest = line.split_once(&format!("{key} = \"")).expect("a word of the lock").1;
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        let name =
            format!("{}_{}_{}.deb", word("name"), word("version").replace(':', "%3a"), word(" architecture"));
        std::fs::copy(store.join("cache/deb/sha256").join(word("sha256")), dir.join(name)).expect("copy");
    }
}
