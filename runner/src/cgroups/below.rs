//! Groups below a container's own: those of `exec --cgroup`, by the words that runc takes, `PATH` for every hierarchy or
//! `CONTROLLER[,CONTROLLER]:PATH` for one; and the one that its first process has moved to. Nobody climbs.

use std::path::{Component, Path, PathBuf};

use coracle_sys::{Context, Error, Result};

use super::Group;

/// Their directories.
pub(super) fn named(groups: &[Group], words: &[String]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for word in words {
        let (controllers, path) = match word.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, word.as_str()),
        };
        let relative = path.trim_start_matches('/');
        if Path::new(relative).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::usage(format!("--cgroup {word:?}: {path} is not a sub cgroup path")));
        }
        let mut take = |group: &Group| all.push(group.dir.join(relative));
        let Some(controllers) = controllers else {
            groups.iter().for_each(take);
            continue;
        };
        for controller in controllers.split(',') {
            let group = groups.iter().find(|g| !g.unified && g.controllers.iter().any(|c| c == controller));
            let unknown = || {
                Error::usage(format!(
                    "--cgroup {word:?}: unknown controller {controller}: the container has no group of v1 for it"
                ))
            };
            take(group.ok_or_else(unknown)?);
        }
    }
    Ok(all)
}

/// Whether a process is in a group or in one below it, also one that our pid namespace does not see.
pub(super) fn holds_a_process(dir: &Path) -> Result<bool> {
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        let file = dir.join("cgroup.procs");
        match std::fs::read(&file) {
            Ok(list) if list.is_empty() => {}
            Ok(_) => return Ok(true),
            // One of threads alone, whose processes are told by the group above them.
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            Err(e) => return Err(e).context(|| format!("read({file:?})")),
        }
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        rest.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    Ok(false)
}

/// The group of v2 below `dir` that a process is in.
pub(super) fn where_it_is(dir: &Path, pid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
    // Seen from our own namespace the path may begin elsewhere: what counts is what stands behind the group's name.
    let mut rest = path.components().skip_while(|part| Some(part.as_os_str()) != dir.file_name());
    rest.next()?;
    let below: PathBuf = rest.collect();
    let climbs = below.components().any(|c| !matches!(c, Component::Normal(_)));
    (!below.as_os_str().is_empty() && !climbs).then(|| dir.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_below_the_containers_own_and_nowhere_else() {
        let group = |unified, controller: &str, dir: &str| Group {
            unified,
            controllers: vec![controller.to_owned()],
            dir: dir.into(),
            ..Group::default()
        };
        let groups = [group(false, "memory", "/m/c"), group(false, "cpu", "/c/c"), group(true, "", "/u/c")];
        let ask = |words: &[&str]| named(&groups, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(ask(&["memory:a/b"]).unwrap(), [Path::new("/m/c/a/b")]);
        assert_eq!(ask(&["/x"]).unwrap().len(), 3);
        assert_eq!(ask(&["cpu,memory:/"]).unwrap(), [Path::new("/c/c"), Path::new("/m/c")]);
        for (bad, word) in [
            ("..", "sub cgroup"),
            ("a/../../b", "sub cgroup"),
            ("cpu:../x", "sub cgroup"),
            ("none:/", "unknown controller"),
        ] {
            assert!(ask(&[bad]).unwrap_err().to_string().contains(word), "{bad}");
        }
    }
}
