//! A program started again and again beside its peers, in interleaved rounds, so that a busy moment of the
//! machine hits all of them. Prints medians and ratios; asserts nothing.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{Scratch, sys};

/// One program in a race.
pub struct Contender {
    name: &'static str,
    /// Command lines, one after the other.
    steps: Vec<Vec<OsString>>,
    /// What takes away what is left, and is not measured.
    after: Option<Vec<OsString>>,
    env: Vec<(String, OsString)>,
    every: u32,
    namespace: Option<std::fs::File>,
    times: Vec<Duration>,
}

impl Contender {
    /// A command line under a name. `{id}` in a word becomes another name each time.
    pub fn new<S: Into<OsString>>(name: &'static str, words: impl IntoIterator<Item = S>) -> Self {
        let steps = vec![words.into_iter().map(Into::into).collect()];
        Self { name, steps, after: None, env: Vec::new(), every: 1, namespace: None, times: Vec::new() }
    }

    /// A further command line, of the same id.
    pub fn then<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.steps.push(words.into_iter().map(Into::into).collect());
        self
    }

    /// A command line that takes away what the others have left. Its time is not counted.
    pub fn and_after<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.after = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Set a variable for it.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// It is slow: run it in every nth round only.
    pub fn every(mut self, n: u32) -> Self {
        self.every = n;
        self
    }

    /// Run it in this mount namespace.
    pub fn in_mount_namespace(mut self, namespace: std::fs::File) -> Self {
        self.namespace = Some(namespace);
        self
    }

    fn next_id() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn command(&self, step: &[OsString], id: &str) -> Command {
        let mut words = step.iter().map(|w| match w.to_str() {
            Some(text) => text.replace("{id}", id).into(),
            None => w.clone(),
        });
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        sys::enter_mount_namespace(&mut command, self.namespace.as_ref().map(AsRawFd::as_raw_fd));
        command
    }

    /// Run it once, to its end. What a step leaves running has no part in its error stream.
    pub fn once(&self) -> Result<Duration, String> {
        let id = Self::next_id();
        let begin = Instant::now();
        for step in &self.steps {
            let mut command = self.command(step, &id);
            if self.steps.len() > 1 || self.after.is_some() {
                command.stderr(Stdio::null());
            }
            let child = command.spawn().map_err(|e| format!("start {}: {e}", self.name))?;
            let out = child.wait_with_output().map_err(|e| e.to_string())?;
            if !out.status.success() {
                self.tidy(&id);
                return Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim()));
            }
        }
        let took = begin.elapsed();
        self.tidy(&id);
        Ok(took)
    }

    fn tidy(&self, id: &str) {
        if let Some(after) = &self.after {
            let _ = self.command(after, id).stderr(Stdio::null()).status();
        }
    }

    /// So many at once: how long until all have come to their end.
    pub fn at_once(&self, many: usize) -> Result<Duration, String> {
        let ids: Vec<String> = (0..many).map(|_| Self::next_id()).collect();
        let begin = Instant::now();
        let start = |id: &String| self.command(&self.steps[0], id).stderr(Stdio::null()).spawn();
        let children: Vec<_> = ids.iter().map(start).collect();
        let mut well = true;
        for child in children {
            well &= child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success());
        }
        let took = begin.elapsed();
        ids.iter().for_each(|id| self.tidy(id));
        match well {
            true => Ok(took),
            false => Err("not all of them start".to_owned()),
        }
    }

    /// Start it and leave it running.
    pub fn start(&self) -> std::io::Result<Child> {
        self.command(&self.steps[0], &Self::next_id()).stderr(Stdio::null()).spawn()
    }

    /// The median of its times.
    pub fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

/// Run all of them, round after round. One that does not run here is left out, and said so.
pub fn race(contenders: Vec<Contender>, rounds: u32) -> Vec<Contender> {
    let mut field = Vec::new();
    for contender in contenders {
        match (0..3).try_for_each(|_| contender.once().map(|_| ())) {
            Ok(()) => field.push(contender),
            Err(why) => println!("left out: {}: {why}", contender.name),
        }
    }
    for round in 0..rounds {
        for contender in &mut field {
            if round % contender.every == 0 {
                match contender.once() {
                    Ok(took) => contender.times.push(took),
                    Err(why) => println!("{} ended badly: {why}", contender.name),
                }
            }
        }
    }
    field
}

/// Print what a race came to: the first of the field is what the others are compared with.
pub fn print(field: &[Contender]) {
    let base = field.first().and_then(Contender::median).unwrap_or(Duration::from_secs(1));
    println!("{:<14} {:>10} {:>10} {:>10} {:>7}", "", "median ms", "fastest ms", "x first", "runs");
    for contender in field {
        let (Some(median), Some(best)) = (contender.median(), contender.times.iter().min()) else { continue };
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        println!(
            "{:<14} {:>10.2} {:>10.2} {:>10.2} {:>7}",
            contender.name,
            ms(median),
            ms(*best),
            median.as_secs_f64() / base.as_secs_f64(),
            contender.times.len()
        );
    }
}

/// How many a second, over so long, with so many at once.
pub fn sustained(contender: &Contender, workers: usize, over: Duration) -> f64 {
    let done = AtomicU32::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while begin.elapsed() < over {
                    if contender.once().is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    f64::from(done.load(Ordering::Relaxed)) / begin.elapsed().as_secs_f64()
}

/// Wait for a child. Its status; the processor seconds that it and its children took; the megabytes that the
/// largest of them held at its peak.
pub fn wait_for_usage(child: Child) -> (std::process::ExitStatus, f64, f64) {
    use std::os::unix::process::ExitStatusExt;
    let (status, usage) = sys::wait_with_usage(child.id() as i32);
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let status = std::process::ExitStatus::from_raw(status);
    (status, seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss as f64 / 1024.0)
}

/// A process and all that descend from it, with the name of each.
pub fn family(pid: u32) -> Vec<(u32, String)> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut found = vec![(pid, name.trim().to_owned())];
    // Children are listed by the thread that made them.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children: String = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .collect::<Vec<_>>()
        .join(" ");
    for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
        found.extend(family(child));
    }
    found
}

/// A number of kilobytes from a file of /proc: `Pss` of smaps_rollup, `VmHWM` of status.
pub fn kilobytes(pid: u32, file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Say how long a fleet took to start, and what its runners and inits hold: the mean of their Pss.
pub fn tell_fleet(what: &str, begun: Instant, runners: impl Iterator<Item = u32>) {
    let took = begun.elapsed();
    let families: Vec<_> = runners.map(family).collect();
    let mean = |nth: usize| {
        let pss = families.iter().filter_map(|f| kilobytes(f.get(nth)?.0, "smaps_rollup", "Pss"));
        let pss: Vec<u64> = pss.collect();
        pss.iter().sum::<u64>() as f64 / pss.len().max(1) as f64
    };
    let all: usize = families.iter().map(Vec::len).sum();
    // Straight to the stream: what a passing test prints through the macros is never shown.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!(
            "{} containers of {what} run, {all} processes, begun in {:.1} s; mean Pss: runner {:.0} kB, \
             its first child {:.0} kB\n",
            families.len(),
            took.as_secs_f64(),
            mean(0),
            mean(1)
        )
        .as_bytes(),
    );
}

/// A bundle of docker's defaults with this command, in a folder of its own beside the `rootfs` that all share.
pub fn bundle_for(plain: &Scratch, name: &str, command: &[&str]) -> std::path::PathBuf {
    let dir = plain.mkdir(format!("{name}{}", command[0].replace('/', "-")));
    let mut config = crate::bundle::base(command);
    config["root"]["path"] = plain.join("rootfs").to_string_lossy().into();
    std::fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
    dir
}
