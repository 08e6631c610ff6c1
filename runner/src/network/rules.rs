//! A network's own table: what its containers send goes out under the host's address, what was published leads to them,
//! and nothing else comes in. One table a network, so that it comes and goes as a whole.

use super::address::{Ip, Subnet};
use super::nft::{ACCEPT, Change, DROP, Hook, INET, IPV4, IPV6, Map, Meta, REGISTER, RETURN, Rule};
use super::ports::Port;

/// What the rules are about.
pub(crate) struct Around<'a> {
    pub(crate) table: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) subnets: &'a [Subnet],
    /// Nothing goes out.
    pub(crate) internal: bool,
}

/// `inet_proto . inet_service` and the like, as nft(8) numbers the types of data.
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const ADDRESS: [u32; 2] = [7, 8];

fn types(all: &[u32]) -> u32 {
    all.iter().fold(0, |sum, one| sum << 6 | one)
}

/// The map of a family, of ports of one address of the host or of all.
fn map(v6: bool, exact: bool) -> Map {
    let (ip, length) = (ADDRESS[usize::from(v6)], if v6 { 16 } else { 4 });
    let (name, key) = match (v6, exact) {
        (false, false) => ("any4", (types(&[PROTOCOL, SERVICE]), 8)),
        (true, false) => ("any6", (types(&[PROTOCOL, SERVICE]), 8)),
        (false, true) => ("one4", (types(&[ip, PROTOCOL, SERVICE]), length + 8)),
        (true, true) => ("one6", (types(&[ip, PROTOCOL, SERVICE]), length + 8)),
    };
    Map { name, key, value: (types(&[ip, SERVICE]), length + 4) }
}

const ALL: [(bool, bool); 4] = [(false, true), (false, false), (true, true), (true, false)];

/// Make the table anew, whatever is there of it.
pub(crate) fn table(around: &Around<'_>) -> Change {
    let Around { table, bridge, subnets, internal } = *around;
    let mut change = Change::of(INET);
    change.table(table);
    change.no_table(table);
    change.table(table);
    for (chain, kind, number, priority) in [
        ("loopback", "filter", 0, -300),
        ("in", "nat", 0, -100),
        ("own", "nat", 3, -100),
        ("forward", "filter", 2, 0),
        ("out", "nat", 4, 100),
    ] {
        change.chain(table, chain, Some(Hook { kind, number, priority }));
    }
    change.chain(table, "publish", None);
    ALL.iter().for_each(|(v6, exact)| change.map(table, map(*v6, *exact)));
    let (to, at) = (Do::Device(Meta::OutName, true), Do::Device(Meta::InName, true));
    let (beside, behind) = (Do::Device(Meta::OutName, false), Do::Device(Meta::InName, false));
    let mut add = |chain: &str, steps: &[Do]| {
        let rule = steps.iter().fold(Rule::default(), |rule, step| step.of(rule, bridge));
        change.rule(table, chain, &rule, false, None);
    };
    // Published ports are led in from 127.0.0.1, so the kernel lets packets to it pass at the bridge.
    add("loopback", &[at, Do::To(LOCAL4), Do::Verdict(DROP)]);
    add("in", &[Do::Publish]);
    // An answer to ::1 finds no way through the kernel: refused there, clients turn to 127.0.0.1.
    add("own", &[Do::To(LOCAL6), Do::Verdict(RETURN)]);
    add("own", &[Do::Publish]);
    for (v6, exact) in ALL {
        add("publish", &[Do::Lead(v6, exact)]);
    }
    add("forward", &[to, Do::GoesOn, Do::Verdict(ACCEPT)]);
    add("forward", &[to, Do::WasLed, Do::Verdict(ACCEPT)]);
    add("forward", &[to, behind, Do::Verdict(DROP)]);
    if internal {
        add("forward", &[at, beside, Do::Verdict(DROP)]);
    }
    add("out", &[to, Do::From(LOCAL4), Do::Masquerade]);
    for subnet in subnets {
        // By way of the host and back: the answer has to come the same way.
        add("out", &[to, Do::From(*subnet), Do::WasLed, Do::Masquerade]);
        if !internal {
            add("out", &[beside, Do::From(*subnet), Do::Masquerade]);
        }
    }
    change
}

/// A step of a rule.
#[derive(Clone, Copy)]
enum Do {
    /// It goes this way by the bridge, or by another device.
    Device(Meta, bool),
    From(Subnet),
    To(Subnet),
    GoesOn,
    WasLed,
    /// What is for the host may be for a container.
    Publish,
    Lead(bool, bool),
    Masquerade,
    Verdict(i32),
}

impl Do {
    fn of(self, rule: Rule, bridge: &str) -> Rule {
        match self {
            Self::Device(way, yes) => rule.device(way, yes, bridge),
            Self::From(subnet) => of_subnet(rule, subnet, if subnet.base.is_v6() { 8 } else { 12 }),
            Self::To(subnet) => of_subnet(rule, subnet, if subnet.base.is_v6() { 24 } else { 16 }),
            Self::GoesOn => rule.goes_on(),
            Self::WasLed => rule.was_led(),
            Self::Publish => rule.for_the_host().jump("publish"),
            Self::Lead(v6, exact) => lead(rule, v6, exact),
            Self::Masquerade => rule.masquerade(),
            Self::Verdict(code) => rule.verdict(code),
        }
    }
}

const LOCAL4: Subnet =
    Subnet { base: Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0))), prefix: 8 };
const LOCAL6: Subnet = Subnet { base: Ip(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)), prefix: 128 };

/// The address at this place of the packet's header is of the subnet.
fn of_subnet(rule: Rule, subnet: Subnet, at: u32) -> Rule {
    let base = subnet.base.bytes();
    let mut mask = vec![0; base.len()];
    for bit in 0..usize::from(subnet.prefix) {
        mask[bit / 8] |= 0x80 >> (bit % 8);
    }
    let family = if subnet.base.is_v6() { IPV6 } else { IPV4 };
    let rule = rule.family(family).payload(1, at, base.len() as u32, REGISTER);
    rule.masked(&mask).is(true, &base)
}

/// Lead a packet to whoever has its port.
fn lead(rule: Rule, v6: bool, exact: bool) -> Rule {
    let (family, at, length) = if v6 { (IPV6, 24, 16) } else { (IPV4, 16, 4) };
    let mut rule = rule.family(family);
    let mut next = REGISTER;
    if exact {
        rule = rule.payload(1, at, length, next);
        next += length / 4;
    }
    let rule = rule.meta(Meta::Protocol, next).payload(2, 2, 2, next + 1);
    rule.lookup(map(v6, exact).name).lead(family, REGISTER + length / 4)
}

/// Lead a port of the host to an address inside, or, without one, no longer.
pub(crate) fn port(change: &mut Change, table: &str, port: &Port, to: Option<Ip>) {
    let v6 = port.host_ip.is_v6();
    let exact = !port.host_ip.is_any();
    let service = |n: u16| [&n.to_be_bytes()[..], &[0, 0]].concat();
    let mut key = if exact { port.host_ip.bytes() } else { Vec::new() };
    key.extend([port.protocol.number(), 0, 0, 0]);
    key.extend(service(port.host));
    let value = to.map(|ip| [ip.bytes(), service(port.inside)].concat());
    change.element(table, map(v6, exact).name, &key, value.as_deref());
}
