//! docker's command lines, typed twice: to docker, and to a link named `docker` that leads to the runner. Both have to print
//! the same on standard output and to end with the same code; what they say of errors is their own.
//!
//! A script is lines of shell, each of them a step, in one shell: a variable lives on. Before it there are
//!
//! ```text
//!     docker   docker with a daemon of the script's own, or the runner with a store of its own
//!     group    what stands in a file of a container's group: group NAME CONTROLLER FILE
//!     soon     try a line again and again until it succeeds
//!     $B       a folder of this side's own; image.tar in it is the image `box`, which is imported
//! ```
//!
//! Ids, times and the folder are taken out of what was printed, and blanks between columns are one.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dockerd::Dockerd;
use crate::{Cmd, Privilege, Scratch, binaries, clients, need, peer};

/// A part of a step, and why it says something else under docker.
pub type Expected = (&'static str, &'static str);

const BEGIN: &str = r#"
soon() { n=0; until eval "$1" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 150 ] || return 1; sleep 0.1; done; }
group() { pid=$(docker inspect -f '{{.State.Pid}}' $1); at=$(sed -n "s/^[0-9]*:$2://p" /proc/$pid/cgroup); cat "/sys/fs/cgroup/$2$at/$3"; }
docker import -c 'CMD ["sh"]' -c 'ENV IMAGE=yes' -c 'LABEL made=here' "$B/image.tar" box >/dev/null || exit 99
"#;

const END: &str = r#"
docker ps -aq | while read -r id; do docker rm -f "$id"; done >/dev/null 2>&1
"#;

/// Is there all that a script needs?
#[track_caller]
pub fn ready() -> bool {
    need(Privilege::Root) && ["busybox", "docker", "dockerd"].iter().all(|name| need(Privilege::Peer(name)))
}

/// The script under both has to say the same, but for what is expected. How many lines were typed.
#[track_caller]
pub fn same(name: &str, script: &str, expected: &[Expected]) -> usize {
    let script = script.replace("\\\n", " ");
    let steps: Vec<&str> =
        script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            let daemon = Dockerd::start(&[]);
            let client = peer("docker").expect("asked for before");
            let client = format!("exec {} -H {} \"$@\"", client.display(), daemon.socket());
            play(name, &steps, |bin| {
                write_program(&bin.join("docker"), &format!("#!/bin/sh\n{client}\n"));
            })
        });
        let ours = play(name, &steps, |bin| {
            std::os::unix::fs::symlink(binaries::runner(), bin.join("docker")).expect("link docker");
        });
        (ours, theirs.join().expect("what it said is above"))
    });
    let mut told = String::new();
    let mut used = BTreeSet::new();
    for ((step, ours), theirs) in
        steps.iter().zip(&ours).zip(&theirs).filter(|((_, a), b)| a.plain != b.plain)
    {
        match expected.iter().position(|(part, _)| step.contains(part)) {
            Some(n) => _ = used.insert(n),
            None => {
                let _ = writeln!(told, "$ {step}\n--- runner\n{}--- docker\n{}", ours.raw, theirs.raw);
            }
        }
    }
    for (_, (part, why)) in expected.iter().enumerate().filter(|(n, _)| !used.contains(n)) {
        let _ = writeln!(told, "expected and not there: {part:?}: {why}");
    }
    assert!(told.is_empty(), "{name}:\n{told}");
    steps.len()
}

/// What a step said: without what is another at every run, and as it came, with its errors.
struct Said {
    plain: String,
    raw: String,
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("write a program");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[track_caller]
fn play(name: &str, steps: &[&str], docker: impl FnOnce(&Path)) -> Vec<Said> {
    let scratch = Scratch::new(name);
    clients::image(&scratch);
    docker(&scratch.mkdir("bin"));
    scratch.mkdir("said");
    let mut text = BEGIN.to_owned();
    for (n, step) in steps.iter().enumerate() {
        scratch.write(format!("step{n}"), step);
        let _ = writeln!(
            text,
            ". \"$B/step{n}\" >\"$B/said/{n}.out\" 2>\"$B/said/{n}.err\" </dev/null; echo $? >\"$B/said/{n}.code\""
        );
    }
    text += END;
    let path = std::env::var("PATH").unwrap_or_default();
    let shell = Cmd::new("sh").arg(scratch.write("script", text)).dir(scratch.path());
    let shell = shell.env("PATH", format!("{}:{path}", scratch.join("bin").display()));
    let shell = shell.env("B", scratch.path()).env("CORACLE_STORE", scratch.join("store"));
    let shell = shell.env_remove("DOCKER_HOST").env("CORACLE_ROOTFS_TOOL", binaries::rootfs_tool());
    let out = shell.limit(Duration::from_secs(600)).run();
    assert!(out.code() == 0, "{name}: the script\n{out}");
    let folder = scratch.path().to_string_lossy().into_owned();
    let said = |n: usize| {
        let file: fn(&Scratch, usize, &str) -> PathBuf = |s, n, what| s.join(format!("said/{n}.{what}"));
        let read = |what: &str| std::fs::read(file(&scratch, n, what)).unwrap_or_default();
        let text = |what: &str| String::from_utf8_lossy(&read(what)).into_owned();
        let (out, code) = (text("out"), text("code"));
        let plain = format!("{}-> {code}", plain(&out, &folder));
        Said { plain, raw: format!("{out}{}-> {code}", text("err")) }
    };
    (0..steps.len()).map(said).collect()
}

/// Without what is another at every run.
fn plain(text: &str, folder: &str) -> String {
    let mut out = String::new();
    for line in text.replace(folder, "DIR").lines() {
        let line = without_times(&clients::without_ids(line));
        let words: Vec<&str> = line.split_whitespace().collect();
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

/// `2026-01-02T03:04:05.678Z` is TIME, and so is what it is called since: `3 seconds`, `Less than a second`, `About a minute`.
fn without_times(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let b = word.as_bytes();
        let dated = b.len() >= 19 && b[4] == b'-' && b[7] == b'-' && b[10] == b'T' && b[13] == b':';
        if dated {
            *word = "TIME".to_owned();
        }
    }
    let mut line = words.join(" ").replace("Less than a second", "TIME").replace("About a minute", "TIME");
    for unit in ["seconds", "second", "minutes", "minute"] {
        while let Some(at) = line.find(&format!(" {unit}")) {
            let begin = line[..at].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |n| n + 1);
            if begin == at {
                break;
            }
            line.replace_range(begin..at + 1 + unit.len(), "TIME");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_from_run_to_run_is_taken_out() {
        for (line, is) in [
            ("0123456789ab  box   Up 3 seconds", "ID box Up TIME\n"),
            ("web Exited (3) Less than a second ago", "web Exited (3) TIME ago\n"),
            ("2026-11-28T23:20:58.507096690Z /tmp/x/a", "TIME DIR/a\n"),
            ("stay 7 and second", "stay 7 and second\n"),
        ] {
            assert_eq!(plain(line, "/tmp/x"), is);
        }
    }
}
