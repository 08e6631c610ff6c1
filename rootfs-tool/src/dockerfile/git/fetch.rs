//! A repository's files, by the host's git: one commit of it, without what came before where its server can give that.
//! What the repository says is held off from the host: only the protocols of the network are spoken, also for submodules,
//! no hook runs, nothing is asked on a terminal.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_store::layer::tree::{is, list, open_dir};
use coracle_sys::print::harmless;
use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Kind, Result, file};
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};

use super::Address;

/// Variables of git's that are the caller's to set; others would lead it to another repository.
const KEPT: [&str; 11] = [
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
];
/// What is spoken: no `ext`, which executes, and no `file`.
const PROTOCOLS: &str = "git:http:https:ssh";

/// What opens a repository that is not for everybody.
#[derive(Default)]
pub(crate) struct Keys {
    /// The value of a header, `basic ...` or `bearer ...`.
    pub(crate) header: Option<String>,
    /// The socket of ssh's agent.
    pub(crate) agent: Option<PathBuf>,
}

impl Keys {
    /// As BuildKit has it of its secrets GIT_AUTH_TOKEN and GIT_AUTH_HEADER.
    pub(crate) fn token(&mut self, token: &str) {
        self.header = Some(format!("basic {}", STANDARD.encode(format!("x-access-token:{token}"))));
    }
}

/// A repository in the making, in a directory of its own.
struct Git<'a> {
    program: PathBuf,
    dir: &'a Path,
    address: &'a Address,
    keys: &'a Keys,
}

/// Put the files of a commit into an empty directory, with the repository itself in `.git` if that is to be kept. Which
/// commit it is.
pub(crate) fn fetch(address: &Address, dir: &Path, keys: &Keys, keep: bool) -> Result<String> {
    let git = Git { program: find()?, dir, address, keys };
    git.fetch(keep).map_err(|e| e.wrap(format!("fetch {}", shown(&address.remote))))
}

/// The host's git.
fn find() -> Result<PathBuf> {
    coracle_sys::program::find("git").ok_or_else(|| {
        Error::not_found("find git, which fetches repositories: it is not installed (the package git)")
    })
}

impl Git<'_> {
    fn fetch(&self, keep: bool) -> Result<String> {
        let remote = &self.address.remote;
        self.run(&["init", "-q", "--template="])?;
        // What is relative in .gitmodules is so to this.
        self.run(&["remote", "add", "origin", remote])?;
        let commit = self.commit()?;
        self.run(&["checkout", "-q", "--detach", &commit])?;
        if self.dir.join(".gitmodules").symlink_metadata().is_ok() {
            self.run(&["submodule", "update", "-q", "--init", "--recursive", "--depth=1"])
                .context(|| "fetch its submodules")?;
        }
        match keep {
            true => drop(self.run(&["remote", "set-url", "origin", &shown(remote)])?),
            false => forget(file::open_dir(self.dir)?.as_fd(), 0)?,
        }
        Ok(commit)
    }

    /// Bring the commit that is wanted. Which one that is.
    fn commit(&self) -> Result<String> {
        let wanted = self.address.wanted.as_deref();
        let number = wanted.filter(|name| is_number(name));
        let name = match wanted {
            None => "HEAD".to_owned(),
            Some(name) if number.is_some_and(|n| n.len() == 40) => name.to_owned(),
            Some(name) => match self.full_name(name)? {
                Some(full) => full,
                None if number.is_some() => return self.among_all(name),
                None => return Err(self.lacks(name)),
            },
        };
        let origin = ["fetch", "-q", "--no-tags"];
        let one = self.run(&[&origin[..], &["--depth=1", "origin", &name]].concat());
        match one {
            Ok(_) => {}
            // A server may give only what has a name.
            Err(_) if number == Some(&name) => return self.among_all(&name),
            // A web server that knows nothing of git has no part of a history to give.
            Err(e) if e.to_string().contains("shallow") => {
                self.run(&[&origin[..], &["origin", &name]].concat())?;
            }
            Err(e) => return Err(e),
        }
        self.number_of("FETCH_HEAD")
    }

    /// A commit that is no end of a branch: it is looked for in all there is.
    fn among_all(&self, number: &str) -> Result<String> {
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        self.run(&["fetch", "-q", "--no-tags", "origin", all[0], all[1]])?;
        self.number_of(number).map_err(|_| self.lacks(number))
    }

    fn number_of(&self, name: &str) -> Result<String> {
        let commit = format!("{name}^{{commit}}");
        self.run(&["rev-parse", "--verify", "-q", &commit]).map(|text| text.trim().to_owned())
    }

    /// What a name is in full there: a branch, as git has it, before a tag.
    fn full_name(&self, name: &str) -> Result<Option<String>> {
        let all = match name.starts_with("refs/") {
            true => vec![name.to_owned()],
            false => ["heads/", "tags/", ""].map(|kind| format!("refs/{kind}{name}")).to_vec(),
        };
        let mut words = vec!["ls-remote", "origin"];
        words.extend(all.iter().map(String::as_str));
        let told = self.run(&words)?;
        let there =
            |full: &&String| told.lines().any(|l| l.split_once('\t').is_some_and(|(_, n)| n == **full));
        Ok(all.iter().find(there).cloned())
    }

    fn lacks(&self, name: &str) -> Error {
        Error::not_found(format!("repository does not contain ref {name}"))
    }

    /// Run git there. What it says on standard output.
    fn run(&self, words: &[&str]) -> Result<String> {
        let mut git = Program::new(&self.program);
        git.bound();
        git.umask(0o022);
        git.forget(|name| name.starts_with("GIT_") && !KEPT.contains(&name));
        for (name, value) in
            [("GIT_TERMINAL_PROMPT", "0"), ("GIT_ALLOW_PROTOCOL", PROTOCOLS), ("LC_ALL", "C")]
        {
            git.set(name, value);
        }
        if let Some(header) = &self.keys.header {
            // Not among the words, which everybody can see.
            git.set("GIT_CONFIG_COUNT", "1");
            git.set("GIT_CONFIG_KEY_0", &format!("http.{}.extraheader", server(&self.address.remote)));
            git.set("GIT_CONFIG_VALUE_0", &format!("Authorization: {header}"));
        }
        if let Some(agent) = &self.keys.agent {
            git.set("SSH_AUTH_SOCK", &agent.to_string_lossy());
        }
        if std::env::var_os("GIT_SSH_COMMAND").or_else(|| std::env::var_os("GIT_SSH")).is_none() {
            git.set("GIT_SSH_COMMAND", &ssh(std::env::var_os("HOME").as_deref()));
        }
        for word in
            ["core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "advice.detachedHead=false"]
        {
            git.word("-c");
            git.word(word);
        }
        git.word("-C");
        git.word(self.dir);
        words.iter().for_each(|word| git.word(*word));
        let (status, out, err) = git.hear()?;
        if status == Status::Exited(0) {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let text = String::from_utf8_lossy(&err);
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let fatal = lines.clone().find(|l| l.starts_with("fatal: ") || l.starts_with("error: "));
        let line = fatal.or_else(|| lines.next_back()).unwrap_or("it does not say why");
        let line = harmless(line).replace(self.address.remote.as_str(), &shown(&self.address.remote));
        Err(Error::new(Kind::System, format!("git {}: {line}", words[0])))
    }
}

/// Hexadecimal digits, as many as a commit is called by.
fn is_number(name: &str) -> bool {
    (7..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `SCHEME://HOST/` of an address.
fn server(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{}/", host.rsplit_once('@').map_or(host, |(_, host)| host))
}

/// An address without a password.
fn shown(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{scheme}://{host}{path}"),
        _ => remote.to_owned(),
    }
}

/// ssh, which is to ask nobody. It looks for its files in the home of the user that it runs as: in a user namespace
/// that is root's.
fn ssh(home: Option<&OsStr>) -> String {
    let mut text = "ssh -o BatchMode=yes".to_owned();
    let Some(dir) = home.map(|home| Path::new(home).join(".ssh")) else { return text };
    if coracle_sys::idmap::is_initial_namespace() {
        return text;
    }
    // The shell reads this.
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    for (name, option) in [
        ("config", "-F "),
        ("known_hosts", "-o UserKnownHostsFile="),
        ("id_ed25519", "-o IdentityFile="),
        ("id_ecdsa", "-o IdentityFile="),
        ("id_rsa", "-o IdentityFile="),
    ] {
        let path = dir.join(name);
        if path.is_file() {
            text += &format!(" {option}{}", quoted(&path));
        }
    }
    text
}

/// Take away what is git's own, of submodules too. No file of a repository can have this name.
fn forget(dir: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > 1000 {
        return Err(Error::invalid("it is deeper than 1000 folders"));
    }
    for name in list(dir)? {
        let os = std::os::unix::ffi::OsStrExt::from_bytes(&name[..]);
        if name.eq_ignore_ascii_case(b".git") {
            file::remove_at(dir, os)?;
            continue;
        }
        let st = fstatat(dir, os, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({os:?})"))?;
        if is(&st, SFlag::S_IFDIR) {
            let sub = open_dir(dir, os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
            forget(sub.as_fd(), depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_and_goes_to_its_server_alone() {
        assert_eq!(shown("https://u:p@h:1/a@b.git"), "https://h:1/a@b.git");
        assert_eq!(shown("ssh://git@h/a"), "ssh://git@h/a");
        assert_eq!(shown("git@h:a"), "git@h:a");
        assert_eq!(server("https://u:p@h:1/a/b.git"), "https://h:1/");
        let mut keys = Keys::default();
        keys.token("t");
        assert_eq!(keys.header.as_deref(), Some("basic eC1hY2Nlc3MtdG9rZW46dA=="));
        assert!(
            is_number("0123abc") && !is_number("0123ab") && !is_number("v1.2.3.4") && !is_number("ABCDEF01")
        );
    }
}
