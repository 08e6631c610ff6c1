//! ASCII armor: base64 between two lines of dashes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_sys::{Error, Result};

/// What is inside of `-----BEGIN PGP KIND-----`; of several blocks all of it, one behind the other.
pub fn decode(text: &str, kind: &str) -> Result<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN PGP {kind}-----"), format!("-----END PGP {kind}-----"));
    let bad = |why: &str| Error::invalid(format!("read the PGP {}: {why}", kind.to_ascii_lowercase()));
    let mut out = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        if line != begin {
            continue;
        }
        // Headers end with an empty line.
        if !lines.by_ref().any(|line| line.is_empty()) {
            return Err(bad("its headers do not end"));
        }
        let mut packed = String::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                // The checksum: what it guards against, the signature guards against as well.
                Some(line) if line.starts_with('=') => {}
                Some(line) => packed.push_str(line.trim()),
                None => return Err(bad("it is cut off")),
            }
        }
        out.extend(STANDARD.decode(packed).map_err(|_| bad("it is no base64"))?);
    }
    match out.is_empty() {
        true => Err(bad("there is none")),
        false => Ok(out),
    }
}
