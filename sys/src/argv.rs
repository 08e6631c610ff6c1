//! Command lines as hands type them, for argh, which takes only the plain form: `--flag value` and
//! `-f value`, one word each. From argh's own table of a command this rewrites `--flag=value`, `-it`,
//! `-p8080:80` and flags that stand behind positional words, and cuts the command that is to run
//! off before argh sees it. There is no second list of flags.

use std::ffi::{OsStr, OsString};

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

use crate::{Error, Result};

/// Where the flags of a command end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nowhere: flags may stand anywhere, up to a `--`.
    None,
    /// Behind so many positional words: what follows is a command line of its own.
    After(usize),
    /// Behind a verb, whose words all are, a `--` too.
    Verb,
}

impl Tail {
    /// Does it begin behind so many positional words?
    fn begins(self, words: usize) -> bool {
        match self {
            Self::None => false,
            Self::After(n) => n == words,
            Self::Verb => words == 1,
        }
    }
}

/// A command line in argh's form.
#[derive(Debug, PartialEq, Eq)]
pub struct Normal {
    /// Flags first, then `--` and the positional words, if there are any.
    pub words: Vec<String>,
    /// The command line behind them, untouched.
    pub tail: Vec<OsString>,
}

/// Rewrite `argv`, which is what follows the command's name.
pub fn normalise(table: &CommandInfoWithArgs, argv: &[OsString], tail: Tail) -> Result<Normal> {
    let table = Table { flags: table.flags, command: table.name };
    let mut flags = Given::default();
    let mut positional = Vec::new();
    let mut words = argv.iter();
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        if tail.begins(positional.len()) {
            // `run IMAGE -- CMD` and `run IMAGE CMD` are the same.
            if word != "--" || tail == Tail::Verb {
                rest.push(word.clone());
            }
            rest.extend(words.by_ref().cloned());
            break;
        }
        if word == "--" {
            for word in words.by_ref() {
                if tail.begins(positional.len()) {
                    rest.push(word.clone());
                } else {
                    positional.push(text(word)?);
                }
            }
            break;
        }
        let word = text(word)?;
        if let Some(long) = word.strip_prefix("--") {
            table.long(long, &mut words, &mut flags)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty()) {
            table.short(letters, &mut words, &mut flags)?;
        } else {
            positional.push(word);
        }
    }
    let mut words = flags.words();
    if !positional.is_empty() {
        words.push("--".to_owned());
        words.append(&mut positional);
    }
    Ok(Normal { words, tail: rest })
}

/// What argh complains of, in one line.
pub fn complaint(verb: &str, output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    match lines.split_first() {
        Some((first, missing)) if first.starts_with("Required") && !missing.is_empty() => {
            format!("{verb} needs {} (see {verb} --help)", missing.join(" and "))
        }
        Some((first, _)) => match first.strip_prefix("Unrecognized argument: ") {
            Some(word) => format!("{verb} takes no {word:?} (see {verb} --help)"),
            None => lines.join(" "),
        },
        None => String::new(),
    }
}

/// What an image or a container is called where docker has a noun before the verb: `image ls` is `images`.
pub fn of_noun<'a>(noun: &str, verb: &'a str) -> Option<&'a str> {
    match (noun, verb) {
        ("image", "ls" | "list") => Some("images"),
        ("image", "rm" | "remove") => Some("rmi"),
        ("image", verb) if verbs_of("image").contains(&verb) => Some(verb),
        ("container", "ls" | "list" | "ps") => Some("ps"),
        ("container", "remove") => Some("rm"),
        ("container", verb) => Some(verb),
        ("system", "df") => Some("du"),
        ("system", "info") => Some("info"),
        _ => None,
    }
}

/// The verbs that a noun has.
pub fn verbs_of(noun: &str) -> &'static [&'static str] {
    match noun {
        "image" => &[
            "build", "diff", "export", "history", "import", "inspect", "load", "ls", "mount", "prune",
            "pull", "push", "rm", "save", "tag", "umount",
        ],
        "container" => &["commit", "cp", "diff", "exec", "export", "kill", "ls", "rm", "run"],
        "system" => &["df", "info"],
        _ => &[],
    }
}

/// What is wrong with a noun whose verb there is not.
pub fn without_verb(noun: &str, verb: &str) -> Error {
    let verbs = verbs_of(noun).join(", ");
    Error::usage(match verb {
        "" => format!("{noun} needs a verb: {verbs}"),
        verb => format!("unknown command: {noun} {verb} (there are {verbs})"),
    })
}

/// The flags in their order, each with its value. Of a flag that is not a list the last one counts.
#[derive(Default)]
struct Given(Vec<(String, Option<String>)>);

impl Given {
    fn add(&mut self, flag: &FlagInfo<'_>, value: Option<String>) {
        if flag.optionality != Optionality::Repeating {
            self.remove(flag);
        }
        self.0.push((flag.long.to_owned(), value));
    }

    fn remove(&mut self, flag: &FlagInfo<'_>) {
        self.0.retain(|(name, _)| name != flag.long);
    }

    fn help(&mut self) {
        self.0.push(("--help".to_owned(), None));
    }

    fn words(self) -> Vec<String> {
        self.0.into_iter().flat_map(|(name, value)| [Some(name), value]).flatten().collect()
    }
}

/// Flags that docker has by two names, the other one and ours. It is no other flag's where a verb has it.
const OTHER_NAMES: &[(&str, &str)] = &[("dns-opt", "dns-option"), ("timeout", "time")];

struct Table<'a> {
    flags: &'a [FlagInfo<'a>],
    command: &'a str,
}

impl Table<'_> {
    /// `--name`, `--name value`, `--name=value`; `--switch=false` is no switch, as in docker. Another
    /// word for a switch goes to its `--switch-mode`, where there is one.
    fn long<'w>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'w OsString>,
        given: &mut Given,
    ) -> Result<()> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name == "help" {
            given.help();
            return Ok(());
        }
        let called = |name: &str| self.flags.iter().find(|f| f.long.strip_prefix("--") == Some(name));
        let again =
            || OTHER_NAMES.iter().find(|(other, _)| *other == name).and_then(|(_, flag)| called(flag));
        let Some(flag) = called(name).or_else(again) else {
            return Err(self.unknown(&format!("--{name}")));
        };
        self.say(flag, value, words, given)
    }

    /// A flag and the value that stands in its own word, if one does.
    fn say<'w>(
        &self,
        flag: &FlagInfo<'_>,
        value: Option<&str>,
        words: &mut impl Iterator<Item = &'w OsString>,
        given: &mut Given,
    ) -> Result<()> {
        let name = flag.long.trim_start_matches('-');
        match (takes_value(flag), value) {
            (false, None | Some("true")) => given.add(flag, None),
            (false, Some("false")) => {
                given.remove(flag);
                // Of a switch that is on by itself.
                let off = format!("--no-{name}");
                self.flags.iter().filter(|f| f.long == off).for_each(|off| given.add(off, None));
            }
            (false, Some(word)) => match self.mode_of(name) {
                Some(mode) => given.add(mode, Some(word.to_owned())),
                None => return Err(Error::flag(format!("--{name} takes true or false, not {word:?}"))),
            },
            (true, Some(value)) => given.add(flag, Some(value.to_owned())),
            (true, None) => given.add(flag, Some(next(flag.long, words)?)),
        }
        Ok(())
    }

    /// `-i`, `-it`, `-i=false`, `-e VALUE`, `-eVALUE`, `-e=VALUE`.
    fn short<'w>(
        &self,
        letters: &str,
        words: &mut impl Iterator<Item = &'w OsString>,
        given: &mut Given,
    ) -> Result<()> {
        let mut chars = letters.chars();
        while let Some(letter) = chars.next() {
            let Some(flag) = self.flags.iter().find(|f| f.short == Some(letter)) else {
                if letter == 'h' {
                    given.help();
                    continue;
                }
                return Err(self.unknown(&format!("-{letter}")));
            };
            let glued = chars.as_str();
            if !takes_value(flag) {
                match glued.strip_prefix('=') {
                    Some(word) => return self.say(flag, Some(word), words, given),
                    None => given.add(flag, None),
                }
                continue;
            }
            let value = match glued.strip_prefix('=').unwrap_or(glued) {
                "" if glued.is_empty() => next(&format!("-{letter}"), words)?,
                value => value.to_owned(),
            };
            given.add(flag, Some(value));
            break;
        }
        Ok(())
    }

    fn mode_of(&self, switch: &str) -> Option<&FlagInfo<'_>> {
        let name = |f: &&FlagInfo<'_>| {
            f.long.strip_prefix("--").and_then(|l| l.strip_suffix("-mode")) == Some(switch)
        };
        self.flags.iter().find(name)
    }

    fn unknown(&self, flag: &str) -> Error {
        let name = flag.trim_start_matches('-');
        let mut near = Near::to(name);
        if flag.starts_with("--") {
            self.flags.iter().filter(|f| !f.hidden).for_each(|f| near.look(f.long));
            near.look("--help");
        }
        let hint = match near.found() {
            Some(near) => format!(" (did you mean {near}?)"),
            // The name of a type is nothing that anybody has typed.
            None if self.command.starts_with(|c: char| c.is_ascii_uppercase()) => " (see --help)".to_owned(),
            None => format!(" (see {} --help)", self.command),
        };
        Error::flag(format!("unknown flag: {flag}{hint}"))
    }
}

fn takes_value(flag: &FlagInfo<'_>) -> bool {
    matches!(flag.kind, FlagInfoKind::Option { .. })
}

fn next<'w>(flag: &str, words: &mut impl Iterator<Item = &'w OsString>) -> Result<String> {
    match words.next() {
        Some(value) => text(value),
        None => Err(Error::flag(format!("flag needs an argument: {flag}"))),
    }
}

fn text(word: &OsStr) -> Result<String> {
    match word.to_str() {
        Some(word) => Ok(word.to_owned()),
        None => Err(Error::usage(format!("{word:?} is not UTF-8"))),
    }
}

/// What a mistyped word was meant to be.
pub struct Near<'a> {
    word: &'a str,
    best: Option<&'a str>,
    /// Only what is nearer than this.
    within: usize,
}

impl<'a> Near<'a> {
    /// A word that is none.
    pub fn to(word: &'a str) -> Self {
        Self { word, best: None, within: 1 + 2.min(word.len() / 2) }
    }

    /// One that there is; dashes before it do not count.
    pub fn look(&mut self, name: &'a str) {
        let far = distance(self.word, name.trim_start_matches('-'));
        if far < self.within {
            (self.within, self.best) = (far, Some(name));
        }
    }

    /// The nearest that was looked at, the first of several.
    pub fn found(&self) -> Option<&'a str> {
        self.best
    }
}

/// How many letters must be put in, taken out or replaced to get from `a` to `b`.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use argh::{ArgsInfo, FromArgs};

    use super::*;

    /// A command with a flag of every kind.
    #[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
    #[argh(subcommand, name = "run", help_triggers("--help"))]
    #[allow(dead_code)]
    struct Run {
        /// input
        #[argh(switch, short = 'i')]
        interactive: bool,
        /// terminal
        #[argh(switch, short = 't')]
        tty: bool,
        /// remove
        #[argh(switch)]
        rm: bool,
        /// environment
        #[argh(option, short = 'e')]
        env: Vec<String>,
        /// host name
        #[argh(option, short = 'h')]
        hostname: Option<String>,
        /// the word of --tty=
        #[argh(option)]
        tty_mode: Option<String>,
        /// image
        #[argh(positional)]
        image: String,
    }

    fn run(line: &str, tail: Tail) -> Result<Normal> {
        let argv: Vec<OsString> = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        normalise(&Run::get_args_info(), &argv, tail)
    }

    #[test]
    fn what_hands_type_becomes_what_argh_takes() {
        for (typed, words, tail) in [
            ("-it --rm IMG sh -c -x", "--interactive --tty --rm -- IMG", "sh -c -x"),
            ("-ti IMG", "--tty --interactive -- IMG", ""),
            ("-eA=1 -e B=2 --env=C=3 --env D IMG", "--env A=1 --env B=2 --env C=3 --env D -- IMG", ""),
            ("-ite A IMG", "--interactive --tty --env A -- IMG", ""),
            ("-h box IMG -h", "--hostname box -- IMG", "-h"),
            ("-h=a -h b --hostname c IMG", "--hostname c -- IMG", ""),
            ("--rm --rm=false IMG", "-- IMG", ""),
            ("--rm=true IMG", "--rm -- IMG", ""),
            ("-i=false -t=true IMG", "--tty -- IMG", ""),
            ("-it=false IMG", "--interactive -- IMG", ""),
            ("-t=raw IMG", "--tty-mode raw -- IMG", ""),
            ("--tty=raw IMG", "--tty-mode raw -- IMG", ""),
            ("--rm IMG -- sh -- x", "--rm -- IMG", "sh -- x"),
            ("--rm -- IMG --rm", "--rm -- IMG", "--rm"),
            ("-e --rm IMG", "--env --rm -- IMG", ""),
            ("--help", "--help", ""),
            ("- sh", "-- -", "sh"),
        ] {
            let normal = run(typed, Tail::After(1)).unwrap();
            assert_eq!(normal.words.join(" "), words, "{typed}");
            assert_eq!(normal.tail.join(OsStr::new(" ")), tail, "{typed}");
        }
    }

    #[test]
    fn without_a_command_of_its_own_flags_may_follow_words() {
        let normal = run("A --rm B -- --rm", Tail::None).unwrap();
        assert_eq!(normal.words, ["--rm", "--", "A", "B", "--rm"]);
        assert!(normal.tail.is_empty());
    }

    #[test]
    fn the_words_of_a_verb_are_its_own() {
        for (typed, tail) in
            [("pull -- -x", "-- -x"), ("pull -q -- x", "-q -- x"), ("-- pull -- -x", "-- -x")]
        {
            let normal = run(typed, Tail::Verb).unwrap();
            assert_eq!(
                (normal.words.join(" "), normal.tail.join(OsStr::new(" "))),
                ("-- pull".to_owned(), tail.into())
            );
        }
    }

    #[test]
    fn argh_reads_what_comes_out() {
        let words = run("-ite A -h box IMG sh", Tail::After(1)).unwrap().words;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let parsed = Run::from_args(&["run"], &words).unwrap();
        assert_eq!((parsed.tty, parsed.env, parsed.image), (true, vec!["A".to_owned()], "IMG".to_owned()));
    }

    #[test]
    fn a_wrong_flag_is_named_with_the_nearest_right_one() {
        for (typed, says) in [
            ("--hostnam x IMG", "unknown flag: --hostnam (did you mean --hostname?)"),
            ("--dns-opt x IMG", "unknown flag: --dns-opt (see run --help)"),
            ("--frobnicate IMG", "unknown flag: --frobnicate (see run --help)"),
            ("-iz IMG", "unknown flag: -z (see run --help)"),
            ("--env", "flag needs an argument: --env"),
            ("-e", "flag needs an argument: -e"),
            ("--rm=maybe IMG", "--rm takes true or false, not \"maybe\""),
            ("-i=maybe IMG", "--interactive takes true or false, not \"maybe\""),
        ] {
            assert_eq!(run(typed, Tail::After(1)).unwrap_err().to_string(), says, "{typed}");
        }
    }

    /// Every command line of up to five of these words.
    fn lines() -> impl Iterator<Item = Vec<OsString>> {
        const WORDS: [&str; 13] =
            ["-i", "-it", "-eA", "-e", "-e=", "-h", "--rm", "--rm=false", "--env=A=B", "--", "-", "", "w"];
        (0..=5u32).flat_map(|length| {
            (0..WORDS.len().pow(length)).map(move |mut number| {
                let pick = |_| {
                    let word = WORDS[number % WORDS.len()];
                    number /= WORDS.len();
                    OsString::from(word)
                };
                (0..length).map(pick).collect()
            })
        })
    }

    #[test]
    fn whatever_is_typed_the_tail_is_untouched_and_argh_takes_the_rest() {
        let table = Run::get_args_info();
        for line in lines() {
            let Ok(normal) = normalise(&table, &line, Tail::After(1)) else { continue };
            assert!(line.ends_with(&normal.tail), "{line:?}: {normal:?}");
            let words: Vec<&str> = normal.words.iter().map(String::as_str).collect();
            match Run::from_args(&["run"], &words) {
                Ok(run) => assert_eq!(words.last(), Some(&&*run.image), "{line:?}: {normal:?}"),
                // All that can be wrong still is that there is no image.
                Err(exit) => {
                    assert!(
                        exit.output.contains("Required positional") && normal.tail.is_empty(),
                        "{line:?}: {}",
                        exit.output
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_in_arghs_form_already_stays_as_it_is() {
        let table = Run::get_args_info();
        for line in lines() {
            let Ok(normal) = normalise(&table, &line, Tail::After(1)) else { continue };
            let again: Vec<OsString> =
                normal.words.iter().map(OsString::from).chain(normal.tail.clone()).collect();
            assert_eq!(normalise(&table, &again, Tail::After(1)).unwrap(), normal, "{line:?}");
        }
    }
}
