//! `--change`: an instruction of a Dockerfile that alters an image's config and nothing else.

use coracle_store::image::{Healthcheck, ProcessConfig};
use coracle_sys::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    word: String,
    rest: String,
}

impl std::str::FromStr for Change {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let (word, rest) = s.trim().split_once(char::is_whitespace).unwrap_or((s.trim(), ""));
        Ok(Self { word: word.to_ascii_uppercase(), rest: rest.trim().to_owned() })
    }
}

impl Change {
    /// Alter a config.
    pub fn apply(&self, p: &mut ProcessConfig) -> Result<()> {
        let bad = |why: &str| {
            let (word, rest) = (&self.word, &self.rest);
            Err(Error::usage(format!("--change {:?}: {why}", format!("{word} {rest}"))))
        };
        if self.rest.is_empty() {
            return bad("it has no argument");
        }
        let empty = || Value::Object(Map::new());
        match self.word.as_str() {
            "CMD" => p.cmd = Some(command(&self.rest)),
            "ENTRYPOINT" => p.entrypoint = Some(command(&self.rest)),
            "USER" => p.user = Some(self.rest.clone()),
            "WORKDIR" => {
                let here = Path::new(p.working_dir.as_deref().unwrap_or("/")).join(&self.rest);
                p.working_dir = Some(here.display().to_string());
            }
            "HEALTHCHECK" => match healthcheck(&self.rest) {
                Ok(check) => p.healthcheck = Some(check),
                Err(why) => return bad(&why),
            },
            "STOPSIGNAL" => p.stop_signal = Some(self.rest.clone()),
            "ONBUILD" => p.on_build.get_or_insert_default().push(self.rest.clone()),
            "ENV" => {
                let Some(pairs) = pairs(&self.rest) else { return bad("it has the form ENV NAME=VALUE") };
                let env = p.env.get_or_insert_default();
                for (name, value) in pairs {
                    env.retain(|e| e.split('=').next() != Some(&name));
                    env.push(format!("{name}={value}"));
                }
            }
            "LABEL" => {
                let Some(pairs) = pairs(&self.rest) else { return bad("it has the form LABEL NAME=VALUE") };
                p.labels.get_or_insert_default().extend(pairs);
            }
            "EXPOSE" => {
                for port in self.rest.split_whitespace() {
                    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                    let protocol = protocol.to_ascii_lowercase();
                    if number.parse::<u16>().is_err() || !matches!(&*protocol, "tcp" | "udp" | "sctp") {
                        return bad("a port has the form NUMBER[/tcp|udp|sctp]");
                    }
                    p.exposed_ports.get_or_insert_default().insert(format!("{number}/{protocol}"), empty());
                }
            }
            "VOLUME" => {
                let paths = list(&self.rest)
                    .unwrap_or_else(|| self.rest.split_whitespace().map(str::to_owned).collect());
                p.volumes.get_or_insert_default().extend(paths.into_iter().map(|v| (v, empty())));
            }
            _ => {
                return bad(
                    "there are CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR",
                );
            }
        }
        Ok(())
    }

    /// Is it this instruction?
    fn is(&self, word: &str) -> bool {
        self.word == word
    }
}

/// Alter a config by all of them, in their order. The command of a container is none for another entry point.
pub fn apply_all(changes: &[String], p: &mut ProcessConfig) -> Result<()> {
    let changes: Vec<Change> = changes.iter().map(|c| c.parse()).collect::<Result<_>>()?;
    for (n, change) in changes.iter().enumerate() {
        change.apply(p)?;
        if change.is("ENTRYPOINT") && !changes[..n].iter().any(|c| c.is("CMD")) {
            p.cmd = None;
        }
    }
    Ok(())
}

/// `NONE`, or `[--interval=TIME ...] CMD COMMAND`.
fn healthcheck(text: &str) -> std::result::Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text.trim();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let time = || time(value).ok_or_else(|| format!("--{name}={value:?} is no time, such as 1m30s"));
        match name {
            "interval" => check.interval = Some(time()?),
            "timeout" => check.timeout = Some(time()?),
            "start-period" => check.start_period = Some(time()?),
            "start-interval" => check.start_interval = Some(time()?),
            "retries" => {
                let number = value.parse().map_err(|_| format!("--retries={value:?} is no number"))?;
                check.retries = Some(number);
            }
            _ => return Err(format!("it takes no --{name}")),
        }
        rest = after.trim_start();
    }
    let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    let words = |first: &str, rest: Vec<String>| Some([vec![first.to_owned()], rest].concat());
    check.test = match word.to_ascii_uppercase().as_str() {
        "NONE" if argument.is_empty() => words("NONE", Vec::new()),
        "CMD" if argument.is_empty() => return Err("CMD needs a command".to_owned()),
        "CMD" => match list(argument) {
            Some(command) => words("CMD", command),
            None => words("CMD-SHELL", vec![argument.to_owned()]),
        },
        _ => return Err("it has the form NONE or [--interval=TIME ...] CMD COMMAND".to_owned()),
    };
    Ok(check)
}

/// Nanoseconds of a time as Go writes it: `1h2m3.5s`, `100ms`.
fn time(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(at);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos: i64 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        total = total.checked_add(whole.parse::<i64>().ok()?.checked_mul(nanos)?)?;
        let mut digit = nanos;
        for c in fraction.chars() {
            digit /= 10;
            total = total.checked_add(digit.checked_mul(c.to_digit(10)?.into())?)?;
        }
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// A JSON list of words.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A JSON list, or text for the shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

/// `NAME=VALUE ...` with quotes and backslashes, or `NAME VALUE` as in the oldest Dockerfiles.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split_whitespace().next()?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = words.last_mut()?;
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None | Some('"'), '\\') => last.extend(chars.next()),
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => last.push(c),
        }
    }
    let words = words.into_iter().filter(|w| !w.is_empty());
    words.map(|w| w.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_alter_a_config_as_a_dockerfile_does() {
        let mut p = ProcessConfig::default();
        for change in [
            "CMD [\"a\", \"b\"]",
            "entrypoint run it",
            "ENV A=1 B=\"x y\" C=a\\ b",
            "ENV A 2 3",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/v\"]",
            "VOLUME /w /x",
            "USER me",
            "WORKDIR /d",
            "WORKDIR sub",
            "HEALTHCHECK --interval=1m1.5s --retries=3 CMD test -e /x",
        ] {
            change.parse::<Change>().unwrap().apply(&mut p).unwrap();
        }
        let words = |w: &[&str]| Some(w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(p.cmd, words(&["a", "b"]));
        assert_eq!(p.entrypoint, words(&["/bin/sh", "-c", "run it"]));
        assert_eq!(p.env, words(&["B=x y", "C=a b", "A=2 3"]));
        assert_eq!(p.exposed_ports.unwrap().keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(p.volumes.unwrap().keys().collect::<Vec<_>>(), ["/v", "/w", "/x"]);
        assert_eq!((p.user.unwrap(), p.working_dir.unwrap()), ("me".to_owned(), "/d/sub".to_owned()));
        let check = p.healthcheck.unwrap();
        assert_eq!(check.test, words(&["CMD-SHELL", "test -e /x"]));
        assert_eq!((check.interval, check.retries, check.timeout), (Some(61_500_000_000), Some(3), None));
        for bad in [
            "",
            "CMD",
            "RUN x",
            "EXPOSE x",
            "EXPOSE 80/icmp",
            "ENV A",
            "FROM x",
            "HEALTHCHECK x",
            "HEALTHCHECK CMD",
            "HEALTHCHECK NONE x",
            "HEALTHCHECK --interval=5 CMD x",
        ] {
            let change = bad.parse::<Change>().unwrap();
            assert!(change.apply(&mut ProcessConfig::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_entry_point_takes_the_command_that_it_was_not_given() {
        let cmd = |changes: &[&str]| {
            let mut p = ProcessConfig { cmd: Some(vec!["old".to_owned()]), ..ProcessConfig::default() };
            apply_all(&changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(), &mut p).unwrap();
            p.cmd
        };
        assert_eq!(cmd(&["ENTRYPOINT [\"x\"]"]), None);
        assert_eq!(cmd(&["CMD [\"c\"]", "ENTRYPOINT [\"x\"]"]), Some(vec!["c".to_owned()]));
        assert_eq!(cmd(&["ENV a=b"]), Some(vec!["old".to_owned()]));
    }
}
