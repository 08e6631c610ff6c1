//! From what was typed and what the image says to a config.json. Everything after that is the same
//! code as for a bundle. Nothing of the host is changed here.

mod defaults;
mod devices;
pub(crate) mod env_file;
mod field;
pub(crate) mod flags;
mod limits;
pub(crate) mod mount_words;
pub(crate) mod mounts;
pub(crate) mod secrets;
pub(crate) mod units;
pub(crate) mod untrusted;
pub(crate) mod user;
pub(crate) mod userns;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_store::image::ProcessConfig;
use coracle_sys::order;
use coracle_sys::{Error, Kind, Result, quantity};

use crate::spec::{Capabilities, IdMapping, Linux, Mount, Namespace, Process, Root, Spec, User, VERSION};
use flags::Flags;
use user::Who;

/// What the flags and the image do not say.
pub(crate) struct Found {
    /// The container's id.
    pub(crate) id: String,
    /// The user, resolved by the image's files.
    pub(crate) who: Who,
    /// Mounts beyond those that every container has, with their sources found.
    pub(crate) mounts: Vec<Mount>,
    /// Ids of a user namespace of the container's own, for users and groups.
    pub(crate) maps: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
    /// Whether the kernel can limit swap.
    pub(crate) swap_counted: bool,
    /// The capabilities that can be given, as a mask.
    pub(crate) ours: u64,
    /// Rows and columns of the caller's terminal.
    pub(crate) window: (u16, u16),
    /// The kernel's security modules, where a flag is about them: `capability,landlock,apparmor`.
    pub(crate) modules: String,
    /// How many processors the host can have.
    pub(crate) cpus: usize,
    /// How many of them there are.
    pub(crate) online: usize,
    /// Namespaces of other containers, `container:ID` looked up: kind and path.
    pub(crate) joined: BTreeMap<String, PathBuf>,
    /// A variable of the caller, for `-e NAME`.
    pub(crate) variable: fn(&str) -> Option<String>,
    /// The lines of the files of `--env-file`, each `NAME=VALUE`.
    pub(crate) env_files: Vec<String>,
}

/// The command: what stands behind the image, else the image's own.
pub(crate) fn command(config: &ProcessConfig, flags: &Flags, typed: &[String]) -> Result<Vec<String>> {
    let own = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut argv = match flags.entrypoint.as_deref() {
        // An entry point from the command line takes the image's command with it, as in docker.
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
        None => own(&config.entrypoint),
    };
    match (typed.is_empty(), &flags.entrypoint) {
        (false, _) => argv.extend_from_slice(typed),
        (true, None) => argv.extend(own(&config.cmd)),
        (true, Some(_)) => {}
    }
    if argv.is_empty() {
        return Err(Error::usage("no command specified: the image names none, so say one behind it"));
    }
    Ok(argv)
}

/// The config.json that the flags amount to.
pub(crate) fn spec(config: &ProcessConfig, flags: &Flags, typed: &[String], found: Found) -> Result<Spec> {
    let namespaces = namespaces(flags, &found)?;
    let own = |kind: &str| namespaces.iter().any(|n| n.kind == kind && n.path.is_none());
    let host = |kind: &str| !namespaces.iter().any(|n| n.kind == kind);
    let shm_size = match &flags.shm_size {
        Some(text) => quantity::size(text, "--shm-size")?,
        None => 64 << 20,
    };
    let shared = defaults::Shared {
        privileged: flags.privileged,
        bind_sys: found.maps.is_some() && !own("network"),
        bind_proc: found.maps.is_some() && host("pid"),
        host_ipc: host("ipc"),
        shm_size,
        tty_group: found.maps.as_ref().is_none_or(|(_, gids)| maps(gids, 5)),
    };
    let mut mounts = defaults::mounts(&shared);
    // A mount of the user's replaces ours at the same place, and lower ones come first.
    mounts.retain(|m| !found.mounts.iter().any(|asked| asked.destination == m.destination));
    // Of two of the same depth the first stays the first.
    let mut asked: Vec<_> = found.mounts.iter().collect();
    let depth = |m: &Mount| m.destination.components().count();
    order::sort_by(&mut asked, |a, b| depth(a).cmp(&depth(b)));
    mounts.extend(asked.into_iter().cloned());
    if let Some(name) = &flags.hostname {
        check_host_name(name)?;
    }
    let hostname = own("uts").then(|| flags.hostname.clone().unwrap_or_else(|| short(&found.id).to_owned()));
    if hostname.is_none() && flags.hostname.is_some() {
        return Err(Error::usage("--hostname would change the host: it does not go with --uts host"));
    }
    let (uid_mappings, gid_mappings) = found.maps.clone().unwrap_or_default();
    let masks = !flags.privileged;
    let devices = devices::asked(flags, found.maps.is_some())?;
    let linux = Linux {
        resources: limits::resources(
            flags,
            &devices,
            found.maps.is_some(),
            found.swap_counted,
            found.online,
        )?,
        uid_mappings,
        gid_mappings,
        sysctl: pairs(&flags.sysctl, "--sysctl")?,
        devices,
        masked_paths: if masks { defaults::masked(found.cpus) } else { Vec::new() },
        readonly_paths: if masks { defaults::readonly() } else { Vec::new() },
        namespaces,
        cgroups_path: flags.cgroup_parent.as_deref().map(|parent| match parent.strip_suffix('/') {
            // As systemd is asked for it.
            None if parent.ends_with(".slice") => format!("{parent}:coracle:{}", found.id),
            at => format!("{}/{}", at.unwrap_or(parent), found.id),
        }),
        ..Linux::default()
    };
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(config, flags, typed, &found)?),
        root: Some(Root { path: "rootfs".into(), readonly: flags.read_only }),
        hostname,
        domainname: flags.domainname.clone(),
        mounts,
        linux: Some(linux),
        annotations: pairs(&flags.annotation, "--annotation")?,
        ..Spec::default()
    })
}

fn process(config: &ProcessConfig, flags: &Flags, typed: &[String], found: &Found) -> Result<Process> {
    let cwd = flags.workdir.as_deref().or(config.working_dir.as_deref()).filter(|d| !d.is_empty());
    let cwd = Path::new(cwd.unwrap_or("/"));
    if !cwd.is_absolute() {
        return Err(Error::usage(format!("the working directory {cwd:?} is not absolute")));
    }
    let who = &found.who;
    if let Some((uids, gids)) = &found.maps {
        let unmapped = |what: &str, id: u32| {
            Error::new(
                Kind::Unsupported,
                format!(
                    "the {what} {id} is not in the container's user namespace: more subordinate ids are needed (/etc/subuid, /etc/subgid)"
                ),
            )
        };
        if !maps(uids, who.uid) {
            return Err(unmapped("user", who.uid));
        }
        if let Some(gid) = [who.gid].iter().chain(&who.groups).find(|gid| !maps(gids, **gid)) {
            return Err(unmapped("group", *gid));
        }
    }
    let no_new_privileges = security(flags, &found.modules)?;
    Ok(Process {
        terminal: flags.tty,
        console_size: flags.tty.then(|| defaults::console(found.window)),
        user: User { uid: who.uid, gid: who.gid, umask: None, additional_gids: who.groups.clone() },
        args: command(config, flags, typed)?,
        env: environment(config, flags, found)?,
        cwd: cwd.to_path_buf(),
        capabilities: Some(capabilities(flags, who.uid, found.ours)?),
        rlimits: flags.ulimit.iter().map(|text| units::ulimit(text)).collect::<Result<_>>()?,
        no_new_privileges,
        oom_score_adj: flags.oom_score_adj,
        ..Process::default()
    })
}

/// `--security-opt`: whether privileges are fixed. What is about seccomp is read elsewhere. `modules`
/// are the kernel's security modules: to turn one off that is not there is done already.
fn security(flags: &Flags, modules: &str) -> Result<bool> {
    let has = |name: &str| modules.split(',').any(|m| m.trim() == name);
    let mut no_new_privileges = false;
    for option in &flags.security_opt {
        let (key, word) = option.split_once([':', '=']).unwrap_or((option, ""));
        match (key, word) {
            ("no-new-privileges", "" | "true") => no_new_privileges = true,
            ("no-new-privileges", "false") => no_new_privileges = false,
            ("seccomp", word) if !word.is_empty() => {}
            ("label", "disable") if !has("selinux") => {}
            ("apparmor", "unconfined") if !has("apparmor") => {}
            ("label" | "apparmor", _) => {
                let (module, name) =
                    if key == "label" { ("selinux", "SELinux") } else { ("apparmor", "AppArmor") };
                let why = if has(module) {
                    "containers are given none yet"
                } else {
                    "this host has no such module"
                };
                return Err(Error::unsupported(format!("--security-opt {option}: {name}: {why}")));
            }
            _ => {
                return Err(Error::unsupported(format!(
                    "--security-opt {option:?} is unknown: there are no-new-privileges and seccomp="
                )));
            }
        }
    }
    Ok(no_new_privileges)
}

/// An ordinary user holds what was asked for by name: it is made ambient, else the exec loses it.
fn capabilities(flags: &Flags, uid: u32, ours: u64) -> Result<Capabilities> {
    let (all, asked) = units::capabilities(&flags.cap_add, &flags.cap_drop, flags.privileged, ours)?;
    Ok(granted(all, asked, uid))
}

/// The sets of a user: root holds all, another what was asked for by name.
pub(crate) fn granted(all: Vec<String>, asked: Vec<String>, uid: u32) -> Capabilities {
    if uid == 0 {
        return Capabilities {
            bounding: all.clone(),
            effective: all.clone(),
            permitted: all,
            ..Capabilities::default()
        };
    }
    Capabilities {
        bounding: all,
        effective: asked.clone(),
        permitted: asked.clone(),
        inheritable: asked.clone(),
        ambient: asked,
    }
}

/// Set a `NAME=VALUE`, in place of what the name had before.
pub(crate) fn set_variable(env: &mut Vec<String>, text: &str) {
    let name = text.split('=').next();
    env.retain(|old| old.split('=').next() != name);
    env.push(text.to_owned());
}

/// The image's variables, then HOME, HOSTNAME and TERM, then the files', then those typed.
fn environment(config: &ProcessConfig, flags: &Flags, found: &Found) -> Result<Vec<String>> {
    // What comes later for a name takes the place of what was there, and stands at the end. An image may
    // have any number of them.
    let (mut env, mut places) = (Vec::<Option<String>>::new(), BTreeMap::<String, usize>::new());
    let mut set = |text: &str| {
        let name = text.split('=').next().unwrap_or_default().to_owned();
        if let Some(old) = places.insert(name, env.len()) {
            env[old] = None;
        }
        env.push(Some(text.to_owned()));
    };
    set(defaults::PATH);
    if !flags.no_hostname {
        set(&format!("HOSTNAME={}", flags.hostname.as_deref().unwrap_or(short(&found.id))));
    }
    if flags.tty {
        set("TERM=xterm");
    }
    set(&format!("HOME={}", found.who.home.as_deref().unwrap_or("/")));
    // An image may hold what is no variable.
    let whole = |text: &&String| text.find('=').is_some_and(|at| at > 0);
    config.env.iter().flatten().filter(whole).for_each(|text| set(text));
    for text in found.env_files.iter().chain(&flags.env) {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::usage(format!("invalid environment variable: {text:?}"))),
            Some(_) => set(text),
            None if text.is_empty() => return Err(Error::usage("invalid environment variable: \"\"")),
            None => {
                if let Some(value) = (found.variable)(text) {
                    set(&format!("{text}={value}"));
                }
            }
        }
    }
    Ok(env.into_iter().flatten().collect())
}

/// Which namespaces are made, and which are another container's. What is left out is the host's.
fn namespaces(flags: &Flags, found: &Found) -> Result<Vec<Namespace>> {
    let mut all = vec![Namespace { kind: "mount".to_owned(), path: None }];
    match flags.cgroupns.as_deref() {
        None | Some("" | "private") => all.push(Namespace { kind: "cgroup".to_owned(), path: None }),
        Some("host") => {}
        Some(word) => return Err(Error::usage(format!("--cgroupns {word:?}: it is private or host"))),
    }
    if found.maps.is_some() {
        all.push(Namespace { kind: "user".to_owned(), path: None });
    }
    for (kind, flag, word) in shared_words(flags)? {
        let path = match word {
            "" | "own" | "private" | "shareable" | "none" => None,
            "host" => continue,
            // Which one is decided elsewhere.
            _ if kind == "network" && !word.contains(':') => None,
            _ => Some(
                found
                    .joined
                    .get(kind)
                    .cloned()
                    .ok_or_else(|| Error::usage(format!("{flag} {word:?} is unknown")))?,
            ),
        };
        all.push(Namespace { kind: kind.to_owned(), path });
    }
    Ok(all)
}

/// Kind of namespace, flag, and the word given for it.
pub(crate) fn shared_words(flags: &Flags) -> Result<[(&'static str, &'static str, &str); 4]> {
    let network = match (&flags.network, &flags.net) {
        (Some(_), Some(_)) => return Err(Error::usage("--network and --net are the same flag: say one")),
        (network, net) => network.as_deref().or(net.as_deref()).unwrap_or("default"),
    };
    let all = [
        ("network", "--network", network),
        ("pid", "--pid", flags.pid.as_deref().unwrap_or("own")),
        ("ipc", "--ipc", flags.ipc.as_deref().unwrap_or("own")),
        ("uts", "--uts", flags.uts.as_deref().unwrap_or("own")),
    ];
    for (kind, flag, word) in &all {
        let network = *kind == "network";
        let known = matches!(*word, "host" | "own" | "private")
            // Docker's word: who asks for another's by container:ID gets it of every container.
            || *kind == "ipc" && *word == "shareable"
            || network && (!word.is_empty() && !word.contains([':', '/']) || word.starts_with("ns:/"));
        if known || word.strip_prefix("container:").is_some_and(|id| !id.is_empty()) {
            continue;
        }
        return Err(match *kind {
            "network" => Error::usage(format!(
                "--network {word:?}: it is bridge, none, host, container:ID, ns:/PATH or the name of a network"
            )),
            _ => Error::usage(format!("{flag} {word:?}: it is own, host or container:ID")),
        });
    }
    Ok(all)
}

fn pairs(texts: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let read = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("{flag} {text:?}: it is NAME=VALUE"))),
    };
    order::map(texts.iter().map(read))
}

fn maps(mappings: &[IdMapping], id: u32) -> bool {
    mappings.iter().any(|m| id >= m.container_id && id - m.container_id < m.size)
}

/// The form of an id that people see.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The name is written into /etc/hosts: the end of a line in it would make lines of its own there.
fn check_host_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(Error::usage(format!(
            "--hostname {name:?}: letters, digits, - . _ and at most 64 of them"
        )));
    }
    Ok(())
}
