//! RUN: from the instruction to the command that the runner executes, with all that is mounted for it.

use std::path::{Path, PathBuf};

use coracle_store::digest::Digest;
use coracle_store::driver::overlay::Top;
use coracle_store::image::Platform;
use coracle_store::layer::below::Found;
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_store::lock::Lock;
use coracle_store::upper::Workspace;
use coracle_sys::mount::attr;
use coracle_sys::{Context, Error, Kind as ErrorKind, Result};

use super::Stage;
use super::files::{own, spread, write};
use crate::dockerfile::cache;
use crate::dockerfile::config::PROXIES;
use crate::dockerfile::copy::{follow, shown};
use crate::dockerfile::exec::{self, Exec, Mounted};
use crate::dockerfile::glob;
use crate::dockerfile::instruction::Run;
use crate::dockerfile::lines::heredoc;
use crate::dockerfile::mounts::{self, Kind, Mount};

/// What stands for the host's address on the bridge.
pub(crate) const GATEWAY: &str = "host-gateway";

/// A file that is executed: its name and its text.
type Script = (String, String);

/// What has to be there as long as the command runs.
#[derive(Default)]
struct Held {
    mounts: Vec<Mounted>,
    locks: Vec<Lock>,
    spaces: Vec<Workspace>,
}

/// Refuse what reaches the host, where the caller has not allowed it: a Dockerfile may be somebody else's.
fn entitle(run: &Run, allowed: &[String]) -> Result<()> {
    for (asks, right) in [
        (run.network.as_deref() == Some("host"), "network.host"),
        (run.security.as_deref() == Some("insecure"), "security.insecure"),
    ] {
        if asks && !allowed.iter().any(|a| a == right) {
            let text = format!("{right} is not allowed (--allow {right} lets a Dockerfile have it)");
            return Err(Error::new(ErrorKind::Denied, text));
        }
    }
    Ok(())
}

impl Stage<'_, '_> {
    pub(super) fn run(&mut self, run: &Run, label: &str) -> Result<()> {
        let build = self.build;
        entitle(run, &build.options.allowed)?;
        if self.state.platform.architecture != Platform::host().architecture {
            // What the kernel cannot execute, a registered emulator may.
            build.report.warn(&format!("RUN for {} needs an emulator (binfmt_misc)", self.state.platform));
        }
        let (argv, script) = self.command(run)?;
        let mounts = self.mounts(run)?;
        let network = run.network.as_deref().filter(|n| *n != "default").or(build.options.network.as_deref());
        let mut parts = vec![self.state.key.hex(), "run".to_owned(), format!("{argv:?} {script:?}")];
        parts.push(format!("{:?}", self.state.env));
        parts.push(format!(
            "{:?} {} {network:?} {:?}",
            self.state.config.user,
            self.state.cwd(),
            run.security
        ));
        if !build.options.flags.is_empty() || !build.options.hosts.is_empty() {
            // Where a name leads may be another at each time.
            let names = build.options.hosts.iter().map(|(name, _)| name).collect::<Vec<_>>();
            parts.push(format!("{:?} {names:?}", build.options.flags));
        }
        for mount in &mounts {
            parts.push(format!("{mount:?}"));
            if mount.kind == Kind::Bind || mount.from.is_some() {
                parts.push(self.identity(mount)?);
            }
        }
        let key = cache::key(&parts.iter().map(String::as_str).collect::<Vec<_>>());
        let what = format!("RUN {}{}", self.state.shown_args(), argv.join(" "));
        self.layer(label, what, key, |stage, told| {
            let space = build.tx.workspace()?;
            let mut held = Held::default();
            let mut exec = Exec {
                argv,
                env: stage.state.env.clone(),
                user: stage.state.config.user.clone().unwrap_or_default(),
                cwd: stage.state.cwd().to_owned(),
                network: build.network(network),
                insecure: run.security.as_deref() == Some("insecure"),
                flags: build.options.flags.clone(),
                ..Exec::default()
            };
            // In capitals and in small letters, whichever was given.
            for name in PROXIES {
                let args = &build.given.args;
                let given = || args.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
                if let Some(value) = args.get(name).or_else(|| given().map(|(_, value)| value)) {
                    exec.env.push((name.to_owned(), value.clone()));
                }
            }
            let mut places: Vec<(String, bool)> = Vec::new();
            if let Some((name, text)) = script {
                let path = space.dir("script", 0o755)?.join("script");
                write(&path, text.as_bytes(), 0o755)?;
                let at = format!("/dev/pipes/{name}");
                exec.binds.push((path, at, true));
            }
            exec.flags.extend(build.options.hosts.iter().filter_map(|(name, ip)| {
                match (ip.as_str(), exec.network) {
                    // Of the host it is the host itself, and where there is no network it leads nowhere.
                    (GATEWAY, "host") => Some(format!("--add-host={name}=127.0.0.1")),
                    (GATEWAY, "none") => None,
                    _ => Some(format!("--add-host={name}={ip}")),
                }
            }));
            for (n, mount) in mounts.iter().enumerate() {
                stage.mount(n, mount, &space, &mut exec, &mut held, &mut places)?;
            }
            let stubs = stage.stubs(&places, &space)?;
            exec::run(build.tx, space, &stage.state.ids, stubs, &exec, told, || drop(held))
        })
    }

    /// The words of the command; of a heredoc that begins with `#!` the script that they name.
    fn command(&self, run: &Run) -> Result<(Vec<String>, Option<Script>)> {
        let mut command = run.command.clone();
        let Some(first) = run.heredocs.first().filter(|_| command.shell) else {
            return Ok((self.state.argv(&command), None));
        };
        let text = command.words.join(" ");
        let compact: String = text.split_whitespace().collect();
        if heredoc(&compact)?.is_some_and(|h| h.name == first.name) && run.heredocs.len() == 1 {
            let content = first.text();
            if content.starts_with("#!") {
                let name: String =
                    first.name.chars().map(|c| if "/,:".contains(c) { '_' } else { c }).collect();
                return Ok((vec![format!("/dev/pipes/{name}")], Some((name, content))));
            }
            command.words = vec![content];
        } else {
            let bodies: String = run.heredocs.iter().map(|h| format!("\n{}{}", h.content, h.name)).collect();
            command.words = vec![text + &bodies];
        }
        Ok((self.state.argv(&command), None))
    }

    fn mounts(&self, run: &Run) -> Result<Vec<Mount>> {
        let expand = |text: &str| self.state.word(text, &self.build.given);
        run.mounts.iter().map(|text| mounts::parse(text, &expand)).collect()
    }

    /// What a bind mount shows, in one word.
    pub(super) fn identity(&self, mount: &Mount) -> Result<String> {
        match &mount.from {
            Some(name) => Ok(self.source(name)?.ids.iter().map(Digest::hex).collect::<Vec<_>>().join(" ")),
            None => Ok(self.build.contents.of_archive(&self.part_of_context(mount)?)?.hex()),
        }
    }

    /// What of the context is mounted.
    fn part_of_context(&self, mount: &Mount) -> Result<Archive> {
        self.part(&*self.build.context_tree()?, mount)
    }

    /// What of a tree is mounted: `file` or `dir`.
    pub(super) fn part(&self, tree: &Archive, mount: &Mount) -> Result<Archive> {
        let source = glob::clean(&format!("/{}", mount.source.as_deref().unwrap_or_default()));
        let from = follow(tree, source.as_bytes())?;
        let mut out = Archive::new();
        match tree.get(shown(&from)) {
            Some((meta, content)) if *content != Content::Dir => {
                out.put("file", meta.clone(), content.clone())?
            }
            _ => {
                let skip = if from.is_empty() { 0 } else { from.len() + 1 };
                for (path, meta, content) in tree.inside(&from) {
                    let content = match content {
                        Content::HardLink(first) => {
                            tree.get(first).map_or(content.clone(), |(_, c)| c.clone())
                        }
                        other => other.clone(),
                    };
                    out.put(Path::new("dir").join(shown(&path[skip..])), meta.clone(), content)?;
                }
                let meta = tree.get(shown(&from)).map_or_else(|| Meta::new(0o755), |(meta, _)| meta.clone());
                out.put("dir", meta, Content::Dir)?;
            }
        }
        Ok(out)
    }

    #[allow(clippy::too_many_arguments)]
    fn mount(
        &self,
        n: usize,
        m: &Mount,
        space: &Workspace,
        exec: &mut Exec,
        held: &mut Held,
        places: &mut Vec<(String, bool)>,
    ) -> Result<()> {
        // Where none is named it is the working directory, for those that have no place of their own.
        let target =
            |default: &str| glob::clean(&self.state.absolute(m.target.as_deref().unwrap_or(default)));
        if target("") == "/" && matches!(m.kind, Kind::Bind | Kind::Cache | Kind::Tmpfs) {
            return Err(Error::invalid("--mount: invalid mount target \"/\""));
        }
        match m.kind {
            Kind::Tmpfs => {
                let at = target("");
                let size = m.size.as_ref().map(|s| format!(":size={s}")).unwrap_or_default();
                places.push((at.clone(), true));
                exec.tmpfs.push(format!(
                    "{at}{}exec,dev",
                    if size.is_empty() { ":".to_owned() } else { format!("{size},") }
                ));
            }
            Kind::Cache => {
                let at = target("");
                let (dir, lock) = self.cache_dir(m.id.as_deref().unwrap_or(&at), m)?;
                held.locks.extend(lock);
                places.push((at.clone(), true));
                exec.binds.push((dir, at, m.writable == Some(false)));
            }
            Kind::Bind => {
                let at = target("");
                let writable = m.writable == Some(true);
                let (path, is_dir) = match &m.from {
                    Some(name) => self.bind_stage(n, name, m, writable, space, held)?,
                    None => self.bind_context(m, writable, held)?,
                };
                places.push((at.clone(), is_dir));
                exec.binds.push((path, at, !writable));
            }
            Kind::Secret => {
                let id = m.id.as_deref().unwrap_or_default();
                let Some(secret) = self.build.options.secrets.iter().find(|s| s.id == id) else {
                    return match m.required {
                        true => Err(Error::not_found(format!(
                            "secret {id}: not found (--secret id={id},src=FILE gives it)"
                        ))),
                        false => Ok(()),
                    };
                };
                let value = secret.read()?;
                if let Some(name) = &m.env {
                    let text = String::from_utf8(value.clone());
                    let text = text.map_err(|_| {
                        Error::invalid(format!("the secret {id} is not UTF-8, and cannot be a variable"))
                    })?;
                    exec.env.retain(|(n, _)| n != name);
                    exec.secrets.push((name.clone(), text));
                    if m.target.is_none() {
                        return Ok(());
                    }
                }
                let closed = attr::NOSUID | attr::NODEV | attr::NOEXEC;
                let memory = exec::in_memory(space, &format!("secret{n}"), closed)?;
                let path = memory.at.join("secret");
                held.mounts.push(memory);
                write(&path, &value, m.mode.unwrap_or(0o400))?;
                own(&path, m)?;
                let at = target(&format!("/run/secrets/{id}"));
                places.push((at.clone(), false));
                exec.binds.push((path, at, true));
            }
            Kind::Ssh => {
                let id = m.id.as_deref().unwrap_or("default");
                let Some((_, socket)) = self.build.options.agents.iter().find(|(i, _)| i == id) else {
                    return match m.required {
                        true => {
                            Err(Error::not_found(format!("unset ssh forward key {id} (--ssh {id} gives it)")))
                        }
                        false => Ok(()),
                    };
                };
                let at = target(&format!("/run/buildkit/ssh_agent.{n}"));
                places.push((at.clone(), false));
                exec.env.retain(|(name, _)| name != "SSH_AUTH_SOCK");
                exec.env.push(("SSH_AUTH_SOCK".to_owned(), at.clone()));
                exec.binds.push((socket.clone(), at, false));
            }
        }
        Ok(())
    }

    /// A folder or file of another stage or image, mounted: links in its path lead nowhere else, and what is written
    /// goes when the command has ended.
    fn bind_stage(
        &self,
        n: usize,
        name: &str,
        m: &Mount,
        writable: bool,
        space: &Workspace,
        held: &mut Held,
    ) -> Result<(PathBuf, bool)> {
        let state = self.source(name)?;
        let layers = self.build.tx.store().stack_paths(&state.ids)?;
        let below = coracle_store::layer::below::Below::open(
            &layers,
            coracle_store::layer::Marks::of_this_process(),
        )?;
        let source = m.source.clone().unwrap_or_else(|| "/".to_owned());
        let path = below.resolve(source.as_bytes())?;
        let is_dir = match below.at(&path)? {
            _ if path.is_empty() => true,
            Some(Found::Dir(_)) => true,
            Some(_) => false,
            None => return Err(crate::dockerfile::copy::missing(&path)),
        };
        let made = |what: &str| writable.then(|| space.dir(&format!("bind{n}-{what}"), 0o755)).transpose();
        let (upper, work) = (made("upper")?, made("work")?);
        let top = upper.as_deref().zip(work.as_deref()).map(|(upper, work)| Top { upper, work });
        let layers =
            if layers.is_empty() { vec![space.dir(&format!("bind{n}-none"), 0o755)?] } else { layers };
        let mounted =
            exec::mount_stack(self.build.tx.store().driver(), &layers, space, &format!("bind{n}"), top)?;
        let at = mounted.at.join(shown(&path));
        held.mounts.push(mounted);
        Ok((at, is_dir))
    }

    /// A folder or file of the context: a copy, without what is ignored.
    fn bind_context(&self, m: &Mount, _writable: bool, held: &mut Held) -> Result<(PathBuf, bool)> {
        let part = self.part_of_context(m)?;
        let is_dir = part.get("dir").is_some();
        let space = self.build.tx.workspace()?;
        let dir = space.dir("context", 0o755)?;
        spread(&part, &dir)?;
        held.spaces.push(space);
        Ok((dir.join(if is_dir { "dir" } else { "file" }), is_dir))
    }

    /// Places for mounts that the layers do not have, to lie below them all.
    fn stubs(&self, places: &[(String, bool)], space: &Workspace) -> Result<Option<PathBuf>> {
        let below = self.below()?;
        let mut dir = None;
        for (at, is_dir) in places {
            let path = below.resolve(at.as_bytes())?;
            if path.is_empty() || below.at(&path)?.is_some() {
                continue;
            }
            let dir = match &dir {
                Some(dir) => dir,
                None => dir.insert(space.dir("stubs", 0o755)?),
            };
            let stub = dir.join(shown(&path));
            let parent = if *is_dir { Some(stub.as_path()) } else { stub.parent() };
            if let Some(parent) = parent {
                std::fs::create_dir_all(parent).context(|| format!("mkdir({parent:?})"))?;
            }
            if !is_dir {
                write(&stub, b"", 0o644)?;
            }
        }
        Ok(dir)
    }
}
