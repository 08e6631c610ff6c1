//! A program as its tables describe it, and what can stand in each place.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

/// One program.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Flags before the verb, notes and exit codes.
    pub(crate) top: CommandInfoWithArgs,
    pub(crate) verbs: Vec<Verb>,
}

/// One verb.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) info: CommandInfoWithArgs,
    /// The program that does it, where that is another.
    pub(crate) by: Option<&'static str>,
}

/// The transports of `copy`, as shells offer them.
pub(crate) const TRANSPORTS: &str = "docker:// oci: oci-archive: docker-archive: dir: store:";
/// What prints the names of the images, behind the program's name.
pub(crate) const IMAGES: &str = "images -f dangling=false --format '{{.Name}}' 2>/dev/null";
/// What prints the names of the containers.
pub(crate) const CONTAINERS: &str = "ps -a --format '{{.Names}}' 2>/dev/null";

/// What a shell can offer for a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    File,
    Folder,
    Image,
    Container,
    /// An image, or a transport of `copy`.
    Transport,
    /// Only the user knows.
    Anything,
}

impl Program {
    pub(crate) fn rootfs_tool() -> Self {
        let mut top = coracle_rootfs_tool::cli::table();
        let verbs = std::mem::take(&mut top.commands);
        let verbs = verbs.into_iter().map(|c| Verb { name: c.name, info: c.command, by: None }).collect();
        sorted(Self { name: "rootfs-tool", top, verbs })
    }

    pub(crate) fn runner() -> Self {
        let (top, own) = coracle_runner::cli::tables();
        let mut verbs: Vec<Verb> =
            own.into_iter().map(|(name, info)| Verb { name, info, by: None }).collect();
        let images = Self::rootfs_tool();
        let handed = images.verbs.into_iter().filter(|v| coracle_runner::cli::HANDED_OVER.contains(&v.name));
        verbs.extend(handed.map(|v| Verb { by: Some("rootfs-tool"), ..v }));
        sorted(Self { name: "runner", top, verbs })
    }

    /// The first sentence of what it is for, without its full stop.
    pub(crate) fn summary(&self) -> &'static str {
        sentence(self.top.description)
    }
}

fn sorted(mut program: Program) -> Program {
    program.verbs.sort_by_key(|v| v.name);
    program
}

impl Verb {
    /// The first sentence of what it does, without its full stop.
    pub(crate) fn summary(&self) -> &'static str {
        sentence(self.info.description)
    }

    /// What stands behind the flags; of several kinds the first.
    pub(crate) fn place(&self) -> Place {
        self.positionals().next().map_or(Place::Anything, |p| match p.name {
            "source" | "destination" => Place::Transport,
            "image" | "images" | "a" | "b" => Place::Image,
            "container" | "containers" => Place::Container,
            "folder" => Place::Folder,
            "file" => Place::File,
            // What is pushed or tagged is here; what is pulled may be here in an older state.
            "name" | "names" if matches!(self.name, "push" | "pull") => Place::Image,
            _ => Place::Anything,
        })
    }

    /// Does a command line of the container's own follow the first word?
    pub(crate) fn runs(&self) -> bool {
        self.by.is_none() && matches!(self.name, "run" | "exec")
    }

    pub(crate) fn positionals(&self) -> impl Iterator<Item = &'static PositionalInfo<'static>> {
        self.info.positionals.iter().filter(|p| !p.hidden)
    }
}

/// The flags that people are told of.
pub(crate) fn flags(info: &CommandInfoWithArgs) -> impl Iterator<Item = &'static FlagInfo<'static>> {
    info.flags.iter().filter(|f| !f.hidden && f.long != "--help")
}

/// The name of a flag's value, when it has one.
pub(crate) fn value(flag: &FlagInfo<'_>) -> Option<String> {
    match flag.kind {
        FlagInfoKind::Switch => None,
        FlagInfoKind::Option { arg_name } => Some(arg_name.replace('_', "-").to_uppercase()),
    }
}

/// What a flag's value is.
pub(crate) fn value_place(flag: &FlagInfo<'_>) -> Place {
    match value(flag).as_deref() {
        Some("FILE" | "ENV-FILE" | "CIDFILE" | "CONFIG" | "LOG") => Place::File,
        Some("DIR" | "BUNDLE" | "ROOTFS" | "ROOT" | "STORE") => Place::Folder,
        _ => Place::Anything,
    }
}

/// May it be given several times?
pub(crate) fn repeats(flag: &FlagInfo<'_>) -> bool {
    flag.optionality == Optionality::Repeating
}

/// The words of a flag: the short one first.
pub(crate) fn words(flag: &FlagInfo<'_>) -> Vec<String> {
    flag.short.map(|c| format!("-{c}")).into_iter().chain([flag.long.to_owned()]).collect()
}

fn sentence(text: &str) -> &str {
    let text = text.trim();
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_the_runner_s_help_lists_has_a_table() {
        let runner = Program::runner();
        let listed = coracle_runner::cli::HELP.lines().filter_map(|l| l.strip_prefix("  "));
        let mut seen = 0;
        for verb in listed.filter_map(|l| l.split_whitespace().next()) {
            assert!(runner.verbs.iter().any(|v| v.name == verb), "{verb}");
            seen += 1;
        }
        assert!(seen > 5);
        for handed in coracle_runner::cli::HANDED_OVER {
            assert!(runner.verbs.iter().any(|v| v.name == handed && v.by.is_some()), "{handed}");
        }
    }

    #[test]
    fn places_are_known_by_their_names() {
        let tool = Program::rootfs_tool();
        let place = |name: &str| tool.verbs.iter().find(|v| v.name == name).map(Verb::place);
        assert_eq!(place("rmi"), Some(Place::Image));
        assert_eq!(place("copy"), Some(Place::Transport));
        assert_eq!(place("compose"), Some(Place::Folder));
        assert_eq!(place("search"), Some(Place::Anything));
        let runner = Program::runner();
        assert!(runner.verbs.iter().any(|v| v.name == "exec" && v.place() == Place::Container && v.runs()));
    }
}
