//! Completion for fish.

use std::fmt::Write;

use argh::FlagInfo;

use crate::program::{CONTAINERS, IMAGES, Place, Program, TRANSPORTS, flags, value, value_place};

/// The script.
pub(crate) fn script(program: &Program) -> String {
    let name = program.name;
    let images = format!("({name} {IMAGES})");
    let containers = format!("({name} {CONTAINERS})");
    let mut out = format!("# fish completion for {name}\ncomplete -c {name} -f\n");
    for flag in flags(&program.top) {
        line(&mut out, name, "__fish_use_subcommand", flag);
    }
    for verb in &program.verbs {
        let what = quoted(verb.summary());
        let _ = writeln!(out, "complete -c {name} -n __fish_use_subcommand -a {} -d {what}", verb.name);
    }
    for verb in &program.verbs {
        let seen = format!("'__fish_seen_subcommand_from {}'", verb.name);
        for flag in flags(&verb.info) {
            line(&mut out, name, &seen, flag);
        }
        let offered = match verb.place() {
            Place::Image => images.clone(),
            Place::Container => containers.clone(),
            Place::Transport => format!("{TRANSPORTS} {images}"),
            Place::Folder => "(__fish_complete_directories)".to_owned(),
            Place::File => {
                let _ = writeln!(out, "complete -c {name} -n {seen} -F");
                continue;
            }
            Place::Anything => continue,
        };
        let _ = writeln!(out, "complete -c {name} -n {seen} -a {}", quoted(&offered));
        if verb.runs() {
            let _ = writeln!(out, "complete -c {name} -n {seen} -F");
        }
    }
    out
}

fn line(out: &mut String, name: &str, when: &str, flag: &FlagInfo<'_>) {
    let short = flag.short.map_or(String::new(), |c| format!(" -s {c}"));
    let long = flag.long.trim_start_matches("--");
    let takes = match (value(flag), value_place(flag)) {
        (None, _) => "",
        (Some(_), Place::File) => " -r -F",
        (Some(_), Place::Folder) => " -x -a '(__fish_complete_directories)'",
        (Some(_), _) => " -x",
    };
    let what = quoted(flag.description);
    let _ = writeln!(out, "complete -c {name} -n {when}{short} -l {long}{takes} -d {what}");
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
