//! A line of `ps`: docker's fields of one container.

use coracle_store::Store;
use coracle_sys::{Result, table, time};
use serde_json::{Map, Value};

use crate::commands::container::seen::{Seen, ago};
use crate::commands::inspect::document;
use crate::commands::port;
use crate::from_image::flags::Flags;
use crate::from_image::{self, short};
use crate::json::set_all;
use crate::network::bindings;
use crate::record;

/// What is to be found out, some of which takes its time.
pub(super) struct Wanted {
    /// Nothing is cut.
    pub(super) whole: bool,
    /// How much they hold.
    pub(super) size: bool,
    /// What is mounted in them.
    pub(super) mounts: bool,
}

/// Its fields.
pub(super) fn of(store: &Store, seen: &Seen, wanted: &Wanted) -> Result<Value> {
    let record = &seen.record;
    let id = if wanted.whole { &record.id } else { short(&record.id) };
    let words = command(record.spec.process.as_ref().map(|p| &p.args[..]).unwrap_or_default());
    let size = if wanted.size { size(store, seen) } else { "0B".to_owned() };
    let (mounts, volumes) = if wanted.mounts { document::mounts(store, seen)? } else { Default::default() };
    let mounts: Vec<String> =
        mounts.iter().map(|name| if wanted.whole { name.clone() } else { cut(name, 15) }).collect();
    let created = time::spoken(record::seconds(record.created).cast_signed());
    let mut row = Value::Object(Map::new());
    set_all(
        &mut row,
        vec![
            ("/ID", id.into()),
            ("/Image", record.image.as_str().into()),
            ("/Command", format!("{:?}", if wanted.whole { words } else { cut(&words, 20) }).into()),
            ("/CreatedAt", created.into()),
            ("/RunningFor", format!("{} ago", ago(record.created)).into()),
            ("/Ports", ports(seen).into()),
            ("/State", seen.status.into()),
            ("/Status", seen.spoken().into()),
            ("/Health", seen.health.as_deref().unwrap_or_default().into()),
            ("/Size", size.into()),
            ("/Names", record.name.as_str().into()),
            ("/Labels", labels(seen).into()),
            ("/Mounts", mounts.join(",").into()),
            ("/LocalVolumes", volumes.to_string().into()),
            ("/Networks", networks(seen).join(",").into()),
            ("/Pid", seen.pid().into()),
        ],
    );
    Ok(row)
}

/// The command as docker has it, so that one word of several stays one: `sh -c 'sleep 1'`.
fn command(args: &[String]) -> String {
    let mut words = args.first().cloned().unwrap_or_default();
    for arg in args.iter().skip(1) {
        let quote = if arg.contains(' ') { "'" } else { "" };
        words += &[" ", quote, arg, quote].concat();
    }
    words
}

/// The ports that lead to it: `0.0.0.0:8080->80/tcp`.
fn ports(seen: &Seen) -> String {
    let all: Vec<String> =
        port::published(seen).iter().map(|p| format!("{}->{}", p.outside, p.inside)).collect();
    all.join(", ")
}

/// The networks that it is in, or will be when it is started.
pub(super) fn networks(seen: &Seen) -> Vec<String> {
    let joined = seen.attachments();
    if !joined.is_empty() {
        return joined.into_iter().map(|one| one.network).collect();
    }
    let flags = Flags::read(&seen.record.flags).unwrap_or_default();
    let word = from_image::shared_words(&flags).map_or("", |words| words[0].2);
    // Nobody has said one: root's is the bridge.
    vec![if word == "default" && nix::unistd::getuid().is_root() { "bridge" } else { word }.to_owned()]
}

/// The ports inside that it is said to listen on, and those of the host that lead to it: `80/tcp`.
pub(super) fn listens(seen: &Seen) -> (Vec<String>, Vec<String>) {
    let flags = Flags::read(&seen.record.flags).unwrap_or_default();
    let (mut inside, mut outside) = (bindings(&flags.expose), Vec::new());
    for one in seen.attachments() {
        for port in &one.ports {
            let name = port.protocol.name();
            inside.push([format!("{}/{name}", port.inside), String::new(), String::new()]);
            outside.push(format!("{}/{name}", port.host));
        }
    }
    (inside.into_iter().map(|[port, ..]| port).collect(), outside)
}

/// `A=1,B=2`, as docker prints them.
pub(crate) fn labels(seen: &Seen) -> String {
    let pairs: Vec<String> =
        seen.record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// What it has written, and with its image.
fn size(store: &Store, seen: &Seen) -> String {
    let own = store.written_by(&seen.dir);
    let below: u64 = store.image_of(&seen.dir).map_or(0, |i| store.layer_sizes(&i).into_iter().sum());
    match below {
        0 => table::size(own),
        below => format!("{} (virtual {})", table::size(own), table::size(own + below)),
    }
}

/// As docker cuts a text that is longer.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
