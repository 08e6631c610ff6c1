//! Keyrings: which keys may sign, each by a signature of its own or of the key that it belongs to.

use coracle_sys::{Error, Result};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::armor;
use super::packet::{Input, bad, packets};
use super::signature::{BY_SUBKEY, DIRECT, Material, REVOKED, SUBKEY, SUBKEY_REVOKED, Signature};

/// A key that may sign, or the reason why it may not.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: u64,
    /// Of the key that it belongs to, itself if it is one.
    pub(super) main: u64,
    pub(super) material: Material,
    /// Seconds since 1970.
    pub(super) expires: Option<u64>,
    pub(super) unfit: Option<&'static str>,
}

/// Keys.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    pub(super) keys: Vec<Key>,
}

/// A key as it stands in the keyring, with what is signed of it.
struct Raw<'a> {
    body: &'a [u8],
    id: u64,
    created: u64,
    material: Material,
}

impl Keyring {
    /// Take the keys of a file in, armored or not.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes).ok().filter(|t| t.contains("-----BEGIN PGP"));
        let decoded = text.map(|t| armor::decode(t, "PUBLIC KEY BLOCK")).transpose()?;
        // A keybox begins with a blob of its own.
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(Error::unsupported("it is a GnuPG keybox: export it (gpg --export)"));
        }
        let all = packets(decoded.as_deref().unwrap_or(bytes))?;
        let begins: Vec<usize> = (0..all.len()).filter(|n| all[*n].0 == 6).collect();
        if begins.is_empty() {
            return Err(bad("there is no public key"));
        }
        for (n, from) in begins.iter().enumerate() {
            let to = begins.get(n + 1).copied().unwrap_or(all.len());
            self.certificate(&all[*from..to])?;
        }
        Ok(())
    }

    /// A key with its names and subkeys.
    fn certificate(&mut self, packets: &[(u8, &[u8])]) -> Result<()> {
        // Keys of other versions cannot have made a signature of version 4.
        let Some(main) = Raw::parse(packets[0].1)? else { return Ok(()) };
        let head = framed(main.body);
        let mut subject: (u8, &[u8]) = packets[0];
        let mut latest = (0, None);
        let (mut bound, mut flags, mut unfit) = (false, None, None);
        let mut subkeys: Vec<(Raw<'_>, Key)> = Vec::new();
        for (tag, body) in &packets[1..] {
            match tag {
                13 | 14 | 17 => subject = (*tag, body),
                2 => {
                    let Ok(signature) = Signature::parse(body) else { continue };
                    if subject.0 == 14 {
                        if let Some((raw, key)) = subkeys.last_mut() {
                            bind(&head, &main, raw, key, &signature);
                        }
                        continue;
                    }
                    let name = match subject.0 {
                        6 => Vec::new(),
                        tag => {
                            let kind = if tag == 13 { 0xb4 } else { 0xd1 };
                            [&[kind][..], &(subject.1.len() as u32).to_be_bytes(), subject.1].concat()
                        }
                    };
                    let of_key = subject.0 == 6;
                    let known = match signature.kind {
                        DIRECT | REVOKED => of_key,
                        0x10..=0x13 => !of_key,
                        _ => false,
                    };
                    if !known || signature.verify(&main.material, &[&head, &name]).is_err() {
                        continue;
                    }
                    if signature.kind == REVOKED {
                        unfit = Some("is revoked");
                    } else if signature.created >= latest.0 {
                        bound = true;
                        latest = (signature.created, signature.key_expires);
                        flags = signature.key_flags.or(flags);
                    }
                    continue;
                }
                _ => continue,
            }
            if *tag == 14
                && let Some(raw) = Raw::parse(body)?
            {
                let material = raw.material.clone();
                let unfit = Some("is not bound to its key by a signature that counts");
                subkeys.push((raw, Key { id: 0, main: main.id, material, expires: None, unfit }));
            }
        }
        if !bound {
            unfit = unfit.or(Some("has no signature of its own that counts"));
        }
        let expires = latest.1.map(|s| main.created + s);
        for (raw, mut key) in subkeys {
            key.id = raw.id;
            key.unfit = unfit.or(key.unfit);
            key.expires = key.expires.into_iter().chain(expires).min();
            self.keys.push(key);
        }
        // Bit 2: it may sign data.
        if flags.is_some_and(|f| f & 2 == 0) {
            unfit = unfit.or(Some("is not one that signs"));
        }
        self.keys.push(Key { id: main.id, main: main.id, material: main.material, expires, unfit });
        Ok(())
    }

    /// Is there no key?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What a signature says of a subkey.
fn bind(head: &[u8], main: &Raw<'_>, raw: &Raw<'_>, key: &mut Key, signature: &Signature<'_>) {
    let parts = [head, &framed(raw.body)[..]];
    if !matches!(signature.kind, SUBKEY | SUBKEY_REVOKED) || signature.verify(&main.material, &parts).is_err()
    {
        return;
    }
    if signature.kind == SUBKEY_REVOKED {
        key.unfit = Some("is revoked");
    }
    if key.unfit == Some("is revoked") {
        return;
    }
    let signs = signature.key_flags.is_some_and(|f| f & 2 != 0);
    // A key that signs has to say itself that it belongs there, or anybody's could be claimed.
    let agrees = || {
        let back = signature.embedded.and_then(|bytes| Signature::parse(bytes).ok());
        back.is_some_and(|b| b.kind == BY_SUBKEY && b.verify(&raw.material, &parts).is_ok())
    };
    key.unfit = match (signs, signs && agrees()) {
        (false, _) => Some("is not one that signs"),
        (_, false) => Some("does not say that it belongs to its key"),
        _ => None,
    };
    key.expires = signature.key_expires.map(|s| raw.created + s);
}

/// A key as it is hashed.
fn framed(body: &[u8]) -> Vec<u8> {
    [&[0x99][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

impl<'a> Raw<'a> {
    fn parse(body: &'a [u8]) -> Result<Option<Self>> {
        let mut input = Input(body);
        if input.byte()? != 4 || body.len() > usize::from(u16::MAX) {
            return Ok(None);
        }
        let created = input.number(4)? as u64;
        let algorithm = input.byte()?;
        let material = match algorithm {
            1 | 3 => {
                let (n, e) = (input.integer()?.to_vec(), input.integer()?.to_vec());
                Material::Rsa { n, e }
            }
            19 | 22 => {
                let size = usize::from(input.byte()?);
                let curve = input.take(size)?;
                let point = input.integer()?;
                match (curve, point.split_first()) {
                    ([0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1], Some((0x40, key))) => {
                        Material::Ed25519(key.to_vec())
                    }
                    ([0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], _) => Material::P256(point.to_vec()),
                    ([0x2b, 0x81, 4, 0, 0x22], _) => Material::P384(point.to_vec()),
                    _ => Material::Other("another curve".into()),
                }
            }
            27 => Material::Ed25519(input.take(32)?.to_vec()),
            17 => Material::Other("DSA".into()),
            other => Material::Other(format!("algorithm {other}")),
        };
        let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &framed(body));
        let id = fingerprint.as_ref()[12..].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        Ok(Some(Self { body, id, created, material }))
    }
}
