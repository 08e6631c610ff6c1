//! A limit in the words of the host's version, before it is known whether the host can give it.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result};

use super::layout::Layout;
use super::plan::Write;
use super::{v1, v2};
use crate::spec::resources::{LinuxResources, Rdma};

/// A limit before it is known whether the host can give it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) controller: String,
    pub(super) file: String,
    value: String,
    pub(super) optional: bool,
    rather: Option<(String, String)>,
    pub(super) impossible: Option<&'static str>,
}

impl Limit {
    pub(super) fn new(controller: impl Into<String>, file: impl Into<String>, value: String) -> Self {
        let (controller, file) = (controller.into(), file.into());
        Self { controller, file, value, optional: false, rather: None, impossible: None }
    }

    /// It may be left out where the kernel lacks the file.
    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Another file that is used where it exists.
    pub(super) fn or(self, file: &str, value: String) -> Self {
        Self { rather: Some((file.into(), value)), ..self }
    }

    /// It cannot be given here, and why.
    pub(super) fn impossible(self, why: &'static str) -> Self {
        Self { impossible: Some(why), ..self }
    }

    pub(super) fn write(self) -> Write {
        Write { file: self.file, value: self.value, optional: self.optional, rather: self.rather }
    }

    pub(super) fn shown(&self) -> String {
        match self.value.as_str() {
            "" => self.file.clone(),
            value => format!("{} = {value}", self.file),
        }
    }
}

/// A limit that v2 calls `max` when there is none; `pids.max` of v1 too.
pub(super) fn number(n: i64) -> String {
    if n < 0 { "max".into() } else { n.to_string() }
}

/// RDMA is the same in both versions.
pub(super) fn rdma(devices: &BTreeMap<String, Rdma>, out: &mut Vec<Limit>) {
    for (device, r) in devices {
        let mut line = device.clone();
        for (key, n) in [("hca_handle", r.hca_handles), ("hca_object", r.hca_objects)] {
            if let Some(n) = n {
                line.push_str(&format!(" {key}={n}"));
            }
        }
        out.push(Limit::new("rdma", "rdma.max", line));
    }
}

/// Limits of a host, in the words of its version.
pub(super) fn limits(resources: &LinuxResources, layout: &Layout) -> Result<Vec<Limit>> {
    let limits = match layout.version() {
        "2" => v2::limits(resources),
        _ => v1::limits(resources, layout),
    }?;
    // Page sizes and files of v2 are named freely.
    match limits.iter().find(|l| l.file.contains('/')) {
        Some(limit) => Err(no_file(&limit.file)),
        None => Ok(limits),
    }
}

pub(super) fn no_file(name: &str) -> Error {
    Error::invalid(format!("linux.resources: {name:?} is no file of a cgroup"))
}
