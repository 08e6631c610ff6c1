//! `spec`: a config.json to begin with, in a bundle's folder. With an image, the one that the flags of `run` amount
//! to is printed instead: that is [`super::run`]'s.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use argh::CommandInfoWithArgs;
use coracle_sys::argv::{Tail, normalise};
use coracle_sys::{Context, Error, Kind, Result};

use super::typed::{self, Typed};
use crate::cgroups;

/// What runc begins with, to the letter but for the version and the name of the host.
const CONFIG: &str = include_str!("spec.json");

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "spec",
    "Write a config.json to begin with. With an image: print the one that the flags of run (see run --help) amount to.",
    typed::IMAGE,
    &[
        typed::option(
            "--bundle",
            Some('b'),
            "bundle",
            "the folder it is written into, the current one if not said",
        ),
        typed::option("--file", Some('f'), "file", "the file it is written to, config.json if not said"),
        typed::switch("--rootless", None, "one that an ordinary user can run"),
    ],
    &["runner spec --bundle DIR", "runner spec --memory 1g shell sh"],
);

/// Whether all words are flags of this file's: those of `run` and an image are not.
pub(crate) fn is_for_bundle(words: &[OsString]) -> bool {
    // Behind a -- stands what is no flag.
    normalise(&TABLE, words, Tail::None).is_ok_and(|normal| !normal.words.iter().any(|word| word == "--"))
}

/// Write it.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let dir = Path::new(typed.get("--bundle").unwrap_or_default());
    let name = Path::new(typed.get("--file").unwrap_or("config.json"));
    let path = dir.join(name);
    let mut file = std::fs::File::create_new(&path)
        .context(|| format!("open({path:?}, O_CREAT|O_EXCL)"))
        .map_err(|e| match e.kind() {
            Kind::Exists => {
                Error::new(Kind::Exists, format!("File {} exists. Remove it first", name.display()))
            }
            _ => e,
        })?;
    let user =
        typed.get("--rootless").map(|_| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    file.write_all(config(user, cgroups::is_unified()).as_bytes()).context(|| format!("write({path:?})"))?;
    Ok(0)
}

/// The text, for root or for this user and group. Where there is cgroup v2 alone a namespace of it hides the host's.
fn config(rootless: Option<(u32, u32)>, unified: bool) -> String {
    let mut text = CONFIG.to_owned();
    let mut change = |from: &str, to: &str| text = text.replacen(from, to, 1);
    let namespace = |kind: &str| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}");
    let mount = namespace("mount");
    if unified {
        change(&mount, &format!("{mount},\n{}", namespace("cgroup")));
    }
    if let Some((uid, gid)) = rootless {
        change(&mount, &format!("{mount},\n{}", namespace("user")));
        // A network and limits are more than an ordinary user can be sure to have.
        change(&format!("{},\n", namespace("network")), "");
        change(",\n\t\t\t\t\"gid=5\"", "");
        change(
            "\"type\": \"sysfs\",\n\t\t\t\"source\": \"sysfs\"",
            "\"type\": \"none\",\n\t\t\t\"source\": \"/sys\"",
        );
        change("/sys\",\n\t\t\t\"options\": [\n", "/sys\",\n\t\t\t\"options\": [\n\t\t\t\t\"rbind\",\n");
        let map = |kind: &str, id: u32| {
            format!(
                "\"{kind}Mappings\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n\t\t"
            )
        };
        let (from, to) = ("\"resources\"", "\"namespaces\"");
        if let (Some(from), Some(to)) = (text.find(from), text.find(to)) {
            text.replace_range(from..to, &(map("uid", uid) + &map("gid", gid)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Spec, VERSION};

    #[test]
    fn every_config_can_be_read_and_says_what_it_is_for() {
        for unified in [false, true] {
            for user in [None, Some((1000, 100))] {
                let spec = Spec::parse(&config(user, unified)).unwrap();
                assert_eq!(spec.oci_version, VERSION);
                let linux = spec.linux.unwrap();
                let kinds: Vec<&str> = linux.namespaces.iter().map(|n| n.kind.as_str()).collect();
                let devpts = spec.mounts.iter().find(|m| m.destination == Path::new("/dev/pts")).unwrap();
                let sys = spec.mounts.iter().find(|m| m.destination == Path::new("/sys")).unwrap();
                assert_eq!(kinds.contains(&"cgroup"), unified);
                assert_eq!(kinds.contains(&"user"), user.is_some());
                assert_eq!(kinds.contains(&"network"), user.is_none());
                assert_eq!(devpts.options.iter().any(|o| o == "gid=5"), user.is_none());
                assert_eq!(sys.options.iter().any(|o| o == "rbind"), user.is_some());
                assert_eq!(linux.resources.is_some(), user.is_none());
                let ids: Vec<u32> =
                    linux.uid_mappings.iter().chain(&linux.gid_mappings).map(|m| m.host_id).collect();
                assert_eq!(ids, user.map_or(vec![], |(uid, gid)| vec![uid, gid]));
            }
        }
    }

    #[test]
    fn an_image_among_the_words_makes_it_a_matter_of_run() {
        let is = |line: &str| is_for_bundle(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        for line in ["", "--rootless", "-b DIR --rootless", "--bundle=DIR", "-bDIR", "--help", "-f FILE"] {
            assert!(is(line), "{line}");
        }
        for line in ["IMAGE", "--rm IMAGE sh", "-b DIR IMAGE", "--memory 1g IMAGE"] {
            assert!(!is(line), "{line}");
        }
    }
}
