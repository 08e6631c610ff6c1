//! What stages come to, instruction by instruction.

use super::*;
use crate::dockerfile::stages;

fn build(text: &str, args: &[(&str, &str)]) -> Result<State> {
    let file = stages::read(&format!("FROM scratch\n{text}")).map_err(|(_, e)| e)?;
    let given = Given {
        args: args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        globals: [("G".to_owned(), "global".to_owned())].into(),
        escape: '\\',
    };
    let mut state = State::scratch(Platform::host());
    for step in &file.stages[0].steps {
        state.configure(&step.instruction, &given)?;
    }
    Ok(state)
}

#[test]
fn variables_are_those_of_the_lines_before() {
    let state =
        build("ENV A=1\nENV A=2 B=$A\nENV C=\"$A $B\" D='$A' E=$N\nLABEL l=$A k=\"x  y\"", &[]).unwrap();
    let env = state.config.env.clone().unwrap();
    assert_eq!(env[1..], ["A=2", "B=1", "C=2 1", "D=$A", "E="]);
    let labels = state.config.labels.unwrap();
    assert_eq!((labels["l"].as_str(), labels["k"].as_str()), ("2", "x  y"));
}

#[test]
fn arguments_are_given_have_defaults_or_are_global() {
    let state = build("ARG A\nARG B=b\nARG C=$B G\nARG X=1\nENV X=2", &[("A", "a"), ("U", "u")]).unwrap();
    for (name, value) in [
        ("A", Some("a")),
        ("B", Some("b")),
        ("C", Some("b")),
        ("G", Some("global")),
        ("X", Some("2")),
        ("U", None),
    ] {
        assert_eq!(state.get(name).as_deref(), value, "{name}");
    }
    assert_eq!(state.config.env.clone().unwrap()[1..], ["X=2"]);
    assert_eq!(state.shown_args(), "|5 A=a B=b C=b G=global X=2 ");
    assert_eq!(build("ARG B=b", &[("B", "c")]).unwrap().get("B").as_deref(), Some("c"));
}

#[test]
fn the_config_says_what_the_instructions_say() {
    let text = "EXPOSE 80 90-91/udp 8080:81\nVOLUME /v\nUSER me\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT x\nCMD [\"y\"]\nSTOPSIGNAL SIGRTMIN+3\nMAINTAINER m\nONBUILD RUN z";
    let state = build(text, &[]).unwrap();
    let c = &state.config;
    assert_eq!(
        c.exposed_ports.as_ref().unwrap().keys().collect::<Vec<_>>(),
        ["80/tcp", "81/tcp", "90/udp", "91/udp"]
    );
    assert_eq!(c.entrypoint.as_deref().unwrap(), ["/bin/bash", "-c", "x"]);
    assert_eq!((c.cmd.as_deref().unwrap(), state.author.as_deref()), (&["y".to_owned()][..], Some("m")));
    assert_eq!(c.on_build.as_deref().unwrap(), ["RUN z"]);
    // An entry point takes away what its base has for a command, and not what stands before it here.
    let mut again = state.again();
    again
        .configure(
            &Instruction::Entrypoint(Command { words: vec!["z".into()], shell: false }),
            &Given::default(),
        )
        .unwrap();
    assert_eq!((again.config.cmd, again.config.on_build), (None, None));
    for bad in [
        "EXPOSE x",
        "EXPOSE 80/icmp",
        "EXPOSE 9-8",
        "EXPOSE 70000",
        "STOPSIGNAL FROB",
        "STOPSIGNAL 99",
        "ENV A=${B?needed}",
    ] {
        assert!(build(bad, &[]).is_err(), "{bad}");
    }
}

#[test]
fn the_history_has_times_that_the_layers_give() {
    let mut state = build("ENV A=1", &[]).unwrap();
    let made = super::super::cache::Made { created: "2026-01-02T03:04:05Z".into(), ..Default::default() };
    state.push(made, Digest::of(b"k"), "RUN x".into());
    state.note("CMD".into(), None, false);
    let image = state.image(None);
    let times: Vec<_> = image.history.unwrap().into_iter().map(|h| h.created.unwrap()).collect();
    assert!(times.iter().all(|t| t == "2026-01-02T03:04:05Z") && times.len() == 3);
    assert_eq!(image.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(
        state.image(Some("1970-01-01T00:00:00Z".into())).created.as_deref(),
        Some("1970-01-01T00:00:00Z")
    );
}
