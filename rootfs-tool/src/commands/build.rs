//! `rootfs-tool build`.

mod options;

use std::io::Write;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{CREATED, Descriptor, Platform};
use coracle_store::{Locations, Store, Transaction};
use coracle_sys::idmap::{self, Grant};
use coracle_sys::print::harmless;
use coracle_sys::{Context as _, Error, Result, interrupt, time};
use serde_json::json;

use super::compose::Compose;
use super::push::Push;
use crate::dockerfile::build::Build as Building;
use crate::dockerfile::context::{self, Context};
use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::lines::Located;
use crate::dockerfile::output::Output;
use crate::dockerfile::report::Report;
use crate::dockerfile::{exec, stages};

/// Build an image from a Dockerfile and a context: a folder, a tar, - for a tar or a Dockerfile on standard input, a git
/// repository (https://HOST/NAME.git#REF:FOLDER, git@HOST:NAME), or the address of a tar or a Dockerfile. A folder with a
/// rootfs.toml is composed.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "build",
    example = "rootfs-tool build -t app .
rootfs-tool build --target test --build-arg VERSION=2 -f deploy/Dockerfile .
rootfs-tool build -o out - < Dockerfile
rootfs-tool build -t app https://git.example.org/app.git#v1.2:docker",
    note = "The language is that of BuildKit. Steps whose input is as it was are not done again; prune forgets them. RUN goes
through the runner, which lies beside this program or is named by CORACLE_RUNNER. Repositories are fetched by the host's git;
--secret id=GIT_AUTH_TOKEN or GIT_AUTH_HEADER opens those that are not for everybody. SOURCE_DATE_EPOCH is the time of all that
is made."
)]
pub(crate) struct Build {
    /// a name of the image; may be said several times
    #[argh(option, short = 't', arg_name = "NAME")]
    tag: Vec<String>,
    /// the Dockerfile, or - for standard input; CONTEXT/Dockerfile if not said
    #[argh(option, short = 'f', arg_name = "FILE")]
    file: Option<String>,
    /// the stage to build, the last one if not said
    #[argh(option, arg_name = "STAGE")]
    target: Option<String>,
    /// value of an ARG: NAME=VALUE, or NAME for that of the environment
    #[argh(option, long = "build-arg", arg_name = "ARG")]
    build_arg: Vec<String>,
    /// label of the image: NAME=VALUE
    #[argh(option, arg_name = "LABEL")]
    label: Vec<String>,
    /// the machine that it is for: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
    /// do every step anew
    #[argh(switch, long = "no-cache")]
    no_cache: bool,
    /// do the steps of these stages anew
    #[argh(option, long = "no-cache-filter", arg_name = "STAGE")]
    no_cache_filter: Vec<String>,
    /// an image of the store whose layers may be used again, as those of all images here are
    #[argh(option, long = "cache-from", arg_name = "IMAGE")]
    cache_from: Vec<String>,
    /// look for newer base images
    #[argh(switch)]
    pull: bool,
    /// network of RUN: default, a network of its own behind a bridge (pasta or slirp4netns for an ordinary user); none; or host
    #[argh(option, arg_name = "NETWORK")]
    network: Option<String>,
    /// line of /etc/hosts for RUN: NAME:ADDRESS or NAME:host-gateway
    #[argh(option, long = "add-host", arg_name = "HOST")]
    add_host: Vec<String>,
    /// size of /dev/shm for RUN
    #[argh(option, long = "shm-size", arg_name = "SIZE")]
    shm_size: Option<String>,
    /// resource limit for RUN: NAME=SOFT[:HARD]
    #[argh(option, arg_name = "LIMIT")]
    ulimit: Vec<String>,
    /// memory limit of RUN, such as 512m
    #[argh(option, short = 'm', arg_name = "SIZE")]
    memory: Option<String>,
    /// limit of memory and swap together of RUN
    #[argh(option, long = "memory-swap", arg_name = "SIZE")]
    memory_swap: Option<String>,
    /// period of --cpu-quota in microseconds
    #[argh(option, long = "cpu-period", arg_name = "TIME")]
    cpu_period: Option<String>,
    /// microseconds of processor time of RUN in one period
    #[argh(option, long = "cpu-quota", arg_name = "TIME")]
    cpu_quota: Option<String>,
    /// relative share of processor time of RUN
    #[argh(option, short = 'c', long = "cpu-shares", arg_name = "NUMBER")]
    cpu_shares: Option<String>,
    /// processors that RUN may use, such as 0-2,4
    #[argh(option, long = "cpuset-cpus", arg_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// memory nodes that RUN may use
    #[argh(option, long = "cpuset-mems", arg_name = "LIST")]
    cpuset_mems: Option<String>,
    /// secret for RUN --mount=type=secret: id=ID[,src=FILE][,env=NAME]
    #[argh(option, arg_name = "SECRET")]
    secret: Vec<String>,
    /// agent for RUN --mount=type=ssh: default or ID[=SOCKET]
    #[argh(option, arg_name = "AGENT")]
    ssh: Vec<String>,
    /// where it goes instead of the store: FOLDER, -, or type=local|tar|oci|docker|image[,dest=PATH]
    #[argh(option, short = 'o', arg_name = "OUTPUT")]
    output: Option<String>,
    /// print the image's id and nothing else
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// how it goes is told so: auto, plain or quiet
    #[argh(option, arg_name = "KIND")]
    progress: Option<String>,
    /// write the image's id to a file
    #[argh(option, arg_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// write what was built to a file, as JSON
    #[argh(option, long = "metadata-file", arg_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// note on the image's manifest: NAME=VALUE
    #[argh(option, arg_name = "NOTE")]
    annotation: Vec<String>,
    /// send the image to its registry too
    #[argh(switch)]
    push: bool,
    /// look at the Dockerfile, say what is worth a word, and build nothing
    #[argh(switch)]
    check: bool,
    /// docker's, and so anyhow: the image goes into the store
    #[argh(switch)]
    load: bool,
    /// docker's, and so anyhow: nothing is left of a step but its layer
    #[argh(switch)]
    #[allow(dead_code)] // it is so anyhow
    rm: bool,
    /// the same
    #[argh(switch, long = "force-rm")]
    #[allow(dead_code)] // it is so anyhow
    force_rm: bool,
    /// network.host or security.insecure: what RUN --network=host and RUN --security=insecure need
    #[argh(option, arg_name = "RIGHT")]
    allow: Vec<String>,
    /// false, which is so anyhow: there are no attestations
    #[argh(option, arg_name = "BOOL")]
    provenance: Option<String>,
    /// false, which is so anyhow
    #[argh(option, arg_name = "BOOL")]
    sbom: Option<String>,
    /// refused but for disabled=true
    #[argh(option, arg_name = "KIND", hidden_help)]
    attest: Vec<String>,
    /// refused
    #[argh(option, long = "build-context", arg_name = "NAME", hidden_help)]
    build_context: Vec<String>,
    /// refused
    #[argh(option, long = "cache-to", arg_name = "PLACE", hidden_help)]
    cache_to: Vec<String>,
    /// refused
    #[argh(option, long = "cgroup-parent", arg_name = "GROUP", hidden_help)]
    cgroup_parent: Option<String>,
    /// refused
    #[argh(switch, hidden_help)]
    squash: bool,
    /// refused
    #[argh(option, arg_name = "NAME", hidden_help)]
    builder: Option<String>,
    /// refused but for default
    #[argh(option, arg_name = "KIND", hidden_help)]
    isolation: Option<String>,
    /// false allows plain HTTP and any certificate, where an image is pulled or pushed
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a folder, a tar, - for standard input, or an address
    #[argh(positional, arg_name = "context")]
    context: String,
}

impl Build {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let dir = Path::new(&self.context);
        let has = |name: &str| dir.join(name).is_file();
        if self.file.is_none() && has("rootfs.toml") && !has("Dockerfile") {
            return self.compose();
        }
        let options = self.options()?;
        let output = self.output.as_deref().map(str::parse::<Output>).transpose()?;
        let mut names = self.tag.clone();
        names.extend(output.iter().flat_map(|o| o.names.clone()));
        let full = |name: &String| Ok(super::new_name(name)?.local().to_string());
        let names = names.iter().map(full).collect::<Result<Vec<String>>>()?;
        let quiet = match self.progress.as_deref() {
            None | Some("auto" | "plain") => self.quiet,
            Some("quiet") => true,
            Some(other) => {
                return Err(Error::usage(format!("--progress {other}: there are auto, plain and quiet")));
            }
        };
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        let apart = exec::enter_mount_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let report = Report::new(quiet);
        let keep =
            options.args.get(context::KEEP_GIT_DIR).is_some_and(|v| matches!(v.as_str(), "1" | "true"));
        let wish = context::Wish { keys: &|address| options.keys(address), keep_git_dir: keep };
        let context = context::find(&tx, &self.context, self.file.as_deref(), &wish, &report)?;
        let file = stages::read(&context.dockerfile).map_err(|e| located(&context, e))?;
        for (at, text) in &file.warnings {
            report.warn(&format!("{}:{at}: {text}", context.shown));
        }
        if self.check {
            return match file.warnings.len() {
                0 => {
                    coracle_sys::say!("Check complete, no warnings found.");
                    Ok(())
                }
                n => Err(Error::invalid(format!("check {}: warnings found: {n}", context.shown))),
            };
        }
        let runs = |s: &stages::Stage| s.steps.iter().any(|s| matches!(s.instruction, Instruction::Run(_)));
        if let Err(e) = apart
            && file.stages.iter().any(runs)
        {
            return Err(e.wrap("make the mounts that RUN needs"));
        }
        self.look_for_caches(&tx, &report);
        let build =
            Building::new(&tx, &options, &context, &file, &report).map_err(|e| located(&context, e))?;
        let state = build.run().map_err(|e| located(&context, e))?;
        interrupt::check()?;
        let manifest = build.put(&state)?;
        let into_store = output.as_ref().is_none_or(Output::is_image);
        if into_store {
            self.name(&tx, &manifest, &names)?;
        }
        let platform = state.platform.clone();
        if let Some(output) = &output {
            output.write(tx.store(), &manifest, &state.ids, &names, &platform)?;
        }
        self.tell(&tx, &manifest, &names, &platform, quiet, into_store)?;
        drop(build);
        drop(context);
        drop(tx);
        match self.push {
            true => self
                .tag
                .iter()
                .try_for_each(|name| Push::of(name, quiet, self.tls_verify, self.store.clone()).run()),
            false => Ok(()),
        }
    }

    /// A folder with a recipe.
    fn compose(self) -> Result<()> {
        let others = [
            ("--target", self.target.is_some()),
            ("--build-arg", !self.build_arg.is_empty()),
            ("--label", !self.label.is_empty()),
            ("--platform", self.platform.is_some()),
            ("--no-cache", self.no_cache || !self.no_cache_filter.is_empty()),
            ("--cache-from", !self.cache_from.is_empty()),
            ("--network", self.network.is_some()),
            ("--add-host", !self.add_host.is_empty()),
            ("--shm-size", self.shm_size.is_some()),
            ("--ulimit", !self.ulimit.is_empty()),
            ("--secret", !self.secret.is_empty()),
            ("--ssh", !self.ssh.is_empty()),
            ("--output", self.output.is_some()),
            ("--iidfile", self.iidfile.is_some()),
            ("--metadata-file", self.metadata_file.is_some()),
            ("--pull", self.pull),
            ("--progress", self.progress.is_some()),
            ("--tls-verify", self.tls_verify.is_some()),
            ("--annotation", !self.annotation.is_empty()),
            ("--push", self.push),
            ("--check", self.check),
            ("--memory", self.memory.is_some() || self.memory_swap.is_some()),
            ("--cpu-quota", self.cpu_quota.is_some() || self.cpu_period.is_some()),
            ("--cpu-shares", self.cpu_shares.is_some()),
            ("--cpuset-cpus", self.cpuset_cpus.is_some() || self.cpuset_mems.is_some()),
        ];
        if let Some((flag, _)) = others.iter().find(|(_, said)| *said) {
            return Err(Error::usage(format!(
                "{flag} goes with Dockerfiles: {} has a rootfs.toml and none",
                self.context
            )));
        }
        Compose::of(self.tag, self.quiet, self.store, self.context.into()).run()
    }

    /// All layers of the store are looked at anyway; what is not here is told.
    fn look_for_caches(&self, tx: &Transaction<'_>, report: &Report) {
        for name in &self.cache_from {
            if tx.store().resolve(name).is_err() {
                report.warn(&format!("--cache-from {name}: there is no such image in the store"));
            }
        }
    }

    fn name(&self, tx: &Transaction<'_>, manifest: &Descriptor, names: &[String]) -> Result<()> {
        let mut entry = manifest.clone();
        let there = names.first().and_then(|name| tx.store().find(name).ok()).map(|(_, d)| d);
        let there =
            there.filter(|d| d.digest == manifest.digest).and_then(|d| d.annotations?.remove(CREATED));
        let created = there.unwrap_or_else(|| time::rfc3339(time::now()));
        entry.annotations.get_or_insert_default().insert(CREATED.to_owned(), created);
        for name in names {
            tx.tag(name, &entry)?;
        }
        if names.is_empty() && tx.store().find(&manifest.digest.to_string()).is_err() {
            tx.add(&entry)?;
        }
        Ok(())
    }

    fn tell(
        &self,
        tx: &Transaction<'_>,
        manifest: &Descriptor,
        names: &[String],
        platform: &Platform,
        quiet: bool,
        into_store: bool,
    ) -> Result<()> {
        let id = tx.store().load(None, manifest.clone(), platform)?.id();
        if let Some(path) = &self.iidfile {
            write(path, id.to_string().as_bytes()).context(|| "--iidfile")?;
        }
        if let Some(path) = &self.metadata_file {
            let mut told = json!({
                "containerimage.config.digest": id.to_string(),
                "containerimage.digest": manifest.digest.to_string(),
            });
            if !names.is_empty() {
                told["image.name"] = names.join(",").into();
            }
            write(path, format!("{told:#}\n").as_bytes()).context(|| "--metadata-file")?;
        }
        if !into_store {
            return Ok(());
        }
        if quiet {
            coracle_sys::say!("{id}");
            return Ok(());
        }
        match names.is_empty() {
            true => coracle_sys::say!("{}", id.short()),
            false => names.iter().for_each(|n| coracle_sys::say!("{}  {}", harmless(n), id.short())),
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut out = std::fs::File::create(path).context(|| format!("open({path:?}, O_CREAT)"))?;
    out.write_all(bytes).context(|| format!("write({path:?})"))
}

/// The Dockerfile's lines around an error, and the error with its place.
fn located(context: &Context, (at, e): Located) -> Error {
    if at == 0 {
        return e;
    }
    let rule = "--------------------";
    coracle_sys::warn!("{}:{at}\n{rule}", context.shown);
    for (n, line) in context.dockerfile.lines().enumerate().skip(at.saturating_sub(3)).take(5) {
        let mark = if n + 1 == at { ">>>" } else { "   " };
        coracle_sys::warn!("{:4} | {mark} {}", n + 1, harmless(line));
    }
    coracle_sys::warn!("{rule}");
    e.wrap(format!("{}:{at}", context.shown))
}

/// RUN mounts and executes, which an ordinary user may in a user namespace alone, be it one of a single id.
fn enter_user_namespace() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    if let Err(e) = idmap::plan(&Grant::of_this_user()).enter() {
        coracle_sys::warn!("rootfs-tool: RUN will not work: {e}");
    }
}
