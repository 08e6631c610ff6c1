//! Who the command runs as: `USER[:GROUP]` by the image's own /etc/passwd and /etc/group. Only their
//! text is looked at here; opening them safely is the caller's work.

use coracle_sys::{Error, Result};

/// A user, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// All groups, the first one first.
    pub(crate) groups: Vec<u32>,
    /// The home directory, where the user has an entry.
    pub(crate) home: Option<String>,
}

/// The highest id: the one above it means "leave it as it is" to setresuid(2).
const HIGHEST: u32 = u32::MAX - 1;

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolve `user` (empty: root) and the groups of `--group-add`.
pub(crate) fn resolve(user: &str, add: &[String], passwd: &str, group: &str) -> Result<Who> {
    if user.chars().any(char::is_control) {
        return Err(Error::usage(format!("user {user:?} holds control characters")));
    }
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // Digits are never a name, whatever an image's passwd says.
    let number = id(user, "user")?;
    let entry = passwd.lines().filter_map(parse_user).find(|e| match number {
        Some(uid) => e.uid == uid,
        None => e.name == user,
    });
    let mut who = match (entry.as_ref(), number) {
        (Some(e), _) => Who { uid: e.uid, gid: e.gid, groups: Vec::new(), home: home(e.home) },
        (None, Some(uid)) => Who { uid, ..Who::default() },
        (None, None) => {
            return Err(Error::not_found(format!(
                "unable to find user {user}: no matching entries in the image's /etc/passwd"
            )));
        }
    };
    match wanted_group {
        Some(name) => who.gid = group_id(name, group)?,
        None => {
            if let Some(entry) = &entry {
                let member = |members: &str| members.split(',').any(|m| m == entry.name);
                who.groups = groups(group).filter(|(_, _, m)| member(m)).map(|(_, gid, _)| gid).collect();
            }
        }
    }
    for name in add {
        who.groups.push(group_id(name, group)?);
    }
    who.groups.insert(0, who.gid);
    let mut seen = Vec::new();
    who.groups.retain(|gid| {
        !seen.contains(gid) && {
            seen.push(*gid);
            true
        }
    });
    Ok(who)
}

fn group_id(name: &str, group: &str) -> Result<u32> {
    if let Some(gid) = id(name, "group")? {
        return Ok(gid);
    }
    let found = groups(group).find(|(n, _, _)| *n == name).map(|(_, gid, _)| gid);
    found.ok_or_else(|| {
        Error::not_found(format!(
            "unable to find group {name}: no matching entries in the image's /etc/group"
        ))
    })
}

/// The number, if the word is all digits.
fn id(word: &str, what: &str) -> Result<Option<u32>> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<u32>() {
        Ok(number) if number <= HIGHEST => Ok(Some(number)),
        _ => Err(Error::usage(format!("{what} id {word} is above {HIGHEST}"))),
    }
}

fn parse_user(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok().filter(|id| *id <= HIGHEST)?;
    let gid = fields.next()?.parse().ok().filter(|id| *id <= HIGHEST)?;
    let _gecos = fields.next();
    Some(Entry { name, uid, gid, home: fields.next().unwrap_or("") })
}

/// Name, id and members of each group.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let _password = fields.next()?;
        let gid = fields.next()?.parse().ok().filter(|id| *id <= HIGHEST)?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

/// A home that would put something else into the environment is none.
fn home(text: &str) -> Option<String> {
    (text.starts_with('/') && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nann:x:1001:100::/home/ann:/bin/sh\n\
        bad:x:4294967295:0::/:\nodd:x:7:7::/h\u{1}:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\naudio:x:29:ann\n";

    fn of(user: &str, add: &[&str]) -> Result<Who> {
        let add: Vec<String> = add.iter().map(|s| (*s).to_owned()).collect();
        resolve(user, &add, PASSWD, GROUP)
    }

    fn who(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Who {
        Who { uid, gid, groups: groups.to_vec(), home: home.map(str::to_owned) }
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        for (user, add, expected) in [
            ("", vec![], who(0, 0, &[0, 10], Some("/root"))),
            ("ann", vec![], who(1001, 100, &[100, 10, 29], Some("/home/ann"))),
            ("1001", vec![], who(1001, 100, &[100, 10, 29], Some("/home/ann"))),
            ("ann:audio", vec![], who(1001, 29, &[29], Some("/home/ann"))),
            ("5:6", vec!["wheel", "6", "10"], who(5, 6, &[6, 10], None)),
            ("1000", vec![], who(1000, 0, &[0], None)),
            ("odd", vec![], who(7, 7, &[7], None)),
            ("4294967294", vec![], who(4294967294, 0, &[0], None)),
        ] {
            assert_eq!(of(user, &add).unwrap(), expected, "{user}");
        }
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused_and_never_becomes_root() {
        for user in [
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "nobody",
            "bad",
            "-1",
            "+1",
            "ann:nogroup",
            "0:4294967295",
            "a\nb",
            "1 ",
        ] {
            assert!(of(user, &[]).is_err(), "{user:?}");
        }
    }
}
