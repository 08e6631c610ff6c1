//! What the programs print. A reader that has gone away, or a disk that is full, ends nothing half-way: the
//! verb goes on, and what went wrong with its output is told at the end.

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

use crate::error::{Context, Result};

/// The first errno of the standard output.
static FAILED: AtomicI32 = AtomicI32::new(0);

/// A line on standard output, as `println!` without the panic.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($words)*))) };
}

/// A line on standard error, as `eprintln!` without the panic.
#[macro_export]
macro_rules! warn {
    ($($words:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($words)*))) };
}

/// Write to standard output.
pub fn out(text: Arguments<'_>) {
    note(std::io::stdout().write_fmt(text));
}

/// Write to standard error. There is nobody to tell when that fails.
pub fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(text);
}

/// Text of an image or a container for a terminal: its control characters, which could write to the
/// terminal's own memory, rename its window or fake lines, become blanks.
pub fn harmless(text: &str) -> String {
    text.replace(acts, " ")
}

/// Does a character do something to a terminal, or to the order in which text is shown?
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON on standard output. On a terminal its characters act on nothing: what JSON itself does not escape is
/// escaped as well.
pub fn json(value: &serde_json::Value, pretty: bool) {
    json_text(if pretty { format!("{value:#}") } else { value.to_string() });
}

/// [`json`], of a text that is JSON already.
pub fn json_text(text: String) {
    let text = if std::io::stdout().is_terminal() { escaped(&text) } else { text };
    out(format_args!("{text}\n"));
}

/// JSON text in which no character acts on a terminal.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Line breaks stand between its parts alone.
        if acts(c) && c != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether all that was printed has arrived. A pipe whose reader has seen enough is fine.
pub fn finish() -> Result<()> {
    note(std::io::stdout().flush());
    match Errno::from_raw(FAILED.load(Ordering::Relaxed)) {
        Errno::UnknownErrno | Errno::EPIPE => Ok(()),
        failed => Err(failed).context(|| "write(standard output)"),
    }
}

/// Whether there is still somebody who gets what is printed.
pub fn is_heard() -> bool {
    FAILED.load(Ordering::Relaxed) == 0
}

fn note(written: std::io::Result<()>) {
    if let Err(e) = written {
        let errno = e.raw_os_error().unwrap_or(libc::EIO);
        let _ = FAILED.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_acts_on_no_terminal() {
        let text = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}b\u{2066}\n";
        assert_eq!(harmless(text), "a [2J 2J  b  ");
        let json = serde_json::json!({ "a": text }).to_string();
        assert_eq!(escaped(&json), r#"{"a":"a\u001b[2J\u009b2J\u007f\u202eb\u2066\n"}"#);
        let back: serde_json::Value = serde_json::from_str(&escaped(&json)).expect("it is JSON still");
        assert_eq!(back["a"], text);
    }
}
