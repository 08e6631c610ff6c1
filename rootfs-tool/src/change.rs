//! `--change`: an instruction of a Dockerfile that alters an image's config and nothing else.

use coracle_store::image::ProcessConfig;
use coracle_sys::{Error, Result};
use serde_json::{Map, Value};

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
            "WORKDIR" => p.working_dir = Some(self.rest.clone()),
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
                    "there are CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR",
                );
            }
        }
        Ok(())
    }
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
        ] {
            change.parse::<Change>().unwrap().apply(&mut p).unwrap();
        }
        let words = |w: &[&str]| Some(w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(p.cmd, words(&["a", "b"]));
        assert_eq!(p.entrypoint, words(&["/bin/sh", "-c", "run it"]));
        assert_eq!(p.env, words(&["B=x y", "C=a b", "A=2 3"]));
        assert_eq!(p.exposed_ports.unwrap().keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(p.volumes.unwrap().keys().collect::<Vec<_>>(), ["/v", "/w", "/x"]);
        assert_eq!((p.user.unwrap(), p.working_dir.unwrap()), ("me".to_owned(), "/d".to_owned()));
        for bad in ["", "CMD", "RUN x", "EXPOSE x", "EXPOSE 80/icmp", "ENV A", "FROM x"] {
            let change = bad.parse::<Change>().unwrap();
            assert!(change.apply(&mut ProcessConfig::default()).is_err(), "{bad}");
        }
    }
}
