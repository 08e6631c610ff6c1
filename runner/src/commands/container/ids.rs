//! Which ids a container has: those of the host, those that every container of an ordinary user has, or its own.

use coracle_store::Store;
use coracle_store::ids::IdRange;
use coracle_sys::idmap::{self, Grant};
use coracle_sys::{Error, Result, file};

use crate::from_image::userns::{self, Mode, NOBODY};
use crate::host::Host;
use crate::spec::IdMapping;

/// Users, and groups.
type Maps = (Vec<IdMapping>, Vec<IdMapping>);

/// Where `/etc/subuid` grants neither `coracle` nor root anything: ids that systemd's list of them leaves free, enough
/// for 2000 containers.
const UNGRANTED: IdRange = (0x7000_0000, 2000 * WIDE);

/// As many as an image can name, where there are plenty.
const WIDE: u32 = 65536;

/// The maps, where the container has a user namespace. `id`: the container that is given ids of its own, none where it is
/// only shown. `needed` is how many the image names, and `nobody`, whether the command runs as that.
pub(super) fn maps(
    host: &Host,
    store: &Store,
    mode: &Mode,
    id: Option<&str>,
    (needed, nobody): (u32, bool),
) -> Result<Option<Maps>> {
    let ordinary = host.needs_user_namespace();
    match mode {
        Mode::Host => Ok(ordinary.then(everybodys)),
        Mode::KeepId { .. } if !ordinary => {
            Err(Error::usage("--userns keep-id: it is for ordinary users (root is root in any case)"))
        }
        Mode::KeepId { uid, gid } => {
            let (uids, gids) = everybodys();
            let kept = |maps: &[IdMapping], id: u32| {
                let inside = |m: &&IdMapping| id >= m.container_id && id - m.container_id < m.size;
                match maps.iter().any(|m| inside(&m)) {
                    true => Ok(userns::exchange(maps, 0, id)),
                    false => Err(Error::unsupported(format!(
                        "--userns keep-id: {id} is beyond the ids that this user may map (/etc/subuid, /etc/subgid)"
                    ))),
                }
            };
            Ok(Some((kept(&uids, uid.unwrap_or(host.uid))?, kept(&gids, gid.unwrap_or(host.gid))?)))
        }
        Mode::Auto { size } => {
            let from = granted(ordinary)?;
            let most = if ordinary { NOBODY - 1 } else { u32::MAX };
            let plenty = from.iter().map(|(_, n)| u64::from(*n)).sum::<u64>() >= u64::from(WIDE) * 64;
            let size = size.unwrap_or(if plenty { WIDE.min(most).max(needed) } else { needed });
            if size > most {
                return Err(Error::usage(format!("--userns auto:size={size}: there are at most {most} ids")));
            }
            // An ordinary user's other containers have the lowest.
            let [uid, gid] = [host.uid, host.gid].map(|own| ordinary.then_some(own));
            let count = userns::claimed(size, uid, nobody);
            let first = store.claim_ids(id, count, &from, ordinary).map_err(|e| e.wrap("--userns auto"))?;
            let [uids, gids] = [uid, gid].map(|user| userns::own(first, size, user, nobody));
            Ok(Some((uids, gids)))
        }
    }
}

/// The ids that may be given away.
fn granted(ordinary: bool) -> Result<Vec<IdRange>> {
    let grant = Grant::of_this_user();
    let of = |name, uid| idmap::granted(&grant.subuid, &grant.subgid, name, uid);
    if ordinary {
        let own = of(grant.name.as_deref(), grant.uid);
        return match own.is_empty() || grant.helpers.is_none() {
            true => Err(Error::unsupported(
                "--userns auto: there are no ids to give away: this user has none in /etc/subuid and /etc/subgid, or newuidmap is missing (package uidmap)",
            )),
            false => Ok(own),
        };
    }
    if let Some(said) = std::env::var_os("CORACLE_SUBIDS") {
        let read = said.to_str().and_then(|text| {
            let (first, count) = text.split_once(':')?;
            let (first, count) = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
            (first > 0 && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
        });
        let wrong = || Error::usage(format!("CORACLE_SUBIDS={said:?}: it is FIRST:COUNT"));
        return read.map(|range| vec![range]).ok_or_else(wrong);
    }
    // No user has the number that an entry by name is not to match.
    let all = [of(Some("coracle"), u32::MAX), of(Some("root"), 0)];
    Ok(all.into_iter().find(|ranges| !ranges.is_empty()).unwrap_or_else(|| vec![UNGRANTED]))
}

/// The maps of an ordinary user's containers: the user is root.
fn everybodys() -> Maps {
    let maps = idmap::plan(&Grant::of_this_user());
    let list = |ranges: &[idmap::Range]| {
        let one = |r: &idmap::Range| IdMapping { container_id: r.inside, host_id: r.outside, size: r.count };
        ranges.iter().map(one).collect()
    };
    (list(&maps.uids), list(&maps.gids))
}

/// The container's own /etc/passwd, where its user has the caller's id and the image knows nobody of it.
pub(super) fn passwd(text: &str, uid: u32, gid: u32) -> Option<String> {
    let known = |line: &str| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(uid));
    if text.lines().any(known) {
        return None;
    }
    let host = file::read(std::path::Path::new("/etc/passwd")).unwrap_or_default();
    let host = String::from_utf8_lossy(&host);
    let name = host.lines().find(|line| known(line)).and_then(|line| line.split(':').next());
    let taken = |name: &&str| text.lines().any(|line| line.split(':').next() == Some(name));
    let name = name.filter(|name| !taken(name)).map_or_else(|| format!("user{uid}"), str::to_owned);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Some(format!("{text}{end}{name}:*:{uid}:{gid}:{name}:/:/bin/sh\n"))
}
