//! What came of a start as facts that can be compared: a name, a value, without that in which two starts of
//! one runtime differ already.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::drive::Outcome;

/// Facts by their names. What is before a dot is the subject; `mount./data: options` is about what
/// `mount./data` is.
pub(crate) type Facts = BTreeMap<String, String>;

/// How it ended, in words: a refusal has one code here and another there.
pub(crate) fn ending(outcome: &Outcome) -> String {
    let reported = outcome.stdout.trim_start().starts_with('{');
    match outcome.code {
        None => "does not end".to_owned(),
        Some(99) => panic!("the stage is broken: {}", outcome.stderr),
        Some(0) if reported => "ran".to_owned(),
        Some(0) => "ran, without a report".to_owned(),
        Some(1 | 125 | 126 | 127 | 255) if reported => "ran, then failed".to_owned(),
        Some(1 | 125 | 126 | 127 | 255) => "refused".to_owned(),
        Some(n) if reported => format!("ran, {n}"),
        Some(n) => format!("ended with {n}"),
    }
}

/// Everything that can be compared.
pub(crate) fn facts(outcome: &Outcome) -> Facts {
    let mut facts = Facts::new();
    if let Ok(Value::Object(report)) = serde_json::from_str(outcome.stdout.trim()) {
        for (name, value) in &report {
            take(outcome, name, value.as_str().unwrap_or_default(), &mut facts);
        }
    }
    hooks(outcome, &mut facts);
    verbs(outcome, &mut facts);
    let null = outcome.outer.lines().find_map(|l| l.strip_prefix("null ")).unwrap_or("-");
    facts.insert("host./dev/null".into(), null.to_owned());
    facts.insert("left".into(), outcome.left.join(", "));
    facts
}

/// Paths and ids under names that every runtime's start has.
fn plain(outcome: &Outcome, text: &str) -> String {
    text.replace(&*outcome.bundle.to_string_lossy(), "BUNDLE").replace(&outcome.id, "ID")
}

/// Digits become a word: `pipe:[123]`, a keyring's uid.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// A namespace: the runtime's, one made to be joined, or a new one.
fn namespace(outcome: &Outcome, link: &str) -> String {
    let kept = |line: &str| line.strip_prefix("kept ").is_some_and(|l| l == link);
    match () {
        () if !link.contains('[') => link.to_owned(),
        () if outcome.outer.lines().any(kept) => "joined".to_owned(),
        () if outcome.outer.lines().any(|line| line == link) => "the runtime's".to_owned(),
        () => "new".to_owned(),
    }
}

/// One line of the report.
fn take(outcome: &Outcome, name: &str, value: &str, facts: &mut Facts) {
    let value = plain(outcome, value);
    let name = plain(outcome, name);
    let subject = name.split('.').next().unwrap_or_default();
    let value = match subject {
        "ns" => namespace(outcome, &value),
        "pid" | "ppid" if !["0", "1"].contains(&&*value) => "another".to_owned(),
        "fd" if value.contains(":[") => without_numbers(&value),
        "keyring" => value.rsplit(';').next().unwrap_or_default().to_owned(),
        "limit" if counts(&name) => return,
        "groups" => supplementary(outcome, &value),
        _ if name == "self.mountinfo" => return mounts(outcome, &value, facts),
        _ if name == "self.cgroup" => return groups(outcome, &value, facts),
        _ if name == "self.uid_map" || name == "self.gid_map" => value
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join(", "),
        _ => value,
    };
    facts.insert(name, value);
}

/// The groups beside the own one: whether that is among them changes nothing.
fn supplementary(outcome: &Outcome, value: &str) -> String {
    let own = serde_json::from_str::<Value>(outcome.stdout.trim()).unwrap_or_default()["gid"].clone();
    let own = own.as_str().and_then(|ids| ids.split(' ').next()).unwrap_or_default().to_owned();
    let mut groups: Vec<&str> = value.split_whitespace().filter(|group| **group != own).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.join(" ")
}

/// Files of a group that count or command instead of limiting.
fn counts(name: &str) -> bool {
    let words = [
        "usage",
        "failcnt",
        "procs",
        "tasks",
        "event_control",
        "force_empty",
        "reset",
        "deny",
        "allow",
        "stat",
    ];
    let more = ["pressure", "threads", "freeze", "kill", "oom_control", "peak", "reclaim", "shown_ram"];
    words.iter().chain(&more).any(|word| name.contains(word))
}

/// /proc/self/mountinfo: for each mount point what is there and how. A second mount at the same point is `#2`.
fn mounts(outcome: &Outcome, table: &str, facts: &mut Facts) {
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(dash) = words.iter().position(|w| *w == "-") else { continue };
        let [_, _, _, root, at, options, optional @ ..] = &words[..dash] else { continue };
        let mut name = format!("mount.{at}");
        let mut n = 1;
        while facts.contains_key(&name) {
            n += 1;
            name = format!("mount.{at}#{n}");
        }
        let sorted = |list: &str| {
            let mut words: Vec<&str> = list.split(',').collect();
            words.sort_unstable();
            words.join(",")
        };
        let folder = outcome.bundle.file_name().expect("a name").to_string_lossy().into_owned();
        let root = match root.split_once(&folder) {
            Some((_, rest)) => format!("BUNDLE{rest}"),
            None => (*root).to_owned(),
        };
        if root.ends_with("/null") && !at.starts_with("/dev/") {
            // What hides a file is the null device, whichever /dev it is from and whatever its mount allows.
            facts.insert(name, "the null device".to_owned());
            continue;
        }
        let propagation: Vec<String> = optional.iter().map(|word| propagation(outcome, word)).collect();
        facts.insert(format!("{name}: root"), root);
        facts.insert(format!("{name}: options"), sorted(options));
        facts.insert(format!("{name}: propagation"), propagation.join(", "));
        facts.insert(format!("{name}: source"), words[dash + 2].to_owned());
        facts.insert(format!("{name}: super"), sorted(words.get(dash + 3).unwrap_or(&"")));
        facts.insert(name, words[dash + 1].to_owned());
    }
}

/// A peer group: one of the bundle's mounts is in it, or nobody knows it outside.
fn propagation(outcome: &Outcome, word: &str) -> String {
    let Some((kind, number)) = word.split_once(':') else { return word.to_owned() };
    let shared = format!("shared:{number}");
    let known = |line: &str| line.starts_with("mount ") && line.split(' ').any(|w| w == shared);
    match kind {
        _ if !outcome.outer.lines().any(known) => kind.to_owned(),
        "shared" => "shared with the host".to_owned(),
        _ => "slave of the host".to_owned(),
    }
}

/// /proc/self/cgroup: which group, as seen from the runtime's own.
fn groups(outcome: &Outcome, table: &str, facts: &mut Facts) {
    for line in table.lines() {
        let mut words = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (words.next(), words.next()) else { continue };
        let suffix = format!(":{controllers}:");
        let own = outcome.outer.lines().find_map(|l| l.split_once(&suffix)).map_or("", |(_, p)| p);
        let value = match path.strip_prefix(own) {
            Some("") => "the runtime's".to_owned(),
            Some(below) if own != "/" => format!("the runtime's{below}"),
            _ => path.to_owned(),
        };
        let name = if controllers.is_empty() { "v2" } else { controllers };
        // The limits of a group that others are in, too, are not the container's.
        if value.contains("ID") || facts.get("ns.cgroup").is_some_and(|ns| ns == "new") {
            facts.insert(format!("limit.{name}"), "its own".to_owned());
        }
        facts.insert(format!("cgroup.{name}"), value);
    }
}

/// What the hooks were given, and in what order they ran.
fn hooks(outcome: &Outcome, facts: &mut Facts) {
    let mut order: Vec<String> = Vec::new();
    for line in outcome.hooks.lines() {
        let Ok(Value::Object(report)) = serde_json::from_str(line) else { continue };
        let text = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = text("kind").to_owned();
        let n = order.iter().filter(|k| **k == kind).count() + 1;
        let prefix = if n == 1 { format!("hook.{kind}") } else { format!("hook.{kind}#{n}") };
        order.push(kind);
        facts.insert(prefix.clone(), "ran".to_owned());
        for (name, value) in &report {
            let value = plain(outcome, value.as_str().unwrap_or_default());
            let subject = name.split('.').next().unwrap_or_default();
            let value = match subject {
                "ns" => namespace(outcome, &value),
                "env" | "cwd" | "argc" | "uid" | "hostname" => value,
                "fd" => without_numbers(&value),
                "state" => {
                    state(outcome, &prefix, &value, facts);
                    continue;
                }
                _ => continue,
            };
            facts.insert(format!("{prefix}: {name}"), value);
        }
    }
    facts.insert("hooks".into(), order.join(" "));
}

/// What `create`, `start`, `delete` and `state` answered.
fn verbs(outcome: &Outcome, facts: &mut Facts) {
    // What was refused has no life; that it was is said by how it ended.
    let made = outcome.verbs.starts_with("create 0\n");
    for line in outcome.verbs.lines().skip(1).filter(|_| made) {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(code)) = (words.next(), words.next()) else { continue };
        let prefix = format!("verb: {name}");
        facts.insert("verb".into(), "any".into());
        facts.insert(prefix.clone(), if code == "0" { "done" } else { "refused" }.to_owned());
        let said = plain(outcome, words.next().unwrap_or_default());
        if code == "0" && !said.is_empty() {
            state(outcome, &prefix, &said, facts);
        }
    }
}

/// The state of a container as a hook reads it, and as `state` says it.
fn state(outcome: &Outcome, prefix: &str, text: &str, facts: &mut Facts) {
    let Ok(Value::Object(state)) = serde_json::from_str(text) else {
        facts.insert(format!("{prefix}: state"), text.to_owned());
        return;
    };
    for (name, value) in state {
        let value = match (&*name, value) {
            ("pid", Value::Number(n)) if n.as_u64().is_some_and(|n| n > 1) => "of the host".to_owned(),
            ("ociVersion", Value::String(_)) => "a version".to_owned(),
            ("created", Value::String(_)) => "a time".to_owned(),
            (_, Value::String(text)) => plain(outcome, &text),
            (_, other) => other.to_string(),
        };
        facts.insert(format!("{prefix}: state.{name}"), value);
    }
}
