//! A client's commands under one OCI runtime after another: what they print is compared line by line.
//!
//! A script is lines of shell, each of them a step. It runs on a stage: namespaces of its own, so that nothing
//! which a client or a runtime starts, mounts or forgets reaches the host, or outlives the script. What a
//! runtime may spoil there is a copy. Only groups are the host's, all beneath one that bears the script's name.
//!
//! ```text
//!     $B       the folder of this runtime's own: storage, state, logs, image.tar
//!     $R       the runtime
//!     $T       our rootfs-tool
//!     $G       the group that a client's containers are to be in
//!     pty      run a program on a terminal, print what it shows
//!     soon     try a line for so long until it succeeds
//! ```
//!
//! A step that begins with `+ ` is one for `CORACLE_TEST_ALL=1`. `CORACLE_TRANSCRIPTS=DIR` keeps what was said, a
//! file for every script and runtime.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Cmd, Privilege, Scratch, binaries, need, peer, rootfs};

/// A difference that is expected: the peers, a part of the step, and why it is right.
pub type Expected = (&'static [&'static str], &'static str, &'static str);

/// What a client needs before its first step, and after its last.
pub struct Client {
    /// Its programs.
    pub needs: &'static [&'static str],
    /// Lines of shell before: functions that the steps call, a daemon.
    pub begin: &'static str,
    /// Lines of shell after.
    pub end: &'static str,
}

/// What a step said: as it came, and without what is another at every run.
struct Said {
    plain: String,
    raw: String,
}

/// What a script showed under all runtimes: the differences that are not expected, and who of the expected ones
/// were there.
struct Round {
    found: Vec<Difference>,
    used: BTreeSet<(usize, &'static str)>,
}

/// A step that says something else under a peer than under ours.
struct Difference {
    from: &'static str,
    step: String,
    /// Ours was heard to complain.
    complaint: bool,
    shown: String,
}

/// The peers that ours is held against.
const PEERS: [&str; 2] = ["runc", "crun"];

const STAGE: &str = include_str!("stage.sh");

impl Client {
    /// Is there all that a script of this client needs?
    #[track_caller]
    pub fn ready(&self) -> bool {
        let usual = ["busybox", "runc", "crun", "script"];
        need(Privilege::Root) && usual.iter().chain(self.needs).all(|name| need(Privilege::Peer(name)))
    }

    /// The same script under every runtime has to say the same, but for what is expected.
    #[track_caller]
    pub fn same(&self, name: &str, script: &str, expected: &[Expected]) {
        let script = script.replace("\\\n", " ");
        let all = crate::test_all();
        let steps = script.lines().map(str::trim).filter(|line| !line.is_empty());
        let steps =
            steps.filter_map(|line| line.strip_prefix("+ ").map_or(Some(line), |line| all.then_some(line)));
        let steps: Vec<&str> = steps.collect();
        let first = self.round(name, &steps, expected);
        let mut used = first.used;
        let mut wrong = first.found;
        // A client may lose what a command wrote, whatever the runtime: what counts is said again, or is the
        // runner's complaint.
        if !wrong.is_empty() && !wrong.iter().any(|d| d.complaint) {
            let second = self.round(name, &steps, expected);
            used.extend(second.used);
            let again = |d: &Difference| second.found.iter().any(|s| (s.from, &s.step) == (d.from, &d.step));
            let (kept, gone): (Vec<_>, Vec<_>) = wrong.into_iter().partition(again);
            gone.iter().for_each(|d| eprintln!("{name}: seen once, and not again:\n{}", d.shown));
            wrong = kept;
            wrong.extend(second.found.into_iter().filter(|d| d.complaint));
        }
        let mut told: String = wrong.iter().map(|d| d.shown.as_str()).collect();
        for (n, (peers, part, why)) in expected.iter().enumerate() {
            for from in peers.iter().filter(|from| !used.contains(&(n, **from))) {
                let _ = writeln!(told, "expected of {from} and not there: {part:?}: {why}");
            }
        }
        assert!(told.is_empty(), "{name}:\n{told}");
    }

    /// The script under all runtimes, once.
    #[track_caller]
    fn round(&self, name: &str, steps: &[&str], expected: &[Expected]) -> Round {
        let peers = PEERS.map(|name| peer(name).expect("asked for before"));
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = peers.each_ref().map(|peer| scope.spawn(|| self.play(name, peer, steps)));
            let ours = self.play(name, &binaries::runner(), steps);
            (ours, theirs.map(|play| play.join().expect("what it said is above")))
        });
        let mut round = Round { found: Vec::new(), used: BTreeSet::new() };
        for (from, theirs) in PEERS.into_iter().zip(&theirs) {
            let pairs = steps.iter().chain(&["(what is left)"]).zip(ours.iter().zip(theirs));
            for (step, (ours, theirs)) in pairs.filter(|(_, (ours, theirs))| ours.plain != theirs.plain) {
                let speaks = |(peers, part, _): &Expected| peers.contains(&from) && step.contains(part);
                match expected.iter().position(speaks) {
                    Some(n) => _ = round.used.insert((n, from)),
                    None => round.found.push(Difference {
                        from,
                        step: (*step).to_owned(),
                        complaint: ["RUNTIME", "OCI runtime"].iter().any(|word| ours.plain.contains(word)),
                        shown: format!("$ {step}\n--- runner\n{}--- {from}\n{}\n", ours.raw, theirs.raw),
                    }),
                }
            }
        }
        round
    }

    /// What each step said under one runtime: its output, what it complained of, its exit code. One more
    /// says what is left at the end.
    #[track_caller]
    fn play(&self, name: &str, runtime: &Path, steps: &[&str]) -> Vec<Said> {
        let scratch = Scratch::new(name);
        // Whom others start it as may read neither the workspace nor what is above it.
        let runtime_name = runtime.file_name().expect("a program").to_string_lossy().into_owned();
        let copy = scratch.join(&runtime_name);
        fs::copy(runtime, &copy).expect("copy the runtime");
        image(&scratch);
        let token = scratch.path().file_name().expect("a name").to_string_lossy().into_owned();
        scratch.write("begin", self.begin);
        scratch.write("end", self.end);
        scratch.write("steps", steps.join("\n") + "\n");
        let stage = "-m -p -n -u -i --propagation private --fork --kill-child --mount-proc bash -c";
        let stage = Cmd::new("unshare").words(stage).arg(STAGE).arg(scratch.path()).arg(&copy).arg(&token);
        let stage = stage.env("T", binaries::rootfs_tool());
        let out = stage.limit(Duration::from_secs(300)).run();
        let left = groups(&token);
        assert!(out.code() == 0, "{name} under {runtime_name}: the stage\n{out}");
        let said = |n: usize| {
            let read =
                |what: &str| fs::read_to_string(scratch.join(format!("said/{n}.{what}"))).unwrap_or_default();
            let text = format!("{}{}-> {}\n", read("out"), read("err"), read("code").trim());
            let text = text.replace('\r', "");
            let plain = plain(&text, &scratch.path().to_string_lossy(), &runtime_name).replace(&token, "G");
            Said { plain, raw: text }
        };
        let mut said: Vec<Said> = (1..=steps.len()).map(said).collect();
        said.push(Said { plain: left.clone(), raw: left });
        if let Some(dir) = std::env::var_os("CORACLE_TRANSCRIPTS") {
            let text: String = steps
                .iter()
                .chain(&["(what is left)"])
                .zip(&said)
                .map(|(step, said)| format!("$ {step}\n{}", said.plain))
                .collect();
            fs::write(PathBuf::from(dir).join(format!("{name}.{runtime_name}")), text + &out.stderr)
                .expect("write the transcript");
        }
        said
    }
}

/// The root filesystem of every container, as an archive that clients import, and as a folder.
pub(crate) fn image(scratch: &Scratch) {
    let root = scratch.mkdir("rootfs");
    rootfs::busybox(&root).expect("asked for before");
    for tool in ["tty", "stty", "nproc", "df"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).expect("link a tool");
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
    scratch.write("rootfs/etc/passwd", users);
    scratch.write("rootfs/etc/group", "root:x:0:\nuser:x:1000:\nextra:x:1001:user\n");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    Cmd::new("tar").arg("-C").arg(&root).arg("-cf").arg(scratch.join("image.tar")).arg(".").ok();
}

/// Without what is another at every run: ids, folders, and the runtime's own words about an error, of which
/// the client's are left.
fn plain(text: &str, dir: &str, name: &str) -> String {
    let text = text.replace(&format!("{dir}/{name}"), "RUNTIME").replace(dir, "DIR");
    let mut out = String::new();
    for line in text.lines() {
        let dated = line.strip_prefix("time=\"").and_then(|rest| rest.split_once("\" "));
        let line = dated.map_or(line, |(_, rest)| rest);
        let said = [": RUNTIME: ".to_owned(), format!(": {name}: ")];
        let line = match said.iter().find_map(|by| line.split_once(by)) {
            Some((before, after)) => {
                let client = after.rfind(": OCI ").map_or("", |at| &after[at..]);
                format!("{before}: RUNTIME{client}")
            }
            None => match line.split_once(" failed: ") {
                Some((before, _)) if before.contains("OCI runtime ") => format!("{before} failed"),
                _ => line.to_owned(),
            },
        };
        out.push_str(&without_ids(&line));
        out.push('\n');
    }
    out
}

/// Every run of 12 or 64 hexadecimal digits is an id.
pub(crate) fn without_ids(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let other = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        out.push_str(if [12, 64].contains(&digits.len()) { "ID" } else { digits });
        out.push_str(&after[..other]);
        rest = &after[other..];
    }
    out
}

/// The groups whose path holds the token, and away with them.
fn groups(token: &str) -> String {
    fn look(dir: &Path, token: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if depth < 6 && entry.file_type().is_ok_and(|t| t.is_dir()) {
                look(&entry.path(), token, depth + 1, found);
                if entry.path().to_string_lossy().contains(token) {
                    found.push(entry.path());
                }
            }
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), token, 0, &mut found);
    for dir in &found {
        crate::eventually("a group that is left is empty", || fs::remove_dir(dir).is_ok() || !dir.exists());
    }
    // A client may leave the one that was asked for, and what it made itself.
    let names = found.iter().map(|dir| without_ids(&dir.display().to_string().replace(token, "G")));
    names
        .filter(|name| !name.ends_with("/G"))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|n| n + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_from_run_to_run_is_taken_out() {
        let said = |line: &str, name: &str| plain(line, "/tmp/x", name);
        let runc = "Error: runc: runc create failed: exec: \"no\": OCI permission denied";
        assert_eq!(said(runc, "runc"), "Error: RUNTIME: OCI permission denied\n");
        assert_eq!(said("Error: /tmp/x/runner: runner: exec: no", "runner"), "Error: RUNTIME\n");
        assert_eq!(
            said("abc 0123456789ab 000001fffeffffff /tmp/x/a", "crun"),
            "abc ID 000001fffeffffff DIR/a\n"
        );
    }
}
