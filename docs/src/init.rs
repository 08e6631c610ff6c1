//! The page of `init`, made of what it prints for `-h`.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use roff::{bold, roman};

use crate::man::{head, paragraph};

/// The page.
pub(crate) fn page(init: &Path) -> Result<String, Box<dyn Error>> {
    let out = Command::new(init).arg("-h").output().map_err(|e| format!("{}: {e}", init.display()))?;
    of_help(&String::from_utf8(out.stdout)?)
}

fn of_help(help: &str) -> Result<String, Box<dyn Error>> {
    let usage =
        help.lines().next().and_then(|l| l.strip_prefix("usage: init")).ok_or("init -h has no usage")?;
    let mut page =
        head("coracle-init", "PID 1 of a container: starts one command, forwards signals and reaps");
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("init"), roman(usage)]);
    page.control("SH", ["DESCRIPTION"]);
    let mut in_options = false;
    for line in help.lines().skip(1) {
        // An option stands two columns in, what it does twenty-one or more.
        match line.strip_prefix("  ") {
            Some(option) if !option.starts_with(' ') => {
                if !in_options {
                    page.control("SH", ["OPTIONS"]);
                }
                in_options = true;
                let (word, what) = option.split_once("  ").unwrap_or((option, ""));
                page.control("TP", []);
                page.text([bold(word)]);
                page.text([roman(what.trim())]);
            }
            Some(more) => drop(page.text([roman(more.trim())])),
            None if in_options && line.is_empty() => {
                page.control("SH", ["NOTES"]);
                in_options = false;
            }
            None => paragraph(&mut page, line),
        }
    }
    Ok(page.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_what_they_do_are_told_apart() {
        let help =
            "usage: init [OPTIONS]\n\nStarts.\n\n  -s     be\n         good\n  --grace N    wait\n\nMore.\n";
        let page = of_help(help).unwrap();
        for part in ["\\fB\\-s\\fR\nbe\ngood\n", "\\fB\\-\\-grace N\\fR\nwait", ".SH NOTES\nMore."] {
            assert!(page.contains(part), "{page}");
        }
        assert!(of_help("nothing").is_err());
    }
}
