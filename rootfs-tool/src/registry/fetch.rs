//! A file from the web, which is no registry's: by the same client, through the same proxies, without credentials.

use std::io::Read;
use std::path::Path;

use coracle_store::Digest;
use coracle_store::digest::Hashing;
use coracle_sys::{Context, Error, Result, time};
use ureq::http::Method;
use ureq::http::header::{CONTENT_DISPOSITION, LAST_MODIFIED};

use super::http::{Ask, Http};

/// A file that was fetched.
pub(crate) struct Fetched {
    /// What it is called there.
    pub(crate) name: Option<String>,
    /// When it was changed there.
    pub(crate) modified: Option<i64>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Fetch an address into a file.
pub(crate) fn fetch(url: &str, to: &Path) -> Result<Fetched> {
    let http = Http::new("", false);
    let answer = http.go(url, Ask::new(Method::GET)).map_err(|e| e.error())?;
    if answer.status != 200 {
        return Err(answer.error());
    }
    let header = |name| answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let named = header(CONTENT_DISPOSITION).and_then(|v| {
        let name = v.split(';').find_map(|p| p.trim().strip_prefix("filename=").map(str::to_owned))?;
        Some(name.trim_matches('"').to_owned())
    });
    let last = answer.uri.path().rsplit('/').next().map(str::to_owned);
    let plain = |name: &String| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    let modified = header(LAST_MODIFIED).and_then(|v| time::http_date(&v));
    let out = std::fs::File::create(to).context(|| format!("open({to:?}, O_CREAT)"))?;
    let mut out = Hashing::new(out);
    let mut body = answer.body.into_reader();
    let mut part = vec![0; 256 << 10];
    loop {
        let n = body.read(&mut part).map_err(|e| Error::invalid(format!("{}: {e}", answer.asked)))?;
        if n == 0 {
            break;
        }
        std::io::Write::write_all(&mut out, &part[..n]).context(|| format!("write({to:?})"))?;
    }
    let (digest, size, _) = out.finish();
    Ok(Fetched { name: named.filter(plain).or(last.filter(plain)), modified, digest, size })
}
