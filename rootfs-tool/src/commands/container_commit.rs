//! `rootfs-tool container-commit`: `runner commit`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{CREATED, History, Platform};
use coracle_store::layer::pack::Archive;
use coracle_store::{Locations, Store};
use coracle_sys::{Context, Result, interrupt, time};

use super::{enter_user_namespace, new_name, warn};
use crate::change::apply_all;
use crate::container::{Container, config};

/// Make an image of a container: what it has written becomes a layer on top of its image's. `runner commit` does it of
/// one that runs, too, and pauses it meanwhile.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "container-commit",
    example = "runner commit -m 'with tools' -c 'CMD [\"/bin/sh\"]' my-container my/image:1"
)]
pub(crate) struct ContainerCommit {
    /// who made it
    #[argh(option, short = 'a', arg_name = "AUTHOR")]
    author: Option<String>,
    /// an instruction of a Dockerfile for the image's config: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD
    /// STOPSIGNAL USER VOLUME WORKDIR
    #[argh(option, short = 'c', arg_name = "CHANGE")]
    change: Vec<String>,
    /// a remark for the image's history
    #[argh(option, short = 'm', arg_name = "TEXT")]
    message: Option<String>,
    /// the first process of one that runs: the runner's to say
    #[argh(option, arg_name = "PID")]
    pid: Option<i32>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// its name or id
    #[argh(positional, arg_name = "container")]
    container: String,
    /// the image's name
    #[argh(positional, arg_name = "name")]
    name: Option<String>,
}

impl ContainerCommit {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let name = self.name.as_deref().map(new_name).transpose()?;
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        let container = Container::find(&store, &self.container)?;
        let image = container.image(&store)?;
        let mut process = config::of(&image.config.process(), &container.record)?;
        let created_by = process.cmd.clone().unwrap_or_default().join(" ");
        apply_all(&self.change, &mut process)?;
        let commit = || -> Result<()> {
            let tx = store.begin()?;
            let layer = self.layer(&container, tx.store())?;
            let now = time::rfc3339(time::now());
            let mut config = image.config.clone();
            let mut layers = image.manifest.layers.clone();
            if let Some(layer) = &layer {
                let put = tx.put_layer(layer, image.diff_ids())?;
                warn(&put.warnings);
                layers.push(put.descriptor);
                config.rootfs.diff_ids.push(put.diff_id);
            }
            config.created = Some(now.clone());
            config.author = self.author.clone();
            config.config = Some(process);
            config.history.get_or_insert_default().push(History {
                created: Some(now.clone()),
                created_by: Some(created_by).filter(|c| !c.is_empty()),
                author: self.author.clone(),
                comment: self.message.clone(),
                empty_layer: layer.is_none().then_some(true),
                ..History::default()
            });
            let mut entry = tx.put_image(&config, layers)?;
            entry.annotations.get_or_insert_default().insert(CREATED.to_owned(), now);
            match &name {
                Some(name) => drop(tx.tag(&name.local().to_string(), &entry)?),
                None => tx.add(&entry)?,
            }
            let id = tx.store().load(None, entry, &Platform::host())?.id();
            coracle_sys::say!("{id}");
            Ok(())
        };
        commit().context(|| format!("commit {}", self.container))
    }

    /// What it has written; none where that is nothing.
    fn layer(&self, container: &Container, store: &Store) -> Result<Option<Archive>> {
        let mut layer = container.written(store, self.pid)?;
        // The root is in every upper. It counts where the container has changed it.
        if let Some((meta, _)) = layer.get("")
            && (meta.mode, meta.uid, meta.gid) == container.root_below(store)?
        {
            layer.remove("")?;
        }
        Ok((!layer.is_empty()).then_some(layer))
    }
}
