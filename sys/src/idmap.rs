//! User namespaces without root: which ids an ordinary user may map (`/etc/subuid`, `/etc/subgid`),
//! and the writing of the maps, through `newuidmap` and `newgidmap` where ranges are to be had and
//! directly where the user's own id is all there is. What to run inside is the callers' business.

#![allow(unsafe_code)] // one fork, before the process has a second thread, and prctl

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe2, read, write};

use crate::error::{Context, Error, Kind, Result};
use crate::process;
use crate::process::Status;
use crate::program::{self, Program};

/// One line of a map: `count` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first id inside the namespace.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The maps of a user namespace, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// The map of user ids.
    pub uids: Vec<Range>,
    /// The map of group ids.
    pub gids: Vec<Range>,
    /// Who writes them.
    pub writer: Writer,
}

/// Who writes the maps into `/proc/PID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This process, which is privileged above the namespace.
    Privileged,
    /// This process, for one id of its own: `setgroups` is denied to the namespace.
    OwnId,
    /// `newuidmap` and `newgidmap`, at these paths.
    Helpers(PathBuf, PathBuf),
}

/// What [`plan`] goes by: who asks, and what the host has granted.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The user's id.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The user's name, by which `/etc/subuid` may know them.
    pub name: Option<String>,
    /// The text of `/etc/subuid`.
    pub subuid: String,
    /// The text of `/etc/subgid`.
    pub subgid: String,
    /// `newuidmap` and `newgidmap`, when both are installed.
    pub helpers: Option<(PathBuf, PathBuf)>,
}

impl Grant {
    /// The grant of the user who runs this process.
    pub fn of_this_user() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let helpers = program::find_anyhow("newuidmap").zip(program::find_anyhow("newgidmap"));
        let name = name_of(uid, &text("/etc/passwd"));
        Self { uid, gid, name, subuid: text("/etc/subuid"), subgid: text("/etc/subgid"), helpers }
    }
}

/// The user becomes root inside; the ids from 1 on are the user's subordinate ranges, in the order
/// of the files. Without ranges, or without the helpers that may write them, it is the one id.
pub fn plan(grant: &Grant) -> Maps {
    let own = |outside| Range { inside: 0, outside, count: 1 };
    let name = grant.name.as_deref();
    let (uids, gids) = (
        ranges(&grant.subuid, name, grant.uid, own(grant.uid)),
        ranges(&grant.subgid, name, grant.uid, own(grant.gid)),
    );
    match &grant.helpers {
        Some((u, g)) if uids.len() > 1 && gids.len() > 1 => {
            Maps { uids, gids, writer: Writer::Helpers(u.clone(), g.clone()) }
        }
        _ => Maps { uids: vec![own(grant.uid)], gids: vec![own(grant.gid)], writer: Writer::OwnId },
    }
}

/// The ids that both files grant to a user: those that can be users and groups alike. First id and count each.
pub fn granted(subuid: &str, subgid: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let nobody = Range { inside: 0, outside: 0, count: 0 };
    let [uids, gids] = [subuid, subgid].map(|file| ranges(file, name, uid, nobody));
    let mut both = Vec::new();
    for a in uids.iter().skip(1) {
        for b in gids.iter().skip(1) {
            let first = a.outside.max(b.outside);
            let end = (a.outside + a.count).min(b.outside + b.count);
            if first < end {
                both.push((first, end - first));
            }
        }
    }
    both
}

/// The own id, then every range that the file grants to this user by name or by number. Lines that
/// are no range are passed over, as newuidmap does.
fn ranges(file: &str, name: Option<&str>, uid: u32, own: Range) -> Vec<Range> {
    let mut out = vec![own];
    let mut inside = 1u32;
    for line in file.lines() {
        let mut fields = line.trim().split(':');
        let (Some(who), Some(start), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if Some(who) != name && who.parse() != Ok(uid) {
            continue;
        }
        let (Ok(outside), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>()) else { continue };
        let (Some(next), Some(_)) = (inside.checked_add(count), outside.checked_add(count)) else { continue };
        if count > 0 {
            out.push(Range { inside, outside, count });
            inside = next;
        }
    }
    out
}

impl Maps {
    /// Is there more than one id inside? If not, every file belongs to the one id on disk.
    pub fn has_ranges(&self) -> bool {
        self.uids.iter().map(|r| u64::from(r.count)).sum::<u64>() > 1
            && self.gids.iter().map(|r| u64::from(r.count)).sum::<u64>() > 1
    }

    /// Write the maps of the user namespace that process `pid` has made. Call it from outside that
    /// namespace; only a map of the caller's own id can also be written from inside.
    pub fn write(&self, pid: Pid) -> Result<()> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        match &self.writer {
            Writer::Helpers(newuidmap, newgidmap) => {
                run_helper(newuidmap, pid, &self.uids)?;
                run_helper(newgidmap, pid, &self.gids)
            }
            writer => {
                if *writer == Writer::OwnId {
                    put(&proc.join("setgroups"), "deny")?;
                }
                put(&proc.join("uid_map"), &lines(&self.uids)).map_err(|e| match e.kind() {
                    // user_namespaces(7): since Linux 5.12 whoever maps id 0 needs CAP_SETFCAP.
                    Kind::Denied => e.wrap("map the user's own id (inside another container: it needs the capabilities SETUID, SETGID and SETFCAP there)"),
                    _ => e,
                })?;
                put(&proc.join("gid_map"), &lines(&self.gids))
            }
        }
    }

    /// Make a user namespace with these maps and move this process into it, as its root. To be
    /// called before the process has a second thread: the kernel refuses it after.
    pub fn enter(&self) -> Result<()> {
        let unshare_user = || {
            unshare(CloneFlags::CLONE_NEWUSER).context(|| "unshare(CLONE_NEWUSER)").map_err(|e| match e.errno() {
                Some(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => e
                    .wrap("make a user namespace (this host may restrict them: see user.max_user_namespaces, kernel.unprivileged_userns_clone, and AppArmor's kernel.apparmor_restrict_unprivileged_userns)"),
                Some(nix::errno::Errno::ENOSPC) => {
                    e.wrap("make a user namespace (their number is limited by user.max_user_namespaces)")
                }
                _ => e,
            })
        };
        let me = Pid::this();
        if !matches!(self.writer, Writer::Helpers(..)) {
            unshare_user()?;
            return self.write(me);
        }
        // The helpers have to run outside: a child stays there, and runs them once we are inside.
        let (entered, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        let (hear, answer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        // SAFETY: the process has one thread, as the caller promises and unshare checks below, so
        // the child may use every function; it leaves by _exit.
        match unsafe { fork() }.context(|| "fork()")? {
            ForkResult::Child => {
                drop((tell, hear));
                let code = self.serve(me, &entered, &answer);
                // SAFETY: ends this process, without running what the parent registered at exit.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                drop((entered, answer));
                let moved = unshare_user();
                if moved.is_ok() {
                    write(&tell, b"x").context(|| "write(pipe)")?;
                }
                drop(tell);
                let mut said = String::new();
                let read = io::Read::read_to_string(&mut fs::File::from(hear), &mut said);
                let status = waitpid(child, None).context(|| format!("waitpid({child})"))?;
                moved?;
                read.context(|| "read(pipe)")?;
                match status {
                    WaitStatus::Exited(_, 0) => Ok(()),
                    _ => Err(Error::new(Kind::Denied, said).wrap("map the ids of the user namespace")),
                }
            }
        }
    }

    /// Do something as root of a user namespace with these maps, in a child. What it changes in memory is
    /// lost; its error comes back as words.
    pub fn do_inside(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let (hear, answer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        let pid = match process::clone(0, None)? {
            process::Cloned::Child => {
                drop(hear);
                let done = self.enter().and_then(|()| work());
                if let Err(e) = &done {
                    let _ = write(&answer, e.to_string().as_bytes());
                }
                process::exit_now(i32::from(done.is_err()))
            }
            process::Cloned::Parent { pid, .. } => pid,
        };
        drop(answer);
        let mut said = String::new();
        let read = io::Read::read_to_string(&mut fs::File::from(hear), &mut said);
        match process::wait(pid)?.status {
            process::Status::Exited(0) => Ok(()),
            _ => {
                read.context(|| "read(pipe)")?;
                Err(Error::new(Kind::Denied, said).wrap("do it as root of the user namespace"))
            }
        }
    }

    /// The child's part of [`Maps::enter`].
    fn serve(&self, parent: Pid, entered: &OwnedFd, answer: &OwnedFd) -> i32 {
        let mut byte = [0u8];
        if !matches!(read(entered, &mut byte), Ok(1)) {
            return 1;
        }
        match self.write(parent) {
            Ok(()) => 0,
            Err(e) => {
                let _ = write(answer, e.to_string().as_bytes());
                1
            }
        }
    }
}

/// The map as the kernel reads it: `inside outside count`, one range a line.
fn lines(map: &[Range]) -> String {
    map.iter().fold(String::new(), |mut s, r| {
        let _ = writeln!(s, "{} {} {}", r.inside, r.outside, r.count);
        s
    })
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("write({path:?}, {text:?})"))
}

fn run_helper(helper: &Path, pid: Pid, map: &[Range]) -> Result<()> {
    let mut program = Program::new(helper);
    program.word(pid.to_string());
    map.iter().flat_map(|r| [r.inside, r.outside, r.count]).for_each(|n| program.word(n.to_string()));
    let (status, _, said) = program.hear()?;
    if status == Status::Exited(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim().replace('\n', "; ");
    Err(Error::new(Kind::Denied, said).wrap(format!("run {}", helper.display())))
}

/// Whether this process is in the user namespace that the machine started with, where all ids are. Where
/// /proc does not tell, it is taken to be.
pub fn is_initial_namespace() -> bool {
    crate::file::read(Path::new("/proc/self/uid_map")).map_or(true, |map| {
        map.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).eq([&b"0"[..], b"0", b"4294967295"])
    })
}

/// May this process have CAP_SYS_ADMIN? Root of a container usually may not.
pub fn may_have_sys_admin() -> bool {
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    // SAFETY: PR_CAPBSET_READ takes integers only, and changes nothing.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 1 }
}

/// The name that `/etc/passwd` gives this id.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(subuid: &str, subgid: &str, helpers: bool) -> Grant {
        Grant {
            uid: 1000,
            gid: 1001,
            name: Some("ann".into()),
            subuid: subuid.into(),
            subgid: subgid.into(),
            helpers: helpers.then(|| ("/usr/bin/newuidmap".into(), "/usr/bin/newgidmap".into())),
        }
    }

    #[test]
    fn the_user_is_root_inside_and_the_ranges_follow() {
        let maps = plan(&grant("bob:1:5\nann:100000:65536\n1000:300000:10\n", "ann:200000:65536\n", true));
        assert_eq!(lines(&maps.uids), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
        assert_eq!(lines(&maps.gids), "0 1001 1\n1 200000 65536\n");
        assert!(maps.has_ranges());
    }

    #[test]
    fn without_ranges_or_without_helpers_the_own_id_is_all_there_is() {
        for g in [
            grant("", "", true),
            grant("ann:100000:65536", "", true),
            grant("ann:100000:65536", "ann:100000:65536", false),
            grant("ann:100000:0", "ann:100000:65536", true),
        ] {
            let maps = plan(&g);
            assert_eq!((lines(&maps.uids), lines(&maps.gids)), ("0 1000 1\n".into(), "0 1001 1\n".into()));
            assert_eq!(maps.writer, Writer::OwnId);
            assert!(!maps.has_ranges());
        }
    }

    #[test]
    fn what_both_files_grant_can_be_users_and_groups() {
        let all = |subuid, subgid| granted(subuid, subgid, Some("ann"), 1000);
        assert_eq!(all("ann:100:50\n1000:300:5\n", "ann:120:200\nbob:1:9\n"), [(120, 30), (300, 5)]);
        assert_eq!(all("ann:100:50", "bob:100:50"), []);
    }

    #[test]
    fn a_line_that_is_no_range_is_passed_over() {
        for bad in [
            "ann:1",
            "ann:x:5",
            "ann:1:x",
            "ann:1:5:7",
            ":::",
            "ann:4294967295:2",
            "ann:-1:4",
            "# ann:1:1",
            "\0",
        ] {
            assert_eq!(plan(&grant(bad, bad, true)).uids.len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_found_by_its_id() {
        let passwd = "root:x:0:0::/:/bin/sh\nbroken\nann:x:1000:1001::/:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(name_of(7, passwd), None);
    }
}
