//! `rootfs-tool sbom`.

use std::io::Write;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::pack::source_date_epoch;
use coracle_sys::{Context, Error, Result, interrupt, table};

use super::{enter_user_namespace, find, open, warn};
use crate::sbom::{self, Inventory, Kind, spdx};
use crate::streams;

/// Tell what an image is made of: the packages of dpkg's and apk's databases, with versions and licences, by the layer that
/// brought them.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "sbom",
    example = "rootfs-tool sbom -o debian.spdx.json debian
rootfs-tool sbom --format table debian",
    note = "The same image gives the same document: its time is SOURCE_DATE_EPOCH, else the image's. Licences are those that
/usr/share/doc/*/copyright names where a program understands it. What rpm has installed is not read; a warning says so."
)]
pub(crate) struct Sbom {
    /// spdx-json, which is SPDX 2.3, or table
    #[argh(option, arg_name = "FORMAT", default = "String::from(\"spdx-json\")")]
    format: String,
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

impl Sbom {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let as_table = match &self.format[..] {
            "spdx-json" => false,
            "table" => true,
            other => return Err(Error::usage(format!("--format {other}: it is spdx-json or table"))),
        };
        let store = open(self.store.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let image = find(&store, &self.image)?;
        let inventory =
            sbom::gather(&store, &image).context(|| format!("list the packages of {}", self.image))?;
        warn(&inventory.warnings);
        let text = match as_table {
            true => rows(&inventory),
            false => {
                let document = spdx::document(&image, &inventory, source_date_epoch());
                format!("{document:#}\n")
            }
        };
        streams::write(self.output.as_deref(), |mut out| {
            out.write_all(text.as_bytes()).context(|| "write the document").map(|()| out)
        })
    }
}

fn rows(inventory: &Inventory) -> String {
    let mut lines = vec![["NAME", "VERSION", "ARCH", "TYPE", "LAYER", "LICENCE"].map(str::to_owned).to_vec()];
    for found in &inventory.packages {
        let package = &found.package;
        let kind = if found.kind == Kind::Deb { "deb" } else { "apk" };
        let words = [
            &package.name,
            &package.version,
            &package.arch,
            kind,
            &(found.layer + 1).to_string(),
            &package.license,
        ];
        lines.push(words.map(str::to_owned).to_vec());
    }
    table::text(&lines)
}
