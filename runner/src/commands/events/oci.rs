//! `events ID`: what a container uses, once or again and again, and when it runs out of memory.

use std::os::fd::AsFd;
use std::time::Duration;

use coracle_sys::handle::{Handle, Woken};
use coracle_sys::{Error, Kind, Result, print};
use serde_json::{Value, json};

use crate::commands::Global;
use crate::commands::oci::{Container, Status};
use crate::commands::typed::Typed;
use crate::from_image::units;

/// Print them, to the container's end.
pub(super) fn run(global: &Global, typed: &Typed) -> Result<u8> {
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
    let process = Handle::open(container.state.init.pid)?;
    let mut oom = cgroup.watch_oom()?;
    loop {
        let woken = process.wait(Some(oom.as_fd()), Some(interval))?;
        if woken == Woken::Ended || !container.state.init.is_alive() {
            return Ok(0);
        }
        match woken {
            Woken::Readable => match oom.heard()? {
                Some(1..) => tell("oom", None),
                Some(0) => {}
                None => return Ok(0),
            },
            _ => tell("stats", Some(cgroup.metrics())),
        }
    }
}
