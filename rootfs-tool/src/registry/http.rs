//! HTTP towards one registry: plain or TLS, redirects without the registry's credentials, errors in one line.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result};
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use ureq::{Agent, Body, SendBody};

use super::endpoints::is_loopback;
use super::insist::Failure;
use super::pace::{self, Pace};
use super::{proxy, tls};

/// Redirects of one request.
const HOPS: usize = 10;
/// Answers that are read whole, but for manifests and blobs.
pub(super) const SMALL: u64 = 4 << 20;

/// What is said of a name without an address.
pub(super) const UNRESOLVED: &str = "the host's name does not resolve";

/// The connections of one registry, and of the hosts that it sends us on to.
pub(super) struct Http {
    /// The registry's host, with its port.
    pub(super) host: String,
    /// Plain HTTP is allowed, and a certificate need not be good.
    insecure: bool,
    /// What the host turned out to speak.
    scheme: Mutex<Option<&'static str>>,
    agents: Mutex<HashMap<(String, bool), Connections>>,
    /// Proxies that are named elsewhere than in the environment.
    proxies: Vec<proxy::Named>,
}

/// The connections to one host.
#[derive(Clone)]
struct Connections {
    agent: Agent,
    /// The proxy that they go through.
    proxy: Option<String>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// What was asked, for errors: `GET https://...`.
    pub(super) asked: String,
    /// The address that answered, after all redirects.
    pub(super) uri: Uri,
}

/// A request, but for the registry's address.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// What is sent, and its length.
    pub(super) body: Option<(Box<dyn Read + 'a>, u64)>,
}

impl Ask<'_> {
    pub(super) fn new(method: Method) -> Self {
        Self { method, headers: Vec::new(), body: None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How long nothing may come, in seconds: CORACLE_HTTP_TIMEOUT, else 30.
pub(super) fn patience() -> Duration {
    let set = std::env::var("CORACLE_HTTP_TIMEOUT").ok().and_then(|v| v.parse().ok());
    Duration::from_secs(set.filter(|s| *s > 0).unwrap_or(30))
}

impl Http {
    pub(super) fn new(host: &str, insecure: bool) -> Self {
        let host = host.to_owned();
        Self { host, insecure, scheme: Mutex::new(None), agents: Mutex::default(), proxies: Vec::new() }
    }

    /// Towards no registry: for whole addresses, by these proxies.
    pub(super) fn by(proxies: Vec<proxy::Named>) -> Self {
        Self { proxies, ..Self::new("", false) }
    }

    /// May credentials go over plain HTTP, as the user or the configuration allows it for this registry?
    pub(super) fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Ask the registry for a path that begins with a slash, with its query.
    pub(super) fn ask(&self, path: &str, ask: Ask<'_>) -> Result<Answer, Failure> {
        self.go(&format!("{}://{}{path}", self.scheme()?, self.host), ask)?.settled()
    }

    /// What the host speaks, found out by a request that can be made twice where plain HTTP is allowed.
    fn scheme(&self) -> Result<&'static str, Failure> {
        if !self.insecure {
            return Ok("https");
        }
        let mut known = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = *known {
            return Ok(scheme);
        }
        let ping = |scheme| self.go(&format!("{scheme}://{}/v2/", self.host), Ask::new(Method::GET));
        let scheme = match ping("https") {
            Ok(_) => "https",
            Err(_) => ping("http").map(|_| "http")?,
        };
        Ok(*known.insert(scheme))
    }

    /// Ask an address. Redirects of what has no body are followed; credentials are for the host that is asked
    /// first, and stay with it.
    pub(super) fn go(&self, url: &str, ask: Ask<'_>) -> Result<Answer, Failure> {
        let mut uri = parse(url)?;
        let first = origin(&uri);
        let Ask { method, headers, mut body } = ask;
        for _ in 0..=HOPS {
            let asked = format!("{method} {uri}");
            let mut request = Request::builder().method(method.clone()).uri(uri.clone());
            for (name, value) in &headers {
                if *name == AUTHORIZATION && origin(&uri) != first {
                    continue;
                }
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| Error::invalid(format!("{asked}: the header {name} would not be one")))?;
                value.set_sensitive(*name == AUTHORIZATION);
                request = request.header(name, value);
            }
            let Connections { agent, proxy } = self.connections(&uri)?;
            let sent = match &mut body {
                Some((reader, size)) => {
                    let mut reader = Exactly { inner: reader, left: *size };
                    let request =
                        request.header(CONTENT_LENGTH, *size).body(SendBody::from_reader(&mut reader));
                    agent.run(request.map_err(|e| unsendable(&asked, &e))?)
                }
                None => agent.run(request.body(()).map_err(|e| unsendable(&asked, &e))?),
            };
            let answer = sent.map_err(|e| match proxy {
                Some(proxy) => broken(&format!("{asked} through the proxy {proxy}"), e),
                None => broken(&asked, e),
            })?;
            let (parts, answer) = answer.into_parts();
            let status = parts.status.as_u16();
            let next = parts.headers.get(LOCATION).and_then(|l| l.to_str().ok());
            if let (301 | 302 | 303 | 307 | 308, Some(next), None) = (status, next, &body)
                && matches!(method, Method::GET | Method::HEAD)
            {
                let to = join(&uri, next)?;
                if uri.scheme_str() == Some("https") && to.scheme_str() == Some("http") && !self.insecure {
                    return Err(Error::new(
                        Kind::Denied,
                        format!("{asked}: it leads from TLS to plain HTTP, {}", harmless(next)),
                    )
                    .into());
                }
                uri = to;
                continue;
            }
            return Ok(Answer { status, headers: parts.headers, body: answer, asked, uri });
        }
        Err(Error::invalid(format!("{method} {url}: it is redirected more than {HOPS} times")).into())
    }

    fn connections(&self, uri: &Uri) -> Result<Connections> {
        let authority = origin(uri);
        let key = |insecure| (format!("{}://{authority}", uri.scheme_str().unwrap_or_default()), insecure);
        // What is allowed for the registry is not for the hosts that it names.
        let insecure = self.insecure && (authority == self.host || is_loopback(&authority));
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = agents.get(&key(insecure)) {
            return Ok(known.clone());
        }
        let (proxy, name) = proxy::of(uri, &self.proxies)?.unzip();
        let limit = Some(patience());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(limit)
            .timeout_connect(limit)
            // Headers that come byte by byte.
            .timeout_recv_response(Some(patience() * 2))
            .timeout_per_read(limit)
            .timeout_per_write(limit)
            .input_buffer_size(256 << 10)
            .output_buffer_size(256 << 10)
            .max_idle_connections_per_host(8)
            .proxy(proxy)
            .tls_config(tls::config(&authority, !insecure)?)
            .build();
        let made = Connections { agent: Agent::new_with_config(config), proxy: name };
        agents.insert(key(insecure), made.clone());
        Ok(made)
    }
}

/// So many bytes: who is promised more than comes would wait for ever.
struct Exactly<R> {
    inner: R,
    left: u64,
}

/// So many bytes are missing.
#[derive(Debug)]
struct Short(u64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "what is to be sent ends {} bytes too early", self.0)
    }
}

impl std::error::Error for Short {}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let most = self.left.min(buf.len() as u64) as usize;
        let n = self.inner.read(&mut buf[..most])?;
        self.left -= n as u64;
        match n {
            0 if most > 0 => Err(std::io::Error::other(Short(self.left))),
            n => Ok(n),
        }
    }
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer, unless it is one that may pass.
    pub(super) fn settled(self) -> Result<Self, Failure> {
        if self.status == 429 || self.status >= 500 && self.status != 501 {
            let after = self.retry_after();
            return Err(Failure::Passing(self.error(), after));
        }
        Ok(self)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The whole body, when it is no longer than `most`.
    pub(super) fn bytes(&mut self, most: u64) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        let mut body = self.body.as_reader().take(most + 1);
        let mut pace = Pace::begin(0);
        let mut part = [0; 16 << 10];
        loop {
            let failed = |why: &str| {
                Failure::Passing(Error::new(Kind::System, format!("{}: {why}", self.asked)), None)
            };
            let n = body.read(&mut part).map_err(|e| failed(&e.to_string()))?;
            if n == 0 {
                break;
            }
            out.extend_from_slice(&part[..n]);
            if !pace.goes_on(out.len() as u64) {
                return Err(failed(pace::TOO_SLOW));
            }
        }
        if out.len() as u64 > most {
            return Err(
                Error::invalid(format!("{}: the answer has more than {most} bytes", self.asked)).into()
            );
        }
        Ok(out)
    }

    /// What the registry says went wrong: the errors of the distribution specification, or the status.
    pub(super) fn error(mut self) -> Error {
        let status = self.status;
        let said = self.bytes(64 << 10).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
        let first = &value["errors"][0];
        let word = |key: &str| first[key].as_str().map(|s| harmless(s.get(..300).unwrap_or(s)));
        let why = match (word("code"), word("message")) {
            (Some(code), Some(message)) if !message.is_empty() => format!("{message} ({code})"),
            (Some(code), _) => code,
            _ => reason(status).to_owned(),
        };
        let kind = match status {
            404 => Kind::NotFound,
            401 | 403 => Kind::Denied,
            405 | 501 => Kind::Unsupported,
            429 | 500.. => Kind::System,
            _ => Kind::Invalid,
        };
        let hint = match status {
            401 => format!(" (log in first: rootfs-tool login {})", origin(&self.uri)),
            _ => String::new(),
        };
        Error::new(kind, format!("{}: {status}: {why}{hint}", self.asked))
    }
}

fn reason(status: u16) -> &'static str {
    let known = ureq::http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    known.unwrap_or("the registry does not say why")
}

fn parse(url: &str) -> Result<Uri> {
    let bad = |why: &str| Error::invalid(format!("ask {:?}: {why}", harmless(url)));
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(bad("only http and https are spoken"));
    }
    url.parse::<Uri>().ok().filter(|uri| uri.host().is_some()).ok_or_else(|| bad("it is no address"))
}

/// An address that is relative to another.
pub(super) fn join(base: &Uri, next: &str) -> Result<Uri> {
    if next.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) {
        return parse(next);
    }
    let scheme = base.scheme_str().unwrap_or("https");
    let whole = match next {
        n if n.starts_with("//") => format!("{scheme}:{n}"),
        n if n.starts_with('/') => format!("{scheme}://{}{n}", origin(base)),
        n if n.starts_with('?') => format!("{scheme}://{}{}{n}", origin(base), base.path()),
        n => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{}{folder}/{n}", origin(base))
        }
    };
    parse(&whole)
}

/// Host and port.
pub(super) fn origin(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn unsendable(asked: &str, e: &ureq::http::Error) -> Failure {
    Error::invalid(format!("{asked}: {e}")).into()
}

/// What went wrong below HTTP. A connection may come back; a name and a certificate stay what they are.
fn broken(asked: &str, e: ureq::Error) -> Failure {
    let why = match &e {
        ureq::Error::Timeout(_) => format!("nothing came for {} s", patience().as_secs()),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        // musl's words for every failure of a lookup.
        ureq::Error::Io(io) if io.to_string().contains("lookup address") => UNRESOLVED.to_owned(),
        ureq::Error::Io(io) => io.to_string(),
        // "proxy server responded 403/403"
        ureq::Error::ConnectProxyFailed(why) => match why.rsplit_once('/') {
            Some((_, "407")) => "the proxy wants another name and password (407)".to_owned(),
            Some((_, status)) => format!("the proxy refuses it ({status})"),
            None => why.clone(),
        },
        other => other.to_string(),
    };
    let error = Error::new(Kind::System, format!("{asked}: {}", harmless(&why)));
    match e {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => Failure::Lasting(error),
        // What was to be sent is not what it was said to be.
        ureq::Error::Io(io) if io.get_ref().is_some_and(|e| e.is::<Short>()) => {
            Failure::Lasting(error.with_kind(Kind::Invalid))
        }
        ureq::Error::Io(io) if io.to_string().contains("lookup address") => Failure::Lasting(error),
        ureq::Error::Io(io) if io.get_ref().is_some_and(|e| e.is::<rustls::Error>()) => {
            Failure::Lasting(error.with_kind(Kind::Denied))
        }
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => {
            Failure::Passing(error, None)
        }
        _ => Failure::Lasting(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_address_is_read_as_browsers_do_and_other_schemes_are_refused() {
        let base: Uri = "https://a.example:5/v2/x/blobs/uploads/1?state=2".parse().unwrap();
        for (next, whole) in [
            ("/v2/y", "https://a.example:5/v2/y"),
            ("2?q", "https://a.example:5/v2/x/blobs/uploads/2?q"),
            ("?q", "https://a.example:5/v2/x/blobs/uploads/1?q"),
            ("//b.example/z", "https://b.example/z"),
            ("http://b.example/z", "http://b.example/z"),
        ] {
            assert_eq!(join(&base, next).unwrap().to_string(), whole);
        }
        for bad in ["file:///etc/passwd", "ftp://x/y", "http://", "javascript:1", "/a b"] {
            assert!(join(&base, bad).is_err(), "{bad}");
        }
    }
}
