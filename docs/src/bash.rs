//! Completion for bash. Names hold colons, at which bash splits words: bash-completion's helpers, which are there
//! wherever such files are loaded, put them together again.

use std::fmt::Write;

use argh::CommandInfoWithArgs;

use crate::program::{CONTAINERS, IMAGES, Place, Program, TRANSPORTS, flags, value, value_place, words};

/// The script.
pub(crate) fn script(program: &Program) -> String {
    let name = program.name;
    let function = format!("_coracle_{}", name.replace('-', "_"));
    let values: Vec<String> =
        flags(&program.top).filter(|f| value(f).is_some()).flat_map(|f| words(f)).collect();
    let skip = match values.is_empty() {
        true => String::new(),
        false => format!("            {}) i=$((i + 1)) ;;\n", values.join("|")),
    };
    let mut cases = String::new();
    let verbs: Vec<&str> = program.verbs.iter().map(|v| v.name).collect();
    case(&mut cases, "''", &program.top, &format!("offered='{} help'", verbs.join(" ")));
    for verb in &program.verbs {
        let place = match verb.place() {
            Place::Image => format!("offered=$(\"$1\" {IMAGES})"),
            Place::Container => format!("offered=$(\"$1\" {CONTAINERS})"),
            Place::Transport => format!("offered=\"{TRANSPORTS} $(\"$1\" {IMAGES})\""),
            Place::File => "paths=-f".to_owned(),
            Place::Folder => "paths=-d".to_owned(),
            Place::Anything => ":".to_owned(),
        };
        case(&mut cases, verb.name, &verb.info, &place);
    }
    let runs: Vec<&str> = program.verbs.iter().filter(|v| v.runs()).map(|v| v.name).collect();
    let runs = if runs.is_empty() { "-".to_owned() } else { runs.join("|") };
    format!(
        r#"# bash completion for {name}
{function}() {{
    local cur prev words cword
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n : cur prev words cword
    else
        words=("${{COMP_WORDS[@]}}") cword=$COMP_CWORD
        cur=${{words[cword]}} prev=${{words[cword - 1]}}
    fi
    local verb='' i flags='' files=' ' folders=' ' values=' ' offered='' paths='' behind=0
    for ((i = 1; i < cword; i++)); do
        case ${{words[i]}} in
{skip}            -*) ;;
            *) verb=${{words[i]}}; break ;;
        esac
    done
    case $verb in
{cases}        *) return ;;
    esac
    # What stands behind an image or a container is a command of its own.
    for ((i++; i < cword; i++)); do
        case $values in *" ${{words[i]}} "*) i=$((i + 1)); continue ;; esac
        case ${{words[i]}} in -*) ;; *) behind=1; break ;; esac
    done
    COMPREPLY=()
    if [ -n "$verb" ] && [ $behind = 1 ]; then
        case $verb in {runs}) compopt -o default; return ;; esac
    fi
    case $files in *" $prev "*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;; esac
    case $folders in *" $prev "*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;; esac
    case $values in *" $prev "*) return ;; esac
    case $cur in
        -*) offered=$flags ;;
        *) if [ -n "$paths" ]; then compopt -o filenames; mapfile -t COMPREPLY < <(compgen "$paths" -- "$cur"); return; fi ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$cur")
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}}
complete -F {function} {name}
"#
    )
}

/// One branch: the flags, those that take a value, and what is offered for other words.
fn case(out: &mut String, pattern: &str, info: &CommandInfoWithArgs, place: &str) {
    let with = |wanted: &dyn Fn(Place) -> bool| -> String {
        let with = flags(info).filter(|f| value(f).is_some() && wanted(value_place(f)));
        with.flat_map(|f| words(f)).map(|w| format!("{w} ")).collect()
    };
    let all: Vec<String> = flags(info).flat_map(|f| words(f)).chain(["--help".to_owned()]).collect();
    let (files, folders) = (with(&|p| p == Place::File), with(&|p| p == Place::Folder));
    let _ = writeln!(
        out,
        "        {pattern}) flags='{}' values=' {}' files=' {files}' folders=' {folders}'\n            {place} ;;",
        all.join(" "),
        with(&|_| true),
    );
}
