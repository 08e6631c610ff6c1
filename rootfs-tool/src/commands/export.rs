//! `rootfs-tool export`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Context, Result, interrupt};

use super::{find, open, warn};
use crate::{pack, streams};

/// Write what an image amounts to as one plain tar: its layers one on the other, without what they hide.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "export",
    example = "rootfs-tool export -o shell.tar shell
rootfs-tool export shell | tar -t"
)]
pub(crate) struct Export {
    /// the file, instead of standard output
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or an id
    #[argh(positional, arg_name = "image")]
    image: String,
}

impl Export {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        super::enter_user_namespace();
        interrupt::watch()?;
        let image = find(&store, &self.image)?;
        let export = || -> Result<()> {
            let archive = pack::archive(&store, &image, None)?;
            warn(&archive.warnings);
            streams::write(self.output.as_deref(), |mut out| archive.write(&mut out).map(|_| out))
        };
        export().context(|| format!("export {}", self.image))
    }
}
