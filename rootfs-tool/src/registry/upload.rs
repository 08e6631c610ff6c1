//! Blobs on their way to a registry: what is there is not sent, what another repository has is mounted, what
//! broke off goes on where it did.

use std::io::Read;

use coracle_store::image::Descriptor;
use coracle_sys::{Error, Kind, Result};
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use ureq::http::{Method, Uri};

use super::auth::encode;
use super::client::{Place, Repository};
use super::http::{Answer, Ask, join, origin};
use super::insist::{self, Failure, insist};

/// What is no larger goes in one request.
const AT_ONCE: u64 = 4 << 20;
/// Breaks of one upload.
const BREAKS: u32 = 5;

/// How a blob came to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was there.
    Exists,
    /// From another repository of the same registry.
    Mounted(String),
    /// All of it was sent.
    Pushed,
}

/// Opens a blob at an offset.
pub(crate) type Bytes<'a> = &'a (dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>> + 'a);

impl Repository {
    /// Put a blob. `elsewhere` are repositories of the same registry that may have it.
    pub(crate) fn put_blob(&self, d: &Descriptor, elsewhere: &[String], bytes: Bytes<'_>) -> Result<Sent> {
        if self.has_blob(d)? {
            return Ok(Sent::Exists);
        }
        let place = self.own()?;
        let mut at = None;
        for from in elsewhere.iter().filter(|f| **f != place.path).take(3) {
            match self.begin(place, Some((d, from)))? {
                Begun::Mounted => return Ok(Sent::Mounted(from.clone())),
                // It is no error not to have it, and the upload may go there.
                Begun::Upload(to) => at = Some(to),
            }
        }
        let at = match at {
            Some(at) => at,
            None => match self.begin(place, None)? {
                Begun::Upload(at) => at,
                Begun::Mounted => return Ok(Sent::Exists),
            },
        };
        self.upload(place, at, d, bytes).map_err(|e| e.wrap(format!("send the blob {}", d.digest)))?;
        Ok(Sent::Pushed)
    }

    fn begin(&self, place: &Place, mount: Option<(&Descriptor, &str)>) -> Result<Begun> {
        let mut path = format!("/v2/{}/blobs/uploads/", place.path);
        let mut scope = self.scope(place);
        if let Some((d, from)) = mount {
            path.push_str(&format!("?mount={}&from={}", encode(&d.digest.to_string()), encode(from)));
            scope.push_str(&format!(" repository:{from}:pull"));
        }
        let ask = || Ok(Ask { body: Some((Box::new(std::io::empty()), 0)), ..Ask::new(Method::POST) });
        let answer = insist(|| place.client.auth.ask(&place.client.http, &path, &scope, ask))?;
        match answer.status {
            201 => Ok(Begun::Mounted),
            202 => Ok(Begun::Upload(location(&answer)?)),
            _ => Err(answer.error()),
        }
    }

    fn upload(&self, place: &Place, mut at: Uri, d: &Descriptor, bytes: Bytes<'_>) -> Result<()> {
        let mut sent = 0;
        let mut breaks = 0;
        while d.size > AT_ONCE && sent < d.size {
            let answer = self.part(place, &at, Method::PATCH, sent, d.size, bytes);
            match answer {
                Ok(answer) if answer.status == 202 || answer.status == 204 || answer.status == 201 => {
                    let got = received(&answer).unwrap_or(d.size);
                    if got > d.size {
                        return Err(Error::invalid(format!(
                            "{}: it has {got} bytes of {} that were to be sent",
                            answer.asked, d.size
                        )));
                    }
                    // Who takes all and keeps nothing is no further.
                    if got <= sent {
                        breaks += 1;
                    }
                    if breaks > BREAKS {
                        let why = format!("{}: it keeps nothing of what is sent", answer.asked);
                        return Err(Error::invalid(why));
                    }
                    sent = got;
                    at = location(&answer)?;
                }
                Ok(answer) if answer.status != 416 => return Err(answer.error()),
                other => {
                    let (e, asked) = match other {
                        Ok(answer) => (answer.error(), None),
                        Err(Failure::Passing(e, asked)) => (e, asked),
                        Err(Failure::Lasting(e)) => return Err(e),
                    };
                    breaks += 1;
                    if breaks > BREAKS {
                        return Err(e);
                    }
                    insist::wait(breaks - 1, asked);
                    // How much has it got?
                    let answer = insist(|| self.to(place, &at, || Ok(Ask::new(Method::GET))))?;
                    if answer.status != 204 && answer.status != 202 {
                        return Err(e);
                    }
                    sent = received(&answer).unwrap_or(0).min(d.size);
                    if answer.header(LOCATION).is_some() {
                        at = location(&answer)?;
                    }
                }
            }
        }
        let and = if at.query().is_some() { '&' } else { '?' };
        let last: Uri = format!("{at}{and}digest={}", encode(&d.digest.to_string()))
            .parse()
            .map_err(|_| Error::invalid("the registry names no address to send it to"))?;
        let answer = insist(|| self.part(place, &last, Method::PUT, sent, d.size, bytes))?;
        match answer.status {
            201 | 204 | 200 => Ok(()),
            _ => Err(answer.error()),
        }
    }

    /// Send the bytes from `from` on.
    fn part(
        &self,
        place: &Place,
        at: &Uri,
        method: Method,
        from: u64,
        size: u64,
        bytes: Bytes<'_>,
    ) -> Result<Answer, Failure> {
        self.to(place, at, || {
            let mut ask = Ask::new(method.clone()).header(CONTENT_TYPE, "application/octet-stream");
            if method == Method::PATCH {
                ask = ask.header(CONTENT_RANGE, format!("{from}-{}", size - 1));
            }
            let rest = size - from;
            let body: Box<dyn Read> = if rest == 0 { Box::new(std::io::empty()) } else { bytes(from)? };
            Ok(Ask { body: Some((body, rest)), ..ask })
        })
    }

    /// Ask an address that the registry gave: of itself with what proves who we are, of others without.
    fn to<'a>(
        &self,
        place: &Place,
        at: &Uri,
        ask: impl Fn() -> Result<Ask<'a>, Failure>,
    ) -> Result<Answer, Failure> {
        let http = &place.client.http;
        match at.path_and_query().filter(|_| origin(at) == http.host) {
            Some(path) => place.client.auth.ask(http, path.as_str(), &self.scope(place), ask),
            None => http.go(&at.to_string(), ask()?)?.settled(),
        }
    }
}

enum Begun {
    Mounted,
    Upload(Uri),
}

/// Where to send it.
fn location(answer: &Answer) -> Result<Uri> {
    let to = answer.header(LOCATION);
    let to = to.ok_or_else(|| Error::invalid(format!("{}: the answer has no Location", answer.asked)))?;
    let to = join(&answer.uri, to)?;
    if answer.uri.scheme_str() == Some("https") && to.scheme_str() == Some("http") {
        // A registry behind a proxy that ends TLS may not know better: its own host is asked as before.
        if to.authority() == answer.uri.authority() {
            return join(&answer.uri, to.path_and_query().map_or("/", |p| p.as_str()));
        }
        return Err(Error::new(Kind::Denied, format!("{}: it leads from TLS to plain HTTP", answer.asked)));
    }
    Ok(to)
}

/// How many bytes the registry has: `Range: 0-99`.
fn received(answer: &Answer) -> Option<u64> {
    let last: u64 = answer.header(RANGE)?.rsplit('-').next()?.trim().parse().ok()?;
    last.checked_add(1)
}
