//! /etc/coracle/boot.conf: what init does as the machine's first process. The command, its user, its environment are
//! those of the config.json that the runner makes of the same flags, so that a machine runs what a container would.

use coracle_sys::{Error, Result};
use serde_json::Value;

/// Where it lies.
pub(crate) const PATH: &str = "etc/coracle/boot.conf";

/// What a config.json does not say.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The signal that ends the command orderly, by name or number.
    pub(crate) stop_signal: Option<String>,
    /// There is a command; else it has services, or an init of its own.
    pub(crate) commanded: bool,
    /// The command has the console as its terminal.
    pub(crate) tty: bool,
    /// ADDRESS/PREFIX,GATEWAY,DNS of the machine's network.
    pub(crate) ip: Option<String>,
    /// SOURCE:/TARGET:TYPE:OPTIONS.
    pub(crate) mounts: Vec<String>,
    /// The upper of an overlay over the root.
    pub(crate) overlay: Option<&'static str>,
}

/// The file, of a config.json.
pub(crate) fn of(spec: &Value, beside: &Beside) -> Result<Vec<u8>> {
    let mut conf = Conf(Vec::new());
    let process = &spec["process"];
    for word in texts(&process["args"])?.into_iter().filter(|_| beside.commanded) {
        conf.line("arg", word)?;
    }
    for variable in texts(&process["env"])? {
        conf.line("env", variable)?;
    }
    conf.line("cwd", process["cwd"].as_str().unwrap_or("/"))?;
    let user = &process["user"];
    let id = |name: &str| user[name].as_u64().unwrap_or(0);
    conf.line("user", &format!("{}:{}", id("uid"), id("gid")))?;
    let groups = user["additionalGids"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let groups: Vec<String> = groups.map(|gid| gid.to_string()).collect();
    conf.line("groups", &groups.join(","))?;
    let single = [
        ("hostname", spec["hostname"].as_str()),
        ("stop-signal", beside.stop_signal.as_deref()),
        ("tty", beside.tty.then_some("1")),
        ("ip", beside.ip.as_deref()),
        ("overlay", beside.overlay),
    ];
    for (key, value) in single {
        value.filter(|v| !v.is_empty()).map_or(Ok(()), |value| conf.line(key, value))?;
    }
    beside.mounts.iter().try_for_each(|mount| conf.line("mount", mount))?;
    Ok(conf.0)
}

fn texts(list: &Value) -> Result<Vec<&str>> {
    let text = |v: &Value| v.as_str().is_none();
    match list.as_array() {
        Some(all) if all.iter().any(text) => Err(Error::invalid("read config.json: a word is no text")),
        Some(all) => Ok(all.iter().filter_map(Value::as_str).collect()),
        None => Ok(Vec::new()),
    }
}

struct Conf(Vec<u8>);

impl Conf {
    /// A value may hold any byte but NUL.
    fn line(&mut self, key: &str, value: &str) -> Result<()> {
        if value.contains('\0') {
            return Err(Error::invalid(format!("{key} {value:?} holds a NUL byte")));
        }
        let value = value.replace('\\', "\\\\").replace('\n', "\\n");
        self.0.extend_from_slice(format!("{key}={value}\n").as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_becomes_lines_whatever_its_words_hold() {
        let spec = json!({
            "hostname": "box",
            "process": {
                "args": ["sh", "-c", "echo a\\n\nexit=1", ""], "env": ["A=b=c", "PATH=/bin"], "cwd": "/tmp",
                "user": {"uid": 7, "gid": 8, "additionalGids": [8, 20]},
            },
        });
        let beside = Beside {
            commanded: true,
            stop_signal: Some("SIGINT".to_owned()),
            tty: true,
            ip: Some("10.0.2.15/24,10.0.2.2,10.0.2.3".to_owned()),
            mounts: vec!["coracle0:/src:9p:trans=virtio".to_owned()],
            overlay: Some("tmpfs"),
        };
        let expected = "arg=sh\narg=-c\narg=echo a\\\\n\\nexit=1\narg=\nenv=A=b=c\nenv=PATH=/bin\ncwd=/tmp\nuser=7:8\n\
            groups=8,20\nhostname=box\nstop-signal=SIGINT\ntty=1\nip=10.0.2.15/24,10.0.2.2,10.0.2.3\noverlay=tmpfs\n\
            mount=coracle0:/src:9p:trans=virtio\n";
        assert_eq!(String::from_utf8(of(&spec, &beside).unwrap()).unwrap(), expected);
        let least = of(&json!({"process": {"args": ["x"]}}), &Beside::default()).unwrap();
        assert_eq!(String::from_utf8(least).unwrap(), "cwd=/\nuser=0:0\ngroups=\n");
    }

    #[test]
    fn what_no_line_can_hold_is_refused() {
        for args in [json!(["a\0b"]), json!(["a", 1])] {
            let beside = Beside { commanded: true, ..Beside::default() };
            assert!(of(&json!({"process": {"args": args}}), &beside).is_err(), "{args}");
        }
    }
}
