//! What is to outlive its caller leaves the caller's unit: systemd kills all that is in a unit's group, or below it, when
//! the unit stops. The container's groups go beside the unit's, and the monitor is in a group there that it shares with
//! other monitors, and that a sweep removes. Nothing is done where the caller is in no unit, or may not write above it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use coracle_sys::file;

use super::layout::{Layout, Node, may_write};

/// The name of the monitors' group, behind the prefix that ours have.
pub(super) const MONITORS: &str = "monitors";

/// Where the monitor of a container is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aside {
    /// Its group of version 2, which it is born into.
    unified: Option<PathBuf>,
    /// Its group of systemd's own hierarchy of version 1, which it enters.
    named: Option<PathBuf>,
}

impl Layout {
    /// Where the caller's unit ends, a plan may go on: our own group is the one above it. Where a monitor is to be then.
    pub(super) fn leave_unit(&mut self) -> Aside {
        let mut aside = Aside::default();
        let group = |above: &Path| Some(above.join([super::PREFIX, MONITORS].concat()));
        for h in &mut self.v1 {
            let Some(above) = above_unit(&h.own, &h.mount).filter(|dir| may_write(dir)) else { continue };
            if h.controllers.iter().any(|c| c == "name=systemd") {
                aside.named = group(above);
            }
            h.own = above.to_owned();
        }
        if let Some(v2) = &mut self.v2
            && let Some(own) = v2.chain.first()
            && let Some(above) = above_unit(&own.dir, &v2.mount)
            && let Some(at) = v2.chain.iter().position(|n| n.dir == above)
            && let Some(node) = v2.chain[at..].iter().find(|n: &&Node| n.writable)
        {
            aside.unified = group(&node.dir);
            v2.chain.drain(..at);
        }
        aside
    }
}

/// The group above the innermost unit on the way to our own. A monitor that begins its container again counts as one.
fn above_unit<'a>(own: &'a Path, mount: &Path) -> Option<&'a Path> {
    let unit = own.ancestors().take_while(|dir| *dir != mount).find(|dir| {
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".service")
            || name.ends_with(".scope")
            || name.strip_prefix(super::PREFIX) == Some(MONITORS)
    });
    unit?.parent()
}

impl Aside {
    /// Make the groups. With it the one to be born into; none where there is nothing to do, or it may not be done.
    pub fn make(&self) -> Option<OwnedFd> {
        for dir in [&self.unified, &self.named].into_iter().flatten() {
            let _ = std::fs::create_dir(dir);
        }
        file::open_dir(self.unified.as_ref()?).ok()
    }

    /// Enter that of version 1. Who may not stays.
    pub fn enter(&self) {
        if let Some(dir) = &self.named {
            let _ = std::fs::write(dir.join("cgroup.procs"), "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_ends_where_its_name_says_so() {
        for (own, above) in [
            ("/cg/system.slice/a.service", Some("/cg/system.slice")),
            ("/cg/system.slice/a.service/below/it", Some("/cg/system.slice")),
            (
                "/cg/user.slice/user@7.service/app.slice/b.scope",
                Some("/cg/user.slice/user@7.service/app.slice"),
            ),
            ("/cg/a.scope", Some("/cg")),
            ("/cg/system.slice/coracle-monitors", Some("/cg/system.slice")),
            ("/cg/system.slice", None),
            ("/cg/docker/0123", None),
            ("/cg", None),
        ] {
            assert_eq!(above_unit(Path::new(own), Path::new("/cg")), above.map(Path::new), "{own}");
        }
        assert_eq!(
            above_unit(Path::new("/a.service/x"), Path::new("/a.service")),
            None,
            "the mount's own name"
        );
    }
}
