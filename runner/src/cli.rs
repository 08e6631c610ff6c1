//! The command line: flags before the verb, the verb, and what follows it. What the words mean is
//! each verb's own file's to say.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use coracle_sys::argv::{Tail, complaint, normalise, of_noun, without_verb};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Result, process, time};
use serde_json::json;

use crate::cgroups::Manager;
use crate::commands::{
    Global, attach, create, delete, doctor, events, exec, exit_code, features, image_verb, info, kill, list,
    logs, pause, ps, rm, run, spec, start, state, stop, typed, update, volume, wait,
};
use crate::from_image::flags::Flags as RunFlags;

/// What `--help` prints.
pub const HELP: &str = "\
Coracle's runner: runs commands in containers, without a daemon.

Usage: runner [--store DIR] COMMAND ...

  run IMAGE [CMD...]   run a command in a new container      runner run --rm -it shell sh
  ps                   list containers                       runner ps -a
  exec ID CMD...       run a command in one that runs        runner exec -it my-container sh
  kill ID              send a signal to one                  runner kill -s HUP my-container
  rm ID                remove one, and what it wrote         runner rm -f my-container
  volume VERB          folders that outlive containers       runner volume create data
  run --bundle DIR ID  run an OCI bundle                     runner run --bundle . test
  create start state kill delete list pause resume update events: an OCI runtime's, for podman, docker, containerd
  spec                 write a config.json for a bundle      runner spec --bundle DIR
  spec IMAGE [CMD...]  print the one that flags amount to    runner spec --memory 1g shell sh
  features             what of the OCI specification is known, for clients
  info                 this installation, and what it stands on
  doctor               what this host can and cannot give, with the remedies

Images, by rootfs-tool: images pull push search rmi tag inspect history save load import copy login logout compose
Before the command: --store DIR (CORACLE_STORE), --root DIR (OCI states), --log FILE, --log-format text|json, --debug,
--systemd-cgroup, --cgroup-manager cgroupfs|systemd|disabled, --version, --help. `runner COMMAND --help` tells more.
";

/// Run commands in containers, without a daemon. Containers are made of images and of OCI bundles.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
struct Top {
    /// the store, RW[:RO...]
    #[argh(option)]
    store: Option<String>,
    /// directory of OCI states
    #[argh(option)]
    root: Option<PathBuf>,
    /// have systemd make the groups, where linux.cgroupsPath says slice:prefix:name
    #[argh(switch)]
    systemd_cgroup: bool,
    /// who makes the groups: cgroupfs, systemd or disabled
    #[argh(option)]
    cgroup_manager: Option<String>,
    /// append errors to this file as well
    #[argh(option)]
    log: Option<PathBuf>,
    /// how errors look: text or json
    #[argh(option)]
    log_format: Option<String>,
    /// tell more of what is done: a line at the verb's begin and end
    #[argh(switch)]
    debug: bool,
    /// print the version
    #[argh(switch, short = 'v')]
    version: bool,
    /// the verb
    #[argh(positional)]
    #[allow(dead_code)] // read from the words: what follows it is cut off first
    verb: Option<String>,
}

/// Verbs about one container, which have no flags.
static PAUSE: CommandInfoWithArgs =
    about_one("pause", "Stop all processes of a container.", &["runner pause my-container"]);
static RESUME: CommandInfoWithArgs =
    about_one("resume", "Let the processes of a paused container go on.", &["runner resume my-container"]);
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
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut log = Log::default();
    let done = process::expect_children_and_limits().and_then(|()| dispatch(&argv, &mut log));
    let printed = coracle_sys::print::finish();
    let code = done.and_then(|code| printed.map(|()| code)).unwrap_or_else(|e| {
        log.error(&e);
        exit_code(&e)
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
        ("create", create::TABLE.clone()),
        ("delete", delete::TABLE.clone()),
        ("doctor", doctor::TABLE.clone()),
        ("events", events::TABLE.clone()),
        ("exec", exec::TABLE.clone()),
        ("features", features::TABLE.clone()),
        ("info", info::TABLE.clone()),
        ("kill", kill::TABLE.clone()),
        ("list", list::TABLE.clone()),
        ("logs", logs::TABLE.clone()),
        ("ps", ps::TABLE.clone()),
        ("restart", stop::RESTART.clone()),
        ("rm", rm::TABLE.clone()),
        ("run", RunFlags::get_args_info()),
        ("pause", PAUSE.clone()),
        ("resume", RESUME.clone()),
        ("spec", spec::TABLE.clone()),
        ("start", start::TABLE.clone()),
        ("state", STATE.clone()),
        ("stop", stop::STOP.clone()),
        ("update", update::TABLE.clone()),
        ("volume", volume::TABLE.clone()),
        ("wait", wait::TABLE.clone()),
    ];
    (Top::get_args_info(), verbs)
}

fn dispatch(argv: &[OsString], log: &mut Log) -> Result<u8> {
    let cut = normalise(&Top::get_args_info(), argv, Tail::Verb)?;
    let asks_help = cut.words.iter().any(|w| w == "--help");
    let Some(top) = (!asks_help).then(|| parse::<Top>("runner", &cut.words)).transpose()?.flatten() else {
        coracle_sys::print::out(format_args!("{HELP}"));
        return Ok(0);
    };
    log.json = match top.log_format.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::usage(format!("--log-format {other:?}: it is text or json"))),
    };
    log.file = top.log.clone();
    log.debug = top.debug;
    log.debug(format_args!("arguments {argv:?}"));
    if top.version {
        coracle_sys::say!("runner version {}", env!("CARGO_PKG_VERSION"));
        return Ok(0);
    }
    let groups = match top.cgroup_manager.as_deref().map(Manager::parse).transpose()? {
        _ if top.systemd_cgroup => Manager::Systemd,
        said => said.unwrap_or_default(),
    };
    let global = Global { store: top.store, root: top.root, groups };
    match (top.verb.as_deref(), cut.tail.first()) {
        (None, _) => {
            coracle_sys::print::err(format_args!("{HELP}"));
            Ok(125)
        }
        (Some("help"), Some(verb)) => dispatch(&[verb.clone(), "--help".into()], log),
        (Some("help"), None) => {
            coracle_sys::print::out(format_args!("{HELP}"));
            Ok(0)
        }
        (Some("version"), _) => {
            coracle_sys::say!("runner version {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
        (Some(noun @ ("image" | "container" | "system")), typed) => {
            let typed = typed.and_then(|v| v.to_str()).unwrap_or_default();
            let Some(known) = of_noun(noun, typed).filter(|v| !v.is_empty()) else {
                return Err(without_verb(noun, typed));
            };
            let words = &cut.tail[1..];
            match noun {
                // Of containers there is none yet, and an image is not what was asked for.
                "container" if image_verb::VERBS.contains(&known) => {
                    Err(Error::usage(format!("container {known} is not there yet (see runner --help)")))
                }
                "image" => image_verb::run(&global, known, words),
                _ => verb(&global, known, words),
            }
        }
        (Some(typed), _) => verb(&global, typed, &cut.tail),
    }
}

/// A verb, and what follows it.
fn verb(global: &Global, verb: &str, words: &[OsString]) -> Result<u8> {
    match verb {
        "exec" => exec::run(global, words),
        "ps" => ps::run(global, words),
        "rm" => rm::run(global, words),
        "kill" => kill::run(global, words),
        "info" => info::run(global, words),
        "create" if create::is_for_bundle(global, words) => create::run(global, words),
        "create" => with(verb, words, Tail::After(1), |f, tail| create::of_image(global, f, &tail)),
        "attach" => attach::run(global, words),
        "logs" => logs::run(global, words),
        "stop" => stop::run(global, words),
        "restart" => stop::restart(global, words),
        "wait" => wait::run(global, words),
        "delete" => delete::run(global, words),
        "events" => events::run(global, words),
        "update" => update::run(global, words),
        "list" => list::run(global, words),
        "pause" => one(&PAUSE, words, |id| pause::run(global, id, true)),
        "resume" => one(&RESUME, words, |id| pause::run(global, id, false)),
        "start" => start::run(global, words),
        "state" => one(&STATE, words, |id| state::run(global, id)),
        "volume" => volume::run(global, words),
        "doctor" => doctor::run(global, words),
        "features" => features::run(words),
        "spec" if spec::is_for_bundle(words) => spec::run(words),
        "run" | "spec" => {
            with(verb, words, Tail::After(1), |f, tail| run::run(global, f.shown_if(verb == "spec"), &tail))
        }
        verb if image_verb::VERBS.contains(&verb) => image_verb::run(global, verb, words),
        "diff" | "export" | "mount" | "umount" | "prune" => Err(Error::usage(format!(
            "unknown command: {verb} (of images: runner image {verb}, rootfs-tool {verb})"
        ))),
        _ => Err(Error::usage(format!("unknown command: {verb} (see runner --help)"))),
    }
}

/// Read a verb's words and go on with them, unless they ask for help.
fn with(
    verb: &str,
    words: &[OsString],
    tail: Tail,
    go: impl FnOnce(RunFlags, Vec<String>) -> Result<u8>,
) -> Result<u8> {
    let cut = normalise(&RunFlags::get_args_info(), words, tail)?;
    let command = cut
        .tail
        .into_iter()
        .map(|word| word.into_string().map_err(|word| Error::usage(format!("{word:?} is not UTF-8"))));
    let command = command.collect::<Result<Vec<_>>>()?;
    match parse::<RunFlags>(verb, &cut.words)? {
        Some(flags) => go(RunFlags { word: cut.words, ..flags }, command),
        None => Ok(0),
    }
}

/// `None`: help was asked for, and is printed.
fn parse<T: FromArgs>(name: &str, words: &[String]) -> Result<Option<T>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match T::from_args(&["runner", name], &words) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(exit) if exit.status.is_ok() => {
            // What follows the image is cut off before, so argh knows nothing of it.
            let output = exit.output.replace("[--] [<image>]", "IMAGE [CMD...]");
            coracle_sys::print::out(format_args!("{output}"));
            Ok(None)
        }
        Err(exit) => Err(Error::usage(complaint(name, &exit.output))),
    }
}
