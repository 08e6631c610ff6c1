//! As much of OpenPGP (RFC 4880, and Ed25519 of RFC 9580) as the signature of an index takes: keyrings, detached
//! signatures and signed messages, version 4, by RSA, Ed25519 and ECDSA with SHA-2. The arithmetic is ring's, which TLS
//! uses too. Nothing is encrypted, nothing is signed, no key is looked for on a network, and what is weak is refused by
//! its name.

pub mod armor;
pub mod keyring;
pub mod message;
mod packet;
mod signature;
