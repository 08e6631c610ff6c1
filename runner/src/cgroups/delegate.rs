//! Handing a container its own group of v2: where it has a cgroup namespace and may write to its mount of the tree,
//! its root may make groups below. What a container may change of its own group the kernel lists; limits are never
//! among it. Version 1 has no such thing.

use std::os::fd::AsFd;
use std::path::Path;

use coracle_sys::{Context, Result, file};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};

use super::group::Cgroup;
use crate::namespaces::Kind;
use crate::spec::{IdMapping, Spec};

/// Files that belong to whoever a group is given to; systemd reads the same list.
const LIST: &str = "/sys/kernel/cgroup/delegate";
const WITHOUT_LIST: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";

/// The user of the host who is to own the container's group, if anybody is: who its process is.
pub(super) fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let new = |kind: Kind| {
        let mut all = linux.namespaces.iter().filter(|n| n.kind == kind.name());
        all.any(|n| n.path.as_ref().is_none_or(|p| p.as_os_str().is_empty()))
    };
    let writable = spec.mounts.iter().any(|m| {
        m.destination == Path::new("/sys/fs/cgroup")
            && m.kind.as_deref().is_some_and(|k| k.starts_with("cgroup"))
            && !m.options.iter().any(|o| o == "ro")
    });
    if !new(Kind::Cgroup) || !writable {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |p| p.user.uid);
    match linux.namespaces.iter().any(|n| n.kind == Kind::User.name()) {
        true => linux.uid_mappings.iter().find_map(|m| outside(m, uid)),
        false => Some(uid),
    }
}

fn outside(map: &IdMapping, uid: u32) -> Option<u32> {
    let above = uid.checked_sub(map.container_id).filter(|n| *n < map.size)?;
    map.host_id.checked_add(above)
}

impl Cgroup {
    /// Make somebody the owner of the group of v2. Beside v1, where that group is for the device filter alone,
    /// nothing is done.
    pub(super) fn give_to(&self, uid: u32) -> Result<()> {
        let (groups, owner) = (self.groups(), Some(Uid::from_raw(uid)));
        let Some(group) = groups.iter().find(|g| g.unified).filter(|_| groups.iter().all(|g| g.unified))
        else {
            return Ok(());
        };
        let dir = file::open_dir(&group.dir)?;
        let list = std::fs::read_to_string(LIST).unwrap_or_else(|_| WITHOUT_LIST.to_owned());
        for name in [""].into_iter().chain(list.split_whitespace()) {
            match fchownat(dir.as_fd(), name, owner, None, AtFlags::AT_EMPTY_PATH) {
                // The list has files of controllers that this group has not.
                Err(Errno::ENOENT) => {}
                done => done
                    .context(|| format!("fchownat({:?}, {name:?}, {uid})", group.dir))
                    .context(|| "hand the container its cgroup")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_is_given_only_to_who_may_write_to_it_in_a_namespace_of_its_own() {
        let base = json!({"ociVersion": "1.3.0", "process": {"cwd": "/", "user": {"uid": 5, "gid": 0}},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["rw"]}],
            "linux": {"namespaces": [{"type": "cgroup"}, {"type": "mount"}]}});
        let ask = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut spec = base.clone();
            change(&mut spec);
            owner(&Spec::parse(&spec.to_string()).unwrap())
        };
        assert_eq!(ask(&|_| ()), Some(5));
        assert_eq!(ask(&|s| s["mounts"][0]["options"] = json!(["ro"])), None);
        assert_eq!(ask(&|s| s["mounts"] = json!([])), None);
        assert_eq!(ask(&|s| s["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/cgroup")), None);
        let mapped = |s: &mut serde_json::Value| {
            s["linux"]["namespaces"][1]["type"] = json!("user");
            s["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 6}]);
        };
        assert_eq!(ask(&mapped), Some(1005));
        assert_eq!(
            ask(&|s| {
                mapped(s);
                s["process"]["user"]["uid"] = json!(6);
            }),
            None
        );
    }
}
