//! Man pages and completions: whole, without fault, and good for what people type.

use std::fs;
use std::path::PathBuf;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, dist, need};

fn share(path: &str) -> PathBuf {
    dist().join("share").join(path)
}

fn page(name: &str) -> String {
    let path = share(&format!("man/man1/{name}.1"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: make build", path.display()))
}

/// The words of a program's help that begin lines two columns in.
fn listed(help: &str) -> Vec<&str> {
    let inner = help.lines().filter_map(|l| l.strip_prefix("  ")).filter(|l| !l.starts_with(' '));
    inner.filter_map(|l| l.split_whitespace().next()).collect()
}

/// The long flags that a verb's help lists.
fn flags(help: &str) -> Vec<&str> {
    let lines = help.lines().filter(|l| l.starts_with("  -"));
    lines
        .flat_map(str::split_whitespace)
        .filter(|w| w.starts_with("--"))
        .map(|w| w.trim_matches(','))
        .collect()
}

#[test]
fn every_verb_and_every_flag_of_the_help_is_in_a_page() {
    for program in ["rootfs-tool", "runner"] {
        let help = Cmd::new(dist().join(program)).arg("--help").ok().stdout;
        let verbs: Vec<&str> = listed(&help).into_iter().filter(|v| !v.starts_with('-')).collect();
        let overview = page(program);
        let mut seen = 0;
        for verb in verbs {
            let verb_help = Cmd::new(dist().join(program)).args([verb, "--help"]).run();
            if verb_help.code() != 0 || !verb_help.stdout.starts_with("Usage: ") {
                continue;
            }
            seen += 1;
            let name = format!("{program}-{verb}");
            let page = page(&name);
            assert!(overview.contains(&name.replace('-', "\\-")), "{name} in {overview}");
            let flags = flags(&verb_help.stdout);
            assert!(!flags.is_empty(), "{name}");
            for flag in flags {
                assert!(page.contains(&flag.replace('-', "\\-")), "{flag} in {page}");
            }
        }
        assert!(seen >= 6, "{program}: {help}");
    }
    let help = Cmd::new(dist().join("init")).arg("-h").ok().stdout;
    let init = page("coracle-init");
    for flag in listed(&help).iter().map(|f| f.trim_matches(',')) {
        assert!(init.contains(&flag.replace('-', "\\-")), "{flag} in {init}");
    }
}

#[test]
fn groff_has_nothing_to_say_against_any_page() {
    if !need(Privilege::Peer("groff")) {
        return;
    }
    let mut seen = 0;
    for entry in fs::read_dir(share("man/man1")).expect("list") {
        let path = entry.expect("entry").path();
        let out = Cmd::new("groff").args(["-man", "-ww", "-Tutf8"]).arg(&path).ok();
        assert_eq!(out.stderr, "", "{}", path.display());
        assert!(out.stdout.len() > 500, "{}: {}", path.display(), out.stdout);
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

/// What a shell offers behind `line`, with the two programs in PATH and a store.
fn offered(store: &Store, shell: &str, line: &str) -> Vec<String> {
    let words: Vec<String> = line.split(' ').map(|w| format!("'{w}'")).collect();
    let program = line.split(' ').next().expect("a program");
    let script = match shell {
        "bash" => format!(
            "compopt() {{ :; }}; source {}; COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _coracle_{} {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            share(&format!("bash-completion/completions/{program}")).display(),
            words.join(" "),
            program.replace('-', "_"),
        ),
        _ => format!(
            "source {}; complete -C '{line}'",
            share(&format!("fish/vendor_completions.d/{program}.fish")).display()
        ),
    };
    let path = format!("{}:{}", dist().display(), std::env::var("PATH").unwrap_or_default());
    let out = Cmd::new(shell).args(["-c", &script]).env("PATH", path).env("HOME", store.scratch.path());
    let out = out.env("CORACLE_STORE", store.path()).ok();
    out.stdout.lines().map(|l| l.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn shells_offer_verbs_flags_images_and_transports() {
    let store = Store::new("manual");
    if let Some(image) = Image::busybox() {
        let _image = image.compose(&store, "box");
    }
    for shell in ["bash", "fish"] {
        if !need(Privilege::Peer(shell)) {
            continue;
        }
        let has = |line: &str, wanted: &str| {
            let all = offered(&store, shell, line);
            assert!(all.iter().any(|w| w == wanted), "{shell}: {line:?} offers {all:?}");
        };
        has("rootfs-tool pu", "pull");
        has("rootfs-tool pu", "push");
        has("runner ki", "kill");
        has("rootfs-tool pull --pl", "--platform");
        has("runner run --mem", "--memory");
        has("rootfs-tool copy do", "docker://");
        has("rootfs-tool rmi localhost/", "localhost/box:latest");
        has("runner run --rm localhost/", "localhost/box:latest");
    }
}

#[test]
fn zsh_reads_its_completions() {
    if !need(Privilege::Peer("zsh")) {
        return;
    }
    for name in ["_runner", "_rootfs-tool"] {
        let path = share(&format!("zsh/site-functions/{name}"));
        Cmd::new("zsh").arg("-n").arg(&path).ok();
        // Every specification is one that _arguments takes.
        let script = format!(
            "emulate -L zsh; compadd() {{ : }}; _describe() {{ : }}; _arguments() {{ for a; do print -r -- $a; done }}; \
             source {}",
            path.display()
        );
        let out = Cmd::new("zsh").args(["-f", "-c", &script]).ok();
        assert!(out.stdout.lines().any(|l| l.starts_with("1:command")), "{}", out.stdout);
        assert_eq!(out.stderr, "");
    }
}
