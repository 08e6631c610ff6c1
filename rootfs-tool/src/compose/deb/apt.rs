//! What this machine's apt is configured for: its repositories, its keys, its proxies, and whether it heeds the age of an
//! index. `apt-config` is asked where there is one, so that every way to configure apt counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Result, file, order};

use super::sources::{Source, parse_list, parse_sources};
use crate::registry::Named;

/// The configuration, `NAME "VALUE";` a line as `apt-config dump` prints it.
#[derive(Default)]
pub(crate) struct Apt {
    values: BTreeMap<String, String>,
}

impl Apt {
    /// That of this machine; where there is no apt that of one which nobody configured.
    pub(crate) fn of_host() -> Self {
        let Some(path) =
            ["/usr/bin/apt-config", "/bin/apt-config"].map(Path::new).into_iter().find(|p| p.exists())
        else {
            return Self::default();
        };
        let mut program = Program::new(path);
        program.word("dump");
        match program.hear() {
            Ok((Status::Exited(0), out, _)) => Self::parse(&String::from_utf8_lossy(&out)),
            _ => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let one = |line: &str| {
            let (name, value) = line.split_once(" \"")?;
            Some((name.to_owned(), value.strip_suffix("\";")?.to_owned()))
        };
        Self { values: order::gather(text.lines().filter_map(one)) }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|v| &v[..]).filter(|v| !v.is_empty())
    }

    /// A path of apt's: what is relative lies below that of the name above.
    fn path(&self, name: &str, default: &str) -> PathBuf {
        let own = Path::new(self.get(name).unwrap_or(default));
        let above = match name.rsplit_once("::") {
            _ if own.is_absolute() => return own.to_owned(),
            Some(("Dir", _)) => PathBuf::from(self.get("Dir").unwrap_or("/")),
            Some((above, _)) => self.path(above, "etc/apt"),
            None => "/".into(),
        };
        above.join(own)
    }

    /// Does it heed how old an index is?
    pub(crate) fn checks_age(&self) -> bool {
        let off = |v: &str| {
            matches!(&v.to_ascii_lowercase()[..], "false" | "0" | "no" | "off" | "without" | "disable")
        };
        !self.get("Acquire::Check-Valid-Until").is_some_and(off)
    }

    /// Its proxies.
    pub(crate) fn proxies(&self) -> Vec<Named> {
        let named = |(name, value): (&String, &String)| {
            let rest = name.strip_prefix("Acquire::")?;
            let (scheme, rest) = rest.split_once("::Proxy")?;
            let host = match rest {
                "" if value.is_empty() => return None,
                "" => None,
                _ => Some(rest.strip_prefix("::")?.to_owned()),
            };
            let (scheme, value) = (scheme.to_owned(), value.clone());
            Some(Named { scheme, host, value, by: format!("{name} of apt's configuration") })
        };
        self.values.iter().filter_map(named).collect()
    }

    /// The keys that apt takes where a repository names none.
    pub(crate) fn trusted(&self) -> Vec<PathBuf> {
        let parts = self.path("Dir::Etc::trustedparts", "trusted.gpg.d");
        let mut all = vec![self.path("Dir::Etc::trusted", "trusted.gpg")];
        all.extend(list(&parts, &["gpg", "asc"]));
        all.retain(|p| p.exists());
        all
    }

    /// Its repositories.
    pub(crate) fn sources(&self, architecture: &str) -> Result<Vec<Source>> {
        let mut files = vec![self.path("Dir::Etc::sourcelist", "sources.list")];
        files.extend(list(&self.path("Dir::Etc::sourceparts", "sources.list.d"), &["list", "sources"]));
        let mut all = Vec::new();
        for path in files {
            if !path.is_file() {
                continue;
            }
            let text = String::from_utf8(file::read(&path)?)
                .map_err(|_| Error::invalid(format!("read {path:?}: it is no text")))?;
            let parse = match path.extension().is_some_and(|e| e == "sources") {
                true => parse_sources,
                false => parse_list,
            };
            all.extend(parse(&text, architecture).context(|| format!("read {path:?}"))?);
        }
        Ok(all)
    }
}

/// Files of a directory with these endings, in order.
pub(crate) fn list(dir: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.retain(|p| p.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e)));
    order::sort(&mut all);
    all
}

/// The code name of the distribution that runs here.
pub(crate) fn codename() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_s_words_are_read() {
        let apt = Apt::parse(
            "Dir \"/\";\nDir::Etc \"etc/apt\";\nDir::Etc::sourcelist \"sources.list\";\nDir::Etc::trusted \"/k.gpg\";\n\
             Acquire::http::Proxy \"http://p.example:3128\";\nAcquire::http::Proxy::m.example \"DIRECT\";\n\
             Acquire::https::Proxy \"\";\nAcquire::Check-Valid-Until \"false\";\n",
        );
        assert_eq!(apt.path("Dir::Etc::sourcelist", "x"), Path::new("/etc/apt/sources.list"));
        assert_eq!(apt.path("Dir::Etc::sourceparts", "parts"), Path::new("/etc/apt/parts"));
        assert_eq!(apt.path("Dir::Etc::trusted", "x"), Path::new("/k.gpg"));
        assert!(!apt.checks_age() && Apt::default().checks_age());
        let proxies: Vec<_> = apt.proxies().into_iter().map(|p| (p.scheme, p.host, p.value)).collect();
        assert_eq!(
            proxies,
            [
                ("http".into(), None, "http://p.example:3128".into()),
                ("http".into(), Some("m.example".into()), "DIRECT".into())
            ]
        );
        assert_eq!(
            Apt::default().path("Dir::Etc::sourcelist", "sources.list"),
            Path::new("/etc/apt/sources.list")
        );
    }
}
