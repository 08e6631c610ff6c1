//! The parsers of this module for who throws hostile input at them: each reads, and says in plain data what it has read.
//! The promises that this data keeps are the callers' to look at.

use std::net::IpAddr;

use coracle_sys::{Error, Result, json};

use super::address::{Ip, Subnet};
use super::config::Network;
use super::lease::Attachment;
use super::names::{self, Resolve};
use super::netlink;
use super::ports::Asked;
use super::tracked::Flow;
use super::{extra_host, firewall, link, parse_mac, ports};

/// `-p`: the host's address, its ports, those inside, and whether it is UDP.
pub type Published = (Option<IpAddr>, Option<(u16, u16)>, (u16, u16), bool);

/// What is published by `-p`. Whether it covers itself is told as well, and that it can be printed.
pub fn published(text: &str) -> Result<(Published, bool)> {
    let asked = Asked::parse(text)?;
    let line = asked.text();
    let pasta = [false, true].map(|udp| asked.for_pasta(udp).is_some());
    let sound = asked.covers(&asked) && line.contains("->") && pasta[0] != pasta[1];
    Ok((asked.parts(), sound))
}

/// `--expose`.
pub fn exposed(text: &str) -> Result<()> {
    ports::check_exposed(text)
}

/// `--add-host`: a name, and an address where it is not the gateway's.
pub fn added_host(text: &str) -> Result<(String, Option<IpAddr>)> {
    extra_host(text).map(|(name, ip)| (name, ip.map(|ip| ip.0)))
}

/// `--mac-address`.
pub fn mac(text: &str) -> Result<[u8; 6]> {
    parse_mac(text)
}

/// `--subnet`: its first address and its bits, and the first address of it that is free.
pub fn subnet(text: &str) -> Result<(IpAddr, u8, Option<IpAddr>)> {
    let read = Subnet::parse(text)?;
    let again = Subnet::parse(&read.to_string())?;
    let free = read.free(&[], read);
    let inside = free.is_none_or(|ip| read.contains(ip)) && read.contains(read.base) && read.overlaps(again);
    match inside && again == read {
        true => Ok((read.base.0, read.prefix, free.map(|ip| ip.0))),
        false => Err(Error::invalid("a subnet that is not itself")),
    }
}

/// `--ip`.
pub fn address(text: &str) -> Result<IpAddr> {
    Ip::parse(text).map(|ip| ip.0)
}

/// The resolv.conf of a container with these words of flags, by the host's; none where the words are refused.
pub fn resolv(host: &str, words: [&[String]; 3], own_network: bool) -> Option<String> {
    let [servers, search, options] = words;
    let resolve = Resolve { servers, search, options };
    resolve.check().ok().map(|()| resolve.text(host, own_network))
}

/// An /etc/hosts that a container has changed, with a block of ours put into it, and once more.
pub fn hosts(now: &str) -> (String, String, String) {
    let block = names::block(&[], &[]);
    let once = names::changed(now, &block);
    let twice = names::changed(&once, &block);
    (block, once, twice)
}

/// A network's file: how its bridge and its table are called, and whether it is written and read again as the same.
pub fn network_file(bytes: &[u8]) -> Result<(String, String, bool)> {
    let network = Network::parse(bytes)?;
    let again = Network::parse(network.json().to_string().as_bytes());
    Ok((network.bridge(), network.table(), again.is_ok_and(|again| again == network)))
}

/// The file of what a container has of a network: whether it is written and read again as the same.
pub fn lease_file(bytes: &[u8]) -> Result<bool> {
    let lease: Attachment = json::from_slice(bytes)?;
    let again: Result<Attachment> = json::from_slice(lease.json().to_string().as_bytes());
    Ok(again.is_ok_and(|again| again == lease))
}

/// The kernel's answers, to the end, by all who read any: how many messages there were. Of each it is the same whether it
/// is read as told of a device, a route, a chain or a connection: nothing of it leads outside of it.
pub fn answers(bytes: &[u8]) -> usize {
    let bodies = netlink::bodies(bytes);
    for body in &bodies {
        let _ = (link::destination(body), firewall::chain(body), Flow::read(body));
        for (_, value) in netlink::attributes(body.get(4..).unwrap_or_default()) {
            let _ = (netlink::text(value), netlink::attributes(value).count());
        }
    }
    bodies.len()
}

/// An answer with one message of these attributes, to begin with.
pub fn answer(kind: u16, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = head.to_vec();
    attributes.iter().for_each(|(kind, value)| netlink::attribute(&mut body, *kind, value));
    let mut batch = netlink::Batch::default();
    batch.add("answer", kind, 0, &body);
    batch.into_bytes()
}
