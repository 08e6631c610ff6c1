//! Files by HTTP that belong to no registry: whole, tried again when the connection breaks, by the proxies that are named.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_sys::{Context, Error, Kind, Result};
use ureq::http::Method;

use super::http::{Answer, Ask, Http, UNRESOLVED};
use super::insist::{Failure, insist};
use super::pace::{self, Pace};
use super::proxy::Named;

/// Fetches files, and keeps its connections.
pub(crate) struct Downloads {
    http: Http,
    /// Somebody has answered: a name that does not resolve now may do so again.
    answered: AtomicBool,
}

impl Downloads {
    /// By these proxies, where one is named for an address, else by those of the environment.
    pub(crate) fn new(proxies: Vec<Named>) -> Self {
        Self { http: Http::by(proxies), answered: AtomicBool::new(false) }
    }

    /// A small file.
    pub(crate) fn bytes(&self, url: &str, most: u64) -> Result<Vec<u8>> {
        if let Some(path) = local(url) {
            let file = coracle_sys::file::open_plain(path)?;
            let mut bytes = Vec::new();
            file.take(most + 1).read_to_end(&mut bytes).context(|| format!("read({path:?})"))?;
            return match bytes.len() as u64 > most {
                true => Err(Error::invalid(format!("read {path:?}: it has more than {most} bytes"))),
                false => Ok(bytes),
            };
        }
        insist(|| self.get(url)?.bytes(most))
    }

    /// A file of at most so many bytes, to a path.
    pub(crate) fn file(&self, url: &str, most: u64, to: &Path) -> Result<()> {
        let create = || File::create(to).context(|| format!("open({to:?}, O_CREAT)"));
        if let Some(path) = local(url) {
            let mut from = coracle_sys::file::open_plain(path)?.take(most + 1);
            std::io::copy(&mut from, &mut create()?).context(|| format!("copy {path:?}"))?;
            return Ok(());
        }
        insist(|| {
            let mut out = create()?;
            let mut answer = self.get(url)?;
            let asked = answer.asked.clone();
            let mut body = answer.body.as_reader();
            let passing = |why: String| Failure::Passing(Error::new(Kind::System, why), None);
            let (mut have, mut pace) = (0, Pace::begin(0));
            let mut part = vec![0; 128 << 10];
            loop {
                let n = body.read(&mut part).map_err(|e| passing(format!("{asked}: {e}")))?;
                if n == 0 {
                    return Ok(());
                }
                have += n as u64;
                if have > most {
                    return Err(
                        Error::invalid(format!("{asked}: the answer has more than {most} bytes")).into()
                    );
                }
                out.write_all(&part[..n]).context(|| format!("write({to:?})"))?;
                if !pace.goes_on(have) {
                    return Err(passing(format!("{asked}: {}", pace::TOO_SLOW)));
                }
            }
        })
    }

    fn get(&self, url: &str) -> Result<Answer, Failure> {
        let answer = self.http.go(url, Ask::new(Method::GET)).map_err(|failure| match failure {
            Failure::Lasting(e)
                if self.answered.load(Ordering::Relaxed) && e.to_string().ends_with(UNRESOLVED) =>
            {
                Failure::Passing(e, None)
            }
            other => other,
        })?;
        self.answered.store(true, Ordering::Relaxed);
        let answer = answer.settled()?;
        match answer.status {
            200 => Ok(answer),
            _ => Err(answer.error().into()),
        }
    }
}

/// The path of a `file:` address.
fn local(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("file:").or_else(|| url.strip_prefix("copy:"))?;
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
}
