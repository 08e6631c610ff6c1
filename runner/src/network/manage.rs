//! Networks with names: how they are made, shown and taken away, and what joins a running container to one.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use coracle_store::Store;
use coracle_sys::json::{self, Value};
use coracle_sys::{Context, Error, Kind, Result, time};

use super::address::{Ip, Subnet, object};
use super::attach::Who;
use super::config::{DEFAULT, Network, Networks, Pool, default_id, free_v4, free_v6};
use super::lease::Home;
use super::netlink::Socket;
use super::{Plan, Way, is_host_name};
use super::{leave, link};

/// What `network create` was told.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) subnets: Vec<String>,
    pub(crate) gateways: Vec<String>,
    pub(crate) ranges: Vec<String>,
    pub(crate) internal: bool,
    pub(crate) ipv6: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A network as it is listed: one of ours, or one of the words that need no bridge.
#[derive(Clone)]
pub(crate) enum Known {
    Ours(Box<Network>),
    Word(&'static str),
}

/// What is known of networks.
pub(crate) struct Manager {
    networks: Networks,
    home: Home,
}

impl Manager {
    pub(crate) fn of(store: &Store) -> Result<Self> {
        Ok(Self { networks: Networks::of(store), home: Home::of_this_user()? })
    }

    /// The default one: as it is up, else as it would be now.
    fn default(&self) -> Result<Network> {
        match self.home.network(DEFAULT)? {
            Some(up) => Ok(up),
            None => Network::default_with(&link::routes(&Socket::route()?)?, true),
        }
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Result<Vec<Known>> {
        let mut all = vec![Known::Ours(Box::new(self.default()?))];
        all.extend(self.networks.all()?.into_iter().map(|n| Known::Ours(Box::new(n))));
        all.extend([Known::Word("host"), Known::Word("none")]);
        coracle_sys::order::sort_by(&mut all, |a, b| a.name().cmp(b.name()));
        Ok(all)
    }

    /// By its name, or the beginning of its id.
    pub(crate) fn find(&self, typed: &str) -> Result<Known> {
        match typed {
            "host" => Ok(Known::Word("host")),
            "none" => Ok(Known::Word("none")),
            DEFAULT => self.default().map(|n| Known::Ours(Box::new(n))),
            id if id.len() >= 12 && default_id().starts_with(id) => {
                self.default().map(|n| Known::Ours(Box::new(n)))
            }
            other => self.networks.find(other).map(|n| Known::Ours(Box::new(n))),
        }
    }

    /// One that has a bridge.
    fn ours(&self, typed: &str) -> Result<Network> {
        match self.find(typed)? {
            Known::Ours(network) => Ok(*network),
            Known::Word(word) => Err(Error::usage(format!(
                "the network {word} has no bridge: it is chosen at the start alone"
            ))),
        }
    }

    /// Make one. Nothing of the kernel's is touched before its first container comes.
    pub(crate) fn create(&self, name: &str, id: String, asked: &Asked) -> Result<String> {
        if matches!(name, "default" | "pasta" | "slirp4netns" | "own" | "private" | "none" | "host") {
            return Err(Error::usage(format!("the network's name {name:?} is a word of --network")));
        }
        coracle_store::container::check_name("network", name)?;
        let mut taken = link::routes(&Socket::route()?)?;
        let known = self.networks.all()?;
        taken.extend(known.iter().flat_map(|n| n.pools.iter().map(|p| p.subnet)));
        for key in self.home.keys()? {
            taken.extend(self.home.network(&key)?.iter().flat_map(|n| n.pools.iter().map(|p| p.subnet)));
        }
        let mut network = Network::new(id, name, time::now() as u64, pools(name, asked, &taken)?);
        network.internal = asked.internal;
        network.mtu = asked.mtu;
        network.labels.clone_from(&asked.labels);
        self.networks.add(&network)?;
        Ok(network.id)
    }

    /// Remove one that nobody is on.
    pub(crate) fn remove(&self, typed: &str) -> Result<()> {
        let network = match self.find(typed)? {
            Known::Ours(network) if network.name != DEFAULT => network,
            known => {
                let name = known.name();
                return Err(Error::usage(format!("{name} is a pre-defined network and cannot be removed")));
            }
        };
        let held = self.home.lock(false)?;
        if held.is_some() && self.is_used(&network)? {
            return Err(Error::new(
                Kind::Busy,
                format!(
                    "error while removing network: network {} id {} has active endpoints",
                    network.name, network.id
                ),
            ));
        }
        self.networks.remove(&network)
    }

    fn is_used(&self, network: &Network) -> Result<bool> {
        Ok(self.home.ids(network.key())?.iter().any(|id| !self.home.is_over(id)))
    }

    /// Those that were made and that nobody is on.
    pub(crate) fn unused(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for network in self.networks.all()? {
            if !self.is_used(&network)? {
                names.push(network.name);
            }
        }
        Ok(names)
    }

    /// As docker shows it.
    pub(crate) fn inspect(&self, known: &Known) -> Result<Value> {
        let none = || Value::Object(json::Map::new());
        let Known::Ours(network) = known else {
            return Ok(object(&[
                ("Name", &known.name()),
                ("Id", &known.id()),
                ("Scope", &"local"),
                ("Driver", &known.driver()),
                ("Internal", &false),
                ("Containers", &none()),
                ("Options", &none()),
                ("Labels", &none()),
            ]));
        };
        let mut containers = json::Map::new();
        for one in self.home.all(network.key())? {
            let address = |v6| one.ip(v6).map_or(String::new(), |a| format!("{}/{}", a.ip, a.prefix));
            let shown = object(&[
                ("Name", &one.name),
                ("MacAddress", &one.mac),
                ("IPv4Address", &address(false)),
                ("IPv6Address", &address(true)),
            ]);
            containers.insert(one.id, shown);
        }
        let pool = |p: &Pool| {
            let mut pool = object(&[("Subnet", &p.subnet), ("Gateway", &p.gateway)]);
            if p.range != p.subnet {
                pool["IPRange"] = p.range.to_string().into();
            }
            pool
        };
        let mut options = object(&[("com.docker.network.bridge.name", &network.bridge())]);
        if let Some(mtu) = network.mtu {
            options["com.docker.network.driver.mtu"] = mtu.to_string().into();
        }
        let pools = Value::Array(network.pools.iter().map(pool).collect());
        Ok(object(&[
            ("Name", &network.name),
            ("Id", &network.id),
            ("Created", &time::rfc3339(network.created as i64)),
            ("Scope", &"local"),
            ("Driver", &"bridge"),
            ("EnableIPv4", &true),
            ("EnableIPv6", &known.has_v6()),
            ("Internal", &network.internal),
            ("Attachable", &false),
            ("Ingress", &false),
            ("IPAM", &object(&[("Driver", &"default"), ("Options", &none()), ("Config", &pools)])),
            ("Containers", &Value::Object(containers)),
            ("Options", &options),
            ("Labels", &network.labels),
        ]))
    }

    /// Join a container that runs to one more network.
    pub(crate) fn connect(
        &self,
        typed: &str,
        who: (&str, &str, &Path, i32),
        hostname: &str,
        ips: &[String],
        aliases: &[String],
    ) -> Result<()> {
        let network = self.ours(typed)?;
        let (id, name, dir, pid) = who;
        if !dir.join("hosts").exists() {
            return Err(Error::unsupported(format!(
                "the container {name} was started without a network of its own: its names cannot be kept"
            )));
        }
        if let Some(alias) = aliases.iter().find(|a| !is_host_name(a)) {
            return Err(Error::usage(format!("--alias {alias:?}: it is no host name")));
        }
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).context(|| format!("open({path:?})"))?;
        let plan = Plan {
            way: Way::Bridge((network.name != DEFAULT).then(|| Box::new(network))),
            own: true,
            by_default: false,
            ports: Vec::new(),
            ips: ips.iter().map(|ip| Ip::parse(ip)).collect::<Result<_>>()?,
            mac: None,
            hostname: Some(hostname.to_owned()),
            aliases: aliases.to_vec(),
            hosts: Vec::new(),
            servers: Vec::new(),
            search: Vec::new(),
            options: Vec::new(),
            shared: None,
        };
        plan.attach(&Who { id, name, dir, namespace: namespace.as_fd() }).map(drop)
    }

    /// Take a container that runs off a network.
    pub(crate) fn disconnect(&self, typed: &str, id: &str) -> Result<()> {
        leave::disconnect(&self.ours(typed)?, id)
    }
}

impl Known {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ours(network) => &network.name,
            Self::Word(word) => word,
        }
    }

    pub(crate) fn id(&self) -> String {
        match self {
            Self::Ours(network) => network.id.clone(),
            Self::Word(word) => coracle_store::Digest::of(format!("coracle network {word}").as_bytes()).hex(),
        }
    }

    pub(crate) fn driver(&self) -> &'static str {
        match self {
            Self::Ours(_) => "bridge",
            Self::Word("none") => "null",
            Self::Word(word) => word,
        }
    }

    fn has_v6(&self) -> bool {
        matches!(self, Self::Ours(network) if network.pools.iter().any(|p| p.subnet.base.is_v6()))
    }

    /// Whether somebody made it.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Ours(network) if network.name != DEFAULT)
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        match self {
            Self::Ours(network) => network.labels.clone(),
            Self::Word(_) => BTreeMap::new(),
        }
    }

    /// A line of the list.
    pub(crate) fn line(&self, whole: bool) -> Value {
        let (id, labels) = (self.id(), self.labels());
        let (created, internal) = match self {
            Self::Ours(network) => (network.created, network.internal),
            Self::Word(_) => (0, false),
        };
        let labels =
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
        object(&[
            ("ID", &if whole { id.as_str() } else { &id[..12] }),
            ("Name", &self.name()),
            ("Driver", &self.driver()),
            ("Scope", &"local"),
            ("IPv6", &self.has_v6().to_string()),
            ("Internal", &internal.to_string()),
            ("Labels", &labels),
            ("CreatedAt", &time::rfc3339(created as i64)),
        ])
    }
}

/// The subnets of a new network: those that were named, else the first that are free.
fn pools(name: &str, asked: &Asked, taken: &[Subnet]) -> Result<Vec<Pool>> {
    let read = |texts: &[String], flag: &str| {
        texts.iter().map(|t| Subnet::parse(t).context(|| flag.to_owned())).collect::<Result<Vec<_>>>()
    };
    let mut subnets = read(&asked.subnets, "--subnet")?;
    for subnet in &subnets {
        if subnet.last() == subnet.at(0) || subnet.at(2).is_none() {
            return Err(Error::usage(format!("--subnet {subnet}: it has no room for a container")));
        }
        if let Some(other) = taken.iter().find(|t| t.overlaps(*subnet)) {
            return Err(Error::new(
                Kind::Busy,
                format!("Pool overlaps with other one on this address space: {subnet} and {other}"),
            ));
        }
    }
    let count = |v6: bool| subnets.iter().filter(|s| s.base.is_v6() == v6).count();
    if count(false) > 1 || count(true) > 1 {
        return Err(Error::usage("--subnet: a network has one of IPv4 and one of IPv6"));
    }
    let (none4, none6) = (count(false) == 0, count(true) == 0);
    if none4 {
        subnets.push(free_v4(taken, 24)?);
    }
    if asked.ipv6 && none6 {
        subnets.push(free_v6(taken, name)?);
    }
    coracle_sys::order::sort_by(&mut subnets, |a, b| a.base.is_v6().cmp(&b.base.is_v6()));
    let mut pools: Vec<Pool> = subnets.into_iter().map(Pool::of).collect();
    for gateway in &asked.gateways {
        let ip = Ip::parse(gateway).context(|| "--gateway")?;
        let pool = pools.iter_mut().find(|p| p.subnet.can_be_had(ip));
        let none = || Error::usage(format!("no matching subnet for gateway {gateway}"));
        pool.ok_or_else(none)?.gateway = ip;
    }
    for range in read(&asked.ranges, "--ip-range")? {
        let pool =
            pools.iter_mut().find(|p| p.subnet.contains(range.base) && range.prefix >= p.subnet.prefix);
        let none = || Error::usage(format!("no matching subnet for range {range}"));
        pool.ok_or_else(none)?.range = range;
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(subnets: &[&str], gateways: &[&str], ranges: &[&str], ipv6: bool) -> Result<Vec<String>> {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        let asked = Asked {
            subnets: list(subnets),
            gateways: list(gateways),
            ranges: list(ranges),
            ipv6,
            ..Asked::default()
        };
        let taken = [Subnet::parse("10.83.0.0/16").unwrap()];
        let shown = |p: &Pool| format!("{} {} {}", p.subnet, p.gateway, p.range);
        pools("x", &asked, &taken).map(|all| all.iter().map(shown).collect())
    }

    #[test]
    fn a_network_has_a_subnet_of_each_family_that_is_asked_for() {
        assert_eq!(made(&[], &[], &[], false).unwrap(), ["10.84.0.0/24 10.84.0.1 10.84.0.0/24"]);
        let two = made(&["fd01::/64", "10.9.0.0/16"], &["10.9.9.9"], &["10.9.8.0/24"], true).unwrap();
        assert_eq!(two, ["10.9.0.0/16 10.9.9.9 10.9.8.0/24", "fd01::/64 fd01::1 fd01::/64"]);
        assert_eq!(made(&[], &[], &[], true).unwrap().len(), 2);
        for (subnets, gateways, ranges) in [
            (&["10.83.1.0/24"][..], &[][..], &[][..]),
            (&["10.0.0.0/8"], &[], &[]),
            (&["10.9.0.0/31"], &[], &[]),
            (&["10.9.0.0/24", "10.10.0.0/24"], &[], &[]),
            (&["10.9.0.0/24"], &["10.8.0.1"], &[]),
            (&["10.9.0.0/24"], &["10.9.0.0"], &[]),
            (&["10.9.0.0/24"], &[], &["10.9.0.0/16"]),
            (&["x"], &[], &[]),
        ] {
            assert!(made(subnets, gateways, ranges, false).is_err(), "{subnets:?} {gateways:?} {ranges:?}");
        }
    }
}
