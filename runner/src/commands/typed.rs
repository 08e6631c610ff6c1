//! A verb's words by a table, for verbs whose flags are few or many alike: what argh makes of a struct is a
//! parser of its own for each, several thousand bytes of it. The table is argh's, so pages and completions are
//! made of it as of the others.

use std::ffi::OsString;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use coracle_sys::argv::{Tail, normalise};
use coracle_sys::{Error, Result, print};

/// What was typed behind a verb.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    /// The flags, each with its value, empty for one that takes none.
    pub(crate) flags: Vec<(String, String)>,
    /// Words that are no flags.
    pub(crate) words: Vec<String>,
}

/// What may stand beside a verb's flags: nothing,
pub(crate) const NONE: &[PositionalInfo<'static>] = &[];
/// a container of an OCI client,
pub(crate) const ID: &[PositionalInfo<'static>] = &[positional("id", "the container's id")];
/// a container,
pub(crate) const CONTAINER: &[PositionalInfo<'static>] = &[NAMED];
/// one, and the name of an image,
pub(crate) const CONTAINER_AND_IMAGE: &[PositionalInfo<'static>] =
    &[NAMED, optional(positional("name", "the image's name"))];
/// what is copied and where to,
pub(crate) const FROM_TO: &[PositionalInfo<'static>] =
    &[positional("from", "what is copied"), positional("to", "where it goes")];
/// perhaps one,
pub(crate) const PERHAPS_ID: &[PositionalInfo<'static>] =
    &[optional(positional("id", "a container of an OCI client"))];
/// one, and what follows it for ps(1),
pub(crate) const PROCESSES: &[PositionalInfo<'static>] = &[
    optional(positional("id", "a container")),
    PositionalInfo {
        optionality: Optionality::Repeating,
        ..positional("words", "what ps(1) is asked for, -ef if nothing is said")
    },
];
/// one, and a name,
pub(crate) const CONTAINER_AND_NAME: &[PositionalInfo<'static>] =
    &[NAMED, positional("name", "the new name")];
/// one, and a port of it,
pub(crate) const CONTAINER_AND_PORT: &[PositionalInfo<'static>] =
    &[NAMED, optional(positional("port", "one of its ports, PORT[/tcp|/udp]"))];
/// several,
pub(crate) const CONTAINERS: &[PositionalInfo<'static>] = &[NAMES];
/// several and what is sent to them,
pub(crate) const CONTAINERS_AND_SIGNAL: &[PositionalInfo<'static>] =
    &[NAMES, optional(positional("signal", "the signal, as runc has it"))];
/// any words,
pub(crate) const WORDS: &[PositionalInfo<'static>] = &[PositionalInfo {
    optionality: Optionality::Repeating,
    ..positional("words", "names, as the verb has it")
}];
/// volumes,
pub(crate) const VOLUMES: &[PositionalInfo<'static>] = &[VOLUME_NAMES];
/// what is done to them,
pub(crate) const VOLUME_WORDS: &[PositionalInfo<'static>] =
    &[positional("verb", "create, inspect, ls, prune or rm"), VOLUME_NAMES];
/// an image.
pub(crate) const IMAGE: &[PositionalInfo<'static>] = &[optional(positional(
    "image",
    "the image whose config.json is printed; then flags of run may be given",
))];

const NAMED: PositionalInfo<'static> = positional("container", "a container, by its name or id");
const NAMES: PositionalInfo<'static> = PositionalInfo {
    optionality: Optionality::Repeating,
    ..positional("containers", "containers, by their names or ids")
};

const VOLUME_NAMES: PositionalInfo<'static> = PositionalInfo {
    optionality: Optionality::Repeating,
    ..positional("volumes", "volumes, by their names")
};

pub(crate) const fn positional(name: &'static str, description: &'static str) -> PositionalInfo<'static> {
    PositionalInfo { name, description, optionality: Optionality::Required, hidden: false }
}

pub(crate) const fn optional(of: PositionalInfo<'static>) -> PositionalInfo<'static> {
    PositionalInfo { optionality: Optionality::Optional, ..of }
}

/// A verb's table.
pub(crate) const fn table(
    name: &'static str,
    description: &'static str,
    positionals: &'static [PositionalInfo<'static>],
    flags: &'static [FlagInfo<'static>],
    examples: &'static [&'static str],
) -> CommandInfoWithArgs {
    let short = &'\0';
    let (notes, error_codes) = (&[], &[]);
    let commands = Vec::new();
    CommandInfoWithArgs {
        name,
        short,
        description,
        examples,
        flags,
        notes,
        commands,
        positionals,
        error_codes,
    }
}

/// A flag that is there or not.
pub(crate) const fn switch(
    long: &'static str,
    short: Option<char>,
    description: &'static str,
) -> FlagInfo<'static> {
    let (kind, optionality) = (FlagInfoKind::Switch, Optionality::Optional);
    FlagInfo { kind, optionality, long, short, description, hidden: false }
}

/// A flag with a value.
pub(crate) const fn option(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    description: &'static str,
) -> FlagInfo<'static> {
    let kind = FlagInfoKind::Option { arg_name: value };
    FlagInfo { kind, optionality: Optionality::Optional, long, short, description, hidden: false }
}

/// A flag that no help shows.
pub(crate) const fn hidden(flag: FlagInfo<'static>) -> FlagInfo<'static> {
    FlagInfo { hidden: true, ..flag }
}

/// A flag with a value that may be said again and again.
pub(crate) const fn list(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    description: &'static str,
) -> FlagInfo<'static> {
    FlagInfo { optionality: Optionality::Repeating, ..option(long, short, value, description) }
}

impl Typed {
    /// Read them. `None`: help was asked for, and is printed.
    pub(crate) fn read(table: &CommandInfoWithArgs, argv: &[OsString]) -> Result<Option<Self>> {
        Ok(Self::before(table, argv, Tail::None)?.map(|(typed, _)| typed))
    }

    /// Read them only to see what they are.
    pub(crate) fn read_quietly(table: &CommandInfoWithArgs, argv: &[OsString]) -> Result<Self> {
        let normal = normalise(table, argv, Tail::None)?;
        let help = normal.words.iter().any(|word| word == "--help");
        match help {
            true => Err(Error::usage("help is asked for")),
            false => Ok(Self::read(table, argv)?.unwrap_or_default()),
        }
    }

    /// [`Typed::read`] of a verb that a command line follows, which comes back as it is.
    pub(crate) fn before(
        table: &CommandInfoWithArgs,
        argv: &[OsString],
        tail: Tail,
    ) -> Result<Option<(Self, Vec<OsString>)>> {
        let normal = normalise(table, argv, tail)?;
        let typed = Self::of(table, normal.words)?;
        if typed.is_none() {
            help(table, matches!(tail, Tail::After(n) if n >= table.positionals.len()));
        }
        Ok(typed.map(|typed| (typed, normal.tail)))
    }

    /// Of words that are in argh's form. `None`: they ask for help.
    pub(crate) fn of(table: &CommandInfoWithArgs, words: Vec<String>) -> Result<Option<Self>> {
        let mut typed = Self::default();
        let mut rest = words.into_iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--" => typed.words.extend(rest.by_ref()),
                "--help" => return Ok(None),
                _ => {
                    let takes =
                        |f: &FlagInfo<'_>| f.long == word && matches!(f.kind, FlagInfoKind::Option { .. });
                    let value = table.flags.iter().any(takes).then(|| rest.next()).flatten();
                    typed.flags.push((word, value.unwrap_or_default()));
                }
            }
        }
        if let ([], Some(word)) = (table.positionals, typed.words.first()) {
            return Err(Error::usage(format!("{0} takes no {word:?} (see {0} --help)", table.name)));
        }
        Ok(Some(typed))
    }

    /// The flags in their order.
    pub(crate) fn given(&self) -> &[(String, String)] {
        &self.flags
    }

    /// All values of a flag.
    pub(crate) fn all(&self, flag: &str) -> Vec<String> {
        self.flags.iter().filter(|(name, _)| name == flag).map(|(_, value)| value.clone()).collect()
    }

    /// A flag that is none of these.
    pub(crate) fn other_than(&self, known: &[&str]) -> Option<&str> {
        self.flags.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name))
    }

    /// The one word beside the flags.
    pub(crate) fn one(&self, verb: &str, what: &str) -> Result<&str> {
        match &self.words[..] {
            [one] => Ok(one),
            other => {
                let n = other.len();
                Err(Error::usage(format!(
                    "{verb} needs exactly 1 argument, {what}; there are {n} (see {verb} --help)"
                )))
            }
        }
    }

    /// The value of a flag that is a number.
    pub(crate) fn number(&self, flag: &str) -> Result<Option<u32>> {
        let read =
            |text: &str| text.parse().map_err(|_| Error::flag(format!("{flag} {text:?}: it is a number")));
        self.get(flag).map(read).transpose()
    }

    /// Do something with each word, and print it; what cannot be done is told, and the exit code is then 1.
    pub(crate) fn each(&self, does: impl Fn(&str) -> Result<()>) -> Result<u8> {
        let mut code = 0;
        for word in &self.words {
            match does(word) {
                Ok(()) => coracle_sys::say!("{word}"),
                Err(e) => {
                    coracle_sys::warn!("runner: {e}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }

    /// The value of a flag, empty for one that takes none.
    pub(crate) fn get(&self, flag: &str) -> Option<&str> {
        self.flags.iter().find(|(name, _)| name == flag).map(|(_, value)| value.as_str())
    }
}

fn help(table: &CommandInfoWithArgs, runs: bool) {
    print::out(format_args!("Usage: runner {} [OPTIONS]", table.name));
    let mut command = if runs { " COMMAND..." } else { "" };
    for word in table.positionals {
        let name = word.name.trim_end_matches('s').to_ascii_uppercase();
        let (open, close) = match word.optionality {
            // There is no command without it.
            Optionality::Optional if runs => {
                command = " [CMD...]";
                ("", "")
            }
            Optionality::Required => ("", ""),
            Optionality::Optional => ("[", "]"),
            Optionality::Repeating | Optionality::Greedy => ("", "..."),
        };
        print::out(format_args!(" {open}{name}{close}"));
    }
    print::out(format_args!("{command}\n\n{}\n\nOptions:\n", table.description));
    for flag in table.flags.iter().filter(|flag| !flag.hidden) {
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(" <{arg_name}>"),
        };
        let short = flag.short.map_or(String::new(), |c| format!("-{c}, "));
        described(&format!("{short}{}{value}", flag.long), flag.description);
    }
    described("--help", "display usage information");
    print::out(format_args!("\nExamples:\n"));
    table.examples.iter().for_each(|example| print::out(format_args!("  {example}\n")));
    if !table.notes.is_empty() {
        print::out(format_args!("\nNotes:\n"));
        table.notes.iter().for_each(|note| print::out(format_args!("  {note}\n")));
    }
}

/// What is said of a flag, in a column of its own.
fn described(flag: &str, text: &str) {
    const BEGIN: usize = 37;
    let mut line = format!("  {flag:<34}");
    let mut column = line.len();
    for word in text.split(' ') {
        if column > BEGIN && column + 1 + word.len() > 100 {
            line.push_str("\n                                    ");
            column = BEGIN - 1;
        }
        line.push(' ');
        line.push_str(word);
        column += 1 + word.len();
    }
    print::out(format_args!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: CommandInfoWithArgs = table(
        "try",
        "Try.",
        ID,
        &[option("--file", Some('f'), "file", "a file"), switch("--all", Some('a'), "all")],
        &[],
    );

    fn read(line: &str) -> Result<Option<Typed>> {
        Typed::read(&TABLE, &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_stand_before_and_behind_other_words() {
        for line in ["id -f F --all", "--file=F -a id", "-a -fF -- id"] {
            let typed = read(line).unwrap().unwrap();
            assert_eq!((typed.get("--file"), typed.get("--all")), (Some("F"), Some("")), "{line}");
            assert_eq!(typed.words, ["id"]);
        }
        let typed = read("id -- -f").unwrap().unwrap();
        assert_eq!((typed.get("--file"), typed.words.len()), (None, 2));
        let alone = table("alone", "Alone.", NONE, &[], &[]);
        let e = Typed::read(&alone, &["x".into()]).unwrap_err().to_string();
        assert!(e.contains("alone takes no \"x\""), "{e}");
        assert!(read("--nothing").is_err() && read("-f").is_err() && read("--help").unwrap().is_none());
    }
}
