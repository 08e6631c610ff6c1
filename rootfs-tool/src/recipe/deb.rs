//! `deb = { ... }` of a layer: packages of a suite, and what a system has beside them.

use std::path::PathBuf;

use coracle_sys::{Error, Result, read_json};

/// What a system begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The packages that are named.
    None,
    /// And what is essential.
    #[default]
    Essential,
    /// And what has the priority required, and apt.
    Minbase,
    /// And what has the priority important.
    Important,
    /// And what has the priority standard.
    Standard,
}

impl Variant {
    /// By its name.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "none" => Self::None,
            "essential" => Self::Essential,
            "minbase" | "required" => Self::Minbase,
            "important" => Self::Important,
            "standard" => Self::Standard,
            _ => {
                return Err(Error::invalid(format!(
                    "variant is none, essential, minbase, important or standard, not {text:?}"
                )));
            }
        })
    }
}

/// Packages of a suite.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deb {
    /// The suite, such as `bookworm`.
    pub(crate) suite: String,
    /// `NAME` or `NAME=VERSION`.
    pub(crate) packages: Vec<String>,
    /// What every system has beside them: `none`, `essential`, `minbase`, `important` or `standard`.
    pub(crate) variant: Option<String>,
    /// Take what packages recommend.
    pub(crate) recommends: bool,
    /// Run the scripts of the packages; yes when not given.
    pub(crate) configure: Option<bool>,
    /// The repository, instead of those of the host's apt.
    pub(crate) mirror: Option<String>,
    /// The components of the suite.
    pub(crate) components: Vec<String>,
    /// A file of keys, from the recipe's folder.
    pub(crate) keyring: Option<PathBuf>,
    /// Refuse an index that has expired.
    pub(crate) check_valid_until: Option<bool>,
    /// Write apt's list of the repositories that the packages are from.
    pub(crate) sources: bool,
    /// Paths that stay out.
    pub(crate) exclude: Vec<String>,
    /// Paths that stay all the same.
    pub(crate) include: Vec<String>,
    /// Of the finished system only these paths stay; all when there is none.
    pub(crate) keep: Vec<String>,
}

read_json!(Deb {
    suite: must "suite",
    packages: may "packages",
    variant: may "variant",
    recommends: may "recommends",
    configure: may "configure",
    mirror: may "mirror",
    components: may "components",
    keyring: may "keyring",
    check_valid_until: may "check_valid_until",
    sources: may "sources",
    exclude: may "exclude",
    include: may "include",
    keep: may "keep",
} only);

impl Deb {
    /// Are the scripts of the packages run?
    pub(crate) fn configures(&self) -> bool {
        self.configure.unwrap_or(true)
    }

    /// What every system has: where packages are configured, what they take for granted is there.
    pub(crate) fn variant(&self) -> Result<Variant> {
        match &self.variant {
            Some(variant) => Variant::parse(variant),
            None if self.configures() => Ok(Variant::Essential),
            None => Ok(Variant::None),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.suite.is_empty() || self.suite.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("deb: {:?} is no suite", self.suite)));
        }
        if self.variant()? == Variant::None && self.packages.is_empty() {
            return Err(Error::invalid("deb: it names no packages"));
        }
        Ok(())
    }
}
