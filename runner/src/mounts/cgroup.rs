//! The container's cgroups on version 1, as they are to be seen inside: only those that were made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self as sys, Attrs, attr};
use coracle_sys::{Context, Result};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use serde::Serialize;

use super::Mount;
use super::fs::new_file_system;
use super::options::{self, Options};
use crate::rootfs::Root;

/// One cgroup v1 hierarchy to be seen inside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hierarchy {
    /// Its directory's name, such as `cpu,cpuacct`.
    pub name: String,
    /// What it is mounted with: controllers, or `none` and a name.
    pub options: Vec<(String, Option<String>)>,
    /// The container's own group on the host, bound where there is no cgroup namespace.
    pub group: PathBuf,
}

impl Mount {
    /// A tmpfs with a directory for each hierarchy; read only at the end, if it is to be.
    pub(super) fn cgroups_v1(&self, hierarchies: &[Hierarchy], bind: bool, root: &Root) -> Result<OwnedFd> {
        let flags = self.options.flags.set;
        let attrs = Attrs { set: flags, clear: self.options.flags.clear & attr::ATIME, ..Attrs::default() };
        let mut data = vec![("mode".into(), Some("755".into())), ("size".into(), Some("64k".into()))];
        data.extend(self.options.data.iter().filter(|(key, _)| options::is_label(key)).cloned());
        let holder = Options { data, ..Options::default() };
        let tree = new_file_system("tmpfs", Some("cgroup"), &holder)?;
        let target = self.target(root, Some(&tree))?;
        sys::attach(tree.as_fd(), target.as_fd())?;
        for hierarchy in hierarchies {
            let name = Path::new(&hierarchy.name);
            mkdirat(&tree, name, Mode::from_bits_truncate(0o755)).context(|| format!("mkdirat({name:?})"))?;
            let group = if bind {
                let group = sys::clone_host_tree(&hierarchy.group, false)?;
                sys::set_attrs(group.as_fd(), attrs, false)?;
                group
            } else {
                let mut options = Options { data: hierarchy.options.clone(), ..Options::default() };
                options.flags.set = flags;
                new_file_system("cgroup", Some("cgroup"), &options)?
            };
            sys::attach_at(group.as_fd(), tree.as_fd(), name)?;
            // Of those that share a hierarchy, programs know each by its own name.
            for alone in hierarchy.name.split(',').filter(|alone| *alone != hierarchy.name) {
                symlinkat(name, &tree, alone).context(|| format!("symlinkat({name:?}, {alone:?})"))?;
            }
        }
        sys::set_attrs(tree.as_fd(), attrs, false)?;
        Ok(tree)
    }
}
