//! `port`: the ports that lead to a container.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Result};

use super::container::seen::Seen;
use super::typed::{self, Typed};
use super::{Global, container};
use crate::network::Port;

/// It has no flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "port",
    "List the ports of the host that lead to a container, or those that lead to one of its own.",
    typed::CONTAINER_AND_PORT,
    &[],
    &["runner port my-container", "runner port my-container 80/tcp"],
);

/// One way in.
pub(crate) struct Published {
    /// The container's, `80/tcp`.
    pub(crate) inside: String,
    /// The host's, `0.0.0.0:8080`.
    pub(crate) outside: String,
}

/// The ports that lead to a container.
pub(crate) fn published(seen: &Seen) -> Vec<Published> {
    let of = |port: &Port| Published {
        inside: format!("{}/{}", port.inside, port.protocol.name()),
        outside: port.address().to_string(),
    };
    seen.attachments().iter().flat_map(|one| &one.ports).map(of).collect()
}

/// Print them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let (named, wanted) = match &typed.words[..] {
        [named] => (named, None),
        [named, port] => (named, Some(port)),
        _ => {
            return Err(Error::usage(
                "port needs a container, and perhaps one of its ports (see port --help)",
            ));
        }
    };
    let store = container::store(global)?;
    let all = published(&Seen::of(container::find(&store, named)?)?);
    let Some(wanted) = wanted else {
        all.iter().for_each(|p| coracle_sys::say!("{} -> {}", p.inside, p.outside));
        return Ok(0);
    };
    let whole = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
    let mut found = all.iter().filter(|p| p.inside == whole).peekable();
    if found.peek().is_none() {
        return Err(Error::not_found(format!("No public port '{wanted}' published for {named}")));
    }
    found.for_each(|p| coracle_sys::say!("{}", p.outside));
    Ok(0)
}
