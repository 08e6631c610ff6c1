//! JSON read into structs, in little code. A derived reader is compiled anew for every struct and every form that the
//! struct may come in; here the text becomes a tree first, in one piece of code for all, and a struct takes its members
//! out of that. As Go has it, a member that is null is as good as absent, and of a name that stands twice the last counts.
//!
//! A wrong member is named by its path: `process.user.uid: expected a number from 0 to 4294967295, found -1`.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use serde_json::{Map, Number, Value};

use crate::{Error, Result};

/// What is wrong, and where.
#[derive(Debug)]
pub struct Wrong {
    /// From the member itself outwards.
    path: Vec<String>,
    /// A member that `why` names already, and that is not in the path.
    named: Option<String>,
    why: String,
}

impl Wrong {
    /// Of the value itself.
    pub fn new(why: impl Into<String>) -> Self {
        Self { path: Vec::new(), named: None, why: why.into() }
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

    fn number(least: i64, most: u64, found: &Value) -> Self {
        Self::expected(&format!("a number from {least} to {most}"), found)
    }

    fn error(self) -> Error {
        Error::invalid(self.told(self.path.len()))
    }

    /// With the innermost `steps` of the path.
    fn told(&self, steps: usize) -> String {
        let mut out = String::new();
        for step in self.path[..steps].iter().rev() {
            out.push_str(if out.is_empty() || step.starts_with('[') { "" } else { "." });
            // A line break in a name would begin a line of its own.
            out.push_str(&step.replace('\n', " "));
        }
        out.push_str(if out.is_empty() { "" } else { ": " });
        out + &self.why
    }

    /// What is wrong, with the last name of the path alone: for those who say the line.
    pub fn brief(&self) -> String {
        let name = self.path.iter().position(|step| !step.starts_with('['));
        self.told(if self.named.is_some() { 0 } else { name.map_or(self.path.len(), |n| n + 1) })
    }

    /// The path to what is wrong, from the outside: names, and numbers of items as `[n]`.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.path.iter().rev().chain(&self.named).map(|step| &step[..])
    }

    /// Inside a member, or an item `[n]`.
    fn within(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }
}

/// What can be read from JSON, into the place where it is to be: a struct is filled member by member, by one function for all
/// of them.
pub trait Read {
    /// Take it out of a value. What is there after an error is of no use.
    fn read(&mut self, value: Value) -> Result<(), Wrong>;
}

/// Read a text.
pub fn from_slice<T: Read + Default>(text: &[u8]) -> Result<T> {
    let value: Value = serde_json::from_slice(text).map_err(|e| Error::invalid(e.to_string()))?;
    from_value(value)
}

/// Read a value.
pub fn from_value<T: Read + Default>(value: Value) -> Result<T> {
    let mut read = T::default();
    read.read(value).map_err(Wrong::error)?;
    Ok(read)
}

/// A member of an object, and where it goes.
pub struct Member<'a> {
    name: &'static str,
    needed: bool,
    into: &'a mut dyn Read,
}

impl<'a> Member<'a> {
    /// One that may be absent; then what is there stays.
    pub fn may(name: &'static str, into: &'a mut dyn Read) -> Self {
        Self { name, needed: false, into }
    }

    /// One that must be there.
    pub fn must(name: &'static str, into: &'a mut dyn Read) -> Self {
        Self { name, needed: true, into }
    }
}

/// Take members out of an object. Those that nobody took come back.
pub fn members(value: Value, table: &mut [Member<'_>]) -> Result<Map<String, Value>, Wrong> {
    let Value::Object(mut members) = value else { return Err(Wrong::expected("an object", &value)) };
    for Member { name, needed, into } in table {
        match members.remove(*name).filter(|value| !value.is_null()) {
            Some(value) => into.read(value).map_err(|e| e.within(name))?,
            None if *needed => return Err(Wrong::new(format!("missing field `{name}`"))),
            None => {}
        }
    }
    Ok(members)
}

/// Refuse an object that has other members: before one is missed, since it may be there by a name that was mistyped.
pub fn only(value: &Value, known: &[&str]) -> Result<(), Wrong> {
    let mut names = value.as_object().into_iter().flat_map(Map::keys);
    let Some(name) = names.find(|name| !known.contains(&&name[..])) else { return Ok(()) };
    let why = format!("unknown field `{name}`, expected one of `{}`", known.join("`, `"));
    Err(Wrong { path: Vec::new(), named: Some(name.clone()), why })
}

/// How a struct takes its members: `field: may "name"` where it may be absent, `must` where not. What is not known is
/// passed over; `..rest` keeps it, and after `only` it is refused.
#[macro_export]
macro_rules! read_json {
    ($type:ty { $($field:ident: $how:ident $name:literal),* $(,)? } only) => {
        impl $crate::json::Read for $type {
            fn read(
                &mut self,
                value: $crate::json::Value,
            ) -> ::std::result::Result<(), $crate::json::Wrong> {
                $crate::json::only(&value, &[$($name),*])?;
                let table = &mut [$($crate::json::Member::$how($name, &mut self.$field)),*];
                $crate::json::members(value, table).map(drop)
            }
        }
    };
    ($type:ty { $($field:ident: $how:ident $name:literal),* $(,)? } $(..$rest:ident)?) => {
        impl $crate::json::Read for $type {
            fn read(
                &mut self,
                value: $crate::json::Value,
            ) -> ::std::result::Result<(), $crate::json::Wrong> {
                let _rest = $crate::json::members(
                    value,
                    &mut [$($crate::json::Member::$how($name, &mut self.$field)),*],
                )?;
                $(self.$rest = _rest;)?
                Ok(())
            }
        }
    };
}

macro_rules! read_number {
    ($($type:ty: $as:ident),*) => {$(
        impl Read for $type {
            fn read(&mut self, value: Value) -> Result<(), Wrong> {
                let number = value.$as().and_then(|n| n.try_into().ok());
                *self = number
                    .ok_or_else(|| Wrong::number(<$type>::MIN as i64, <$type>::MAX as u64, &value))?;
                Ok(())
            }
        }
    )*};
}
read_number!(u8: as_u64, u16: as_u64, u32: as_u64, u64: as_u64, usize: as_u64, i32: as_i64, i64: as_i64);

impl Read for bool {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = value.as_bool().ok_or_else(|| Wrong::expected("true or false", &value))?;
        Ok(())
    }
}

impl Read for String {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = text(value)?;
        Ok(())
    }
}

/// A value that is a string.
pub fn text(value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Wrong::expected("a string", &other)),
    }
}

impl Read for PathBuf {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = text(value)?.into();
        Ok(())
    }
}

impl Read for Value {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = value;
        Ok(())
    }
}

impl<T: Read + Default> Read for Option<T> {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        *self = None;
        if value.is_null() { Ok(()) } else { self.insert(T::default()).read(value) }
    }
}

impl<A: Read, B: Read> Read for (A, B) {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        match value {
            Value::Array(items) => match <[Value; 2]>::try_from(items) {
                Ok([a, b]) => self.0.read(a).and_then(|()| self.1.read(b)),
                Err(items) => Err(Wrong::new(format!("expected a pair, found a list of {}", items.len()))),
            },
            other => Err(Wrong::expected("a pair", &other)),
        }
    }
}

impl<T: Read> Read for Box<T> {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        (**self).read(value)
    }
}

impl<T: Read + Default> Read for Vec<T> {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        self.clear();
        list(value, &mut |item| {
            self.push(T::default());
            self.last_mut().map_or(Ok(()), |into| into.read(item))
        })
    }
}

/// What a list and an object of many have in common is compiled once.
fn list(value: Value, add: &mut dyn FnMut(Value) -> Result<(), Wrong>) -> Result<(), Wrong> {
    let Value::Array(items) = value else { return Err(Wrong::expected("a list", &value)) };
    for (n, item) in items.into_iter().enumerate() {
        add(item).map_err(|e| e.within(&format!("[{n}]")))?;
    }
    Ok(())
}

impl<K: From<String> + Ord, T: Read + Default> Read for BTreeMap<K, T> {
    fn read(&mut self, value: Value) -> Result<(), Wrong> {
        self.clear();
        object(value, &mut |name, value| {
            let mut item = T::default();
            let read = item.read(value);
            self.insert(name.into(), item);
            read
        })
    }
}

fn object(value: Value, add: &mut dyn FnMut(String, Value) -> Result<(), Wrong>) -> Result<(), Wrong> {
    for (name, value) in members(value, &mut [])? {
        add(name.clone(), value).map_err(|e| e.within(&name))?;
    }
    Ok(())
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
