//! Signed messages: InRelease, which holds its text and its signatures, and Release with its Release.gpg.

use std::borrow::Cow;

use coracle_sys::{Error, Kind, Result};

use super::armor;
use super::keyring::Keyring;
use super::packet::packets;
use super::signature::{BINARY, Signature, TEXT};

/// Clocks differ: a signature may be from so many seconds ahead.
const AHEAD: u64 = 24 * 3600;

/// The text of a message that somebody signed whose key is in the keyring. Nothing may stand before or behind it.
pub fn signed_text(message: &str, keys: &Keyring, now: u64) -> Result<String> {
    let bad = |why: &str| Error::invalid(format!("read the signed message: {why}"));
    let rest = message
        .strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----")
        .and_then(|rest| rest.trim_start_matches([' ', '\t', '\r']).strip_prefix('\n'))
        .ok_or_else(|| bad("it is not signed"))?;
    let mut lines = rest.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
    for line in lines.by_ref() {
        if line.trim_end().is_empty() {
            break;
        }
        if !line.starts_with("Hash:") {
            return Err(bad("there is a header that has no place there"));
        }
    }
    let mut text = Vec::new();
    let mut armored = String::new();
    for line in lines.by_ref() {
        if line.trim_end() == "-----BEGIN PGP SIGNATURE-----" {
            armored.push_str("-----BEGIN PGP SIGNATURE-----\n");
            break;
        }
        let line = match line.strip_prefix("- ") {
            Some(escaped) => escaped,
            None if line.starts_with('-') => return Err(bad("a line begins with a dash")),
            None => line,
        };
        // These are not signed (RFC 4880, section 7.1).
        text.push(line.trim_end_matches([' ', '\t']));
    }
    let mut ended = false;
    for line in lines {
        if ended && !line.trim_end().is_empty() {
            return Err(bad("something stands behind it"));
        }
        ended |= line.trim_end() == "-----END PGP SIGNATURE-----";
        armored.push_str(line);
        armored.push('\n');
    }
    if !ended {
        return Err(bad("it is cut off"));
    }
    let signatures = armor::decode(&armored, "SIGNATURE")?;
    verify(&signatures, text.join("\r\n").as_bytes(), keys, now)?;
    let mut text = text.join("\n");
    text.push('\n');
    Ok(text)
}

/// Check a signature that stands beside what it signs.
pub fn check_detached(signature: &[u8], signed: &[u8], keys: &Keyring, now: u64) -> Result<()> {
    let text = std::str::from_utf8(signature).ok().filter(|t| t.contains("-----BEGIN PGP"));
    let decoded = text.map(|t| armor::decode(t, "SIGNATURE")).transpose()?;
    verify(decoded.as_deref().unwrap_or(signature), signed, keys, now)
}

/// One good signature is enough. The reason why there is none is that of the one that came nearest.
fn verify(signatures: &[u8], signed: &[u8], keys: &Keyring, now: u64) -> Result<()> {
    let mut unknown = Vec::new();
    let mut failed = None;
    for (tag, body) in packets(signatures)? {
        if tag != 2 {
            return Err(Error::invalid("read the signature: there is something else in it"));
        }
        let signature = Signature::parse(body)?;
        let signed: Cow<'_, [u8]> = match signature.kind {
            BINARY | TEXT => Cow::Borrowed(signed),
            other => {
                return Err(Error::invalid(format!(
                    "check the signature: its kind {other:#x} signs no file"
                )));
            }
        };
        let id = signature.issuer.unwrap_or_default();
        let mut known = false;
        for key in keys.keys.iter().filter(|k| k.id == id) {
            known = true;
            match check(&signature, key, &signed, now) {
                Ok(()) => return Ok(()),
                Err(e) => failed = Some(e.wrap(format!("check the signature of the key {id:016X}"))),
            }
        }
        if !known {
            unknown.push(format!("{id:016X}"));
        }
    }
    Err(failed.unwrap_or_else(|| {
        let by = match &unknown[..] {
            [] => "there is no signature".to_owned(),
            ids => format!("no keyring has the key that signed it ({})", ids.join(", ")),
        };
        Error::new(Kind::Denied, format!("check the signature: {by}"))
    }))
}

fn check(signature: &Signature<'_>, key: &super::keyring::Key, signed: &[u8], now: u64) -> Result<()> {
    let denied = |why: String| Err(Error::new(Kind::Denied, why));
    signature.verify(&key.material, &[signed]).map_err(|e| match e.kind() {
        Kind::Invalid => Error::new(Kind::Denied, "it is not what was signed"),
        _ => e.with_kind(Kind::Denied),
    })?;
    if let Some(why) = key.unfit {
        return denied(format!("the key {why}"));
    }
    if key.expires.is_some_and(|at| at <= now) {
        return denied(format!("the key {:016X} has expired", key.main));
    }
    if signature.created > now + AHEAD {
        return denied("it is from a time to come: is the clock right?".into());
    }
    if signature.expires.is_some_and(|s| signature.created + s <= now) {
        return denied("the signature has expired".into());
    }
    Ok(())
}
