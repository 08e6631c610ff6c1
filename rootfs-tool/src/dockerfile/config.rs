//! What a stage is while it is built: its layers, its config, its variables. Instructions that change the config and
//! nothing else are done here.

use std::collections::BTreeMap;

use coracle_store::Digest;
use coracle_store::image::{Descriptor, History, ImageConfig, Platform, ProcessConfig, RootFs};
use coracle_sys::{Error, Result};
use serde_json::{Map, Value};

use super::glob;
use super::instruction::{Command, Instruction};
use super::words::Lexer;

/// The PATH of a stage whose base sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments that need no ARG, and that are no part of what is built.
pub(crate) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What the arguments are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// `--build-arg`.
    pub(crate) args: BTreeMap<String, String>,
    /// ARG before the first FROM, and what is defined there.
    pub(crate) globals: BTreeMap<String, String>,
    pub(crate) escape: char,
}

/// A stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// ENV and ARG.
    pub(crate) env: Vec<(String, String)>,
    /// What ARG has declared.
    pub(crate) args: Vec<(String, Option<String>)>,
    pub(crate) config: ProcessConfig,
    pub(crate) author: Option<String>,
    pub(crate) platform: Platform,
    pub(crate) history: Vec<History>,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) ids: Vec<Digest>,
    /// The key of the last step.
    pub(crate) key: Digest,
    /// What is not known of the base's config.
    extra: Map<String, Value>,
    /// CMD was said in this stage.
    commanded: bool,
    /// The part of the history that is the base's.
    inherited: usize,
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: String) {
    match list.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => *old = value,
        None => list.push((name.to_owned(), value)),
    }
}

impl State {
    /// FROM scratch.
    pub(crate) fn scratch(platform: Platform) -> Self {
        let config = ProcessConfig {
            env: Some(vec![format!("PATH={PATH}")]),
            working_dir: Some("/".to_owned()),
            ..ProcessConfig::default()
        };
        let mut out = Self { config, platform, ..Self::default() };
        out.begin();
        out
    }

    /// FROM an image, whose layers the store has.
    pub(crate) fn of_image(config: &ImageConfig, layers: Vec<Descriptor>) -> Self {
        let mut out = Self {
            config: config.process(),
            author: config.author.clone(),
            platform: config.platform(),
            history: config.history.clone().unwrap_or_default(),
            ids: config.rootfs.diff_ids.clone(),
            layers,
            extra: config.extra.clone(),
            ..Self::default()
        };
        out.inherited = out.history.len();
        out.begin();
        out
    }

    /// FROM a stage.
    pub(crate) fn again(&self) -> Self {
        let mut out = self.clone();
        out.config.on_build = None;
        out.commanded = false;
        out
    }

    fn begin(&mut self) {
        let env = self.config.env.get_or_insert_default();
        if !env.iter().any(|e| e.starts_with("PATH=")) {
            env.push(format!("PATH={PATH}"));
        }
        let split = |e: &String| {
            let (name, value) = e.split_once('=').unwrap_or((e, ""));
            (name.to_owned(), value.to_owned())
        };
        self.env = env.iter().map(split).collect();
        let ids: Vec<String> = self.ids.iter().map(Digest::hex).collect();
        self.key = super::cache::key(&["from", &ids.join(" "), &self.platform.to_string()]);
    }

    /// A variable.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    /// A word, expanded.
    pub(crate) fn word(&self, text: &str, given: &Given) -> Result<String> {
        Lexer::new(given.escape).word(text, &|name| self.get(name))
    }

    /// Note a step in the history. When it was is told later.
    pub(crate) fn note(&mut self, what: String, created: Option<String>, layer: bool) {
        let empty_layer = (!layer).then_some(true);
        self.history.push(History { created, created_by: Some(what), empty_layer, ..History::default() });
    }

    /// A layer on top.
    pub(crate) fn push(&mut self, made: super::cache::Made, key: Digest, what: String) {
        self.layers.push(made.descriptor);
        self.ids.push(made.diff_id);
        self.key = key;
        self.note(what, Some(made.created), true);
    }

    /// The working directory, absolute.
    pub(crate) fn cwd(&self) -> &str {
        self.config.working_dir.as_deref().filter(|d| !d.is_empty()).unwrap_or("/")
    }

    /// A path, absolute; a slash at its end stays.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.cwd()) };
        let clean = glob::clean(&whole);
        let is_dir = path.ends_with('/') || path.ends_with("/.") || matches!(path, "" | ".");
        if is_dir && clean != "/" { format!("{clean}/") } else { clean }
    }

    /// A command line for the kernel.
    pub(crate) fn argv(&self, command: &Command) -> Vec<String> {
        if !command.shell {
            return command.words.clone();
        }
        let shell = self.config.shell.clone().filter(|s| !s.is_empty());
        let mut argv = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        argv.push(command.words.join(" "));
        argv
    }

    /// The arguments as the history shows them before a RUN.
    pub(crate) fn shown_args(&self) -> String {
        let mut shown: Vec<(String, String)> = Vec::new();
        for (name, value) in &self.args {
            let value = self.get(name).or_else(|| value.clone()).unwrap_or_default();
            set(&mut shown, name, value);
        }
        match shown.is_empty() {
            true => String::new(),
            false => {
                let all: Vec<String> = shown.iter().map(|(n, v)| format!("{n}={v}")).collect();
                format!("|{} {} ", all.len(), all.join(" "))
            }
        }
    }

    /// Do an instruction that makes no layer. False where it is another.
    pub(crate) fn configure(&mut self, instruction: &Instruction, given: &Given) -> Result<bool> {
        let pairs = |state: &Self, all: &[(String, String)]| -> Result<Vec<(String, String)>> {
            all.iter().map(|(n, v)| Ok((state.word(n, given)?, state.word(v, given)?))).collect()
        };
        let shown =
            |all: &[(String, String)]| all.iter().map(|(n, v)| format!(" {n}={v}")).collect::<String>();
        let empty = || Value::Object(Map::new());
        let what = match instruction {
            Instruction::Env(all) => {
                let all = pairs(self, all)?;
                for (name, value) in &all {
                    set(&mut self.env, name, value.clone());
                    let env = self.config.env.get_or_insert_default();
                    let line = format!("{name}={value}");
                    match env.iter_mut().find(|e| e.split('=').next() == Some(name)) {
                        Some(old) => *old = line,
                        None => env.push(line),
                    }
                }
                format!("ENV{}", shown(&all))
            }
            Instruction::Label(all) => {
                let all = pairs(self, all)?;
                self.config.labels.get_or_insert_default().extend(all.iter().cloned());
                format!("LABEL{}", shown(&all))
            }
            Instruction::Arg(all) => format!("ARG {}", self.arguments(all, given)?),
            Instruction::User(user) => {
                let user = self.word(user, given)?;
                self.config.user = Some(user.clone());
                format!("USER {user}")
            }
            Instruction::Expose(ports) => {
                let lexer = Lexer::new(given.escape);
                let words = ports.iter().map(|p| lexer.words(p, &|name| self.get(name)));
                let words = words.collect::<Result<Vec<_>>>()?.concat();
                let mut all = Vec::new();
                for word in &words {
                    all.extend(expose(word)?);
                }
                let exposed = self.config.exposed_ports.get_or_insert_default();
                all.iter().for_each(|port| drop(exposed.insert(port.clone(), empty())));
                format!("EXPOSE [{}]", all.join(" "))
            }
            Instruction::Volume(all) => {
                let all = all.iter().map(|v| self.word(v, given)).collect::<Result<Vec<_>>>()?;
                if all.iter().any(String::is_empty) {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                let volumes = self.config.volumes.get_or_insert_default();
                all.iter().for_each(|v| drop(volumes.insert(v.clone(), empty())));
                format!("VOLUME [{}]", all.join(" "))
            }
            Instruction::Cmd(command) => {
                let argv = self.argv(command);
                let what = format!("CMD {argv:?}").replace("\", \"", "\" \"");
                self.config.cmd = Some(argv);
                self.commanded = true;
                what
            }
            Instruction::Entrypoint(command) => {
                let argv = self.argv(command);
                let what = format!("ENTRYPOINT {argv:?}").replace("\", \"", "\" \"");
                self.config.entrypoint = Some(argv).filter(|a| !a.is_empty());
                if !self.commanded {
                    self.config.cmd = None;
                }
                what
            }
            Instruction::Shell(words) => {
                self.config.shell = Some(words.clone());
                format!("SHELL [{}]", words.join(" "))
            }
            Instruction::StopSignal(signal) => {
                let signal = self.word(signal, given)?;
                check_signal(&signal)?;
                self.config.stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            Instruction::Healthcheck(health) => {
                self.config.healthcheck = Some(health.clone());
                format!("HEALTHCHECK {}", health.test.clone().unwrap_or_default().join(" "))
            }
            Instruction::OnBuild(text) => {
                self.config.on_build.get_or_insert_default().push(text.clone());
                return Ok(true);
            }
            Instruction::Maintainer(who) => {
                self.author = Some(who.clone());
                format!("MAINTAINER {who}")
            }
            Instruction::From(_) | Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_) => {
                return Ok(false);
            }
        };
        self.note(what, None, false);
        Ok(true)
    }

    fn arguments(&mut self, all: &[(String, Option<String>)], given: &Given) -> Result<String> {
        let mut shown = Vec::new();
        for (name, default) in all {
            let value = match (given.args.get(name), default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(text)) => Some(self.word(text, given)?),
                (None, None) => given.globals.get(name).cloned(),
            };
            shown.push(value.as_ref().map_or(name.clone(), |v| format!("{name}={v}")));
            if let Some(value) = &value {
                set(&mut self.env, name, value.clone());
            }
            self.args.push((name.clone(), value));
        }
        Ok(shown.join(" "))
    }

    /// The config of the image that it is. What has no time of its own is of the time of the first new layer, else
    /// of the last old one, so that the same layers always are the same image.
    pub(crate) fn image(&self, epoch: Option<String>) -> ImageConfig {
        let mut history = self.history.clone();
        let new = self.inherited.min(history.len());
        if let Some(epoch) = &epoch {
            history[new..].iter_mut().for_each(|h| h.created = Some(epoch.clone()));
        }
        let mut at = history[new..].iter().find_map(|h| h.created.clone());
        at = at.or_else(|| history.iter().rev().find_map(|h| h.created.clone()));
        for entry in &mut history {
            match &entry.created {
                Some(_) => {}
                None => entry.created = at.clone(),
            }
        }
        let created = history.last().and_then(|h| h.created.clone()).or(epoch);
        ImageConfig {
            created,
            author: self.author.clone(),
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            variant: self.platform.variant.clone(),
            config: Some(self.config.clone()),
            rootfs: RootFs { diff_ids: self.ids.clone(), ..RootFs::default() },
            history: Some(history),
            extra: self.extra.clone(),
        }
    }
}

/// `80`, `80/udp`, `8000-8010/tcp`; of `8080:80` the port inside.
fn expose(text: &str) -> Result<Vec<String>> {
    let bad = || Error::invalid(format!("Invalid containerPort: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("Invalid proto: {protocol}")));
    }
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
    match first <= last {
        true => Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect()),
        false => Err(bad()),
    }
}

fn check_signal(text: &str) -> Result<()> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = matches!(bare, "CLD" | "IOT" | "POLL")
        || format!("SIG{bare}").parse::<nix::sys::signal::Signal>().is_ok();
    // Half of those in real time are counted from each end.
    let within = |rest: &str, sign: char, most: u8| {
        rest.is_empty() || rest.strip_prefix(sign).is_some_and(|n| n.parse().is_ok_and(|n: u8| n <= most))
    };
    let real = bare.strip_prefix("RTMIN").is_some_and(|r| within(r, '+', 15))
        || bare.strip_prefix("RTMAX").is_some_and(|r| within(r, '-', 14));
    let number = text.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    match named || real || number {
        true => Ok(()),
        false => Err(Error::invalid(format!("Invalid signal: {text}"))),
    }
}

#[cfg(test)]
mod tests;
