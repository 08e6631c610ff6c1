//! `--secret`: a file of the host's for this container alone. It is kept in memory, read anew at each start, and neither
//! in the record nor in what the container writes.

use std::path::{Path, PathBuf};

use coracle_sys::{Error, Result};

/// As podman has it.
const MAX: usize = 512_000;

/// One secret.
#[derive(Debug, PartialEq)]
pub(crate) struct Secret {
    /// The host's file.
    pub(crate) source: PathBuf,
    pub(crate) kind: Kind,
}

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// A file, with its owner and mode.
    File { at: PathBuf, uid: u32, gid: u32, mode: u32 },
    /// A variable of the command's.
    Variable(String),
}

/// Read the flag, as it is meant in the folder `here`.
pub(crate) fn parse(text: &str, here: &Path) -> Result<Secret> {
    let wrong = |why: String| Error::usage(format!("--secret {text:?}: {why}"));
    let (mut id, mut source, mut target, mut env) = (None, None, None, false);
    let (mut uid, mut gid, mut mode) = (0, 0, 0o444);
    for (n, field) in text.split(',').enumerate() {
        let number = |v: &str, radix| u32::from_str_radix(v, radix).ok().filter(|n| *n < u32::MAX);
        match field.split_once('=') {
            None if n == 0 && !field.is_empty() => id = Some(field),
            Some(("id", v)) => id = Some(v),
            Some(("src" | "source", v)) if !v.is_empty() => source = Some(v),
            Some(("target" | "dst" | "destination", v)) if !v.is_empty() => target = Some(v),
            Some(("type", "mount" | "file")) => env = false,
            Some(("type", "env")) => env = true,
            Some(("uid", v)) if number(v, 10).is_some() => uid = number(v, 10).unwrap_or_default(),
            Some(("gid", v)) if number(v, 10).is_some() => gid = number(v, 10).unwrap_or_default(),
            Some(("mode", v)) if number(v, 8).is_some_and(|m| m <= 0o777) => {
                mode = number(v, 8).unwrap_or_default();
            }
            _ => return Err(wrong(format!("{field:?} is unknown, not supported or lacks its value"))),
        }
    }
    let source =
        source.ok_or_else(|| wrong("src=FILE is missing: there is no store of secrets".to_owned()))?;
    let source = if source.starts_with('/') { source.into() } else { here.join(source) };
    let name = match id.or_else(|| source.file_name()?.to_str()) {
        Some(name) if !name.is_empty() && !name.contains('/') && name != "." && name != ".." => name,
        _ => return Err(wrong("id= is a name without slashes".to_owned())),
    };
    let kind = match (env, target) {
        (true, target) => {
            let name = target.unwrap_or(name);
            if name.contains('=') {
                return Err(wrong(format!("{name:?} is no variable's name")));
            }
            Kind::Variable(name.to_owned())
        }
        (false, target) => {
            let at = crate::rootfs::clean(&Path::new("/run/secrets").join(target.unwrap_or(name)));
            if at == Path::new("/") || at == Path::new("/run/secrets") {
                return Err(wrong("the target is no file's path".to_owned()));
            }
            Kind::File { at, uid, gid, mode }
        }
    };
    Ok(Secret { source, kind })
}

impl Secret {
    /// What the file holds.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let bytes = coracle_sys::file::read_plain(&self.source)?;
        match bytes.len() {
            0..=MAX => Ok(bytes),
            _ => Err(Error::invalid(format!("{:?} is larger than {MAX} bytes", self.source))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let of = |text: &str| parse(text, Path::new("/here"));
        let file = |at: &str, uid, gid, mode| Kind::File { at: at.into(), uid, gid, mode };
        for (text, source, kind) in [
            ("id=a,src=f", "/here/f", file("/run/secrets/a", 0, 0, 0o444)),
            ("a,src=/f,uid=1,gid=2,mode=0400", "/f", file("/run/secrets/a", 1, 2, 0o400)),
            ("src=/x/key,target=/etc/key", "/x/key", file("/etc/key", 0, 0, 0o444)),
            ("src=/x/key,target=sub/key", "/x/key", file("/run/secrets/sub/key", 0, 0, 0o444)),
            ("a,src=f,type=env", "/here/f", Kind::Variable("a".into())),
            ("a,src=f,type=env,target=B", "/here/f", Kind::Variable("B".into())),
        ] {
            assert_eq!(of(text).unwrap(), Secret { source: source.into(), kind }, "{text}");
        }
        for bad in [
            "",
            "a",
            "id=a",
            "id=a/b,src=f",
            "id=..,src=f",
            "a,src=f,mode=9",
            "a,src=f,uid=x",
            "a,src=f,frob=1",
            "a,src=f,target=/",
            "a,src=f,target=.",
            "a,src=f,type=x",
            "a,src=",
        ] {
            assert!(of(bad).unwrap_err().to_string().contains("--secret"), "{bad:?}");
        }
    }
}
