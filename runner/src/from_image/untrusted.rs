//! `--untrusted`: what a job gets whose author nobody knows. It only says what other flags say; each of those that was
//! typed stands.
//!
//! | what | unless it is said |
//! |---|---|
//! | `--userns auto` | `--userns` |
//! | `--cap-drop ALL` | `--cap-drop`, `--cap-add` adds |
//! | `--security-opt no-new-privileges` | `--security-opt no-new-privileges=false` |
//! | `--read-only`, `--tmpfs /tmp:size=64m` | `--read-only=false`: then `--scratch tmpfs:256m`; a mount at /tmp |
//! | `--network none` | `--network` |
//! | `--memory 512m`, as much with swap, `--oom-group` | `-m`, `--memory-swap`, `--oom-group=false` |
//! | `--pids-limit 256` | `--pids-limit` |

use coracle_sys::{Error, Result};

use super::flags::Flags;

const MEMORY: &str = "512m";
const PIDS: i64 = 256;
const TMP: &str = "/tmp:size=64m,mode=1777";
const SCRATCH: &str = "tmpfs:256m";

/// The flags that it comes to.
pub(crate) fn spelt_out(mut flags: Flags) -> Result<Flags> {
    flags.read_only &= !flags.no_read_only;
    flags.oom_group &= !flags.no_oom_group;
    if !flags.untrusted {
        return Ok(flags);
    }
    if flags.privileged {
        return Err(Error::usage("--untrusted and --privileged exclude each other"));
    }
    flags.userns.get_or_insert_with(|| "auto".to_owned());
    if flags.cap_drop.is_empty() {
        flags.cap_drop.push("ALL".to_owned());
    }
    flags.security_opt.insert(0, "no-new-privileges".to_owned());
    flags.read_only = !flags.no_read_only;
    if !flags.read_only && !flags.rootfs && flags.storage_opt.is_empty() {
        flags.scratch.get_or_insert_with(|| SCRATCH.to_owned());
    }
    if !has_tmp(&flags) {
        flags.tmpfs.push(TMP.to_owned());
    }
    if flags.network.is_none() && flags.net.is_none() {
        flags.network = Some("none".to_owned());
    }
    flags.memory.get_or_insert_with(|| MEMORY.to_owned());
    flags.pids_limit.get_or_insert(PIDS);
    flags.oom_group = !flags.no_oom_group;
    Ok(flags)
}

/// Is something else mounted at /tmp?
fn has_tmp(flags: &Flags) -> bool {
    let at_tmp = |path: &str| path.trim_end_matches('/') == "/tmp";
    flags.tmpfs.iter().any(|t| at_tmp(t.split(':').next().unwrap_or_default()))
        || flags.volume.iter().any(|v| v.split(':').take(2).last().is_some_and(at_tmp))
        || flags.mount.iter().any(|m| {
            m.split(',').any(
                |f| matches!(f.split_once('='), Some(("dst" | "destination" | "target", at)) if at_tmp(at)),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: Flags) -> Flags {
        spelt_out(Flags { untrusted: true, ..flags }).unwrap()
    }

    #[test]
    fn all_is_said_that_was_not_typed() {
        let all = of(Flags::default());
        assert_eq!(
            (all.userns.as_deref(), all.memory.as_deref(), all.pids_limit),
            (Some("auto"), Some(MEMORY), Some(PIDS))
        );
        assert!(all.read_only && all.oom_group && all.scratch.is_none());
        assert_eq!((all.tmpfs.len(), all.network.as_deref()), (1, Some("none")));
        assert_eq!(
            (all.cap_drop.join(","), all.security_opt.join(",")),
            ("ALL".into(), "no-new-privileges".into())
        );
        assert!(spelt_out(Flags { untrusted: true, privileged: true, ..Flags::default() }).is_err());
    }

    #[test]
    fn what_was_typed_stands() {
        let word = |w: &str| Some(w.to_owned());
        let typed = of(Flags {
            no_read_only: true,
            userns: word("host"),
            memory: word("1g"),
            network: word("host"),
            pids_limit: Some(-1),
            no_oom_group: true,
            tmpfs: vec!["/tmp:size=1m".into()],
            cap_drop: vec!["CHOWN".into()],
            ..Flags::default()
        });
        assert!(!typed.read_only && !typed.oom_group);
        assert_eq!(typed.scratch.as_deref(), Some(SCRATCH));
        assert_eq!((typed.userns, typed.memory, typed.network), (word("host"), word("1g"), word("host")));
        assert_eq!((typed.pids_limit, typed.tmpfs.len(), typed.cap_drop.len()), (Some(-1), 1, 1));
        for tmp in ["/x:/tmp", "v:/tmp/:ro"] {
            let flags = of(Flags { volume: vec![tmp.into()], ..Flags::default() });
            assert!(flags.tmpfs.is_empty(), "{tmp}");
        }
    }
}
