//! `network`: networks with names. The verb is the first word, and has a table of its own.

use std::ffi::OsString;

use argh::{CommandInfoWithArgs, PositionalInfo};
use coracle_store::{Locations, Store};
use coracle_sys::json::Value;
use coracle_sys::template::Template;
use coracle_sys::{Error, Result, order, table};

use super::typed::{self, Typed};
use super::{Global, no_such_container, sweep};
use crate::host::Host;
use crate::network::{AskedNetwork, Known, Manager};
use crate::record::{self, Record};
use crate::state::{Face, States};

/// What follows the verb is in the table of each.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "network",
    "Make, show and remove networks: create, ls, rm, inspect, prune, connect, disconnect (each with --help).",
    typed::WORDS,
    &[],
    &["runner network create backend", "runner network connect backend my-container", "runner network ls"],
);

static CREATE: CommandInfoWithArgs = of(
    "network create",
    "Make a network, and print its id. Its bridge is made with the first container.",
    &[
        typed::list("--subnet", None, "subnet", "its subnet, one of each family; else one that is free"),
        typed::list("--gateway", None, "ip", "the host's address on it; else the subnet's first"),
        typed::list("--ip-range", None, "subnet", "the part of the subnet that is handed out"),
        typed::switch("--internal", None, "nothing goes out"),
        typed::switch("--ipv6", None, "with a subnet of IPv6"),
        typed::list("--label", None, "label", "note on it: NAME=VALUE"),
        typed::list("--opt", Some('o'), "option", "mtu=BYTES"),
        typed::option("--driver", Some('d'), "driver", "bridge"),
    ],
);
static LS: CommandInfoWithArgs = of(
    "network ls",
    "List networks.",
    &[
        typed::switch("--quiet", Some('q'), "ids only"),
        typed::switch("--no-trunc", None, "whole ids"),
        typed::option("--format", None, "template", "a template for each line, or json"),
        typed::list(
            "--filter",
            Some('f'),
            "filter",
            "name=PART, id=BEGINNING, driver=WORD, label=NAME[=VALUE], type=custom|builtin",
        ),
    ],
);
static RM: CommandInfoWithArgs =
    of("network rm", "Remove networks that nobody is on.", &[typed::switch("--force", Some('f'), FORCE)]);
static INSPECT: CommandInfoWithArgs = of(
    "network inspect",
    "Show networks and who is on them.",
    &[typed::option("--format", Some('f'), "template", "a template for each")],
);
static PRUNE: CommandInfoWithArgs = of(
    "network prune",
    "Remove all networks that were made and that nobody is on.",
    &[typed::switch("--force", Some('f'), "never asked: it is the same")],
);
static CONNECT: CommandInfoWithArgs = of(
    "network connect",
    "Join a container that runs to one more network.",
    &[
        typed::option("--ip", None, "ip", "its address of IPv4 there"),
        typed::option("--ip6", None, "ip", "its address of IPv6 there"),
        typed::list("--alias", None, "name", "further name there"),
    ],
);
static DISCONNECT: CommandInfoWithArgs =
    of("network disconnect", "Take a container that runs off a network.", &[]);

const FORCE: &str = "do not mind those that are not there";

const fn of(
    name: &'static str,
    description: &'static str,
    flags: &'static [argh::FlagInfo<'static>],
) -> CommandInfoWithArgs {
    const WORDS: &[PositionalInfo<'static>] = typed::WORDS;
    typed::table(name, description, WORDS, flags, &[])
}

/// Do what the first word says.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let (verb, rest) = words.split_first().unzip();
    let verb = verb.and_then(|v| v.to_str()).unwrap_or_default();
    let rest = rest.unwrap_or_default();
    let (table, go): (_, fn(&Context, Typed) -> Result<u8>) = match verb {
        "create" => (&CREATE, create),
        "ls" | "list" => (&LS, ls),
        "rm" | "remove" => (&RM, rm),
        "inspect" => (&INSPECT, inspect),
        "prune" => (&PRUNE, prune),
        "connect" => (&CONNECT, connect),
        "disconnect" => (&DISCONNECT, disconnect),
        "--help" => return Typed::read(&TABLE, words).map(|_| 0),
        "" => {
            return Err(Error::usage(
                "network needs a verb: create, ls, rm, inspect, prune, connect, disconnect",
            ));
        }
        other => {
            return Err(Error::usage(format!(
                "unknown command: network {other} (there are create, ls, rm, inspect, prune, connect, disconnect)"
            )));
        }
    };
    let Some(typed) = Typed::read(table, rest)? else { return Ok(0) };
    if let "create" | "connect" = verb
        && Host::probe()?.needs_user_namespace()
    {
        return Err(Error::unsupported(format!(
            "network {verb}: an ordinary user has no right to make a bridge. A container has a network of its own all the \
             same, by pasta or slirp4netns, where -p publishes ports; with --network host it has the host's"
        )));
    }
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    let manager = Manager::of(&store)?;
    go(&Context { store, manager }, typed)
}

struct Context {
    store: Store,
    manager: Manager,
}

fn create(at: &Context, typed: Typed) -> Result<u8> {
    let name = typed.one("network create", "the network's name")?;
    if let Some(driver) = typed.get("--driver").filter(|d| *d != "bridge") {
        return Err(Error::unsupported(format!("--driver {driver}: there is bridge")));
    }
    let mut mtu = None;
    for option in typed.all("--opt") {
        match option.split_once('=') {
            Some(("mtu" | "com.docker.network.driver.mtu", value)) => {
                let number = value.parse().ok().filter(|n| (1280..=65535).contains(n));
                let wrong = || Error::usage(format!("-o {option}: it is 1280 to 65535"));
                mtu = Some(number.ok_or_else(wrong)?);
            }
            _ => return Err(Error::unsupported(format!("-o {option}: there is mtu=BYTES"))),
        }
    }
    let labels = typed.all("--label");
    let label = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok((name.to_owned(), value.to_owned()))
    };
    let asked = AskedNetwork {
        subnets: typed.all("--subnet"),
        gateways: typed.all("--gateway"),
        ranges: typed.all("--ip-range"),
        internal: typed.get("--internal").is_some(),
        ipv6: typed.get("--ipv6").is_some(),
        mtu,
        labels: order::map(labels.iter().map(label))?,
    };
    coracle_sys::say!("{}", at.manager.create(name, record::new_id()?, &asked)?);
    Ok(0)
}

fn ls(at: &Context, typed: Typed) -> Result<u8> {
    if let Some(word) = typed.words.first() {
        return Err(Error::usage(format!("network ls takes no {word:?}")));
    }
    let mut all = at.manager.all()?;
    for filter in typed.all("--filter") {
        let kept = |n: &Known| keeps(n, &filter);
        if all.iter().any(|n| kept(n).is_none()) {
            return Err(Error::usage(format!(
                "--filter {filter:?} is unknown: name=, id=, driver=, label=, type=custom|builtin"
            )));
        }
        all.retain(|n| kept(n) == Some(true));
    }
    let whole = typed.get("--no-trunc").is_some();
    let lines: Vec<_> = all.iter().map(|n| n.line(whole)).collect();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    if typed.get("--quiet").is_some() {
        lines.iter().for_each(|l| coracle_sys::say!("{}", text(l, "ID")));
    } else if let Some(format) = typed.get("--format") {
        Template::parse(format)?.print(&lines)?;
    } else {
        let mut rows = vec![["NETWORK ID", "NAME", "DRIVER", "SCOPE"].map(str::to_owned).to_vec()];
        let row = |l: &Value| ["ID", "Name", "Driver", "Scope"].map(|name| text(l, name)).to_vec();
        rows.extend(lines.iter().map(row));
        table::print(&rows, false);
    }
    Ok(0)
}

/// Whether a filter keeps it; nothing where the filter is none.
fn keeps(network: &Known, filter: &str) -> Option<bool> {
    let (key, value) = filter.split_once('=')?;
    Some(match (key, value) {
        ("name", part) => network.name().contains(part),
        ("id", begin) => network.id().starts_with(begin),
        ("driver", word) => network.driver() == word,
        ("type", "custom") => network.is_custom(),
        ("type", "builtin") => !network.is_custom(),
        ("label", label) => {
            let (name, value) = label.split_once('=').map_or((label, None), |(n, v)| (n, Some(v)));
            network.labels().get(name).is_some_and(|has| value.is_none_or(|v| v == has))
        }
        _ => return None,
    })
}

fn rm(at: &Context, typed: Typed) -> Result<u8> {
    if typed.words.is_empty() {
        return Err(Error::usage("network rm needs the name or id of a network"));
    }
    let mut code = 0;
    for name in &typed.words {
        match at.manager.remove(name) {
            Ok(()) => coracle_sys::say!("{name}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                let gone = e.kind() == coracle_sys::Kind::NotFound && typed.get("--force").is_some();
                code = if gone { code } else { 1 };
            }
        }
    }
    Ok(code)
}

fn prune(at: &Context, _: Typed) -> Result<u8> {
    sweep::sweep(&at.store);
    let mut any = false;
    for name in at.manager.unused()? {
        at.manager.remove(&name)?;
        if !any {
            coracle_sys::say!("Deleted Networks:");
        }
        any = true;
        coracle_sys::say!("{name}");
    }
    Ok(0)
}

fn inspect(at: &Context, typed: Typed) -> Result<u8> {
    if typed.words.is_empty() {
        return Err(Error::usage("network inspect needs the name or id of a network"));
    }
    let (mut all, mut code) = (Vec::new(), 0);
    for name in &typed.words {
        match at.manager.find(name).and_then(|known| at.manager.inspect(&known)) {
            Ok(value) => all.push(value),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    match typed.get("--format") {
        Some(format) => Template::parse(format)?.print(&all)?,
        None => coracle_sys::print::json(&all.into(), true),
    }
    Ok(code)
}

/// The network, and the container's id, record and first process.
fn pair(at: &Context, typed: &Typed, verb: &str) -> Result<(String, Record, i32)> {
    let [network, container] = &typed.words[..] else {
        return Err(Error::usage(format!("network {verb} needs a network and a container")));
    };
    let dir = at.store.find_container(container).map_err(|_| no_such_container(container))?;
    let state = States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive());
    let stopped =
        || Error::unsupported(format!("the container {container} does not run: say --network at its start"));
    let pid = state.ok_or_else(stopped)?.init.pid;
    Ok((network.clone(), Record::read(&dir.path)?, pid))
}

fn connect(at: &Context, typed: Typed) -> Result<u8> {
    let (network, record, pid) = pair(at, &typed, "connect")?;
    let ips: Vec<String> = ["--ip", "--ip6"].iter().filter_map(|f| typed.get(f)).map(str::to_owned).collect();
    let hostname = record.spec.hostname.clone().unwrap_or_default();
    let dir = at.store.main().container(&record.id);
    let who = (record.id.as_str(), record.name.as_str(), dir.as_path(), pid);
    at.manager.connect(&network, who, &hostname, &ips, &typed.all("--alias"))?;
    Ok(0)
}

fn disconnect(at: &Context, typed: Typed) -> Result<u8> {
    let (network, record, _) = pair(at, &typed, "disconnect")?;
    at.manager.disconnect(&network, &record.id)?;
    Ok(0)
}
