//! JSON read into structs, in little code. A derived reader is compiled anew for every struct and every form that the
//! struct may come in; here the text becomes a tree first, in one piece of code for all, and a struct takes its members
//! out of that. As Go has it, a member that is null is as good as absent, and of a name that stands twice the last counts.
//!
//! A wrong member is named by its path: `process.user.uid: expected a number from 0 to 4294967295, found -1`.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use serde_json::{Map, Value};

use crate::{Error, Result};

/// What is wrong, and where.
#[derive(Debug)]
pub struct Wrong {
    path: String,
    why: String,
}

impl Wrong {
    /// Of the value itself.
    pub fn new(why: impl Into<String>) -> Self {
        Self { path: String::new(), why: why.into() }
    }

    /// It was expected otherwise.
    fn expected(what: &str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string().chars().take(100).collect(),
        };
        Self::new(format!("expected {what}, found {found}"))
    }

    fn error(self) -> Error {
        match self.path.as_str() {
            "" => Error::invalid(self.why),
            path => Error::invalid(format!("{path}: {}", self.why)),
        }
    }

    /// Inside a member, or an item `[n]`.
    fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        // A line break in a name would begin a line of its own.
        self.path = [&name.replace('\n', " "), dot, &self.path].concat();
        self
    }
}

/// What can be read from JSON.
pub trait Read: Sized {
    /// Take it out of a value.
    fn read(value: Value) -> Result<Self, Wrong>;
}

/// Read a text.
pub fn from_slice<T: Read>(text: &[u8]) -> Result<T> {
    let value: Value = serde_json::from_slice(text).map_err(|e| Error::invalid(e.to_string()))?;
    from_value(value)
}

/// Read a value.
pub fn from_value<T: Read>(value: Value) -> Result<T> {
    T::read(value).map_err(Wrong::error)
}

/// The members of an object, to be taken out one by one.
pub struct Members(Map<String, Value>);

impl Members {
    /// Of an object.
    pub fn of(value: Value) -> Result<Self, Wrong> {
        match value {
            Value::Object(members) => Ok(Self(members)),
            other => Err(Wrong::expected("an object", &other)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// One that may be absent.
    pub fn may<T: Read + Default>(&mut self, name: &str) -> Result<T, Wrong> {
        match self.take(name) {
            Some(value) => T::read(value).map_err(|e| e.within(name)),
            None => Ok(T::default()),
        }
    }

    /// One that must be there.
    pub fn must<T: Read>(&mut self, name: &str) -> Result<T, Wrong> {
        let value = self.take(name).ok_or_else(|| Wrong::new(format!("missing field `{name}`")))?;
        T::read(value).map_err(|e| e.within(name))
    }

    /// Those that nobody took.
    pub fn rest(self) -> Map<String, Value> {
        self.0
    }
}

/// How a struct takes its members: `field: may "name"` where it may be absent, `must` where not; `..rest` keeps what is
/// not known.
#[macro_export]
macro_rules! read_json {
    ($type:ty { $($field:ident: $how:ident $name:literal),* $(,)? } $(..$rest:ident)?) => {
        impl $crate::json::Read for $type {
            fn read(value: $crate::json::Value) -> ::std::result::Result<Self, $crate::json::Wrong> {
                let mut members = $crate::json::Members::of(value)?;
                Ok(Self {
                    $($field: members.$how($name)?,)*
                    $($rest: members.rest(),)?
                })
            }
        }
    };
}

macro_rules! read_number {
    ($($type:ty: $as:ident),*) => {$(
        impl Read for $type {
            fn read(value: Value) -> Result<Self, Wrong> {
                let number = value.$as().and_then(|n| n.try_into().ok());
                number.ok_or_else(|| {
                    Wrong::expected(&format!("a number from {} to {}", <$type>::MIN, <$type>::MAX), &value)
                })
            }
        }
    )*};
}
read_number!(u16: as_u64, u32: as_u64, u64: as_u64, i32: as_i64, i64: as_i64);

impl Read for bool {
    fn read(value: Value) -> Result<Self, Wrong> {
        value.as_bool().ok_or_else(|| Wrong::expected("true or false", &value))
    }
}

impl Read for String {
    fn read(value: Value) -> Result<Self, Wrong> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(Wrong::expected("a string", &other)),
        }
    }
}

impl Read for PathBuf {
    fn read(value: Value) -> Result<Self, Wrong> {
        String::read(value).map(Self::from)
    }
}

impl Read for Value {
    fn read(value: Value) -> Result<Self, Wrong> {
        Ok(value)
    }
}

impl<T: Read> Read for Option<T> {
    fn read(value: Value) -> Result<Self, Wrong> {
        if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
    }
}

impl<A: Read, B: Read> Read for (A, B) {
    fn read(value: Value) -> Result<Self, Wrong> {
        match value {
            Value::Array(items) => match <[Value; 2]>::try_from(items) {
                Ok([a, b]) => Ok((A::read(a)?, B::read(b)?)),
                Err(items) => Err(Wrong::new(format!("expected a pair, found a list of {}", items.len()))),
            },
            other => Err(Wrong::expected("a pair", &other)),
        }
    }
}

impl<T: Read> Read for Box<T> {
    fn read(value: Value) -> Result<Self, Wrong> {
        T::read(value).map(Box::new)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: Value) -> Result<Self, Wrong> {
        let items = match value {
            Value::Array(items) => items,
            other => return Err(Wrong::expected("a list", &other)),
        };
        let mut out = Self::with_capacity(items.len());
        for (n, item) in items.into_iter().enumerate() {
            out.push(T::read(item).map_err(|e| e.within(&format!("[{n}]")))?);
        }
        Ok(out)
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: Value) -> Result<Self, Wrong> {
        let mut out = Self::new();
        for (name, value) in Members::of(value)?.rest() {
            let value = T::read(value).map_err(|e| e.within(&name))?;
            out.insert(name, value);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Inner {
        id: u32,
        list: Vec<String>,
        extra: Map<String, Value>,
    }
    read_json!(Inner { id: must "ID", list: may "list" } ..extra);

    #[derive(Debug, Default, PartialEq)]
    struct Outer {
        inner: Option<Inner>,
        more: BTreeMap<String, Vec<Inner>>,
        on: bool,
    }
    read_json!(Outer { inner: may "inner", more: may "more", on: may "on" });

    #[test]
    fn a_struct_takes_its_members_and_null_is_as_good_as_absent() {
        let read = |text: &str| from_slice::<Outer>(text.as_bytes()).unwrap();
        assert_eq!(read(r#"{"inner":null,"more":null,"unknown":[1]}"#), Outer::default());
        let outer = read(r#"{"inner":{"ID":7,"list":["a"],"x":{}},"more":{"k":[{"ID":1}]},"on":true}"#);
        assert_eq!(outer.inner.as_ref().map(|i| (i.id, i.list.len(), i.extra.len())), Some((7, 1, 1)));
        assert_eq!((outer.more["k"][0].id, outer.on), (1, true));
    }

    #[test]
    fn a_wrong_member_is_named_by_its_path() {
        for (text, says) in [
            (r#"{"inner":{"ID":-1}}"#, "inner.ID: expected a number from 0 to 4294967295, found -1"),
            (
                r#"{"inner":{"ID":4294967296}}"#,
                "inner.ID: expected a number from 0 to 4294967295, found 4294967296",
            ),
            (r#"{"inner":{"ID":1.5}}"#, "inner.ID: expected a number from 0 to 4294967295, found 1.5"),
            (r#"{"inner":{}}"#, "inner: missing field `ID`"),
            (r#"{"inner":[]}"#, "inner: expected an object, found a list"),
            (
                r#"{"more":{"k":[{"ID":1},{"ID":1,"list":[1]}]}}"#,
                "more.k[1].list[0]: expected a string, found 1",
            ),
            (r#"{"on":"yes"}"#, "on: expected true or false, found \"yes\""),
            ("7", "expected an object, found 7"),
            ("{", "EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(from_slice::<Outer>(text.as_bytes()).unwrap_err().to_string(), says, "{text}");
        }
    }
}
