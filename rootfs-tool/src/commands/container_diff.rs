//! `rootfs-tool container-diff`: `runner diff`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::Owners;
use coracle_sys::print::harmless;
use coracle_sys::{Context, Result};

use super::{enter_user_namespace, open, warn};
use crate::container::Container;
use crate::container::changes::changes;

/// Tell what a container has changed of its image's files: A was added, C changed, D deleted. `runner diff` does it of
/// one that runs, too.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "container-diff", example = "runner diff my-container")]
pub(crate) struct ContainerDiff {
    /// the first process of one that runs: the runner's to say
    #[argh(option, arg_name = "PID")]
    pid: Option<i32>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// its name or id
    #[argh(positional, arg_name = "container")]
    container: String,
}

impl ContainerDiff {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        enter_user_namespace();
        let container = Container::find(&store, &self.container)?;
        let compare = || -> Result<()> {
            let before = container.below(&store)?;
            let after = container.above(&before, self.pid)?;
            warn(&after.warnings);
            // A copy of the image's files has no table beside it.
            let owners = container.copied().is_none() || Owners::of_this_process() == Owners::Disk;
            for (change, path) in changes(&before, &after, owners) {
                coracle_sys::say!("{} /{}", change.letter(), harmless(&path.display().to_string()));
            }
            Ok(())
        };
        compare().context(|| format!("compare {} with its image", self.container))
    }
}
