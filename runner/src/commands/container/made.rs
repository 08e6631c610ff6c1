//! What a container has beside its process: folder, volumes, name; and how it goes again.

use std::path::{Path, PathBuf};

use coracle_store::image::ProcessConfig;
use coracle_store::{ContainerDir, Store};
use coracle_sys::{Context, Error, Kind, Result};

use super::{Made, users};
use crate::commands::forget;
use crate::diary::Event;
use crate::from_image::flags::Flags;
use crate::from_image::mount_words;
use crate::from_image::mounts::{self, Asked, Origin};
use crate::from_image::{Found, userns};
use crate::host::Host;
use crate::record::Record;
use crate::spec::Mount;
use crate::volumes::{self, Outcome};

/// The mounts that were asked for in the folder `here`, their folders made, and the volumes that are to be filled.
pub(super) fn mounts(
    store: &Store,
    dir: &ContainerDir,
    flags: &Flags,
    config: &ProcessConfig,
    here: &Path,
) -> Result<Outcome> {
    let mut asked = asked(flags, config, here)?;
    let taken = borrow(store, &flags.volumes_from)?;
    // Docker's order: the container's own flags, then what is another's, then what the image wants.
    asked.retain(|a| !a.of_image || !taken.mounts.iter().any(|m| m.destination == a.at));
    let named = asked.iter().filter_map(|a| match &a.origin {
        Origin::Volume(name) => name.clone(),
        _ => None,
    });
    let mut names: Vec<String> = named.chain(taken.names).collect();
    coracle_sys::order::sort(&mut names);
    names.dedup();
    // Of one that is found again they are written down.
    if !names.is_empty() && dir.volumes().is_empty() {
        dir.pin_volumes(&names)?;
    }
    let mut all = volumes::make(store, dir, &asked)?;
    for name in &all.memory {
        if let Some(user) = users::running(store, name, &dir.id)? {
            return Err(Error::new(
                Kind::Busy,
                format!("the volume {name} is memory, which one container at a time can have: {user} has it"),
            ));
        }
    }
    for mount in taken.mounts {
        if !all.mounts.iter().any(|m| m.destination == mount.destination) {
            all.plain.extend(taken.plain.iter().find(|at| **at == mount.destination).cloned());
            all.mounts.push(mount);
        }
    }
    Ok(all)
}

/// The mounts of a container that is only shown: nothing of theirs is made, nor looked for.
pub(crate) fn shown(store: &Store, dir: &Path, flags: &Flags, config: &ProcessConfig) -> Result<Vec<Mount>> {
    let here = std::env::current_dir().unwrap_or_default();
    let all = asked(flags, config, &here)?;
    let mount = |(n, asked): (usize, &Asked)| {
        let source = match &asked.origin {
            Origin::Host(path) | Origin::HostMade(path) => Some(path.clone()),
            Origin::Volume(Some(name)) => Some(store.volume_path(name)?),
            Origin::Volume(None) => Some(dir.join("volumes").join(n.to_string())),
            Origin::Tmpfs => None,
        };
        Ok(asked.mount(source.as_deref()))
    };
    all.iter().enumerate().map(mount).collect()
}

/// What other containers have.
#[derive(Default)]
struct Borrowed {
    mounts: Vec<Mount>,
    /// Where volumes are mounted as they lie on disk.
    plain: Vec<PathBuf>,
    /// The volumes with names.
    names: Vec<String>,
}

/// `CONTAINER[:ro|rw]`, each: the folders and volumes that the other container has.
fn borrow(store: &Store, texts: &[String]) -> Result<Borrowed> {
    let mut all = Borrowed::default();
    for text in texts {
        borrow_one(store, text, &mut all).context(|| format!("--volumes-from {text}"))?;
    }
    Ok(all)
}

fn borrow_one(store: &Store, text: &str, out: &mut Borrowed) -> Result<()> {
    let (named, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let readonly = match mode {
        "ro" => true,
        "rw" | "z" | "Z" => false,
        _ => return Err(Error::usage(format!("invalid mode: {mode} (there are ro and rw)"))),
    };
    let dir = super::find(store, named)?;
    let record = Record::read(&dir.path).map_err(|_| super::no_such_container(named))?;
    out.names.extend(dir.volumes());
    for mut mount in record.spec.mounts {
        let own = ["/proc", "/sys", "/dev/mqueue", "/dev/shm"]
            .iter()
            .any(|at| mount.destination == Path::new(at) && mount.source.as_deref() == Some(Path::new(at)));
        if mount.kind.as_deref() != Some("bind") || own {
            continue;
        }
        // The other's ids are not this one's.
        (mount.uid_mappings, mount.gid_mappings) = (Vec::new(), Vec::new());
        mount.options.retain(|word| word != "idmap");
        if mount.source.as_ref().is_some_and(|source| source.starts_with(store.main().root())) {
            out.plain.push(mount.destination.clone());
        }
        if readonly {
            mount.options.retain(|word| word != "rw");
            mount.options.push("ro".to_owned());
        }
        out.mounts.retain(|m| m.destination != mount.destination);
        out.mounts.push(mount);
    }
    Ok(())
}

/// Have files of volumes and folders belong to the ids that the container has for their owners.
pub(super) fn map_ids(found: &mut Found, all: &Outcome, host: &Host) -> Result<()> {
    let ordinary = host.needs_user_namespace();
    if ordinary && !all.owned.is_empty() {
        return Err(Error::unsupported(
            "U: the ids of a mount are mapped by the host's root alone (--userns keep-id gives this user the same id inside)",
        ));
    }
    if ordinary && found.mounts.iter().any(|m| m.options.iter().any(|word| word == "idmap")) {
        return Err(Error::unsupported(
            "idmap: the ids of a mount are mapped by the host's root alone (--userns keep-id gives this user the same id inside)",
        ));
    }
    for mount in found.mounts.iter_mut().filter(|m| m.kind.as_deref() == Some("bind")) {
        let at = &mount.destination;
        if found.maps.is_some()
            && !ordinary
            && all.plain.contains(at)
            && !mount.options.iter().any(|w| w == "idmap")
        {
            mount.options.push("idmap".to_owned());
        }
        let Some((_, (uid, gid))) = all.owned.iter().find(|(place, _)| place == at) else { continue };
        let (uids, gids) = found.maps.clone().unwrap_or_else(|| (userns::all(), userns::all()));
        mount.uid_mappings = userns::exchange(&uids, found.who.uid, *uid);
        mount.gid_mappings = userns::exchange(&gids, found.who.gid, *gid);
    }
    Ok(())
}

impl Made {
    /// Give it its name.
    pub(crate) fn name_it(&self) -> Result<()> {
        let (flags, id) = (&self.flags, &self.record.id);
        if let Some(name) = &flags.name {
            self.store.claim_name(name, id).map_err(|e| match e.kind() {
                Kind::Exists => Error::new(
                    Kind::Exists,
                    format!("the container name {name:?} is already in use (runner rm {name} frees it)"),
                ),
                _ => e,
            })?;
        }
        if let Some(path) = &flags.cidfile {
            use std::io::Write;
            let mut options = std::fs::File::options();
            let file = options.write(true).create_new(true).open(path);
            let mut file = file.map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => in_the_way(path),
                _ => Error::invalid(e.to_string())
                    .wrap(format!("open({path:?}, O_CREAT|O_EXCL)"))
                    .wrap("--cidfile"),
            })?;
            if let Err(e) = file.write_all(id.as_bytes()) {
                let _ = std::fs::remove_file(path);
                return Err(e).context(|| format!("write({path:?})")).context(|| "--cidfile");
            }
        }
        self.tell(&[Event::plain("create")]);
        Ok(())
    }

    /// Take it all away. The container has ended: what goes wrong here is for a sweep to mend.
    pub(crate) fn remove(&self) {
        if let Err(e) = forget(&self.store, &self.dir.id, Some(&self.record.name)) {
            coracle_sys::warn!("runner: {}", e.wrap("remove the container's files"));
        }
    }
}

/// Docker's words.
pub(super) fn in_the_way(path: &str) -> Error {
    Error::new(
        Kind::Exists,
        format!("container ID file found, make sure the other container isn't running or delete {path}"),
    )
}

/// All that is to be mounted, the image's volumes first: what comes later for the same place replaces it.
pub(crate) fn asked(flags: &Flags, config: &ProcessConfig, here: &Path) -> Result<Vec<Asked>> {
    let mut all: Vec<Asked> = Vec::new();
    let image = config.volumes.iter().flatten().map(|(at, _)| mounts::image_volume(at));
    let typed = flags.volume.iter().map(|text| mounts::volume(text, here));
    let typed = typed.chain(flags.mount.iter().map(|text| mount_words::mount(text, here)));
    for next in image.chain(typed).chain(flags.tmpfs.iter().map(|text| mounts::tmpfs(text))) {
        let next = next?;
        all.retain(|a| a.at != next.at);
        all.push(next);
    }
    Ok(all)
}
