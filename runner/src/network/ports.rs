//! Published ports: what `-p` says, and which ports of the host that comes to. They stay bound for as long as they are
//! published: see [`super::holder`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use coracle_sys::json::{self, Value, Wrong};
use coracle_sys::{Context, Error, Kind, Result, read_json};

use super::address::{Ip, object};
use super::holder::{not_free, take};

/// What is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl Protocol {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// As IP counts them.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl json::Read for Protocol {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = Self::parse(&json::text(value)?).ok_or_else(|| Wrong::new("it is tcp or udp"))?;
        Ok(())
    }
}

/// A port of the host that leads to one inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) host_ip: Ip,
    pub(crate) host: u16,
    pub(crate) inside: u16,
    pub(crate) protocol: Protocol,
}

read_json!(Port {
    host_ip: must "hostIp",
    host: must "hostPort",
    inside: must "containerPort",
    protocol: must "protocol",
});

impl Port {
    pub(crate) fn json(&self) -> Value {
        object(&[
            ("hostIp", &self.host_ip),
            ("hostPort", &u64::from(self.host)),
            ("containerPort", &u64::from(self.inside)),
            ("protocol", &self.protocol.name()),
        ])
    }

    /// `0.0.0.0:8080`, `[::]:8080`.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip.0, self.host)
    }

    /// Whether not both can be had.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        let one = self.host_ip == other.host_ip || self.host_ip.is_any() || other.host_ip.is_any();
        let family = self.host_ip.is_v6() == other.host_ip.is_v6();
        self.protocol == other.protocol && self.host == other.host && family && one
    }
}

/// First and last.
type Range = (u16, u16);

/// What one `-p` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// One address of the host; else all.
    ip: Option<Ip>,
    /// Ports of the host; any that is free where it is not said.
    host: Option<Range>,
    inside: Range,
    protocol: Protocol,
}

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let read = |word: &str| word.parse::<u16>().ok().filter(|n| *n > 0 && digits(word));
    let (first, last) = (read(first)?, read(last)?);
    (first <= last).then_some((first, last))
}

impl Asked {
    /// `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, as docker reads it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::usage(format!("-p {text:?}: {why}"));
        let (rest, word) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let lower = word.to_ascii_lowercase();
        let protocol =
            Protocol::parse(&lower).ok_or_else(|| wrong(format!("invalid proto: {word} (tcp or udp)")))?;
        let (rest, inside) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((rest, inside)) => (Some(rest), inside),
        };
        let (ip, host) = match rest {
            None => (None, ""),
            Some(rest) => match rest.rsplit_once(':') {
                None => (None, rest),
                Some((ip, host)) => (Some(ip), host),
            },
        };
        let inside = range(inside).ok_or_else(|| wrong(format!("invalid containerPort: {inside}")))?;
        let host = match host {
            "" | "0" => None,
            host => Some(range(host).ok_or_else(|| wrong(format!("invalid hostPort: {host}")))?),
        };
        let ip = match ip {
            None | Some("") => None,
            Some(ip) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                Some(Ip::parse(bare).map_err(|e| wrong(e.to_string()))?)
            }
        };
        if let Some((first, last)) = host
            && last - first != inside.1 - inside.0
            && inside.0 != inside.1
        {
            return Err(wrong("invalid ranges specified for container and host Ports".to_owned()));
        }
        Ok(Self { ip, host, inside, protocol })
    }

    /// `-P` of an exposed port, or of a range of them: `80/tcp`.
    pub(crate) fn exposed(text: &str) -> Result<Self> {
        match Self::parse(text) {
            Ok(asked) if asked.host.is_none() && asked.ip.is_none() => Ok(asked),
            _ => Err(Error::usage(format!("invalid port format for --expose: {text}"))),
        }
    }

    /// The host's address, its ports, those inside, and whether it is UDP.
    pub(crate) fn parts(&self) -> super::reading::Published {
        (self.ip.map(|ip| ip.0), self.host, self.inside, self.protocol == Protocol::Udp)
    }

    /// As it was typed, more or less.
    pub(crate) fn text(&self) -> String {
        let ip = self.ip.map_or(String::new(), |ip| format!("{ip} "));
        let host = self.host.map_or("any".to_owned(), |(first, last)| format!("{first}-{last}"));
        let (first, last) = self.inside;
        format!("{ip}{host} -> {first}-{last}/{}", self.protocol.name())
    }

    /// As pasta has it on its command line, if it is of this protocol: `127.0.0.1/8080:80`.
    pub(crate) fn for_pasta(&self, udp: bool) -> Option<Result<String>> {
        if udp != (self.protocol == Protocol::Udp) {
            return None;
        }
        let span =
            |(first, last): Range| if first == last { first.to_string() } else { format!("{first}-{last}") };
        Some(match self.host {
            Some(host) if host.1 - host.0 == self.inside.1 - self.inside.0 => {
                let ip = self.ip.map_or(String::new(), |ip| format!("{ip}/"));
                Ok(format!("{ip}{}:{}", span(host), span(self.inside)))
            }
            _ => Err(Error::unsupported("-p: with pasta the port of the host has to be said")),
        })
    }

    /// Whether it publishes all of what the other one does.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.inside.0 <= other.inside.0 && self.inside.1 >= other.inside.1
    }
}

/// Ports that were found for what was asked, and are bound.
#[derive(Default)]
pub(crate) struct Claimed {
    pub(crate) ports: Vec<Port>,
    pub(crate) sockets: Vec<OwnedFd>,
}

/// As many are held; of more it is only seen that they can be had.
const HELD: usize = 256;

/// Find a port for each that is asked for. `taken` are those of other containers, with their names.
pub(crate) fn claim(asked: &[Asked], v6: bool, taken: &[(String, Port)]) -> Result<Claimed> {
    let mut claimed = Claimed::default();
    for one in asked {
        let all = [Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
        let ips = match &one.ip {
            Some(ip) if ip.is_v6() && !v6 => {
                return Err(Error::usage(format!("-p {ip}: the network has no IPv6")));
            }
            Some(ip) => std::slice::from_ref(ip),
            None => &all[..if v6 { 2 } else { 1 }],
        };
        for inside in one.inside.0..=one.inside.1 {
            let candidates = match one.host {
                None => None,
                Some((first, last)) if one.inside.0 == one.inside.1 => Some((first, last)),
                Some((first, _)) => {
                    let host = first + (inside - one.inside.0);
                    Some((host, host))
                }
            };
            let port = Port { host_ip: ips[0], host: 0, inside, protocol: one.protocol };
            one_of(candidates, port, ips, taken, &mut claimed)?;
        }
    }
    Ok(claimed)
}

/// The first candidate that can be had at all addresses.
fn one_of(
    candidates: Option<Range>,
    wanted: Port,
    ips: &[Ip],
    taken: &[(String, Port)],
    claimed: &mut Claimed,
) -> Result<()> {
    let tries = candidates.map_or(64, |(first, last)| u32::from(last - first) + 1);
    let mut refused = None;
    for n in 0..tries {
        let mut host = candidates.map_or(0, |(first, _)| first + n as u16);
        let (mut ports, mut sockets) = (Vec::new(), Vec::new());
        let got: Result<()> = ips.iter().try_for_each(|ip| {
            let mut port = Port { host_ip: *ip, host, ..wanted };
            let allocated = |port: &Port| {
                let theirs = taken.iter().find(|(_, p)| p.excludes(port)).map(|(name, _)| name.clone());
                let ours = || claimed.ports.iter().find(|p| p.excludes(port)).map(|_| "this one".to_owned());
                theirs.or_else(ours).map_or(Ok(()), |name| Err(not_free(port, &format!("container {name}"))))
            };
            if host != 0 {
                allocated(&port)?;
            }
            let (socket, bound) = take(&port)?;
            (host, port.host) = (bound, bound);
            allocated(&port)?;
            ports.push(port);
            sockets.push(socket);
            Ok(())
        });
        match got {
            Ok(()) => {
                claimed.ports.extend(ports);
                let room = HELD.saturating_sub(claimed.sockets.len());
                claimed.sockets.extend(sockets.into_iter().take(room));
                return Ok(());
            }
            Err(e) if e.kind() == Kind::Busy => refused = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(refused.unwrap_or_else(|| Error::new(Kind::Busy, "all ports are allocated")))
}

/// What `-p` asks for, a port inside each, as docker tells it: `80/tcp`, and the host's address and port, empty where they
/// are not said. Words that are no `-p` ask for nothing.
pub(crate) fn bindings(publish: &[String]) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for asked in publish.iter().filter_map(|text| Asked::parse(text).ok()) {
        let ip = asked.ip.map_or(String::new(), |ip| ip.to_string());
        for port in asked.inside.0..=asked.inside.1 {
            let host = match asked.host {
                None => String::new(),
                // One of several that is free.
                Some((first, last)) if asked.inside.0 == asked.inside.1 && first < last => {
                    format!("{first}-{last}")
                }
                Some((first, _)) => (u32::from(first) + u32::from(port - asked.inside.0)).to_string(),
            };
            all.push([format!("{port}/{}", asked.protocol.name()), ip.clone(), host]);
        }
    }
    all
}

/// `80/tcp`, `80-90/udp`: one that an image or `--expose` names.
pub(crate) fn check_exposed(text: &str) -> Result<()> {
    Asked::exposed(text).map(drop).context(|| "--expose")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let asked = Asked::parse(text).unwrap();
        let ip = asked.ip.map_or(String::new(), |ip| format!("{ip} "));
        format!("{ip}{:?} {:?} {}", asked.host, asked.inside, asked.protocol.name())
    }

    #[test]
    fn p_names_an_address_ports_and_a_protocol() {
        for (text, means) in [
            ("80", "None (80, 80) tcp"),
            ("8080:80", "Some((8080, 8080)) (80, 80) tcp"),
            (":80", "None (80, 80) tcp"),
            ("53:53/udp", "Some((53, 53)) (53, 53) udp"),
            ("53:53/UDP", "Some((53, 53)) (53, 53) udp"),
            ("127.0.0.1:8080:80", "127.0.0.1 Some((8080, 8080)) (80, 80) tcp"),
            ("127.0.0.1::80", "127.0.0.1 None (80, 80) tcp"),
            ("[::1]:8080:80", "::1 Some((8080, 8080)) (80, 80) tcp"),
            ("8000-8010:80-90", "Some((8000, 8010)) (80, 90) tcp"),
            ("8000-8010:80", "Some((8000, 8010)) (80, 80) tcp"),
            ("80-90", "None (80, 90) tcp"),
        ] {
            assert_eq!(shown(text), means, "{text}");
        }
        for bad in [
            "",
            "x",
            "0",
            "65536",
            "80:",
            "x:80",
            "8080:80/icmp",
            "8080:80/",
            "1.2.3:1:2",
            "8000-8010:80-85",
            "90-80:1",
            "-1:80",
            "+1:80",
            "80-",
            "::1:80:80x",
            "1:2:3:4:5:80",
            "127.0.0.1:80:",
            "8080:80/tcp/udp",
        ] {
            assert!(Asked::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_0_of_the_host_is_any_that_is_free() {
        for (text, same) in [("0:80", ":80"), ("127.0.0.1:0:80/udp", "127.0.0.1::80/udp")] {
            assert_eq!(Asked::parse(text).unwrap(), Asked::parse(same).unwrap(), "{text}");
        }
        assert!(Asked::parse("0-5:80-85").is_err());
    }

    #[test]
    fn what_p_asks_for_is_told_port_by_port() {
        let told = |text: &str| -> Vec<String> {
            bindings(&[text.to_owned()]).iter().map(|b| b.join(" ")).collect()
        };
        assert_eq!(told("8080:80"), ["80/tcp  8080"]);
        assert_eq!(told("127.0.0.1::53/udp"), ["53/udp 127.0.0.1 "]);
        assert_eq!(told("9000-9001:80-81"), ["80/tcp  9000", "81/tcp  9001"]);
        assert_eq!(told("9000-9002:80"), ["80/tcp  9000-9002"]);
        assert_eq!(told("65535:65535").len(), 1);
        assert!(told("no port").is_empty());
    }

    #[test]
    fn what_is_exposed_has_no_port_of_the_host() {
        assert!(Asked::exposed("80").is_ok() && Asked::exposed("80-90/udp").is_ok());
        assert!(Asked::exposed("80:80").is_err() && Asked::exposed("x").is_err());
        let asked = |text| Asked::parse(text).unwrap();
        assert!(asked("8000-8010:80-90").covers(&asked("85")));
        assert!(!asked("80").covers(&asked("80/udp")));
    }

    #[test]
    fn a_port_is_had_once_and_the_next_of_a_range_after_it() {
        let found = |list: &[&str], taken: &[(String, Port)]| {
            let asked: Vec<_> = list.iter().map(|t| Asked::parse(t).unwrap()).collect();
            claim(&asked, false, taken)
        };
        let first = found(&["127.0.0.1::80"], &[]).unwrap();
        let port = first.ports[0];
        assert!(port.host != 0 && first.sockets.len() == 1);
        // This process has it.
        let again = format!("127.0.0.1:{}:80", port.host);
        let e = found(&[&again], &[]).map(|_| ()).unwrap_err();
        let wanted = format!("Bind for 127.0.0.1:{} failed: port is already allocated (by the ", port.host);
        assert!(e.to_string().starts_with(&wanted), "{e}");
        drop(first);
        // Another container has it; the other protocol is free.
        let taken = [("web".to_owned(), port)];
        let e = found(&[&again], &taken).map(|_| ()).unwrap_err().to_string();
        assert!(e.ends_with("(by the container web)"), "{e}");
        assert!(found(&[&format!("{again}/udp")], &taken).is_ok());
        let range = format!("127.0.0.1:{}-{}:80", port.host, port.host + 20);
        let next = found(&[&range], &taken).unwrap().ports[0].host;
        assert!(next > port.host && next <= port.host + 20);
        // One call asks for it twice.
        assert!(found(&[&again, &again], &[]).is_err());
    }
}
