//! A verb's words by a table, for verbs whose flags are few or many alike: what argh makes of a struct is a
//! parser of its own for each, several thousand bytes of it. The table is argh's, so pages and completions are
//! made of it as of the others.

use std::ffi::OsString;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use coracle_sys::argv::{Tail, normalise};
use coracle_sys::{Error, Result, print};

/// What was typed behind a verb.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    flags: Vec<(String, String)>,
    /// Words that are no flags.
    pub(crate) words: Vec<String>,
}

/// A verb's table.
pub(crate) const fn table(
    name: &'static str,
    description: &'static str,
    flags: &'static [FlagInfo<'static>],
    examples: &'static [&'static str],
) -> CommandInfoWithArgs {
    let short = &'\0';
    let (notes, positionals, error_codes) = (&[], &[], &[]);
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
    /// Read them. `None`: help was asked for, and is printed. `words` names what may stand beside the flags.
    pub(crate) fn read(table: &CommandInfoWithArgs, words: &str, argv: &[OsString]) -> Result<Option<Self>> {
        Ok(Self::before(table, words, argv, Tail::None)?.map(|(typed, _)| typed))
    }

    /// [`Typed::read`] of a verb that a command line follows, which comes back as it is.
    pub(crate) fn before(
        table: &CommandInfoWithArgs,
        words: &str,
        argv: &[OsString],
        tail: Tail,
    ) -> Result<Option<(Self, Vec<OsString>)>> {
        let mut typed = Self::default();
        let normal = normalise(table, argv, tail)?;
        let mut rest = normal.words.into_iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--" => typed.words.extend(rest.by_ref()),
                "--help" => {
                    help(table, words);
                    return Ok(None);
                }
                _ => {
                    let takes =
                        |f: &FlagInfo<'_>| f.long == word && matches!(f.kind, FlagInfoKind::Option { .. });
                    let value = table.flags.iter().any(takes).then(|| rest.next()).flatten();
                    typed.flags.push((word, value.unwrap_or_default()));
                }
            }
        }
        Ok(Some((typed, normal.tail)))
    }

    /// All values of a flag.
    pub(crate) fn all(&self, flag: &str) -> Vec<String> {
        self.flags.iter().filter(|(name, _)| name == flag).map(|(_, value)| value.clone()).collect()
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
            |text: &str| text.parse().map_err(|_| Error::usage(format!("{flag} {text:?}: it is a number")));
        self.get(flag).map(read).transpose()
    }

    /// The value of a flag, empty for one that takes none.
    pub(crate) fn get(&self, flag: &str) -> Option<&str> {
        self.flags.iter().find(|(name, _)| name == flag).map(|(_, value)| value.as_str())
    }
}

fn help(table: &CommandInfoWithArgs, words: &str) {
    let gap = if words.is_empty() { "" } else { " " };
    let name = table.name;
    print::out(format_args!(
        "Usage: runner {name} [OPTIONS]{gap}{words}\n\n{}\n\nOptions:\n",
        table.description
    ));
    for flag in table.flags {
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(" <{arg_name}>"),
        };
        let short = flag.short.map_or(String::new(), |c| format!("-{c}, "));
        print::out(format_args!("  {:<34} {}\n", format!("{short}{}{value}", flag.long), flag.description));
    }
    print::out(format_args!("  {:<34} display usage information\n\nExamples:\n", "--help"));
    table.examples.iter().for_each(|example| print::out(format_args!("  {example}\n")));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: CommandInfoWithArgs = table(
        "try",
        "Try.",
        &[option("--file", Some('f'), "file", "a file"), switch("--all", Some('a'), "all")],
        &[],
    );

    fn read(line: &str) -> Result<Option<Typed>> {
        Typed::read(&TABLE, "ID", &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
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
        assert!(read("--nothing").is_err() && read("-f").is_err() && read("--help").unwrap().is_none());
    }
}
