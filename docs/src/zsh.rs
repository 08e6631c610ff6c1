//! Completion for zsh, by its `_arguments`.

use std::fmt::Write;

use argh::{CommandInfoWithArgs, FlagInfo};

use crate::program::{
    CONTAINERS, IMAGES, Place, Program, TRANSPORTS, Verb, flags, repeats, value, value_place, words,
};

/// The script.
pub(crate) fn script(program: &Program) -> String {
    let name = program.name;
    let function = name.replace('-', "_");
    let mut verbs = String::new();
    let mut cases = String::new();
    for verb in &program.verbs {
        let _ = writeln!(verbs, "                {}", quoted(&format!("{}:{}", verb.name, verb.summary())));
        let _ = writeln!(
            cases,
            "            {})\n                _arguments -s {} \\",
            verb.name,
            specs(&verb.info)
        );
        let _ = writeln!(cases, "                    {} ;;", positional(&function, verb));
    }
    format!(
        r#"#compdef {name}
_{function}_images() {{
    local -a images
    images=(${{(f)"$({name} {IMAGES})"}})
    compadd -a images
}}
_{function}_containers() {{
    local -a containers
    containers=(${{(f)"$({name} {CONTAINERS})"}})
    compadd -a containers
}}
_{function}_transports() {{
    compadd -S '' {TRANSPORTS}
    _{function}_images
}}
_{function}() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C {top} \
        '1:command:->verb' '*::argument:->rest'
    case $state in
        verb)
            local -a verbs
            verbs=(
{verbs}            )
            _describe command verbs ;;
        rest)
            case $line[1] in
{cases}            esac ;;
    esac
}}
_{function} "$@"
"#,
        top = specs(&program.top),
    )
}

fn specs(info: &CommandInfoWithArgs) -> String {
    let mut all: Vec<String> = flags(info).flat_map(spec).collect();
    all.push("'--help[show help]'".to_owned());
    all.join(" ")
}

/// One flag: of a pair of words, the second is not offered once the first is there.
fn spec(flag: &FlagInfo<'_>) -> Vec<String> {
    let both = words(flag);
    let what = flag.description.replace('[', "(").replace(']', ")").replace(':', "\\:");
    let action = match (value(flag), value_place(flag)) {
        (None, _) => String::new(),
        (Some(name), Place::File) => format!(":{name}:_files"),
        (Some(name), Place::Folder) => format!(":{name}:_files -/"),
        (Some(name), _) => format!(":{name}:"),
    };
    let before = match repeats(flag) {
        true => "*".to_owned(),
        false => format!("({})", both.join(" ")),
    };
    both.iter().map(|word| quoted(&format!("{before}{word}[{what}]{action}"))).collect()
}

fn positional(function: &str, verb: &Verb) -> String {
    let action = match verb.place() {
        Place::File => "_files".to_owned(),
        Place::Folder => "_files -/".to_owned(),
        Place::Image => format!("_{function}_images"),
        Place::Container => format!("_{function}_containers"),
        Place::Transport => format!("_{function}_transports"),
        Place::Anything => String::new(),
    };
    match verb.runs() {
        true => format!("'1:word:{action}' '*::command:_normal'"),
        false => format!("'*:word:{action}'"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
