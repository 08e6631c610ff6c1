//! Image references as docker writes them: `[REGISTRY/]PATH[:TAG][@DIGEST]`. Where a short name is
//! looked for is decided here; nothing is looked up here.

use std::fmt;
use std::str::FromStr;

use coracle_sys::{Error, Result};

use crate::digest::Digest;

/// Where images live that were made here and name no registry.
pub const LOCAL: &str = "localhost";
/// The registry of a short name that is not found at [`LOCAL`].
pub const DEFAULT: &str = "docker.io";

/// A reference as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry with its port, when one was named.
    pub registry: Option<String>,
    /// The repository's path, `library/debian`.
    pub path: String,
    /// The tag, when one was named.
    pub tag: Option<String>,
    /// The manifest's digest, when one was named.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The full names that this one may stand for, in the order in which they are looked for. A
    /// name with a registry is itself alone.
    pub fn candidates(&self) -> Vec<Reference> {
        if self.registry.is_some() {
            return vec![self.qualified()];
        }
        vec![self.at(LOCAL).qualified(), self.qualified()]
    }

    /// The name under which an image that is made here is kept.
    pub fn local(&self) -> Reference {
        match self.registry {
            Some(_) => self.qualified(),
            None => self.at(LOCAL).qualified(),
        }
    }

    /// The full name as a registry knows it: docker.io and `library/` filled in, and the tag
    /// `latest` where neither tag nor digest was named.
    pub fn qualified(&self) -> Reference {
        let mut full = self.clone();
        let registry = full.registry.get_or_insert_with(|| DEFAULT.to_owned());
        if registry == "index.docker.io" {
            *registry = DEFAULT.to_owned();
        }
        if registry == DEFAULT && !full.path.contains('/') {
            full.path = format!("library/{}", full.path);
        }
        if full.tag.is_none() && full.digest.is_none() {
            full.tag = Some("latest".to_owned());
        }
        full
    }

    /// `NAME` or `NAME:TAG` without a digest: what an index entry is called.
    pub fn name(&self) -> String {
        Self { digest: None, ..self.clone() }.to_string()
    }

    fn at(&self, registry: &str) -> Reference {
        Reference { registry: Some(registry.to_owned()), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = s.chars().take(300).collect();
            Err(Error::usage(format!("read the image name {shown:?}: {why}")))
        };
        if let Some((scheme @ ("docker" | "http" | "https"), name)) = s.split_once("://") {
            return bad(&format!("leave {scheme}:// out: {}", name.chars().take(300).collect::<String>()));
        }
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (s, None),
        };
        // A colon after the last slash starts the tag, any other one a registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (Some(first), path),
            _ => (None, name),
        };
        if let Some(registry) = registry
            && !valid_registry(registry)
        {
            return bad("the registry is a host name with an optional port");
        }
        if path.is_empty() || path.len() > 255 {
            return bad("the path has 1 to 255 characters");
        }
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return bad("the path must be lower case");
        }
        if !path.split('/').all(valid_component) {
            return bad("a path is made of letters and digits, with . _ __ - between them, and /");
        }
        if registry.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
            return bad("64 hexadecimal digits are an id");
        }
        if let Some(tag) = tag
            && !valid_tag(tag)
        {
            return bad("a tag is up to 128 letters, digits, _ . and -, not starting with . or -");
        }
        Ok(Self {
            registry: registry.map(str::to_owned),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Docker's rule: the first component is a registry when it has a dot or a port, or is localhost.
pub fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == LOCAL || first.chars().any(|c| c.is_ascii_uppercase())
}

fn valid_registry(s: &str) -> bool {
    let (host, port) = match s.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                match rest.strip_prefix(':') {
                    Some(port) => ("v6", Some(port)),
                    None if rest.is_empty() => ("v6", None),
                    None => return false,
                }
            }
            _ => return false,
        },
        None => match s.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (s, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    s.len() <= 255
        && host.split('.').all(label)
        && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok())
}

/// Runs of lower-case letters and digits, between them one `.`, one or two `_`, or any run of `-`.
fn valid_component(s: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alnum(*first)
        && alnum(*last)
        && bytes
            .split(|b| alnum(*b))
            .all(|sep| matches!(sep, b"" | b"." | b"_" | b"__") || sep.iter().all(|b| *b == b'-'))
}

fn valid_tag(s: &str) -> bool {
    (1..=128).contains(&s.len())
        && !s.starts_with(['.', '-'])
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(s: &str) -> Vec<String> {
        s.parse::<Reference>().unwrap().candidates().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_short_name_is_looked_for_here_first_and_then_at_docker_io() {
        assert_eq!(names("debian"), ["localhost/debian:latest", "docker.io/library/debian:latest"]);
        assert_eq!(names("a/b:1"), ["localhost/a/b:1", "docker.io/a/b:1"]);
        assert_eq!(names("docker.io/debian"), ["docker.io/library/debian:latest"]);
        assert_eq!(names("localhost/x"), ["localhost/x:latest"]);
        assert_eq!(names("localhost:5000/x:y"), ["localhost:5000/x:y"]);
        assert_eq!(names("[::1]:5000/x"), ["[::1]:5000/x:latest"]);
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let d = Digest::of(b"");
        assert_eq!(names(&format!("quay.io/a@{d}")), [format!("quay.io/a@{d}")]);
        assert_eq!(format!("quay.io/a:t@{d}").parse::<Reference>().unwrap().name(), "quay.io/a:t");
    }

    #[test]
    fn names_that_docker_refuses_are_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "/",
            "@",
            "a:",
            ":t",
            "A",
            "a/B",
            "a//b",
            "a/",
            "/a",
            "a b",
            "a..b",
            "a___b",
            "a_",
            "-a",
            "a:.t",
            "a:-t",
            "a@sha256:12",
            "a@",
            "x.y:99999/a",
            "x.y:/a/:",
            "-x.y/a",
            "a\n",
            "a\0b",
            "ä",
            "../a",
            "a/../b",
            "x.y/../a",
            ".",
            "..",
            "[::1/a",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:t",
            &long,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reference_prints_as_it_reads_whatever_is_done_to_it() {
        let seeds = [
            "localhost:5000/a/b-c:1.2@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "a__b.c/d:T",
            "[::1]:5/x",
        ];
        let mut seed = 7u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        for _ in 0..30_000 {
            let mut text = seeds[next() % seeds.len()].as_bytes().to_vec();
            for _ in 0..next() % 4 {
                let at = next() % text.len();
                match next() % 3 {
                    0 => text[at] = b"/:@.-_aA0[]\0"[next() % 12],
                    1 => text.insert(at, b"/:@.-_aA0[]\0"[next() % 12]),
                    _ => drop(text.remove(at)),
                }
            }
            if let Ok(r) = std::str::from_utf8(&text).unwrap().parse::<Reference>() {
                assert_eq!(r.to_string().as_bytes(), text);
                assert_eq!(r.qualified().qualified(), r.qualified());
                assert!(!r.path.split('/').any(|c| c == ".." || c.is_empty()));
            }
        }
    }
}
