//! docker's nouns: `container ls` is `ps`. A row is a verb of a noun, and who does it.

use std::ffi::OsString;

use coracle_sys::{Error, Result};

use super::{Global, df, events, image_verb, info, inspect, prune, ps};

/// Does a verb.
type Does = fn(&Global, &[OsString]) -> Result<u8>;

/// How the verb of a noun is done.
enum Meant {
    /// By the verb of the same meaning that stands alone.
    Verb(&'static str),
    /// By its own.
    Own(Does),
}

use Meant::{Own, Verb};

const CONTAINER: &[(&str, Meant)] = &[
    ("attach", Verb("attach")),
    ("commit", Verb("commit")),
    ("cp", Verb("cp")),
    ("create", Verb("create")),
    ("diff", Verb("diff")),
    ("exec", Verb("exec")),
    ("export", Verb("export")),
    ("inspect", Own(|global, words| inspect::look(global, words, Some("container")))),
    ("kill", Verb("kill")),
    ("list", Own(ps::run)),
    ("logs", Verb("logs")),
    ("ls", Own(ps::run)),
    ("pause", Verb("pause")),
    ("port", Verb("port")),
    ("prune", Own(prune::run)),
    ("ps", Own(ps::run)),
    ("remove", Verb("rm")),
    ("rename", Verb("rename")),
    ("restart", Verb("restart")),
    ("rm", Verb("rm")),
    ("run", Verb("run")),
    ("start", Verb("start")),
    ("stats", Verb("stats")),
    ("stop", Verb("stop")),
    ("top", Verb("top")),
    ("unpause", Verb("unpause")),
    ("update", Verb("update")),
    ("wait", Verb("wait")),
];

const SYSTEM: &[(&str, Meant)] = &[
    ("df", Own(df::run)),
    ("events", Own(events::run)),
    ("info", Own(info::run)),
    ("prune", Own(prune::system)),
];

/// There is one builder, and it has no daemon either.
const BUILDER: &[(&str, Meant)] = &[
    ("build", Verb("build")),
    (
        "prune",
        Own(|global, words| {
            let words: Vec<OsString> =
                [OsString::from("--builds")].into_iter().chain(words.to_vec()).collect();
            image_verb::run(global, "prune", &words)
        }),
    ),
];

/// The nouns whose verbs stand here. An image's are rootfs-tool's.
const NOUNS: &[(&str, &[(&str, Meant)])] =
    &[("builder", BUILDER), ("buildx", BUILDER), ("container", CONTAINER), ("system", SYSTEM)];

/// Whether it is one.
pub(crate) fn is_noun(word: &str) -> bool {
    word == "image" || NOUNS.iter().any(|(noun, _)| *noun == word)
}

/// Do what stands behind a noun; `verb` does those that stand alone as well.
pub(crate) fn run(
    global: &Global,
    noun: &str,
    words: &[OsString],
    verb: fn(&Global, &str, &[OsString]) -> Result<u8>,
) -> Result<u8> {
    let typed = words.first().and_then(|word| word.to_str()).unwrap_or_default();
    let rest = words.get(1..).unwrap_or_default();
    if noun == "image" {
        return match coracle_sys::argv::of_noun(noun, typed) {
            Some(known) => image_verb::run(global, known, rest),
            None => Err(coracle_sys::argv::without_verb(noun, typed)),
        };
    }
    let rows = NOUNS.iter().find(|(known, _)| *known == noun).map_or(&[][..], |(_, rows)| rows);
    match rows.iter().find(|(known, _)| *known == typed) {
        Some((_, Verb(known))) => verb(global, known, rest),
        Some((_, Own(does))) => does(global, rest),
        None => {
            let verbs: Vec<&str> = rows.iter().map(|(known, _)| *known).collect();
            let verbs = verbs.join(", ");
            Err(Error::usage(match typed {
                "" | "--help" | "-h" => format!("{noun} needs a verb: {verbs}"),
                typed => format!("unknown command: {noun} {typed} (there are {verbs})"),
            }))
        }
    }
}
