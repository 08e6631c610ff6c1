//! `USER[:GROUP]` by the files of the layers below: for `--chown`, and for the directories that WORKDIR makes.

use coracle_store::layer::below::Below;
use coracle_sys::{Error, Result};

/// /etc/passwd and /etc/group are refused beyond this size.
const MAX_SIZE: u64 = 10 << 20;

/// The ids that are meant. A number alone is the group as well.
pub(crate) fn resolve(text: &str, below: Option<&Below>) -> Result<(u32, u32)> {
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("the owner {text:?} holds control characters")));
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let read = |path: &str| -> Result<String> {
        let bytes = below.map(|b| b.read(path.as_bytes(), MAX_SIZE)).transpose()?.flatten();
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let (uid, primary) = match number(user)? {
        Some(uid) => (uid, uid),
        None if user.is_empty() => (0, 0),
        None => {
            let passwd = read("etc/passwd")?;
            let found = passwd.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let is_it = fields.len() >= 4 && fields[0] == user;
                Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)).filter(|_| is_it)
            });
            found.ok_or_else(|| {
                Error::not_found(format!("invalid user index: {user:?} is not in /etc/passwd"))
            })?
        }
    };
    let gid = match group {
        None => primary,
        Some(group) => match number(group)? {
            Some(gid) => gid,
            None => {
                let groups = read("etc/group")?;
                let found = groups.lines().find_map(|line| {
                    let fields: Vec<&str> = line.split(':').collect();
                    fields.get(2)?.parse().ok().filter(|_| fields[0] == group)
                });
                found.ok_or_else(|| {
                    Error::not_found(format!("invalid group index: {group:?} is not in /etc/group"))
                })?
            }
        },
    };
    Ok((uid, gid))
}

/// Digits are never a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(n) if n < u32::MAX => Ok(Some(n)),
        _ => Err(Error::invalid(format!("the id {text} is above {}", u32::MAX - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ids_and_names_need_the_files() {
        assert_eq!(resolve("5", None).unwrap(), (5, 5));
        assert_eq!(resolve("5:6", None).unwrap(), (5, 6));
        assert_eq!(resolve(":6", None).unwrap(), (0, 6));
        for bad in ["me", "0:wheel", "4294967295", "99999999999", "a\nb"] {
            assert!(resolve(bad, None).is_err(), "{bad:?}");
        }
    }
}
