//! Words of the command line that stand for numbers: times, limits, capabilities, signals.

use std::time::Duration;

use coracle_sys::quantity::millionths;
use coracle_sys::{Error, Result};

use crate::caps::NAMES;
use crate::spec::Rlimit;

/// `--cpus`: processors, in millionths, of so many that the host has. None where there is no limit.
pub(crate) fn cpus(text: &str, host: usize) -> Result<Option<u64>> {
    match millionths(text) {
        Some(0) => Ok(None),
        Some(n) if n >= 10_000 && n / 1_000_000 < 1_000_000 => {
            let has = (host as u64).saturating_mul(1_000_000);
            if n <= has { Ok(Some(n)) } else { Err(too_many(text, host)) }
        }
        _ => Err(Error::usage(format!(
            "--cpus {text:?}: it is a number of processors, such as 1.5, at least 0.01"
        ))),
    }
}

/// Docker's words.
fn too_many(text: &str, host: usize) -> Error {
    let are = if host == 1 { "is only 1 CPU" } else { &format!("are only {host} CPUs") };
    Error::usage(format!("--cpus {text}: range of CPUs is from 0.01 to {host}.00, as there {are} available"))
}

/// `--timeout`: seconds, or with a unit.
pub(crate) fn duration(text: &str, flag: &str) -> Result<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[number.len()..] {
        "ms" => Some((1, 1000)),
        "" | "s" => Some((1, 1)),
        "m" | "min" => Some((60, 1)),
        "h" => Some((3600, 1)),
        _ => None,
    };
    let micros = scale.and_then(|(times, by)| Some(millionths(number)?.checked_mul(times)? / by));
    // Beyond thirty years nobody is there to see that it was kept.
    micros.filter(|n| (1..1_000_000_000_000_000).contains(n)).map(Duration::from_micros).ok_or_else(|| {
        Error::usage(format!("{flag} {text:?}: it is a time above 0, such as 30, 1.5s, 10m or 2h"))
    })
}

/// `1h30m`, as nanoseconds.
pub(crate) fn ago(text: &str, flag: &str) -> Result<u64> {
    let mut sum = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| Error::usage("no unit"))?;
        let unit = rest[number..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |n| number + n);
        let part = duration(&rest[..unit], flag)?;
        sum = sum.saturating_add(u64::try_from(part.as_nanos()).unwrap_or(u64::MAX));
        rest = &rest[unit..];
    }
    Ok(sum)
}

/// `nofile=1024:2048`, `core=0`, `memlock=unlimited`.
pub(crate) fn ulimit(text: &str) -> Result<Rlimit> {
    let wrong = |why: &str| Error::usage(format!("--ulimit {text:?}: {why}"));
    let (name, limits) = text.split_once('=').ok_or_else(|| wrong("it is NAME=SOFT[:HARD]"))?;
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let name = name.to_ascii_lowercase();
    if !NAMES.contains(&&*name) {
        return Err(wrong("no such limit"));
    }
    let number = |word: &str| match word {
        "unlimited" | "-1" => Ok(u64::MAX),
        word => word.parse().map_err(|_| wrong("a limit is a number or `unlimited`")),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if soft > hard {
        return Err(wrong("the soft limit is above the hard one"));
    }
    Ok(Rlimit { kind: format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard })
}

/// The capabilities that docker grants unasked.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What a container may do, as docker reckons it: `--cap-add ALL --cap-drop X` is all but X,
/// `--cap-drop ALL --cap-add X` is X alone. The second list are those asked for by name or by NAMES.
/// What is not asked for by name is given as far as the runner has it, by the mask `ours`: inside
/// another container, or in some virtual machines, that is not everything.
pub(crate) fn capabilities(
    add: &[String],
    drop: &[String],
    privileged: bool,
    ours: u64,
) -> Result<(Vec<String>, Vec<String>)> {
    let read = |words: &[String], flag: &str| -> Result<(bool, Vec<String>)> {
        let mut names = Vec::new();
        for word in words.iter().flat_map(|w| w.split(',')) {
            let upper = word.to_ascii_uppercase();
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if name != "CAP_ALL" && !NAMES.contains(&&*name) {
                return Err(Error::usage(format!("{flag}: no capability is called {word:?}")));
            }
            names.push(name);
        }
        let all = names.iter().any(|n| n == "CAP_ALL");
        Ok((all, names))
    };
    let (add_all, add) = read(add, "--cap-add")?;
    let (drop_all, drop) = read(drop, "--cap-drop")?;
    let base: &[&str] = match (add_all || privileged, drop_all) {
        (true, _) => &NAMES,
        (false, true) => &[],
        (false, false) => &DEFAULT,
    };
    let dropped = |name: &&str| !drop.iter().any(|d| d == name);
    let is_ours = |name: &&str| NAMES.iter().position(|n| n == name).is_some_and(|bit| ours >> bit & 1 == 1);
    let has =
        |name: &&str| base.contains(name) && dropped(name) && is_ours(name) || add.iter().any(|a| a == name);
    let asked = |name: &&str| has(name) && (add_all || add.iter().any(|a| a == name));
    let list =
        |keep: &dyn Fn(&&str) -> bool| NAMES.iter().copied().filter(|n| keep(n)).map(str::to_owned).collect();
    Ok((list(&has), list(&asked)))
}

/// A signal by name or number: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(crate) fn signal(text: &str) -> Result<i32> {
    let wrong = || Error::usage(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The C library keeps 32 and 33 for itself: the first that is free is 34.
    let relative = |base: i32, sign: i32, rest: &str| match rest.get(1..).unwrap_or("0").parse::<i32>() {
        Ok(n) if (0..=30).contains(&n) => Ok(base + sign * n),
        _ => Err(wrong()),
    };
    if let Some(rest) = name.strip_prefix("RTMIN").filter(|r| r.is_empty() || r.starts_with('+')) {
        return relative(34, 1, rest);
    }
    if let Some(rest) = name.strip_prefix("RTMAX").filter(|r| r.is_empty() || r.starts_with('-')) {
        return relative(64, -1, rest);
    }
    let known = nix::sys::signal::Signal::iterator().find(|s| s.as_str() == format!("SIG{name}"));
    known.map(|s| s as i32).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_dropped_is_gone_unless_it_is_added_by_name() {
        let of = |add: &[&str], drop: &[&str]| {
            let own = |w: &[&str]| w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            capabilities(&own(add), &own(drop), false, u64::MAX)
                .map(|(all, asked)| (all.len(), asked.join(",")))
        };
        assert_eq!(of(&[], &[]).unwrap(), (14, String::new()));
        assert_eq!(of(&["net_admin"], &["ALL"]).unwrap(), (1, "CAP_NET_ADMIN".into()));
        assert_eq!(of(&["all"], &["CAP_NET_RAW"]).unwrap().0, 40);
        assert_eq!(of(&[], &["chown,KILL"]).unwrap().0, 12);
        assert!(of(&["NET_ADMINN"], &[]).is_err());
        let (all, _) = capabilities(&["SYS_ADMIN".to_owned()], &[], true, 1).unwrap();
        assert_eq!(all, ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn limits_and_signals_are_read_by_name() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.kind.as_str(), limit.soft, limit.hard), ("RLIMIT_NOFILE", 10, 20));
        assert_eq!(ulimit("core=unlimited").unwrap().hard, u64::MAX);
        for text in ["nofile", "nofil=1", "nofile=2:1", "nofile=x", "nofile=1:"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        for (text, number) in
            [("TERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("rtmin", 34)]
        {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "FOO", "RTMIN+99", "RTMIN3", "-9"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
