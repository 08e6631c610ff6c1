//! The command line: the verbs and their flags. What they mean is in `commands`.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use coracle_store::driver::asked;
use coracle_sys::argv::{self, Tail};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result, process};

use crate::commands;

/// Compose slim root filesystems and keep them as OCI images.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    example = "rootfs-tool compose images/shell -t shell
rootfs-tool images
runner run --rm -it shell sh",
    note = "The store is --store, else $CORACLE_STORE, else /var/lib/coracle for root and
$XDG_DATA_HOME/coracle for everyone else. A new one is made with the driver that --storage-driver before
the verb names, else $CORACLE_STORAGE_DRIVER, else storage-driver in config.toml, else the one that fits:
overlay, fuse-overlayfs, btrfs or vfs. --version prints the version.",
    error_code(1, "what was asked for could not be done"),
    error_code(2, "the command line is wrong")
)]
struct Top {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of them
enum Verb {
    Apply(commands::apply::Apply),
    Boot(commands::boot::Boot),
    Bootfs(commands::bootfs::Bootfs),
    Build(commands::build::Build),
    Catalog(commands::remote::Catalog),
    Compose(commands::compose::Compose),
    ContainerCommit(commands::container_commit::ContainerCommit),
    ContainerCp(commands::container_cp::ContainerCp),
    ContainerDiff(commands::container_diff::ContainerDiff),
    ContainerExport(commands::container_export::ContainerExport),
    Copy(commands::copy::Copy),
    Delete(commands::remote::Delete),
    Diff(commands::diff::Diff),
    Du(commands::du::Du),
    Export(commands::export::Export),
    History(commands::history::History),
    Images(commands::images::Images),
    Import(commands::import::Import),
    Inspect(commands::inspect::Inspect),
    Load(commands::load::Load),
    Login(commands::login::Login),
    Logout(commands::login::Logout),
    Mount(commands::mount::Mount),
    Pack(commands::pack::Pack),
    Prune(commands::prune::Prune),
    Pull(commands::pull::Pull),
    Push(commands::push::Push),
    Rmi(commands::rmi::Rmi),
    Save(commands::save::Save),
    Sbom(commands::sbom::Sbom),
    Search(commands::search::Search),
    Tag(commands::tag::Tag),
    Tags(commands::remote::Tags),
    Umount(commands::mount::Umount),
    Verify(commands::verify::Verify),
}

/// Run the program.
pub fn main() -> u8 {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut failed = None;
    let done = process::expect_children_and_limits().and_then(|()| run(&args, &mut failed));
    match done.and_then(|code| coracle_sys::print::finish().map(|()| code)) {
        Ok(code) => code,
        Err(e) => {
            coracle_sys::warn!("rootfs-tool: {}", harmless(&e.to_string()));
            if let Some(signal) = coracle_sys::interrupt::requested() {
                return 128 + signal as u8;
            }
            failed.unwrap_or(match e.kind() {
                Kind::Usage | Kind::Flag if std::env::var_os(AS_DOCKER).is_none() => 2,
                Kind::Flag => 125,
                _ => 1,
            })
        }
    }
}

/// Set by the runner where it is called as docker: errors end with docker's codes.
const AS_DOCKER: &str = "CORACLE_AS_DOCKER";

/// Every verb with its flags: what man pages and completions are made of.
pub fn table() -> argh::CommandInfoWithArgs {
    Top::get_args_info()
}

/// A flag before the verb, as the runner takes it: `--store DIR` or `--store=DIR`. Its value, and what is left.
fn before<'a>(flag: &str, args: &'a [OsString]) -> Result<Option<(OsString, &'a [OsString])>> {
    let Some(rest) = args.first().and_then(|a| a.to_str()?.strip_prefix(flag)) else { return Ok(None) };
    match (rest.strip_prefix('='), args.get(1)) {
        (Some(value), _) => Ok(Some((value.into(), &args[1..]))),
        (None, Some(value)) if rest.is_empty() => Ok(Some((value.clone(), &args[2..]))),
        (None, None) if rest.is_empty() => Err(Error::flag(format!("flag needs an argument: {flag}"))),
        _ => Ok(None),
    }
}

/// The exit code; in `failed` that of an error, where the verb has one of its own.
fn run(mut args: &[OsString], failed: &mut Option<u8>) -> Result<u8> {
    let mut store = None;
    loop {
        if let Some((value, rest)) = before("--storage-driver", args)? {
            asked::ask(&value.to_string_lossy())?;
            args = rest;
        } else if let Some((value, rest)) = before("--store", args)? {
            store = Some(value);
            args = rest;
        } else {
            break;
        }
    }
    let mut args = args.to_vec();
    let typed: Vec<&str> = args.iter().take(2).filter_map(|a| a.to_str()).collect();
    if let [noun, verb] = typed[..]
        && let Some(verb) = argv::of_noun(noun, verb)
    {
        let of_container = noun == "container" && matches!(verb, "commit" | "cp" | "diff" | "export");
        let verb = OsString::from(if of_container { format!("container-{verb}") } else { verb.to_owned() });
        args.splice(..2, [verb]);
    }
    if let Some(store) = store {
        args.splice(1.min(args.len())..1.min(args.len()), ["--store".into(), store]);
    }
    let words: Vec<&str> = args.iter().map_while(|a| a.to_str()).collect();
    let table = table();
    let verb = match words.first().copied() {
        Some("--version" | "-V" | "version") => {
            coracle_sys::say!("rootfs-tool {}", env!("CARGO_PKG_VERSION"));
            return Ok(0);
        }
        None | Some("--help" | "-h" | "help") => return help(words.get(1).copied()).map(|()| 0),
        Some(verb) => verb,
    };
    if argv::of_noun(verb, "ls").is_some() || verb == "system" {
        return Err(argv::without_verb(verb, words.get(1).copied().unwrap_or_default()));
    }
    let Some(known) = table.commands.iter().find(|c| c.name == verb) else {
        let verbs: Vec<&str> = table.commands.iter().map(|c| c.name).collect();
        let what = if verb.starts_with('-') { "flag" } else { "verb" };
        return Err(Error::usage(format!("unknown {what}: {verb} (there are {})", verbs.join(", "))));
    };
    let mut tail = Tail::None;
    if verb == "boot" {
        // Every other code may be that of the command behind the image.
        (tail, *failed) = (Tail::After(1), Some(125));
    }
    let normal = argv::normalise(&known.command, &args[1..], tail);
    let normal =
        if verb == "boot" { normal.map_err(|e| commands::boot::hinted(&args[1..], e))? } else { normal? };
    let line: Vec<&str> = [verb].into_iter().chain(normal.words.iter().map(String::as_str)).collect();
    let Some(verb) = parse(&line)? else { return Ok(0) };
    match verb {
        Verb::Boot(c) => return c.run(&normal.tail),
        Verb::Apply(c) => c.run(),
        Verb::Bootfs(c) => c.run(),
        Verb::Build(c) => c.run(),
        Verb::Compose(c) => c.run(),
        Verb::ContainerCommit(c) => c.run(),
        Verb::ContainerCp(c) => c.run(),
        Verb::ContainerDiff(c) => c.run(),
        Verb::ContainerExport(c) => c.run(),
        Verb::Images(c) => c.run(),
        Verb::Pull(c) => c.run(),
        Verb::Push(c) => c.run(),
        Verb::Inspect(c) => c.run(),
        Verb::History(c) => c.run(),
        Verb::Rmi(c) => c.run(),
        Verb::Diff(c) => c.run(),
        Verb::Du(c) => c.run(),
        Verb::Export(c) => c.run(),
        Verb::Pack(c) => c.run(),
        Verb::Prune(c) => c.run(),
        Verb::Copy(c) => c.run(),
        Verb::Import(c) => c.run(),
        Verb::Load(c) => c.run(),
        Verb::Mount(c) => c.run(),
        Verb::Save(c) => c.run(),
        Verb::Sbom(c) => c.run(),
        Verb::Tags(c) => c.run(),
        Verb::Search(c) => c.run(),
        Verb::Logout(c) => c.run(),
        Verb::Login(c) => c.run(),
        Verb::Delete(c) => c.run(),
        Verb::Catalog(c) => c.run(),
        Verb::Tag(c) => c.run(),
        Verb::Umount(c) => c.run(),
        Verb::Verify(c) => c.run(),
    }
    .map(|()| 0)
}

fn help(verb: Option<&str>) -> Result<()> {
    let words: Vec<&str> = verb.into_iter().chain(["--help"]).collect();
    parse(&words).map(|_| ())
}

/// Parse; `None` when help was asked for and printed.
fn parse(words: &[&str]) -> Result<Option<Verb>> {
    match Top::from_args(&["rootfs-tool"], words) {
        Ok(top) => Ok(Some(top.verb)),
        Err(exit) if exit.status.is_ok() => {
            coracle_sys::say!("{}", exit.output.trim_end());
            Ok(None)
        }
        Err(exit) => {
            let complaint = argv::complaint(words.first().unwrap_or(&"rootfs-tool"), &exit.output);
            let hint = match (words.first(), words.last()) {
                (Some(&"load"), Some(file)) if complaint.contains("takes no") => format!(": load -i {file}"),
                (Some(&"pack"), _) if complaint.contains("takes no") => ": pack -o FILE IMAGE".to_owned(),
                _ => String::new(),
            };
            Err(Error::usage(complaint + &hint))
        }
    }
}
