//! What every root filesystem has: the directories that programs take for granted and the smallest
//! etc. All of it is data; it goes into a layer that says `standard = true`, and users and groups
//! into the layer that names them.

use std::path::Path;

use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::Result;

use crate::recipe::{Group, User};

/// Directories and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/local", 0o755),
    ("usr/sbin", 0o755),
    ("usr/share", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Files.
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
];

/// Links.
const LINKS: &[(&str, &str)] = &[("var/run", "/run")];

/// Put what is standard where the layer has nothing yet.
pub(crate) fn fill(archive: &mut Archive) -> Result<()> {
    let directories = DIRECTORIES.iter().map(|(path, mode)| (*path, *mode, Content::Dir));
    let files = FILES.iter().map(|(path, text)| (*path, 0o644, Content::Bytes(text.as_bytes().to_vec())));
    let links = LINKS.iter().map(|(path, to)| (*path, 0o777, Content::Symlink(to.into())));
    for (path, mode, content) in directories.chain(files).chain(links) {
        if archive.get(path).is_none_or(|(_, have)| *have == Content::Dir && content == Content::Dir) {
            archive.put(path, Meta::new(mode), content)?;
        }
    }
    Ok(())
}

/// Add users and groups. `below` reads a file of the layers below.
pub(crate) fn people(
    archive: &mut Archive,
    users: &[User],
    groups: &[Group],
    below: impl Fn(&str) -> Result<Option<String>>,
) -> Result<()> {
    let mut passwd = String::new();
    let mut group = String::new();
    for u in users {
        let gid = u.gid.unwrap_or(u.uid);
        let home = u.home.as_deref().unwrap_or("/");
        let shell = u.shell.as_deref().unwrap_or("/bin/sh");
        passwd.push_str(&format!("{}:x:{}:{gid}::{home}:{shell}\n", u.name, u.uid));
        if !groups.iter().any(|g| g.gid == gid) {
            group.push_str(&format!("{}:x:{gid}:\n", u.name));
        }
        if let Some(home) = &u.home
            && archive.get(home).is_none()
        {
            let owner = Meta { uid: u.uid, gid, ..Meta::new(0o755) };
            archive.put(home, owner, Content::Dir)?;
        }
    }
    for g in groups {
        group.push_str(&format!("{}:x:{}:{}\n", g.name, g.gid, g.members.join(",")));
    }
    for (path, lines) in [("etc/passwd", passwd), ("etc/group", group)] {
        if lines.is_empty() {
            continue;
        }
        let have = match archive.get(path) {
            Some((_, Content::Bytes(b))) => String::from_utf8_lossy(b).into_owned(),
            Some((_, Content::File { path, .. })) => read(path)?,
            _ => below(path)?.unwrap_or_default(),
        };
        let names: Vec<&str> = lines.lines().filter_map(|l| l.split(':').next()).collect();
        // A name that is there already gives way.
        let kept = have.lines().filter(|l| !names.contains(&l.split(':').next().unwrap_or_default()));
        let text: String = kept.chain(lines.lines()).flat_map(|l| [l, "\n"]).collect();
        archive.put(path, Meta::new(0o644), Content::Bytes(text.into_bytes()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&coracle_sys::file::read(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_added_to_those_below_and_get_a_group_and_a_home() {
        let mut archive = Archive::new();
        let user = |name: &str, uid| User {
            name: name.into(),
            uid,
            gid: None,
            home: Some(format!("/home/{name}")),
            shell: None,
        };
        let below =
            |path: &str| Ok((path == "etc/passwd").then(|| "root:x:0:0::/:/bin/sh\nold:x:7:7::/:\n".into()));
        people(&mut archive, &[user("me", 1000), user("old", 8)], &[], below).unwrap();
        let text = |path: &str| match archive.get(path).unwrap().1 {
            Content::Bytes(b) => String::from_utf8(b.clone()).unwrap(),
            _ => panic!("{path}"),
        };
        assert_eq!(
            text("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nold:x:8:8::/home/old:/bin/sh\n"
        );
        assert_eq!(text("etc/group"), "me:x:1000:\nold:x:8:\n");
        assert_eq!(archive.get("home/me").unwrap().0.uid, 1000);
    }
}
