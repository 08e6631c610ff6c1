//! `ps ID`: the processes of an OCI client's container, as runc tells them: what ps(1) of the host says of them, or their
//! pids alone.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::fd::AsFd;

use coracle_sys::process::Status;
use coracle_sys::program::{self, Program};
use coracle_sys::{Context, Error, Kind, Result, print};
use serde_json::json;

use super::Global;
use super::oci::Container;
use super::typed::Typed;
use crate::cgroups::Cgroup;
use crate::state::Identity;
use crate::survey;

/// What ps(1) is asked for where nothing is said.
const ASKED: &str = "-ef";

/// Print them.
pub(super) fn run(global: &Global, typed: Typed, asked: &[OsString]) -> Result<u8> {
    let id = typed.one("ps", "the container's id")?;
    // runc's -f is the format.
    if let Some(flag) = typed.other_than(&["--format", "--filter"]) {
        return Err(Error::usage(format!("ps ID takes no {flag}: its flag is --format table|json")));
    }
    let format = typed.get("--format").or(typed.get("--filter")).unwrap_or("table");
    if !matches!(format, "table" | "json") {
        return Err(Error::usage(format!("--format {format:?}: of processes it is table or json")));
    }
    let container = Container::find(global, id)?;
    let pids = within(&container.cgroup()?, container.state.init)?;
    if format == "json" {
        print::json(&json!(pids), false);
        return Ok(0);
    }
    print::out(format_args!("{}", of(&said(asked)?, &pids)?));
    Ok(0)
}

/// Those in the container's groups. In no group of its own, they are those in the pid namespace of its first process.
pub(super) fn within(groups: &Cgroup, first: Identity) -> Result<Vec<i32>> {
    let mut pids = groups.processes()?;
    if pids.contains(&first.pid) || !first.is_alive() {
        return Ok(pids);
    }
    pids.push(first.pid);
    let namespace = |pid: &dyn Display| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(&first.pid);
    // In the namespace of the runner itself there are others than the container's.
    if own.is_some() && own != namespace(&"self") {
        let all = fs::read_dir("/proc").context(|| "open(\"/proc\")")?;
        let all = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.extend(all.filter(|pid: &i32| *pid != first.pid && namespace(pid) == own));
    }
    Ok(pids)
}

/// What ps(1) says of all processes.
pub(super) fn said(asked: &[OsString]) -> Result<String> {
    let ps = survey::which("ps").ok_or_else(|| {
        Error::not_found("execute ps: it is not in PATH (ps --format json lists the pids without)")
    })?;
    let mut ps = Program::new(&ps);
    match asked {
        [] => ps.word(ASKED),
        asked => asked.iter().for_each(|word| ps.word(word)),
    }
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let said = program::memory()?;
    match ps.run([Some(null.as_fd()), Some(said.as_fd()), None])? {
        Status::Exited(0) => {}
        Status::Exited(code) => return Err(Error::new(Kind::System, format!("ps: exit status: {code}"))),
        Status::Signaled(n) => return Err(Error::new(Kind::System, format!("ps: signal: {n}"))),
    }
    let said = program::heard(said)?;
    String::from_utf8(said).map_err(|_| Error::invalid("read what ps says: it is not UTF-8"))
}

/// Its head, and the lines of these processes.
pub(super) fn of(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::usage("read what ps says: there is no column PID in it"))?;
    let mut out = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).unwrap_or_default();
        if pids.contains(&pid.parse().map_err(|_| Error::invalid(format!("read {line:?} of ps: no pid")))?) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_ps_says_the_lines_of_the_pids_stay() {
        let text = "USER   PID CMD\nroot     1 init 7\nroot    77 sh\n";
        assert_eq!(of(text, &[7, 77]).unwrap(), "USER   PID CMD\nroot    77 sh\n");
        assert_eq!(of(text, &[]).unwrap(), "USER   PID CMD\n");
        assert!(of("USER CMD\nroot sh\n", &[1]).is_err() && of("PID\nx\n", &[1]).is_err());
    }
}
