//! A container of an image as lists show it: its record, whether it runs, and the words for that.

use std::path::Path;

use coracle_store::{ContainerDir, Store};
use coracle_sys::Result;

use crate::cgroups::Cgroup;
use crate::monitor::Health;
use crate::network;
use crate::record::{self, Record};
use crate::state::{Face, State, States};

/// One container at this moment.
pub(crate) struct Seen {
    /// Its directory.
    pub(crate) dir: ContainerDir,
    /// What it is.
    pub(crate) record: Record,
    /// Its process, where it has one.
    pub(crate) state: Option<State>,
    /// Docker's word: created, restarting, running, paused or exited.
    pub(crate) status: &'static str,
    /// Docker's word for its health, where that is looked after.
    pub(crate) health: Option<String>,
}

impl Seen {
    /// Look at one.
    pub(crate) fn of(dir: ContainerDir) -> Result<Self> {
        Self::among(&States::of(Face::Image, None)?, dir)
    }

    /// Look at all, the newest first. One that is being made or removed at this moment has no record.
    pub(crate) fn all(store: &Store) -> Result<Vec<Self>> {
        let states = States::of(Face::Image, None)?;
        let mut all = Vec::new();
        for dir in store.containers()? {
            all.extend(Self::among(&states, dir));
        }
        let age = |seen: &Self| seen.record.created;
        coracle_sys::order::sort_by(&mut all, |a, b| (age(b), &b.dir.id).cmp(&(age(a), &a.dir.id)));
        Ok(all)
    }

    fn among(states: &States, dir: ContainerDir) -> Result<Self> {
        let record = Record::read(&dir.path)?;
        let state = states.read(&dir.id).ok().filter(|s| s.init.is_alive());
        let status = match &state {
            Some(state) if is_frozen(state) => "paused",
            Some(_) => "running",
            None if record.waiting().is_some() => "restarting",
            // It begins, or has ended and how is not written down yet: whoever does that is there.
            None if record.is_unfinished() && record.runner.is_some_and(|r| r.is_alive()) => "running",
            None if record.exit.is_some() || record.started.is_some() => "exited",
            None => "created",
        };
        let health = health(&dir.path, &record);
        Ok(Self { dir, record, state, status, health })
    }

    /// The process on the host, 0 where there is none.
    pub(crate) fn pid(&self) -> i32 {
        self.state.as_ref().map_or(0, |s| s.init.pid)
    }

    /// Its networks, while it runs. What cannot be read is the next start's to tell.
    pub(crate) fn attachments(&self) -> Vec<network::Attachment> {
        match &self.state {
            Some(_) => network::attachments(&self.dir.id).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// How it ended last; 0 where it has not.
    pub(crate) fn code(&self) -> i32 {
        self.record.exit.as_ref().map_or(0, |exit| exit.code)
    }

    /// As docker's ps says it: `Up 2 minutes (healthy)`.
    pub(crate) fn spoken(&self) -> String {
        let record = &self.record;
        let ended = record.exit.as_ref().map_or(record.created, |exit| exit.at);
        let up = || format!("Up {}", ago(record.started.unwrap_or(record.created)));
        match (self.status, self.health.as_deref()) {
            ("paused", _) => format!("{} (Paused)", up()),
            ("running", None) => up(),
            ("running", Some("starting")) => format!("{} (health: starting)", up()),
            ("running", Some(health)) => format!("{} ({health})", up()),
            ("restarting", _) => format!("Restarting ({}) {} ago", self.code(), ago(ended)),
            ("created", _) => "Created".to_owned(),
            _ => format!("Exited ({}) {} ago", self.code(), ago(ended)),
        }
    }
}

/// Whether the processes of a container that runs are frozen.
pub(crate) fn is_frozen(state: &State) -> bool {
    Cgroup::open(state.cgroups.clone()).and_then(|group| group.is_frozen()).unwrap_or(false)
}

fn health(dir: &Path, record: &Record) -> Option<String> {
    record.healthcheck.as_ref()?;
    let test = record.healthcheck.as_ref()?.test.as_deref().unwrap_or_default();
    if test.is_empty() || test[0] == "NONE" {
        return None;
    }
    let said = Health::read(dir).and_then(|health| Some(health["Status"].as_str()?.to_owned()));
    Some(said.unwrap_or_else(|| "starting".to_owned()))
}

/// How long ago, as docker says it (go-units' HumanDuration).
pub(crate) fn ago(then: u64) -> String {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    let seconds = record::seconds(record::now().saturating_sub(then));
    // It rounds to the nearest hour, and nothing else.
    let hours = (seconds + HOUR / 2) / HOUR;
    let (count, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => (seconds, "seconds"),
        60..120 => return "About a minute".to_owned(),
        120..HOUR => (seconds / 60, "minutes"),
        _ if hours == 1 => return "About an hour".to_owned(),
        _ if hours < 48 => (hours, "hours"),
        _ if hours < 24 * 14 => (hours / 24, "days"),
        _ if hours < 24 * 60 => (hours / 24 / 7, "weeks"),
        _ if hours < 24 * 365 * 2 => (hours / 24 / 30, "months"),
        _ => (seconds / DAY / 365, "years"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_docker_tells_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(ago(record::now() - seconds * 1_000_000_000), text, "{seconds}");
        }
    }
}
