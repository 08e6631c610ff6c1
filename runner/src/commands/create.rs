//! `create`: all of a container but its command, which waits for `start`: of an OCI bundle, or of an image.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Result};

use super::container::{Made, Wanted};
use super::typed::{self, Typed};
use super::{Global, bundle};
use crate::cgroups::Lifetime;
use crate::from_image::flags::{self, Flags};
use crate::record::Record;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "create",
    "Make a container of an OCI bundle; its command waits for start.",
    typed::ID,
    &[
        typed::option("--bundle", Some('b'), "dir", "the bundle's folder, this one where none is named"),
        typed::option("--config", None, "file", "the config.json, where it lies elsewhere"),
        typed::option(
            "--console-socket",
            None,
            "path",
            "a socket that the other side of the terminal is sent to",
        ),
        typed::option("--pid-file", None, "file", "a file for the first process' pid"),
        typed::option(
            "--pidfd-socket",
            None,
            "path",
            "a socket that a pidfd of the first process is sent to",
        ),
        typed::switch("--no-new-keyring", None, "stay in the caller's session keyring"),
        typed::switch(
            "--no-pivot",
            None,
            "for clients on a ramdisk, where the root is left by pivot_root all the same",
        ),
        typed::option("--preserve-fds", None, "n", "how many descriptors from 3 on the command inherits"),
    ],
    &["runner create --bundle DIR my-container"],
);

/// All that may be said: of an image what `run` takes, and a bundle's flags are among those.
pub(crate) fn page() -> CommandInfoWithArgs {
    CommandInfoWithArgs {
        name: "create",
        description: "Make a container of an image or of an OCI bundle; its command waits for start.",
        examples: &["runner create --name web shell sh", "runner create --bundle DIR my-container"],
        ..flags::TABLE.clone()
    }
}

/// Whether it is a bundle's: flags say so that only bundles have, or a config.json lies here and nothing but an id is said.
pub(crate) fn is_for_bundle(global: &Global, words: &[OsString]) -> bool {
    if let Some(said) = global.guise.means_bundles() {
        return said;
    }
    let Ok(typed) = Typed::read_quietly(&TABLE, words) else { return false };
    let here = Path::new("config.json").exists() && typed.words.len() == 1;
    typed.other_than(&[]).is_some() || here
}

/// Make one of an image.
pub(crate) fn of_image(global: &Global, flags: Flags, typed: &[String]) -> Result<u8> {
    // For docker's clients: what `start` shows it is told itself.
    super::run::shows(&flags)?;
    let made = Made::new(Wanted::find(global, flags, typed)?)?;
    // What cannot be started is not made.
    let write = || {
        made.plan(Lifetime::Detached)?;
        made.name_it()?;
        made.record.write(&made.dir.path)?;
        Record::keep(&made.dir.path)
    };
    write().inspect_err(|_| made.remove())?;
    coracle_sys::say!("{}", made.record.id);
    Ok(0)
}

/// Make one of a bundle.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let id = typed.one("create", "the container's id")?;
    let path = |flag: &str| typed.get(flag).map(PathBuf::from);
    let own = bundle::Flags {
        config: path("--config"),
        root: global.root.clone(),
        groups: global.groups,
        no_new_keyring: typed.get("--no-new-keyring").is_some(),
        preserve_fds: typed.number("--preserve-fds")?.unwrap_or(0),
        keep: false,
        pid_file: path("--pid-file"),
        console_socket: path("--console-socket"),
        pidfd_socket: path("--pidfd-socket"),
    };
    let dir = path("--bundle");
    if dir.is_none() && own.config.is_none() && !Path::new("config.json").exists() {
        return Err(Error::usage("JSON specification file config.json not found (create --bundle DIR ID)"));
    }
    bundle::begin(dir.as_deref().unwrap_or(Path::new(".")), id, &own, true).map(|()| 0)
}
