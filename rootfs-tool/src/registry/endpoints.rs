//! Where a repository is to be had: containers' `registries.conf` (registries.conf(5): locations, mirrors,
//! `insecure`, `blocked`), the mirrors of docker's `daemon.json`, and docker.io's own ways.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use coracle_store::Reference;
use coracle_store::reference::DEFAULT;
use coracle_sys::{Context, Error, Kind, Result, file, json, order, read_json};
use nix::errno::Errno;

use super::dirs;
use crate::toml_text;

/// Where docker.io's API is.
const DEFAULT_API: &str = "registry-1.docker.io";

/// A place that has a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The host of the API, with its port.
    pub(crate) host: String,
    /// The repository's path there.
    pub(crate) path: String,
    /// Plain HTTP is allowed, and a certificate need not be good.
    pub(crate) insecure: bool,
    /// It may lack what the registry itself has.
    pub(crate) mirror: bool,
}

/// An address as a host and what follows it.
pub(super) fn without_scheme(address: &str) -> &str {
    address.trim_start_matches("https://").trim_start_matches("http://")
}

/// The host of a registry as it was typed: docker takes an address too.
pub(crate) fn host_of(typed: &str) -> &str {
    without_scheme(typed).split('/').next().unwrap_or_default()
}

/// What the configuration says of all registries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    rules: Vec<Rule>,
    docker_mirrors: Vec<String>,
    insecure: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Conf {
    registry: Vec<Rule>,
    _search: Option<Vec<String>>,
}

read_json!(Conf {
    registry: may "registry",
    _search: may "unqualified-search-registries",
});

#[derive(Clone, Debug, Default)]
struct Rule {
    prefix: Option<String>,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirror: Vec<Mirror>,
    mirror_by_digest_only: bool,
}

read_json!(Rule {
    prefix: may "prefix",
    location: may "location",
    insecure: may "insecure",
    blocked: may "blocked",
    mirror: may "mirror",
    mirror_by_digest_only: may "mirror-by-digest-only",
});

#[derive(Clone, Debug, Default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: Option<String>,
}

read_json!(Mirror {
    location: may "location",
    insecure: may "insecure",
    pull_from_mirror: may "pull-from-mirror",
});

#[derive(Default)]
struct Daemon {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
}

read_json!(Daemon {
    registry_mirrors: may "registry-mirrors",
    insecure_registries: may "insecure-registries",
});

impl Endpoints {
    /// As the host and the user have configured it.
    pub(crate) fn read() -> Result<Self> {
        let mut out = Self::default();
        for path in files() {
            let Some(text) = text_of(&path)? else { continue };
            let conf: Conf = toml_text::read(&text).context(|| format!("read {path:?}"))?;
            for rule in conf.registry {
                // A later file speaks last of a registry.
                out.rules.retain(|r| r.prefix() != rule.prefix());
                out.rules.push(rule);
            }
        }
        let path = Path::new("/etc/docker/daemon.json");
        if let Some(text) = text_of(path)? {
            let daemon: Daemon = json::from_slice(text.as_bytes()).context(|| format!("read {path:?}"))?;
            out.docker_mirrors = daemon.registry_mirrors;
            out.insecure = daemon.insecure_registries;
        }
        Ok(out)
    }

    /// A registry itself, of no repository.
    pub(crate) fn of_registry(&self, host: &str) -> Result<Endpoint> {
        // Any repository's name will do to find the registry's own rule.
        let reference: Reference = format!("{host}/x").parse()?;
        if reference.registry.as_deref() != Some(host) {
            return Err(Error::usage(format!("{host:?} is no registry: it has the form HOST[:PORT]")));
        }
        let mut own = self.of(&reference)?;
        own.pop().ok_or_else(|| Error::usage(format!("{host:?} is no registry")))
    }

    /// Where a reference is to be had, the mirrors first. Pushes go to the last, which is the registry.
    pub(crate) fn of(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let full = reference.qualified();
        let registry = full.registry.clone().unwrap_or_default();
        let name = format!("{registry}/{}", full.path);
        let rule = self.rules.iter().filter(|r| r.covers(&name)).max_by_key(|r| r.prefix().len());
        let mut out = Vec::new();
        let mut own = Endpoint {
            host: registry.clone(),
            path: full.path.clone(),
            insecure: is_loopback(&registry) || self.insecure.contains(&registry),
            mirror: false,
        };
        if let Some(rule) = rule {
            if rule.blocked {
                return Err(Error::new(
                    Kind::Denied,
                    format!("use the registry {}: registries.conf blocks it", rule.prefix()),
                ));
            }
            let by_digest = full.digest.is_some();
            for mirror in &rule.mirror {
                let wanted = match mirror.pull_from_mirror.as_deref() {
                    Some("digest-only") => by_digest,
                    Some("tag-only") => !by_digest,
                    _ => by_digest || !rule.mirror_by_digest_only,
                };
                if wanted {
                    out.push(rule.at(&mirror.location, &name, mirror.insecure, true)?);
                }
            }
            let location = rule.location.as_deref().unwrap_or_else(|| rule.prefix());
            if !location.is_empty() && !location.starts_with("*.") {
                own = rule.at(location, &name, rule.insecure || own.insecure, false)?;
            }
        }
        if registry == DEFAULT && rule.is_none_or(|r| r.mirror.is_empty()) {
            for mirror in &self.docker_mirrors {
                let insecure = mirror.starts_with("http://");
                let host = without_scheme(mirror).trim_end_matches('/').to_owned();
                let insecure = insecure || is_loopback(&host) || self.insecure.contains(&host);
                out.push(Endpoint { host, path: full.path.clone(), insecure, mirror: true });
            }
        }
        out.push(own);
        for endpoint in &mut out {
            if endpoint.host == DEFAULT {
                endpoint.host = DEFAULT_API.to_owned();
            }
        }
        Ok(out)
    }
}

impl Rule {
    fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }

    /// Is a name behind the prefix, whole components of it?
    fn covers(&self, name: &str) -> bool {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix("*.") {
            let host = name.split('/').next().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            return host.strip_suffix(domain).is_some_and(|h| h.ends_with('.'));
        }
        !prefix.is_empty()
            && name.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with(['/', ':', '@']))
    }

    /// A name behind the prefix, at another location.
    fn at(&self, location: &str, name: &str, insecure: bool, mirror: bool) -> Result<Endpoint> {
        let rest = match self.prefix().starts_with("*.") {
            true => name.split_once('/').map_or("", |(_, rest)| rest),
            false => name.strip_prefix(self.prefix()).unwrap_or_default().trim_start_matches('/'),
        };
        let whole = format!("{}/{rest}", location.trim_end_matches('/'));
        let (host, path) = whole.split_once('/').unwrap_or((&whole, ""));
        let reference: Reference = format!("{host}/{path}")
            .parse()
            .map_err(|e: Error| e.wrap(format!("read the location {location:?} of registries.conf")))?;
        let insecure = insecure || is_loopback(host);
        Ok(Endpoint { host: host.to_owned(), path: reference.path, insecure, mirror })
    }
}

/// Is it this machine? Docker tries plain HTTP there.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The configuration files, the strongest last.
fn files() -> Vec<PathBuf> {
    if let Some(one) = dirs::named_by("CONTAINERS_REGISTRIES_CONF") {
        return vec![one];
    }
    let mut out = Vec::new();
    for dir in [Some(PathBuf::from("/etc")), dirs::config()].into_iter().flatten() {
        out.push(dir.join("containers/registries.conf"));
        let mut parts: Vec<PathBuf> = std::fs::read_dir(dir.join("containers/registries.conf.d"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "conf"))
            .collect();
        order::sort(&mut parts);
        out.extend(parts);
        out.push(dir.join("coracle/config.toml"));
    }
    out
}

/// A file that need not be there.
fn text_of(path: &Path) -> Result<Option<String>> {
    match file::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|e| Error::invalid(e.to_string())),
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)) => Ok(None),
        Err(e) => Err(e),
    }
    .context(|| format!("read {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Endpoints {
        Endpoints { rules: toml_text::read::<Conf>(text).unwrap().registry, ..Endpoints::default() }
    }

    fn places(endpoints: &Endpoints, name: &str) -> Vec<String> {
        let of = endpoints.of(&name.parse().unwrap()).unwrap();
        of.iter().map(|e| format!("{}{}/{}", if e.insecure { "!" } else { "" }, e.host, e.path)).collect()
    }

    #[test]
    fn without_configuration_a_name_is_where_docker_looks_for_it() {
        let none = Endpoints::default();
        assert_eq!(places(&none, "debian"), ["registry-1.docker.io/library/debian"]);
        assert_eq!(places(&none, "localhost:5000/x"), ["!localhost:5000/x"]);
        assert_eq!(places(&none, "127.9.0.1:5/x"), ["!127.9.0.1:5/x"]);
        assert_eq!(places(&none, "[::1]:5/x"), ["![::1]:5/x"]);
        assert_eq!(places(&none, "quay.io/a/b:c"), ["quay.io/a/b"]);
    }

    #[test]
    fn mirrors_locations_and_prefixes_of_registries_conf_hold() {
        let c = conf(
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example:5000/hub"
            insecure = true
            [[registry]]
            prefix = "docker.io/team"
            location = "team.example/t"
            [[registry]]
            prefix = "*.blocked.example"
            blocked = true
            [[registry]]
            location = "plain.example:5000"
            insecure = true
            [[registry]]
            location = "pinned.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "near.example"
            "#,
        );
        assert_eq!(
            places(&c, "debian"),
            ["!mirror.example:5000/hub/library/debian", "registry-1.docker.io/library/debian"]
        );
        assert_eq!(places(&c, "team/x"), ["team.example/t/x"]);
        assert_eq!(places(&c, "plain.example:5000/x"), ["!plain.example:5000/x"]);
        assert_eq!(places(&c, "pinned.example/x:1"), ["pinned.example/x"]);
        let digest = coracle_store::Digest::of(b"x");
        assert_eq!(places(&c, &format!("pinned.example/x@{digest}")), ["near.example/x", "pinned.example/x"]);
        assert!(c.of(&"a.blocked.example/x".parse().unwrap()).is_err());
        assert_eq!(places(&c, "notblocked.example/x"), ["notblocked.example/x"]);
    }
}
