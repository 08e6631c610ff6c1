//! A path in a stack of directories, looked up as overlay shows it: of each name the topmost counts,
//! directories are one with those below them, and a whiteout or an opaque directory hides what is
//! below. Links lead through the whole stack and never out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use coracle_store::layer::{Marks, whiteout};
use coracle_sys::{Context, Result, file};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// The directories that are one in the stack, topmost first.
type Merged = Vec<OwnedFd>;

/// What a name is in a merged directory.
enum Found {
    Nothing,
    Directory(Merged),
    Link(OsString),
    /// Anything else, and the directory that it is in.
    Other(usize),
}

/// Open what is at `path` in a stack of directories, lowest first, for reading; none where the stack
/// has no file there.
pub(super) fn open(dirs: &[PathBuf], path: &str) -> Result<Option<OwnedFd>> {
    // An upper of fuse-overlayfs is here for ordinary users alone.
    let marks = match Marks::of_this_process() {
        Marks::User => Marks::Fuse,
        marks => marks,
    };
    let mut todo = words(Path::new(path));
    let mut ways = vec![dirs.iter().rev().map(|dir| root(dir)).collect::<Result<Merged>>()?];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if ways.len() > 1 {
                ways.pop();
            }
            continue;
        }
        let Some(here) = ways.last() else { return Ok(None) };
        match look(here, &name, marks).context(|| format!("look up {path:?}"))? {
            Found::Nothing => return Ok(None),
            Found::Directory(inside) => ways.push(inside),
            Found::Link(target) => {
                links += 1;
                if links > LINKS {
                    return Ok(None);
                }
                let target = Path::new(&target);
                if target.is_absolute() {
                    ways.truncate(1);
                }
                let mut first = words(target);
                first.append(&mut todo);
                todo = first;
            }
            Found::Other(at) if todo.is_empty() => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let opened = openat(&here[at], name.as_os_str(), flags, Mode::empty());
                return opened.map(Some).context(|| format!("openat({name:?}, O_NOFOLLOW)"));
            }
            Found::Other(_) => return Ok(None),
        }
    }
    // A directory: what that means is for whoever reads it.
    Ok(ways.pop().and_then(|dirs| dirs.into_iter().next()))
}

fn words(path: &Path) -> VecDeque<OsString> {
    let word = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(word).collect()
}

fn root(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    nix::fcntl::open(dir, flags, Mode::empty()).context(|| format!("open({dir:?}, O_PATH)"))
}

fn look(here: &Merged, name: &OsStr, marks: Marks) -> Result<Found> {
    let mut inside = Merged::new();
    for (at, dir) in here.iter().enumerate() {
        let st = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => other.context(|| format!("fstatat({name:?})"))?,
        };
        let kind = SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFDIR {
            return Ok(match kind {
                _ if !inside.is_empty() => break,
                _ if whiteout::is_one(&st) => Found::Nothing,
                SFlag::S_IFLNK => {
                    Found::Link(readlinkat(dir, name).context(|| format!("readlinkat({name:?})"))?)
                }
                _ => Found::Other(at),
            });
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let sub = openat(dir, name, flags, Mode::empty())
            .context(|| format!("openat({name:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW)"))?;
        let mut opaque = false;
        for key in marks.all_opaque() {
            let value = file::xattr_at(sub.as_fd(), OsStr::new("."), key)
                .context(|| format!("lgetxattr({name:?}, {key:?})"))?;
            opaque |= value.is_some_and(|value| value == b"y");
        }
        inside.push(sub);
        if opaque {
            break;
        }
    }
    Ok(if inside.is_empty() { Found::Nothing } else { Found::Directory(inside) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::passwd::read;

    /// A stack of layers in a folder of its own, lowest first. What to make: `DIR/` a folder, `DIR!` an
    /// opaque one, `NAME-` a whiteout, `NAME>TARGET` a link, `NAME=TEXT` a file.
    fn stack(name: &str, layers: &[&[&str]]) -> (PathBuf, Vec<PathBuf>) {
        let base = std::env::temp_dir().join(format!("coracle-stacked-{}-{name}", std::process::id()));
        let mut dirs = Vec::new();
        for (n, layer) in layers.iter().enumerate() {
            let dir = base.join(n.to_string());
            fs::create_dir_all(&dir).unwrap();
            for what in *layer {
                let at = what.find(['!', '-', '>', '=']).unwrap_or(what.len() - 1);
                let (name, rest) = what.split_at(at);
                let path = dir.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match rest.split_at(1) {
                    ("/", _) => fs::create_dir_all(&path).unwrap(),
                    ("!", _) => {
                        fs::create_dir_all(&path).unwrap();
                        let fd = file::open_dir(&path).unwrap();
                        file::set_xattr(fd.as_fd(), Marks::of_this_process().opaque(), b"y").unwrap();
                    }
                    ("-", _) => {
                        let fd = file::open_dir(path.parent().unwrap()).unwrap();
                        whiteout::make(fd.as_fd(), path.file_name().unwrap()).unwrap();
                    }
                    (">", target) => symlink(target, &path).unwrap(),
                    (_, text) => fs::write(&path, text).unwrap(),
                }
            }
            dirs.push(dir);
        }
        (base, dirs)
    }

    #[test]
    fn a_file_is_found_as_overlay_would_show_it() {
        const LOW: &[&str] = &["etc/passwd=low", "usr/share/pw=lower", "data/pw=data"];
        for (name, top, expected) in [
            ("top", &[&["etc/passwd=top"][..]][..], "top"),
            ("through", &[&["etc/"]], "low"),
            ("none", &[&["var/"]], "low"),
            ("whiteout", &[&["etc/passwd-"]], ""),
            ("whiteout-of-dir", &[&["etc-"]], ""),
            ("opaque", &[&["etc!"]], ""),
            ("opaque-below", &[&["etc!"], &["etc/"]], ""),
            ("opaque-and-again", &[&["etc!"], &["etc/passwd=new"], &["etc/"]], "new"),
            ("remade", &[&["etc-"], &["etc/passwd=new"]], "new"),
            ("file-for-dir", &[&["etc=x"]], ""),
            ("dir-on-file", &[&["etc=x"], &["etc/"]], ""),
            ("link-into-another", &[&["etc/passwd>../usr/share/pw"]], "lower"),
            ("link-to-a-replaced", &[&["etc/passwd>/usr/share/pw", "usr/share/pw=upper"]], "upper"),
            ("link-to-a-removed", &[&["etc/passwd>/usr/share/pw", "usr/share/pw-"]], ""),
            ("linked-dir", &[&["etc-"], &["etc>data", "data/passwd=there"]], "there"),
            ("link-from-below", &[&["etc/passwd-"], &["etc/passwd>/a"], &["a=found"]], "found"),
            ("out", &[&["etc/passwd>../../../../../../../../etc/hostname"]], ""),
            ("folder", &[&["etc/passwd-"], &["etc/passwd/"]], ""),
            ("loop", &[&["etc/passwd>passwd"]], ""),
            ("dangling", &[&["etc/passwd>/nowhere"]], ""),
        ] {
            let layers: Vec<&[&str]> = std::iter::once(LOW).chain(top.iter().copied()).collect();
            let (base, dirs) = stack(name, &layers);
            assert_eq!(read(&dirs, "etc/passwd").unwrap(), expected, "{name}");
            fs::remove_dir_all(base).unwrap();
        }
    }
}
