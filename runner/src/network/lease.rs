//! What running containers have of networks, on disk for as long as they run: below /run/coracle/net/ a folder for each
//! network that is up, in it the network itself and a file for each container. Everything is read and changed under one
//! lock, which is held for no longer than that. A file of a container that is gone is anybody's to take away.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_store::lock::Lock;
use coracle_sys::json::{self, Value};
use coracle_sys::{Context, Error, Kind, Result, file, read_json};

use super::address::{Ip, object};
use super::config::Network;
use super::ports::Port;
use crate::state::{Face, States, check_id};

/// An address of a container, and the way out by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: Ip,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ip,
}

read_json!(Address { ip: must "ip", prefix: must "prefix", gateway: must "gateway" });

/// What one container has of one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attachment {
    /// The container's id.
    pub(crate) id: String,
    /// Its name, and its host name as /etc/hosts has it: `db.example.org db`.
    pub(crate) name: String,
    pub(crate) hostname: String,
    /// The network's name.
    pub(crate) network: String,
    /// Other names on it.
    pub(crate) aliases: Vec<String>,
    /// The device on the host, and inside.
    pub(crate) device: String,
    pub(crate) inside: String,
    pub(crate) mac: String,
    pub(crate) addresses: Vec<Address>,
    pub(crate) ports: Vec<Port>,
    /// Its /etc/hosts on the host.
    pub(crate) hosts: PathBuf,
}

read_json!(Attachment {
    id: must "id",
    name: must "name",
    hostname: must "hostname",
    network: must "network",
    aliases: may "aliases",
    device: must "device",
    inside: must "inside",
    mac: must "mac",
    addresses: must "addresses",
    ports: may "ports",
    hosts: may "hosts",
});

impl Attachment {
    pub(crate) fn json(&self) -> Value {
        let address =
            |a: &Address| object(&[("ip", &a.ip), ("prefix", &u64::from(a.prefix)), ("gateway", &a.gateway)]);
        object(&[
            ("id", &self.id),
            ("name", &self.name),
            ("hostname", &self.hostname),
            ("network", &self.network),
            ("aliases", &self.aliases),
            ("device", &self.device),
            ("inside", &self.inside),
            ("mac", &self.mac),
            ("addresses", &Value::Array(self.addresses.iter().map(address).collect())),
            ("ports", &Value::Array(self.ports.iter().map(Port::json).collect())),
            ("hosts", &self.hosts.to_string_lossy().into_owned()),
        ])
    }

    /// Its address of a family.
    pub(crate) fn ip(&self, v6: bool) -> Option<Address> {
        self.addresses.iter().copied().find(|a| a.ip.is_v6() == v6)
    }
}

const NETWORK: &str = "network";

/// The folder of it all.
pub(crate) struct Home {
    dir: PathBuf,
    states: States,
}

impl Home {
    pub(crate) fn of_this_user() -> Result<Self> {
        let states = States::of(Face::Image, None)?;
        let dir = states.dir().parent().unwrap_or(Path::new("/")).join("net");
        Ok(Self { dir, states })
    }

    /// Hold everything. Nothing where there is nothing yet, unless it is to be made.
    pub(crate) fn lock(&self, make: bool) -> Result<Option<Lock>> {
        let path = self.dir.join("lock");
        if !make && !path.exists() {
            return Ok(None);
        }
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.dir);
        made.context(|| format!("mkdir({:?}, 0700)", self.dir))?;
        Lock::exclusive(&path).map(Some)
    }

    fn network_dir(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    /// What tells networks that are up from each other.
    pub(crate) fn keys(&self) -> Result<Vec<String>> {
        let all = names(&self.dir)?;
        Ok(all.into_iter().filter(|n| !n.starts_with('.') && self.network_dir(n).is_dir()).collect())
    }

    /// A network that is up.
    pub(crate) fn network(&self, key: &str) -> Result<Option<Network>> {
        match Network::read(&self.network_dir(key).join(NETWORK)) {
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Ok(network) if network.key() != key => {
                Err(Error::invalid(format!("read {:?}: it is that of another", self.network_dir(key))))
            }
            other => other.map(Some),
        }
    }

    pub(crate) fn keep_network(&self, network: &Network) -> Result<()> {
        let dir = self.network_dir(network.key());
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir);
        made.context(|| format!("mkdir({dir:?}, 0700)"))?;
        replace(&dir.join(NETWORK), &network.json())
    }

    /// Forget a network that has no container any more.
    pub(crate) fn forget_network(&self, key: &str) -> Result<()> {
        file::remove_tree(&self.network_dir(key))
    }

    fn path(&self, key: &str, id: &str) -> PathBuf {
        self.network_dir(key).join(format!("{id}.json"))
    }

    /// The ids of containers that have something of a network.
    pub(crate) fn ids(&self, key: &str) -> Result<Vec<String>> {
        let all = names(&self.network_dir(key))?.into_iter();
        let ids = all.filter_map(|n| n.strip_suffix(".json").map(str::to_owned));
        Ok(ids.filter(|id| check_id(id).is_ok()).collect())
    }

    /// What a container has of a network.
    pub(crate) fn read(&self, key: &str, id: &str) -> Result<Option<Attachment>> {
        let path = self.path(key, id);
        let text = match file::read_plain(&path) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        let wrong = |e: Error| e.wrap(format!("read {} (removing it frees what it has)", path.display()));
        let read: Attachment = json::from_slice(&text).map_err(wrong)?;
        match read.id == id {
            true => Ok(Some(read)),
            false => Err(wrong(Error::invalid(format!("it is that of {:?}", read.id)))),
        }
    }

    /// What all containers have of a network.
    pub(crate) fn all(&self, key: &str) -> Result<Vec<Attachment>> {
        let mut all = Vec::new();
        for id in self.ids(key)? {
            all.extend(self.read(key, &id)?);
        }
        Ok(all)
    }

    pub(crate) fn keep(&self, key: &str, attachment: &Attachment) -> Result<()> {
        replace(&self.path(key, &attachment.id), &attachment.json())
    }

    /// Forget what a container had. It need not have had anything.
    pub(crate) fn forget(&self, key: &str, id: &str) -> Result<()> {
        let path = self.path(key, id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.context(|| format!("unlink({path:?})")),
        }
    }

    /// Whether the container does not run, and nobody is about to start it.
    pub(crate) fn is_over(&self, id: &str) -> bool {
        if !self.states.is_taken(id) {
            return true;
        }
        match self.states.hold(id) {
            Ok(Some(_held)) => match self.states.read(id) {
                Ok(state) => !state.init.is_alive() && state.runner.is_none_or(|r| !r.is_alive()),
                Err(e) => e.kind() == Kind::NotFound || e.kind() == Kind::Invalid,
            },
            Ok(None) => false,
            Err(e) => e.kind() == Kind::NotFound,
        }
    }
}

/// What a container has of networks, for whoever shows it. Nothing where it has nothing.
pub(crate) fn of_container(id: &str) -> Result<Vec<Attachment>> {
    let home = Home::of_this_user()?;
    let mut all = Vec::new();
    for key in home.keys()? {
        all.extend(home.read(&key, id)?);
    }
    Ok(all)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut all = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other
            .context(|| format!("opendir({dir:?})"))?
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect::<Vec<_>>(),
    };
    coracle_sys::order::sort(&mut all);
    Ok(all)
}

/// Readers see the old one or the new one, whole. It does not outlive a power cut, and need not.
fn replace(path: &Path, value: &Value) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, value.to_string()).context(|| format!("write({new:?})"))?;
    fs::rename(&new, path).context(|| format!("rename({new:?}, {path:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_has_is_read_as_it_was_written_and_a_broken_file_is_named() {
        let dir = std::env::temp_dir().join(format!("coracle-leases-{}", std::process::id()));
        let home =
            Home { dir: dir.clone(), states: States::of(Face::Image, Some(&dir.join("image"))).unwrap() };
        let network = Network::default_with(&[], false).unwrap();
        let _held = home.lock(true).unwrap();
        home.keep_network(&network).unwrap();
        let ip = |text: &str| Ip::parse(text).unwrap();
        let one = Attachment {
            id: "a".repeat(64),
            name: "web".into(),
            network: "bridge".into(),
            addresses: vec![Address { ip: ip("10.83.0.2"), prefix: 16, gateway: ip("10.83.0.1") }],
            ports: vec![Port { host_ip: ip("::"), host: 80, inside: 8080, ..Port::default() }],
            ..Attachment::default()
        };
        home.keep("bridge", &one).unwrap();
        assert_eq!(home.all("bridge").unwrap(), std::slice::from_ref(&one));
        assert_eq!((home.network("bridge").unwrap(), home.keys().unwrap().len()), (Some(network), 1));
        assert!(home.is_over(&one.id));
        let path = home.path("bridge", &one.id);
        for text in ["", "{", "{}", "null", "[1]", r#"{"id":7}"#, "\u{0}\u{1}"] {
            fs::write(&path, text).unwrap();
            let e = home.all("bridge").unwrap_err().to_string();
            assert!(e.contains(&one.id), "{text:?}: {e}");
        }
        fs::write(&path, Attachment { id: "b".into(), ..one.clone() }.json().to_string()).unwrap();
        assert!(home.all("bridge").unwrap_err().to_string().contains("that of"));
        // Not waited for, and not followed into a device.
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(home.all("bridge").is_err());
        home.forget("bridge", &one.id).unwrap();
        home.forget("bridge", &one.id).unwrap();
        home.forget_network("bridge").unwrap();
        assert!(home.keys().unwrap().is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }
}
