//! `init` beside tini, dumb-init and catatonit, each as PID 1 of a namespace: what it adds to a start, what
//! it holds while its command sleeps, what reaping costs it, how fast it passes a signal on. The times of
//! reaping are those that the process itself spends. Root or user namespaces; what is missing is said.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use coracle_tests::bench::{Contender, kilobytes, race};
use coracle_tests::{Scratch, binaries, eventually, peer, rootfs};

const LIVING: u32 = 12_000;
const DEATHS: u32 = 1_000;
const ORPHANS: u32 = 20_000;

fn main() {
    let scratch = Scratch::new("bench-init");
    let actor = scratch.join("actor");
    if rootfs::compile(include_str!("../tests/init/actor.c"), &actor).is_none() {
        println!("left out: init: no C compiler for its command");
        return;
    }
    let mut field = vec![("init", binaries::init())];
    for name in ["tini", "tini-static", "dumb-init", "catatonit"] {
        match peer(name) {
            Some(path) => field.push((name, path)),
            None => println!("left out: {name} is not installed"),
        }
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(300);
    let added = start(&actor, &field, rounds);

    println!("\nPID 1 of a namespace; in brackets, times what init takes");
    println!("{:<12} {:>16} {:>16} {:>16} {:>16}", "", "file kB", "resident kB", "PSS kB", "own pages kB");
    let mut table = Table::default();
    for (name, path) in &field {
        let file = std::fs::metadata(path).expect("look at the file").len() as f64 / 1024.0;
        let [rss, pss, own] = idle(&Init::new(&actor, path, &["sleep"]));
        table.row(name, &[file, rss, pss, own]);
    }
    println!(
        "\n{:<12} {:>16} {:>16} {:>16} {:>16}",
        "", "start +µs", "signal µs", "orphan µs", "of 12,000 µs"
    );
    let mut table = Table::default();
    for ((name, path), added) in field.iter().zip(added) {
        table.row(name, &[added, echo(&actor, path), storm(&actor, path), among_the_living(&actor, path)]);
    }
    println!("start: added to that of the command; signal: from the command to PID 1 and back;");
    println!("orphan: each of {ORPHANS} at once; of 12,000: each death while so many children live");
}

/// Rows of numbers, each with its ratio to the first row's.
#[derive(Default)]
struct Table {
    first: Vec<f64>,
}

impl Table {
    fn row(&mut self, name: &str, numbers: &[f64]) {
        if self.first.is_empty() {
            self.first = numbers.to_vec();
        }
        print!("{name:<12}");
        for (number, first) in numbers.iter().zip(&self.first) {
            print!(" {number:>8.1} [{:>5.1}]", number / first);
        }
        println!();
    }
}

/// What each adds to the start and end of a command, in microseconds.
fn start(actor: &Path, field: &[(&'static str, PathBuf)], rounds: u32) -> Vec<f64> {
    let words = |init: Option<&PathBuf>| {
        let mut words = vec![actor.to_path_buf(), "pid1".into()];
        words.extend(init.into_iter().flat_map(|init| [init.clone(), "--".into()]));
        words.extend([actor.to_path_buf(), "leave".into(), "0".into()]);
        words
    };
    let bare = Contender::new("bare", words(None));
    let others = field.iter().map(|(name, path)| Contender::new(name, words(Some(path))));
    let field = race([bare].into_iter().chain(others).collect(), rounds);
    let micros = |contender: &Contender| contender.median().map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    let bare = micros(&field[0]);
    field[1..].iter().map(|contender| micros(contender) - bare).collect()
}

/// An init at PID 1 with a command of the actor's.
struct Init {
    child: Child,
    pid: u32,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Init {
    fn new(actor: &Path, path: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(actor);
        command.arg("pid1").arg(path).arg("--").arg(actor).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start it");
        let input = child.stdin.take().expect("its stdin");
        let output = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut pid = 0;
        eventually("it has forked", || {
            pid = children(child.id()).first().copied().unwrap_or(0);
            pid != 0
        });
        Self { child, pid, input, output }
    }

    /// Wait for a line that begins so; the rest of it.
    fn line(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("read its output") > 0 {
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("it ended without {prefix:?}");
    }

    /// Let a command that pauses go on.
    fn go(&mut self) {
        self.input.write_all(b"\n").expect("write to its stdin");
    }

    /// The microseconds that it has worked.
    fn worked(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        let nanos: f64 = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
        nanos / 1000.0
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // The actor's child dies with it, and the namespace with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Resident memory, its proportional share, and the pages that are the process's own, in kB.
fn idle(init: &Init) -> [f64; 3] {
    eventually("its command runs", || {
        let command = children(init.pid).first().copied();
        let name = command.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        name.is_some_and(|name| name.trim() == "actor")
    });
    // It has gone to sleep for good.
    std::thread::sleep(std::time::Duration::from_millis(200));
    ["Rss", "Pss", "Pss_Anon"].map(|field| {
        kilobytes(init.pid, "smaps_rollup", field).map_or(f64::NAN, |kilobytes| kilobytes as f64)
    })
}

/// A signal to PID 1 and back, in microseconds.
fn echo(actor: &Path, path: &Path) -> f64 {
    let mut init = Init::new(actor, path, &["echo", "5000"]);
    init.line("echo ").parse::<f64>().expect("a number") / 1000.0
}

/// The work for one of many orphans that die at once, in microseconds.
fn storm(actor: &Path, path: &Path) -> f64 {
    let count = ORPHANS.to_string();
    let mut init = Init::new(actor, path, &["pause", "orphans", &count, "sleep"]);
    init.line("paused");
    let before = init.worked();
    init.go();
    init.line("made");
    eventually("all are reaped", || children(init.pid).len() == 1);
    (init.worked() - before) / f64::from(ORPHANS)
}

/// The work for one death among many living children, in microseconds.
fn among_the_living(actor: &Path, path: &Path) -> f64 {
    let (living, deaths) = (LIVING.to_string(), DEATHS.to_string());
    let mut init = Init::new(actor, path, &["living", &living, "pause", "one-by-one", &deaths, "sleep"]);
    init.line("paused");
    let before = init.worked();
    init.go();
    init.line("died");
    eventually("all are reaped", || children(init.pid).len() == LIVING as usize + 1);
    (init.worked() - before) / f64::from(DEATHS)
}
