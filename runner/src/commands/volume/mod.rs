//! `volume`: volumes with names, which outlive their containers.

mod filter;
mod prune;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::volume_note::{self, Note};
use coracle_store::{Locations, Store};
use coracle_sys::template::Template;
use coracle_sys::{Error, Kind, Result, print, table, time};
use serde_json::{Value, json};

use super::typed::{self, Typed};
use super::{Global, inside, remove_outside};
use crate::record;
use crate::volumes::driver;
use filter::Filter;

const VERBS: &str = "create, inspect, ls, prune, rm";

/// All of it, for pages and completions.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "volume",
    "Volumes with names, which outlive their containers: volume create, inspect, ls, prune and rm.",
    typed::VOLUME_WORDS,
    &[
        typed::switch("--all", Some('a'), "prune: those with names as well"),
        typed::option("--driver", Some('d'), "driver", "create: local, which is all there is"),
        typed::list("--filter", None, "filter", "ls, prune: only those for which it holds"),
        typed::switch("--force", None, "rm: do not mind those that are not there; prune: do not ask (-f)"),
        typed::option("--format", None, "template", "inspect, ls: a template for each, or json"),
        typed::list("--label", None, "label", "create: note on the volume, NAME=VALUE"),
        typed::list("--opt", Some('o'), "option", "create: what is mounted in its place: type=, device=, o="),
        typed::switch("--quiet", Some('q'), "ls: names only"),
    ],
    &["runner volume create data", "runner volume ls -q -f dangling=true", "runner volume rm data"],
);
/// The flags of each verb.
static CREATE: CommandInfoWithArgs = typed::table(
    "volume create",
    "Make a volume that no container uses yet. Without a name it is given one.",
    typed::VOLUMES,
    &[
        typed::option("--driver", Some('d'), "driver", "local, which is all there is"),
        typed::list("--label", None, "label", "note on the volume: NAME=VALUE"),
        typed::hidden(typed::option("--name", None, "name", "the name, as docker had it once")),
        typed::list("--opt", Some('o'), "option", "what is mounted in its place: type=, device=, o="),
    ],
    &["runner volume create data", "runner volume create -o type=tmpfs -o device=tmpfs -o o=size=64m fast"],
);
static LS: CommandInfoWithArgs = typed::table(
    "volume ls",
    "List volumes.",
    typed::NONE,
    &[
        typed::list(
            "--filter",
            Some('f'),
            "filter",
            "only those for which it holds: name=PART, label=NAME[=VALUE], dangling=true|false, driver=local",
        ),
        typed::option("--format", None, "template", "a template for each line, or json"),
        typed::switch("--quiet", Some('q'), "names only"),
    ],
    &["runner volume ls", "runner volume ls -q -f dangling=true"],
);
static INSPECT: CommandInfoWithArgs = typed::table(
    "volume inspect",
    "Print what is known of volumes.",
    typed::VOLUMES,
    &[typed::option("--format", Some('f'), "template", "a template for each, or json")],
    &["runner volume inspect -f '{{.Mountpoint}}' data"],
);
static RM: CommandInfoWithArgs = typed::table(
    "volume rm",
    "Remove volumes that no container uses, with all that is in them.",
    typed::VOLUMES,
    &[typed::switch("--force", Some('f'), "do not mind those that are not there")],
    &["runner volume rm data"],
);
static PRUNE: CommandInfoWithArgs = typed::table(
    "volume prune",
    "Remove the volumes that were given no name and that no container uses.",
    typed::NONE,
    &[
        typed::switch("--all", Some('a'), "those with names as well"),
        typed::list("--filter", None, "filter", "only those for which it holds: label=, label!="),
        typed::switch("--force", Some('f'), "do not ask"),
    ],
    &["runner volume prune -f", "runner volume prune -af --filter label=temporary"],
);

/// The label of a volume that was given no name, as docker has it.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A verb, and what follows it. What is wrong with a volume ends with 1, as in docker.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some((verb, words)) = words.split_first() else {
        return Err(Error::usage(format!("volume needs a verb: {VERBS}")));
    };
    let verb = verb.to_str().unwrap_or_default();
    let (table, go): (_, fn(&mut Store, &Typed) -> Result<u8>) = match verb {
        "create" => (&CREATE, create),
        "ls" | "list" => (&LS, ls),
        "inspect" => (&INSPECT, inspect),
        "rm" | "remove" => (&RM, rm),
        "prune" => (&PRUNE, prune::run),
        "--help" | "-h" => return Typed::read(&TABLE, &["--help".into()]).map(|_| 0),
        other => return Err(Error::usage(format!("unknown command: volume {other} (there are {VERBS})"))),
    };
    let Some(typed) = Typed::read(table, words)? else { return Ok(0) };
    let mut store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    go(&mut store, &typed).or_else(|e| {
        coracle_sys::warn!("runner: {}", print::harmless(&e.to_string()));
        Ok(1)
    })
}

fn create(store: &mut Store, typed: &Typed) -> Result<u8> {
    let name = match &typed.words[..] {
        [] => typed.get("--name").map(str::to_owned),
        [name] if typed.get("--name").is_none() => Some(name.clone()),
        _ => return Err(Error::usage("volume create requires at most 1 name")),
    };
    only_local(typed.get("--driver"), name.as_deref().unwrap_or_default())?;
    let mut labels = pairs(typed.all("--label"), "--label")?;
    let options = pairs(typed.all("--opt"), "--opt")?;
    let name = match name {
        Some(name) => name,
        None => {
            labels.insert(ANONYMOUS.to_owned(), String::new());
            record::new_id()?
        }
    };
    driver::check(&options).map_err(|e| e.wrap(format!("create {name}")))?;
    store.create_volume(&name, &Note { created: volume_note::now(), labels, options })?;
    coracle_sys::say!("{name}");
    Ok(0)
}

/// The one driver there is.
pub(crate) fn only_local(driver: Option<&str>, name: &str) -> Result<()> {
    match driver {
        None | Some("local" | "") => Ok(()),
        Some(other) => {
            Err(Error::unsupported(format!("create {name}: the driver {other:?} is unknown: there is local")))
        }
    }
}

/// `NAME=VALUE`s; of a name that stands twice the last counts.
pub(crate) fn pairs(texts: Vec<String>, flag: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        if name.is_empty() {
            return Err(Error::usage(format!("{flag} {text:?}: it is NAME=VALUE")));
        }
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

fn ls(store: &mut Store, typed: &Typed) -> Result<u8> {
    let filters = Filter::read(&typed.all("--filter"), filter::LIST)?;
    let template = typed.get("--format").map(Template::parse).transpose()?;
    let mut rows = vec![vec!["DRIVER".to_owned(), "VOLUME NAME".to_owned()]];
    let mut values = Vec::new();
    for name in store.volumes()? {
        // One that goes at this moment is none.
        let Ok(note) = store.volume_note(&name) else { continue };
        if !filter::take(&filters, store, &name, &note)? {
            continue;
        }
        if typed.get("--quiet").is_some() && template.is_none() {
            coracle_sys::say!("{name}");
        } else if template.is_some() {
            let labels: Vec<String> = note.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            values.push(json!({
                "Availability": "N/A", "Driver": "local", "Group": "N/A", "Labels": labels.join(","),
                "Links": "N/A", "Mountpoint": store.volume_path(&name)?, "Name": name, "Scope": "local",
                "Size": "N/A", "Status": "N/A"
            }));
        } else {
            rows.push(vec!["local".to_owned(), name]);
        }
    }
    match template {
        Some(template) => template.print_under(&values, head)?,
        None if typed.get("--quiet").is_none() => table::print(&rows, false),
        None => {}
    }
    Ok(0)
}

fn head(field: &str) -> String {
    match field {
        "Name" => "VOLUME NAME".to_owned(),
        other => coracle_sys::template::title(other),
    }
}

fn inspect(store: &mut Store, typed: &Typed) -> Result<u8> {
    let template = typed.get("--format").map(Template::parse).transpose()?;
    let (mut values, mut code) = (Vec::new(), 0);
    for name in named(typed, "inspect")? {
        match known(store, name) {
            Ok(value) => values.push(value),
            Err(e) => {
                coracle_sys::warn!("runner: {}", print::harmless(&e.to_string()));
                code = 1;
            }
        }
    }
    match template {
        Some(template) => template.print(&values)?,
        None => print::json(&Value::Array(values), true),
    }
    Ok(code)
}

fn known(store: &Store, name: &str) -> Result<Value> {
    if !store.has_volume(name) {
        return Err(Error::not_found(format!("get {name}: no such volume")));
    }
    let note = store.volume_note(name)?;
    let some = |map: &BTreeMap<String, String>| if map.is_empty() { Value::Null } else { json!(map) };
    Ok(json!({
        "CreatedAt": time::rfc3339(i64::try_from(note.created).unwrap_or(i64::MAX)),
        "Driver": "local",
        "Labels": some(&note.labels),
        "Mountpoint": store.volume_path(name)?,
        "Name": name,
        "Options": some(&note.options),
        "Scope": "local",
    }))
}

fn rm(store: &mut Store, typed: &Typed) -> Result<u8> {
    let mut code = 0;
    for name in named(typed, "rm")? {
        match remove(store, name) {
            Ok(()) => coracle_sys::say!("{name}"),
            Err(e) if e.kind() == Kind::NotFound && typed.get("--force").is_some() => {
                coracle_sys::say!("{name}");
            }
            Err(e) => {
                coracle_sys::warn!("runner: {}", print::harmless(&e.to_string()));
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Remove one, unless a container uses it.
fn remove(store: &Store, name: &str) -> Result<()> {
    let taken = Cell::new(false);
    let done = store.remove_volume(name, &|gone| {
        taken.set(true);
        remove_outside(gone)
    });
    match done {
        // Its folder is that of a container's user, and an ordinary user cannot even take its name away.
        Err(e) if e.kind() == Kind::Denied && !taken.get() && !nix::unistd::geteuid().is_root() => {
            inside(|| store.remove_volume(name, &|gone| coracle_sys::file::remove_tree(gone)))
        }
        done => done,
    }
}

fn named<'a>(typed: &'a Typed, verb: &str) -> Result<&'a [String]> {
    match &typed.words[..] {
        [] => Err(Error::usage(format!("volume {verb} requires at least 1 argument"))),
        names => Ok(names),
    }
}
