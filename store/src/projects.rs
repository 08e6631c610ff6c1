//! How much of the disk a container may write: its upper is of a project of its own, whose quota the file system keeps.
//! Projects are numbers that all of a file system share. Which of them are containers' of this store is told by the entries
//! of `projects/`, each a number that leads to the container's id; one whose container is gone is free again.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result, file, quota};
use nix::errno::Errno;

use crate::container::{ContainerDir, list, mkdir};
use crate::digest::Digest;
use crate::lock::Lock;
use crate::read::Store;

/// The numbers of containers, apart from those that people and other tools begin with. Stores on one file system begin at
/// places of their own.
const FIRST: u32 = 0x4300_0000;
const COUNT: u32 = 0x0010_0000;

impl Store {
    /// Let a container write so many bytes, from the next start on. To be done before anything is written, and may be done
    /// again. Where the file system has no quotas of projects it is refused, and says what it takes.
    pub fn limit_container(&self, dir: &ContainerDir, bytes: u64) -> Result<()> {
        if self.driver().copies() {
            let name = self.driver().name();
            return Err(Error::unsupported(format!("the storage driver {name} keeps no quotas")));
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::unsupported("quotas on disk are the host's root's to give"));
        }
        counts_projects(&dir.path)?;
        let _alone = self.alone()?;
        let project = match self.projects()?.into_iter().find(|(_, owner)| *owner == dir.id) {
            Some((project, _)) => project,
            None => self.claim_project(dir)?,
        };
        for part in [dir.upper(), dir.work()] {
            let open = file::open_dir(&part)?;
            if quota::project(open.as_fd())? != project {
                quota::set_project(open.as_fd(), project).map_err(|e| explain(e, &part))?;
            }
        }
        quota::limit(file::open_dir(&dir.path)?.as_fd(), project, bytes).map_err(|e| explain(e, &dir.path))
    }

    /// A container's number is free, and has no limit any more. Its files have to be gone.
    pub fn release_project(&self, id: &str) -> Result<()> {
        if !self.projects_dir().exists() {
            return Ok(());
        }
        let _alone = self.alone()?;
        for (project, owner) in self.projects()? {
            if owner == id {
                self.free_project(project)?;
            }
        }
        Ok(())
    }

    fn claim_project(&self, dir: &ContainerDir) -> Result<u32> {
        match mkdir(&self.projects_dir(), 0o700) {
            Err(e) if e.kind() != Kind::Exists => return Err(e),
            _ => {}
        }
        let mut taken = Vec::new();
        for (project, owner) in self.projects()? {
            match self.main().container(&owner).exists() {
                true => taken.push(project),
                false => self.free_project(project)?,
            }
        }
        let disk = file::open_dir(&dir.path)?;
        let seed = Digest::of(self.main().root().as_os_str().as_encoded_bytes()).hex();
        let begin = u32::from_str_radix(seed.get(..5).unwrap_or_default(), 16).unwrap_or(0);
        for n in 0..COUNT {
            let project = FIRST + begin.wrapping_add(n) % COUNT;
            // Another store's, or somebody else's altogether.
            if taken.contains(&project)
                || !quota::is_free(disk.as_fd(), project).map_err(|e| explain(e, &dir.path))?
            {
                continue;
            }
            let path = self.projects_dir().join(project.to_string());
            symlink(&dir.id, &path).context(|| format!("symlink({:?}, {path:?})", dir.id))?;
            return Ok(project);
        }
        Err(Error::new(Kind::Busy, "all numbers of projects that are for containers are in use"))
    }

    /// The limit goes first: a number without an entry is anybody's.
    fn free_project(&self, project: u32) -> Result<()> {
        match quota::limit(file::open_dir(self.main().root())?.as_fd(), project, 0) {
            // The store has come to another disk, or its disk is mounted without quotas.
            Err(e) if matches!(e.errno(), Some(Errno::ESRCH | Errno::ENOSYS | Errno::EOPNOTSUPP)) => {}
            other => other?,
        }
        let path = self.projects_dir().join(project.to_string());
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context(|| format!("unlink({path:?})")),
            _ => Ok(()),
        }
    }

    /// Numbers, and the containers that have them.
    fn projects(&self) -> Result<Vec<(u32, String)>> {
        let all = list(&self.projects_dir())?.into_iter();
        Ok(all
            .filter_map(|name| {
                let owner = fs::read_link(self.projects_dir().join(&name)).ok()?;
                Some((name.parse().ok()?, owner.into_os_string().into_string().ok()?))
            })
            .collect())
    }

    fn alone(&self) -> Result<Lock> {
        Lock::exclusive(&self.main().root().join("projects.lock"))
    }

    fn projects_dir(&self) -> PathBuf {
        self.main().root().join("projects")
    }
}

/// Without the option of its mount a file system may count, and hold nobody to anything.
fn counts_projects(path: &Path) -> Result<()> {
    let device = fs::metadata(path).context(|| format!("stat({path:?})"))?.st_dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let table = String::from_utf8_lossy(&file::read(Path::new("/proc/self/mountinfo"))?).into_owned();
    match mounted(&table, &format!("{major}:{minor}")) {
        Some((_, _, true)) => Ok(()),
        Some((kind @ ("ext4" | "f2fs"), at, false)) => Err(Error::unsupported(format!(
            "the {kind} that is mounted on {at} keeps no quotas of projects: it takes the mount option prjquota, and the file system the features quota and project (tune2fs -O quota,project, while it is not mounted)"
        ))),
        Some(("xfs", at, false)) => Err(Error::unsupported(format!(
            "the xfs that is mounted on {at} keeps no quotas of projects: it takes the mount option pquota (for the root file system rootflags=pquota on the kernel's command line)"
        ))),
        Some((kind, at, false)) => Err(Error::unsupported(format!(
            "{kind}, which is mounted on {at}, has no quotas of projects: ext4 and xfs have, with the mount option prjquota"
        ))),
        None => Err(Error::unsupported("there is no telling what the store's file system is")),
    }
}

/// Of a device's first mount: type, place, and whether projects are held to their quotas.
fn mounted<'a>(table: &'a str, device: &str) -> Option<(&'a str, &'a str, bool)> {
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (mount, disk) = line.split_once(" - ")?;
    let mut disk = disk.split(' ');
    let (kind, options) = (disk.next()?, disk.nth(1)?);
    let holds = options.split(',').any(|option| matches!(option, "prjquota" | "pquota"));
    Some((kind, mount.split(' ').nth(4)?, holds))
}

/// The errnos that mislead.
fn explain(e: Error, path: &Path) -> Error {
    match e.errno() {
        Some(Errno::ESRCH) => e.wrap(format!("the file system of {} counts no projects", path.display())),
        Some(Errno::ENOSYS) => e.wrap("quotas take Linux 5.14, and no filter that denies quotactl_fd"),
        Some(Errno::EPERM) => e.wrap("quotas on disk are given by the host's root with CAP_SYS_ADMIN alone"),
        Some(Errno::ENOTTY | Errno::EOPNOTSUPP) => {
            e.wrap(format!("the file system of {} has no projects", path.display()))
        }
        _ => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mount_option_means_that_projects_are_held_to_their_quotas() {
        let table = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
             23 22 254:1 / /data rw - ext4 /dev/vdb rw,prjquota\n\
             24 22 254:1 /x /again rw - ext4 /dev/vdb rw,prjquota\n\
             25 22 254:2 / /x rw - xfs /dev/vdc rw,attr2,usrquota,pqnoenforce\n\
             26 22 0:7 / /t rw master:3 - tmpfs tmpfs rw\n";
        assert_eq!(mounted(table, "254:0"), Some(("ext4", "/", false)));
        assert_eq!(mounted(table, "254:1"), Some(("ext4", "/data", true)));
        assert_eq!(mounted(table, "254:2"), Some(("xfs", "/x", false)));
        assert_eq!(mounted(table, "0:7"), Some(("tmpfs", "/t", false)));
        assert_eq!(mounted(table, "0:8"), None);
    }
}
