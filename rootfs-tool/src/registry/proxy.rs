//! Proxies, as the environment names them and docker's programs read it (Go's `http.ProxyFromEnvironment`):
//! HTTPS_PROXY for who is asked by TLS, HTTP_PROXY for who is not, NO_PROXY for who is asked directly, each in small
//! letters too. This machine itself is never behind one. The way through is CONNECT; SOCKS is not spoken.

use std::net::IpAddr;

use coracle_sys::print::harmless;
use coracle_sys::{Error, Result};
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// A proxy that is named elsewhere than in the environment: it goes before those.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// `http` or `https`: what is asked through it.
    pub(crate) scheme: String,
    /// The one host that is asked through it; all when there is none.
    pub(crate) host: Option<String>,
    /// Its address, or `DIRECT`.
    pub(crate) value: String,
    /// Where it is named, for errors.
    pub(crate) by: String,
}

/// The way to an address: a proxy and its name for errors, without what may be secret.
pub(super) fn of(uri: &Uri, named: &[Named]) -> Result<Option<(Proxy, String)>> {
    let tls = uri.scheme_str() == Some("https");
    let of_scheme = || named.iter().filter(|n| uri.scheme_str() == Some(&n.scheme));
    let of_host = of_scheme().find(|n| n.host.is_some() && n.host.as_deref() == uri.host());
    if let Some(named) = of_host.or_else(|| of_scheme().find(|n| n.host.is_none())) {
        return match named.value.is_empty() || named.value.eq_ignore_ascii_case("DIRECT") {
            true => Ok(None),
            false => read(&named.value, &named.by).map(Some),
        };
    }
    let (large, small) = if tls { ("HTTPS_PROXY", "https_proxy") } else { ("HTTP_PROXY", "http_proxy") };
    let set = |name| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let Some((variable, value)) = [large, small].into_iter().find_map(|name| Some((name, set(name)?))) else {
        return Ok(None);
    };
    let direct = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    if is_direct(&direct, host, uri.port_u16().unwrap_or(if tls { 443 } else { 80 })) {
        return Ok(None);
    }
    read(&value, variable).map(Some)
}

/// What the environment, or who else names one, says.
fn read(value: &str, variable: &str) -> Result<(Proxy, String)> {
    // The value may hold a password: it is not shown.
    let bad = |why: &str| Error::invalid(format!("read {variable}: {why}"));
    let proxy = Proxy::new(value).map_err(|_| bad("it is no address of a proxy"))?;
    if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return Err(bad(&format!("{} is not spoken, http and https are", proxy.protocol())));
    }
    let name = format!("{}:{}", harmless(proxy.host()), proxy.port());
    Ok((proxy, name))
}

/// Is a host asked directly? `list` is that of NO_PROXY: `*`, addresses, ranges of addresses, and domains with all
/// beneath them, or with a dot before them all beneath them alone; each but a range with a port, if at all.
fn is_direct(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let ip: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if let Some((net, bits)) = entry.split_once('/') {
            return ip.is_some_and(|ip| is_within(ip, net, bits));
        }
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, only)) if entry.parse::<IpAddr>().is_err() => (name, only.parse::<u16>().ok()),
            _ => (entry.as_str(), None),
        };
        if only.is_some_and(|only| only != port) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
        match name {
            "" => false,
            "*" => true,
            _ if ip.is_some() => name.parse().ok() == ip,
            _ if name.starts_with('.') => host.ends_with(name),
            _ => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    })
}

/// Is an address in `NET/BITS`?
fn is_within(ip: IpAddr, net: &str, bits: &str) -> bool {
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    // As 128 bits, the address at their upper end.
    let upper = |ip| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    let most = if net.is_ipv4() { 32 } else { 128 };
    if net.is_ipv4() != ip.is_ipv4() || bits > most {
        return false;
    }
    bits == 0 || (upper(ip) ^ upper(net)) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_directly_is_what_docker_s_programs_make_of_the_list() {
        for (list, host, direct) in [
            ("", "r.example", false),
            ("", "localhost", true),
            ("", "127.0.0.2", true),
            ("", "[::1]", true),
            ("*", "r.example", true),
            ("r.example", "r.example", true),
            ("R.Example", "r.EXAMPLE", true),
            ("example", "r.example", true),
            ("example", "rexample", false),
            (".example", "r.example", true),
            (".r.example", "r.example", false),
            ("*.example", "a.r.example", true),
            ("a.example, r.example ,b", "r.example", true),
            ("r.example:443", "r.example", true),
            ("r.example:5000", "r.example", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("0.0.0.1", "10.0.0.1", false),
            ("10.0.0.1:443", "10.0.0.1", true),
            ("10.0.0.0/8", "10.200.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/8", "10.example", false),
            ("fd00::/8", "[fd00::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]:443", "[fd00::1]", true),
            ("[fd00::1]:80", "[fd00::1]", false),
            ("::/0", "10.0.0.1", false),
            (",,", "r.example", false),
        ] {
            assert_eq!(is_direct(list, host, 443), direct, "{list:?} {host}");
        }
    }
}
