//! A build: the stages that are needed, each after those that it leans on, independent ones side by side.

mod add;
mod caches;
mod files;
mod image;
mod run;

pub(crate) use files::spread;
pub(crate) use run::GATEWAY;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use coracle_store::image::Platform;
use coracle_store::layer::Marks;
use coracle_store::layer::below::Below;
use coracle_store::layer::pack::{Archive, FromDir, source_date_epoch};
use coracle_store::layers::PutLayer;
use coracle_store::{Digest, Transaction};
use coracle_sys::{Error, Result, interrupt, order, time};

use super::cache::{self, Contents, Made};
use super::config::{Given, PROXIES, State};
use super::context::{Context, KEEP_GIT_DIR};
use super::git;
use super::instruction::Instruction;
use super::lines::Located;
use super::mounts;
use super::network;
use super::report::Report;
use super::secrets::Secret;
use super::stages::{self, File, Step};
use super::words::Lexer;

/// What the command line says.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) target: Option<String>,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) platform: Option<Platform>,
    pub(crate) no_cache: bool,
    /// Stages that are built anew.
    pub(crate) no_cache_of: Vec<String>,
    /// Look for newer base images.
    pub(crate) pull: bool,
    pub(crate) network: Option<String>,
    /// What a Dockerfile may ask for that reaches the host: `network.host`, `security.insecure`.
    pub(crate) allowed: Vec<String>,
    pub(crate) hosts: Vec<(String, String)>,
    /// Flags of the runner.
    pub(crate) flags: Vec<String>,
    /// Of the manifest.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) agents: Vec<(String, PathBuf)>,
    /// `--tls-verify`.
    pub(crate) tls_verify: Option<bool>,
}

impl Options {
    /// What opens a repository. Of the secrets the one counts that is for its host.
    pub(crate) fn keys(&self, address: &git::Address) -> Result<git::Keys> {
        let agent = self.agents.iter().find(|(id, _)| id == "default").map(|(_, path)| path.clone());
        let mut keys = git::Keys { agent, ..Default::default() };
        let secret = |id: &str| {
            let named = |id: &str| self.secrets.iter().find(|s| s.id == id);
            let found = named(&format!("{id}.{}", address.host())).or_else(|| named(id));
            let text = found.map(Secret::read).transpose()?.map(String::from_utf8).transpose();
            let text = text.map_err(|_| Error::invalid(format!("the secret {id} is not UTF-8")))?;
            Ok::<_, Error>(text.map(|t| t.trim().to_owned()))
        };
        match secret("GIT_AUTH_HEADER")? {
            Some(header) => keys.header = Some(header),
            None => secret("GIT_AUTH_TOKEN")?.iter().for_each(|token| keys.token(token)),
        }
        Ok(keys)
    }
}

/// A build.
pub(crate) struct Build<'a> {
    tx: &'a Transaction<'a>,
    options: &'a Options,
    context: &'a Context,
    report: &'a Report,
    file: &'a File,
    given: Given,
    contents: Contents,
    tree: OnceLock<Arc<Archive>>,
    network: OnceLock<&'static str>,
    one_reader: Mutex<()>,
    images: Mutex<HashMap<String, Arc<State>>>,
    begun: Mutex<Vec<bool>>,
    done: Mutex<Vec<Option<Arc<State>>>>,
    failed: Mutex<Option<Located>>,
    changed: Condvar,
}

/// What is done for one stage.
struct Stage<'b, 'a> {
    build: &'b Build<'a>,
    number: usize,
    name: String,
    state: State,
    fresh: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Build<'a> {
    /// Begin.
    pub(crate) fn new(
        tx: &'a Transaction<'a>,
        options: &'a Options,
        context: &'a Context,
        file: &'a File,
        report: &'a Report,
    ) -> Result<Self, Located> {
        let given = globals(file, options)?;
        let contents = Contents::of(tx.store(), context.lasting()).map_err(|e| (0, e))?;
        Ok(Self {
            tx,
            options,
            context,
            report,
            file,
            given,
            contents,
            tree: OnceLock::new(),
            network: OnceLock::new(),
            one_reader: Mutex::new(()),
            images: Mutex::default(),
            begun: Mutex::new(vec![false; file.stages.len()]),
            done: Mutex::new(vec![None; file.stages.len()]),
            failed: Mutex::new(None),
            changed: Condvar::new(),
        })
    }

    /// Build the stage that is wanted.
    pub(crate) fn run(&self) -> Result<Arc<State>, Located> {
        let target = self.target()?;
        let needed = self.needed(target).map_err(|e| (0, e))?;
        needed.iter().for_each(|n| lock(&self.begun)[*n] = true);
        if let [only] = needed[..] {
            self.finish(only);
        } else {
            std::thread::scope(|scope| {
                for n in &needed {
                    scope.spawn(move || {
                        // The kernel's older way to mount an overlay changes the working directory.
                        let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS);
                        self.finish(*n);
                    });
                }
            });
        }
        self.contents.keep().map_err(|e| (0, e))?;
        if let Some(e) = lock(&self.failed).take() {
            return Err(e);
        }
        self.unused();
        let done = lock(&self.done)[target].clone();
        done.ok_or_else(|| (0, Error::invalid("the stage was not built")))
    }

    /// Build one, and tell those that wait for it.
    fn finish(&self, n: usize) {
        match self.stage(n) {
            Ok(state) => lock(&self.done)[n] = Some(Arc::new(state)),
            Err(e) => drop(lock(&self.failed).get_or_insert(e)),
        }
        self.changed.notify_all();
    }

    /// Build arguments that nobody has asked for.
    fn unused(&self) {
        let declared = |name: &String| {
            let of = |all: &[(String, Option<String>)]| all.iter().any(|(n, _)| n == name);
            self.file.globals.iter().any(|(_, all)| of(all))
                || self.file.stages.iter().flat_map(|s| &s.steps).any(|step| match &step.instruction {
                    Instruction::Arg(all) => of(all),
                    Instruction::OnBuild(text) => text.contains(name.as_str()),
                    _ => false,
                })
        };
        let known =
            |name: &String| PROXIES.contains(&name.as_str()) || name == KEEP_GIT_DIR || declared(name);
        let unused: Vec<&str> = self.given.args.keys().filter(|n| !known(n)).map(String::as_str).collect();
        if !unused.is_empty() {
            self.report.warn(&format!("One or more build-args [{}] were not consumed", unused.join(" ")));
        }
    }

    fn target(&self) -> Result<usize, Located> {
        let stages = &self.file.stages;
        let Some(wanted) = &self.options.target else { return Ok(stages.len() - 1) };
        let lower = wanted.to_lowercase();
        let named = stages.iter().rposition(|s| s.from.name.as_ref() == Some(&lower));
        let numbered = || wanted.parse::<usize>().ok().filter(|n| *n < stages.len());
        named.or_else(numbered).ok_or_else(|| {
            let names: Vec<&str> = stages.iter().filter_map(|s| s.from.name.as_deref()).collect();
            let near = super::suggest::suggest(wanted, &names).map(|n| format!(" (did you mean {n}?)"));
            let near = near.unwrap_or_default();
            (0, Error::usage(format!("target stage {wanted:?} could not be found{near}")))
        })
    }

    /// The stage of a name that stands before another.
    fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_lowercase();
        self.file.stages[..before].iter().rposition(|s| s.from.name.as_ref() == Some(&lower))
    }

    /// The stage that COPY --from means.
    fn source_stage(&self, name: &str, before: usize) -> Result<Option<usize>> {
        if let Some(found) = self.stage_named(name, before) {
            return Ok(Some(found));
        }
        match name.parse::<usize>() {
            Ok(n) if n < before => Ok(Some(n)),
            Ok(n) => Err(Error::invalid(format!("invalid stage index {n}: there is none before this one"))),
            Err(_) if self.stage_named(name, self.file.stages.len()).is_some() => Err(Error::invalid(
                format!("cannot copy from stage {name:?}, it needs to be defined before the current stage"),
            )),
            Err(_) => Ok(None),
        }
    }

    /// A stage and those that it leans on, in order.
    fn needed(&self, target: usize) -> Result<Vec<usize>> {
        let mut todo = vec![target];
        let mut all: Vec<usize> = Vec::new();
        while let Some(n) = todo.pop() {
            if all.contains(&n) {
                continue;
            }
            all.push(n);
            let stage = &self.file.stages[n];
            let base = Lexer::new(self.given.escape)
                .word(&stage.from.base, &|name| self.given.globals.get(name).cloned())
                .unwrap_or_default();
            todo.extend(self.stage_named(&base, n));
            for step in &stage.steps {
                for from in sources(&step.instruction) {
                    todo.extend(self.source_stage(&from, n).ok().flatten());
                }
            }
        }
        order::sort(&mut all);
        Ok(all)
    }

    /// A stage, once it is built. One that only a trigger of a base asks for is built now.
    fn wait_for(&self, n: usize) -> Result<Arc<State>> {
        if !std::mem::replace(&mut lock(&self.begun)[n], true) {
            self.finish(n);
        }
        let mut done = lock(&self.done);
        loop {
            if let Some(state) = &done[n] {
                return Ok(state.clone());
            }
            if lock(&self.failed).is_some() {
                return Err(Error::invalid("another stage could not be built"));
            }
            done = self.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stage(&self, n: usize) -> Result<State, Located> {
        let stage = &self.file.stages[n];
        let at = stage.line.number;
        let located = |e: Error| (at, e);
        let name = stage.from.name.clone().unwrap_or_else(|| format!("stage-{n}"));
        let (state, triggers) = self.base(n).map_err(located)?;
        let mut steps = stages::triggers(&triggers, at).map_err(located)?;
        steps.extend(stage.steps.iter().cloned());
        let fresh =
            self.options.no_cache || self.options.no_cache_of.iter().any(|s| s.eq_ignore_ascii_case(&name));
        let mut stage = Stage { build: self, number: n, name, state, fresh };
        let total = steps.len() + 1;
        for (number, step) in steps.iter().enumerate() {
            let check = || {
                interrupt::check()?;
                match lock(&self.failed).is_some() {
                    true => Err(Error::invalid("another stage could not be built")),
                    false => Ok(()),
                }
            };
            check().and_then(|()| stage.step(step, number + 2, total)).map_err(|e| (step.line.number, e))?;
        }
        Ok(stage.state)
    }

    /// The build's context, read once.
    fn context_tree(&self) -> Result<Arc<Archive>> {
        let _one = lock(&self.one_reader);
        if let Some(tree) = self.tree.get() {
            return Ok(tree.clone());
        }
        let tree = Arc::new(self.context.tree()?);
        Ok(self.tree.get_or_init(|| tree).clone())
    }

    /// The runner's word for the network that was asked for. Of the default is told once what is to be said of it.
    fn network(&self, asked: Option<&str>) -> &'static str {
        match asked {
            Some("none") => "none",
            Some("host") => "host",
            _ => self.network.get_or_init(|| {
                let found = network::default();
                found.warning.iter().for_each(|w| self.report.warn(w));
                found.word
            }),
        }
    }

    /// What a stack of layers amounts to.
    fn tree_of(&self, ids: &[Digest]) -> Result<Archive> {
        let how = FromDir { owner: None, latest: None, xattrs: true };
        Archive::of_stack(&self.tx.store().stack_paths(ids)?, Marks::of_this_process(), how)
    }
}

/// The stages that an instruction copies from or mounts.
fn sources(instruction: &Instruction) -> Vec<String> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(|m| mounts::from(m).ok()?).collect(),
        _ => Vec::new(),
    }
}

/// ARG before the first FROM, and what every build defines there.
fn globals(file: &File, options: &Options) -> Result<Given, Located> {
    let mut globals = BTreeMap::new();
    let host = Platform::host();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", options.platform.as_ref().unwrap_or(&host))] {
        let words = [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ];
        globals.extend(words.map(|(word, value)| (format!("{prefix}{word}"), value)));
    }
    globals.insert("TARGETSTAGE".to_owned(), options.target.clone().unwrap_or_else(|| "default".to_owned()));
    for (name, value) in &options.args {
        if globals.contains_key(name) {
            globals.insert(name.clone(), value.clone());
        }
    }
    for (at, all) in &file.globals {
        for (name, default) in all {
            let value = match (options.args.get(name), default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(text)) => {
                    let lexer = Lexer::new(file.escape);
                    Some(lexer.word(text, &|name| globals.get(name).cloned()).map_err(|e| (*at, e))?)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.insert(name.clone(), value);
            }
        }
    }
    Ok(Given { args: options.args.clone(), globals, escape: file.escape })
}

impl Stage<'_, '_> {
    fn step(&mut self, step: &Step, number: usize, total: usize) -> Result<()> {
        if self.state.configure(&step.instruction, &self.build.given)? {
            return Ok(());
        }
        let trigger = if step.triggered { "ONBUILD " } else { "" };
        let label = format!("[{} {number}/{total}] {trigger}{}", self.name, step.line.original);
        match &step.instruction {
            Instruction::Run(run) => self.run(run, &label),
            Instruction::Copy(copy) => self.copy(copy, &label),
            Instruction::Workdir(path) => self.workdir(path, &label),
            _ => Err(Error::invalid(format!("{}: it is not done here", step.line.word))),
        }
    }

    fn below(&self) -> Result<Below> {
        Below::open(&self.build.tx.store().stack_paths(&self.state.ids)?, Marks::of_this_process())
    }

    /// The layer of a step: of an earlier time, or made now.
    fn layer(
        &mut self,
        label: &str,
        what: String,
        key: Digest,
        make: impl FnOnce(&Self, &super::report::Told<'_>) -> Result<PutLayer>,
    ) -> Result<()> {
        let build = self.build;
        let told = build.report.step(label);
        let known = (!self.fresh).then(|| cache::look(build.tx, &key, &self.state.ids)).flatten();
        let made = match known {
            Some(made) => {
                told.cached();
                made
            }
            None => {
                let put = make(self, &told).inspect_err(|_| told.failed())?;
                put.warnings.iter().for_each(|w| build.report.warn(w));
                let created = time::rfc3339(source_date_epoch().unwrap_or_else(time::now));
                let made = Made { descriptor: put.descriptor, diff_id: put.diff_id, created };
                // What was changed between its digest and the layer is not what the key says.
                if put.as_seen {
                    cache::remember(build.tx.store(), &key, &made)?;
                }
                told.done();
                made
            }
        };
        self.state.push(made, key, what);
        Ok(())
    }
}
