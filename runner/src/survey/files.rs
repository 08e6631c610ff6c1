//! Small questions to files of the host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// A file's text without the white space at its ends; nothing where it cannot be read.
pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

pub(super) fn number(path: &str) -> Option<u64> {
    read(path).parse().ok()
}

pub(super) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

pub(super) fn may_use(path: &str) -> bool {
    access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
}

/// A program in PATH or where administrators' programs are.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file() && access(p, AccessFlags::X_OK).is_ok())
}

/// Whether a program runs with more rights than its caller.
pub(super) fn privileged(program: &Path) -> bool {
    let setuid = std::fs::metadata(program).is_ok_and(|m| m.permissions().mode() & 0o4000 != 0);
    setuid || super::trial::has_file_capabilities(program)
}

/// Whether a firewall, as nft or iptables shows it, drops what is forwarded unless a rule accepts it.
pub(super) fn drops_forwarded(rules: &str) -> bool {
    rules.lines().any(|l| {
        let l = l.trim();
        l == "-P FORWARD DROP" || (l.contains("hook forward") && l.contains("policy drop"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_drop_is_seen_in_both_tools_words() {
        for (rules, drops) in [
            ("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n", true),
            ("-P FORWARD ACCEPT\n", false),
            ("chain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}", true),
            ("chain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}", false),
        ] {
            assert_eq!(drops_forwarded(rules), drops, "{rules}");
        }
    }
}
