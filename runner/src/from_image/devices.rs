//! Which of the host's devices a container gets: those that `--device` names, or all.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use coracle_sys::{Error, Result};

use super::flags::Flags;
use crate::spec::Device;
use crate::spec::resources::DeviceRule;

/// Those of the flags; of a privileged container all that the host has, unless it is in a user namespace,
/// where nodes cannot be made.
pub(super) fn asked(flags: &Flags, user_namespace: bool) -> Result<Vec<Device>> {
    let mut all = Vec::new();
    if flags.privileged && !user_namespace {
        below(Path::new("/dev"), &mut all);
    }
    for device in named(flags)? {
        all.retain(|d: &Device| d.path != device.path);
        all.push(device);
    }
    Ok(all)
}

/// Every node of a folder and those below. What cannot be looked at is left out, and what each container has
/// of its own: terminals, /dev/shm and the like.
fn below(dir: &Path, all: &mut Vec<Device>) {
    const OWN: [&str; 10] =
        ["pts", "ptmx", "shm", "mqueue", "fd", "console", ".lxc", ".lxd-mounts", ".udev", "hugepages"];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&path, all),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                all.extend(host_device(&path, &path));
            }
            _ => {}
        }
    }
}

/// What may be done with a device: of those that `--device` names what stands behind it, with others all.
pub(super) fn access(flags: &Flags, device: &Device) -> String {
    let named = flags.device.iter().rev().filter_map(|text| parts(text).ok());
    let of = named.filter(|(_, at, _)| Path::new(at) == device.path).map(|(.., access)| access).next();
    of.unwrap_or(ALL).to_owned()
}

/// `--device-cgroup-rule "c 189:* rmw"`: what may be done with devices beside those that are named.
pub(super) fn rules(flags: &Flags) -> Result<Vec<DeviceRule>> {
    let read = |text: &String| {
        let wrong = || {
            Error::usage(format!(
                "--device-cgroup-rule {text:?}: it is a|b|c MAJOR:MINOR rwm, with * for all"
            ))
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { return Err(wrong()) };
        let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            text => text.parse::<u32>().map(|n| Some(n.into())).map_err(|_| wrong()),
        };
        if !is_access(access) {
            return Err(wrong());
        }
        Ok(DeviceRule {
            allow: true,
            kind: Some(kind.to_owned()),
            major: number(major)?,
            minor: number(minor)?,
            access: Some(access.to_owned()),
        })
    };
    flags.device_cgroup_rule.iter().map(read).collect()
}

/// No rule: what takes one is refused.
pub(super) fn without_rules(flags: &Flags) -> Result<Vec<DeviceRule>> {
    let less =
        flags.device.iter().find(|text| parts(text).is_ok_and(|(.., access)| access.len() < ALL.len()));
    let asked = less.map(|text| format!("--device {text:?}"));
    let asked = asked.or_else(|| flags.device_cgroup_rule.first().map(|_| "--device-cgroup-rule".to_owned()));
    match asked {
        None => Ok(Vec::new()),
        Some(flag) => Err(Error::unsupported(format!(
            "{flag}: in a user namespace there are no rules for devices: what may be done with them is their owner's to say"
        ))),
    }
}

const ALL: &str = "rwm";

fn is_access(text: &str) -> bool {
    (1..=3).contains(&text.len())
        && text.bytes().enumerate().all(|(n, b)| b"rwm".contains(&b) && !text.as_bytes()[..n].contains(&b))
}

/// `PATH[:PATH][:ACCESS]`: outside, inside, and what may be done.
fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let wrong = || Error::usage(format!("--device {text:?}: it is /PATH[:/PATH][:rwm]"));
    let words: Vec<&str> = text.split(':').collect();
    let (source, at, access) = match words[..] {
        [source] => (source, source, ALL),
        [source, at] if at.starts_with('/') => (source, at, ALL),
        [source, access] => (source, source, access),
        [source, at, access] => (source, at, access),
        _ => return Err(wrong()),
    };
    match source.starts_with('/') && at.starts_with('/') && is_access(access) {
        true => Ok((source, at, access)),
        false => Err(wrong()),
    }
}

/// Those of `--device`.
fn named(flags: &Flags) -> Result<Vec<Device>> {
    let read = |text: &String| {
        let (source, at, _) = parts(text)?;
        host_device(Path::new(source), Path::new(at)).map_err(|e| e.wrap("--device"))
    };
    flags.device.iter().map(read).collect()
}
/// The numbers of a block device of the host.
pub(super) fn block(device: &Path, flag: &str) -> Result<(i64, i64)> {
    match host_device(device, device) {
        Ok(Device { kind, major: Some(major), minor: Some(minor), .. }) if kind == "b" => Ok((major, minor)),
        Ok(_) => Err(Error::usage(format!("{flag}: {device:?} is no block device"))),
        Err(e) => Err(e.wrap(flag.to_owned())),
    }
}

fn host_device(source: &Path, at: &Path) -> Result<Device> {
    use nix::sys::stat::{SFlag, major, minor, stat};
    let info = stat(source).map_err(|e| Error::syscall(format!("stat({source:?})"), e))?;
    let kind = match SFlag::from_bits_truncate(info.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => return Err(Error::usage(format!("{source:?} is no device"))),
    };
    Ok(Device {
        kind: kind.to_owned(),
        path: at.to_path_buf(),
        major: Some(major(info.st_rdev).cast_signed()),
        minor: Some(minor(info.st_rdev).cast_signed()),
        file_mode: Some(info.st_mode & 0o777),
        uid: Some(info.st_uid),
        gid: Some(info.st_gid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_where_it_is_outside_and_inside_with_what_may_be_done() {
        for (text, means) in [
            ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
            ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
            ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
            ("/dev/a:/dev/b:mr", ("/dev/a", "/dev/b", "mr")),
        ] {
            assert_eq!(parts(text).unwrap(), means, "{text}");
        }
        for wrong in ["", "a", "/a:b", "/a:/b:", "/a:/b:x", "/a:rr", "/a:/b:r:w", "/a:rwmr", ":/b"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_rules_all_access_is_all_that_can_be_given() {
        let flags = |device: &str, rules: &[&str]| Flags {
            device: vec![device.to_owned()],
            device_cgroup_rule: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            ..Flags::default()
        };
        assert_eq!(without_rules(&flags("/dev/a:rwm", &[])).unwrap(), []);
        let refused = |flags: &Flags| without_rules(flags).unwrap_err().to_string();
        assert!(refused(&flags("/dev/a:/dev/b:r", &[])).starts_with("--device \"/dev/a:/dev/b:r\": "));
        assert!(refused(&flags("/dev/a", &["c 1:2 r"])).starts_with("--device-cgroup-rule: "));
    }

    #[test]
    fn further_devices_are_a_kind_numbers_and_what_may_be_done() {
        let of = |text: &str| rules(&Flags { device_cgroup_rule: vec![text.to_owned()], ..Flags::default() });
        let rule = of("c 189:* rw").unwrap().remove(0);
        assert_eq!((rule.kind.as_deref(), rule.major, rule.minor), (Some("c"), Some(189), None));
        assert_eq!((rule.allow, rule.access.as_deref()), (true, Some("rw")));
        for wrong in
            ["", "c", "c 1:2", "d 1:2 r", "c 1 r", "c -1:2 r", "c 1:2 x", "c 1:2 r w", "c 1:99999999999 r"]
        {
            assert!(of(wrong).unwrap_err().to_string().starts_with("--device-cgroup-rule"), "{wrong}");
        }
    }
}
