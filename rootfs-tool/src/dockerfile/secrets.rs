//! `--secret` and `--ssh`: what a RUN may see, and no layer holds.

use std::path::PathBuf;

use coracle_sys::{Context, Error, Result, file};

/// A secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Secret {
    pub(crate) id: String,
    from: Origin,
}

#[derive(Clone, Debug, PartialEq)]
enum Origin {
    File(PathBuf),
    Variable(String),
}

impl std::str::FromStr for Secret {
    type Err = Error;

    /// `id=ID[,src=FILE][,env=NAME][,type=file|env]`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::usage(format!("--secret {text:?}: {why}"));
        let (mut id, mut src, mut env, mut kind) = (None, None, None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("id", v)) => id = Some(v.to_owned()),
                Some(("src" | "source", v)) => src = Some(v.to_owned()),
                Some(("env", v)) => env = Some(v.to_owned()),
                Some(("type", v @ ("file" | "env"))) => kind = Some(v.to_owned()),
                _ => return Err(bad("it is id=ID[,src=FILE][,env=NAME][,type=file|env]")),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("id is missing"))?;
        let variable = std::env::var_os(&id).is_some();
        let from = match (src, env, kind.as_deref()) {
            (Some(_), Some(_), _) => return Err(bad("src and env exclude each other")),
            (Some(name), None, Some("env")) | (None, Some(name), _) => Origin::Variable(name),
            (Some(path), None, _) => Origin::File(path.into()),
            (None, None, Some("env")) => Origin::Variable(id.clone()),
            (None, None, None) if variable => Origin::Variable(id.clone()),
            (None, None, _) => Origin::File(id.clone().into()),
        };
        Ok(Self { id, from })
    }
}

impl Secret {
    /// What it is.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let wrap = || format!("read the secret {}", self.id);
        match &self.from {
            Origin::File(path) => {
                let bytes = file::read_plain(path).context(wrap)?;
                match bytes.len() > 500 << 10 {
                    true => Err(Error::invalid(format!("{}: it has more than 500 KiB", wrap()))),
                    false => Ok(bytes),
                }
            }
            Origin::Variable(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| Error::not_found(format!("{}: the variable {name} is not set", wrap())))?;
                Ok(value.into_encoded_bytes())
            }
        }
    }
}

/// `--ssh ID[=SOCKET]`: the id, and the agent's socket.
pub(crate) fn agent(text: &str) -> Result<(String, PathBuf)> {
    use std::os::unix::fs::FileTypeExt;
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let path = match path {
        "" => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| {
            Error::usage(format!(
                "--ssh {text}: SSH_AUTH_SOCK is not set; --ssh {id}=SOCKET names the agent's socket"
            ))
        })?,
        path => PathBuf::from(path),
    };
    let is_socket = path.metadata().is_ok_and(|m| m.file_type().is_socket());
    match is_socket {
        true => Ok((id.to_owned(), path)),
        false => Err(Error::usage(format!("--ssh {text}: {} is no agent's socket", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_files_or_variables() {
        let of = |text: &str| text.parse::<Secret>().map(|s| s.from);
        assert_eq!(of("id=a,src=/x").unwrap(), Origin::File("/x".into()));
        assert_eq!(of("id=a,env=B").unwrap(), Origin::Variable("B".into()));
        assert_eq!(of("id=a,type=env,src=B").unwrap(), Origin::Variable("B".into()));
        assert_eq!(of("id=no/such/variable").unwrap(), Origin::File("no/such/variable".into()));
        for bad in ["", "src=/x", "id=a,frob=1", "id=a,src=b,env=c", "id="] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
