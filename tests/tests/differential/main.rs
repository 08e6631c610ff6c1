//! Hundreds of config.json under the runner, runc and crun: a program in each container tells everything it
//! sees, and every difference between what it tells must be in a table, with the reason.
//!
//! ```text
//!     words.c, probe.c   the program in the container
//!     case               a variation: the base of `runc spec`, and what is changed in it
//!     cases/             the variations, a subject each
//!     drive              a variation under a runtime
//!     facts              what came of it, as names and values
//!     compare            the differences
//!     expected           those that are expected, and those that are not mended yet
//! ```
//!
//! `CORACLE_TEST_ALL=1` runs every variation and not every fourth. `CORACLE_CASES='mounts: *'` runs those alone
//! whose name is like that. `CORACLE_DIFFERENCES=FILE` writes all differences to a file, the expected ones too.

mod case;
mod cases;
mod compare;
mod drive;
mod expected;
mod facts;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use compare::{Difference, differences, like};
use coracle_tests::{Cmd, Privilege, need};
use drive::{Outcome, Programs, RUNTIMES, Way};
use expected::{Expected, table};

fn ready() -> bool {
    let peers = ["runc", "crun", "busybox", "cc"];
    need(Privilege::Root) && peers.iter().all(|peer| need(Privilege::Peer(peer)))
}

/// What was chosen of all variations.
fn selected() -> Vec<Case> {
    let all = cases::all();
    if let Ok(pattern) = std::env::var("CORACLE_CASES") {
        return all.into_iter().filter(|case| like(&pattern, &case.name)).collect();
    }
    let step = coracle_tests::rounds(4, 1);
    all.into_iter().step_by(step).collect()
}

/// Run variations side by side: their differences, and what was said, in the order of the variations.
fn run(cases: &[Case], way: Way) -> Vec<(Vec<Difference>, [Outcome; 3])> {
    let programs = Programs::new();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((n, case)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, cases.get(n)?)))
                {
                    let outcomes = RUNTIMES.map(|runtime| drive::run(case, runtime, way, &programs));
                    let differences = differences(case, &outcomes);
                    found.lock().expect("no worker panics").push((n, (differences, outcomes)));
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no worker panics");
    found.sort_by_key(|(n, _)| *n);
    found.into_iter().map(|(_, found)| found).collect()
}

/// Everything that was found, for whoever mends it.
fn write_report(found: &[(Vec<Difference>, [Outcome; 3])], table: &[Expected]) {
    let Some(path) = std::env::var_os("CORACLE_DIFFERENCES") else { return };
    let mut text = String::new();
    for (differences, outcomes) in found {
        for difference in differences {
            let entry = table.iter().find(|entry| difference.is(entry));
            let _ = writeln!(text, "{}\n    why    {}", difference.shown(), entry.map_or("?", |e| e.why));
        }
        if differences.iter().any(|d| d.field == "exit") {
            for (runtime, outcome) in RUNTIMES.iter().zip(outcomes) {
                let _ = writeln!(text, "    {runtime} said {:?}: {}", outcome.code, outcome.stderr.trim());
            }
        }
    }
    std::fs::write(path, text).expect("write the differences");
}

#[test]
fn a_container_sees_what_it_sees_under_runc_and_crun() {
    if !ready() {
        return;
    }
    let cases = selected();
    let found = run(&cases, Way::Run);
    let table = table();
    write_report(&found, &table);
    let mut used = vec![false; table.len()];
    let mut wrong = String::new();
    for difference in found.iter().flat_map(|(differences, _)| differences) {
        match table.iter().position(|entry| difference.is(entry)) {
            Some(n) => used[n] = true,
            None => {
                let _ = writeln!(wrong, "not expected: {}", difference.shown());
            }
        }
    }
    // An entry is judged when all variations ran that it speaks of.
    let every = cases::all();
    for (entry, _) in table.iter().zip(used).filter(|(entry, used)| entry.always && !used) {
        let meant = |case: &&Case| like(entry.case, &case.name);
        let whole = every.iter().filter(meant).count() == cases.iter().filter(meant).count();
        if whole {
            let _ =
                writeln!(wrong, "expected and not there: {:?}, {:?}: {}", entry.case, entry.field, entry.why);
        }
    }
    let version = |peer: &str| {
        Cmd::new(peer).arg("--version").ok().stdout.lines().next().unwrap_or_default().to_owned()
    };
    assert!(
        wrong.is_empty(),
        "The table is about runc 1.1.5 and crun 1.8.1; here are {} and {}.\n{wrong}",
        version("runc"),
        version("crun")
    );
}

#[test]
fn a_container_that_is_created_and_started_apart_sees_the_same() {
    if !ready() {
        return;
    }
    let cases: Vec<Case> = selected().into_iter().step_by(4).collect();
    let found = run(&cases, Way::Apart);
    let table = table();
    // What is expected of `run` is expected here, but need not be there.
    let all = found.iter().flat_map(|(differences, _)| differences);
    let wrong: Vec<String> = all
        .filter(|difference| !table.iter().any(|entry| difference.is(entry)))
        .map(Difference::shown)
        .collect();
    assert!(wrong.is_empty(), "not expected:\n{}", wrong.join("\n"));
}

#[test]
fn no_two_variations_have_one_name_and_every_entry_speaks_of_one() {
    let cases = cases::all();
    let mut names: Vec<&str> = cases.iter().map(|c| &*c.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
    for entry in table() {
        assert!(names.iter().any(|name| like(entry.case, name)), "{:?} is no variation", entry.case);
        assert!(!entry.why.is_empty(), "{:?}, {:?} has no reason", entry.case, entry.field);
    }
}
