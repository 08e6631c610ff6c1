//! Joining a container to its network: the effects of a [`super::Plan`]. It is done under the one lock, in an order in which
//! being killed anywhere leaves what a sweep knows: the files first, then the kernel's things. On the way back it is the other
//! way round: see [`super::leave`].

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;

use super::address::Ip;
use super::bridge::{get, mac_of, up};
use super::config::{DEFAULT, Network, Pool};
use super::lease::{Address, Attachment, Home};
use super::leave::{block, detach_from, living, tell, world};
use super::link::{self, Pair};
use super::netlink::Socket;
use super::ports::{self, Claimed, Port};
use super::{Plan, Way, asked_of, names, parse_mac, tracked};

/// A container that has its network. What is in here has to live as long as the container.
#[derive(Default)]
pub(crate) struct Attached {
    /// Its published ports, which nobody else of the host takes meanwhile.
    _sockets: Vec<OwnedFd>,
    /// Who carries an ordinary user's packets.
    _program: Option<super::rootless::Running>,
}

/// The container that is to be joined.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// Its directory in the store.
    pub(crate) dir: &'a Path,
    /// Its network namespace.
    pub(crate) namespace: BorrowedFd<'a>,
}

impl Plan {
    /// What has to be there before the container's process is.
    pub(crate) fn prepare(&self, dir: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        if !matches!(self.way, Way::Bridge(_)) {
            return Ok(());
        }
        let hosts = dir.join("hosts");
        fs::write(&hosts, "").context(|| format!("write({hosts:?})"))?;
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&hosts, mode).context(|| format!("chmod({hosts:?}, 0644)"))
    }

    /// Join it. On an error nothing of it is left. Where nobody has asked for a network and the host can give none, it
    /// is said, and there is none.
    pub(crate) fn attach(&self, who: &Who<'_>) -> Result<Attached> {
        let network = match &self.way {
            Way::Nothing => return Ok(Attached::default()),
            Way::Program(program) => {
                return match program.run(who.namespace, &self.ports) {
                    Err(e) if self.by_default && self.asks_for_nothing() => {
                        coracle_sys::warn!("runner: the container has no network: {e}");
                        Ok(Attached::default())
                    }
                    ran => ran.map(|running| Attached { _program: Some(running), ..Attached::default() }),
                };
            }
            Way::Bridge(network) => network.as_deref(),
        };
        let joined = self.join(network, who);
        match joined {
            Err(e) if self.by_default && self.asks_for_nothing() && is_the_hosts(&e) => {
                coracle_sys::warn!(
                    "runner: the container has no network: {e} (--network none says so beforehand)"
                );
                let hosts = who.dir.join("hosts");
                names::write(&hosts, Some(&self.hosts_text(&self.hostname(who.id))), "")?;
                Ok(Attached::default())
            }
            other => other.context(|| "join the container to its network"),
        }
    }

    fn asks_for_nothing(&self) -> bool {
        self.ports.is_empty() && self.ips.is_empty() && self.mac.is_none() && self.aliases.is_empty()
    }

    fn join(&self, named: Option<&Network>, who: &Who<'_>) -> Result<Attached> {
        let socket = Socket::route()?;
        let home = Home::of_this_user()?;
        let held = home.lock(true)?;
        let (network, first) = known(&home, &socket, named)?;
        let key = network.key();
        let others = living(&home, key)?;
        let mine: Vec<Attachment> = world(&home)?.into_iter().filter(|a| a.id == who.id).collect();
        if mine.iter().any(|a| a.network == network.name) {
            return Err(Error::new(Kind::Exists, format!("it is on the network {} already", network.name)));
        }
        let (own, claimed) = self.decide(&home, &network, &others, &mine, who)?;
        if first {
            home.keep_network(&network)?;
        }
        home.keep(key, &own)?;
        let made = (|| {
            let (bridge, news) = up(&socket, &network, &others, &own)?;
            tracked::forget(&own);
            let fresh = fs::metadata(&own.hosts).is_ok_and(|m| m.len() == 0);
            let base = fresh.then(|| names::base("", &self.more_hosts(&own)));
            let world = world(&home)?;
            names::write(&own.hosts, base.as_deref(), &block(&world, who.id))?;
            tell(&world, &network.name, who.id);
            drop(held);
            news.iter().for_each(|word| coracle_sys::warn!("runner: {word}"));
            // The way out is that of the first network that has one.
            let out = !network.internal && mine.is_empty();
            let reach = |a: &Address| (a.ip, a.prefix, out.then_some(a.gateway));
            let addresses: Vec<_> = own.addresses.iter().map(reach).collect();
            let pair = Pair {
                outside: &own.device,
                bridge,
                inside: &own.inside,
                mac: parse_mac(&own.mac)?,
                mtu: network.mtu,
                hairpin: !own.ports.is_empty(),
                addresses: &addresses,
            };
            link::join(&socket, who.namespace, &pair)
        })();
        match made {
            Ok(()) => Ok(Attached { _sockets: claimed.sockets, _program: None }),
            Err(e) => {
                let _ = detach_from(Some(key), who.id);
                Err(e)
            }
        }
    }

    /// Choose what it gets: the first address of each subnet that nobody has, a port for each that is published.
    fn decide(
        &self,
        home: &Home,
        network: &Network,
        others: &[Attachment],
        mine: &[Attachment],
        who: &Who<'_>,
    ) -> Result<(Attachment, Claimed)> {
        let mut addresses = Vec::new();
        for pool in &network.pools {
            let ip = address(pool, asked_of(&self.ips, pool.subnet), others, &network.name)?;
            addresses.push(Address { ip, prefix: pool.subnet.prefix, gateway: pool.gateway });
        }
        if let Some(ip) = self.ips.iter().find(|ip| !addresses.iter().any(|a| a.ip == **ip)) {
            return Err(Error::usage(format!(
                "the network {} has no subnet for the address {ip}",
                network.name
            )));
        }
        let v6 = addresses.iter().any(|a| a.ip.is_v6());
        let claimed = match self.ports.is_empty() {
            true => Claimed::default(),
            false => ports::claim(&self.ports, v6, &published(home)?)?,
        };
        let mac = match &self.mac {
            Some(mac) => mac.to_ascii_lowercase(),
            None => mac_text(addresses.first().map(|a| a.ip).unwrap_or_default()),
        };
        let names = (0..).map(|n| (n, format!("eth{n}")));
        let (n, inside) =
            names.into_iter().find(|(_, name)| mine.iter().all(|a| a.inside != *name)).unwrap_or_default();
        let attachment = Attachment {
            id: who.id.to_owned(),
            name: who.name.to_owned(),
            hostname: self.hostname(who.id),
            network: network.name.clone(),
            aliases: self.aliases.clone(),
            device: format!("vc{}{n}", who.id.get(..10).unwrap_or(who.id)),
            inside,
            mac,
            addresses,
            ports: claimed.ports.clone(),
            hosts: who.dir.join("hosts"),
        };
        Ok((attachment, claimed))
    }

    /// The host has a name in every container.
    fn more_hosts(&self, own: &Attachment) -> String {
        let gateway = own.addresses.first().map(|a| a.gateway);
        let mut more = self.extra_hosts(gateway);
        const HOST: &str = "host.docker.internal";
        if let (Some(gateway), false) = (gateway, self.hosts.iter().any(|(name, _)| name == HOST)) {
            more += &format!("{gateway}\t{HOST}\n");
        }
        more
    }
}

/// The host's own limits, not the caller's mistakes.
fn is_the_hosts(e: &Error) -> bool {
    let lacking = [Errno::EROFS, Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];
    matches!(e.kind(), Kind::Unsupported | Kind::Denied) || e.errno().is_some_and(|e| lacking.contains(&e))
}

fn mac_text(ip: Ip) -> String {
    mac_of(ip).iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// The network as it is up, or as it is to be.
fn known(home: &Home, socket: &Socket, named: Option<&Network>) -> Result<(Network, bool)> {
    if let Some(up) = home.network(named.map_or(DEFAULT, Network::key))? {
        return Ok((up, false));
    }
    let network = match named {
        Some(network) => network.clone(),
        None => {
            let v6 = get("net/ipv6/conf/default/disable_ipv6").as_deref() == Some("0");
            Network::default_with(&link::routes(socket)?, v6)?
        }
    };
    Ok((network, true))
}

/// All published ports, with the names of those who have them.
fn published(home: &Home) -> Result<Vec<(String, Port)>> {
    let mut all = Vec::new();
    for key in home.keys()? {
        for one in living(home, &key)? {
            all.extend(one.ports.iter().map(|port| (one.name.clone(), *port)));
        }
    }
    Ok(all)
}

fn address(pool: &Pool, asked: Option<Ip>, others: &[Attachment], network: &str) -> Result<Ip> {
    let mut taken: Vec<Ip> = others.iter().flat_map(|o| o.addresses.iter().map(|a| a.ip)).collect();
    taken.push(pool.gateway);
    match asked {
        Some(ip) if !pool.subnet.can_be_had(ip) => {
            Err(Error::usage(format!("the address {ip} is none of the network {network}, {}", pool.subnet)))
        }
        Some(ip) if taken.contains(&ip) => {
            let who = others.iter().find(|o| o.addresses.iter().any(|a| a.ip == ip));
            let who = who.map_or("the gateway".to_owned(), |o| format!("the container {}", o.name));
            Err(Error::new(Kind::Busy, format!("Address already in use: {ip} (by {who})")))
        }
        Some(ip) => Ok(ip),
        None => pool.range.free(&taken, pool.subnet).ok_or_else(|| {
            Error::new(
                Kind::Busy,
                format!("all addresses of the network {network}, {}, are taken", pool.range),
            )
        }),
    }
}
