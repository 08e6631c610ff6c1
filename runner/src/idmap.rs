//! Ids of a new user namespace: the spec's mappings, and who is able to write them.

use coracle_sys::idmap::{Grant, Maps, Range, Writer};
use coracle_sys::{Context, Error, Kind, Result};

use crate::host::Host;
use crate::spec::IdMapping;

/// The maps that the host's root writes, in a user namespace or for a mount.
pub fn ranges(uids: &[IdMapping], gids: &[IdMapping]) -> Result<Maps> {
    let ranges = |list: &[IdMapping], field: &str| -> Result<Vec<Range>> {
        if list.is_empty() {
            return Err(Error::invalid(format!("{field} is empty, and is needed")));
        }
        list.iter()
            .map(|m| {
                let ends = |first: u32| first.checked_add(m.size).is_some();
                match m.size > 0 && ends(m.container_id) && ends(m.host_id) {
                    true => Ok(Range { inside: m.container_id, outside: m.host_id, count: m.size }),
                    false => Err(Error::invalid(format!("{field}: {m:?} is no range of ids"))),
                }
            })
            .collect()
    };
    Ok(Maps {
        uids: ranges(uids, "uidMappings")?,
        gids: ranges(gids, "gidMappings")?,
        writer: Writer::Privileged,
    })
}

/// The maps of a new user namespace, and their writer.
pub fn plan(uids: &[IdMapping], gids: &[IdMapping], host: &Host) -> Result<Maps> {
    let Maps { uids, gids, .. } =
        ranges(uids, gids).context(|| "make the user namespace of linux.namespaces")?;
    let only = |map: &[Range], id: u32| matches!(map, [r] if r.count == 1 && r.outside == id);
    let writer = if host.has(crate::caps::SETUID | crate::caps::SETGID) {
        Writer::Privileged
    } else if only(&uids, host.uid) && only(&gids, host.gid) {
        Writer::OwnId
    } else {
        let helpers = Grant::of_this_user().helpers.ok_or_else(|| {
            Error::new(
                Kind::Denied,
                "newuidmap and newgidmap are not installed (package uidmap), and an ordinary user can map no other ids without them",
            )
        })?;
        Writer::Helpers(helpers.0, helpers.1)
    };
    Ok(Maps { uids, gids, writer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn the_writer_is_the_least_that_can_do_it() {
        let root = Host { uid: 0, gid: 0, capabilities: u64::MAX };
        let user = Host { uid: 1000, gid: 1000, capabilities: 0 };
        let wide = [map(0, 100_000, 65536)];
        assert_eq!(plan(&wide, &wide, &root).unwrap().writer, Writer::Privileged);
        let own = [map(0, 1000, 1)];
        assert_eq!(plan(&own, &own, &user).unwrap().writer, Writer::OwnId);
    }

    #[test]
    fn a_mapping_that_is_no_range_is_refused() {
        let root = Host { uid: 0, gid: 0, capabilities: u64::MAX };
        let good = [map(0, 0, 1)];
        for bad in [&[][..], &[map(0, 0, 0)], &[map(1, 0, u32::MAX)], &[map(0, u32::MAX, 2)]] {
            assert!(plan(bad, &good, &root).is_err(), "{bad:?}");
        }
    }
}
