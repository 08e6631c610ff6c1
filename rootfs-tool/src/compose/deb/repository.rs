//! A suite of a repository, fetched and checked: its Release by a signature of somebody whose key is trusted for it, its
//! indexes by the sums in that Release.

use std::io::Read;

use coracle_store::layer::decompress;
use coracle_sys::{Context, Error, Kind, Result, file};

use super::cache::Cache;
use super::openpgp::keyring::Keyring;
use super::openpgp::message;
use super::release::Release;
use super::sources::Source;
use crate::archive::packed;
use crate::registry::Downloads;

/// The most that an InRelease has.
const MAX_RELEASE: u64 = 16 << 20;
/// The most that an index has, decompressed.
const MAX_INDEX: u64 = 1 << 30;

/// What a suite offers.
pub(crate) struct Suite {
    pub(crate) source: Source,
    pub(crate) release: Release,
    /// The text of each index.
    pub(crate) indexes: Vec<String>,
}

/// How suites are fetched and checked.
pub(crate) struct Ways<'a> {
    pub(crate) downloads: &'a Downloads,
    pub(crate) cache: &'a Cache,
    pub(crate) architecture: &'a str,
    /// Files of keys for repositories that name none.
    pub(crate) trusted: &'a [String],
    /// Does the age of an index count, where its source does not say?
    pub(crate) checks_age: bool,
}

impl Ways<'_> {
    /// Fetch and check one.
    pub(crate) fn open(&self, source: &Source) -> Result<Suite> {
        let read = || -> Result<Suite> {
            let release = self.release(source)?;
            let indexes = self.indexes(source, &release)?;
            Ok(Suite { source: source.clone(), release, indexes })
        };
        read().context(|| format!("read the index {}", source.dists()))
    }

    fn release(&self, source: &Source) -> Result<Release> {
        if let Some(why) = &source.refused {
            return Err(Error::unsupported(why.clone()));
        }
        if !["http://", "https://", "file:", "copy:"].iter().any(|s| source.uri.starts_with(s)) {
            return Err(Error::unsupported("only http, https and file are spoken"));
        }
        let dists = source.dists();
        let keys = keyring(match &source.signed_by[..] {
            [] => self.trusted,
            own => own,
        })?;
        let now = coracle_sys::time::now();
        let fetch = |name: &str| self.downloads.bytes(&format!("{dists}/{name}"), MAX_RELEASE);
        let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| Error::invalid("it is no text"));
        let text = match fetch("InRelease") {
            Ok(bytes) => {
                message::signed_text(&utf8(bytes)?, &keys, now as u64).context(|| "check InRelease")?
            }
            Err(e) if e.kind() == Kind::NotFound => {
                let text = utf8(fetch("Release")?)?;
                let signature = fetch("Release.gpg").map_err(|e| match e.kind() {
                    Kind::NotFound => Error::new(Kind::Denied, "check Release: it is not signed"),
                    _ => e,
                })?;
                message::check_detached(&signature, text.as_bytes(), &keys, now as u64)
                    .context(|| "check Release by Release.gpg")?;
                text
            }
            Err(e) => return Err(e),
        };
        let release = Release::parse(&text).context(|| "read Release")?;
        let checks_age = source.check_valid_until.unwrap_or(self.checks_age);
        release.check(&source.suite, now, checks_age, self.cache.seen(&dists)).context(|| "check Release")?;
        self.cache.see(&dists, release.date)?;
        Ok(release)
    }

    fn indexes(&self, source: &Source, release: &Release) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        if source.is_flat() {
            texts.push(self.index(source, release, "Packages")?);
        }
        for component in &source.components {
            // The security suite of old has its components below a folder.
            let of = |architecture: &str| format!("{component}/binary-{architecture}/Packages");
            let own = of(self.architecture);
            if release.index(&own).is_none() {
                let has = match release.architectures.iter().any(|a| a == self.architecture) {
                    true => format!("it has no component {component}"),
                    false => format!("it has nothing for {}", self.architecture),
                };
                return Err(Error::not_found(has));
            }
            texts.push(self.index(source, release, &own)?);
            if release.separate_all && release.index(&of("all")).is_some() {
                texts.push(self.index(source, release, &of("all"))?);
            }
        }
        Ok(texts)
    }

    fn index(&self, source: &Source, release: &Release, path: &str) -> Result<String> {
        let entry = release.index(path).ok_or_else(|| Error::not_found(format!("it has no {path}")))?;
        let (name, sum, size) = entry;
        let mut urls = Vec::new();
        let dists = source.dists();
        if release.by_hash {
            let folder = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            urls.push(format!("{dists}/{folder}by-hash/SHA256/{sum}"));
        }
        urls.push(format!("{dists}/{name}"));
        let file = self.cache.file(self.downloads, &urls, sum, *size)?;
        let read = || -> Result<String> {
            let packed = packed::open(file::open_plain(&file)?)?;
            let inner = decompress(std::io::BufReader::with_capacity(256 << 10, packed), None)?;
            let mut text = Vec::new();
            inner.take(MAX_INDEX + 1).read_to_end(&mut text).context(|| "decompress it")?;
            if text.len() as u64 > MAX_INDEX {
                return Err(Error::invalid(format!("it has more than {MAX_INDEX} bytes")));
            }
            String::from_utf8(text).map_err(|_| Error::invalid("it is no text"))
        };
        read().context(|| format!("read {name}"))
    }
}

/// The keys of files, or those that stand there themselves.
fn keyring(names: &[String]) -> Result<Keyring> {
    let mut keys = Keyring::default();
    for name in names {
        if name.contains("-----BEGIN") {
            keys.add(name.as_bytes()).context(|| "read the keys of its source")?;
        } else if name.starts_with('/') {
            keys.add(&file::read(name.as_ref())?).context(|| format!("read the keyring {name:?}"))?;
        } else {
            return Err(Error::unsupported(format!("signed-by: {name:?}: name a file of keys")));
        }
    }
    match keys.is_empty() {
        true => Err(Error::not_found("find its keys: there is no keyring (name one: --keyring FILE)")),
        false => Ok(keys),
    }
}
