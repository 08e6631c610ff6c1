//! Containers of OCI clients, as all verbs about them find them: by their whole id, with a status that is found out each
//! time and kept nowhere. The words of runc's errors are kept where clients look for them.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_store::lock::Lock;
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Kind, Result};
use serde_json::{Value, json};

use super::{Global, no_such_container};
use crate::cgroups::Cgroup;
use crate::guise::Guise;
use crate::launch::Starting;
use crate::spec;
use crate::state::{Face, Oci, State, States};

/// A container's status, as the specification has it, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It waits for its start.
    Created,
    /// Its command runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended.
    Stopped,
}

impl Status {
    /// The word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// One that exists.
pub(crate) struct Container {
    pub(crate) states: States,
    pub(crate) state: State,
}

impl Container {
    /// By its id, for verbs that are about these alone.
    pub(crate) fn find(global: &Global, id: &str) -> Result<Self> {
        Self::read(global, id).map_err(|e| match e.kind() {
            Kind::NotFound if global.root.is_none() && is_of_an_image(global, id) => {
                Error::usage(format!("{id} is a container of an image: runner ps -a, runner rm"))
            }
            _ => e,
        })
    }

    fn read(global: &Global, id: &str) -> Result<Self> {
        let states = States::of(Face::Oci, global.root.as_deref())?;
        let state = states.read(id).map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("container does not exist: {id:?}")),
            _ => e,
        })?;
        Ok(Self { states, state })
    }

    /// By what was typed, where it may also be one of an image: flags that only OCI clients use mean one of theirs, and
    /// so does the whole id of one. With `--root` an OCI client asks, and gets its own words where there is neither.
    pub(crate) fn if_meant(global: &Global, typed: &str, said: bool) -> Result<Option<Self>> {
        match Self::read(global, typed) {
            _ if global.guise == Guise::Docker => Ok(None),
            Ok(container) => Ok(Some(container)),
            Err(e) if global.guise == Guise::Runc => Err(e),
            Err(e) if said || global.root.is_some() => match is_of_an_image(global, typed) {
                true if said => Err(Error::usage(format!(
                    "{typed} is a container of an image: this flag is for those of OCI clients"
                ))),
                true => Ok(None),
                false if global.root.is_none() && e.kind() == Kind::NotFound => Err(no_such_container(typed)),
                false => Err(e),
            },
            Err(_) => Ok(None),
        }
    }

    /// Hold it against others who would change it, and look at it once more.
    pub(crate) fn hold(&mut self) -> Result<Lock> {
        let id = self.state.id.clone();
        let busy = || Error::new(Kind::Busy, format!("container {id:?}: another call is about to change it"));
        let held = self.states.hold(&id)?.ok_or_else(busy)?;
        self.state = self.states.read(&id)?;
        Ok(held)
    }

    /// The same for what a container may be told while it runs. One in front of a runner is that runner's until it has
    /// ended, and none the less paused and given other limits.
    pub(crate) fn hold_or_share(&mut self) -> Result<Option<Lock>> {
        match self.hold() {
            Err(e) if e.kind() == Kind::Busy && self.is_in_front() => Ok(None),
            other => other.map(Some),
        }
    }

    /// It runs in front of a runner.
    pub(crate) fn is_in_front(&self) -> bool {
        self.state.runner.is_some_and(|runner| runner.is_alive()) && self.state.init.is_alive()
    }

    /// Its groups.
    pub(crate) fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::open(self.state.cgroups.clone())
    }

    /// What it does now.
    pub(crate) fn status(&self) -> Result<Status> {
        if !self.state.init.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.cgroup()?.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if self.behind_its_gate("")?.is_some() { Status::Created } else { Status::Running })
    }

    /// It waits for its start: the way to it.
    pub(crate) fn behind_its_gate(&self, command: &str) -> Result<Option<Starting>> {
        let dir = self.states.dir();
        let gate = self.state.oci.as_ref().and_then(|o| o.gate.as_deref());
        // Who was killed between a start and taking the gate away has left one that nobody waits behind.
        match gate.filter(|gate| dir.join(gate).exists()) {
            Some(gate) => Starting::behind(dir, gate, self.state.init, command),
            None => Ok(None),
        }
    }

    /// The state document of runtime.md, with what runc adds to it.
    pub(crate) fn document(&self, status: Status) -> Value {
        let pid = if status == Status::Stopped { 0 } else { self.state.init.pid };
        document(&self.state.id, &self.state.bundle, self.state.oci.as_ref(), status.word(), pid)
    }
}

/// Whether it is one of the store's.
pub(crate) fn is_of_an_image(global: &Global, typed: &str) -> bool {
    let store = Locations::from_env(global.store.as_deref()).and_then(|at| Store::open(&at));
    store.is_ok_and(|store| store.find_container(typed).is_ok())
}

/// The state document.
pub(crate) fn document(id: &str, bundle: &Path, oci: Option<&Oci>, status: &str, pid: i32) -> Value {
    let none = BTreeMap::new();
    json!({
        "ociVersion": spec::VERSION,
        "id": id,
        "pid": pid,
        "status": status,
        "bundle": bundle,
        "rootfs": oci.map(|o| o.rootfs.clone()).unwrap_or_default(),
        "created": oci.map_or("", |o| o.created.as_str()),
        "owner": oci.map_or_else(String::new, |o| owner(o.owner)),
        "annotations": oci.map_or(&none, |o| &o.spec.annotations),
    })
}

/// Its members as runc has them one after another, for those who look at it.
const ORDER: [&str; 9] =
    ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"];

/// A state document as JSON.
pub(crate) fn text(document: &Value, pretty: bool) -> String {
    let (open, between, close) = if pretty { ("{\n  ", ",\n  ", "\n}") } else { ("{", ",", "}") };
    let mut text = String::new();
    for key in ORDER {
        text.push_str(if text.is_empty() { open } else { between });
        let member = match pretty {
            true => format!("\"{key}\": {:#}", document[key]).replace('\n', "\n  "),
            false => format!("\"{key}\":{}", document[key]),
        };
        text.push_str(&member);
    }
    text + close
}

/// A user's name, where the host has one.
pub(crate) fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_every_member_in_runcs_order() {
        let document = document("id", Path::new("/b"), None, "running", 7);
        assert_eq!(document.as_object().unwrap().len(), ORDER.len());
        for pretty in [false, true] {
            let text = text(&document, pretty);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
            let places = ORDER.map(|key| text.find(&format!("\"{key}\":")).unwrap());
            assert!(places.is_sorted(), "{text}");
        }
    }
}
