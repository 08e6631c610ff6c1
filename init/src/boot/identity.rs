//! As whom a command runs: `USER[:GROUP]` by number or by the root's own /etc/passwd and /etc/group.

use core::ffi::CStr;

use super::fault::{OrFault, Result};
use crate::sys::machine;
use crate::text::{cut, number, parts};

/// How many groups there may be beside the first.
const GROUPS: usize = 64;

/// Numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
    groups: [u32; GROUPS],
    count: usize,
}

impl Identity {
    /// Read them: `USER`, `USER:GROUP`, and the further groups `GROUP,GROUP`. A user without a group has that of
    /// /etc/passwd, else the one of its own number.
    pub(crate) fn read(user: Option<&'static CStr>, groups: Option<&'static CStr>) -> Result<Self> {
        let mut identity = Self { user: 0, group: 0, groups: [0; GROUPS], count: 0 };
        if let Some(text) = user.map(CStr::to_bytes) {
            let (user, group) = cut(text, b':').map_or((text, None), |(user, group)| (user, Some(group)));
            let known = look_up(c"/etc/passwd", user);
            let number = plain(user).or(known.map(|(user, _)| user));
            identity.user = number.or_fault(b"find user", user, b"no such user in /etc/passwd")?;
            identity.group = match group {
                Some(group) => group_number(group)?,
                None => known.map_or(identity.user, |(_, group)| group),
            };
        }
        let words = parts(groups.unwrap_or_default().to_bytes(), b',');
        for word in words.filter(|word| !word.is_empty()) {
            let slot = identity.groups.get_mut(identity.count);
            *slot.or_refusal(b"groups", b"more than 64")? = group_number(word)?;
            identity.count += 1;
        }
        Ok(identity)
    }

    /// The groups beside the first.
    pub(crate) fn groups(&self) -> &[u32] {
        self.groups.get(..self.count).unwrap_or_default()
    }
}

fn group_number(text: &'static [u8]) -> Result<u32> {
    let known = || look_up(c"/etc/group", text).map(|(group, _)| group);
    plain(text).or_else(known).or_fault(b"find group", text, b"no such group in /etc/group")
}

fn plain(text: &[u8]) -> Option<u32> {
    // The last number means "no change" to the kernel.
    number(text).and_then(|number| u32::try_from(number).ok()).filter(|number| *number != u32::MAX)
}

fn look_up(file: &CStr, name: &[u8]) -> Option<(u32, u32)> {
    let mut found = None;
    let _ = machine::with_mapped(file, &mut |text| found = find(text, name));
    found
}

/// The third and the fourth field of the line with this name, or with this number, in passwd(5) and group(5).
fn find(text: &[u8], name: &[u8]) -> Option<(u32, u32)> {
    parts(text, b'\n').find_map(|line| {
        let mut fields = parts(line, b':');
        let (first, _, third, fourth) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
        let id = plain(third)?;
        (first == name || third == name).then(|| (id, fourth.and_then(plain).unwrap_or(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_file() {
        let identity = Identity::read(Some(c"1234:567"), Some(c"1,2,")).unwrap();
        assert_eq!((identity.user, identity.group, identity.groups()), (1234, 567, &[1, 2][..]));
        let nobody_said = Identity::read(None, None).unwrap();
        assert_eq!((nobody_said.user, nobody_said.group, nobody_said.groups()), (0, 0, &[][..]));
    }

    #[test]
    fn names_are_found_in_the_roots_files() {
        let passwd = b"# x\nroot:x:0:0:r:/root:/bin/sh\nbad\nweb:x:33:44::/:\n";
        assert_eq!(find(passwd, b"web"), Some((33, 44)));
        assert_eq!(find(passwd, b"33"), Some((33, 44)));
        assert_eq!(find(b"adm:x:4:web,root\n", b"adm"), Some((4, 4)));
        assert_eq!((find(passwd, b"we"), find(passwd, b""), find(b"", b"")), (None, None, None));
    }

    #[test]
    fn what_is_nobody_is_refused() {
        for (user, groups) in
            [("no such", ""), ("", ""), ("0:no such", ""), ("4294967295", ""), ("0", "-1"), ("0:", "")]
        {
            let text = |text: &str| -> &'static CStr {
                Box::leak(std::ffi::CString::new(text).unwrap().into_boxed_c_str())
            };
            assert!(Identity::read(Some(text(user)), Some(text(groups))).is_err(), "{user} {groups}");
        }
    }
}
