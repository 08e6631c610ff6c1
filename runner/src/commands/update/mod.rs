//! `update`: what its flags, or a file of resources, ask to be changed. What becomes of it is [`crate::cgroups::merge`]'s
//! and the groups'.

mod image;

use std::ffi::OsString;

use argh::{CommandInfoWithArgs, FlagInfo};
use coracle_sys::{Context, Error, Kind, Result, json, quantity};
use serde_json::{Map, Value};

use super::Global;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use crate::cgroups::{self, Layout};
use crate::spec::LinuxResources;

const fn limit(long: &'static str, value: &'static str, description: &'static str) -> FlagInfo<'static> {
    typed::option(long, None, value, description)
}

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "update",
    "Change the limits of containers, of those that run at once.",
    typed::CONTAINERS,
    &[
        typed::option(
            "--resources",
            Some('r'),
            "file",
            "all limits as JSON, as linux.resources has them: {\"memory\": {\"limit\": 67108864}, \"pids\": {\"limit\": 50}}; - for standard input",
        ),
        typed::option("--memory", Some('m'), "bytes", "memory, -1 for no limit"),
        limit("--memory-swap", "bytes", "memory and swap together, -1 for no limit of swap"),
        limit("--memory-reservation", "bytes", "what is left to it when memory is short"),
        limit("--kernel-memory", "bytes", "nothing: no kernel has this limit any more"),
        limit("--kernel-memory-tcp", "bytes", "nothing: no kernel has this limit any more"),
        limit("--cpu-period", "us", "period of the quota"),
        limit("--cpu-quota", "us", "time on processors within a period, -1 for no limit"),
        limit("--cpu-burst", "us", "what may be saved up for a later period"),
        limit("--cpus", "n", "of containers of images: processors it may use, such as 1.5"),
        typed::option("--cpu-shares", Some('c'), "n", "weight beside others"),
        typed::hidden(limit("--cpu-share", "n", "the same, as runc has it")),
        limit("--cpu-idle", "0|1", "only what nobody else wants"),
        limit("--cpu-rt-period", "us", "period of real-time scheduling"),
        limit("--cpu-rt-runtime", "us", "time within it"),
        limit("--cpuset-cpus", "list", "processors it may use"),
        limit("--cpuset-mems", "list", "memory nodes it may use"),
        limit("--pids-limit", "n", "processes and threads, -1 for no limit"),
        limit("--blkio-weight", "n", "weight on block devices, 10 to 1000"),
        typed::option(
            "--restart",
            None,
            "policy",
            "of containers of images: no, on-failure[:N], always or unless-stopped",
        ),
        limit("--l3-cache-schema", "text", "Intel RDT: the share of the cache"),
        limit("--mem-bw-schema", "text", "Intel RDT: the share of the memory's bandwidth"),
    ],
    &["runner update --memory 64m --pids-limit 50 my-container", "runner update -r limits.json ID"],
);

/// How a flag's text is read.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Number,
    Size,
    Text,
}

/// The flags, and where their values stand in `linux.resources`.
const FLAGS: [(&str, &str, &str, Form); 15] = [
    ("--memory", "memory", "limit", Form::Size),
    ("--memory-swap", "memory", "swap", Form::Size),
    ("--memory-reservation", "memory", "reservation", Form::Size),
    ("--cpu-period", "cpu", "period", Form::Number),
    ("--cpu-quota", "cpu", "quota", Form::Number),
    ("--cpu-burst", "cpu", "burst", Form::Number),
    ("--cpu-shares", "cpu", "shares", Form::Number),
    ("--cpu-share", "cpu", "shares", Form::Number),
    ("--cpu-idle", "cpu", "idle", Form::Number),
    ("--cpu-rt-period", "cpu", "realtimePeriod", Form::Number),
    ("--cpu-rt-runtime", "cpu", "realtimeRuntime", Form::Number),
    ("--cpuset-cpus", "cpu", "cpus", Form::Text),
    ("--cpuset-mems", "cpu", "mems", Form::Text),
    ("--pids-limit", "pids", "limit", Form::Number),
    ("--blkio-weight", "blockIO", "weight", Form::Number),
];

/// Change them. What a container has from then on is written down, for the next change and the next start.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    match &typed.words[..] {
        [] => return Err(Error::usage("update needs the name or id of a container (see update --help)")),
        [id] => {
            let of_a_client = typed.get("--resources").is_some();
            if let Some(container) = Container::if_meant(global, id, of_a_client)? {
                return client(container, &typed);
            }
        }
        _ => {}
    }
    if typed.other_than(&[]).is_none() {
        return Err(Error::usage("update needs a flag that says what is to be changed (see update --help)"));
    }
    image::run(global, &typed)
}

/// One of an OCI client.
fn client(mut container: Container, typed: &Typed) -> Result<u8> {
    if let Some(flag) = ["--cpus", "--restart"].into_iter().find(|flag| typed.get(flag).is_some()) {
        return Err(Error::usage(format!("update {flag}: it is for containers of images")));
    }
    let mut schemata = Vec::new();
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        let Some(line) = typed.get(flag) else { continue };
        if container.state.oci.as_ref().is_none_or(|o| o.class.is_none()) {
            return Err(Error::unsupported(format!("{flag}: the container has no Intel RDT")));
        }
        schemata.push(line);
    }
    let change = change(typed)?;
    let _alone = container.hold_or_share()?;
    if container.status()? == Status::Stopped {
        return Err(Error::new(Kind::Invalid, "container not running"));
    }
    let cgroup = container.cgroup()?;
    let oci = container.state.oci.as_mut();
    let linux = oci.ok_or_else(|| Error::unsupported("update: an older version made this container"))?;
    linux.class.change(&schemata)?;
    let had = &mut linux.spec.linux.get_or_insert_default().resources;
    let had = had.get_or_insert_default();
    let merged = cgroups::merge(had, &change)?;
    // Written down first: on a full disk nothing is changed.
    let before = std::mem::replace(had, merged.clone());
    container.states.rewrite(&container.state)?;
    let set = Layout::probe().and_then(|layout| cgroup.set(&before, &merged, &layout));
    if set.is_err()
        && let Some(linux) = container.state.oci.as_mut().and_then(|oci| oci.spec.linux.as_mut())
    {
        linux.resources = Some(before);
        container.states.rewrite(&container.state)?;
    }
    set.map(|()| 0)
}

/// What is asked to be changed.
fn change(typed: &Typed) -> Result<LinuxResources> {
    let flags = of_flags(typed)?;
    for flag in ["--kernel-memory", "--kernel-memory-tcp"] {
        if typed.get(flag).is_some() {
            coracle_sys::warn!("runner: {flag} does nothing: no kernel has this limit any more");
        }
    }
    let Some(file) = typed.get("--resources") else { return parse(flags.to_string().as_bytes()) };
    if flags.as_object().is_some_and(|f| !f.is_empty()) {
        coracle_sys::warn!("runner: update -r: the file says all, other limits are ignored");
    }
    let (text, named) = match file {
        "-" => (std::io::read_to_string(std::io::stdin()), "standard input".to_owned()),
        file => (std::fs::read_to_string(file), format!("{file:?}")),
    };
    let text = text.context(|| format!("read({named})"))?;
    parse(text.as_bytes()).context(|| format!("read the resources in {named}"))
}

fn parse(text: &[u8]) -> Result<LinuxResources> {
    json::from_slice(text)
}

fn of_flags(typed: &Typed) -> Result<Value> {
    let mut all = Value::Object(Map::new());
    for (flag, object, member, form) in FLAGS {
        let Some(text) = typed.get(flag) else { continue };
        let wrong = || Error::flag(format!("{flag} {text:?}: it is a number"));
        all[object][member] = match form {
            Form::Text => text.into(),
            Form::Size if text != "-1" => quantity::size(text, flag)?.into(),
            _ => text.parse::<i64>().map_err(|_| wrong())?.into(),
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(line: &str) -> Result<LinuxResources> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        change(&Typed::read(&TABLE, &words)?.expect("no help"))
    }

    #[test]
    fn flags_are_the_resources_that_they_name() {
        let all = "id --memory 64m --memory-swap -1 --cpu-quota -1 --cpu-share=512 --cpuset-cpus 0-1 --pids-limit 5 --cpu-idle 0";
        let wanted = json!({"memory": {"limit": 64 << 20, "swap": -1}, "pids": {"limit": 5},
            "cpu": {"quota": -1, "shares": 512, "cpus": "0-1", "idle": 0}});
        assert_eq!(asked(all).unwrap(), coracle_sys::json::from_value(wanted).unwrap());
        assert_eq!(asked("id --kernel-memory 5").unwrap(), LinuxResources::default());
        for (line, words) in [
            ("id --cpu-share x", "--cpu-share \"x\""),
            ("id --memory x", "--memory"),
            ("id --cpu-share -5", "-5"),
            ("id --nothing 5", "--nothing"),
            ("id -r /nowhere", "/nowhere"),
            ("id -r /nowhere --memory 5", "/nowhere"),
        ] {
            let e = asked(line).unwrap_err().to_string();
            assert!(e.contains(words), "{line}: {e}");
        }
        // Every limit of the table has a place, but for those that are read elsewhere or mean nothing.
        let named = |f: &&FlagInfo<'_>| FLAGS.iter().any(|row| row.0 == f.long);
        assert_eq!(TABLE.flags.iter().filter(named).count(), FLAGS.len());
    }
}
