//! The container's process: who it is, its limits, its command. The plan is made here, and so are the
//! steps from a process with the runner's rights to one with the container's; their order is security
//! and is kept by [`crate::launch`].

mod limits;
mod sched;
mod sys;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use coracle_sys::idmap::is_initial_namespace;
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, chdir, getcwd, geteuid, setgroups, setresgid, setresuid};
use serde::Serialize;

use crate::{caps, host, lsm, spec};
use limits::Limit;

/// What runs the command inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Our init is PID 1, with these options; the command is its child.
    Pid1(Vec<String>),
    /// Our init executes the command and is gone.
    ExecOnly,
}

/// The process, fully decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// argv of the command.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// Working directory, inside.
    pub cwd: PathBuf,
    /// User id, inside.
    pub uid: u32,
    /// Group id, inside.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capability sets.
    pub capabilities: caps::Sets,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Whether execve may grant no new privileges.
    pub no_new_privileges: bool,
    /// /proc/self/oom_score_adj, when it is to change.
    pub oom_score_adj: Option<i32>,
    /// What security modules confine it to.
    pub lsm: lsm::Plan,
    /// How the kernel runs it.
    #[serde(skip)]
    pub sched: sched::Plan,
    /// A terminal of its own, and its size in rows and columns.
    pub terminal: Option<(u16, u16)>,
    /// What runs the command.
    pub init: Init,
}

/// Decide the process. Warnings are what was asked for and means nothing here.
pub fn plan(process: &spec::Process, init: Init, warnings: &mut Vec<String>) -> Result<Plan> {
    if process.args.is_empty() {
        return Err(Error::invalid("process.args is empty"));
    }
    if !process.cwd.is_absolute() {
        return Err(Error::invalid(format!("process.cwd {:?} is not absolute", process.cwd)));
    }
    let words = process.args.iter().map(|a| ("args", a)).chain(process.env.iter().map(|e| ("env", e)));
    for (field, word) in words {
        if word.contains('\0') {
            return Err(Error::invalid(format!("process.{field} {word:?} holds a NUL byte")));
        }
    }
    if let Some(wrong) = process.env.iter().find(|text| !matches!(text.find('='), Some(1..))) {
        return Err(Error::invalid(format!("process.env {wrong:?}: it is no NAME=value")));
    }
    if let Some(adj) = process.oom_score_adj
        && !(-1000..=1000).contains(&adj)
    {
        return Err(Error::invalid(format!("process.oomScoreAdj {adj} is not between -1000 and 1000")));
    }
    let mut unknown = Vec::new();
    let capabilities = caps::plan(process.capabilities.as_ref(), &mut unknown);
    warnings.extend(unknown.iter().map(|name| format!("the capability {name:?} is unknown and not granted")));
    if let Some(name) = capabilities.beyond_permitted() {
        return Err(Error::invalid(format!(
            "process.capabilities: {name} is to be effective, and is not among the permitted ones"
        )));
    }
    let user = &process.user;
    // setresuid(2) takes it for "as it is", which is the runner's own.
    if [user.uid, user.gid].contains(&u32::MAX) || user.additional_gids.contains(&u32::MAX) {
        return Err(Error::invalid("process.user: 4294967295 is no id"));
    }
    Ok(Plan {
        args: process.args.clone(),
        env: once(&process.env),
        cwd: process.cwd.clone(),
        uid: user.uid,
        gid: user.gid,
        groups: user.additional_gids.clone(),
        umask: user.umask.unwrap_or(0o022) & 0o777,
        capabilities,
        limits: limits::plan(&process.rlimits)?,
        no_new_privileges: process.no_new_privileges,
        oom_score_adj: process.oom_score_adj,
        lsm: lsm::plan(
            process.apparmor_profile.as_deref(),
            process.selinux_label.as_deref(),
            host::security_modules,
        )?,
        sched: sched::plan(process)?,
        terminal: process.terminal.then(|| {
            let size = process.console_size.unwrap_or_default();
            (size.height, size.width)
        }),
        init,
    })
}

impl Plan {
    /// With what `linux` says of the process: a memory policy, an execution domain.
    pub fn in_linux(mut self, linux: &spec::Linux) -> Result<Self> {
        self.sched.add(linux)?;
        Ok(self)
    }

    /// Set a process's badness score for when memory ends: its pid, or `self`. An ordinary user's container does
    /// without where that is denied, as a score below the present one is.
    pub fn set_score(&self, pid: &str) -> Result<Option<String>> {
        let Some(adj) = self.oom_score_adj else { return Ok(None) };
        let path = format!("/proc/{pid}/oom_score_adj");
        let write = |mut f: File| f.write_all(adj.to_string().as_bytes());
        let written = File::options().write(true).open(&path).and_then(write);
        let written = written.context(|| format!("write({path:?}, \"{adj}\")"));
        match written.context(|| "set process.oomScoreAdj") {
            Err(e) if e.kind() == Kind::Denied => match is_initial_namespace() && geteuid().is_root() {
                true => Err(e.wrap("lower the score (it needs CAP_SYS_RESOURCE)")),
                false => Ok(Some(format!("the process keeps its score: {e}"))),
            },
            other => other.map(|()| None),
        }
    }

    /// Set its resource limits. They are the command's: what the runner has to open or write before it
    /// comes first. While they may still be raised.
    pub fn set_limits(&self) -> Result<()> {
        limits::set(&self.limits)
    }

    /// Let the user open its own streams again, as `/dev/stderr`: its terminal, and pipes, which are
    /// nobody else's. A file that the caller redirected to stays the caller's.
    pub fn own_streams(&self) {
        use std::os::fd::AsFd;
        if self.uid == 0 {
            return;
        }
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            let kind = nix::sys::stat::fstat(stream).map_or(0, |s| s.st_mode & libc::S_IFMT);
            if kind == libc::S_IFIFO || kind == libc::S_IFCHR && self.terminal.is_some() {
                // A convenience: in a user namespace that does not know the owner it cannot be had.
                let _ = nix::unistd::fchown(stream, Some(Uid::from_raw(self.uid)), None);
            }
        }
    }

    /// Become the user. Capabilities stay permitted until they are set, which comes next.
    pub fn become_user(&self) -> Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        match setgroups(&groups) {
            Ok(()) => {}
            // A user namespace with one id denies setgroups; there is no group to take then.
            Err(Errno::EPERM) if self.groups.iter().all(|gid| *gid == self.gid) => {}
            Err(e) => {
                return Err(e)
                    .context(|| format!("setgroups({:?})", self.groups))
                    .context(|| "take process.user.additionalGids");
            }
        }
        let gid = Gid::from_raw(self.gid);
        setresgid(gid, gid, gid)
            .context(|| format!("setresgid({gid}, {gid}, {gid})"))
            .map_err(|e| unmapped(e, "group", self.gid))?;
        let uid = Uid::from_raw(self.uid);
        if self.uid != 0 {
            nix::sys::prctl::set_keepcaps(true).context(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
        }
        setresuid(uid, uid, uid)
            .context(|| format!("setresuid({uid}, {uid}, {uid})"))
            .map_err(|e| unmapped(e, "user", self.uid))
    }

    /// Go to the working directory, and make sure that it lies in the container: a descriptor that
    /// leaked from the host would lead elsewhere.
    pub fn enter_cwd(&self) -> Result<()> {
        chdir(&self.cwd).context(|| format!("chdir({:?})", self.cwd)).context(|| "enter process.cwd")?;
        match getcwd() {
            Ok(path) if path.is_absolute() => Ok(()),
            Ok(_) | Err(Errno::ENOENT) => Err(Error::new(
                Kind::Denied,
                format!("process.cwd {:?} lies outside the container", self.cwd),
            )),
            Err(e) => Err(e).context(|| "getcwd()"),
        }
    }

    /// argv of our init, which executes the command. A failure goes to the descriptor `error_fd`, where there is one.
    pub fn init_argv(&self, error_fd: Option<i32>) -> Result<Vec<CString>> {
        let mut argv = vec!["init".to_string()];
        match &self.init {
            Init::Pid1(options) => argv.extend(options.iter().cloned()),
            Init::ExecOnly => argv.push("--exec".into()),
        }
        if let Some(fd) = error_fd {
            argv.extend(["--error-fd".into(), fd.to_string()]);
        }
        argv.push("--".into());
        argv.extend(self.args.iter().cloned());
        c_strings(&argv)
    }

    /// The environment, ready for execve. HOME is the user's own where nothing else was said, and
    /// LISTEN_PID this process, to which the descriptors of LISTEN_FDS are passed.
    pub fn c_env(&self) -> Result<Vec<CString>> {
        let mut env = c_strings(&self.env)?;
        if !self.env.iter().any(|e| e.starts_with("HOME=")) {
            let home = CString::new([b"HOME=", &home_of(self.uid)[..]].concat());
            env.extend(home);
        }
        let has = |name| self.env.iter().any(|e| e.starts_with(name));
        if has("LISTEN_FDS=") && !has("LISTEN_PID=") {
            env.extend(CString::new(format!("LISTEN_PID={}", nix::unistd::getpid())));
        }
        Ok(env)
    }
}

/// Of a variable that is there twice the last value, in the first place.
fn once(env: &[String]) -> Vec<String> {
    let name = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
    let mut last = BTreeMap::new();
    last.extend(env.iter().map(|text| (name(text), text.clone())));
    env.iter().filter_map(|text| last.remove(&name(text))).collect()
}

fn unmapped(e: Error, what: &str, id: u32) -> Error {
    match e.errno() {
        Some(Errno::EINVAL) => {
            e.wrap(format!("become the {what} {id}, which the user namespace does not map"))
        }
        _ => e.wrap(format!("become the {what} {id}")),
    }
}

fn c_strings(list: &[String]) -> Result<Vec<CString>> {
    list.iter()
        .map(|s| CString::new(s.as_bytes()).map_err(|_| Error::invalid(format!("{s:?} holds a NUL byte"))))
        .collect()
}

/// The home directory that the container's /etc/passwd gives a user, else `/`. The file is the
/// image's: it may be anything, so only a plain file of bounded size is read, and words are words. A link leads
/// to the container's own.
fn home_of(uid: u32) -> Vec<u8> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    const LONGEST: u64 = 1 << 20;
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/etc/passwd");
    let mut text = Vec::new();
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|m| m.is_file())
    {
        let _ = file.take(LONGEST).read_to_end(&mut text);
    }
    text.split(|b| *b == b'\n').find_map(|line| home_in(line, uid)).unwrap_or_else(|| b"/".to_vec())
}

fn home_in(line: &[u8], uid: u32) -> Option<Vec<u8>> {
    let mut fields = line.split(|b| *b == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    let home = fields.nth(2)?;
    (id.parse() == Ok(uid) && home.starts_with(b"/") && !home.contains(&0)).then(|| home.to_vec())
}

/// What an errno of the command's execve means, in the words that docker's users know: and docker itself, which
/// makes its exit code of them and takes no capital letter.
pub fn exec_error(command: &str, errno: Errno) -> Error {
    let mut what = errno.desc().to_owned();
    what[..1].make_ascii_lowercase();
    match errno {
        Errno::ENOENT if !command.contains('/') => Error::new(
            Kind::CommandNotFound,
            format!("exec: {command:?}: executable file not found in $PATH"),
        ),
        Errno::ENOENT | Errno::ENOTDIR => Error::new(
            Kind::CommandNotFound,
            format!("exec: {command:?}: {what} (or its interpreter is missing)"),
        ),
        _ => Error::new(Kind::CannotExecute, format!("exec: {command:?}: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> spec::Process {
        spec::Process { args: vec!["sh".into()], cwd: "/".into(), ..Default::default() }
    }

    fn planned(p: &spec::Process) -> Result<Plan> {
        plan(p, Init::ExecOnly, &mut Vec::new())
    }

    #[test]
    fn of_a_variable_that_is_there_twice_the_last_value_counts() {
        let mut p = process();
        p.env = ["A=1", "B=2", "A=3=4", "C=", "C="].map(str::to_owned).to_vec();
        assert_eq!(planned(&p).unwrap().env, ["A=3=4", "B=2", "C="]);
    }

    #[test]
    fn an_unknown_capability_is_a_warning_and_grants_nothing() {
        let mut p = process();
        let c = spec::Capabilities { permitted: vec!["CAP_FLY".into()], ..Default::default() };
        p.capabilities = Some(c);
        let mut warnings = Vec::new();
        let planned = plan(&p, Init::ExecOnly, &mut warnings).unwrap();
        assert_eq!(planned.capabilities, caps::Sets::default());
        assert!(warnings[0].contains("CAP_FLY"));
    }

    #[test]
    fn a_process_that_makes_no_sense_is_refused_with_its_field() {
        type Change = fn(&mut spec::Process);
        let cases: [(Change, &str); 12] = [
            (|p| p.args.clear(), "args"),
            (|p| p.cwd = "rel".into(), "cwd"),
            (|p| p.env.push("A=\0".into()), "env"),
            (|p| p.env.push("ALONE".into()), "process.env \"ALONE\""),
            (|p| p.env.push("=x".into()), "process.env \"=x\""),
            (|p| p.user.uid = u32::MAX, "process.user"),
            (|p| p.user.additional_gids.push(u32::MAX), "process.user"),
            (|p| p.oom_score_adj = Some(2000), "oomScoreAdj"),
            (|p| p.rlimits.push(spec::Rlimit { kind: "RLIMIT_X".into(), soft: 0, hard: 0 }), "RLIMIT_X"),
            (|p| p.rlimits.push(spec::Rlimit { kind: "RLIMIT_CPU".into(), soft: 2, hard: 1 }), "RLIMIT_CPU"),
            (
                |p| {
                    let effective = vec!["CAP_KILL".into()];
                    p.capabilities = Some(spec::Capabilities { effective, ..Default::default() });
                },
                "CAP_KILL",
            ),
            (|p| p.scheduler = Some(Default::default()), "scheduler.policy"),
        ];
        for (change, field) in cases {
            let mut p = process();
            change(&mut p);
            assert!(planned(&p).unwrap_err().to_string().contains(field), "{field}");
        }
    }

    #[test]
    fn a_home_is_a_path_that_passwd_gives_the_very_id() {
        assert_eq!(home_in(b"a:x:7:7:A:/home/a:/bin/sh", 7).as_deref(), Some(&b"/home/a"[..]));
        for line in ["a:x:8:7:A:/home/a:", "7:x:1:1::/h:", "a:x:7:7:A", "a:x:7:7:::", "a:x:7:7::../x:", ""] {
            assert_eq!(home_in(line.as_bytes(), 7), None, "{line}");
        }
    }

    #[test]
    fn a_command_that_looks_like_an_option_stays_behind_the_dashes() {
        let mut p = process();
        p.args = vec!["--error-fd".into(), "-x".into()];
        let argv = planned(&p).unwrap().init_argv(Some(9)).unwrap();
        let argv: Vec<_> = argv.iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(argv, ["init", "--exec", "--error-fd", "9", "--", "--error-fd", "-x"]);
    }
}
