//! Networks as they are on disk: those that were made by name, in the store; and which subnets a new one gets.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coracle_store::{Digest, Store};
use coracle_sys::json::{self, Value};
use coracle_sys::{Context, Error, Kind, Result, file, read_json};

use super::address::{Ip, Subnet, object};

/// The format written by this version. A newer one is refused.
const VERSION: u32 = 1;

/// The name of the one that is always there.
pub(crate) const DEFAULT: &str = "bridge";

/// A subnet of a network, its gateway, and which part of it is handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) subnet: Subnet,
    pub(crate) gateway: Ip,
    pub(crate) range: Subnet,
}

read_json!(Pool { subnet: must "subnet", gateway: must "gateway", range: must "range" });

impl Pool {
    /// The whole subnet, its first address the gateway's.
    pub(crate) fn of(subnet: Subnet) -> Self {
        Self { subnet, gateway: subnet.at(1).unwrap_or_default(), range: subnet }
    }
}

/// A network: one bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Network {
    version: u32,
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Of IPv4, and of IPv6 if it has some.
    pub(crate) pools: Vec<Pool>,
    /// Nothing goes out, and there is no way to the outside.
    pub(crate) internal: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
}

read_json!(Network {
    version: must "version",
    id: must "id",
    name: must "name",
    created: must "created",
    pools: must "pools",
    internal: may "internal",
    mtu: may "mtu",
    labels: may "labels",
});

impl Network {
    pub(crate) fn new(id: String, name: &str, created: u64, pools: Vec<Pool>) -> Self {
        Self { version: VERSION, id, name: name.to_owned(), created, pools, ..Self::default() }
    }

    /// The default one, with the first subnets that are free.
    pub(crate) fn default_with(taken: &[Subnet], v6: bool) -> Result<Self> {
        let mut pools = vec![Pool::of(free_v4(taken, 16)?)];
        if v6 {
            pools.push(Pool::of(free_v6(taken, DEFAULT)?));
        }
        Ok(Self::new(default_id(), DEFAULT, 0, pools))
    }

    /// What its files of running containers are under, and what tells its bridge and table from others'.
    pub(crate) fn key(&self) -> &str {
        if self.name == DEFAULT { DEFAULT } else { self.id.get(..12).unwrap_or_default() }
    }

    pub(crate) fn bridge(&self) -> String {
        bridge_of(self.key())
    }

    pub(crate) fn table(&self) -> String {
        table_of(self.key())
    }

    pub(crate) fn json(&self) -> Value {
        let pool = |p: &Pool| object(&[("subnet", &p.subnet), ("gateway", &p.gateway), ("range", &p.range)]);
        object(&[
            ("version", &u64::from(VERSION)),
            ("id", &self.id),
            ("name", &self.name),
            ("created", &self.created),
            ("pools", &Value::Array(self.pools.iter().map(pool).collect())),
            ("internal", &self.internal),
            ("mtu", &self.mtu.map_or(Value::Null, Value::from)),
            ("labels", &self.labels),
        ])
    }

    /// Read one that was written, and see that it is one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let wrong = |e: Error| e.wrap(format!("read {}", path.display()));
        Self::parse(&file::read_plain(path)?).map_err(wrong)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let network: Self = json::from_slice(bytes)?;
        let invalid = |what: &'static str| Err(Error::invalid(what));
        if network.version != VERSION {
            return invalid("another version wrote it");
        }
        let hex = network.id.len() == 64 && network.id.bytes().all(|b| b.is_ascii_hexdigit());
        let sound = |p: &Pool| p.subnet.contains(p.gateway) && p.subnet.contains(p.range.base);
        if !hex || !(1..=2).contains(&network.pools.len()) || !network.pools.iter().all(sound) {
            return invalid("it is no network");
        }
        Ok(network)
    }
}

pub(crate) fn bridge_of(key: &str) -> String {
    if key == DEFAULT { "coracle0".to_owned() } else { format!("br-{key}") }
}

pub(crate) fn table_of(key: &str) -> String {
    format!("coracle-{key}")
}

pub(crate) fn default_id() -> String {
    Digest::of(b"coracle network bridge").hex()
}

/// Networks without an owner's choice are of 10.83.0.0 to 10.95.255.255: neither docker's nor podman's first choices,
/// nor those of the usual clusters. The default one has the first 16 bits for itself.
pub(crate) fn free_v4(taken: &[Subnet], prefix: u8) -> Result<Subnet> {
    let first: u32 = 10 << 24 | (if prefix > 16 { 84 } else { 83 }) << 16;
    let last: u32 = 10 << 24 | 96 << 16;
    let all = (first..last).step_by(1 << (32 - prefix));
    let mut all = all.map(|base| Subnet { base: Ip(std::net::Ipv4Addr::from(base).into()), prefix });
    let free = all.find(|subnet| !taken.iter().any(|t| t.overlaps(*subnet)));
    free.ok_or_else(|| {
        Error::new(Kind::Busy, "all subnets from 10.83.0.0 to 10.95.255.255 are in use: say --subnet")
    })
}

/// One of this machine alone: made of what names it, and of the network's name.
pub(crate) fn free_v6(taken: &[Subnet], name: &str) -> Result<Subnet> {
    let machine = file::read(Path::new("/etc/machine-id")).unwrap_or_default();
    for n in 0..64u8 {
        let seed = Digest::of(&[&machine[..], name.as_bytes(), &[n]].concat()).hex();
        let part = |at: usize| seed.get(at..at + 4).unwrap_or("0");
        let text = format!("fd{}:{}:{}:{}::/64", &seed[..2], part(2), part(6), part(10));
        let subnet = Subnet::parse(&text)?;
        if !taken.iter().any(|t| t.overlaps(subnet)) {
            return Ok(subnet);
        }
    }
    Err(Error::new(Kind::Busy, "no subnet of IPv6 is free: say --subnet"))
}

/// The networks that were made by name.
pub(crate) struct Networks(PathBuf);

impl Networks {
    pub(crate) fn of(store: &Store) -> Self {
        Self(store.main().root().join("networks"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// By its name, or the beginning of its id.
    pub(crate) fn find(&self, typed: &str) -> Result<Network> {
        let none = || Error::not_found(format!("network {typed} not found"));
        coracle_store::container::check_name("network", typed)?;
        match Network::read(&self.path(typed)) {
            Err(e) if e.kind() == Kind::NotFound => {}
            other => return other,
        }
        let mut all = self.all()?;
        all.retain(|n| n.id.starts_with(typed));
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(none()),
            (Some(_), false) => Err(Error::usage(format!("network {typed}: more than one id begins so"))),
        }
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Result<Vec<Network>> {
        let mut names = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other
                .context(|| format!("opendir({:?})", self.0))?
                .filter_map(|e| e.ok()?.file_name().into_string().ok())
                .filter(|name| name.ends_with(".json") && !name.starts_with('.'))
                .collect::<Vec<_>>(),
        };
        coracle_sys::order::sort(&mut names);
        names.iter().map(|name| Network::read(&self.0.join(name))).collect()
    }

    /// Keep a new one.
    pub(crate) fn add(&self, network: &Network) -> Result<()> {
        let path = self.path(&network.name);
        if network.name == DEFAULT || path.exists() {
            return Err(Error::new(
                Kind::Exists,
                format!("network with name {} already exists", network.name),
            ));
        }
        fs::create_dir_all(&self.0).context(|| format!("mkdir({:?})", self.0))?;
        file::write_atomic(&path, network.json().to_string().as_bytes(), 0o600)
    }

    pub(crate) fn remove(&self, network: &Network) -> Result<()> {
        let path = self.path(&network.name);
        fs::remove_file(&path).context(|| format!("unlink({path:?})"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_subnet_is_chosen_beside_all_routes() {
        let net = |text: &str| Subnet::parse(text).unwrap();
        assert_eq!(free_v4(&[], 16).unwrap().to_string(), "10.83.0.0/16");
        let taken = [net("10.83.7.0/24"), net("10.84.0.0/15")];
        assert_eq!(free_v4(&taken, 16).unwrap().to_string(), "10.86.0.0/16");
        assert_eq!(free_v4(&taken, 24).unwrap().to_string(), "10.86.0.0/24");
        assert!(free_v4(&[net("10.0.0.0/8")], 24).is_err());
        let six = free_v6(&[], "x").unwrap();
        assert!(six.to_string().starts_with("fd") && six.prefix == 64);
        assert_ne!(free_v6(&[six], "x").unwrap(), six);
    }

    #[test]
    fn a_network_is_read_as_it_was_written_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("coracle-networks-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.json");
        let mut network = Network::default_with(&[], true).unwrap();
        network.mtu = Some(1400);
        network.labels.insert("a".into(), "b".into());
        fs::write(&path, network.json().to_string()).unwrap();
        assert_eq!(Network::read(&path).unwrap(), network);
        let good = network.json();
        for (member, value) in [
            ("version", json!(2)),
            ("id", json!("../../x")),
            ("pools", json!([])),
            ("pools", json!([{"subnet": "10.0.0.0/8", "gateway": "11.0.0.1", "range": "10.0.0.0/8"}])),
            ("pools", json!("x")),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            fs::write(&path, bad.to_string()).unwrap();
            assert!(Network::read(&path).is_err(), "{member}");
        }
        for text in ["", "{", "[]", "\u{0}"] {
            fs::write(&path, text).unwrap();
            assert!(Network::read(&path).is_err(), "{text:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
