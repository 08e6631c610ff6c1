//! From and to JSON in one way each. Every type brings a copy of its code for every form that it is written
//! in or read from: what is rare goes through the bytes.

use coracle_sys::{Error, Result};
use serde::Serialize;
use serde_json::Value;

/// As a value, to look into.
pub(crate) fn value(of: &impl Serialize) -> Result<Value> {
    let text = serde_json::to_vec(of).map_err(|e| Error::invalid(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| Error::invalid(e.to_string()))
}
