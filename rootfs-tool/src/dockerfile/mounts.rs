//! `RUN --mount`: what is asked for, as plain data.

use coracle_sys::{Error, Result};

/// A mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mount {
    pub(crate) kind: Kind,
    pub(crate) target: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) env: Option<String>,
    /// Said for a bind, or against a cache.
    pub(crate) writable: Option<bool>,
    pub(crate) required: bool,
    pub(crate) size: Option<String>,
    pub(crate) sharing: Sharing,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

/// How a value is expanded.
pub(crate) type Expand<'a> = &'a dyn Fn(&str) -> Result<String>;

fn bad(text: &str, why: &str) -> Error {
    Error::invalid(format!("--mount={text}: {why}"))
}

fn key_of(field: &str) -> (String, Option<&str>) {
    let (key, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
    (key.trim().to_ascii_lowercase(), value)
}

/// The stage or image that one names. It is known before there are variables.
pub(crate) fn from(text: &str) -> Result<Option<String>> {
    let of = |field| match key_of(field) {
        (key, Some(value)) if key == "from" => Some(value.to_owned()),
        _ => None,
    };
    match text.split(',').filter_map(of).next_back() {
        Some(name) if name.contains('$') => {
            Err(bad(text, "'from' doesn't support variable expansion, define alias stage instead"))
        }
        name => Ok(name.filter(|n| !n.is_empty())),
    }
}

/// Read one. What stands behind each key may have variables.
pub(crate) fn parse(text: &str, expand: Expand<'_>) -> Result<Mount> {
    let bad = |why: String| bad(text, &why);
    let mut out = Mount { from: from(text)?, ..Mount::default() };
    for field in text.split(',') {
        let (key, value) = key_of(field);
        let value = value.map(expand).transpose()?;
        let value = value.as_deref();
        let said = || {
            value.map(str::to_owned).ok_or_else(|| bad(format!("invalid field '{field}': it has no value")))
        };
        let switch = || match value.map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "t" | "1") => Ok(true),
            Some("false" | "f" | "0") => Ok(false),
            Some(v) => Err(bad(format!("invalid value for {key}: {v}"))),
        };
        let number = |radix| {
            let text = said()?;
            u32::from_str_radix(&text, radix).map_err(|_| bad(format!("invalid value {text} for {key}")))
        };
        match key.as_str() {
            "type" => {
                out.kind = match said()?.to_ascii_lowercase().as_str() {
                    "bind" => Kind::Bind,
                    "cache" => Kind::Cache,
                    "tmpfs" => Kind::Tmpfs,
                    "secret" => Kind::Secret,
                    "ssh" => Kind::Ssh,
                    other => return Err(bad(format!("unsupported mount type {other:?}"))),
                };
            }
            "target" | "dst" | "destination" => out.target = Some(said()?),
            "source" | "src" => out.source = Some(said()?),
            "from" => drop(said()?),
            "id" => out.id = Some(said()?),
            "env" => out.env = Some(said()?),
            "readonly" | "ro" => out.writable = Some(!switch()?),
            "readwrite" | "rw" => out.writable = Some(switch()?),
            "required" => out.required = switch()?,
            "size" => out.size = Some(said()?),
            "mode" => out.mode = Some(number(8)?),
            "uid" => out.uid = Some(number(10)?),
            "gid" => out.gid = Some(number(10)?),
            "sharing" => {
                out.sharing = match said()?.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => return Err(bad(format!("unsupported sharing value {other:?}"))),
                };
            }
            _ => return Err(bad(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let unwanted = [
        ("from", out.from.is_some(), matches!(out.kind, Kind::Bind | Kind::Cache)),
        ("env", out.env.is_some(), out.kind == Kind::Secret),
        ("size", out.size.is_some(), out.kind == Kind::Tmpfs),
        ("source", out.source.is_some(), !matches!(out.kind, Kind::Tmpfs | Kind::Ssh)),
        ("sharing", out.sharing != Sharing::Shared, out.kind == Kind::Cache),
        ("mode", out.mode.is_some(), !matches!(out.kind, Kind::Bind | Kind::Tmpfs)),
        ("uid", out.uid.is_some(), !matches!(out.kind, Kind::Bind | Kind::Tmpfs)),
        ("gid", out.gid.is_some(), !matches!(out.kind, Kind::Bind | Kind::Tmpfs)),
    ];
    if let Some((key, ..)) = unwanted.iter().find(|(_, said, goes)| *said && !goes) {
        return Err(bad(format!("{key} does not go with this type")));
    }
    if out.kind == Kind::Secret {
        // `src` is an older word for the id.
        let last = |path: &String| path.rsplit('/').next().map(str::to_owned);
        let id = out.id.take().or_else(|| out.source.take()).or_else(|| out.target.as_ref().and_then(last));
        out.id = Some(id.ok_or_else(|| bad("id is required".to_owned()))?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount> {
        super::parse(text, &|value| Ok(value.replace("$V", "cache").replace("$C", "a,b")))
    }

    #[test]
    fn mounts_are_read_and_what_does_not_go_together_is_refused() {
        let m = parse("type=bind,from=x,source=/a,target=/b,rw").unwrap();
        assert_eq!((m.from.as_deref(), m.writable, m.target.as_deref()), (Some("x"), Some(true), Some("/b")));
        let m = parse("type=cache,target=/c,id=i,sharing=locked,mode=0700,uid=5").unwrap();
        assert_eq!((m.kind, m.sharing, m.mode, m.uid), (Kind::Cache, Sharing::Locked, Some(0o700), Some(5)));
        assert_eq!(parse("type=secret,target=/run/x/key").unwrap().id.as_deref(), Some("key"));
        assert_eq!(parse("type=secret,src=k,env=K").unwrap().id.as_deref(), Some("k"));
        assert_eq!(parse("target=/x").unwrap().kind, Kind::Bind);
        assert_eq!(parse("target=/x,from=").unwrap().from, None);
        assert_eq!(parse("type=CACHE,target=/x,ro=False,from=a,source=/s").unwrap().writable, Some(true));
        for bad in [
            "type=x,target=/a",
            "target=/a,frob",
            "target=/a,rw=perhaps",
            "type=cache,target=/a,sharing=x",
            "type=tmpfs,target=/a,from=x",
            "type=tmpfs,target=/a,source=/b",
            "type=secret",
            "target",
            "type=cache,target=/a,mode=9",
            "type=bind,target=/a,uid=5",
            "target=/a,from",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_expanded_one_by_one_and_the_stage_is_known_before() {
        let m = parse("type=$V,from=stage,target=/$C").unwrap();
        assert_eq!((m.kind, m.target.as_deref()), (Kind::Cache, Some("/a,b")));
        assert_eq!(from("type=$V,from=stage,target=/x").unwrap().as_deref(), Some("stage"));
        assert!(from("from=$V,target=/x").unwrap_err().to_string().contains("variable expansion"));
    }
}
