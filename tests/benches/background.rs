//! Containers in the background beside docker's and podman's: `run -d` until it returns, when the command runs; `exec` in
//! one that runs; 16 starts at once; and what a monitor
//! has of its own, beside conmon and containerd's shim. Root; what is not installed is left out.

use std::time::Duration;

use coracle_tests::bench::{Contender, kilobytes, print, race};
use coracle_tests::binaries::runner;
use coracle_tests::dockerd::Dockerd;
use coracle_tests::{Cmd, Privilege, Scratch, Store, peer, privilege, rootfs};

const TRUE: &str = "int main(void) { return 0; }";
const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";

/// How many start at once.
const MANY: usize = 16;

fn main() {
    if !privilege::have(Privilege::Root) {
        println!("left out: background: it needs root");
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(100);
    let scratch = Scratch::new("bench-background");
    for dir in ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc"] {
        scratch.mkdir(dir);
    }
    rootfs::compile(TRUE, &scratch.join("rootfs/bin/true")).expect("a compiler");
    rootfs::compile(PAUSE, &scratch.join("rootfs/bin/pause")).expect("a compiler");
    scratch.write("rootfs.toml", "name = \"box\"\n[[layer]]\ndir = \"rootfs\"\n");
    let store = Store::new("bench-background-store");
    store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "box"]).ok();
    let daemon = privilege::have(Privilege::Peer("dockerd")).then(|| {
        let daemon = Dockerd::start(&[]);
        let root = scratch.join("rootfs").display().to_string();
        let import = format!("tar -C {root} -c . | docker -H {} import - box", daemon.socket());
        Cmd::new("sh").args(["-c", &import]).ok();
        daemon
    });
    let field = engines(&scratch, &store, daemon.as_ref());

    println!("\nrun -d until it returns, {rounds} rounds");
    print(&race(field.iter().map(Engine::run).collect(), rounds));

    println!("\nexec of /bin/true in a container that runs, {rounds} rounds");
    let held: Vec<Held<'_>> = field.iter().filter_map(Held::new).collect();
    print(&race(held.iter().map(Held::exec).collect(), rounds));

    println!("\nthe process beside an idle container, kB");
    println!("{:<14} {:>14} {:>10} {:>10}", "", "Private_Dirty", "PSS", "x first");
    let mut first = None;
    for held in &held {
        let Some(pid) = held.monitor() else { continue };
        let of = |field| kilobytes(pid, "smaps_rollup", field).unwrap_or_default();
        let own = of("Private_Dirty");
        let ratio = own as f64 / *first.get_or_insert(own) as f64;
        println!("{:<14} {own:>14} {:>10} {ratio:>10.2}", held.engine.name, of("Pss"));
    }
    drop(held);

    println!("\n{MANY} at once, until all run, median of 5");
    println!("{:<14} {:>10} {:>10}", "", "ms", "x first");
    let mut first = None;
    for engine in &field {
        let run = engine.run();
        let mut times: Vec<Duration> = (0..5).filter_map(|_| run.at_once(MANY).ok()).collect();
        times.sort_unstable();
        match times.get(times.len() / 2) {
            Some(median) => {
                let ms = median.as_secs_f64() * 1e3;
                println!("{:<14} {ms:>10.1} {:>10.2}", engine.name, ms / *first.get_or_insert(ms));
            }
            None => println!("left out: {}: not all of them start", engine.name),
        }
    }
}

/// What keeps containers in the background.
struct Engine {
    name: &'static str,
    begin: Vec<String>,
    /// What stands for the image, behind the flags of `run`.
    image: Vec<String>,
    remove: &'static str,
    pid: &'static str,
    env: Option<(&'static str, String)>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn engines(scratch: &Scratch, store: &Store, daemon: Option<&Dockerd>) -> Vec<Engine> {
    let mut field = vec![Engine {
        name: "runner",
        begin: vec![runner().display().to_string()],
        image: words("box"),
        remove: "rm -f",
        pid: "ps --format {{.Pid}} --filter",
        env: Some(("CORACLE_STORE", store.path().display().to_string())),
    }];
    match peer("podman") {
        Some(podman) => {
            let (podman, folder) = (podman.display(), scratch.path().display());
            let flags = "--runtime runc --cgroup-manager cgroupfs --events-backend none --storage-driver vfs";
            let root = "--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --rootfs";
            field.push(Engine {
                name: "podman",
                begin: words(&format!("{podman} {flags} --root {folder}/p --runroot {folder}/pr")),
                image: words(&format!("{root} {folder}/rootfs")),
                remove: "rm -f -t 0",
                pid: "ps --format {{.Pid}} --filter",
                env: None,
            });
        }
        None => println!("left out: podman is not installed"),
    }
    match (peer("docker"), daemon) {
        (Some(docker), Some(daemon)) => field.push(Engine {
            name: "docker",
            begin: words(&format!("{} -H {}", docker.display(), daemon.socket())),
            image: words("--network none box"),
            remove: "rm -f",
            pid: "inspect -f {{.State.Pid}}",
            env: None,
        }),
        _ => println!("left out: docker is not installed"),
    }
    field
}

impl Engine {
    fn contender(&self, said: Vec<String>) -> Contender {
        let contender = Contender::new(self.name, self.line(said));
        let slow = if self.name == "runner" { 1 } else { 5 };
        match &self.env {
            Some((name, value)) => contender.env(name, value),
            None => contender,
        }
        .every(slow)
    }

    fn line(&self, said: Vec<String>) -> Vec<String> {
        self.begin.iter().cloned().chain(said).collect()
    }

    fn begins(&self, id: &str) -> Vec<String> {
        let mut said = words(&format!("run -d --name {id}"));
        said.extend(self.image.clone());
        said.push("/bin/pause".to_owned());
        said
    }

    fn removes(&self, id: &str) -> Vec<String> {
        self.line(words(&format!("{} {id}", self.remove)))
    }

    fn run(&self) -> Contender {
        self.contender(self.begins("{id}")).and_after(self.removes("{id}"))
    }
}

/// A container that runs until this is dropped.
struct Held<'a> {
    engine: &'a Engine,
    id: String,
}

impl<'a> Held<'a> {
    fn new(engine: &'a Engine) -> Option<Self> {
        let id = format!("bench-held-{}", std::process::id());
        match engine.contender(engine.begins(&id)).once() {
            Ok(_) => Some(Self { engine, id }),
            Err(why) => {
                println!("left out: {}: {why}", engine.name);
                None
            }
        }
    }

    fn exec(&self) -> Contender {
        self.engine.contender(words(&format!("exec {} /bin/true", self.id)))
    }

    /// The parent of its first process.
    fn monitor(&self) -> Option<u32> {
        let meant = match self.engine.pid.ends_with("--filter") {
            true => format!("name={}", self.id),
            false => self.id.clone(),
        };
        let mut said = words(self.engine.pid);
        said.push(meant);
        let mut command = Cmd::new(&self.engine.begin[0]).args(&self.engine.line(said)[1..]);
        if let Some((name, value)) = &self.engine.env {
            command = command.env(name, value);
        }
        let pid = command.ok().stdout.trim().to_owned();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("PPid:"))?.trim().parse().ok()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let removed =
            self.engine.contender(self.engine.removes(&self.id)[self.engine.begin.len()..].to_vec());
        if let Err(e) = removed.once() {
            println!("{}: rm: {e}", self.engine.name);
        }
    }
}
