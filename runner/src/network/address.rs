//! Addresses and subnets of both families, which are counted alike.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coracle_sys::json::{self, Value, Wrong};
use coracle_sys::{Error, Result};

/// An object of these members, in one piece of code for all.
pub(crate) fn object(members: &[(&str, &dyn ToValue)]) -> Value {
    let mut object = json::Map::new();
    for (name, value) in members {
        object.insert((*name).to_owned(), value.value());
    }
    Value::Object(object)
}

/// What can be a member.
pub(crate) trait ToValue {
    fn value(&self) -> Value;
}

impl ToValue for Value {
    fn value(&self) -> Value {
        self.clone()
    }
}

impl ToValue for &str {
    fn value(&self) -> Value {
        Value::String((*self).to_owned())
    }
}

impl ToValue for String {
    fn value(&self) -> Value {
        Value::String(self.clone())
    }
}

impl ToValue for bool {
    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl ToValue for u64 {
    fn value(&self) -> Value {
        (*self).into()
    }
}

impl ToValue for Ip {
    fn value(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl ToValue for Subnet {
    fn value(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl ToValue for Vec<String> {
    fn value(&self) -> Value {
        Value::Array(self.iter().map(ToValue::value).collect())
    }
}

impl ToValue for BTreeMap<String, String> {
    fn value(&self) -> Value {
        Value::Object(self.iter().map(|(name, value)| (name.clone(), value.value())).collect())
    }
}

/// An address, as it is read from JSON too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip(pub(crate) IpAddr);

impl Default for Ip {
    fn default() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl json::Read for Ip {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = Self::parse(&json::text(value)?).map_err(|e| Wrong::new(e.to_string()))?;
        Ok(())
    }
}

impl Ip {
    /// As people write it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|_| Error::usage(format!("invalid IP address: {text}")))
    }

    pub(crate) fn is_v6(self) -> bool {
        self.0.is_ipv6()
    }

    /// Its bytes, the first one first.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self.0 {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    /// All zeros: any address of the host.
    pub(crate) fn is_any(self) -> bool {
        self.0.is_unspecified()
    }

    fn number(self) -> u128 {
        match self.0 {
            IpAddr::V4(ip) => u32::from(ip).into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }

    fn of(number: u128, v6: bool) -> Self {
        Self(match v6 {
            true => IpAddr::V6(Ipv6Addr::from(number)),
            false => IpAddr::V4(Ipv4Addr::from(number as u32)),
        })
    }
}

/// A subnet: its first address, and how many bits all of them share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) base: Ip,
    pub(crate) prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl json::Read for Subnet {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = Self::parse(&json::text(value)?).map_err(|e| Wrong::new(e.to_string()))?;
        Ok(())
    }
}

impl Subnet {
    /// `ADDRESS/BITS`. The address may be any of it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let read = || {
            let (base, prefix) = text.split_once('/')?;
            let (base, prefix) = (Ip::parse(base).ok()?, prefix.parse::<u8>().ok()?);
            (prefix <= Self { base, prefix }.width()).then(|| Self::around(base, prefix))
        };
        read().ok_or_else(|| Error::usage(format!("invalid subnet {text}: it is ADDRESS/BITS")))
    }

    /// The one of this size that an address is in.
    pub(crate) fn around(ip: Ip, prefix: u8) -> Self {
        let one = Self { base: ip, prefix };
        Self { base: Ip::of(ip.number() & !one.hosts(), ip.is_v6()), prefix }
    }

    fn width(self) -> u8 {
        if self.base.is_v6() { 128 } else { 32 }
    }

    /// The bits in which its addresses differ.
    fn hosts(self) -> u128 {
        let free = u32::from(self.width().saturating_sub(self.prefix));
        1u128.checked_shl(free).map_or(u128::MAX, |bit| bit - 1)
    }

    pub(crate) fn contains(self, ip: Ip) -> bool {
        self.base.is_v6() == ip.is_v6() && Self::around(ip, self.prefix).base == self.base
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Its address with this number; none beyond its last.
    pub(crate) fn at(self, n: u128) -> Option<Ip> {
        (n <= self.hosts()).then(|| Ip::of(self.base.number() + n, self.base.is_v6()))
    }

    /// Its last address.
    pub(crate) fn last(self) -> Option<Ip> {
        self.at(self.hosts())
    }

    /// Whether an address can be a machine's: the first means the subnet, the last of IPv4 all of it.
    pub(crate) fn can_be_had(self, ip: Ip) -> bool {
        let n = ip.number().wrapping_sub(self.base.number());
        let last = !ip.is_v6() && n == self.hosts();
        self.contains(ip) && (self.hosts() < 2 || n != 0 && !last)
    }

    /// The first address that can be had and is not taken.
    pub(crate) fn free(self, taken: &[Ip], within: Self) -> Option<Ip> {
        (0..=taken.len() as u128 + 2)
            .filter_map(|n| self.at(n))
            .find(|ip| within.can_be_had(*ip) && !taken.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    fn ip(text: &str) -> Ip {
        Ip::parse(text).unwrap()
    }

    #[test]
    fn subnets_are_read_with_any_of_their_addresses() {
        assert_eq!(net("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(net("fd00::5/64").to_string(), "fd00::/64");
        assert_eq!(net("0.0.0.0/0").hosts(), u128::from(u32::MAX));
        assert_eq!(net("::/0").hosts(), u128::MAX);
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1", "10.0.0/8", "/"] {
            assert!(Subnet::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_address_that_is_free_is_given() {
        let all = net("10.0.0.0/29");
        let mut taken = vec![ip("10.0.0.1")];
        let given: Vec<String> = std::iter::from_fn(|| {
            let next = all.free(&taken, all)?;
            taken.push(next);
            Some(next.to_string())
        })
        .collect();
        // Neither the subnet's own nor that of all.
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(net("10.0.0.4/30").free(&[], all).unwrap().to_string(), "10.0.0.4");
        assert_eq!(net("fd00::/64").free(&[], net("fd00::/64")).unwrap().to_string(), "fd00::1");
        assert_eq!(net("fd00::/64").free(&[ip("fd00::1")], net("fd00::/64")).unwrap().to_string(), "fd00::2");
    }

    #[test]
    fn subnets_that_share_an_address_overlap() {
        for (a, b, both) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
            ("fd00::/64", "fd00::1/128", true),
        ] {
            assert_eq!((net(a).overlaps(net(b)), net(b).overlaps(net(a))), (both, both), "{a} {b}");
        }
    }
}
