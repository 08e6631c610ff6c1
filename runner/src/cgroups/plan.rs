//! Which groups a container gets, where, and what is written into them. Pure: the host is a
//! [`Layout`], and every decision, what is dropped too, is in the [`Plan`].

use std::path::{Component, Path, PathBuf};

use coracle_sys::read_json;
use coracle_sys::{Error, Kind, Result};
use serde::Serialize;

use super::layout::Layout;
use super::limit::limits;
use super::systemd::Unit;
use crate::devfilter;
use crate::mounts::Hierarchy;
use crate::spec::resources::LinuxResources;

/// How long a container lives, and who looks at it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The runner waits for it: only what its limits need is made.
    ForegroundRun,
    /// It is looked at, paused, changed and killed by others: every group that this needs is made too.
    Detached,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The name of its group where `path` names none.
    pub name: &'a str,
    /// `linux.cgroupsPath`: absolute is below the hierarchy's mount, relative below our own group.
    pub path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Limits that this host cannot give are dropped instead of refused.
    pub best_effort: bool,
    /// Who asks may say which devices are opened: without a list, few can be.
    pub device_rules: bool,
}

impl Request<'_> {
    /// Whether any group can be needed. Where not, the host need not even be asked.
    pub fn needs_groups(&self) -> bool {
        let rules = || devfilter::plan(self.resources.map_or(&[][..], |r| &r.devices));
        // A list that makes no sense is refused when it is decided.
        !self.is_about_devices_alone() || self.device_rules && rules().map_or(true, |r| !r.is_empty())
    }

    /// Whether there is nothing but device rules to be heeded.
    pub fn is_about_devices_alone(&self) -> bool {
        let limits = |r: &LinuxResources| {
            LinuxResources { devices: Vec::new(), ..r.clone() } != LinuxResources::default()
        };
        self.lifetime != Lifetime::Detached && self.path.is_none() && !self.resources.is_some_and(limits)
    }
}

/// Groups and what goes into them. Serialised, it is how another process finds them again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// One for each hierarchy that is used.
    pub groups: Vec<Group>,
    /// Whether a limit that the kernel refuses is dropped.
    pub best_effort: bool,
    /// Limits that were asked for and are not given, in words.
    pub dropped: Vec<String>,
    /// The unit that the groups are of, where systemd makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// The user of the host to whom the group of v2 is given, where the container may make groups below it.
    #[serde(skip)]
    pub owner: Option<u32>,
}

read_json!(Plan {
    groups: must "groups",
    best_effort: must "best_effort",
    dropped: must "dropped",
    unit: may "unit",
});

/// A group to make.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Whether it is of version 2.
    pub unified: bool,
    /// v1: the hierarchy's controllers, or its `name=`. v2: those to be enabled for it.
    pub controllers: Vec<String>,
    /// The hierarchy's mount point.
    pub mount: PathBuf,
    /// The group above that exists already.
    pub base: PathBuf,
    /// The group itself.
    pub dir: PathBuf,
    /// What is written, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Write>,
    /// v2: the device filter's rules, where there is to be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<devfilter::Rule>>,
    /// Nobody asked for it: where we may not make it, there is none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// The group to make beside it where the kernel takes no device filter of ours.
    #[serde(skip)]
    pub otherwise: Option<Box<Group>>,
}

read_json!(Group {
    unified: must "unified",
    controllers: must "controllers",
    mount: must "mount",
    base: must "base",
    dir: must "dir",
    writes: may "writes",
    devices: may "devices",
    otherwise: may "otherwise",
    soft: may "soft",
});

/// One write into a file of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Write {
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Left out where the kernel lacks the file.
    pub optional: bool,
    /// Another file and its value, used instead where it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rather: Option<(String, String)>,
}

read_json!(Write {
    file: must "file",
    value: must "value",
    optional: may "optional",
    rather: may "rather",
});

/// Decide.
pub fn plan(request: &Request<'_>, layout: &Layout) -> Result<Plan> {
    let mut plan = Plan { best_effort: request.best_effort, ..Plan::default() };
    if !request.needs_groups() {
        return Ok(plan);
    }
    let nothing = LinuxResources::default();
    let resources = request.resources.unwrap_or(&nothing);
    let mut limits = limits(resources, layout)?;
    let mut refused = Vec::new();
    limits.retain(|l| match l.impossible {
        Some(why) => {
            refused.push((l.shown(), why.to_string()));
            false
        }
        None => true,
    });
    plan.drop_or_refuse(refused)?;
    // The kernel lets no ordinary user make rules.
    let rules = match layout.privileged && request.device_rules {
        true => devfilter::plan(&resources.devices)?,
        false => Vec::new(),
    };
    let path = request.path.map(clean).transpose()?;
    match &layout.v2 {
        Some(v2) if layout.version() == "2" => plan.unified(request, path, v2, limits, rules)?,
        _ => plan.separate(request, path, layout, limits, rules)?,
    }
    Ok(plan)
}

impl Plan {
    /// The v1 groups as they are mounted inside.
    pub fn hierarchies(&self) -> Vec<Hierarchy> {
        let options = |controllers: &[String]| match controllers {
            [name] if name.starts_with("name=") => {
                vec![("none".into(), None), ("name".into(), Some(name["name=".len()..].into()))]
            }
            list => list.iter().map(|c| (c.clone(), None)).collect(),
        };
        let shown = |g: &Group| Hierarchy {
            name: g.controllers.join(",").trim_start_matches("name=").to_owned(),
            options: options(&g.controllers),
            group: g.dir.clone(),
        };
        self.groups.iter().filter(|g| !g.unified).map(shown).collect()
    }

    pub(super) fn drop_or_refuse(&mut self, refused: Vec<(String, String)>) -> Result<()> {
        for (what, why) in refused {
            if !self.best_effort {
                return Err(Error::unsupported(format!("set {what}: {why} (--best-effort goes on without)")));
            }
            self.dropped.push(format!("{what}: {why}"));
        }
        Ok(())
    }
}

/// Whether it was absolute, and the path with nothing in it that leads upwards.
fn clean(path: &str) -> Result<(bool, PathBuf)> {
    if path.matches(':').count() == 2 && !path.contains('/') {
        return Err(Error::unsupported(format!(
            "linux.cgroupsPath: {path:?} is a name for systemd to make, and groups are made directly here (say --systemd-cgroup, or have the client use cgroupfs)"
        )));
    }
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    match clean.as_os_str().is_empty() {
        true => Err(Error::new(Kind::Invalid, format!("linux.cgroupsPath: {path:?} names no group"))),
        false => Ok((path.starts_with('/'), clean)),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
