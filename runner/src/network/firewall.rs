//! Other people's firewalls. What our own table accepts, a chain of another one drops all the same: docker sets the host's
//! FORWARD to drop, ufw too, and firewalld ends its own with a refusal. There a rule is put before theirs that lets our
//! bridge's packets pass; what may come in to it our own table has decided by then. A chain of somebody unknown is not
//! touched, but named.

use coracle_sys::Result;

use super::netlink::{Socket, attributes, find, text};
use super::nft::{self, ACCEPT, Change, DROP, INET, IPV4, IPV6, Meta, Rule};

/// A chain as the kernel tells it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chain {
    family: u8,
    pub(crate) table: String,
    name: String,
    /// It hangs where forwarded packets pass.
    forwards: bool,
    drops: bool,
}

pub(crate) fn chain(told: &[u8]) -> Option<Chain> {
    const FORWARD: [u8; 4] = [0, 0, 0, 2];
    let mut chain = Chain { family: *told.first()?, ..Chain::default() };
    for (kind, value) in attributes(told.get(4..)?) {
        match kind {
            1 => text(value).clone_into(&mut chain.table),
            3 => text(value).clone_into(&mut chain.name),
            4 => chain.forwards = find(value, 1) == Some(&FORWARD),
            5 => chain.drops = value == DROP.to_be_bytes(),
            _ => {}
        }
    }
    Some(chain)
}

/// All chains of the host.
pub(crate) fn chains(socket: &Socket) -> Result<Vec<Chain>> {
    Ok(nft::chains(socket)?.iter().filter_map(|told| chain(told)).collect())
}

/// Chains that a rule is to be put into, and those that would drop and are not known.
fn plan(chains: &[Chain]) -> (Vec<&Chain>, Vec<&Chain>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for chain in chains {
        let Chain { family, table, name, forwards, drops } = chain;
        let ours = table.starts_with("coracle-");
        let has_user = |c: &&Chain| c.family == *family && c.table == "filter" && c.name == "DOCKER-USER";
        let iptables = matches!(*family, IPV4 | IPV6) && table == "filter";
        if ours {
        } else if iptables && name == "DOCKER-USER" {
            known.push(chain);
        } else if iptables && name == "FORWARD" {
            if *drops && !chains.iter().any(|c| has_user(&c)) {
                known.push(chain);
            }
        } else if *family == INET && table == "firewalld" && name == "filter_FORWARD" {
            known.push(chain);
        } else if *forwards && *drops {
            unknown.push(chain);
        }
    }
    (known, unknown)
}

fn comment(bridge: &str) -> String {
    format!("coracle {bridge}")
}

/// Let a bridge's packets pass all that would drop them. What cannot be helped comes back in words.
pub(crate) fn open(socket: &Socket, chains: &[Chain], bridge: &str) -> Result<Vec<String>> {
    let (known, unknown) = plan(chains);
    let comment = comment(bridge);
    for chain in known {
        let rules = nft::rules(socket, chain.family, &chain.table, &chain.name)?;
        if rules.iter().any(|rule| nft::is_called(rule.get(4..).unwrap_or_default(), &comment)) {
            continue;
        }
        let mut change = Change::of(chain.family);
        for way in [Meta::InName, Meta::OutName] {
            let rule = Rule::default().device(way, true, bridge).counter().verdict(ACCEPT);
            change.rule(&chain.table, &chain.name, &rule, true, Some(&comment));
        }
        change.make(socket)?;
    }
    let mut words: Vec<String> = unknown
        .iter()
        .map(|c| {
            let family = if c.family == INET { "inet" } else if c.family == IPV4 { "ip" } else { "ip6" };
            let rule = format!("nft insert rule {family} {} {}", c.table, c.name);
            format!(
                "the chain {} of the table {family} {} drops forwarded packets: {rule} iifname {bridge} accept; {rule} oifname {bridge} accept",
                c.name, c.table
            )
        })
        .collect();
    words.extend(legacy(bridge));
    Ok(words)
}

/// The old tables of iptables are changed by its own program alone.
fn legacy(bridge: &str) -> Option<String> {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    tables.lines().any(|table| table == "filter").then(|| {
        format!(
            "the old tables of iptables are in use, which may drop forwarded packets: iptables-legacy -I FORWARD -i {bridge} -j ACCEPT; iptables-legacy -I FORWARD -o {bridge} -j ACCEPT"
        )
    })
}

/// Take a bridge's rules out again.
pub(crate) fn close(socket: &Socket, bridge: &str) -> Result<()> {
    let chains = chains(socket)?;
    let comment = comment(bridge);
    for chain in chains.iter().filter(|c| !c.table.starts_with("coracle-")) {
        let known = matches!(&*chain.name, "DOCKER-USER" | "FORWARD" | "filter_FORWARD");
        if !known {
            continue;
        }
        let mut change = Change::of(chain.family);
        let mut any = false;
        for rule in nft::rules(socket, chain.family, &chain.table, &chain.name)? {
            let rule = rule.get(4..).unwrap_or_default();
            let handle = find(rule, 3).and_then(|h| h.try_into().ok()).map(u64::from_be_bytes);
            if let (true, Some(handle)) = (nft::is_called(rule, &comment), handle) {
                change.no_rule(&chain.table, &chain.name, handle);
                any = true;
            }
        }
        if any {
            change.make(socket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{attribute, nested};
    use super::*;

    fn told(family: u8, table: &str, name: &str, hook: Option<u32>, policy: Option<i32>) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        attribute(&mut body, 1, &super::super::netlink::c_name(table));
        attribute(&mut body, 3, &super::super::netlink::c_name(name));
        if let Some(hook) = hook {
            let mut at = Vec::new();
            attribute(&mut at, 1, &hook.to_be_bytes());
            nested(&mut body, 4, &at);
        }
        if let Some(policy) = policy {
            attribute(&mut body, 5, &policy.to_be_bytes());
        }
        body
    }

    #[test]
    fn a_rule_is_put_where_the_drop_stands() {
        let forward = |family, table, policy| told(family, table, "FORWARD", Some(2), Some(policy));
        let docker = told(IPV4, "filter", "DOCKER-USER", None, None);
        let firewalld = told(INET, "firewalld", "filter_FORWARD", Some(2), Some(ACCEPT));
        let own = told(INET, "mine", "forward", Some(2), Some(DROP));
        for (all, known, unknown) in [
            (vec![forward(IPV4, "filter", DROP)], vec!["FORWARD"], 0),
            (vec![forward(IPV4, "filter", ACCEPT)], vec![], 0),
            (vec![forward(IPV4, "filter", DROP), docker.clone()], vec!["DOCKER-USER"], 0),
            (vec![forward(IPV6, "filter", DROP), docker.clone()], vec!["FORWARD", "DOCKER-USER"], 0),
            (vec![firewalld], vec!["filter_FORWARD"], 0),
            (vec![own, forward(INET, "coracle-bridge", DROP)], vec![], 1),
        ] {
            let chains: Vec<_> = all.iter().filter_map(|c| chain(c)).collect();
            let (found, others) = plan(&chains);
            let names: Vec<_> = found.iter().map(|c| c.name.as_str()).collect();
            assert_eq!((names, others.len()), (known, unknown), "{chains:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_panic() {
        let whole = told(IPV4, "filter", "FORWARD", Some(2), Some(DROP));
        for end in 0..whole.len() {
            let _ = chain(&whole[..end]);
        }
        assert!(chain(&[]).is_none());
    }
}
