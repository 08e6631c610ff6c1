//! A link named `docker` to the runner behaves as docker's client, one named `runc` as that: words that both have mean what they
//! mean there, and errors end as they do there. What docker says before the command is read here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Error, Kind, Result};

const DOCKER: &str = "docker:";
const RUNC: &str = "runc:";

/// As whom the program was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Guise {
    /// As itself.
    #[default]
    Runner,
    /// As docker's client: no word means runc's.
    Docker,
    /// As runc: no word means docker's.
    Runc,
}

impl Guise {
    /// By the name that the program was called by, and the place that this leads to.
    pub(crate) fn of(called: &OsStr) -> (Self, &Path) {
        let bytes = called.as_bytes();
        for (prefix, guise) in [(DOCKER, Self::Docker), (RUNC, Self::Runc)] {
            if let Some(place) = bytes.strip_prefix(prefix.as_bytes()).filter(|p| p.starts_with(b"/")) {
                return (guise, Path::new(OsStr::from_bytes(place)));
            }
        }
        let place = Path::new(called);
        let guise = match place.file_name().and_then(OsStr::to_str) {
            Some("docker") => Self::Docker,
            Some("runc") => Self::Runc,
            _ => Self::Runner,
        };
        (guise, place)
    }

    /// What the program calls itself by when it goes on from elsewhere than `place`, where its file lies.
    pub(crate) fn called(self, place: &Path) -> OsString {
        let mut called = OsString::from(match self {
            Self::Runner => "",
            Self::Docker => DOCKER,
            Self::Runc => RUNC,
        });
        called.push(place);
        called
    }

    /// Whether `run` and `create` are of bundles, where that is known by the name.
    pub(crate) fn means_bundles(self) -> Option<bool> {
        match self {
            Self::Runner => None,
            Self::Docker => Some(false),
            Self::Runc => Some(true),
        }
    }

    /// How the other would end where the runner ends so. Of docker's verbs only `run` tells its own errors by 125, and flags that
    /// are not known; runc's errors are all 1, but 255 where `exec` did not come to run the command. `words`: from the verb on.
    pub(crate) fn exit_code(self, words: &[OsString], code: u8, error: &Error) -> u8 {
        let mut verbs = words.iter().filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
        let first = verbs.next();
        let usage = error.is_usage();
        match self {
            Self::Runner => code,
            Self::Docker => {
                let verb = first.filter(|verb| *verb != "container").or_else(|| verbs.next());
                let runs = verb.is_some_and(|verb| verb == "run");
                // Which flags of `run` go together is looked at when all of them are read.
                let together =
                    error.to_string().starts_with("conflicting options: cannot specify both --attach");
                if code == 125 && (together || !runs && error.kind() != Kind::Flag) { 1 } else { code }
            }
            Self::Runc if first.is_some_and(|verb| verb == "exec") && !usage => 255,
            Self::Runc => 1,
        }
    }
}

/// What was typed, as the runner is told it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Typed {
    /// The words.
    pub(crate) argv: Vec<OsString>,
    /// Where docker's config.json lies.
    pub(crate) config: Option<PathBuf>,
}

/// Verbs that docker has not: runc's own.
const FOREIGN: [&str; 6] = ["delete", "features", "list", "resume", "spec", "state"];

/// Read what stands before docker's command. `host`: what DOCKER_HOST says.
pub(crate) fn read(argv: Vec<OsString>, host: Option<OsString>) -> Result<Typed> {
    let mut typed = Typed::default();
    let mut rest = argv.into_iter();
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return Err(no_daemon(&format!("DOCKER_HOST={}", host.to_string_lossy())));
    }
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        let (flag, value) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
        match flag {
            "--config" => {
                let next = value.map(OsString::from).or_else(|| rest.next());
                let next = next.ok_or_else(|| Error::flag("flag needs an argument: --config"))?;
                typed.config = Some(next.into());
            }
            "-D" | "--debug" => typed.argv.push("--debug".into()),
            "--host" | "--context" | "--tls" | "--tlscacert" | "--tlscert" | "--tlskey" | "--tlsverify" => {
                return Err(no_daemon(flag));
            }
            flag if flag.starts_with("-H") || flag.starts_with("-c") => return Err(no_daemon(&flag[..2])),
            "-l" | "--log-level" => {
                return Err(Error::unsupported(format!("{flag}: there is --debug, and no other level")));
            }
            flag if flag.starts_with('-') => {
                let takes = matches!(
                    flag,
                    "--store" | "--storage-driver" | "--log" | "--log-format" | "--cgroup-manager"
                );
                typed.argv.push(word.clone());
                typed.argv.extend((takes && value.is_none()).then(|| rest.next()).flatten());
            }
            "compose" => {
                return Err(Error::unsupported(
                    "docker compose: not served (of a recipe: runner compose FOLDER)",
                ));
            }
            verb => {
                if FOREIGN.contains(&verb) {
                    return Err(Error::usage(format!(
                        "docker: '{verb}' is not a docker command (runner {verb})"
                    )));
                }
                typed.argv.push(word);
                typed.argv.extend(rest.by_ref());
            }
        }
    }
    if typed.argv.is_empty() {
        typed.argv.push("--help".into());
    }
    Ok(typed)
}

fn no_daemon(what: &str) -> Error {
    Error::unsupported(format!("{what}: there is no daemon to talk to, this docker is Coracle's runner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Typed> {
        read(line.split_whitespace().map(OsString::from).collect(), None)
    }

    #[test]
    fn what_stands_before_docker_s_command_is_docker_s() {
        for (line, argv, config) in [
            ("run -H x", "run -H x", None),
            ("--config /c -D ps -a", "--debug ps -a", Some("/c")),
            ("--config=/c --store /s ps", "--store /s ps", Some("/c")),
            ("--version", "--version", None),
            ("", "--help", None),
            ("-D", "--debug", None),
        ] {
            let typed = typed(line).unwrap();
            assert_eq!(typed.argv.join(OsStr::new(" ")), argv, "{line}");
            assert_eq!(typed.config.as_deref(), config.map(Path::new), "{line}");
        }
        for (line, names) in [
            ("-H tcp://x ps", "-H"),
            ("--host=x ps", "--host"),
            ("--context x ps", "--context"),
            ("state x", "state"),
            ("compose up -d", "not served"),
            ("--config", "--config"),
        ] {
            let e = typed(line).unwrap_err().to_string();
            assert!(e.contains(names), "{line}: {e}");
        }
        assert!(read(Vec::new(), Some("tcp://x".into())).is_err());
    }

    #[test]
    fn it_is_the_same_when_it_goes_on_from_elsewhere() {
        let place = Path::new("/usr/bin/runner");
        for called in ["docker", "/usr/sbin/runc", "/usr/bin/runner", "docker:x", "runc:"] {
            let (guise, _) = Guise::of(OsStr::new(called));
            assert_eq!(Guise::of(&guise.called(place)), (guise, place), "{called}");
        }
    }

    #[test]
    fn who_it_is_called_as_decides_how_an_error_ends() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let (gone, usage) = (Error::not_found("it is gone"), Error::flag("unknown flag: -x"));
        for (called, line, error, ends) in [
            ("/usr/bin/docker", "run x", &gone, 125),
            ("docker", "container run x", &gone, 125),
            ("docker", "stop x", &gone, 1),
            ("docker", "stop -x", &usage, 125),
            ("/usr/sbin/runc", "run x", &gone, 1),
            ("runc", "exec x true", &gone, 255),
            ("runc", "exec -x", &usage, 1),
            ("runner", "exec x true", &gone, 125),
            ("/docker/runc/runner", "stop x", &gone, 125),
        ] {
            assert_eq!(
                Guise::of(OsStr::new(called)).0.exit_code(&words(line), 125, error),
                ends,
                "{called} {line}"
            );
        }
    }
}
