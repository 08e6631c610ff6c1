//! The start of a container: `runner run --rm` of a static `true` from an image of three layers, beside the
//! floor (the kernel calls and nothing else), bubblewrap, crun, runc, podman and docker. Then starts a second,
//! and what an idle container costs. Root; what is not installed is left out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coracle_tests::bench::{Contender, bundle_for, family, kilobytes, print, race, sustained};
use coracle_tests::binaries::runner;
use coracle_tests::legacy::LegacyNamespace;
use coracle_tests::{Scratch, Store, eventually, peer, rootfs, workspace};

const TRUE: &str = "int main(void) { return 0; }";
const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";

fn main() {
    let Some(compiler) = peer("musl-gcc").or_else(|| peer("cc")) else {
        println!("left out: start: no C compiler for the floor");
        return;
    };
    println!("compiler of the static programs: {}", compiler.display());
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(300);

    let (store, image) = three_layers();
    let plain = plain_rootfs();
    let legacy = LegacyNamespace::new();

    let field = contenders(&store, &image, &plain, &legacy, "/bin/true");
    println!("\nstart and end of /bin/true, {rounds} rounds");
    let field = race(field, rounds);
    print(&field);

    println!("\nstarts a second, two at a time");
    for contender in field.iter().filter(|c| !["podman", "docker"].contains(&c.name())) {
        println!("{:<14} {:>10.0}", contender.name(), sustained(contender, 2, Duration::from_secs(3)));
    }

    println!("\nan idle container, kB (the payload itself left out)");
    println!("{:<14} {:>10} {:>10}  processes", "", "PSS", "peak");
    for contender in contenders(&store, &image, &plain, &legacy, "/bin/pause") {
        if !["podman", "docker"].contains(&contender.name()) {
            idle(&contender);
        }
    }
}

/// A store with an image of three layers, and the folder that the floor uses.
fn three_layers() -> (Store, Scratch) {
    let store = Store::new("bench");
    let recipe = Scratch::new("bench-recipe");
    recipe.mkdir("one/bin");
    for dir in ["proc", "sys", "dev"] {
        recipe.mkdir(Path::new("one").join(dir));
    }
    rootfs::compile(TRUE, &recipe.join("one/bin/true")).expect("a compiler");
    rootfs::compile(PAUSE, &recipe.join("one/bin/pause")).expect("a compiler");
    recipe.write("two/etc/two", "two\n");
    recipe.write("three/etc/three", "three\n");
    let layers: String = ["one", "two", "three"].map(|l| format!("[[layer]]\ndir = \"{l}\"\n")).concat();
    recipe.write("rootfs.toml", format!("name = \"three\"\n{layers}"));
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "three"]).ok();
    let floor = std::fs::read_to_string(workspace().join("tests/benches/floor.c")).expect("read floor.c");
    rootfs::compile(&floor, &recipe.join("floor")).expect("a compiler");
    recipe.mkdir("state");
    (store, recipe)
}

/// A bundle with the same content in one folder, for those that have no images.
fn plain_rootfs() -> Scratch {
    let bundle = Scratch::new("bench-bundle");
    for dir in ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc"] {
        bundle.mkdir(dir);
    }
    rootfs::compile(TRUE, &bundle.join("rootfs/bin/true")).expect("a compiler");
    rootfs::compile(PAUSE, &bundle.join("rootfs/bin/pause")).expect("a compiler");
    bundle
}

fn contenders(
    store: &Store,
    image: &Scratch,
    plain: &Scratch,
    legacy: &LegacyNamespace,
    command: &str,
) -> Vec<Contender> {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let lowers = ["three", "two", "one"].map(|l| text(image.join(l))).join(":");
    let mut field = vec![Contender::new(
        "floor",
        [text(image.join("floor")), text(image.join("state")), lowers, command.into()],
    )];
    let run = ["--root", &text(store.state()), "run", "--rm", "three", command].map(str::to_owned);
    let ours = Contender::new("runner", [text(runner())].into_iter().chain(run));
    field.push(ours.env("CORACLE_STORE", store.path()));
    let root = text(plain.join("rootfs"));
    if let Some(bwrap) = peer("bwrap") {
        let words =
            format!("--unshare-all --die-with-parent --bind {root} / --proc /proc --dev /dev {command}");
        let words = words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        field.push(Contender::new("bwrap", [text(bwrap)].into_iter().chain(words)));
    }
    let bundle = text(bundle_for(plain, "runner", &[command]));
    let words = ["--root", &text(store.state()), "run", "--bundle", &bundle, "{id}"].map(str::to_owned);
    field.push(Contender::new("runner bundle", [text(runner())].into_iter().chain(words)));
    for name in ["crun", "runc"] {
        let Some(program) = peer(name) else { continue };
        let bundle = text(bundle_for(plain, name, &[command]));
        let words = ["run", "--bundle", &bundle, "{id}"].map(str::to_owned);
        let contender = Contender::new(name, [text(program)].into_iter().chain(words));
        field.push(match name {
            "crun" => contender.in_mount_namespace(legacy.file()),
            _ => contender.every(4),
        });
    }
    if let Some(podman) = peer("podman") {
        let words = format!(
            "run --rm --network none --runtime runc --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --rootfs {root} {command}"
        );
        let words = words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        field.push(Contender::new("podman", [text(podman)].into_iter().chain(words)).every(30));
    }
    let up = |docker: &Path| Command::new(docker).arg("info").output().is_ok_and(|o| o.status.success());
    if let Some(docker) = peer("docker").filter(|d| up(d)) {
        let import = Command::new("sh")
            .args(["-c", "tar -C \"$0\" -c . | docker import - coracle-bench:1", &root])
            .output()
            .is_ok_and(|o| o.status.success());
        if import {
            let words = ["run", "--rm", "--network", "none", "coracle-bench:1", command].map(str::to_owned);
            field.push(Contender::new("docker", [text(docker)].into_iter().chain(words)).every(30));
        }
    }
    field
}

/// What a running container costs beside its payload.
fn idle(contender: &Contender) {
    let Ok(mut child) = contender.start() else { return };
    let mut members = Vec::new();
    eventually("the payload runs", || {
        members = family(child.id());
        members.iter().any(|(_, name)| name == "pause") || child.try_wait().is_ok_and(|s| s.is_some())
    });
    let others: Vec<_> = members.iter().filter(|(_, name)| name != "pause").collect();
    let pss: u64 = others.iter().filter_map(|(pid, _)| kilobytes(*pid, "smaps_rollup", "Pss")).sum();
    let peak = kilobytes(child.id(), "status", "VmHWM").unwrap_or_default();
    let names: Vec<String> = others
        .iter()
        .map(|(pid, name)| format!("{name} {}", kilobytes(*pid, "smaps_rollup", "Pss").unwrap_or_default()))
        .collect();
    println!("{:<14} {pss:>10} {peak:>10}  {}", contender.name(), names.join(", "));
    for (pid, _) in members.iter().rev() {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*pid as i32),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let _ = child.wait();
}
