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

/// Put a member where a path such as `/State/Pid` leads. What is missing on the way is made.
pub(crate) fn set(all: &mut Value, path: &str, value: Value) {
    let at = path.split('/').skip(1).fold(all, |at, member| &mut at[member]);
    *at = value;
}

/// Put many, each where its path leads.
pub(crate) fn set_all(all: &mut Value, rows: Vec<(&str, Value)>) {
    for (path, value) in rows {
        set(all, path, value);
    }
}

/// A document that is written down in the program.
pub(crate) fn shape(text: &str) -> Value {
    serde_json::from_slice(text.as_bytes()).unwrap_or_default()
}
