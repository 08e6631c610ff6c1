//! Joining a container to its network, and taking it off again: the effects of a [`super::Plan`], and of its end. Each is
//! done under the one lock, in an order in which being killed anywhere leaves what a sweep knows: the files first, then
//! the kernel's things; on the way back the other way round.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result, file};
use nix::errno::Errno;

use super::address::Ip;
use super::config::{DEFAULT, Network, Pool, bridge_of, table_of};
use super::lease::{Address, Attachment, Home};
use super::link::{self, Pair};
use super::netlink::Socket;
use super::nft::{Change, INET};
use super::ports::{self, Claimed, Port};
use super::{Plan, Way, asked_of, firewall, names, parse_mac, rules};

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
    /// Its first process.
    pub(crate) pid: i32,
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
                return match program.run(who.pid, who.namespace, &self.ports) {
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
    matches!(e.kind(), Kind::Unsupported | Kind::Denied) || e.errno() == Some(Errno::EROFS)
}

/// 02:42 and the address, as docker has it.
fn mac_of(ip: Ip) -> [u8; 6] {
    let bytes = ip.bytes();
    let tail = &bytes[bytes.len() - 4..];
    [2, 0x42, tail[0], tail[1], tail[2], tail[3]]
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

/// Those on a network that run. What is over is taken away first.
fn living(home: &Home, key: &str) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    for id in home.ids(key)? {
        match home.is_over(&id) {
            true => release(home, key, &id)?,
            false => all.extend(home.read(key, &id)?),
        }
    }
    Ok(all)
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

/// Make what a network's containers share, or see that it is there, and publish the ports of the new one. The bridge's
/// number, and what people should hear.
fn up(
    socket: &Socket,
    network: &Network,
    others: &[Attachment],
    own: &Attachment,
) -> Result<(u32, Vec<String>)> {
    let (bridge, table) = (network.bridge(), network.table());
    let filter = Socket::netfilter()?;
    let chains = firewall::chains(&filter)?;
    let found = link::index(socket, &bridge)?;
    let whole = found.is_some() && chains.iter().any(|c| c.table == table);
    let index = match found {
        Some(index) if whole => index,
        _ => make_bridge(socket, network, &bridge)?,
    };
    let localhost = own.ports.iter().any(|p| !p.host_ip.is_v6());
    if localhost {
        set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    }
    let mut change = match whole {
        true => Change::of(INET),
        false => {
            let subnets: Vec<_> = network.pools.iter().map(|p| p.subnet).collect();
            let around = rules::Around {
                table: &table,
                bridge: &bridge,
                subnets: &subnets,
                internal: network.internal,
            };
            let mut change = rules::table(&around);
            // Somebody has flushed all rules.
            others.iter().for_each(|other| publish(&mut change, &table, other));
            change
        }
    };
    publish(&mut change, &table, own);
    if !whole || !own.ports.is_empty() {
        change.make(&filter).context(|| "set the network's rules (nftables)")?;
    }
    let news = firewall::open(&filter, &chains, &bridge)?;
    Ok((index, if whole { Vec::new() } else { news }))
}

fn make_bridge(socket: &Socket, network: &Network, bridge: &str) -> Result<u32> {
    let addresses: Vec<_> = network.pools.iter().map(|p| (p.gateway, p.subnet.prefix)).collect();
    let mac = mac_of(network.pools.first().map(|p| p.gateway).unwrap_or_default());
    let index = link::bridge(socket, bridge, mac, network.mtu, &addresses)?;
    if !network.internal {
        set("net/ipv4/ip_forward", "1")?;
        if network.pools.iter().any(|p| p.subnet.base.is_v6()) {
            forward_v6()?;
        }
    }
    Ok(index)
}

/// A host that forwards no longer heeds what routers announce, unless it is told to: its own way out stays.
fn forward_v6() -> Result<()> {
    const ALL: &str = "net/ipv6/conf/all/forwarding";
    if get(ALL).as_deref() == Some("1") {
        return Ok(());
    }
    let devices = fs::read_dir("/proc/sys/net/ipv6/conf").context(|| "opendir(/proc/sys/net/ipv6/conf)")?;
    for device in devices.filter_map(|d| d.ok()?.file_name().into_string().ok()) {
        let heeds = format!("net/ipv6/conf/{device}/accept_ra");
        if get(&heeds).as_deref() == Some("1") {
            set(&heeds, "2")?;
        }
    }
    set(ALL, "1")
}

fn get(name: &str) -> Option<String> {
    let text = file::read(&Path::new("/proc/sys").join(name)).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

fn set(name: &str, value: &str) -> Result<()> {
    if get(name).as_deref() == Some(value) {
        return Ok(());
    }
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).context(|| format!("write({path:?}, {value:?})"))
}

fn publish(change: &mut Change, table: &str, of: &Attachment) {
    for port in &of.ports {
        if let Some(address) = of.ip(port.host_ip.is_v6()) {
            rules::port(change, table, port, Some(address.ip));
        }
    }
}

/// What all containers have of all networks.
fn world(home: &Home) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    for key in home.keys()? {
        all.extend(home.all(&key)?);
    }
    Ok(all)
}

/// What a container's /etc/hosts says of it and of the others on its networks.
fn block(world: &[Attachment], id: &str) -> String {
    let (own, others): (Vec<_>, Vec<_>) = world.iter().partition(|a| a.id == id);
    let shared = |a: &&Attachment| own.iter().any(|o| o.network == a.network);
    names::block(&own, &others.into_iter().filter(shared).collect::<Vec<_>>())
}

/// Tell those on a network who is on it now; `but` has been told.
fn tell(world: &[Attachment], network: &str, but: &str) {
    for one in world.iter().filter(|one| one.network == network && one.id != but) {
        match names::write(&one.hosts, None, &block(world, &one.id)) {
            // One that is about to go. One that has filled its file is nobody whom the others wait for.
            Err(e) if e.kind() != Kind::NotFound => {
                coracle_sys::warn!("runner: {}", e.wrap(format!("tell {} who is on its network", one.name)));
            }
            _ => {}
        }
    }
}

/// Take a container off all its networks. It need not be on any.
pub(crate) fn detach(id: &str) -> Result<()> {
    detach_from(None, id)
}

fn detach_from(only: Option<&str>, id: &str) -> Result<()> {
    let home = Home::of_this_user()?;
    let Some(held) = home.lock(false)? else { return Ok(()) };
    let mut old = Vec::new();
    let keys = home.keys()?;
    let mut keys = keys.iter().filter(|key| only.is_none_or(|only| only == *key));
    let left = keys.try_for_each(|key| leave(&home, key, id, &mut old));
    drop(held);
    link::remove_beside(&old)?;
    left
}

/// Take a container that goes on running off one network.
pub(crate) fn disconnect(network: &Network, id: &str) -> Result<()> {
    let home = Home::of_this_user()?;
    let none = || Error::not_found(format!("it is not connected to the network {}", network.name));
    let Some(held) = home.lock(false)? else { return Err(none()) };
    let key = network.key();
    let had = home.read(key, id)?.ok_or_else(none)?;
    let socket = Socket::route()?;
    let mut old = link::index(&socket, &had.device)?.into_iter().collect();
    leave(&home, key, id, &mut old)?;
    names::write(&had.hosts, None, &block(&world(&home)?, id))?;
    drop(held);
    // Those who are on it see it gone when this returns.
    old.iter().try_for_each(|index| link::remove(&socket, *index))
}

/// Take off all networks whoever does not run any more.
pub(crate) fn forget_all_over() -> Result<()> {
    let home = Home::of_this_user()?;
    let Some(held) = home.lock(false)? else { return Ok(()) };
    let mut old = link::disowned(&Socket::route()?)?;
    for key in home.keys()? {
        for id in home.ids(&key)?.iter().filter(|id| home.is_over(id)) {
            leave(&home, &key, id, &mut old)?;
        }
        // One who made the network, and was killed before anything was on it.
        if home.ids(&key)?.is_empty() && home.keys()?.contains(&key) {
            down(&home, &key, &mut old)?;
        }
    }
    drop(held);
    link::remove_beside(&old)
}

/// Take one off a network, tell the others, and take the network away after the last. The bridge, without its name, is
/// left to be removed.
fn leave(home: &Home, key: &str, id: &str, old: &mut Vec<u32>) -> Result<()> {
    if !home.ids(key)?.iter().any(|other| other == id) {
        return Ok(());
    }
    release(home, key, id)?;
    if home.ids(key)?.is_empty() {
        return down(home, key, old);
    }
    let name = home.network(key)?.map(|network| network.name).unwrap_or_default();
    tell(&world(home)?, &name, id);
    Ok(())
}

/// Free what a container has of a network. Its devices go with its namespace.
fn release(home: &Home, key: &str, id: &str) -> Result<()> {
    // What cannot be read leads no port anywhere that a rule could be found by.
    let had = home.read(key, id).ok().flatten().unwrap_or_default();
    if !had.ports.is_empty() {
        let filter = Socket::netfilter()?;
        for port in &had.ports {
            let mut change = Change::of(INET);
            rules::port(&mut change, &table_of(key), port, None);
            match change.make(&filter) {
                Err(e) if e.kind() == Kind::NotFound => {}
                other => other?,
            }
        }
    }
    home.forget(key, id)
}

/// Take away what the containers of a network shared.
fn down(home: &Home, key: &str, old: &mut Vec<u32>) -> Result<()> {
    let filter = Socket::netfilter()?;
    let mut change = Change::of(INET);
    change.no_table(&table_of(key));
    match change.make(&filter) {
        Err(e) if e.kind() == Kind::NotFound => {}
        other => other?,
    }
    firewall::close(&filter, &bridge_of(key))?;
    let socket = Socket::route()?;
    if let Some(index) = link::index(&socket, &bridge_of(key))? {
        match link::disown(&socket, index) {
            Ok(()) => old.push(index),
            // Before Linux 6.2 one that is up keeps its name.
            Err(_) => link::remove(&socket, index)?,
        }
    }
    home.forget_network(key)
}
