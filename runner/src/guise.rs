//! A link named `docker` to the runner behaves as docker's client: words that docker and runc share mean docker's, and errors
//! end as docker's do. What docker says before the command is read here.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use coracle_sys::{Error, Kind, Result};

/// What was typed, as the runner is told it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Typed {
    /// The words.
    pub(crate) argv: Vec<OsString>,
    /// It was called as docker.
    pub(crate) docker: bool,
    /// Where docker's config.json lies.
    pub(crate) config: Option<PathBuf>,
}

/// Verbs that docker has not: runc's own.
const FOREIGN: [&str; 6] = ["delete", "features", "list", "resume", "spec", "state"];

/// Whether the program is called so.
pub(crate) fn is_docker(called: &OsStr) -> bool {
    Path::new(called).file_name() == Some(OsStr::new("docker"))
}

/// Read what stands before docker's command. `host`: what DOCKER_HOST says.
pub(crate) fn read(argv: Vec<OsString>, host: Option<OsString>) -> Result<Typed> {
    let mut typed = Typed { docker: true, ..Typed::default() };
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
                let next = next.ok_or_else(|| Error::usage("flag needs an argument: --config"))?;
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

/// How docker's client ends where the runner ends so: only `run` tells its own errors by 125, and flags that are not known.
pub(crate) fn exit_code(argv: &[OsString], code: u8, error: &Error) -> u8 {
    let mut verbs = argv.iter().filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let first = verbs.next().filter(|verb| *verb != "container").or_else(|| verbs.next());
    let runs = first.is_some_and(|verb| verb == "run");
    let flag = error.kind() == Kind::Usage && error.to_string().starts_with("unknown flag");
    if code == 125 && !runs && !flag { 1 } else { code }
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
            ("--config", "--config"),
        ] {
            let e = typed(line).unwrap_err().to_string();
            assert!(e.contains(names), "{line}: {e}");
        }
        assert!(read(Vec::new(), Some("tcp://x".into())).is_err());
        assert!(is_docker(OsStr::new("/usr/bin/docker")) && !is_docker(OsStr::new("/docker/runner")));
    }
}
