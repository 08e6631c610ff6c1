//! Stages, and those that lean on others.

use super::*;
use crate::dockerfile::instruction::Command;

/// The first instruction behind FROM.
fn step(text: &str) -> Instruction {
    let file = read(&format!("FROM a\n{text}\n")).map_err(|(_, e)| e.to_string());
    file.unwrap_or_else(|e| panic!("{text:?}: {e}")).stages[0].steps[0].instruction.clone()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn instructions_are_read_in_their_forms() {
    for (text, is) in [
        ("ENV A=b", Instruction::Env(pairs(&[("A", "b")]))),
        (
            "ENV A=b C=\"d e\" F=g\\ h",
            Instruction::Env(pairs(&[("A", "b"), ("C", "\"d e\""), ("F", "g\\ h")])),
        ),
        ("ENV A b c", Instruction::Env(pairs(&[("A", "b c")]))),
        ("ENV A=", Instruction::Env(pairs(&[("A", "")]))),
        ("LABEL \"a.b\"=c", Instruction::Label(pairs(&[("\"a.b\"", "c")]))),
        ("ARG A B=c", Instruction::Arg(vec![("A".into(), None), ("B".into(), Some("c".into()))])),
        ("WORKDIR /a b", Instruction::Workdir("/a b".into())),
        ("EXPOSE 80 81/udp", Instruction::Expose(texts(&["80", "81/udp"]))),
        ("VOLUME [\"/a\", \"/b c\"]", Instruction::Volume(texts(&["/a", "/b c"]))),
        ("VOLUME /a /b", Instruction::Volume(texts(&["/a", "/b"]))),
        ("CMD [\"a\", \"b\"]", Instruction::Cmd(Command { words: texts(&["a", "b"]), shell: false })),
        ("CMD a b", Instruction::Cmd(Command { words: texts(&["a b"]), shell: true })),
        ("CMD [a b]", Instruction::Cmd(Command { words: texts(&["[a b]"]), shell: true })),
        ("CMD", Instruction::Cmd(Command { words: texts(&[""]), shell: true })),
        ("ENTRYPOINT []", Instruction::Entrypoint(Command::default())),
        ("SHELL [\"/bin/bash\", \"-c\"]", Instruction::Shell(texts(&["/bin/bash", "-c"]))),
        ("ONBUILD RUN x", Instruction::OnBuild("RUN x".into())),
        ("MAINTAINER me <m@x>", Instruction::Maintainer("me <m@x>".into())),
    ] {
        assert_eq!(step(text), is, "{text}");
    }
    let Instruction::Copy(copy) =
        step("COPY --from=x --chown=a:b --chmod=755 --link --exclude=*.o --exclude=b a b /c/")
    else {
        panic!()
    };
    assert_eq!((copy.from.as_deref(), copy.link, copy.exclude.len()), (Some("x"), true, 2));
    assert_eq!((copy.sources, copy.dest.as_str()), (texts(&["a", "b"]), "/c/"));
    let Instruction::Copy(add) = step("ADD [\"a b\", \"c\"]") else { panic!() };
    assert!(add.add && add.sources == ["a b"]);
    let Instruction::Copy(copy) = step("COPY <<A x <<\"B\" /d/\n1\nA\n$2\nB") else { panic!() };
    assert_eq!((copy.inline.len(), copy.inline[1].expand, copy.sources), (2, false, texts(&["x"])));
    let Instruction::Run(run) = step("RUN --mount=type=cache,target=/c --network=none a b") else { panic!() };
    assert_eq!((run.mounts, run.network.as_deref()), (texts(&["type=cache,target=/c"]), Some("none")));
    let Instruction::Healthcheck(h) = step("HEALTHCHECK --interval=1m --retries=3 CMD curl x") else {
        panic!()
    };
    assert_eq!(
        (h.interval, h.retries, h.test.unwrap()),
        (Some(60_000_000_000), Some(3), texts(&["CMD-SHELL", "curl x"]))
    );
}

#[test]
fn what_is_wrong_is_said_in_the_words_that_users_know_with_its_line() {
    for (text, at, why) in [
        (
            "FROM a\nRUNN b",
            2,
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM a\napt-get update", 2, "unknown instruction: apt-get"),
        ("FROM", 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 1, "invalid name for build stage: \"1x\""),
        ("FROM debian # the base", 1, COMMENT),
        ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        ("FROM a\nENV A", 2, "ENV must have two arguments"),
        ("FROM a\nENV A=b # c", 2, COMMENT),
        ("FROM a\nENV A=b c", 2, "can't find = in \"c\""),
        ("FROM a\nENV =b", 2, "ENV names can not be blank"),
        ("FROM a\nCOPY a", 2, "COPY requires at least two arguments"),
        ("FROM a\nCOPY --form=x a b", 2, "unknown flag: --form (did you mean from?)"),
        ("FROM a\nCOPY --from a b", 2, "missing a value on flag: --from"),
        ("FROM a\nCOPY --link=x a b", 2, "expecting boolean value for flag link"),
        ("FROM a\nCOPY --chown=a --chown=b a b", 2, "duplicate flag specified: chown"),
        ("FROM a\nCOPY a <<E\nE", 2, "COPY cannot accept a heredoc as a destination"),
        ("FROM a\nSHELL x", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK ASK", 2, "Unknown type \"ASK\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", 2, "--interval=x"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, "Chaining ONBUILD"),
        ("FROM a\nONBUILD FROM x", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nCMD [1]", 2, "strings only"),
        ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM a\nVOLUME [\"\"]", 2, "VOLUME specified can not be an empty string"),
        ("FROM a\nRUN --network=bridge x", 2, "there are default, none, host"),
        ("FROM a\nRUN --device=x y", 2, "RUN --device"),
        ("FROM a\nRUN []", 2, "RUN requires at least one argument"),
        ("RUN x", 1, "FROM comes first"),
        ("ARG A", 1, "there is no FROM"),
        ("# check=error=true\nFROM a\nMAINTAINER x", 3, "lint violation found: MaintainerDeprecated"),
        ("# check=frob\nFROM a", 1, "is not known"),
    ] {
        let (line, e) = read(text).map(|_| ()).expect_err(text);
        let e = e.to_string();
        assert!(line == at && e.contains(why), "{text:?}: line {line}: {e}");
    }
}

#[test]
fn warnings_are_those_of_the_linter_and_can_be_skipped() {
    let text = "FROM a as b\nMAINTAINER x\nCMD a\nCMD b\nENV A b\nWORKDIR /x # here\nFROM a AS b\n";
    let all = read(text).unwrap().warnings;
    for rule in [
        "FromAsCasing",
        "MaintainerDeprecated",
        "JSONArgs",
        "MultipleInstr",
        "LegacyKey",
        COMMENT,
        "DuplicateStage",
    ] {
        assert!(all.iter().any(|(_, w)| w.contains(rule)), "{rule}: {all:?}");
    }
    assert!(read(&format!("# check=skip=all\n{text}")).unwrap().warnings.is_empty());
}
