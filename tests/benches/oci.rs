//! The runner as an OCI client's runtime, beside crun, runc and youki where they are: the life of a container by
//! create, start and delete; a command in one that runs; and the smallest memory limit that a static `true` runs
//! under. Root; what is not installed is left out.

use std::path::Path;

use coracle_tests::bench::{Contender, bundle_for, print, race};
use coracle_tests::binaries::runner;
use coracle_tests::legacy::LegacyNamespace;
use coracle_tests::{Privilege, Scratch, eventually, peer, privilege, rootfs};

const TRUE: &str = "int main(void) { return 0; }";
const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";

/// Kilobytes that a limit is looked for between, and how near.
const MOST: u64 = 16 << 10;
const STEP: u64 = 4;

fn main() {
    if !privilege::have(Privilege::Root) {
        println!("left out: oci: it needs root");
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(200);
    let plain = Scratch::new("bench-oci");
    for dir in ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc", "state"] {
        plain.mkdir(dir);
    }
    rootfs::compile(TRUE, &plain.join("rootfs/bin/true")).expect("a compiler");
    rootfs::compile(PAUSE, &plain.join("rootfs/bin/pause")).expect("a compiler");
    let legacy = LegacyNamespace::new();
    let field: Vec<Runtime<'_>> = ["runner", "crun", "runc", "youki"]
        .into_iter()
        .filter_map(|name| Runtime::find(name, &plain, &legacy))
        .collect();

    println!("\ncreate, start and delete --force of /bin/true, {rounds} rounds");
    print(&race(field.iter().map(Runtime::life).collect(), rounds));

    println!("\nexec of /bin/true in a container that runs, {rounds} rounds");
    let held: Vec<Held<'_>> = field.iter().map(Held::new).collect();
    print(&race(held.iter().map(Held::exec).collect(), rounds));
    drop(held);

    println!("\nthe smallest memory limit that /bin/true runs under, kB");
    for runtime in &field {
        match runtime.smallest() {
            Some(least) => println!("{:<14} {least:>10}", runtime.name),
            None => println!("{:<14} none up to {MOST}", runtime.name),
        }
    }
}

/// One of the field.
struct Runtime<'a> {
    name: &'static str,
    begin: Vec<String>,
    plain: &'a Scratch,
    legacy: &'a LegacyNamespace,
}

impl<'a> Runtime<'a> {
    fn find(name: &'static str, plain: &'a Scratch, legacy: &'a LegacyNamespace) -> Option<Self> {
        let program = if name == "runner" { Some(runner()) } else { peer(name) };
        let Some(program) = program else {
            println!("left out: {name} is not installed");
            return None;
        };
        let state = plain.mkdir(format!("state/{name}"));
        let begin = [program, "--root".into(), state].map(|p| p.display().to_string()).into();
        Some(Self { name, begin, plain, legacy })
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        self.begin.iter().cloned().chain(words.iter().map(|w| (*w).to_owned())).collect()
    }

    /// crun refuses a hybrid tree of groups, and changes the null device's owner.
    fn placed(&self, contender: Contender) -> Contender {
        match self.name {
            "crun" => contender.in_mount_namespace(self.legacy.file()),
            "runc" => contender.every(4),
            _ => contender,
        }
    }

    fn bundle(&self, command: &str) -> String {
        bundle_for(self.plain, self.name, &[command]).display().to_string()
    }

    fn life(&self) -> Contender {
        let create =
            Contender::new(self.name, self.words(&["create", "--bundle", &self.bundle("/bin/true"), "{id}"]));
        let start = create.then(self.words(&["start", "{id}"]));
        self.placed(start.then(self.words(&["delete", "--force", "{id}"])))
    }

    /// Runs it under a limit of so many kilobytes?
    fn runs_under(&self, kilobytes: u64) -> bool {
        let dir = self.bundle("/bin/true");
        let file = Path::new(&dir).join("config.json");
        let text = std::fs::read_to_string(&file).expect("read config.json");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("parse config.json");
        config["linux"]["resources"]["memory"] = serde_json::json!({ "limit": kilobytes << 10 });
        std::fs::write(&file, config.to_string()).expect("write config.json");
        // youki waits for ever for one that was killed for want of memory, and leaves its groups.
        let id = format!("bench-least-{}", std::process::id());
        let patience = ["timeout", "-s", "KILL", "5"].map(str::to_owned);
        let run = patience.into_iter().chain(self.words(&["run", "--bundle", &dir, &id]));
        let run = self.placed(Contender::new(self.name, run));
        let runs = (0..5).all(|_| run.once().is_ok());
        if !runs {
            let delete = self.words(&["delete", "--force", &id]);
            let _ = self.placed(Contender::new(self.name, delete)).once();
        }
        runs
    }

    /// To the next step, by halves.
    fn smallest(&self) -> Option<u64> {
        let (mut fails, mut runs) = (0, MOST / STEP);
        if !self.runs_under(MOST) {
            return None;
        }
        while runs - fails > 1 {
            let middle = (fails + runs) / 2;
            match self.runs_under(middle * STEP) {
                true => runs = middle,
                false => fails = middle,
            }
        }
        Some(runs * STEP)
    }
}

/// A container that runs until this is dropped.
struct Held<'a> {
    runtime: &'a Runtime<'a>,
    id: String,
}

impl<'a> Held<'a> {
    fn new(runtime: &'a Runtime<'a>) -> Self {
        let id = format!("bench-held-{}", std::process::id());
        let bundle = runtime.bundle("/bin/pause");
        let create = Contender::new(runtime.name, runtime.words(&["create", "--bundle", &bundle, &id]));
        let begun = runtime.placed(create.then(runtime.words(&["start", &id]))).once();
        eventually("the container runs", || begun.is_ok());
        Self { runtime, id }
    }

    fn exec(&self) -> Contender {
        self.runtime
            .placed(Contender::new(self.runtime.name, self.runtime.words(&["exec", &self.id, "/bin/true"])))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let words = self.runtime.words(&["delete", "--force", &self.id]);
        let gone = self.runtime.placed(Contender::new(self.runtime.name, words)).once();
        if let Err(e) = gone {
            println!("{}: delete: {e}", self.runtime.name);
        }
    }
}
