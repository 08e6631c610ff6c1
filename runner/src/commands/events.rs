//! `events ID`: what a container uses, once or again and again, and when it runs out of memory.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::Duration;

use argh::CommandInfoWithArgs;
use coracle_sys::{Context, Error, Kind, Result, print, process};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::Global;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use crate::from_image::units;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "events",
    "Tell what a container uses, and when it runs out of memory, a JSON object a line.",
    typed::ID,
    &[
        typed::switch("--stats", None, "what it uses, once"),
        typed::option("--interval", None, "time", "how often it is told, 5s if not said"),
    ],
    &["runner events --stats my-container"],
);

/// Print them, to the container's end.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let id = typed.one("events", "the container's id")?;
    let container = Container::find(global, id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::new(Kind::Invalid, format!("container with id {id} is not running")));
    }
    let cgroup = container.cgroup()?;
    let tell = |kind: &str, data: Option<Value>| {
        // In runc's order, for those who look for words.
        let data = data.map_or_else(String::new, |data| format!(",\"data\":{data}"));
        print::json_text(format!("{{\"type\":{},\"id\":{}{data}}}", json!(kind), json!(id)));
    };
    if typed.get("--stats").is_some() {
        tell("stats", Some(cgroup.metrics()));
        return Ok(0);
    }
    let interval = typed.get("--interval").unwrap_or("5s");
    let interval = units::duration(interval, "--interval")?.max(Duration::from_millis(100));
    let pidfd = process::pidfd_open(container.state.init.pid)?;
    let mut oom = cgroup.watch_oom()?;
    loop {
        let wait = PollTimeout::try_from(interval.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut fds =
            [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(oom.as_fd(), PollFlags::POLLIN)];
        let seen = match poll(&mut fds, wait) {
            Err(Errno::EINTR) => continue,
            other => other.context(|| "poll(pidfd, oom)")?,
        };
        let ready = |n: usize| fds[n].any().unwrap_or(false);
        if ready(0) || !container.state.init.is_alive() {
            return Ok(0);
        }
        if ready(1) {
            match oom.heard()? {
                Some(1..) => tell("oom", None),
                Some(0) => {}
                None => return Ok(0),
            }
        }
        if seen == 0 {
            tell("stats", Some(cgroup.metrics()));
        }
    }
}
