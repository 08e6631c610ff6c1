//! A registry that lies as it is told: HTTP/1.1 over threads, one connection a thread, what it was asked kept.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::loopback::Loopback;

/// A request, without its body.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers, their names in lower case.
    pub headers: HashMap<String, String>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers beside those that the body needs.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// What Content-Length says, where it is not the body's; the connection ends after the body.
    pub claims: Option<u64>,
    /// What comes after the body.
    pub then: Then,
}

/// What comes after a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Next,
    /// Nothing, for as long as the other side waits.
    Silence,
    /// Zeros, for ever.
    Zeros,
    /// A blank ten times a second, for ever.
    Drip,
}

impl Reply {
    /// A status with a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), claims: None, then: Then::Next }
    }

    /// With a header more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Answer = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;

/// The registry.
pub struct Liar {
    /// `127.0.0.1:PORT`.
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: Loopback,
}

/// An image that a registry serves: blobs by digest, and what its manifest is.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// By digest.
    pub blobs: HashMap<String, Vec<u8>>,
    /// The manifest's digest.
    pub manifest: String,
}

impl Served {
    /// The only image of an OCI image layout.
    pub fn from_layout(dir: &std::path::Path) -> Self {
        let read = |path: std::path::PathBuf| {
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let index: serde_json::Value =
            serde_json::from_slice(&read(dir.join("index.json"))).expect("an index");
        let manifest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        let files = std::fs::read_dir(dir.join("blobs/sha256")).expect("list the blobs").flatten();
        let blobs = files.map(|e| (format!("sha256:{}", e.file_name().to_string_lossy()), read(e.path())));
        Self { blobs: blobs.collect(), manifest }
    }

    /// Keep bytes, under their digest.
    pub fn put(&mut self, bytes: impl Into<Vec<u8>>) -> String {
        use sha2::{Digest, Sha256};
        let bytes = bytes.into();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let digest = format!("sha256:{}", digest.map(|b| format!("{b:02x}")).concat());
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    /// The manifest, parsed.
    pub fn parsed(&self) -> serde_json::Value {
        serde_json::from_slice(&self.blobs[&self.manifest]).expect("a manifest")
    }

    /// The digest of the largest layer.
    pub fn layer(&self) -> String {
        let manifest = self.parsed();
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let largest = layers.max_by_key(|l| l["size"].as_u64()).expect("a layer");
        largest["digest"].as_str().expect("a digest").to_owned()
    }

    /// An honest answer: manifests under any tag, blobs with ranges.
    pub fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default();
        if path == "/v2/" {
            return Reply::new(200, "{}");
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/manifests/") {
            let digest = if last.starts_with("sha256:") { last } else { &self.manifest };
            let Some(bytes) = self.blobs.get(digest) else { return Reply::new(404, "{}") };
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            let kind = value["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
            return Reply::new(200, bytes.clone()).header("Content-Type", kind);
        }
        let Some(bytes) = self.blobs.get(last) else { return Reply::new(404, "{}") };
        let range = asked
            .headers
            .get("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match range {
            Some(from) if from < bytes.len() => {
                let of = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &bytes[from..]).header("Content-Range", &of)
            }
            _ => Reply::new(200, bytes.clone()),
        }
    }
}

impl Liar {
    /// Serve an image, but for what `lie` answers otherwise.
    pub fn start(
        served: Served,
        lie: impl Fn(&Served, &Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(move |asked| Some(lie(&served, asked).unwrap_or_else(|| served.answer(asked))))
    }

    fn serve(answer: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let server = Loopback::serve(move |stream| {
            let _ = converse(stream, &log, &answer);
        });
        Self { host: server.host.clone(), asked, _server: server }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the log").clone()
    }
}

fn converse(stream: &TcpStream, log: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(path), Some(_)) = (words.next(), words.next(), words.next()) else {
            // It speaks TLS, or something else.
            return Ok(());
        };
        let mut asked = Asked { method: method.to_owned(), path: path.to_owned(), headers: HashMap::new() };
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length: u64 = asked.headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        std::io::copy(&mut input.by_ref().take(length), &mut std::io::sink())?;
        log.lock().expect("the log").push(asked.clone());
        let Some(reply) = answer(&asked) else { return Ok(()) };
        let mut out = stream;
        let length = reply.claims.unwrap_or(reply.body.len() as u64);
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        out.write_all(head.as_bytes())?;
        out.write_all(b"\r\n")?;
        if asked.method != "HEAD" {
            out.write_all(&reply.body)?;
        }
        match reply.then {
            Then::Next if reply.claims.is_none() => {}
            Then::Next => return Ok(()),
            Then::Silence => {
                // Until the other side has had enough.
                let _ = input.read(&mut [0]);
                return Ok(());
            }
            Then::Drip => loop {
                out.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(100));
            },
            Then::Zeros => loop {
                out.write_all(&[0; 64 << 10])?;
            },
        }
    }
}
