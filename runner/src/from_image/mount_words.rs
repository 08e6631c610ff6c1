//! `--mount`, in words: `type=bind,src=/a,dst=/b,readonly`. Every key that docker has is served or refused by name.

use std::path::Path;

use coracle_sys::{Error, Result, quantity};

use super::mounts::{Asked, Origin, Words, from, propagate, target, tmpfs_defaults, volume_name};
use crate::mounts::SUBDIR;

/// What was typed, key by key.
struct Typed<'a> {
    text: &'a str,
    kind: &'a str,
    source: Option<&'a str>,
    at: Option<&'a str>,
    readonly: bool,
    /// `bind-recursive`.
    recursive: Option<&'a str>,
    propagation: Option<&'a str>,
    inner: Option<&'a str>,
    options: Vec<String>,
    copy: bool,
    own: bool,
    note: (Words, Words),
}

/// Read it, as it is meant in the folder `here`.
pub(crate) fn mount(text: &str, here: &Path) -> Result<Asked> {
    let mut typed = Typed {
        text,
        kind: "volume",
        source: None,
        at: None,
        readonly: false,
        recursive: None,
        propagation: None,
        inner: None,
        options: Vec::new(),
        copy: true,
        own: false,
        note: Default::default(),
    };
    let fields: Vec<(&str, Option<&str>)> =
        text.split(',').map(|f| f.split_once('=').map_or((f, None), |(k, v)| (k, Some(v)))).collect();
    // What a key means depends on the type, which may stand behind it.
    if let Some((_, Some(kind))) = fields.iter().rev().find(|(key, _)| *key == "type") {
        typed.kind = kind;
    }
    if !matches!(typed.kind, "bind" | "volume" | "tmpfs") {
        return Err(typed.wrong(&format!("the type is bind, volume or tmpfs, not {:?}", typed.kind)));
    }
    fields.into_iter().try_for_each(|(key, value)| typed.take(key, value))?;
    typed.meant(here)
}

impl<'a> Typed<'a> {
    fn wrong(&self, why: &str) -> Error {
        Error::usage(format!("--mount {:?}: {why}", self.text))
    }

    fn truth(&self, key: &str, value: Option<&str>) -> Result<bool> {
        match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(self.wrong(&format!("{key} is true or false, not {other:?}"))),
        }
    }

    fn take(&mut self, key: &str, value: Option<&'a str>) -> Result<()> {
        for kind in ["bind", "volume", "tmpfs"] {
            if key.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')) && self.kind != kind {
                return Err(self.wrong(&format!(
                    "cannot mix '{kind}-*' options with mount type '{}': {key}",
                    self.kind
                )));
            }
        }
        match (key, value) {
            ("type", Some(_)) => {}
            ("source" | "src", Some(v)) => self.source = Some(v),
            ("destination" | "dst" | "target", Some(v)) => self.at = Some(v),
            ("readonly" | "ro", v) => self.readonly = self.truth(key, v)?,
            // The page cache is one: all of them are how a mount always is on Linux.
            ("consistency", Some(_)) => {}
            ("volume-nocopy", v) => self.copy = !self.truth(key, v)?,
            ("volume-subpath", Some(v)) if is_inside(v) => self.inner = Some(v),
            ("volume-subpath", Some(v)) => {
                return Err(self.wrong(&format!("volume-subpath {v:?}: it is a path inside the volume")));
            }
            ("volume-driver", Some("local")) => {}
            ("volume-label", Some(v)) => {
                let (name, value) = v.split_once('=').unwrap_or((v, ""));
                self.note.0.insert(name.to_owned(), value.to_owned());
            }
            ("volume-opt", Some(v)) => {
                let (name, value) = v.split_once('=').unwrap_or((v, ""));
                self.note.1.insert(name.to_owned(), value.to_owned());
            }
            (
                "bind-propagation",
                Some(v @ ("private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")),
            ) => {
                self.propagation = Some(v);
            }
            ("bind-nonrecursive", v) => self.recursive = self.truth(key, v)?.then_some("disabled"),
            ("bind-recursive", Some(v @ ("enabled" | "disabled" | "writable" | "readonly"))) => {
                self.recursive = Some(v);
            }
            ("tmpfs-size", Some(v)) => {
                self.options.push(format!("size={}", quantity::size(v, "tmpfs-size")?))
            }
            ("tmpfs-mode", Some(v)) if u32::from_str_radix(v, 8).is_ok_and(|mode| mode <= 0o7777) => {
                self.options.push(format!("mode={v}"));
            }
            // podman's.
            ("idmap", None | Some("true")) if self.kind != "tmpfs" => self.options.push("idmap".to_owned()),
            ("U" | "chown", v) if self.kind != "tmpfs" => self.own = self.truth(key, v)?,
            (other, Some(v)) => {
                return Err(self.wrong(&format!("{other}={v} is unknown or not supported")));
            }
            (other, None) => {
                return Err(self.wrong(&format!("{other:?} is unknown, not supported or lacks its value")));
            }
        }
        Ok(())
    }

    fn meant(mut self, here: &Path) -> Result<Asked> {
        let at = self.at.ok_or_else(|| self.wrong("dst is missing"))?;
        let at = target(at).map_err(|e| self.wrong(&e.to_string()))?;
        let origin = match (self.kind, self.source) {
            ("bind", Some("")) | ("bind", None) => return Err(self.wrong("src is missing")),
            ("bind", Some(source)) => Origin::Host(from(here, source)?),
            ("tmpfs", None) => Origin::Tmpfs,
            ("tmpfs", Some(_)) => return Err(self.wrong("a tmpfs has no src")),
            (_, None | Some("")) => Origin::Volume(None),
            (_, Some(name)) => {
                Origin::Volume(Some(volume_name(name).map_err(|e| self.wrong(&e.to_string()))?))
            }
        };
        match (self.recursive, self.readonly, self.propagation) {
            (Some(word @ ("readonly" | "writable")), false, _) => {
                return Err(self.wrong(&format!("bind-recursive={word} requires 'readonly'")));
            }
            (Some("readonly"), _, word) if word != Some("rprivate") => {
                return Err(self.wrong("bind-recursive=readonly requires bind-propagation=rprivate"));
            }
            (Some("readonly"), ..) => self.options.push("rro".to_owned()),
            (_, true, _) => self.options.push("ro".to_owned()),
            _ => {}
        }
        self.options.extend(self.propagation.map(str::to_owned));
        let noted = self.note != Default::default();
        if noted && !matches!(origin, Origin::Volume(Some(_))) {
            return Err(self.wrong("volume-label and volume-opt are for volumes with names (src=NAME)"));
        }
        if let Some(inner) = self.inner {
            if !matches!(origin, Origin::Volume(Some(_))) {
                return Err(self.wrong("volume-subpath is for volumes with names (src=NAME)"));
            }
            self.options.push(format!("{SUBDIR}{inner}"));
        }
        Ok(Asked {
            at,
            options: match origin {
                Origin::Tmpfs => tmpfs_defaults(self.options),
                _ => propagate(self.options),
            },
            // What of a volume is mounted is in it already.
            copy: self.copy && self.inner.is_none() && matches!(origin, Origin::Volume(_)),
            of_image: false,
            recursive: self.recursive != Some("disabled"),
            own: self.own,
            note: noted.then_some(self.note),
            origin,
        })
    }
}

/// A path that leads nowhere else, as far as words tell; links are looked at when it is mounted.
fn is_inside(path: &str) -> bool {
    let path = Path::new(path);
    !path.as_os_str().is_empty()
        && path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::super::mounts::{image_volume, tmpfs, volume};
    use super::*;

    #[test]
    fn a_volume_begins_with_the_images_files_unless_that_is_switched_off() {
        let here = Path::new("/here");
        for (text, copy) in [("a:/b", true), ("/b", true), ("a:/b:ro", true), ("a:/b:ro,nocopy", false)] {
            assert_eq!(volume(text, here).unwrap().copy, copy, "{text}");
        }
        for (text, copy) in [
            ("src=a,dst=/b", true),
            ("src=a,dst=/b,volume-nocopy", false),
            ("src=a,dst=/b,volume-nocopy=true", false),
            ("dst=/b,volume-nocopy=false", true),
        ] {
            assert_eq!(mount(text, here).unwrap().copy, copy, "{text}");
        }
        assert!(mount("type=bind,src=/a,dst=/b,volume-nocopy", here).is_err());
        assert!(!mount("src=a,dst=/b,volume-subpath=x/y", here).unwrap().copy);
        assert!(image_volume("/b").unwrap().copy && !tmpfs("/b").unwrap().copy);
    }

    #[test]
    fn mounts_are_given_in_words() {
        let here = Path::new("/here");
        let asked = mount("type=bind,source=x,target=/y,readonly", here).unwrap();
        assert_eq!(asked.origin, Origin::Host("/here/x".into()));
        assert_eq!(asked.mount(Some(Path::new("/here/x"))).options, ["rbind", "ro", "rprivate"]);
        let asked = mount("type=tmpfs,dst=/t,tmpfs-size=1m", here).unwrap();
        assert_eq!(asked.options.last().unwrap(), "size=1048576");
        for text in [
            "",
            "type=bind,dst=/a",
            "type=x,dst=/a",
            "type=tmpfs,src=a,dst=/b",
            "src=a",
            "dst=/a,frob=1",
            "dst=/a,ro=perhaps",
            "dst=a",
            "type=bind,src=/a,dst=/b,tmpfs-size=1m",
            "type=tmpfs,dst=/b,bind-propagation=shared",
            "type=bind,src=/a,dst=/b,bind-propagation=loud",
            "type=bind,src=/a,dst=/b,bind-recursive=readonly",
            "type=bind,src=/a,dst=/b,readonly,bind-recursive=readonly",
            "type=bind,src=/a,dst=/b,bind-recursive=writable",
            "type=tmpfs,dst=/b,tmpfs-mode=99",
            "src=a,dst=/b,volume-subpath=../x",
            "src=a,dst=/b,volume-subpath=/x",
            "dst=/b,volume-subpath=x",
            "dst=/b,volume-label=x",
            "src=a,dst=/b,volume-driver=nfs",
        ] {
            assert!(mount(text, here).is_err(), "{text:?}");
        }
    }
}
