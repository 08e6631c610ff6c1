//! Man pages, man(7): one of a program, and one of each of its verbs.

use argh::{CommandInfoWithArgs, FlagInfo, Optionality};
use roff::{Roff, bold, italic, roman};

use crate::program::{Program, Verb, flags, repeats, value, words};

/// The pages by their names.
pub(crate) fn pages(program: &Program) -> Vec<(String, String)> {
    let own = program.verbs.iter().filter(|v| v.by.is_none());
    let mut out = vec![(program.name.to_owned(), of_program(program))];
    out.extend(own.map(|v| (format!("{}-{}", program.name, v.name), of_verb(program, v))));
    out
}

fn of_program(program: &Program) -> String {
    let mut page = head(program.name, program.summary());
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(program.name), roman(" [OPTIONS] COMMAND ...")]);
    page.control("SH", ["DESCRIPTION"]);
    paragraph(&mut page, program.top.description);
    options(&mut page, &program.top);
    page.control("SH", ["COMMANDS"]);
    for verb in &program.verbs {
        page.control("TP", []);
        let by = verb.by.unwrap_or(program.name);
        page.text([bold(format!("{by}-{}", verb.name)), roman("(1)")]);
        page.text([roman(format!("{}.", verb.summary()))]);
    }
    rest(&mut page, &program.top);
    page.render()
}

fn of_verb(program: &Program, verb: &Verb) -> String {
    let name = format!("{}-{}", program.name, verb.name);
    let mut page = head(&name, verb.summary());
    page.control("SH", ["SYNOPSIS"]);
    let mut line = vec![bold(format!("{} {}", program.name, verb.name)), roman(" [OPTIONS]")];
    for p in verb.positionals() {
        let name = p.name.to_uppercase();
        let (open, close) = match p.optionality {
            Optionality::Required => (" ", ""),
            Optionality::Optional => (" [", "]"),
            Optionality::Repeating | Optionality::Greedy => (" [", "...]"),
        };
        line.extend([roman(open), italic(name), roman(close)]);
    }
    if verb.runs() {
        line.extend([roman(" ["), italic("COMMAND"), roman(" ["), italic("ARGUMENT"), roman("...]]")]);
    }
    page.text(line);
    page.control("SH", ["DESCRIPTION"]);
    paragraph(&mut page, verb.info.description);
    for p in verb.positionals() {
        page.control("TP", []);
        page.text([italic(p.name.to_uppercase())]);
        page.text([roman(p.description)]);
    }
    options(&mut page, &verb.info);
    rest(&mut page, &verb.info);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold(program.name), roman("(1)")]);
    page.render()
}

/// A page's title and name. Pages carry no date: they are the same from build to build.
pub(crate) fn head(name: &str, about: &str) -> Roff {
    let mut page = Roff::new();
    let version = concat!("Coracle ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name.to_uppercase().as_str(), "1", "", version, "Coracle"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page
}

/// Text with its own line breaks.
pub(crate) fn paragraph(page: &mut Roff, text: &str) {
    for (n, line) in text.lines().map(str::trim).enumerate() {
        match line {
            "" if n > 0 => drop(page.control("PP", [])),
            "" => {}
            line => drop(page.text([roman(line)])),
        }
    }
}

/// Lines as they are.
fn verbatim(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.control("EX", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
}

fn options(page: &mut Roff, info: &CommandInfoWithArgs) {
    page.control("SH", ["OPTIONS"]);
    for flag in flags(info) {
        page.control("TP", []);
        page.text(flag_line(flag));
        page.text([roman(match repeats(flag) {
            true => format!("{}; may be repeated.", flag.description.trim_end_matches('.')),
            false => format!("{}.", flag.description.trim_end_matches('.')),
        })]);
    }
    page.control("TP", []);
    page.text([bold("--help")]);
    page.text([roman("show a summary of this.")]);
}

fn flag_line(flag: &FlagInfo<'_>) -> Vec<roff::Inline> {
    let mut line = Vec::new();
    for (n, word) in words(flag).into_iter().enumerate() {
        line.extend((n > 0).then(|| roman(", ")));
        line.push(bold(word));
    }
    if let Some(value) = value(flag) {
        line.extend([roman(" "), italic(value)]);
    }
    line
}

fn rest(page: &mut Roff, info: &CommandInfoWithArgs) {
    if !info.notes.is_empty() {
        page.control("SH", ["NOTES"]);
        for note in info.notes {
            page.control("PP", []);
            paragraph(page, note);
        }
    }
    if !info.error_codes.is_empty() {
        page.control("SH", ["EXIT STATUS"]);
        for code in info.error_codes {
            page.control("TP", []);
            page.text([bold(code.code.to_string())]);
            page.text([roman(format!("{}.", code.description.trim_end_matches('.')))]);
        }
    }
    if !info.examples.is_empty() {
        page.control("SH", ["EXAMPLES"]);
        // argh writes braces twice.
        info.examples.iter().for_each(|e| verbatim(page, &e.replace("{{", "{").replace("}}", "}")));
    }
}
