//! What the containers of a network share: a bridge, a table of rules, the host's readiness to forward. It is made with
//! the first of them and taken away with the last.

use std::fs;
use std::path::Path;

use coracle_sys::{Context, Kind, Result, file};
use nix::errno::Errno;

use super::address::Ip;
use super::config::{Network, bridge_of, table_of};
use super::lease::{Attachment, Home};
use super::netlink::Socket;
use super::nft::{Change, INET};
use super::{firewall, going, link, rules};

/// Make what a network's containers share, or see that it is there, and publish the ports of the new one. The bridge's
/// number, and what people should hear.
pub(super) fn up(
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

pub(super) fn get(name: &str) -> Option<String> {
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

/// 02:42 and the address, as docker has it.
pub(super) fn mac_of(ip: Ip) -> [u8; 6] {
    let bytes = ip.bytes();
    let tail = &bytes[bytes.len() - 4..];
    [2, 0x42, tail[0], tail[1], tail[2], tail[3]]
}

/// Take away what the containers of a network shared.
pub(super) fn down(home: &Home, key: &str, old: &mut Vec<u32>) -> Result<()> {
    match Socket::netfilter() {
        // A kernel without packet filters has none of ours.
        Err(e) if e.errno() == Some(Errno::EPROTONOSUPPORT) => {}
        filter => {
            let filter = filter?;
            let mut change = Change::of(INET);
            change.no_table(&table_of(key));
            match change.make(&filter) {
                Err(e) if e.kind() == Kind::NotFound => {}
                other => other?,
            }
            firewall::close(&filter, &bridge_of(key))?;
        }
    }
    let socket = Socket::route()?;
    if let Some(index) = link::index(&socket, &bridge_of(key))? {
        match going::disown(&socket, index) {
            Ok(()) => old.push(index),
            // Before Linux 6.2 one that is up keeps its name.
            Err(_) => going::remove(&socket, index)?,
        }
    }
    home.forget_network(key)
}
