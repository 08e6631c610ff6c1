//! The plan of a container: plain, printable data. Every decision is taken, nothing is touched.

use std::path::{Path, PathBuf};

use coracle_sys::idmap::{Maps, Writer};
use coracle_sys::{Context, Error, Result};
use serde::Serialize;

use crate::hooks::{self, Hook};
use crate::host::{self, Host};
use crate::mounts::{self, Around, Hidden, Hierarchy, Mount};
use crate::namespaces::{self, Kind as Ns, Sysctl};
use crate::process::{self, Init};
use crate::rootfs::{self, Source};
use crate::seccomp::{Choice, Program};
use crate::spec::{Linux, Spec};
use crate::volumes::Fill;
use crate::{devices, idmap, lsm, netdev, rdt, timens};

/// What the spec does not say: the runner's own choices.
#[derive(Clone, Debug)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// Relative paths of the spec start here.
    pub bundle: PathBuf,
    /// The root file system, where it is not the spec's `root.path`.
    pub root: Option<Source>,
    /// What runs the command.
    pub init: Init,
    /// The container is killed when its parent dies.
    pub die_with_parent: bool,
    /// It gets a session keyring of its own.
    pub new_keyring: bool,
    /// Descriptors from 3 on that it inherits.
    pub preserve_fds: u32,
    /// Cgroup v1 hierarchies to be seen inside; `None` where the host has v2 alone.
    pub cgroup_v1: Option<Vec<Hierarchy>>,
    /// The filter of system calls, where it is not the spec's `linux.seccomp`.
    pub seccomp: Option<Choice>,
}

/// Everything that will be done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// Namespaces made and joined.
    pub namespaces: namespaces::Plan,
    /// Maps of the new user namespace.
    #[serde(skip)]
    pub maps: Option<Maps>,
    /// The root file system.
    pub root: rootfs::Plan,
    /// Volumes to make of what the root has at their places, before the mounts.
    pub volumes: Vec<Fill>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Device nodes and links.
    pub devices: devices::Plan,
    /// Masked and read-only paths.
    pub hidden: Hidden,
    /// Kernel parameters.
    pub sysctl: Vec<Sysctl>,
    /// Network devices of the host's that become its own.
    pub net_devices: Vec<netdev::Device>,
    /// How far the clocks of a new time namespace are from the host's.
    pub time_offsets: String,
    /// Its class of cache and memory bandwidth.
    #[serde(skip)]
    pub rdt: Option<rdt::Plan>,
    /// The host name inside.
    pub hostname: Option<String>,
    /// The domain name inside.
    pub domainname: Option<String>,
    /// The process.
    pub process: process::Plan,
    /// The container is killed when its parent dies.
    pub die_with_parent: bool,
    /// It gets a session keyring of its own.
    pub new_keyring: bool,
    /// Descriptors from 3 on that it inherits.
    pub preserve_fds: u32,
    /// The filter of system calls.
    #[serde(skip)]
    pub seccomp: Option<Program>,
    /// Programs of the caller's at its turning points.
    pub hooks: Vec<Hook>,
    /// What was asked for and means nothing here.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Is there a new user namespace whose root is nobody on the host, and what the container is made of is opened and
    /// made by this process?
    pub fn is_mapped_by_root(&self) -> bool {
        self.maps.as_ref().is_some_and(|maps| maps.writer == Writer::Privileged)
    }
}

/// Decide everything.
pub fn plan(spec: &Spec, options: &Options, host: &Host) -> Result<Plan> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let label = lsm::plan_mounts(linux.mount_label.as_deref(), host::security_modules)?;
    let namespaces = namespaces::plan(&linux.namespaces)?;
    let new_user = namespaces.makes(Ns::User);
    let maps = match new_user {
        true => Some(idmap::plan(&linux.uid_mappings, &linux.gid_mappings, host)?),
        false => None,
    };
    if !new_user && !namespaces.joins(Ns::User) && !host.has(crate::caps::SYS_ADMIN) {
        return Err(Error::new(
            coracle_sys::Kind::Denied,
            "an ordinary user needs a user namespace: add {\"type\": \"user\"} to linux.namespaces with mappings",
        ));
    }
    let around = Around {
        namespaces: &namespaces,
        bundle: &options.bundle,
        maps: new_user.then_some((&linux.uid_mappings[..], &linux.gid_mappings[..])),
        user: namespaces.joined(Ns::User),
        label: label.as_deref(),
        cgroup_v1: options.cgroup_v1.as_deref(),
    };
    let mounts = mounts::plan(&spec.mounts, &around)?;
    let (source, mut readonly) = root(spec, options)?;
    let propagation = linux.rootfs_propagation.as_deref();
    let mut hidden = mounts::plan_hidden(&linux.masked_paths, &linux.readonly_paths)?;
    hidden.label.clone_from(&label);
    // Nobody enters what would be mounted over the root.
    readonly |= hidden.readonly.extract_if(.., |path| path == Path::new("/")).count() > 0;
    let root = rootfs::plan(source, readonly, propagation, mounts::propagation(&mounts))?;
    let devices = devices::plan(&spec.mounts, &linux.devices, new_user)?;
    let process = spec.process.as_ref().ok_or_else(|| Error::invalid("process is missing"))?;
    let mut warnings = idle(linux, namespaces.is_own(Ns::User));
    for mount in spec.mounts.iter().filter(|m| !m.destination.is_absolute()) {
        warnings
            .push(format!("mount destination {:?} is not absolute: it is taken from /", mount.destination));
    }
    Ok(Plan {
        id: options.id.clone(),
        maps,
        hooks: hooks::plan(spec.hooks.as_ref())?,
        volumes: Vec::new(),
        mounts,
        root,
        devices,
        hidden,
        sysctl: namespaces::plan_sysctl(&linux.sysctl, &namespaces)?,
        net_devices: netdev::plan(linux, &namespaces)?,
        time_offsets: timens::plan(linux, &namespaces)?,
        rdt: rdt::plan(linux.intel_rdt.as_ref(), &options.id, rdt::mountinfo)?,
        hostname: own_name(&spec.hostname, "hostname", &namespaces)?,
        domainname: own_name(&spec.domainname, "domainname", &namespaces)?,
        process: process::plan(process, options.init.clone(), &mut warnings)?.in_linux(linux)?,
        die_with_parent: options.die_with_parent,
        new_keyring: options.new_keyring,
        preserve_fds: options.preserve_fds,
        namespaces,
        seccomp: filter(process, spec, linux, options)?,
        warnings,
    })
}

/// The filter: that of the options, else the spec's own.
fn filter(
    process: &crate::spec::Process,
    spec: &Spec,
    linux: &Linux,
    options: &Options,
) -> Result<Option<Program>> {
    let choice = match (&options.seccomp, &linux.seccomp) {
        (Some(choice), _) => choice.clone(),
        (None, Some(profile)) => Choice::Profile(profile.clone()),
        (None, None) => Choice::Unconfined,
    };
    let mut program = choice.compile(process.capabilities.as_ref().map_or(&[], |sets| &sets.bounding))?;
    if let Some(notify) = program.as_mut().and_then(|program| program.notify.as_mut()) {
        notify.state = serde_json::json!({
            "ociVersion": crate::spec::VERSION,
            "id": options.id,
            "status": "creating",
            "bundle": options.bundle,
            "annotations": spec.annotations,
        });
    }
    Ok(program)
}

/// The root and whether it is read only.
fn root(spec: &Spec, options: &Options) -> Result<(Source, bool)> {
    let readonly = spec.root.as_ref().is_some_and(|r| r.readonly);
    if let Some(source) = &options.root {
        return Ok((source.clone(), readonly));
    }
    let root = spec.root.as_ref().ok_or_else(|| Error::invalid("root is missing"))?;
    if root.path.as_os_str().is_empty() {
        return Err(Error::invalid("root.path is empty"));
    }
    let path = options.bundle.join(&root.path);
    let path =
        std::fs::canonicalize(&path).context(|| format!("open({path:?})")).context(|| "find root.path")?;
    if path == Path::new("/") {
        return Err(Error::invalid("root.path is the host's root"));
    }
    if !path.is_dir() {
        return Err(Error::invalid(format!("root.path is not a directory: {}", path.display())));
    }
    Ok((Source::Directory(path), readonly))
}

/// A name that would otherwise be set for the host.
fn own_name(name: &Option<String>, field: &str, namespaces: &namespaces::Plan) -> Result<Option<String>> {
    match name.as_deref() {
        None | Some("") => Ok(None),
        Some(name) if !namespaces.is_own(Ns::Uts) => Err(Error::invalid(format!(
            "{field} {name:?} would change the host: the container has no uts namespace of its own"
        ))),
        Some(name) if name.len() > 64 => {
            Err(Error::invalid(format!("{field} {name:?} is longer than 64 bytes")))
        }
        Some(name) => Ok(Some(name.to_string())),
    }
}

/// What means nothing, and clients leave in all the same.
fn idle(linux: &Linux, user_namespace: bool) -> Vec<String> {
    let mappings = |list: &[crate::spec::IdMapping]| !list.is_empty() && !user_namespace;
    let memory = linux.resources.as_ref().and_then(|r| r.memory.as_ref());
    [
        ("uidMappings", mappings(&linux.uid_mappings), "there is no user namespace"),
        ("gidMappings", mappings(&linux.gid_mappings), "there is no user namespace"),
        ("resources.memory.kernel", memory.is_some_and(|m| m.kernel.is_some()), "the kernel has it no more"),
        (
            "resources.memory.kernelTCP",
            memory.is_some_and(|m| m.kernel_tcp.is_some()),
            "memory.limit counts it too",
        ),
        (
            "resources.memory.useHierarchy",
            memory.is_some_and(|m| m.use_hierarchy == Some(false)),
            "the kernel always counts the groups below",
        ),
    ]
    .into_iter()
    .filter(|(_, asked, _)| *asked)
    .map(|(field, _, why)| format!("linux.{field} is ignored: {why}"))
    .collect()
}
