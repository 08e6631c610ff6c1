//! `[boot]`: what an image says about being booted. It travels as labels, so that it is there wherever the image is,
//! also for images of Dockerfiles (`LABEL coracle.boot.cmdline=...`).

use std::collections::BTreeMap;

use coracle_sys::{Error, Result, read_json};

/// Words for the kernel's command line.
const CMDLINE: &str = "coracle.boot.cmdline";
/// Names of modules, with spaces between them.
const MODULES: &str = "coracle.boot.modules";

/// What is asked of whoever boots it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Words for the kernel's command line.
    pub(crate) cmdline: Option<String>,
    /// Modules of the kernel that it needs, beside those by which its root is found.
    pub(crate) modules: Vec<String>,
}

read_json!(Boot {
    cmdline: may "cmdline",
    modules: may "modules",
} only);

impl Boot {
    /// Is it said in words that a command line and a list can hold?
    pub(super) fn check(&self) -> Result<()> {
        if let Some(line) = self.cmdline.as_ref().filter(|line| line.contains(['\n', '\0'])) {
            return Err(Error::invalid(format!("cmdline is one line, not {line:?}")));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match self.modules.iter().find(|name| name.is_empty() || !name.chars().all(plain)) {
            Some(bad) => Err(Error::invalid(format!("{bad:?} is no module's name"))),
            None => Ok(()),
        }
    }

    /// What an image's labels say.
    pub(crate) fn of(labels: &BTreeMap<String, String>) -> Result<Self> {
        let modules = labels.get(MODULES).map(|names| names.split_whitespace().map(str::to_owned).collect());
        let boot = Self { cmdline: labels.get(CMDLINE).cloned(), modules: modules.unwrap_or_default() };
        boot.check().map_err(|e| e.wrap("read the labels coracle.boot.*")).map(|()| boot)
    }

    /// As labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        if let Some(line) = &self.cmdline {
            out.insert(CMDLINE.to_owned(), line.clone());
        }
        if !self.modules.is_empty() {
            out.insert(MODULES.to_owned(), self.modules.join(" "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_becomes_labels_and_what_no_line_can_hold_is_refused() {
        let boot = |cmdline: Option<&str>, modules: &[&str]| Boot {
            cmdline: cmdline.map(str::to_owned),
            modules: modules.iter().map(|m| (*m).to_owned()).collect(),
        };
        let said = boot(Some("quiet console=ttyS0"), &["overlay", "nf_tables"]);
        said.check().unwrap();
        let labels: Vec<(String, String)> = said.labels().into_iter().collect();
        let expected = [(CMDLINE, "quiet console=ttyS0"), (MODULES, "overlay nf_tables")];
        assert_eq!(labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(Boot::of(&said.labels()).unwrap(), said);
        assert!(Boot::default().labels().is_empty());
        assert!(Boot::of(&BTreeMap::from([(MODULES.to_owned(), "../x".to_owned())])).is_err());
        for bad in [boot(Some("a\nb"), &[]), boot(None, &["a b"]), boot(None, &[""]), boot(None, &["../x"])] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
