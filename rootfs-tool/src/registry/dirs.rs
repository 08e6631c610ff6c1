//! Where this user's configuration lies.

use std::path::PathBuf;

/// What a variable of the environment names, when it is set to something.
pub(super) fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// `$XDG_CONFIG_HOME`, else `~/.config`.
pub(super) fn config() -> Option<PathBuf> {
    named_by("XDG_CONFIG_HOME").or_else(|| Some(named_by("HOME")?.join(".config")))
}
