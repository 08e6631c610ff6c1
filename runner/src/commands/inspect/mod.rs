//! `inspect`: all that is known of containers, as docker tells it. What is no container is an image, and rootfs-tool's to
//! tell.

pub(crate) mod document;
mod network;

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::template::Template;
use coracle_sys::{Error, Kind, Result, print};
use serde_json::Value;

use super::container::seen::Seen;
use super::typed::{self, Typed};
use super::{Global, container, image_verb};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "inspect",
    "Print all that is known of containers and images, as JSON. Flags of rootfs-tool inspect go with images alone.",
    typed::CONTAINERS,
    &[
        typed::option(
            "--format",
            Some('f'),
            "template",
            "a template for each, such as '{{.State.Status}}', or json",
        ),
        typed::switch("--size", Some('s'), "of containers, also how much they hold"),
        typed::option("--type", None, "type", "what is looked for: container or image; both if not said"),
    ],
    &["runner inspect my-container", "runner inspect -f '{{.State.ExitCode}}' my-container"],
);

/// Print them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    look(global, words, None)
}

/// Print those of one type.
pub(crate) fn look(global: &Global, words: &[OsString], kind: Option<&str>) -> Result<u8> {
    let images_only = |typed: &Typed| typed.get("--type") == Some("image") || typed.words.is_empty();
    let typed = match Typed::read_quietly(&TABLE, words) {
        Ok(typed) if kind == Some("container") || !images_only(&typed) => typed,
        // A flag that is rootfs-tool's alone, `docker://NAME` with it, or help.
        Err(_) if words.iter().any(|w| w == "--help") => {
            return Typed::read(&TABLE, words).map(|_| 0);
        }
        Err(e) if kind == Some("container") => return Err(e),
        _ => return image_verb::run(global, "inspect", words),
    };
    let kind = match (kind, typed.get("--type")) {
        (Some(kind), _) => Some(kind),
        (None, Some("container")) => Some("container"),
        (None, None | Some("")) => None,
        (None, Some(other)) => {
            return Err(Error::unsupported(format!("--type {other:?}: there are container and image")));
        }
    };
    if typed.words.is_empty() {
        return Err(Error::usage("inspect needs the name or id of a container or an image"));
    }
    let template = typed.get("--format").filter(|f| *f != "json").map(Template::parse).transpose()?;
    let store = container::store(global)?;
    super::sweep::sweep(&store);
    let mut all = Vec::new();
    let mut code = 0;
    for name in &typed.words {
        match one(global, &store, name, kind, typed.get("--size").is_some()) {
            Ok(found) => all.push(found),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    match (&template, typed.get("--format")) {
        // One after the other: what the next one lacks does not hide this one.
        (Some(template), _) => all.iter().try_for_each(|one| template.print(std::slice::from_ref(one)))?,
        (None, Some(_)) => all.iter().for_each(|one| print::json(one, false)),
        (None, None) => print::json(&Value::Array(all), true),
    }
    Ok(code)
}

fn one(global: &Global, store: &Store, name: &str, kind: Option<&str>, sizes: bool) -> Result<Value> {
    let none = || Error::not_found(format!("No such object: {name}"));
    match store.find_container(name) {
        Ok(dir) => return document::of(store, &Seen::of(dir)?, sizes),
        Err(e) if e.kind() == Kind::Usage && e.to_string().contains("more than one") => return Err(e),
        Err(_) if kind == Some("container") => return Err(super::no_such_container(name)),
        Err(_) => {}
    }
    let text = image_verb::answer(global, &["inspect", "--format", "json", name])?.ok_or_else(none)?;
    // rootfs-tool tells a list of one.
    let told: Value = serde_json::from_slice(&text).map_err(|_| none())?;
    Ok(told.get(0).cloned().unwrap_or(told))
}
