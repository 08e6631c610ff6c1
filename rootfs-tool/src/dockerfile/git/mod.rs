//! Addresses of git repositories, as BuildKit reads them: what is one, which ref of it, which folder. Nothing is fetched
//! here.

mod fetch;

use coracle_sys::{Error, Result};

pub(crate) use fetch::{Keys, fetch};

/// A repository, and what of it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    /// Where git finds it.
    pub(crate) remote: String,
    /// A branch, a tag, a ref in full, or a commit; what the repository has as HEAD if not said.
    pub(crate) wanted: Option<String>,
    /// A folder of it.
    pub(crate) folder: Option<String>,
}

impl Address {
    /// The server's name.
    pub(crate) fn host(&self) -> &str {
        host(&self.remote).1
    }
}

/// The user and the host of a remote.
fn host(remote: &str) -> (&str, &str) {
    let host = match remote.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => remote.split(':').next().unwrap_or_default(),
    };
    host.rsplit_once('@').unwrap_or(("", host))
}

/// Read `REMOTE[#REF[:FOLDER]]`. None where it is no repository's address.
pub(crate) fn parse(text: &str) -> Option<Result<Address>> {
    let (remote, rest) = text.split_once('#').unwrap_or((text, ""));
    let lower = remote.to_ascii_lowercase();
    let web = lower.starts_with("http://") || lower.starts_with("https://");
    let is_one = match web {
        true => lower.ends_with(".git"),
        false => lower.starts_with("git://") || lower.starts_with("ssh://") || is_short(remote),
    };
    is_one.then(|| read(remote, rest).map_err(|e| e.wrap(format!("read the address {text:?}"))))
}

/// As [`parse`], with the short form that a context may have.
pub(crate) fn parse_context(text: &str) -> Option<Result<Address>> {
    match text.strip_prefix("github.com/") {
        Some(_) => parse(&format!("https://{}", with_suffix(text))),
        None => parse(text),
    }
}

/// What `github.com/NAME/REPOSITORY` leaves out.
fn with_suffix(text: &str) -> String {
    let (remote, rest) = text.split_at(text.find('#').unwrap_or(text.len()));
    let suffix = if remote.ends_with(".git") { "" } else { ".git" };
    format!("{remote}{suffix}{rest}")
}

/// `USER@HOST:PATH`.
fn is_short(remote: &str) -> bool {
    let Some((user, rest)) = remote.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    plain(user, "-_") && plain(host, "-.") && !path.is_empty() && !path.starts_with("//")
}

fn read(remote: &str, rest: &str) -> Result<Address> {
    let (wanted, folder) = rest.split_once(':').unwrap_or((rest, ""));
    let (user, host) = host(remote);
    if host.is_empty() || [user, host].iter().any(|part| part.starts_with('-')) {
        return Err(Error::usage("its host is none"));
    }
    if remote.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::usage("there is white space in it"));
    }
    if !wanted.is_empty() && !is_ref(wanted) {
        return Err(Error::usage(format!("{wanted:?} is no name of a branch, a tag or a commit")));
    }
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Address { remote: remote.to_owned(), wanted: said(wanted), folder: said(folder) })
}

/// By the rules of git-check-ref-format(1), as far as a name could be mistaken for something else.
fn is_ref(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_known_by_its_address() {
        let of = |text: &str| {
            parse_context(text).map(|found| {
                let found = found.unwrap();
                format!("{} {:?} {:?}", found.remote, found.wanted, found.folder)
            })
        };
        for (text, remote, wanted, folder) in [
            ("https://h/r.git", "https://h/r.git", None, None),
            ("https://h/r.git#v1", "https://h/r.git", Some("v1"), None),
            ("https://u:p@h/r.git#v1:a/b", "https://u:p@h/r.git", Some("v1"), Some("a/b")),
            ("HTTP://h/r.git#:a", "HTTP://h/r.git", None, Some("a")),
            ("git://h/r#refs/heads/x", "git://h/r", Some("refs/heads/x"), None),
            ("ssh://git@h:22/r", "ssh://git@h:22/r", None, None),
            ("git@h:a/r.git#x:y", "git@h:a/r.git", Some("x"), Some("y")),
            ("me@h:r", "me@h:r", None, None),
            ("github.com/a/b", "https://github.com/a/b.git", None, None),
            ("github.com/a/b.git#c:d", "https://github.com/a/b.git", Some("c"), Some("d")),
        ] {
            assert_eq!(of(text), Some(format!("{remote} {wanted:?} {folder:?}")), "{text}");
        }
        for text in ["https://h/r", "https://h/r.git/x", ".", "./a.git", "a.git", "/a.git", "file:///a.git"] {
            assert_eq!(of(text), None, "{text}");
        }
        for text in ["ext::sh -c x", "a@b", "a b@c:d", "-u@h:r.git@", "@h:r", "fd::17", "http://", "u@:r"] {
            assert!(parse_context(text).is_none_or(|found| found.is_err()), "{text}");
        }
        assert!(parse("github.com/a/b").is_none(), "in ADD it is a path of the context");
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        for text in [
            "https://h/r.git#--upload-pack=x",
            "https://h/r.git#-x:y",
            "https://h/r.git#a b",
            "https://h/r.git#a..b",
            "https://h/r.git#a@{1}",
            "https://h/r.git#a^",
            "https://h/r.git#+a\n",
            "https://h/r.git#*",
            "https://-oProxyCommand=x/r.git",
            "ssh://-oProxyCommand=x/r",
            "ssh://git@-x/r",
            "ssh://-l@h/r",
            "-oProxyCommand@h:r",
            "git@-h:r",
            "git:///r",
            "https://h/a b.git",
        ] {
            assert!(parse(text).unwrap().is_err(), "{text}");
        }
    }
}
