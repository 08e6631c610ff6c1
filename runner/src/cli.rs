//! The command line: flags before the verb, the verb, and what follows it. What the words mean is
//! each verb's own file's to say.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::CommandInfoWithArgs;
use coracle_store::driver::asked;
use coracle_sys::argv::{Near, Tail, normalise};
use coracle_sys::print::harmless;
use coracle_sys::{Context, Error, Result, process, time};
use serde_json::json;

use crate::cgroups::Manager;
use crate::commands::{
    Global, attach, container_files, create, delete, doctor, events, exec, exit_code, features, image_verb,
    info, init, inspect, kill, list, logs, network, nouns, pause, port, prune, ps, rename, rm, run, spec,
    start, state, stats, stop, top, typed, update, version, volume, wait,
};
use crate::from_image::flags::{self, Flags};
use crate::guise::{self, Guise};

/// What `--help` prints.
pub const HELP: &str = "\
Coracle's runner: runs commands in containers, without a daemon.

Usage: runner [--store DIR] COMMAND ...

  run IMAGE [CMD...]   run a command in a new container      runner run --rm -it shell sh
  run -d IMAGE         leave it in the background            runner run -d --name web --restart always shell sh -c ...
  create start stop restart wait attach logs: containers that live on      runner logs -f web; runner stop web
  ps                   list containers                       runner ps -a --filter status=exited
  inspect NAME...      all of containers and images          runner inspect -f '{{.State.Status}}' web
  pause unpause update rename top port of containers         runner update --memory 64m web; runner top web
  stats                what they use, every second           runner stats --no-stream
  events               what happens to them                  runner events --since 1h -f event=die
  prune                remove those that do not run          runner prune -f --filter until=24h
  exec ID CMD...       run a command in one that runs        runner exec -it my-container sh
  kill ID              send a signal to one                  runner kill -s HUP my-container
  rm ID                remove one, and what it wrote         runner rm -f my-container
  cp FROM TO           copy files out of one or into one     runner cp my-container:/etc/hosts .
  diff ID              what one has changed                  runner diff my-container
  export ID            all files of one, as a tar            runner export -o my.tar my-container
  commit ID NAME       make an image of one                  runner commit my-container my/image:1
  network VERB         create, ls, rm, inspect, prune, connect, disconnect
  volume VERB          folders that outlive containers       runner volume create data
  run --bundle DIR ID  run an OCI bundle                     runner run --bundle . test
  create start state kill delete list pause resume update events: an OCI runtime's, for podman, docker, containerd
  version info         this installation, and what it stands on; `system df` what takes the disk, `system prune` frees
  spec                 write a config.json for a bundle      runner spec --bundle DIR
  spec IMAGE [CMD...]  print the one that flags amount to    runner spec --memory 1g shell sh
  features             what of the OCI specification is known, for clients
  doctor               what this host can and cannot give, with the remedies
  init                 write the init that this runner carries  runner init >rootfs/init

Images, by rootfs-tool: images pull push search rmi tag inspect history save load import copy login logout compose build pack
Machines, by rootfs-tool: boot bootfs
docker's nouns: container, image, system. A link named `docker` to this program behaves as docker's client, one named `runc` as runc.
Before the command: --store DIR (CORACLE_STORE), --storage-driver overlay|fuse-overlayfs|btrfs|vfs, --root DIR (OCI states),
--log FILE, --log-format text|json, --debug, --systemd-cgroup, --cgroup-manager cgroupfs|systemd|disabled, --version, --help.
`runner COMMAND --help` tells more.
";

/// The flags before the verb.
static TOP: CommandInfoWithArgs = typed::table(
    "Top",
    "Run commands in containers, without a daemon. Containers are made of images and of OCI bundles.",
    &[typed::optional(typed::positional("verb", "the verb"))],
    &[
        typed::option("--store", None, "store", "the store, RW[:RO...]"),
        typed::option(
            "--storage-driver",
            None,
            "storage-driver",
            "how the store keeps layers: overlay, fuse-overlayfs, btrfs or vfs; refused where it was made with another",
        ),
        typed::option("--root", None, "root", "directory of OCI states"),
        typed::switch(
            "--systemd-cgroup",
            None,
            "have systemd make the groups, where linux.cgroupsPath says slice:prefix:name",
        ),
        typed::option(
            "--cgroup-manager",
            None,
            "cgroup-manager",
            "who makes the groups: cgroupfs, systemd or disabled",
        ),
        typed::option("--log", None, "log", "append errors to this file as well"),
        typed::option("--log-format", None, "log-format", "how errors look: text or json"),
        typed::switch("--debug", None, "tell more of what is done: a line at the verb's begin and end"),
        typed::switch("--version", Some('v'), "print the version"),
    ],
    &[],
);

/// Verbs about one container, which have no flags.
static STATE: CommandInfoWithArgs =
    about_one("state", "Print the state document of a container.", &["runner state my-container"]);

const fn about_one(
    name: &'static str,
    description: &'static str,
    examples: &'static [&'static str],
) -> CommandInfoWithArgs {
    typed::table(name, description, typed::ID, &[], examples)
}

/// One of these verbs.
fn one(table: &CommandInfoWithArgs, words: &[OsString], go: impl FnOnce(&str) -> Result<u8>) -> Result<u8> {
    match typed::Typed::read(table, words)? {
        Some(typed) => go(typed.one(table.name, "the container's id")?),
        None => Ok(0),
    }
}

/// Where errors go, and how they look there.
#[derive(Default)]
struct Log {
    file: Option<PathBuf>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Whoever reads the file instead of the screen reads an error on both.
    fn error(&self, e: &Error) {
        let text = e.to_string();
        self.write("error", &text);
        if self.file.is_some() {
            coracle_sys::warn!("runner: {}", harmless(&text));
        }
    }

    fn debug(&self, text: std::fmt::Arguments<'_>) {
        if self.debug {
            self.write("debug", &text.to_string());
        }
    }

    fn write(&self, level: &str, text: &str) {
        use std::io::Write;
        let line = if self.json {
            json!({ "level": level, "msg": text, "time": time::rfc3339_now() }).to_string()
        } else if self.file.is_some() || level != "error" {
            // As logrus writes it, which clients of runc's read.
            format!("time={:?} level={level} msg={:?}", time::rfc3339_now(), harmless(text).to_string())
        } else {
            format!("runner: {}", harmless(text))
        };
        match &self.file {
            Some(path) => {
                let file = std::fs::File::options().append(true).create(true).open(path);
                let _ = file.and_then(|mut f| writeln!(f, "{line}"));
            }
            None => coracle_sys::warn!("{line}"),
        }
    }
}

/// The whole program. The exit code.
pub fn main() -> u8 {
    let mut words = std::env::args_os();
    let guise = words.next().map_or(Guise::Runner, |called| Guise::of(&called).0);
    let argv: Vec<OsString> = words.collect();
    let mut log = Log::default();
    let typed = match guise {
        Guise::Docker => guise::read(argv, std::env::var_os("DOCKER_HOST")),
        _ => Ok(guise::Typed { argv, config: None }),
    };
    let mut from_verb = Vec::new();
    let done = process::expect_children_and_limits()
        .and_then(|()| typed.and_then(|typed| dispatch(guise, &typed, &mut log, &mut from_verb)));
    let printed = coracle_sys::print::finish();
    let code = done.and_then(|code| printed.map(|()| code)).unwrap_or_else(|e| {
        log.error(&e);
        guise.exit_code(&from_verb, exit_code(&e), &e)
    });
    log.debug(format_args!("exit code {code}"));
    code
}

/// The verbs that rootfs-tool does.
pub const HANDED_OVER: [&str; image_verb::VERBS.len()] = image_verb::VERBS;

/// The flags before the verb, and each verb of the runner's own with its flags: what man pages and completions
/// are made of.
pub fn tables() -> (CommandInfoWithArgs, Vec<(&'static str, CommandInfoWithArgs)>) {
    let verbs = vec![
        ("attach", attach::TABLE.clone()),
        ("commit", container_files::COMMIT.clone()),
        ("cp", container_files::CP.clone()),
        ("create", create::page()),
        ("delete", delete::TABLE.clone()),
        ("diff", container_files::DIFF.clone()),
        ("doctor", doctor::TABLE.clone()),
        ("events", events::TABLE.clone()),
        ("exec", exec::TABLE.clone()),
        ("export", container_files::EXPORT.clone()),
        ("features", features::TABLE.clone()),
        ("info", info::TABLE.clone()),
        ("init", init::TABLE.clone()),
        ("inspect", inspect::TABLE.clone()),
        ("kill", kill::TABLE.clone()),
        ("list", list::TABLE.clone()),
        ("logs", logs::TABLE.clone()),
        ("network", network::TABLE.clone()),
        ("ps", ps::TABLE.clone()),
        ("restart", stop::RESTART.clone()),
        ("port", port::TABLE.clone()),
        ("prune", prune::TABLE.clone()),
        ("rm", rm::TABLE.clone()),
        ("run", flags::TABLE.clone()),
        ("pause", pause::PAUSE.clone()),
        ("rename", rename::TABLE.clone()),
        ("resume", pause::RESUME.clone()),
        ("spec", spec::TABLE.clone()),
        ("start", start::TABLE.clone()),
        ("state", STATE.clone()),
        ("stats", stats::TABLE.clone()),
        ("stop", stop::STOP.clone()),
        ("top", top::TABLE.clone()),
        ("unpause", pause::UNPAUSE.clone()),
        ("update", update::TABLE.clone()),
        ("version", version::TABLE.clone()),
        ("volume", volume::TABLE.clone()),
        ("wait", wait::TABLE.clone()),
    ];
    (TOP.clone(), verbs)
}

/// In runc's form, or in docker's. The commit is told where whoever built this program knew it.
fn version(docker: bool) -> u8 {
    let commit = option_env!("CORACLE_COMMIT").filter(|commit| !commit.is_empty());
    if docker {
        // Scripts cut the number out of it.
        let commit = commit.unwrap_or("coracle");
        coracle_sys::say!("Docker version {}, build {commit}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let commit = commit.map_or_else(String::new, |commit| format!("\ncommit: {commit}"));
    let (own, spec) = (env!("CARGO_PKG_VERSION"), crate::spec::VERSION);
    coracle_sys::say!("runner version {own}{commit}\nspec: {spec}");
    0
}

/// Do what was typed. `from_verb` is told the verb and what follows it.
fn dispatch(guise: Guise, typed: &guise::Typed, log: &mut Log, from_verb: &mut Vec<OsString>) -> Result<u8> {
    let argv = &typed.argv[..];
    let cut = normalise(&TOP, argv, Tail::Verb)?;
    let Some(top) = typed::Typed::of(&TOP, cut.words)? else {
        coracle_sys::print::out(format_args!("{HELP}"));
        return Ok(0);
    };
    from_verb.extend(top.words.first().map(OsString::from).into_iter().chain(cut.tail.iter().cloned()));
    log.json = match top.get("--log-format") {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::usage(format!("--log-format {other:?}: it is text or json"))),
    };
    if let Some(path) = top.get("--log") {
        // Told before anything happens, and where it can be read.
        let file = std::fs::File::options().append(true).create(true).open(path);
        file.context(|| format!("open({path:?}, O_APPEND|O_CREAT)")).context(|| "--log")?;
        log.file = Some(PathBuf::from(path));
    }
    log.debug = top.get("--debug").is_some();
    log.debug(format_args!("arguments {argv:?}"));
    if top.get("--version").is_some() {
        return Ok(version(guise == Guise::Docker));
    }
    top.get("--storage-driver").map_or(Ok(()), asked::ask)?;
    let groups = match top.get("--cgroup-manager").map(Manager::parse).transpose()? {
        _ if top.get("--systemd-cgroup").is_some() => Manager::Systemd,
        said => said.unwrap_or_default(),
    };
    let global = Global {
        store: top.get("--store").map(str::to_owned),
        root: top.get("--root").map(PathBuf::from),
        groups,
        guise,
        docker_config: typed.config.clone(),
    };
    match (top.words.first().map(String::as_str), cut.tail.first()) {
        (None, _) => {
            coracle_sys::print::err(format_args!("{HELP}"));
            Ok(125)
        }
        (Some("help"), Some(verb)) => {
            self::verb(&global, verb.to_str().unwrap_or_default(), &["--help".into()])
        }
        (Some("help"), None) => {
            coracle_sys::print::out(format_args!("{HELP}"));
            Ok(0)
        }
        (Some(noun), _) if nouns::is_noun(noun) => nouns::run(&global, noun, &cut.tail, verb),
        (Some(typed), _) => verb(&global, typed, &cut.tail),
    }
}

/// A verb, and what follows it.
fn verb(global: &Global, typed: &str, words: &[OsString]) -> Result<u8> {
    match typed {
        "exec" => exec::run(global, words),
        "network" => network::run(global, words),
        "ps" => ps::run(global, words),
        "rm" => rm::run(global, words),
        "kill" => kill::run(global, words),
        "info" => info::run(global, words),
        "init" => init::run(words),
        "inspect" => inspect::run(global, words),
        "create" if create::is_for_bundle(global, words) => create::run(global, words),
        "create" => of_image(&create::page(), words, |flags, tail| create::of_image(global, flags, &tail)),
        "attach" => attach::run(global, words),
        "logs" => logs::run(global, words),
        "stop" => stop::run(global, words),
        "restart" => stop::restart(global, words),
        "version" => version::run(words),
        "wait" => wait::run(global, words),
        "delete" => delete::run(global, words),
        "events" => events::run(global, words),
        "update" => update::run(global, words),
        "list" => list::run(global, words),
        "pause" => pause::pause(global, words),
        "port" => port::run(global, words),
        "prune" => prune::run(global, words),
        "rename" => rename::run(global, words),
        "resume" => pause::resume(global, words),
        "top" => top::run(global, words),
        "unpause" => pause::unpause(global, words),
        "start" => start::run(global, words),
        "stats" => stats::run(global, words),
        "state" => one(&STATE, words, |id| state::run(global, id)),
        "volume" => volume::run(global, words),
        "doctor" => doctor::run(global, words),
        "features" => features::run(words),
        "spec" if spec::is_for_bundle(words) => spec::run(words),
        "run" | "spec" => {
            let mut words = words.to_vec();
            if run::names_its_bundle_behind(&words) {
                words.rotate_left(1);
            }
            let shown = typed == "spec";
            let table = if shown { &flags::OF_SPEC } else { &flags::TABLE };
            of_image(table, &words, |f, tail| run::run(global, f.shown_if(shown), &tail))
        }
        verb if image_verb::VERBS.contains(&verb) => image_verb::run(global, verb, words),
        "commit" => container_files::run(global, &container_files::COMMIT, words),
        "cp" => container_files::run(global, &container_files::CP, words),
        "diff" => container_files::run(global, &container_files::DIFF, words),
        "export" => container_files::run(global, &container_files::EXPORT, words),
        verb @ ("mount" | "umount") => Err(Error::usage(format!(
            "unknown command: {verb} (of images: runner image {verb}, rootfs-tool {verb})"
        ))),
        verb @ ("checkpoint" | "restore") => {
            Err(Error::unsupported(format!("{verb}: not supported: there is no CRIU here")))
        }
        verb => {
            let mut near = Near::to(verb);
            tables().1.iter().for_each(|(known, _)| near.look(known));
            HANDED_OVER.iter().for_each(|known| near.look(known));
            let hint = match near.found() {
                Some(near) => format!("did you mean {near}?"),
                None => "see runner --help".to_owned(),
            };
            Err(Error::usage(format!("unknown command: {verb} ({hint})")))
        }
    }
}

/// Flags of `run`, an image, and what follows it.
fn of_image(
    table: &CommandInfoWithArgs,
    words: &[OsString],
    go: impl FnOnce(Flags, Vec<String>) -> Result<u8>,
) -> Result<u8> {
    let typed = typed::Typed::before(table, words, Tail::After(1))?;
    let Some((typed, tail)) = typed else { return Ok(0) };
    let mut command = Vec::new();
    for word in tail {
        command.push(word.into_string().map_err(|word| Error::usage(format!("{word:?} is not UTF-8")))?);
    }
    go(Flags::of(typed.given(), typed.words.first())?, command)
}
