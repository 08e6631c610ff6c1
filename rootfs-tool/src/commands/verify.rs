//! `rootfs-tool verify`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{Descriptor, Index, Platform, media_type};
use coracle_store::verify::{Fault, Verifier};
use coracle_store::{Image, Locations, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Result};
use serde_json::{Value, json};

use super::{enter_user_namespace, missing};

/// Check every blob against its digest, and every applied layer against its archive.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "verify",
    example = "rootfs-tool verify
rootfs-tool verify --repair debian"
)]
pub(crate) struct Verify {
    /// apply again what is applied wrong, and take away blobs that are broken, for the next pull or load to bring them;
    /// it ends with 0 when nothing is left to be done
    #[argh(switch)]
    repair: bool,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids; all images when none is named
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Verify {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let mut entries: Vec<(String, Descriptor)> = Vec::new();
        for typed in &self.images {
            let (name, entry) = tx.store().find(typed).map_err(|e| missing(e, typed))?;
            entries.push((name.unwrap_or_else(|| typed.clone()), entry));
        }
        if self.images.is_empty() {
            let named = |d: Descriptor| (d.ref_name().map_or_else(|| d.digest.to_string(), str::to_owned), d);
            entries.extend(tx.store().entries()?.into_iter().map(|(_, d)| named(d)));
        }
        let mut verifier = Verifier::new(&tx, self.repair);
        let mut rows: Vec<Value> = Vec::new();
        let mut faulty = 0;
        for (name, entry) in entries {
            let mut faults = Vec::new();
            for image in images(tx.store(), &entry, 0) {
                match image {
                    Ok(image) => {
                        faults.extend(verifier.image(&image).map_err(|e| e.wrap(format!("verify {name}")))?);
                    }
                    Err(e) => {
                        let then = Some("pull or load the image again".to_owned());
                        faults.push(Fault {
                            of: "the image".into(),
                            what: e.to_string(),
                            then,
                            repaired: false,
                        });
                    }
                }
            }
            faulty += usize::from(faults.iter().any(|f| !f.repaired));
            match self.json {
                true => {
                    rows.push(json!({"Image": name, "Faults": faults.iter().map(row).collect::<Vec<_>>()}))
                }
                false => tell(&name, &faults),
            }
        }
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
        }
        match faulty {
            0 => Ok(()),
            1 => Err(Error::invalid("verify: one image has faults")),
            n => Err(Error::invalid(format!("verify: {n} images have faults"))),
        }
    }
}

/// The images of an entry: of an index, those whose manifests lie here, whatever machine they are for.
fn images(store: &Store, entry: &Descriptor, depth: usize) -> Vec<Result<Image>> {
    if !media_type::is_index(&entry.media_type) {
        return vec![store.load(None, entry.clone(), &Platform::host())];
    }
    // An index may hold indexes, though none needs more than two levels.
    if depth > 3 {
        return vec![Err(Error::invalid("read the index: it is nested too deeply"))];
    }
    let index: Index = match store.json(entry) {
        Ok(index) => index,
        Err(e) => return vec![Err(e)],
    };
    let here = index.manifests.iter().filter(|d| store.blob_path(&d.digest).is_some());
    here.flat_map(|d| images(store, d, depth + 1)).collect()
}

fn row(f: &Fault) -> Value {
    json!({"Of": f.of, "What": f.what, "Then": f.then, "Repaired": f.repaired})
}

fn tell(name: &str, faults: &[Fault]) {
    if faults.is_empty() {
        coracle_sys::say!("{}  good", harmless(name));
    }
    for f in faults {
        let then = f.then.as_deref().map_or(String::new(), |t| format!(" ({t})"));
        coracle_sys::say!("{}  {}: {}{then}", harmless(name), f.of, harmless(&f.what));
    }
}
