//! `--userns`: whose ids the container's are. Pure: which ids are free is looked up elsewhere.

use coracle_sys::{Error, Result};

use super::flags::Flags;
use crate::spec::IdMapping;

/// The user that files belong to whose owner has no id inside.
pub(crate) const NOBODY: u32 = 65534;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The host's ids; for an ordinary user those that everybody has: the user as root, then the subordinate ids.
    Host,
    /// Ids of the container's own.
    Auto { size: Option<u32> },
    /// An ordinary user has the same id inside, or this one.
    KeepId { uid: Option<u32>, gid: Option<u32> },
}

/// Read it.
pub(crate) fn mode(flags: &Flags) -> Result<Mode> {
    let text = flags.userns.as_deref().unwrap_or("host");
    let wrong = |why: &str| Error::usage(format!("--userns {text:?}: {why}"));
    let (word, options) = text.split_once(':').unwrap_or((text, ""));
    let mut numbers = [("size", None), ("uid", None), ("gid", None)];
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let known = match word {
            "auto" => key == "size",
            "keep-id" => matches!(key, "uid" | "gid"),
            _ => false,
        };
        let number = value.parse::<u32>().ok().filter(|n| *n < u32::MAX && (key != "size" || *n > 0));
        match (numbers.iter_mut().find(|(name, _)| known && *name == key), number) {
            (Some(slot), Some(number)) => slot.1 = Some(number),
            _ => return Err(wrong(&format!("{option:?} is unknown, not supported or no number"))),
        }
    }
    let [(_, size), (_, uid), (_, gid)] = numbers;
    match word {
        "" | "host" => Ok(Mode::Host),
        "auto" => Ok(Mode::Auto { size }),
        "keep-id" => Ok(Mode::KeepId { uid, gid }),
        "nomap" => Err(Error::unsupported(
            "--userns nomap: the images are this user's, who must have an id inside to read them (with auto it is nobody's)",
        )),
        _ => Err(wrong("there are host, auto[:size=N] and keep-id[:uid=N,gid=N]")),
    }
}

/// Give two ids each the other's place. One that has no place gets that of the other, which then has none.
pub(crate) fn exchange(maps: &[IdMapping], a: u32, b: u32) -> Vec<IdMapping> {
    let mut out = Vec::new();
    if a == b {
        return maps.to_vec();
    }
    for m in maps {
        let end = u64::from(m.container_id) + u64::from(m.size);
        let mut cuts = [a.min(b), a.max(b)].map(u64::from).to_vec();
        cuts.retain(|cut| (u64::from(m.container_id)..end).contains(cut));
        let mut at = u64::from(m.container_id);
        let mut piece = |from: u64, to: u64, container_id: u32| {
            if to > from {
                let host_id = m.host_id + (from - u64::from(m.container_id)) as u32;
                out.push(IdMapping { container_id, host_id, size: (to - from) as u32 });
            }
        };
        for cut in cuts {
            piece(at, cut, at as u32);
            piece(cut, cut + 1, if cut == u64::from(a) { b } else { a });
            at = cut + 1;
        }
        piece(at, end, at as u32);
    }
    out
}

/// The whole of all ids, as they are.
pub(crate) fn all() -> Vec<IdMapping> {
    vec![IdMapping { container_id: 0, host_id: 0, size: u32::MAX }]
}

/// Ids of the container's own, `first` and as many more as [`claimed`] says. An ordinary user, to whom the images belong,
/// is nobody in there; but where it is `nobody` whom the command runs as, that is an id of the container's own as well.
pub(crate) fn own(first: u32, size: u32, user: Option<u32>, nobody: bool) -> Vec<IdMapping> {
    let one = |container_id: u32, host_id: u32| IdMapping { container_id, host_id, size: 1 };
    let mut maps = vec![IdMapping { container_id: 0, host_id: first, size }];
    match user {
        Some(user) if nobody => maps.extend([one(NOBODY, first + size), one(NOBODY - 1, user)]),
        Some(user) => maps.push(one(NOBODY, user)),
        None => {}
    }
    maps
}

/// How many ids `size` of them take.
pub(crate) fn claimed(size: u32, user: Option<u32>, nobody: bool) -> u32 {
    size + u32::from(user.is_some() && nobody)
}

/// How many ids an image needs: up to the highest that its /etc/passwd and /etc/group or the user name, as podman has it.
pub(crate) fn needed(texts: [&str; 2], who: &super::user::Who) -> u32 {
    let third = |line: &str| line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok());
    let said = texts.into_iter().flat_map(str::lines).filter_map(third);
    let ids = said.chain([who.uid, who.gid]).chain(who.groups.iter().copied());
    ids.filter(|id| *id < NOBODY).max().map_or(0, |id| id + 1).max(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Mode> {
        mode(&Flags { userns: Some(text.to_owned()), ..Flags::default() })
    }

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn modes_are_podmans_and_what_is_not_served_is_named() {
        assert_eq!(mode(&Flags::default()).unwrap(), Mode::Host);
        assert_eq!(of("auto:size=2000").unwrap(), Mode::Auto { size: Some(2000) });
        assert_eq!(of("keep-id:uid=5,gid=6").unwrap(), Mode::KeepId { uid: Some(5), gid: Some(6) });
        for bad in
            ["nomap", "auto:size=0", "auto:size=x", "auto:uid=1", "keep-id:size=1", "host:uid=1", "ns:/x"]
        {
            let e = of(bad).unwrap_err().to_string();
            assert!(e.contains("--userns"), "{bad}: {e}");
        }
    }

    #[test]
    fn two_ids_take_each_other_s_place_and_all_others_stay() {
        let own = [map(0, 1001, 1), map(1, 100_000, 65536)];
        let kept = exchange(&own, 0, 1001);
        let expected =
            [map(1001, 1001, 1), map(1, 100_000, 1000), map(0, 101_000, 1), map(1002, 101_001, 64535)];
        assert_eq!(kept, expected);
        assert_eq!(exchange(&own, 0, 0), own);
        assert_eq!(
            exchange(&all(), 0, 7),
            [map(7, 0, 1), map(1, 1, 6), map(0, 7, 1), map(8, 8, u32::MAX - 8)]
        );
        // 70000 has no place: it takes that of 0.
        assert_eq!(exchange(&[map(0, 5000, 1000)], 0, 70_000), [map(70_000, 5000, 1), map(1, 5001, 999)]);
    }

    #[test]
    fn an_ordinary_user_is_nobody_unless_the_command_is() {
        assert_eq!(own(5000, 1000, None, true), [map(0, 5000, 1000)]);
        assert_eq!(own(5000, 1000, Some(1001), false), [map(0, 5000, 1000), map(65534, 1001, 1)]);
        let both = own(5000, 1000, Some(1001), true);
        assert_eq!(both, [map(0, 5000, 1000), map(65534, 6000, 1), map(65533, 1001, 1)]);
        assert_eq!(
            (claimed(1000, Some(1), true), claimed(1000, Some(1), false), claimed(1000, None, true)),
            (1001, 1000, 1000)
        );
    }

    #[test]
    fn an_image_needs_as_many_ids_as_it_names() {
        let who = super::super::user::Who::default();
        assert_eq!(needed(["root:x:0:0::/:\nnobody:x:65534:65534::/:", ""], &who), 1024);
        assert_eq!(needed(["", "big:x:5000:\n"], &who), 5001);
    }
}
