//! nftables as the kernel speaks it (nfnetlink): tables, chains, rules, maps, written in batches that come about whole or
//! not at all. Which rules there are is [`super::rules`]' business.

use coracle_sys::{Error, Result};
use nix::errno::Errno;

use super::netlink::{APPEND, Batch, CREATE, Socket, attribute, c_name, nested};

const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// Families.
pub(crate) const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

/// Registers hold 4 bytes each from this one on; what is longer takes several.
pub(crate) const REGISTER: u32 = 8;

pub(crate) const DROP: i32 = 0;
pub(crate) const ACCEPT: i32 = 1;
pub(crate) const RETURN: i32 = -5;
const JUMP: i32 = -3;

/// What a packet is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Meta {
    InName = 6,
    OutName = 7,
    Family = 15,
    Protocol = 16,
}

/// Where a base chain hangs.
#[derive(Clone, Copy)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// A map: what its keys and values are, as `nft` reads it, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) name: &'static str,
    pub(crate) key: (u32, u32),
    pub(crate) value: (u32, u32),
}

/// `struct nfgenmsg`.
fn head(family: u8, resource: u16) -> Vec<u8> {
    let resource = resource.to_be_bytes();
    vec![family, 0, resource[0], resource[1]]
}

fn word(body: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(body, kind, &value.to_be_bytes());
}

fn name(body: &mut Vec<u8>, kind: u16, text: &str) {
    attribute(body, kind, &c_name(text));
}

/// A change of the rules, of tables of one family.
pub(crate) struct Change {
    batch: Batch,
    family: u8,
    sets: u32,
}

impl Change {
    pub(crate) fn of(family: u8) -> Self {
        let mut batch = Batch::default();
        batch.add("NFNL_MSG_BATCH_BEGIN", 0x10, 0, &head(0, 10));
        Self { batch, family, sets: 0 }
    }

    fn add(&mut self, what: &'static str, kind: u16, flags: u16, attributes: &[u8]) {
        let body = [&head(self.family, 0), attributes].concat();
        self.batch.add(what, SUBSYSTEM | kind, flags, &body);
    }

    pub(crate) fn table(&mut self, table: &str) {
        let mut body = Vec::new();
        name(&mut body, 1, table);
        self.add("NFT_MSG_NEWTABLE", NEWTABLE, CREATE, &body);
    }

    /// Take a table away with all that is in it.
    pub(crate) fn no_table(&mut self, table: &str) {
        let mut body = Vec::new();
        name(&mut body, 1, table);
        self.add("NFT_MSG_DELTABLE", DELTABLE, 0, &body);
    }

    /// A chain that packets come to by themselves, or, without a hook, from another one.
    pub(crate) fn chain(&mut self, table: &str, chain: &str, hook: Option<Hook>) {
        let mut body = Vec::new();
        name(&mut body, 1, table);
        name(&mut body, 3, chain);
        if let Some(hook) = hook {
            let mut at = Vec::new();
            word(&mut at, 1, hook.number);
            word(&mut at, 2, hook.priority as u32);
            nested(&mut body, 4, &at);
            word(&mut body, 5, ACCEPT as u32);
            name(&mut body, 7, hook.kind);
        }
        self.add("NFT_MSG_NEWCHAIN", NEWCHAIN, CREATE, &body);
    }

    /// A rule behind those that are there, or before them. A comment is what it is known by later.
    pub(crate) fn rule(&mut self, table: &str, chain: &str, rule: &Rule, first: bool, comment: Option<&str>) {
        let mut body = Vec::new();
        name(&mut body, 1, table);
        name(&mut body, 2, chain);
        nested(&mut body, 4, &rule.0);
        if let Some(comment) = comment {
            attribute(&mut body, 7, &user_data(comment));
        }
        self.add("NFT_MSG_NEWRULE", NEWRULE, if first { CREATE } else { CREATE | APPEND }, &body);
    }

    /// Take a rule away.
    pub(crate) fn no_rule(&mut self, table: &str, chain: &str, handle: u64) {
        let mut body = Vec::new();
        name(&mut body, 1, table);
        name(&mut body, 2, chain);
        attribute(&mut body, 3, &handle.to_be_bytes());
        self.add("NFT_MSG_DELRULE", DELRULE, 0, &body);
    }

    pub(crate) fn map(&mut self, table: &str, map: Map) {
        const MAP: u32 = 8;
        self.sets += 1;
        let mut body = Vec::new();
        name(&mut body, 1, table);
        name(&mut body, 2, map.name);
        word(&mut body, 3, MAP);
        word(&mut body, 4, map.key.0);
        word(&mut body, 5, map.key.1);
        word(&mut body, 6, map.value.0);
        word(&mut body, 7, map.value.1);
        word(&mut body, 10, self.sets);
        self.add("NFT_MSG_NEWSET", NEWSET, CREATE, &body);
    }

    /// What a map has for a key, or, without a value, has no more.
    pub(crate) fn element(&mut self, table: &str, map: &str, key: &[u8], value: Option<&[u8]>) {
        let data = |bytes: &[u8]| {
            let mut data = Vec::new();
            attribute(&mut data, 1, bytes);
            data
        };
        let (mut element, mut list, mut body) = (Vec::new(), Vec::new(), Vec::new());
        nested(&mut element, 1, &data(key));
        if let Some(value) = value {
            nested(&mut element, 2, &data(value));
        }
        nested(&mut list, 1, &element);
        name(&mut body, 1, table);
        name(&mut body, 2, map);
        nested(&mut body, 3, &list);
        match value {
            Some(_) => self.add("NFT_MSG_NEWSETELEM", NEWSETELEM, CREATE, &body),
            None => self.add("NFT_MSG_DELSETELEM", DELSETELEM, 0, &body),
        }
    }

    /// Make the change.
    pub(crate) fn make(mut self, socket: &Socket) -> Result<()> {
        self.batch.add("NFNL_MSG_BATCH_END", 0x11, 0, &head(0, 10));
        match socket.refused(&self.batch)?.first() {
            None => Ok(()),
            Some((_, _, Errno::EPROTONOSUPPORT | Errno::EINVAL)) if self.batch.len() < 3 => {
                Err(Error::unsupported("this kernel has no nftables"))
            }
            Some((_, name, errno)) => Err(Error::syscall(format!("netlink({name})"), *errno)),
        }
    }
}

/// A comment as `nft` prints it.
fn user_data(comment: &str) -> Vec<u8> {
    [&[0, comment.len() as u8 + 1], comment.as_bytes(), &[0]].concat()
}

/// A rule: questions that a packet must answer, and what is done with it.
#[derive(Default)]
pub(crate) struct Rule(Vec<u8>);

impl Rule {
    fn with(mut self, expression: &str, data: &[u8]) -> Self {
        let mut element = Vec::new();
        name(&mut element, 1, expression);
        nested(&mut element, 2, data);
        nested(&mut self.0, 1, &element);
        self
    }

    fn numbers(self, expression: &str, numbers: &[(u16, u32)]) -> Self {
        let mut data = Vec::new();
        numbers.iter().for_each(|(kind, value)| word(&mut data, *kind, *value));
        self.with(expression, &data)
    }

    /// Put something of the packet into a register.
    pub(crate) fn meta(self, key: Meta, register: u32) -> Self {
        self.numbers("meta", &[(2, key as u32), (1, register)])
    }

    /// Some bytes of its network (1) or transport (2) header.
    pub(crate) fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.numbers("payload", &[(1, register), (2, base), (3, offset), (4, length)])
    }

    /// The first register is this, or is not.
    pub(crate) fn is(self, yes: bool, value: &[u8]) -> Self {
        let (mut data, mut wanted) = (Vec::new(), Vec::new());
        attribute(&mut wanted, 1, value);
        word(&mut data, 1, REGISTER);
        word(&mut data, 2, u32::from(!yes));
        nested(&mut data, 3, &wanted);
        self.with("cmp", &data)
    }

    /// Leave of the first register what the mask has.
    pub(crate) fn masked(self, mask: &[u8]) -> Self {
        let mut data = Vec::new();
        word(&mut data, 1, REGISTER);
        word(&mut data, 2, REGISTER);
        word(&mut data, 3, mask.len() as u32);
        for (kind, bytes) in [(4, mask), (5, &vec![0; mask.len()][..])] {
            let mut value = Vec::new();
            attribute(&mut value, 1, bytes);
            nested(&mut data, kind, &value);
        }
        self.with("bitwise", &data)
    }

    /// It comes in, or goes out, by this device, or by another one.
    pub(crate) fn device(self, way: Meta, yes: bool, device: &str) -> Self {
        let mut name = device.as_bytes().to_vec();
        name.resize(16, 0);
        self.meta(way, REGISTER).is(yes, &name)
    }

    /// It is of IPv4, or IPv6.
    pub(crate) fn family(self, family: u8) -> Self {
        self.meta(Meta::Family, REGISTER).is(true, &[family])
    }

    /// It goes to an address of the host.
    pub(crate) fn for_the_host(self) -> Self {
        const LOCAL: u32 = 2;
        self.numbers("fib", &[(1, REGISTER), (2, 3), (3, 2)]).is(true, &LOCAL.to_ne_bytes())
    }

    /// Its connection is one that goes on, or comes of one.
    pub(crate) fn goes_on(self) -> Self {
        self.tracked(0, 2 | 4)
    }

    /// Its connection was led elsewhere than it was sent to.
    pub(crate) fn was_led(self) -> Self {
        self.tracked(2, 1 << 5)
    }

    fn tracked(self, key: u32, bits: u32) -> Self {
        let rule = self.numbers("ct", &[(2, key), (1, REGISTER)]);
        rule.masked(&bits.to_ne_bytes()).is(false, &0u32.to_ne_bytes())
    }

    /// Look up what begins in the first register; what is found is put there.
    pub(crate) fn lookup(self, map: &str) -> Self {
        let mut data = Vec::new();
        name(&mut data, 1, map);
        word(&mut data, 2, REGISTER);
        word(&mut data, 3, REGISTER);
        self.with("lookup", &data)
    }

    /// Lead it to the address that begins in the first register, and to the port in another one.
    pub(crate) fn lead(self, family: u8, port: u32) -> Self {
        let numbers = [(1, 1), (2, family.into()), (3, REGISTER), (5, port)];
        self.numbers("nat", &numbers)
    }

    /// Let it go under the host's address.
    pub(crate) fn masquerade(self) -> Self {
        self.with("masq", &[])
    }

    pub(crate) fn counter(self) -> Self {
        self.with("counter", &[])
    }

    /// What is done with it.
    pub(crate) fn verdict(self, code: i32) -> Self {
        self.immediate(code, None)
    }

    /// Go through another chain.
    pub(crate) fn jump(self, chain: &str) -> Self {
        self.immediate(JUMP, Some(chain))
    }

    fn immediate(self, code: i32, chain: Option<&str>) -> Self {
        let (mut verdict, mut value, mut data) = (Vec::new(), Vec::new(), Vec::new());
        word(&mut verdict, 1, code as u32);
        if let Some(chain) = chain {
            name(&mut verdict, 2, chain);
        }
        nested(&mut value, 2, &verdict);
        word(&mut data, 1, 0);
        nested(&mut data, 2, &value);
        self.with("immediate", &data)
    }
}

/// All chains of all tables, as the kernel tells them.
pub(crate) fn chains(socket: &Socket) -> Result<Vec<Vec<u8>>> {
    socket.ask("NFT_MSG_GETCHAIN", SUBSYSTEM | GETCHAIN, super::netlink::DUMP, &head(0, 0))
}

/// The rules of a chain.
pub(crate) fn rules(socket: &Socket, family: u8, table: &str, chain: &str) -> Result<Vec<Vec<u8>>> {
    let mut body = head(family, 0);
    name(&mut body, 1, table);
    name(&mut body, 2, chain);
    socket.ask("NFT_MSG_GETRULE", SUBSYSTEM | GETRULE, super::netlink::DUMP, &body)
}

/// Whether what the kernel tells of a rule has this comment.
pub(crate) fn is_called(rule: &[u8], comment: &str) -> bool {
    super::netlink::find(rule, 7).is_some_and(|data| data == user_data(comment))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{attributes, find, text};
    use super::*;

    /// The expressions of a rule, by name.
    fn names(rule: &Rule) -> Vec<String> {
        let expression = |(_, element)| text(find(element, 1).unwrap()).to_owned();
        attributes(&rule.0).map(expression).collect()
    }

    #[test]
    fn a_rule_is_its_expressions_in_their_order() {
        let rule = Rule::default().device(Meta::OutName, false, "coracle0").goes_on().verdict(ACCEPT);
        assert_eq!(names(&rule), ["meta", "cmp", "ct", "bitwise", "cmp", "immediate"]);
        let (_, first) = attributes(&rule.0).next().unwrap();
        // Key 7 into the first register.
        let data = find(first, 2).unwrap();
        assert_eq!((find(data, 2).unwrap(), find(data, 1).unwrap()), (&[0, 0, 0, 7][..], &[0, 0, 0, 8][..]));
        let (_, second) = attributes(&rule.0).nth(1).unwrap();
        let data = find(second, 2).unwrap();
        assert_eq!(find(data, 2).unwrap(), [0, 0, 0, 1], "not equal");
        let name = find(find(data, 3).unwrap(), 1).unwrap();
        assert_eq!((name.len(), text(name)), (16, "coracle0"));
    }

    #[test]
    fn a_verdict_that_jumps_names_its_chain() {
        let rule = Rule::default().jump("publish");
        let (_, element) = attributes(&rule.0).next().unwrap();
        let verdict = find(find(find(element, 2).unwrap(), 2).unwrap(), 2).unwrap();
        assert_eq!(find(verdict, 1).unwrap(), (-3i32).to_be_bytes());
        assert_eq!(text(find(verdict, 2).unwrap()), "publish");
    }

    #[test]
    fn a_rule_is_known_by_its_comment() {
        let mut told = Vec::new();
        attribute(&mut told, 7, &user_data("coracle bridge"));
        assert!(is_called(&told, "coracle bridge") && !is_called(&told, "coracle") && !is_called(&[], "x"));
    }
}
