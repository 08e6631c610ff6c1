//! What each instruction of a Dockerfile says: its flags and arguments as plain data. Variables are not expanded yet.

use coracle_store::image::Healthcheck;
use coracle_sys::{Error, Result};

use super::flags::Flags;
use super::lines::{Heredoc, Line, heredoc, raw_words};
use super::suggest::suggest;

/// A command line: words, or one text for the shell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Command {
    pub(crate) words: Vec<String>,
    /// The words are one text for the shell.
    pub(crate) shell: bool,
}

/// FROM.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct From {
    pub(crate) base: String,
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
}

/// RUN.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) command: Command,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The texts of `--mount`.
    pub(crate) mounts: Vec<String>,
    pub(crate) network: Option<String>,
    pub(crate) security: Option<String>,
}

/// COPY and ADD.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Copy {
    /// It is ADD.
    pub(crate) add: bool,
    pub(crate) from: Option<String>,
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) unpack: Option<bool>,
    /// What is added of a repository has its history with it.
    pub(crate) keep_git_dir: bool,
    pub(crate) exclude: Vec<String>,
    pub(crate) sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub(crate) inline: Vec<Heredoc>,
    pub(crate) dest: String,
}

/// Arguments with their defaults.
pub(crate) type Arguments = Vec<(String, Option<String>)>;

/// An instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Instruction {
    From(From),
    Run(Run),
    Copy(Copy),
    Env(Vec<(String, String)>),
    Arg(Arguments),
    Label(Vec<(String, String)>),
    Workdir(String),
    User(String),
    Expose(Vec<String>),
    Volume(Vec<String>),
    Entrypoint(Command),
    Cmd(Command),
    Shell(Vec<String>),
    StopSignal(String),
    Healthcheck(Healthcheck),
    OnBuild(String),
    Maintainer(String),
}

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Said where something behind a `#` was read as part of an instruction.
pub(crate) const COMMENT: &str = "a comment needs a line of its own";

fn bad(what: impl Into<String>) -> Error {
    Error::invalid(what.into())
}

/// Read one instruction.
pub(crate) fn parse(line: &Line, escape: char) -> Result<Instruction> {
    read(line, escape).map_err(|e| match has_comment(&line.rest) && line.word != "RUN" {
        true => bad(format!("{e}: {COMMENT}")),
        false => e,
    })
}

/// Does a word begin a comment, as it would in a shell?
pub(crate) fn has_comment(rest: &str) -> bool {
    rest.split_whitespace().any(|w| w.starts_with('#'))
}

fn read(line: &Line, escape: char) -> Result<Instruction> {
    let mut flags = Flags::new(&line.flags);
    let rest = line.rest.as_str();
    let word = line.word.as_str();
    let one = || match rest {
        "" => Err(bad(format!("{word} requires exactly one argument"))),
        text => Ok(text.to_owned()),
    };
    let some = |words: Vec<String>| match words.is_empty() {
        true => Err(bad(format!("{word} requires at least one argument"))),
        false => Ok(words),
    };
    let out = match word {
        "FROM" => from(rest, &mut flags)?,
        "RUN" => run(line, &mut flags)?,
        "COPY" | "ADD" => copy(line, &mut flags)?,
        "ENV" => Instruction::Env(pairs(word, rest, escape)?),
        "LABEL" => Instruction::Label(pairs(word, rest, escape)?),
        "ARG" => {
            let split = |w: String| match w.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (w, None),
            };
            let all: Vec<_> = some(raw_words(rest, escape))?.into_iter().map(split).collect();
            if all.iter().any(|(name, _)| name.is_empty()) {
                return Err(bad("ARG names can not be blank"));
            }
            Instruction::Arg(all)
        }
        "WORKDIR" => Instruction::Workdir(one()?),
        "USER" => Instruction::User(one()?),
        "STOPSIGNAL" => Instruction::StopSignal(one()?),
        "MAINTAINER" => Instruction::Maintainer(one()?),
        "EXPOSE" => Instruction::Expose(some(split(rest))?),
        "VOLUME" => {
            let all = some(list(rest)?.unwrap_or_else(|| split(rest)))?;
            if all.iter().any(|v| v.trim().is_empty()) {
                return Err(bad("VOLUME specified can not be an empty string"));
            }
            Instruction::Volume(all)
        }
        "ENTRYPOINT" => Instruction::Entrypoint(said(rest)?),
        "CMD" => Instruction::Cmd(said(rest)?),
        "SHELL" => match list(rest)? {
            Some(words) => Instruction::Shell(some(words)?),
            None if rest.is_empty() => return Err(bad("SHELL requires at least one argument")),
            None => return Err(bad("SHELL requires the arguments to be in JSON form")),
        },
        "HEALTHCHECK" => Instruction::Healthcheck(super::health::parse(rest, &mut flags)?),
        "ONBUILD" => on_build(line)?,
        _ => {
            let near = suggest(word, &NAMES).map(|name| format!(" (did you mean {name}?)"));
            let near = near.unwrap_or_default();
            return Err(bad(format!("unknown instruction: {}{near}", line.typed)));
        }
    };
    flags.finish()?;
    Ok(out)
}

fn from(rest: &str, flags: &mut Flags) -> Result<Instruction> {
    let platform = flags.text("platform")?;
    let words = split(rest);
    let name = match &words[..] {
        [_] => None,
        [_, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            if !lower.starts_with(|c: char| c.is_ascii_lowercase()) || !lower.chars().all(plain) {
                return Err(bad(format!(
                    "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
                )));
            }
            Some(lower)
        }
        _ => return Err(bad("FROM requires either one or three arguments")),
    };
    Ok(Instruction::From(From { base: words[0].clone(), name, platform }))
}

fn run(line: &Line, flags: &mut Flags) -> Result<Instruction> {
    let mounts = flags.texts("mount")?;
    let network = flags.choice("network", &["default", "none", "host"])?;
    let security = flags.choice("security", &["sandbox", "insecure"])?;
    if !flags.texts("device")?.is_empty() {
        return Err(Error::unsupported("RUN --device: devices are not passed to builds"));
    }
    let command = said(&line.rest)?;
    if !command.shell && command.words.iter().all(String::is_empty) {
        return Err(bad("RUN requires at least one argument"));
    }
    Ok(Instruction::Run(Run { command, heredocs: line.heredocs.clone(), mounts, network, security }))
}

fn copy(line: &Line, flags: &mut Flags) -> Result<Instruction> {
    let add = line.word == "ADD";
    let mut out = Copy {
        add,
        chown: flags.text("chown")?,
        chmod: flags.text("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        exclude: flags.texts("exclude")?,
        ..Copy::default()
    };
    if add {
        out.checksum = flags.text("checksum")?;
        out.unpack = flags.switch("unpack")?;
        out.keep_git_dir = flags.switch("keep-git-dir")?.unwrap_or(false);
    } else {
        out.from = flags.text("from")?;
        out.parents = flags.switch("parents")?.unwrap_or(false);
    }
    let mut words = match list(&line.rest)? {
        Some(words) => words,
        None => copy_words(line),
    };
    if words.len() < 2 {
        return Err(bad(format!(
            "{} requires at least two arguments, but only one was provided. Destination could not be determined.",
            line.word
        )));
    }
    out.dest = words.pop().unwrap_or_default();
    if heredoc(&out.dest)?.is_some() {
        return Err(bad(format!("{} cannot accept a heredoc as a destination", line.word)));
    }
    for word in words {
        match heredoc(&word)? {
            Some(h) => out.inline.extend(line.heredocs.iter().find(|other| other.name == h.name).cloned()),
            None => out.sources.push(word),
        }
    }
    Ok(Instruction::Copy(out))
}

/// Split at spaces, but for the words that open heredocs, which may be quoted.
fn copy_words(line: &Line) -> Vec<String> {
    match line.heredocs.is_empty() {
        true => split(&line.rest),
        false => raw_words(&line.rest, '\\'),
    }
}

fn on_build(line: &Line) -> Result<Instruction> {
    let trigger = line.rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match trigger.as_str() {
        "" => return Err(bad("ONBUILD requires at least one argument")),
        "ONBUILD" => return Err(bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => return Err(bad(format!("{trigger} isn't allowed as an ONBUILD trigger"))),
        _ => {}
    }
    let mut text = line.rest.clone();
    for h in &line.heredocs {
        text.push_str(&format!("\n{}{}", h.content, h.name));
    }
    // What it says is looked at now, though it is done later.
    let inner = super::lines::read(&text).map_err(|(_, e)| e)?;
    for inner in &inner.lines {
        parse(inner, '\\')?;
    }
    Ok(Instruction::OnBuild(text))
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A JSON list of texts. One of other things is an error, and what is no list is none.
fn list(text: &str) -> Result<Option<Vec<String>>> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let texts = values.into_iter().map(|v| match v {
        serde_json::Value::String(s) => Ok(s),
        _ => Err(bad("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    texts.collect::<Result<_>>().map(Some)
}

/// A list of words, or text for the shell.
pub(super) fn command(text: &str) -> Result<Command> {
    Ok(match list(text)? {
        Some(words) => Command { words, shell: false },
        None if text.is_empty() => Command::default(),
        None => Command { words: vec![text.to_owned()], shell: true },
    })
}

/// The same, but that no text at all is one that is empty.
fn said(text: &str) -> Result<Command> {
    match text {
        "" => Ok(Command { words: vec![String::new()], shell: true }),
        text => command(text),
    }
}

/// `NAME=VALUE ...`, or `NAME VALUE` as in the oldest Dockerfiles.
fn pairs(word: &str, rest: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = raw_words(rest, escape);
    let Some(first) = words.first() else {
        return Err(bad(format!("{word} requires at least one argument")));
    };
    let all = if first.contains('=') {
        let pair = |w: &String| match w.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(bad(format!("Syntax error - can't find = in {w:?}. Must be of the form: name=value")))
            }
        };
        words.iter().map(pair).collect::<Result<Vec<_>>>()?
    } else {
        let two = rest.split_once(char::is_whitespace);
        let (name, value) = two.ok_or_else(|| bad(format!("{word} must have two arguments")))?;
        vec![(name.to_owned(), value.trim_start().to_owned())]
    };
    match all.iter().any(|(name, _)| name.is_empty()) {
        true => Err(bad(format!("{word} names can not be blank"))),
        false => Ok(all),
    }
}
