//! The network of a container: what the flags ask for becomes a plan, and the plan a bridge, a pair of devices, addresses,
//! names and published ports. There is no daemon: what running containers have lies in files, and whoever comes first
//! makes what is for all, whoever goes last takes it away.

mod address;
mod attach;
mod bridge;
mod config;
mod firewall;
mod going;
mod holder;
mod lease;
mod leave;
pub(crate) mod link;
mod manage;
mod names;
pub(crate) mod netlink;
mod nft;
mod ports;
pub mod reading;
mod rootless;
mod rules;
mod tracked;

use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_store::image::ProcessConfig;
use coracle_sys::json::Value;
use coracle_sys::{Context, Error, Result};

use crate::caps;
use crate::from_image::flags::Flags;
use crate::from_image::{self, short};
use crate::host::Host;
use address::{Ip, Subnet, object};
pub(crate) use attach::{Attached, Who};
use config::{DEFAULT, Network, Networks};
pub(crate) use lease::{Attachment, of_container as attachments};
pub(crate) use leave::{detach, forget_all_over as sweep};
pub(crate) use manage::{Asked as AskedNetwork, Known, Manager};
use names::Resolve;
use ports::Asked;
pub(crate) use ports::{Port, bindings};
use rootless::Program;

/// What a container is joined to.
#[derive(Clone, Debug, PartialEq)]
enum Way {
    /// Nothing that is to be made: no network, the host's, another's.
    Nothing,
    /// A bridge: that of a network with a name, else the one for all.
    Bridge(Option<Box<Network>>),
    /// A program that carries packets for an ordinary user.
    Program(Program),
}

/// The network of one container, decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    way: Way,
    /// Its network namespace is made for it.
    own: bool,
    /// Nobody asked for it: where it cannot be had, there is none.
    by_default: bool,
    ports: Vec<Asked>,
    ips: Vec<Ip>,
    mac: Option<String>,
    hostname: Option<String>,
    aliases: Vec<String>,
    /// Names and addresses of `--add-host`; without an address it is the gateway's.
    hosts: Vec<(String, Option<Ip>)>,
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
    /// The /etc/hosts of the container whose network it shares.
    shared: Option<PathBuf>,
}

/// Decide. Nothing is touched; networks are read, and programs looked for.
pub(crate) fn plan(flags: &Flags, config: &ProcessConfig, store: &Store, host: &Host) -> Result<Plan> {
    let word = from_image::shared_words(flags)?[0].2;
    let rootless = host.needs_user_namespace();
    let by_default = word == "default";
    let way = match word {
        "none" | "own" | "private" | "host" => Way::Nothing,
        word if word.starts_with("container:") || word.starts_with("ns:") => Way::Nothing,
        "default" if rootless => rootless::find(None)?.map_or(Way::Nothing, Way::Program),
        "default" if !host.has(caps::NET_ADMIN) => Way::Nothing,
        "default" | DEFAULT if !rootless => Way::Bridge(None),
        "pasta" | "slirp4netns" => rootless::find(Some(word))?.map_or(Way::Nothing, Way::Program),
        word if rootless => {
            return Err(Error::unsupported(format!(
                "--network {word}: an ordinary user has no right to make a bridge; there are none, host, pasta and slirp4netns"
            )));
        }
        name => Way::Bridge(Some(Box::new(Networks::of(store).find(name)?))),
    };
    let mut hosts: Vec<_> = flags.add_host.iter().map(|text| extra_host(text)).collect::<Result<_>>()?;
    for text in &flags.link {
        hosts.extend(linked(text, store)?);
    }
    let plan = Plan {
        own: !matches!(word, "host") && !word.starts_with("container:") && !word.starts_with("ns:"),
        by_default,
        ports: ports(flags, config)?,
        ips: [&flags.ip, &flags.ip6].into_iter().flatten().map(|ip| Ip::parse(ip)).collect::<Result<_>>()?,
        mac: flags.mac_address.clone(),
        hostname: flags.hostname.as_deref().map(|name| host_words(name, flags.domainname.as_deref())),
        aliases: flags.network_alias.clone(),
        hosts,
        servers: flags.dns.clone(),
        search: flags.dns_search.clone(),
        options: flags.dns_option.clone(),
        shared: word.strip_prefix("container:").and_then(|named| hosts_of(store, named)),
        way,
    };
    plan.check(word, flags, rootless)?;
    Ok(plan)
}

/// Its host name as /etc/hosts has it: the full name first, where it is in a domain.
fn host_words(name: &str, domain: Option<&str>) -> String {
    match (domain.filter(|d| !d.is_empty()), name.split_once('.')) {
        (Some(domain), _) => format!("{name}.{domain} {name}"),
        (None, Some((short, _))) => format!("{name} {short}"),
        (None, None) => name.to_owned(),
    }
}

/// `--link CONTAINER[:NAME]`: the addresses that it has now, under that name. Under its own it is known anyhow.
fn linked(text: &str, store: &Store) -> Result<Vec<(String, Option<Ip>)>> {
    let (named, alias) = text.split_once(':').unwrap_or((text, text));
    if !is_host_name(alias) {
        return Err(Error::usage(format!("--link {text:?}: it is CONTAINER[:NAME]")));
    }
    let id = store.find_container(named).context(|| format!("--link {text:?}"))?.id;
    let addresses: Vec<_> = attachments(&id)?.into_iter().flat_map(|one| one.addresses).collect();
    if addresses.is_empty() {
        return Err(Error::invalid(format!("--link {text:?}: {named} is on no network, or does not run")));
    }
    Ok(addresses.into_iter().map(|address| (alias.to_owned(), Some(address.ip))).collect())
}

/// Where another container's names are kept.
fn hosts_of(store: &Store, named: &str) -> Option<PathBuf> {
    let hosts = store.find_container(named).ok()?.path.join("hosts");
    hosts.is_file().then_some(hosts)
}

/// What is published: what `-p` names, and with `-P` what is exposed and not named.
fn ports(flags: &Flags, config: &ProcessConfig) -> Result<Vec<Asked>> {
    let mut all = flags.publish.iter().map(|text| Asked::parse(text)).collect::<Result<Vec<_>>>()?;
    flags.expose.iter().try_for_each(|text| ports::check_exposed(text))?;
    if flags.publish_all {
        let image = config.exposed_ports.iter().flatten().map(|(port, _)| port);
        for text in image.chain(&flags.expose) {
            let asked = Asked::exposed(text)?;
            if !all.iter().any(|other| other.covers(&asked)) {
                all.push(asked);
            }
        }
    }
    Ok(all)
}

/// `NAME:ADDRESS`, `NAME:host-gateway`, or with `=` in place of the first colon.
fn extra_host(text: &str) -> Result<(String, Option<Ip>)> {
    let wrong = |why: &str| Error::usage(format!("--add-host {text:?}: {why}"));
    let at = text.find(['=', ':']).ok_or_else(|| wrong("it is NAME:ADDRESS"))?;
    let (name, ip) = (&text[..at], &text[at + 1..]);
    if !is_host_name(name) {
        return Err(wrong("the name is of letters, digits, - . and _"));
    }
    let ip = match ip {
        "host-gateway" => None,
        ip => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            Some(Ip::parse(bare).map_err(|e| wrong(&e.to_string()))?)
        }
    };
    Ok((name.to_owned(), ip))
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (1..=253).contains(&name.len()) && name.bytes().all(plain)
}

/// `02:42:0a:53:00:02`.
fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let parts: Vec<Option<u8>> = text
        .split(':')
        .map(|part| {
            let hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| hex)
        })
        .collect();
    let read: Option<Vec<u8>> = parts.into_iter().collect();
    match read.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) {
        Some(mac) if mac[0] & 1 == 0 && mac != [0; 6] => Ok(mac),
        _ => Err(Error::usage(format!("invalid MAC address: {text}"))),
    }
}

impl Plan {
    /// What cannot be with this network is refused, and nothing dropped in silence.
    fn check(&self, word: &str, flags: &Flags, rootless: bool) -> Result<()> {
        let resolve = self.resolve();
        resolve.check()?;
        if let Some(mac) = &self.mac {
            parse_mac(mac)?;
        }
        if let Some(alias) = self.aliases.iter().find(|a| !is_host_name(a)) {
            return Err(Error::usage(format!("--network-alias {alias:?}: it is no host name")));
        }
        for (ip, v6, flag) in [(&flags.ip, false, "--ip"), (&flags.ip6, true, "--ip6")] {
            if ip.as_deref().is_some_and(|ip| Ip::parse(ip).is_ok_and(|ip| ip.is_v6() != v6)) {
                return Err(Error::usage(format!("{flag}: it is of the other family")));
            }
        }
        let asks = [
            ("-p", !flags.publish.is_empty()),
            ("-P", flags.publish_all),
            ("--ip", flags.ip.is_some()),
            ("--ip6", flags.ip6.is_some()),
            ("--mac-address", flags.mac_address.is_some()),
            ("--network-alias", !flags.network_alias.is_empty()),
        ];
        let asked = asks.iter().find(|(_, said)| *said).map(|(flag, _)| *flag);
        match (&self.way, asked) {
            (Way::Bridge(_), _) | (_, None) => {}
            (Way::Nothing, Some(flag)) if self.by_default => {
                return Err(Error::unsupported(match rootless {
                    true => format!(
                        "{flag} needs a network: an ordinary user's is carried by pasta or slirp4netns, which takes one of them installed and /dev/net/tun for everybody to use"
                    ),
                    false => format!("{flag} needs a network: without CAP_NET_ADMIN there is none"),
                }));
            }
            (Way::Program(program), Some(flag)) => program.check(flag)?,
            (Way::Nothing, Some(flag)) => {
                return Err(Error::usage(format!("{flag} does not go with --network {word}")));
            }
        }
        let gateway = self.hosts.iter().find(|(_, ip)| ip.is_none());
        match gateway {
            Some((name, _)) if !matches!(self.way, Way::Bridge(_)) => Err(Error::usage(format!(
                "--add-host {name}:host-gateway: with --network {word} the host is behind no gateway"
            ))),
            _ => Ok(()),
        }
    }

    fn resolve(&self) -> Resolve<'_> {
        Resolve { servers: &self.servers, search: &self.search, options: &self.options }
    }

    /// Whether its network namespace is one of its own, made for it.
    pub(crate) fn makes_namespace(&self) -> bool {
        self.own
    }

    /// Whether there is something to attach it to, which takes [`Plan::attach`].
    pub(crate) fn attaches(&self) -> bool {
        self.way != Way::Nothing
    }

    /// Where its /etc/hosts is, when it is one that is kept up to date.
    pub(crate) fn hosts_file(&self, dir: &Path) -> Option<PathBuf> {
        matches!(self.way, Way::Bridge(_)).then(|| dir.join("hosts")).or_else(|| self.shared.clone())
    }

    /// Its /etc/hosts, when nobody else is in it.
    pub(crate) fn hosts_text(&self, hostname: &str) -> String {
        names::base(hostname, &self.extra_hosts(None))
    }

    /// Its /etc/resolv.conf, by the host's as it is now.
    pub(crate) fn resolv_text(&self) -> String {
        self.resolve().text(&names::host_resolv(), self.own)
    }

    fn extra_hosts(&self, gateway: Option<Ip>) -> String {
        let lines =
            self.hosts.iter().filter_map(|(name, ip)| Some(format!("{}\t{name}\n", (*ip).or(gateway)?)));
        lines.collect()
    }

    /// For people.
    pub(crate) fn json(&self) -> Value {
        let (bridge, program) = match &self.way {
            Way::Nothing => ("", ""),
            Way::Bridge(None) => (DEFAULT, ""),
            Way::Bridge(Some(network)) => (network.name.as_str(), ""),
            Way::Program(program) => ("", program.name()),
        };
        let ports: Vec<String> = self.ports.iter().map(Asked::text).collect();
        object(&[
            ("bridge", &bridge),
            ("program", &program),
            ("ports", &ports),
            ("aliases", &self.aliases),
            ("mac", &self.mac.clone().unwrap_or_default()),
        ])
    }

    fn hostname(&self, id: &str) -> String {
        self.hostname.clone().unwrap_or_else(|| short(id).to_owned())
    }
}

/// Of the addresses that were asked for, the one that is of a subnet.
fn asked_of(ips: &[Ip], subnet: Subnet) -> Option<Ip> {
    ips.iter().copied().find(|ip| ip.is_v6() == subnet.base.is_v6())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_added_is_a_name_and_an_address() {
        let read = |text: &str| extra_host(text).map(|(name, ip)| (name, ip.map(|ip| ip.to_string())));
        assert_eq!(read("a:1.2.3.4").unwrap(), ("a".into(), Some("1.2.3.4".into())));
        assert_eq!(read("a=fd00::1").unwrap(), ("a".into(), Some("fd00::1".into())));
        assert_eq!(read("a:[fd00::1]").unwrap(), ("a".into(), Some("fd00::1".into())));
        assert_eq!(read("host:host-gateway").unwrap(), ("host".into(), None));
        for bad in ["", "a", ":1.2.3.4", "a b:1.2.3.4", "a\n:1.2.3.4", "a:1.2.3", "a:x"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hardware_address_is_that_of_one_machine() {
        assert_eq!(parse_mac("02:42:0a:53:00:02").unwrap(), [2, 0x42, 0x0a, 0x53, 0, 2]);
        for bad in [
            "",
            "02:42:0a:53:00",
            "02:42:0a:53:00:02:03",
            "x2:42:0a:53:00:02",
            "03:42:0a:53:00:02",
            "2:42:a:53:0:2",
            "00:00:00:00:00:00",
            "+2:42:0a:53:00:02",
        ] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
