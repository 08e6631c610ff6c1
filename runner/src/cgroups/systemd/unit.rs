//! Which unit of systemd's a container is, and where its group lies. Pure.

use std::path::PathBuf;

use coracle_sys::{Error, Result, read_json};
use serde::Serialize;

use super::value::Value;

/// A unit for a container. Serialised, it is how another process finds it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unit {
    /// Its name: `prefix-name.scope`, or a slice.
    pub name: String,
    /// Whether it is the calling user's systemd that has it, not the system's.
    pub user: bool,
    /// The slice that it is in.
    #[serde(skip)]
    pub(super) slice: String,
    /// What it is started with.
    #[serde(skip)]
    pub(super) properties: Vec<(String, Value)>,
}

read_json!(Unit { name: must "name", user: must "user" });

impl Unit {
    /// From `linux.cgroupsPath`, which is `slice:prefix:name` for systemd.
    pub(super) fn parse(path: Option<&str>, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match path.filter(|p| !p.is_empty()) {
            None => ("", "coracle", id),
            Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] if !name.is_empty() && !path.contains('/') => (slice, prefix, name),
                // In runc's words.
                _ => {
                    return Err(Error::invalid(format!(
                        "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                    )));
                }
            },
        };
        let slice = if slice.is_empty() { default } else { slice };
        let name = match name.ends_with(".slice") {
            true => name.to_owned(),
            false if prefix.is_empty() => format!("{name}.scope"),
            false => format!("{prefix}-{name}.scope"),
        };
        Ok(Self { name, user, slice: slice.to_owned(), properties: Vec::new() })
    }

    /// Its group below systemd's own: each dash of a slice's name is a slice above.
    pub(super) fn dir(&self) -> Result<PathBuf> {
        let invalid = || Error::invalid(format!("linux.cgroupsPath: invalid slice name: {:?}", self.slice));
        let stem = self.slice.strip_suffix(".slice").ok_or_else(invalid)?;
        let mut dir = PathBuf::new();
        if stem != "-" {
            if stem.split('-').any(str::is_empty) {
                return Err(invalid());
            }
            let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
            ends.for_each(|end| dir.push(format!("{}.slice", &stem[..end])));
        }
        dir.push(&self.name);
        Ok(dir)
    }

    /// A slice holds no processes that systemd knows of.
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// What it is, beside its limits.
    pub(super) fn about(&self, id: &str) -> Vec<(String, Value)> {
        let mut all = vec![
            ("Description", Value::text(format!("coracle container {id}"))),
            ("DefaultDependencies", Value::Flag(false)),
        ];
        match self.is_slice() {
            true => all.push(("Wants", Value::List("s".into(), vec![Value::text(&self.slice)]))),
            false => all.extend([("Slice", Value::text(&self.slice)), ("Delegate", Value::Flag(true))]),
        }
        let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
        all.extend(accounting.map(|name| (name, Value::Flag(true))));
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_unit_and_the_slices_above_it() {
        for (path, user, dir) in [
            (Some("a-b.slice:crio:x"), false, "a.slice/a-b.slice/crio-x.scope"),
            (Some(":libpod:x"), false, "system.slice/libpod-x.scope"),
            (Some("::x"), true, "user.slice/x.scope"),
            (Some("a.slice:p:a-c.slice"), false, "a.slice/a-c.slice"),
            (Some("-.slice:p:x"), false, "p-x.scope"),
            (None, false, "system.slice/coracle-id.scope"),
        ] {
            let unit = Unit::parse(path, "id", user).unwrap();
            assert_eq!(unit.dir().unwrap(), PathBuf::from(dir), "{path:?}");
        }
        for path in [
            "/a/b",
            "a:b",
            "a:b:",
            "a--b.slice:p:x",
            "a:p:x",
            "a/../b.slice:p:x",
            ".slice:p:x",
            "-a.slice:p:x",
        ] {
            assert!(Unit::parse(Some(path), "id", false).and_then(|unit| unit.dir()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_scope_lies_in_its_slice_and_a_slice_wants_it() {
        let about = |path| Unit::parse(Some(path), "id", false).unwrap().about("id");
        let scope = about("a.slice:p:x");
        assert!(scope.contains(&("Slice".into(), Value::text("a.slice"))));
        assert!(scope.contains(&("Delegate".into(), Value::Flag(true))));
        let slice = about("a.slice:p:a-x.slice");
        assert!(slice.contains(&("Wants".into(), Value::List("s".into(), vec![Value::text("a.slice")]))));
        assert!(slice.iter().all(|(name, _)| name != "Delegate"));
    }
}
