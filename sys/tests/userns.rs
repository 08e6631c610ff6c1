//! Entering a user namespace needs a process of one thread, which the test harness has not got: this
//! test has a main of its own, and runs itself once per case. Run as root it tries an ordinary
//! user's part, as the user with the first range in /etc/subuid or else as nobody's id.

use std::os::unix::process::CommandExt;
use std::process::Command;

use coracle_sys::idmap::{Grant, Writer, plan};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("ranges") => enter(true),
        Some("own-id") => enter(false),
        _ => {
            an_ordinary_user_becomes_root_of_their_own_namespace("own-id");
            an_ordinary_user_becomes_root_of_their_own_namespace("ranges");
        }
    }
}

/// The child's part: enter, and say what the maps are.
fn enter(ranges: bool) {
    let mut grant = Grant::of_this_user();
    if !ranges {
        grant.helpers = None;
    }
    let maps = plan(&grant);
    if ranges && !matches!(maps.writer, Writer::Helpers(..)) {
        println!("no ranges");
        return;
    }
    maps.enter().unwrap();
    let read = |file| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let (uids, gids) = (read("uid_map"), read("gid_map"));
    assert_eq!(uids.lines().count(), maps.uids.len());
    assert_eq!(gids.lines().count(), maps.gids.len());
    assert_eq!((nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()), (0, 0));
    let file = std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-userns-"));
    std::fs::write(&file, "").unwrap();
    let chowned = std::os::unix::fs::chown(&file, Some(5), Some(6));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(chowned.is_ok(), ranges, "{chowned:?}");
    println!("entered");
}

fn an_ordinary_user_becomes_root_of_their_own_namespace(case: &str) {
    // A path that the other user can execute.
    let exe = std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-userns-exe-"));
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let mut command = Command::new(&exe);
    command.arg(case);
    if nix::unistd::geteuid().is_root() {
        let id = subordinate_user().unwrap_or(65534);
        command.uid(id).gid(id);
    }
    let out = command.output();
    std::fs::remove_file(&exe).unwrap();
    let out = out.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let required = std::env::var_os("REQUIRE_ALL").is_some();
    if said.contains("no ranges") || wrong.contains("make a user namespace") {
        assert!(!required, "{case}: {said}{wrong}");
        println!("skipped: {case}: {said}{wrong}");
        return;
    }
    assert!(out.status.success() && said.contains("entered"), "{case}: {said}{wrong}");
    println!("{case}: ok");
}

/// The id of the first user to whom /etc/subuid gives a range.
fn subordinate_user() -> Option<u32> {
    let subuid = std::fs::read_to_string("/etc/subuid").ok()?;
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    subuid.lines().find_map(|line| {
        let who = line.split(':').next()?;
        passwd.lines().find_map(|p| {
            let mut fields = p.split(':');
            (fields.next()? == who).then(|| fields.nth(1)?.parse().ok())?
        })
    })
}
