//! Which groups a container gets, where, and what is written into them. Pure: the host is a
//! [`Layout`], and every decision, what is dropped too, is in the [`Plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, Node, V2};
use super::{v1, v2};
use crate::devfilter;
use crate::mounts::Hierarchy;
use crate::spec::resources::{LinuxResources, Rdma};

/// How long a container lives, and who looks at it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The runner waits for it: only what its limits need is made.
    ForegroundRun,
    /// It is looked at, paused and killed by others: memory, cpuacct, pids and freezer are made too,
    /// because what is entered late is not accounted.
    Detached,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`: absolute is below the hierarchy's mount, relative below our own group.
    pub path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Limits that this host cannot give are dropped instead of refused.
    pub best_effort: bool,
    /// The container has a user namespace: the kernel itself keeps device nodes from it.
    pub user_namespace: bool,
}

impl Request<'_> {
    /// Whether any group can be needed. Where not, the host need not even be asked.
    pub fn needs_groups(&self) -> bool {
        let device_rules = |r: &LinuxResources| !r.devices.is_empty() && !self.user_namespace;
        let limits = |r: &LinuxResources| {
            LinuxResources { devices: Vec::new(), ..r.clone() } != LinuxResources::default()
        };
        self.lifetime == Lifetime::Detached
            || self.path.is_some()
            || self.resources.is_some_and(|r| limits(r) || device_rules(r))
    }
}

/// Groups and what goes into them. Serialised, it is how another process finds them again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One for each hierarchy that is used.
    pub groups: Vec<Group>,
    /// Whether a limit that the kernel refuses is dropped.
    pub best_effort: bool,
    /// Limits that were asked for and are not given, in words.
    pub dropped: Vec<String>,
}

/// A group to make.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Write>,
    /// v2: the device filter's rules, where there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<devfilter::Rule>>,
}

/// One write into a file of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Left out where the kernel lacks the file.
    #[serde(default)]
    pub optional: bool,
    /// Another file and its value, used instead where it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rather: Option<(String, String)>,
}

/// A limit before it is known whether the host can give it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) controller: String,
    pub(super) file: String,
    value: String,
    optional: bool,
    rather: Option<(String, String)>,
    impossible: Option<&'static str>,
}

impl Limit {
    pub(super) fn new(controller: impl Into<String>, file: impl Into<String>, value: String) -> Self {
        let (controller, file) = (controller.into(), file.into());
        Self { controller, file, value, optional: false, rather: None, impossible: None }
    }

    /// It may be left out where the kernel lacks the file.
    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Another file that is used where it exists.
    pub(super) fn or(self, file: &str, value: String) -> Self {
        Self { rather: Some((file.into(), value)), ..self }
    }

    /// It cannot be given here, and why.
    pub(super) fn impossible(self, why: &'static str) -> Self {
        Self { impossible: Some(why), ..self }
    }

    pub(super) fn write(self) -> Write {
        Write { file: self.file, value: self.value, optional: self.optional, rather: self.rather }
    }

    fn shown(&self) -> String {
        match self.value.as_str() {
            "" => self.file.clone(),
            value => format!("{} = {value}", self.file),
        }
    }
}

/// A limit that v2 calls `max` when there is none; `pids.max` of v1 too.
pub(super) fn number(n: i64) -> String {
    if n < 0 { "max".into() } else { n.to_string() }
}

/// RDMA is the same in both versions.
pub(super) fn rdma(devices: &BTreeMap<String, Rdma>, out: &mut Vec<Limit>) {
    for (device, r) in devices {
        let mut line = device.clone();
        for (key, n) in [("hca_handle", r.hca_handles), ("hca_object", r.hca_objects)] {
            if let Some(n) = n {
                line.push_str(&format!(" {key}={n}"));
            }
        }
        out.push(Limit::new("rdma", "rdma.max", line));
    }
}

/// Limits of a host, in the words of its version.
pub(super) fn limits(resources: &LinuxResources, layout: &Layout) -> Result<Vec<Limit>> {
    match layout.version() {
        "2" => v2::limits(resources),
        _ => v1::limits(resources, layout),
    }
}

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
    // In a user namespace the kernel itself lets nobody make device nodes, nor us make rules.
    let rules = match layout.privileged && !request.user_namespace {
        true => devfilter::plan(&resources.devices)?,
        false => Vec::new(),
    };
    let path = request.path.map(clean).transpose()?;
    match &layout.v2 {
        Some(v2) if layout.version() == "2" => plan.unified(request, path, v2, limits, rules)?,
        _ => plan.separate(request, path, layout, limits, &rules)?,
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

    fn drop_or_refuse(&mut self, refused: Vec<(String, String)>) -> Result<()> {
        for (what, why) in refused {
            if !self.best_effort {
                return Err(Error::unsupported(format!("set {what}: {why} (--best-effort goes on without)")));
            }
            self.dropped.push(format!("{what}: {why}"));
        }
        Ok(())
    }

    /// Version 1: a group in every hierarchy whose controllers are wanted.
    fn separate(
        &mut self,
        request: &Request<'_>,
        path: Option<(bool, PathBuf)>,
        layout: &Layout,
        limits: Vec<Limit>,
        rules: &[devfilter::Rule],
    ) -> Result<()> {
        let mut refused = Vec::new();
        let mut wanted: BTreeMap<usize, Vec<Write>> = BTreeMap::new();
        let elsewhere = path.as_ref().is_some_and(|p| p.0);
        let find = |controller: &str| find_v1(layout, controller, elsewhere);
        for limit in limits {
            match find(&limit.controller) {
                Ok(at) => wanted.entry(at).or_default().push(limit.write()),
                // What goes with another limit falls with it.
                Err(_) if limit.optional => {}
                Err(why) => refused.push((limit.shown(), why)),
            }
        }
        if !rules.is_empty() {
            match find("devices") {
                Ok(at) => {
                    wanted.entry(at).or_default().extend(devfilter::v1_lines(rules)?.into_iter().map(
                        |(file, value)| Write { file: file.into(), value, optional: false, rather: None },
                    ))
                }
                Err(why) => refused.push(("the device rules".into(), why)),
            }
        }
        self.drop_or_refuse(refused)?;
        if request.lifetime == Lifetime::Detached {
            for at in ["memory", "cpuacct", "pids", "freezer"].into_iter().filter_map(|c| find(c).ok()) {
                wanted.entry(at).or_default();
            }
        }
        for (at, writes) in wanted {
            let h = &layout.v1[at];
            let (base, below) = match &path {
                Some((true, path)) => (&h.mount, path.clone()),
                Some((false, path)) => (&h.own, path.clone()),
                None => (&h.own, own_name(request.id)),
            };
            self.groups.push(Group {
                unified: false,
                controllers: h.controllers.clone(),
                mount: h.mount.clone(),
                base: base.clone(),
                dir: base.join(below),
                writes,
                devices: None,
            });
        }
        Ok(())
    }

    /// Version 2: one group, below the nearest one that can give it the controllers.
    fn unified(
        &mut self,
        request: &Request<'_>,
        path: Option<(bool, PathBuf)>,
        v2: &V2,
        limits: Vec<Limit>,
        rules: Vec<devfilter::Rule>,
    ) -> Result<()> {
        let absolute = path.as_ref().is_some_and(|p| p.0);
        let chain =
            if absolute { v2.chain.last().map(std::slice::from_ref).unwrap_or_default() } else { &v2.chain };
        let controller = |l: &Limit| (l.controller != "cgroup").then(|| l.controller.clone());
        let mut needed: BTreeSet<String> = limits.iter().filter_map(controller).collect();
        let mut refused = Vec::new();
        let mut missing: BTreeSet<String> =
            needed.iter().filter(|c| choose(chain, &[(*c).clone()].into()).is_none()).cloned().collect();
        let together: BTreeSet<String> = needed.difference(&missing).cloned().collect();
        if choose(chain, &together).is_none() && !together.is_empty() {
            missing = needed.clone();
        }
        for limit in limits.iter().filter(|l| missing.contains(&l.controller) && !l.optional) {
            refused.push((limit.shown(), not_delegated(&limit.controller, v2)));
        }
        self.drop_or_refuse(refused)?;
        needed.retain(|c| !missing.contains(c));
        if request.lifetime == Lifetime::Detached {
            for soft in ["cpu", "memory", "pids"] {
                let mut more = needed.clone();
                more.insert(soft.into());
                if choose(chain, &more).is_some() {
                    needed = more;
                }
            }
        }
        let writes: Vec<Write> =
            limits.into_iter().filter(|l| !missing.contains(&l.controller)).map(Limit::write).collect();
        if needed.is_empty()
            && writes.is_empty()
            && rules.is_empty()
            && path.is_none()
            && request.lifetime == Lifetime::ForegroundRun
        {
            return Ok(());
        }
        let Some(node) = choose(chain, &needed) else {
            return match rules.is_empty() {
                true => Ok(()),
                false => self.drop_or_refuse(vec![(
                    "the device rules".into(),
                    format!("no cgroup can be made below {}: it is not writable", v2.mount.display()),
                )]),
            };
        };
        let below = path.map_or_else(|| own_name(request.id), |(_, path)| path);
        self.groups.push(Group {
            unified: true,
            controllers: needed.into_iter().collect(),
            mount: v2.mount.clone(),
            base: node.dir.clone(),
            dir: node.dir.join(below),
            writes,
            devices: (!rules.is_empty()).then_some(rules),
        });
        Ok(())
    }
}

impl Layout {
    /// Where groups with a controller (by its v2 name) can be made, or why not and what to do.
    pub fn usable(&self, controller: &str) -> Result<PathBuf, String> {
        if let (Some(v2), "2") = (&self.v2, self.version()) {
            // Every group of v2 can be frozen.
            let needed = (controller != "freezer").then(|| controller.to_owned()).into_iter().collect();
            let node = choose(&v2.chain, &needed);
            return node.map(|n| n.dir.clone()).ok_or_else(|| not_delegated(controller, v2));
        }
        find_v1(self, if controller == "io" { "blkio" } else { controller }, false)
            .map(|at| self.v1[at].own.clone())
    }
}

/// The hierarchy of a controller; with `elsewhere`, the group is not to be below our own one.
fn find_v1(layout: &Layout, controller: &str, elsewhere: bool) -> Result<usize, String> {
    let at = layout.v1.iter().position(|h| h.controllers.iter().any(|c| c == controller));
    match at {
        None => Err(no_controller(controller)),
        Some(at) if !layout.v1[at].writable && !elsewhere => Err(format!(
            "the cgroup controller {controller} is not ours to use: {} is not writable (on cgroup v1 only root can limit; boot with systemd.unified_cgroup_hierarchy=1, or run as root)",
            layout.v1[at].own.display()
        )),
        Some(at) => Ok(at),
    }
}

/// The nearest group that gives all of `needed` to its children, or can be told to.
fn choose<'a>(chain: &'a [Node], needed: &BTreeSet<String>) -> Option<&'a Node> {
    chain.iter().find(|node| {
        let gives = needed.iter().all(|c| node.enabled.contains(c));
        // Only the root may have both processes and children with controllers.
        let can = node.delegated
            && (node.root || !node.populated)
            && needed.iter().all(|c| node.controllers.contains(c));
        node.writable && (gives || can)
    })
}

fn no_controller(controller: &str) -> String {
    format!(
        "the cgroup controller {controller} is missing: no hierarchy of it is mounted (is it in /proc/cgroups, and not switched off on the kernel's command line?)"
    )
}

fn not_delegated(controller: &str, v2: &V2) -> String {
    let known = v2.chain.iter().any(|n| n.controllers.iter().any(|c| c == controller));
    if !known {
        return format!(
            "the cgroup controller {controller} is missing: {} does not offer it",
            v2.mount.display()
        );
    }
    let own = v2.chain.first().map(|n| n.dir.display().to_string()).unwrap_or_default();
    if v2.chain.iter().any(|n| n.writable && n.delegated && n.populated && !n.root) {
        return format!(
            "the cgroup controller {controller} is not delegated: {own} has processes of its own, so it gives no controllers to groups below (move them into a group below it first)"
        );
    }
    format!(
        "the cgroup controller {controller} is not delegated to {own} (start it with `systemd-run --user --scope -p Delegate=yes`, or set Delegate= for user@.service)"
    )
}

/// The name of a group that is ours.
fn own_name(id: &str) -> PathBuf {
    format!("{}{id}", super::PREFIX).into()
}

/// Whether it was absolute, and the path with nothing in it that leads upwards.
fn clean(path: &str) -> Result<(bool, PathBuf)> {
    if path.matches(':').count() == 2 && !path.contains('/') {
        return Err(Error::unsupported(format!(
            "linux.cgroupsPath: {path:?} is a name for systemd to make; groups are made directly here (have the client use cgroupfs)"
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
