//! A repository as the distribution specification has it: manifests, blobs, tags. Where mirrors are configured,
//! what they have comes from them.

use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use coracle_store::image::{Descriptor, media_type};
use coracle_store::ingest::Source;
use coracle_store::{Digest, Reference};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result};
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, LINK, RANGE};

use super::auth::Auth;
use super::blob::Resuming;
use super::credentials::{Credentials, Login};
use super::endpoints::{Endpoint, Endpoints};
use super::http::{Answer, Ask, Http, SMALL, join};
use super::insist::{Failure, insist};

/// Manifests are refused beyond this size, as registries do.
const MAX_MANIFEST: u64 = 4 << 20;
/// Names that a registry may list, the pages that it may spread them over, and the bytes of one name.
const MAX_NAMES: usize = 1_000_000;
const MAX_PAGES: usize = 10_000;
const MAX_NAME: usize = 512;

/// A registry.
pub(crate) struct Client {
    pub(super) http: Http,
    pub(super) auth: Auth,
}

impl Client {
    /// The registry at `host`, with the credentials that are for it.
    pub(crate) fn new(host: &str, insecure: bool, login: Option<super::Login>) -> Self {
        Self { http: Http::new(host, insecure), auth: Auth::new(login) }
    }

    /// [`Client::new`], of what the configuration says of an endpoint, and the user with `--tls-verify`.
    pub(super) fn of(endpoint: &Endpoint, tls_verify: Option<bool>, login: Option<super::Login>) -> Self {
        Self::new(&endpoint.host, tls_verify.map_or(endpoint.insecure, |verify| !verify), login)
    }

    /// Is it a registry, and do we get in?
    pub(crate) fn ping(&self) -> Result<()> {
        let answer = insist(|| self.auth.ask(&self.http, "/v2/", "", || Ok(Ask::new(Method::GET))))?;
        match answer.status {
            200..300 => Ok(()),
            _ => Err(answer.error()),
        }
    }

    /// The names of its repositories.
    pub(crate) fn catalog(&self) -> Result<Vec<String>> {
        self.list("/v2/_catalog?n=1000", "registry:catalog:*", "repositories")
    }

    /// A list that comes in pages: the header `Link` leads to the next (RFC 8288).
    pub(super) fn list(&self, first: &str, scope: &str, key: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        let mut path = first.to_owned();
        loop {
            if !seen.insert(path.clone()) {
                return Err(Error::invalid(format!(
                    "list {key}: the pages of {} go round in a circle",
                    self.http.host
                )));
            }
            let (page, next) = insist(|| {
                let mut answer = self.auth.ask(&self.http, &path, scope, || Ok(Ask::new(Method::GET)))?;
                if answer.status != 200 {
                    return Err(answer.error().into());
                }
                let bytes = answer.bytes(SMALL)?;
                Ok((bytes, next_page(&answer)?))
            })?;
            let page: serde_json::Value = serde_json::from_slice(&page).map_err(|_| {
                Error::invalid(format!("list {key}: the answer of {} is no JSON", self.http.host))
            })?;
            let page = page[key].as_array().into_iter().flatten().filter_map(|n| n.as_str());
            let before = names.len();
            names.extend(page.map(str::to_owned));
            let too_much = match (names.len(), seen.len()) {
                _ if names[before..].iter().any(|n| n.len() > MAX_NAME) => {
                    Some("a name that is none".to_owned())
                }
                (MAX_NAMES.., _) => Some(format!("more than {MAX_NAMES} names")),
                (_, MAX_PAGES..) => Some(format!("more than {MAX_PAGES} pages")),
                _ => None,
            };
            if let Some(what) = too_much {
                return Err(Error::invalid(format!("list {key}: {} has {what}", self.http.host)));
            }
            match next {
                Some(next) if names.len() > before => path = next,
                _ => return Ok(names),
            }
        }
    }
}

/// Where the next page is, as a path of the registry.
fn next_page(answer: &Answer) -> Result<Option<String>> {
    let Some(link) = answer.header(LINK) else { return Ok(None) };
    let next = link.split(',').find(|l| l.contains("rel=\"next\"") || l.contains("rel=next"));
    let Some(target) = next.and_then(|l| l.split_once('<')?.1.split_once('>')).map(|(t, _)| t) else {
        return Ok(None);
    };
    let to = join(&answer.uri, target)?;
    if to.authority() != answer.uri.authority() {
        return Err(Error::invalid(format!(
            "{}: the next page is on another host, {}",
            answer.asked,
            harmless(target)
        )));
    }
    Ok(to.path_and_query().map(|p| p.as_str().to_owned()))
}

/// One place that has a repository.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) path: String,
}

/// A repository, wherever it is to be had.
pub(crate) struct Repository {
    /// Mirrors, and the registry itself last.
    places: Vec<Place>,
    /// Which has answered.
    at: AtomicUsize,
    /// As it was named.
    pub(crate) name: String,
    /// What is asked for: `pull`, `pull,push`.
    actions: &'static str,
}

/// How a registry is spoken to, as it was typed.
#[derive(Clone, Default)]
pub(crate) struct Access {
    tls_verify: Option<bool>,
    login: Option<Login>,
}

impl Access {
    /// Of `--tls-verify` and `--creds`.
    pub(crate) fn new(tls_verify: Option<bool>, creds: Option<&str>) -> Result<Self> {
        let login = |creds: &str| match creds.split_once(':') {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                Ok(Login::Password { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err(Error::usage("--creds has the form USER:PASSWORD")),
        };
        Ok(Self { tls_verify, login: creds.map(login).transpose()? })
    }
}

impl From<Option<bool>> for Access {
    fn from(tls_verify: Option<bool>) -> Self {
        Self { tls_verify, login: None }
    }
}

impl Repository {
    /// To read from.
    pub(crate) fn to_pull(reference: &Reference, access: impl Into<Access>) -> Result<Self> {
        Self::open(reference, &access.into(), "pull", false)
    }

    /// To write to: no mirror is.
    pub(crate) fn to_push(reference: &Reference, access: impl Into<Access>) -> Result<Self> {
        Self::open(reference, &access.into(), "pull,push", true)
    }

    /// To delete from.
    pub(crate) fn to_delete(reference: &Reference, tls_verify: Option<bool>) -> Result<Self> {
        Self::open(reference, &tls_verify.into(), "delete,pull", true)
    }

    fn open(reference: &Reference, access: &Access, actions: &'static str, own: bool) -> Result<Self> {
        let mut endpoints = Endpoints::read()?.of(reference)?;
        endpoints.retain(|e| !own || !e.mirror);
        let credentials = Credentials::read()?;
        let place = |e: &Endpoint| {
            // What is typed is for the registry, not for who mirrors it.
            let login = match access.login.clone().filter(|_| !e.mirror) {
                Some(login) => Some(login),
                None => credentials.of(&e.host, &e.path)?,
            };
            Ok(Place { client: Client::of(e, access.tls_verify, login), path: e.path.clone() })
        };
        let full = reference.qualified();
        Ok(Self {
            places: endpoints.iter().map(place).collect::<Result<_>>()?,
            at: AtomicUsize::new(0),
            name: Reference { tag: None, digest: None, ..full }.to_string(),
            actions,
        })
    }

    /// The registry itself, and the path of the repository there.
    pub(super) fn own(&self) -> Result<&Place> {
        self.places.last().ok_or_else(|| Error::invalid(format!("use {}: it is nowhere", self.name)))
    }

    pub(super) fn scope(&self, place: &Place) -> String {
        format!("repository:{}:{}", place.path, self.actions)
    }

    /// Ask for a path below the repository, by `method`.
    pub(super) fn ask(&self, place: &Place, method: &Method, below: &str) -> Result<Answer, Failure> {
        let path = format!("/v2/{}/{below}", place.path);
        place.client.auth.ask(&place.client.http, &path, &self.scope(place), || Ok(Ask::new(method.clone())))
    }

    /// From the first place that has it, beginning where the last thing was found.
    fn anywhere<'a, T>(&'a self, mut get: impl FnMut(&'a Place) -> Result<T>) -> Result<T> {
        let first = self.at.load(Relaxed);
        let mut failure = None;
        for (n, place) in self.places.iter().enumerate().skip(first) {
            match get(place) {
                Ok(value) => {
                    self.at.store(n, Relaxed);
                    return Ok(value);
                }
                // The registry itself is the one to be believed, and is asked last.
                Err(e) => failure = Some(e),
            }
        }
        Err(failure.unwrap_or_else(|| Error::invalid(format!("use {}: it is nowhere", self.name))))
    }

    /// A manifest or an index, by its tag or its digest, whose content is checked.
    pub(crate) fn manifest(&self, reference: &str) -> Result<(Descriptor, Vec<u8>)> {
        self.anywhere(|place| insist(|| self.manifest_at(place, reference)))
    }

    fn manifest_at(&self, place: &Place, reference: &str) -> Result<(Descriptor, Vec<u8>), Failure> {
        let path = format!("/v2/{}/manifests/{reference}", place.path);
        let scope = self.scope(place);
        let mut answer = place.client.auth.ask(&place.client.http, &path, &scope, || {
            let kinds = [
                media_type::INDEX,
                media_type::MANIFEST,
                media_type::DOCKER_INDEX,
                media_type::DOCKER_MANIFEST,
            ];
            Ok(Ask::new(Method::GET).header(ACCEPT, kinds.join(", ")))
        })?;
        if answer.status != 200 {
            return Err(answer.error().into());
        }
        let bytes = answer.bytes(MAX_MANIFEST)?;
        let kind = answer.header(CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let digest = Digest::of(&bytes);
        // Who asks for a digest gets that, or nothing; what the header says is only the registry's word.
        let claimed = match reference.contains(':') {
            true => Some(reference),
            false => answer.header("docker-content-digest"),
        };
        if let Some(claimed) = claimed
            && claimed.starts_with("sha256:")
            && claimed != digest.to_string()
        {
            return Err(Error::invalid(format!(
                "{}: what came has the digest {digest}, and {} was promised",
                answer.asked,
                harmless(claimed)
            ))
            .into());
        }
        Ok((Descriptor::new(&kind, digest, bytes.len() as u64), bytes))
    }

    /// Does the registry have this blob?
    pub(crate) fn has_blob(&self, d: &Descriptor) -> Result<bool> {
        self.has(&format!("blobs/{}", d.digest))
    }

    fn has(&self, below: &str) -> Result<bool> {
        let place = self.own()?;
        let answer = insist(|| self.ask(place, &Method::HEAD, below))?;
        match answer.status {
            200..300 => Ok(true),
            404 => Ok(false),
            _ => Err(answer.error()),
        }
    }

    /// Put a manifest or an index, whose blobs are there, under a tag or its digest.
    pub(crate) fn put_manifest(&self, bytes: &[u8], kind: &str, reference: &str) -> Result<()> {
        let place = self.own()?;
        let path = format!("/v2/{}/manifests/{reference}", place.path);
        let ask = || {
            let body: Box<dyn Read> = Box::new(bytes);
            let ask = Ask::new(Method::PUT).header(CONTENT_TYPE, kind);
            Ok(Ask { body: Some((body, bytes.len() as u64)), ..ask })
        };
        let scope = self.scope(place);
        let answer = insist(|| place.client.auth.ask(&place.client.http, &path, &scope, ask))?;
        match answer.status {
            200..300 => Ok(()),
            _ => Err(answer.error()),
        }
    }

    /// Delete a manifest, by its digest.
    pub(crate) fn delete(&self, digest: &Digest) -> Result<()> {
        let place = self.own()?;
        let answer = insist(|| self.ask(place, &Method::DELETE, &format!("manifests/{digest}")))?;
        match answer.status {
            200..300 => Ok(()),
            405 => Err(answer.error().wrap("delete it (this registry allows no deletion)")),
            _ => Err(answer.error()),
        }
    }

    /// The repository's tags.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        self.anywhere(|place| {
            let path = format!("/v2/{}/tags/list?n=1000", place.path);
            place.client.list(&path, &self.scope(place), "tags")
        })
    }
}

impl Source for Repository {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (place, body) = self.anywhere(|place| {
            let body = insist(|| self.blob_at(place, d, from))?;
            Ok((place, body))
        })?;
        let wanted = d.clone();
        let mut at = self.places.iter().position(|p| std::ptr::eq(p, place)).unwrap_or(0);
        let mut breaks = 0;
        let again = Box::new(move |from| {
            let is_last = |at: usize| at + 1 >= self.places.len();
            breaks += 1;
            // A mirror that breaks off again and again is left for the next place.
            if breaks > 2 && !is_last(at) {
                (at, breaks) = (at + 1, 0);
            }
            loop {
                match self.blob_at(&self.places[at], &wanted, from) {
                    Err(_) if !is_last(at) => at += 1,
                    other => return other,
                }
            }
        });
        Ok(Box::new(Resuming::new(d, from, body, again)))
    }

    fn resumes(&self) -> bool {
        true
    }
}

impl Repository {
    /// A blob from an offset on.
    fn blob_at(&self, place: &Place, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>, Failure> {
        let path = format!("/v2/{}/blobs/{}", place.path, d.digest);
        let scope = self.scope(place);
        let answer = place.client.auth.ask(&place.client.http, &path, &scope, || {
            let ask = Ask::new(Method::GET);
            Ok(if from > 0 { ask.header(RANGE, format!("bytes={from}-")) } else { ask })
        })?;
        let bad = |why: &str| Failure::Lasting(Error::invalid(format!("{}: {why}", answer.asked)));
        if let Some(how) = answer.header(CONTENT_ENCODING)
            && how != "identity"
        {
            return Err(bad(&format!("it comes encoded as {:?}, which nobody asked for", harmless(how))));
        }
        match answer.status {
            206 if from > 0 => {
                let starts =
                    answer.header(CONTENT_RANGE).and_then(|r| r.strip_prefix("bytes ")?.split('-').next());
                if starts != Some(&from.to_string()) {
                    return Err(bad("it sends another part than was asked for"));
                }
                Ok(Box::new(answer.body.into_reader()))
            }
            200 => {
                let mut body = answer.body.into_reader();
                // It knows no ranges: what is here already is passed over.
                let passed = std::io::copy(&mut (&mut body).take(from), &mut std::io::sink());
                passed.map_err(|e| Failure::Passing(Error::new(Kind::System, e.to_string()), None))?;
                Ok(Box::new(body))
            }
            _ => Err(answer.error().into()),
        }
    }
}
