//! A signature: what it says of itself, and whether a key made it.

use coracle_sys::{Error, Result};
use ring::digest::{self, digest};
use ring::signature::{self as by, RsaPublicKeyComponents, UnparsedPublicKey};

use super::packet::{Input, bad, padded};

/// Kinds of signatures.
pub(super) const BINARY: u8 = 0x00;
pub(super) const TEXT: u8 = 0x01;
pub(super) const SUBKEY: u8 = 0x18;
pub(super) const BY_SUBKEY: u8 = 0x19;
pub(super) const DIRECT: u8 = 0x1f;
pub(super) const REVOKED: u8 = 0x20;
pub(super) const SUBKEY_REVOKED: u8 = 0x28;

/// A public key, as far as it verifies.
#[derive(Clone, Debug)]
pub(super) enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    /// What cannot be verified with, in a word.
    Other(String),
}

/// A signature, version 4.
#[derive(Clone, Debug)]
pub(super) struct Signature<'a> {
    pub(super) kind: u8,
    hash: u8,
    /// What is signed of the signature itself.
    hashed: &'a [u8],
    /// The numbers.
    value: &'a [u8],
    pub(super) algorithm: u8,
    pub(super) created: u64,
    /// Seconds after `created`.
    pub(super) expires: Option<u64>,
    /// Of a key, seconds after its creation.
    pub(super) key_expires: Option<u64>,
    pub(super) key_flags: Option<u8>,
    pub(super) issuer: Option<u64>,
    /// A signature within: the one by which a subkey says that it belongs to its key.
    pub(super) embedded: Option<&'a [u8]>,
}

impl<'a> Signature<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self> {
        let mut input = Input(body);
        let version = input.byte()?;
        if version != 4 {
            return Err(bad(&format!("a signature of version {version}: 4 is known")));
        }
        let (kind, algorithm, hash) = (input.byte()?, input.byte()?, input.byte()?);
        let size = input.number(2)?;
        let subpackets = input.take(size)?;
        let hashed = &body[..6 + size];
        let size = input.number(2)?;
        let more = input.take(size)?;
        input.take(2)?;
        let mut signature = Self {
            kind,
            hash,
            hashed,
            value: input.0,
            algorithm,
            created: 0,
            expires: None,
            key_expires: None,
            key_flags: None,
            issuer: None,
            embedded: None,
        };
        signature.subpackets(subpackets, true)?;
        signature.subpackets(more, false)?;
        Ok(signature)
    }

    fn subpackets(&mut self, bytes: &'a [u8], signed: bool) -> Result<()> {
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            let size = input.length()?;
            let mut one = Input(input.take(size)?);
            let kind = one.byte()?;
            let seconds = |one: &mut Input<'_>| one.number(4).map(|n| n as u64);
            match kind & 0x7f {
                2 if signed => self.created = seconds(&mut one)?,
                3 if signed => self.expires = Some(seconds(&mut one)?).filter(|s| *s != 0),
                9 if signed => self.key_expires = Some(seconds(&mut one)?).filter(|s| *s != 0),
                27 if signed => self.key_flags = one.0.first().copied(),
                16 => self.issuer = Some((one.number(4)? as u64) << 32 | one.number(4)? as u64),
                // The last eight bytes of the fingerprint are the id.
                33 if one.0.len() == 21 => {
                    one.take(13)?;
                    self.issuer = Some((one.number(4)? as u64) << 32 | one.number(4)? as u64);
                }
                32 => self.embedded = Some(one.0),
                // What the signer holds to be critical and what is not known makes it void.
                2 | 3 | 4 | 5 | 6 | 7 | 9 | 11 | 12 | 20..=34 | 39 => {}
                other if kind & 0x80 != 0 && signed => {
                    return Err(bad(&format!("a signature says what has to be known and is not ({other})")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Did this key sign these parts?
    pub(super) fn verify(&self, key: &Material, parts: &[&[u8]]) -> Result<()> {
        let mut message = parts.concat();
        message.extend_from_slice(self.hashed);
        message.extend_from_slice(&[4, 0xff]);
        message.extend_from_slice(&(self.hashed.len() as u32).to_be_bytes());
        let (algorithm, rsa): (_, &by::RsaParameters) = match self.hash {
            8 => (&digest::SHA256, &by::RSA_PKCS1_2048_8192_SHA256),
            9 => (&digest::SHA384, &by::RSA_PKCS1_2048_8192_SHA384),
            10 => (&digest::SHA512, &by::RSA_PKCS1_2048_8192_SHA512),
            1..=3 => return Err(Error::unsupported("its hash is weak: SHA-1, MD5 and RIPEMD are not taken")),
            other => return Err(Error::unsupported(format!("its hash {other} is not known"))),
        };
        let mut numbers = Input(self.value);
        let wrong = || Error::invalid("the signature does not fit");
        let pair = |numbers: &mut Input<'_>, size| -> Result<Vec<u8>> {
            let (r, s) = (numbers.integer()?, numbers.integer()?);
            let both = padded(r, size).zip(padded(s, size)).ok_or_else(wrong)?;
            Ok([both.0, both.1].concat())
        };
        let verified = match (key, self.algorithm) {
            (Material::Rsa { n, e }, 1 | 3) => {
                if n.len() < 256 {
                    return Err(Error::unsupported(format!(
                        "its RSA key of {} bits is too short",
                        n.len() * 8
                    )));
                }
                let value = padded(numbers.integer()?, n.len()).ok_or_else(wrong)?;
                RsaPublicKeyComponents { n, e }.verify(rsa, &message, &value)
            }
            (Material::Ed25519(key), 22 | 27) => {
                let value = match self.algorithm {
                    22 => pair(&mut numbers, 32)?,
                    _ => numbers.take(64)?.to_vec(),
                };
                let digest = digest(algorithm, &message);
                UnparsedPublicKey::new(&by::ED25519, key).verify(digest.as_ref(), &value)
            }
            (Material::P256(key), 19) if self.hash == 8 => {
                let value = pair(&mut numbers, 32)?;
                UnparsedPublicKey::new(&by::ECDSA_P256_SHA256_FIXED, key).verify(&message, &value)
            }
            (Material::P384(key), 19) if self.hash == 9 => {
                let value = pair(&mut numbers, 48)?;
                UnparsedPublicKey::new(&by::ECDSA_P384_SHA384_FIXED, key).verify(&message, &value)
            }
            (Material::Other(what), _) => {
                return Err(Error::unsupported(format!("keys of {what} are not known")));
            }
            _ => return Err(Error::unsupported("its algorithm is not known for such a key")),
        };
        verified.map_err(|_| wrong())
    }
}
