//! `--filter` of containers, as docker has it: of one name one of the values must hold, of several names each. All labels
//! must be there.

use coracle_store::{Digest, Store};
use coracle_sys::{Error, Result};

use super::row;
use crate::commands::container;
use crate::commands::container::seen::Seen;
use crate::commands::inspect::document;
use crate::from_image::units;
use crate::network::bindings;
use crate::record::{self, Record};

/// What help says of it.
pub(super) const HELP: &str = "only those for which it holds: name=PART (^ and $ stand for its ends), id=, status=created|restarting|running|paused|exited, exited=CODE, label=NAME[=VALUE], ancestor=IMAGE, before= and since=CONTAINER, health=, volume=, network=, publish= and expose=PORT[-PORT][/udp]";

/// What was asked for.
pub(crate) struct Filters(Vec<Filter>);

enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Exited(i32),
    Label(String, Option<String>),
    NoLabel(String, Option<String>),
    /// The layers of the image, or an id.
    Ancestor(Vec<Digest>, String),
    Before(u64),
    Since(u64),
    Until(u64),
    Health(String),
    Volume(String),
    Network(String),
    /// Ports, of the host or inside.
    Port(bool, Vec<String>),
    Task(bool),
}

impl Filters {
    /// Those of `ps`.
    pub(crate) fn parse(texts: &[String], store: &Store) -> Result<Self> {
        let read = |text: &String| match text.split_once('=') {
            Some(("until" | "label!", _)) => Err(unknown(text)),
            Some((name, value)) => Filter::parse(name, value, text, store),
            None => Err(unknown(text)),
        };
        texts.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Those of `prune`: until, label and label!.
    pub(crate) fn of_prune(texts: &[String], store: &Store) -> Result<Self> {
        let read = |text: &String| match text.split_once('=') {
            Some((name @ ("until" | "label" | "label!"), value)) => Filter::parse(name, value, text, store),
            _ => Err(Error::usage(format!("--filter {text:?}: there are until=, label= and label!="))),
        };
        texts.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Whether one of this name was said.
    pub(crate) fn say(&self, name: &str) -> bool {
        self.0.iter().any(|f| f.name() == name)
    }

    /// Whether they hold of a container.
    pub(crate) fn hold(&self, store: &Store, seen: &Seen) -> bool {
        self.0.iter().all(|one| match one {
            Filter::Label(..) | Filter::NoLabel(..) => one.holds(store, seen),
            _ => self.0.iter().filter(|other| other.name() == one.name()).any(|f| f.holds(store, seen)),
        })
    }
}

fn unknown(text: &str) -> Error {
    Error::usage(format!(
        "--filter {text:?} is unknown: there are name=, id=, status=, exited=, label=, ancestor=, before=, since=, health=, volume=, network="
    ))
}

impl Filter {
    fn parse(name: &str, value: &str, text: &str, store: &Store) -> Result<Self> {
        let owned = value.to_owned();
        let wrong = |what: &str| Error::usage(format!("--filter {text:?}: {what}"));
        let label = || match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (owned.clone(), None),
        };
        let created = || Ok(Record::read(&container::find(store, value)?.path)?.created);
        Ok(match name {
            "name" if value.contains(['*', '?', '[', '(', '|', '+', '\\']) => {
                return Err(wrong("a part of the name, with ^ and $ at its ends, is all that is known"));
            }
            "name" => Self::Name(owned),
            "id" => Self::Id(owned),
            "status" => match value {
                "created" | "restarting" | "running" | "removing" | "paused" | "exited" | "dead" => {
                    Self::Status(owned)
                }
                _ => return Err(wrong("it is created, restarting, running, paused or exited")),
            },
            "exited" => Self::Exited(value.parse().map_err(|_| wrong("it is an exit code"))?),
            "label" => {
                let (name, value) = label();
                Self::Label(name, value)
            }
            "label!" => {
                let (name, value) = label();
                Self::NoLabel(name, value)
            }
            "ancestor" => {
                let layers = store.resolve(value).map(|i| i.diff_ids().to_vec()).unwrap_or_default();
                Self::Ancestor(layers, owned)
            }
            "before" => Self::Before(created()?),
            "since" => Self::Since(created()?),
            "until" => Self::Until(until(value).ok_or_else(|| wrong("it is a time, or how long ago"))?),
            "health" => match value {
                "starting" | "healthy" | "unhealthy" | "none" => Self::Health(owned),
                _ => return Err(wrong("it is starting, healthy, unhealthy or none")),
            },
            "volume" => Self::Volume(owned),
            "network" => Self::Network(owned),
            // PORT[-PORT][/tcp|/udp], as `-p` and `--expose` have them.
            "expose" | "publish" => match bindings(&[owned]) {
                ports if ports.is_empty() || value.contains(':') => {
                    return Err(wrong("it is PORT[-PORT][/tcp|/udp]"));
                }
                ports => Self::Port(name == "publish", ports.into_iter().map(|[port, ..]| port).collect()),
            },
            // Of a swarm, which there is none of here.
            "is-task" => match value {
                "true" | "1" => Self::Task(true),
                "false" | "0" => Self::Task(false),
                _ => return Err(wrong("it is true or false")),
            },
            _ => return Err(unknown(text)),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Id(_) => "id",
            Self::Status(_) => "status",
            Self::Exited(_) => "exited",
            Self::Label(..) => "label",
            Self::NoLabel(..) => "label!",
            Self::Ancestor(..) => "ancestor",
            Self::Before(_) => "before",
            Self::Since(_) => "since",
            Self::Until(_) => "until",
            Self::Health(_) => "health",
            Self::Volume(_) => "volume",
            Self::Network(_) => "network",
            // Docker takes one for the other.
            Self::Port(..) => "publish",
            Self::Task(_) => "is-task",
        }
    }

    fn holds(&self, store: &Store, seen: &Seen) -> bool {
        let record = &seen.record;
        let has = |name: &String, value: &Option<String>| {
            record.labels.get(name).is_some_and(|is| value.as_ref().is_none_or(|wanted| wanted == is))
        };
        match self {
            Self::Name(part) => is_named(&record.name, part),
            Self::Id(part) => record.id.starts_with(part.as_str()),
            Self::Status(word) => seen.status == word,
            Self::Exited(code) => seen.status == "exited" && seen.code() == *code,
            Self::Label(name, value) => has(name, value),
            Self::NoLabel(name, value) => !has(name, value),
            Self::Ancestor(layers, typed) => {
                let id = record.image_id.as_deref().unwrap_or_default();
                let whole = typed.len() >= 4 && id.trim_start_matches("sha256:").starts_with(typed.as_str());
                let above = |layers: &[Digest]| {
                    store.image_of(&seen.dir).is_ok_and(|i| i.diff_ids().starts_with(layers))
                };
                whole || !layers.is_empty() && above(layers)
            }
            Self::Before(when) => record.created < *when,
            Self::Since(when) => record.created > *when,
            Self::Until(when) => record.created <= *when,
            Self::Health(word) => seen.health.as_deref().unwrap_or("none") == word,
            Self::Volume(named) => {
                let at = |named: &String| {
                    record.spec.mounts.iter().any(|m| m.destination.as_os_str() == named.as_str())
                };
                document::mounts(store, seen).is_ok_and(|(names, _)| names.contains(named)) || at(named)
            }
            Self::Network(named) => row::networks(seen).contains(named),
            Self::Port(outside, wanted) => {
                let (listens, leads) = row::listens(seen);
                let ports = if *outside { leads } else { listens };
                ports.iter().any(|port| wanted.contains(port))
            }
            Self::Task(is) => !is,
        }
    }
}

/// A moment, or how long ago: nanoseconds since 1970.
fn until(text: &str) -> Option<u64> {
    if let Ok(ago) = units::ago(text, "until") {
        return Some(record::now().saturating_sub(ago));
    }
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(coracle_sys::time::parse(text)?).ok()?,
    };
    seconds.checked_mul(1_000_000_000)
}

/// Scripts written for docker look for `^NAME$`, with or without a slash.
fn is_named(name: &str, pattern: &str) -> bool {
    let (begin, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest.strip_prefix('/').unwrap_or(rest)),
        None => (false, pattern.strip_prefix('/').unwrap_or(pattern)),
    };
    match (begin, rest.strip_suffix('$')) {
        (true, Some(whole)) => name == whole,
        (true, None) => name.starts_with(rest),
        (false, Some(tail)) => name.ends_with(tail),
        (false, None) => name.contains(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_a_part_of_it_or_by_its_ends() {
        for (pattern, fits) in [
            ("web", true),
            ("eb-", true),
            ("^web-1$", true),
            ("^/web-1$", true),
            ("^web", true),
            ("1$", true),
            ("^web$", false),
            ("^eb", false),
            ("web$", false),
            ("x", false),
        ] {
            assert_eq!(is_named("web-1", pattern), fits, "{pattern}");
        }
    }

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        assert_eq!(until("2023-11-14T22:13:20Z"), Some(1_700_000_000_000_000_000));
        assert_eq!(until("1700000000"), Some(1_700_000_000_000_000_000));
        assert!(until("1h30m").is_some_and(|t| t < record::now()));
        assert_eq!(until("tomorrow"), None);
    }
}
