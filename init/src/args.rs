//! The command line and the environment: tini's, and what goes beyond it. Pure: nothing is done here.
//!
//! Words are read up to `--` or the first that is not an option; what follows is the command.

use core::cell::Cell;

use crate::signals;

/// What `--version` prints.
pub(crate) const VERSION: &str = concat!("coracle-init ", env!("CARGO_PKG_VERSION"), "\n");

/// What `-l` prints.
pub(crate) static LICENSE: [u8; LICENSE_TEXT.len()] = *LICENSE_TEXT;
const LICENSE_TEXT: &[u8; 116] = b"\
Licensed under the Apache License, Version 2.0; you may obtain a copy at
http://www.apache.org/licenses/LICENSE-2.0
";

/// What `-h` prints.
pub(crate) static HELP: [u8; HELP_TEXT.len()] = *HELP_TEXT;
const HELP_TEXT: &[u8; 1513] = b"\
usage: init [OPTIONS] [--] COMMAND [ARGS...]

Starts COMMAND, forwards signals to it, reaps every process that ends, and
leaves with the exit code of COMMAND (128+n when signal n killed it).

  -s                   become a subreaper (done anyway unless it is PID 1)
  -p SIGNAL            get SIGNAL when the parent dies
  -g                   forward signals to the command's whole process group
  -v                   say more on stderr; repeat it to hear more
  -w                   warn of every orphan that is reaped
  -e CODE              leave with 0 instead of CODE; may be repeated
  -l                   show the license
  -h, --help           show this
  --version            show the version
  --grace SECONDS      when the command has ended, TERM what is left of the
                       process tree and KILL it after SECONDS; 0, the
                       default, leaves at once
  --wait-all           leave when the last process has ended, not the first;
                       then TERM goes to all, and --grace runs from there
  --drain SECONDS      hold the first TERM back for SECONDS
  --rewrite FROM:TO    forward signal FROM as TO, or not at all when TO is 0
  --exec               become COMMAND: neither fork nor stay
  --error-fd FD        when COMMAND cannot be executed, write its errno to FD
                       (4 bytes) and no message

SECONDS may have a fraction. Environment: TINI_SUBREAPER (as -s),
TINI_KILL_PROCESS_GROUP (as -g), TINI_VERBOSITY (a number, 1 is normal).
";

/// What the command line amounts to. The number is the index of the command's first word.
#[derive(Debug)]
pub(crate) enum Action {
    /// Start the command and stay.
    Run(Options, usize),
    /// Become the command.
    Exec(Options, usize),
    Help,
    Version,
    License,
}

/// How to run the command. Durations are in milliseconds.
#[derive(Debug)]
pub(crate) struct Options {
    /// The signal to get when the parent dies.
    pub(crate) parent_death: Option<u8>,
    /// Being a subreaper was asked for: it is an error when it cannot be had.
    pub(crate) subreaper: bool,
    /// Forward to the process group.
    pub(crate) group: bool,
    /// 1 is normal: warnings only.
    pub(crate) verbosity: u8,
    /// Warn of each reaped orphan.
    pub(crate) warn_reaped: bool,
    pub(crate) grace: u32,
    pub(crate) wait_all: bool,
    pub(crate) drain: u32,
    /// Where to write the errno of a failed exec.
    pub(crate) error_fd: Option<i32>,
    /// One bit for each exit code that becomes 0.
    zeroed: [u64; 4],
    /// What each signal is forwarded as, by number; 0 drops it.
    rewrite: [u8; signals::MAX as usize + 1],
}

impl Options {
    fn new() -> Self {
        Self {
            parent_death: None,
            subreaper: false,
            group: false,
            verbosity: 1,
            warn_reaped: false,
            grace: 0,
            wait_all: false,
            drain: 0,
            error_fd: None,
            zeroed: [0; 4],
            rewrite: core::array::from_fn(|signal| signal as u8),
        }
    }

    /// The exit code to leave with when the command left with `code`.
    pub(crate) fn exit_code(&self, code: u8) -> u8 {
        let word = self.zeroed.get(usize::from(code / 64)).copied().unwrap_or(0);
        if word >> (code % 64) & 1 == 1 { 0 } else { code }
    }

    /// What to forward `signal` as; nothing when it is to be dropped.
    pub(crate) fn rewritten(&self, signal: u8) -> Option<u8> {
        self.rewrite.get(usize::from(signal)).copied().filter(|to| *to != 0)
    }

    /// Whether stderr is needed once the command runs.
    pub(crate) fn talks(&self) -> bool {
        self.verbosity > 1 || self.warn_reaped
    }
}

/// A command line or variable that is refused: which word, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal<'a> {
    pub(crate) what: &'a [u8],
    pub(crate) why: &'static [u8],
}

/// Read the words of a command line, the program's own name first.
pub(crate) fn parse<'a>(
    mut words: impl Iterator<Item = &'a [u8]>,
    env: impl Fn(&[u8]) -> Option<&'a [u8]>,
) -> Result<Action, Refusal<'a>> {
    let mut options = Options::new();
    let mut exec = false;
    options.subreaper = env(b"TINI_SUBREAPER").is_some();
    options.group = env(b"TINI_KILL_PROCESS_GROUP").is_some();
    if let Some(text) = env(b"TINI_VERBOSITY") {
        let refusal = Refusal { what: b"TINI_VERBOSITY", why: b"not a number from 0 to 255" };
        options.verbosity = signals::number(text).ok_or(refusal)?;
    }
    // Of the word that was read last. The first is the program's name.
    let at = Cell::new(0);
    let mut next = || {
        at.set(at.get() + 1);
        words.next()
    };
    next();
    while let Some(word) = next() {
        let nth = at.get() - 1;
        match word {
            b"--" => return command(options, exec, next().map(|_| nth + 1)),
            b"--help" => return Ok(Action::Help),
            b"--version" => return Ok(Action::Version),
            b"--wait-all" => options.wait_all = true,
            b"--exec" => exec = true,
            [b'-', b'-', name @ ..] => {
                let (name, value) = match name.iter().position(|b| *b == b'=') {
                    Some(equals) => (name.get(..equals).unwrap_or_default(), name.get(equals + 1..)),
                    None => (name, None),
                };
                let mut value = || value.or_else(&mut next).ok_or(Refusal { what: word, why: NO_VALUE });
                match name {
                    b"grace" => options.grace = duration(word, value()?)?,
                    b"drain" => options.drain = duration(word, value()?)?,
                    b"rewrite" => rewrite(&mut options, value()?)?,
                    b"error-fd" => options.error_fd = Some(descriptor(value()?)?),
                    _ => return Err(Refusal { what: word, why: UNKNOWN }),
                }
            }
            [b'-', letters @ ..] if !letters.is_empty() => {
                if let Some(action) = short(&mut options, word, letters, &mut next)? {
                    return Ok(action);
                }
            }
            _ => return command(options, exec, Some(nth)),
        }
    }
    command(options, exec, None)
}

const NO_VALUE: &[u8] = b"its value is missing";
const UNKNOWN: &[u8] = b"unknown option; -h lists them";

fn command<'a>(options: Options, exec: bool, at: Option<usize>) -> Result<Action, Refusal<'a>> {
    let at = at.ok_or(Refusal { what: b"no command given", why: b"-h shows the usage" })?;
    Ok(if exec { Action::Exec(options, at) } else { Action::Run(options, at) })
}

/// A word of short options, in which the last may have its value attached or as the next word.
fn short<'a>(
    options: &mut Options,
    word: &'a [u8],
    mut letters: &'a [u8],
    next: &mut dyn FnMut() -> Option<&'a [u8]>,
) -> Result<Option<Action>, Refusal<'a>> {
    while let Some((letter, rest)) = letters.split_first() {
        letters = rest;
        match letter {
            b's' => options.subreaper = true,
            b'g' => options.group = true,
            b'w' => options.warn_reaped = true,
            b'v' => options.verbosity = options.verbosity.saturating_add(1),
            b'h' => return Ok(Some(Action::Help)),
            b'l' => return Ok(Some(Action::License)),
            b'p' | b'e' => {
                let value = if rest.is_empty() { next() } else { Some(rest) };
                let value = value.ok_or(Refusal { what: word, why: NO_VALUE })?;
                if *letter == b'p' {
                    let refusal = Refusal { what: value, why: b"no such signal (option -p)" };
                    options.parent_death = Some(signals::parse(value).ok_or(refusal)?);
                } else {
                    let refusal = Refusal { what: value, why: b"not an exit code, 0 to 255 (option -e)" };
                    let code = signals::number(value).ok_or(refusal)?;
                    if let Some(word) = options.zeroed.get_mut(usize::from(code / 64)) {
                        *word |= 1 << (code % 64);
                    }
                }
                break;
            }
            _ => return Err(Refusal { what: word, why: UNKNOWN }),
        }
    }
    Ok(None)
}

/// `FROM:TO`, where TO may be 0.
fn rewrite<'a>(options: &mut Options, value: &'a [u8]) -> Result<(), Refusal<'a>> {
    let refuse = |why| Refusal { what: value, why };
    let colon = value.iter().position(|b| *b == b':');
    let (from, to) = colon
        .and_then(|at| Some((value.get(..at)?, value.get(at + 1..)?)))
        .ok_or(refuse(b"not FROM:TO (option --rewrite)"))?;
    let unknown = refuse(b"no such signal (option --rewrite)");
    let to = if to == b"0" { Some(0) } else { signals::parse(to) };
    match (signals::parse(from), to) {
        (Some(9 | 17 | 19), Some(_)) => {
            Err(refuse(b"KILL, STOP and CHLD are not forwarded (option --rewrite)"))
        }
        (Some(from), Some(to)) => {
            if let Some(slot) = options.rewrite.get_mut(usize::from(from)) {
                *slot = to;
            }
            Ok(())
        }
        _ => Err(unknown),
    }
}

fn descriptor(value: &[u8]) -> Result<i32, Refusal<'_>> {
    let refusal = Refusal { what: value, why: b"not a descriptor's number (option --error-fd)" };
    let digits = |sum: i32, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| i32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    if value.is_empty() { None } else { value.iter().try_fold(0, digits) }.ok_or(refusal)
}

/// Seconds with an optional fraction, in milliseconds; a fraction of one counts as one.
fn duration<'a>(option: &'a [u8], value: &'a [u8]) -> Result<u32, Refusal<'a>> {
    let refusal = Refusal { what: option, why: b"takes seconds, such as 10 or 0.5" };
    millis(value).ok_or(refusal)
}

/// Seconds with an optional fraction, in milliseconds.
pub(crate) fn millis(text: &[u8]) -> Option<u32> {
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, fraction) = (text.get(..dot)?, text.get(dot + 1..).unwrap_or_default());
    if !whole.iter().chain(fraction).any(u8::is_ascii_digit) {
        return None;
    }
    let seconds = whole.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })?;
    let mut millis = seconds.checked_mul(1000)?;
    let mut unit = 100;
    for byte in fraction {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        let part = if unit == 0 { u32::from(digit > 0 && millis == 0) } else { digit * unit };
        millis = millis.checked_add(part)?;
        unit /= 10;
    }
    // poll(2) counts in an int.
    i32::try_from(millis).is_ok().then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&'static str]) -> Result<Action, Refusal<'static>> {
        read_with(words, &[])
    }

    fn read_with(
        words: &[&'static str],
        env: &'static [(&'static str, &'static str)],
    ) -> Result<Action, Refusal<'static>> {
        parse(["init"].iter().chain(words).map(|word| word.as_bytes()), |name| {
            env.iter().find(|(key, _)| key.as_bytes() == name).map(|(_, value)| value.as_bytes())
        })
    }

    fn options(words: &[&'static str]) -> (Options, usize) {
        match read(words) {
            Ok(Action::Run(options, at)) => (options, at),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn the_command_begins_at_the_first_word_that_is_no_option() {
        assert_eq!(options(&["ls", "-l"]).1, 1);
        assert_eq!(options(&["--", "ls", "-l"]).1, 2);
        assert_eq!(options(&["-s", "-g", "--", "--", "x"]).1, 4);
        assert_eq!(options(&["-e", "3", "sh", "-c", "exit 3"]).1, 3);
        assert_eq!(options(&["-"]).1, 1);
        assert_eq!(options(&["--grace", "5", "--wait-all", "x"]).1, 4);
    }

    #[test]
    fn short_options_bundle_as_getopt_has_it() {
        let (options, at) = options(&["-svvg", "-pTERM", "-wvvve143", "-e", "0", "x"]);
        assert_eq!(at, 6);
        assert_eq!((options.verbosity, options.group, options.warn_reaped), (6, true, true));
        assert_eq!(options.parent_death, Some(15));
        assert_eq!([143, 0, 142, 255].map(|code| options.exit_code(code)), [0, 0, 142, 255]);
    }

    #[test]
    fn signals_are_rewritten_by_name_and_dropped_by_zero() {
        let (options, _) =
            options(&["--rewrite", "TERM:QUIT", "--rewrite=37:SIGRTMAX", "--rewrite", "HUP:0", "x"]);
        assert_eq!(
            [15, 37, 1, 2].map(|signal| options.rewritten(signal)),
            [Some(3), Some(64), None, Some(2)]
        );
    }

    #[test]
    fn durations_are_seconds_with_a_fraction() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10_000)),
            ("0.25", Some(250)),
            (".5", Some(500)),
            ("2.", Some(2000)),
            ("1.2345", Some(1234)),
            ("0.0004", Some(1)),
            ("2147483", Some(2_147_483_000)),
            ("2147484", None),
            ("99999999999", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("1s", None),
            ("1.5.5", None),
            ("1,5", None),
        ] {
            assert_eq!(millis(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        for (words, what) in [
            (&["-x", "ls"][..], "-x"),
            (&["-sx", "ls"], "-sx"),
            (&["--frob", "ls"], "--frob"),
            (&["-p", "NOPE", "ls"], "NOPE"),
            (&["-p", "0", "ls"], "0"),
            (&["-p"], "-p"),
            (&["-e", "256", "ls"], "256"),
            (&["-e", "-1", "ls"], "-1"),
            (&["-e", "", "ls"], ""),
            (&["--grace", "soon", "ls"], "--grace"),
            (&["--grace=", "ls"], "--grace="),
            (&["--drain"], "--drain"),
            (&["--wait-all=yes", "ls"], "--wait-all=yes"),
            (&["--rewrite", "TERM", "ls"], "TERM"),
            (&["--rewrite", "TERM:NOPE", "ls"], "TERM:NOPE"),
            (&["--rewrite", "KILL:TERM", "ls"], "KILL:TERM"),
            (&["--rewrite", "CHLD:TERM", "ls"], "CHLD:TERM"),
            (&["--error-fd", "-3", "ls"], "-3"),
            (&["--error-fd", "99999999999", "ls"], "99999999999"),
            (&[], "no command given"),
            (&["-v", "--"], "no command given"),
        ] {
            match read(words) {
                Err(refusal) => assert_eq!(refusal.what, what.as_bytes(), "{words:?}"),
                Ok(action) => panic!("{words:?}: {action:?}"),
            }
        }
    }

    #[test]
    fn the_environment_is_tinis() {
        let words = &["x"];
        match read_with(
            words,
            &[("TINI_SUBREAPER", ""), ("TINI_KILL_PROCESS_GROUP", ""), ("TINI_VERBOSITY", "3")],
        ) {
            Ok(Action::Run(options, 1)) => {
                assert_eq!((options.subreaper, options.group, options.verbosity), (true, true, 3))
            }
            other => panic!("{other:?}"),
        }
        for env in [&[("TINI_VERBOSITY", "-1")], &[("TINI_VERBOSITY", "")], &[("TINI_VERBOSITY", "1x")]] {
            assert_eq!(read_with(words, env).unwrap_err().what, b"TINI_VERBOSITY");
        }
    }

    #[test]
    fn exec_help_version_and_license_are_actions() {
        assert!(
            matches!(read(&["--exec", "--error-fd", "3", "--", "x"]), Ok(Action::Exec(o, 5)) if o.error_fd == Some(3))
        );
        assert!(matches!(read(&["-h"]), Ok(Action::Help)));
        assert!(matches!(read(&["--version"]), Ok(Action::Version)));
        assert!(matches!(read(&["-sl", "x"]), Ok(Action::License)));
    }
}
