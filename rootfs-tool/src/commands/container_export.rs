//! `rootfs-tool container-export`: `runner export`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Context, Result, interrupt};

use super::{enter_user_namespace, open, warn};
use crate::container::Container;
use crate::streams;

/// Write what a container sees as one plain tar, mounts left out: a volume, /proc and their like are empty folders.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "container-export",
    example = "runner export -o my.tar my-container
runner export my-container | tar -t"
)]
pub(crate) struct ContainerExport {
    /// the file, instead of standard output
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
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

impl ContainerExport {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let container = Container::find(&store, &self.container)?;
        let export = || -> Result<()> {
            streams::write(self.output.as_deref(), |mut out| {
                let mut archive = container.above(&container.below(&store)?, self.pid)?;
                warn(&archive.warnings);
                // Docker's has none of the root itself.
                archive.remove("")?;
                archive.write(&mut out).map(|_| out)
            })
        };
        export().context(|| format!("export {}", self.container))
    }
}
