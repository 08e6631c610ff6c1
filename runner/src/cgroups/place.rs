//! Where a container's groups go: on v1 one for each hierarchy that is wanted, on v2 one in all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coracle_sys::Result;

use super::layout::{Layout, Node, V1, V2};
use super::limit::Limit;
use super::plan::{Group, Lifetime, Plan, Request, Write};
use crate::devfilter;

/// Controllers whose groups a container gets that others look at, pause and change: what is entered late is not
/// accounted, and no limit can be set where there is no group. systemd's own hierarchy is for those who look there
/// for the container that a process belongs to.
const DETACHED_V1: [&str; 9] =
    ["memory", "cpuacct", "pids", "freezer", "cpu", "cpuset", "blkio", "hugetlb", "name=systemd"];
const DETACHED_V2: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

impl Plan {
    /// Version 1: a group in every hierarchy whose controllers are wanted.
    pub(super) fn separate(
        &mut self,
        request: &Request<'_>,
        path: Option<(bool, PathBuf)>,
        layout: &Layout,
        limits: Vec<Limit>,
        rules: Vec<devfilter::Rule>,
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
        let below = path.as_ref().map_or_else(|| PathBuf::from(request.name), |(_, path)| path.clone());
        let group = |at: usize, writes: Vec<Write>| {
            let h: &V1 = &layout.v1[at];
            let base = if elsewhere { &h.mount } else { &h.own };
            Group {
                controllers: h.controllers.clone(),
                mount: h.mount.clone(),
                base: base.clone(),
                dir: base.join(&below),
                writes,
                ..Group::default()
            }
        };
        if !rules.is_empty() {
            match (filtering(layout, elsewhere), find("devices")) {
                (Some((v2, base)), v1) => {
                    let lines = v1.ok().and_then(|at| Some(group(at, device_writes(&rules).ok()?)));
                    self.groups.push(Group {
                        unified: true,
                        mount: v2.mount.clone(),
                        base: base.clone(),
                        dir: base.join(&below),
                        devices: Some(rules),
                        otherwise: lines.map(Box::new),
                        ..Group::default()
                    });
                }
                (None, Ok(at)) => wanted.entry(at).or_default().extend(device_writes(&rules)?),
                (None, Err(why)) => self.without_rules(request, why)?,
            }
        }
        self.drop_or_refuse(refused)?;
        if request.lifetime == Lifetime::Detached {
            for at in DETACHED_V1.iter().filter_map(|c| find(c).ok()) {
                let dir = &layout.v1[at].mount;
                if !wanted.contains_key(&at) && self.groups.iter().all(|g| g.unified || g.mount != *dir) {
                    self.groups.push(Group { soft: true, ..group(at, Vec::new()) });
                }
            }
        }
        self.groups.extend(wanted.into_iter().map(|(at, writes)| group(at, writes)));
        Ok(())
    }

    /// Version 2: one group, below the nearest one that can give it the controllers.
    pub(super) fn unified(
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
        let mut needed = set(limits.iter().filter_map(controller));
        let mut refused = Vec::new();
        let alone = |c: &&String| choose(chain, &set([(*c).clone()].into_iter())).is_none();
        let mut missing = set(needed.iter().filter(alone).cloned());
        let together = set(needed.difference(&missing).cloned());
        if choose(chain, &together).is_none() && !together.is_empty() {
            missing = needed.clone();
        }
        for limit in limits.iter().filter(|l| missing.contains(&l.controller) && !l.optional) {
            refused.push((limit.shown(), not_delegated(&limit.controller, v2)));
        }
        self.drop_or_refuse(refused)?;
        needed.retain(|c| !missing.contains(c));
        if request.lifetime == Lifetime::Detached {
            for soft in DETACHED_V2 {
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
                false => self.without_rules(
                    request,
                    format!("no cgroup can be made below {}: it is not writable", v2.mount.display()),
                ),
            };
        };
        let below = path.map_or_else(|| PathBuf::from(request.name), |(_, path)| path);
        self.groups.push(Group {
            unified: true,
            controllers: needed.into_iter().collect(),
            mount: v2.mount.clone(),
            base: node.dir.clone(),
            dir: node.dir.join(below),
            writes,
            devices: (!rules.is_empty()).then_some(rules),
            ..Group::default()
        });
        Ok(())
    }
}

impl Plan {
    /// Rules that nobody has written down are done without where there can be no group, as inside a
    /// container that is confined itself.
    fn without_rules(&mut self, request: &Request<'_>, why: String) -> Result<()> {
        if request.resources.is_none_or(|r| r.devices.is_empty()) {
            self.dropped.push(format!("the default device rules: {why}"));
            return Ok(());
        }
        self.drop_or_refuse(vec![("the device rules".into(), why)])
    }
}

impl Layout {
    /// Where groups with a controller (by its v2 name) can be made, or why not and what to do.
    pub fn usable(&self, controller: &str) -> Result<PathBuf, String> {
        if let (Some(v2), "2") = (&self.v2, self.version()) {
            // Every group of v2 can be frozen.
            let needed = set((controller != "freezer").then(|| controller.to_owned()).into_iter());
            let node = choose(&v2.chain, &needed);
            return node.map(|n| n.dir.clone()).ok_or_else(|| not_delegated(controller, v2));
        }
        find_v1(self, if controller == "io" { "blkio" } else { controller }, false)
            .map(|at| self.v1[at].own.clone())
    }
}

/// Where beside v1 a group of v2 can be made to hold the device filter. A process is born into it; into
/// one of v1 it has to be moved, for which the kernel first lets all processors pass a quiet moment.
fn filtering(layout: &Layout, elsewhere: bool) -> Option<(&V2, &PathBuf)> {
    let v2 = layout.v2.as_ref()?;
    let node = if elsewhere { v2.chain.last() } else { v2.chain.first() };
    node.filter(|n| n.writable).map(|n| (v2, &n.dir))
}

/// The rules as the group of v1 takes them.
fn device_writes(rules: &[devfilter::Rule]) -> Result<Vec<Write>> {
    let lines = devfilter::v1_lines(rules)?.into_iter();
    Ok(lines.map(|(file, value)| Write { file: file.into(), value, optional: false, rather: None }).collect())
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

/// Collected, it would be sorted first, by 5 kB of code.
fn set(controllers: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.extend(controllers);
    all
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
