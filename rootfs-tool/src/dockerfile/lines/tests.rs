//! Lines of Dockerfiles, and what is wrong with them.

use super::*;

fn one(text: &str) -> Line {
    let mut lines = read(text).unwrap().lines;
    assert_eq!(lines.len(), 1, "{text:?}");
    lines.remove(0)
}

#[test]
fn lines_are_joined_and_comments_between_them_left_out() {
    for (text, word, rest) in [
        ("FROM a", "FROM", "a"),
        ("from a", "FROM", "a"),
        ("  RUN  a  b ", "RUN", "a  b"),
        ("RUN a \\\n  b", "RUN", "a   b"),
        ("RUN a \\  \n# no\n  # no\nb", "RUN", "a b"),
        ("RUN a \\\n\n\nb", "RUN", "a b"),
        ("RUN a \\\r\nb\r\n", "RUN", "a b"),
        ("RUN a # b", "RUN", "a # b"),
        ("RUN a\\\\", "RUN", "a\\\\"),
        ("RUN a \\", "RUN", "a"),
        ("\u{feff}RUN a", "RUN", "a"),
        ("# c\n\nRUN a", "RUN", "a"),
        ("#escape=`\nRUN a `\n b\\", "RUN", "a  b\\"),
        ("# escape = `\n#syntax=docker/dockerfile:1\nRUN a `\nb", "RUN", "a b"),
        ("# c\n# escape=`\nRUN a \\\nb", "RUN", "a b"),
        ("HEALTHCHECK", "HEALTHCHECK", ""),
    ] {
        let line = one(text);
        assert_eq!((line.word.as_str(), line.rest.as_str()), (word, rest), "{text:?}");
    }
    let two = read("\nFROM a\n\nRUN b \\\nc\nRUN d").unwrap().lines;
    let places: Vec<_> = two.iter().map(|l| (l.number, l.last)).collect();
    assert_eq!(places, [(2, 2), (4, 5), (6, 6)]);
}

#[test]
fn flags_stand_before_the_rest() {
    for (text, flags, rest) in [
        ("RUN --a=b --c d --e", vec!["--a=b", "--c"], "d --e"),
        ("RUN --a=\"b c\" d", vec!["--a=b c"], "d"),
        ("RUN --a='b\\ c' d", vec!["--a=b\\ c"], "d"),
        ("RUN --a=b\\ c d", vec!["--a=b c"], "d"),
        ("RUN -- --a", vec![], "--a"),
        ("RUN -a --b", vec![], "-a --b"),
        ("RUN --a", vec!["--a"], ""),
    ] {
        let line = one(text);
        assert_eq!((line.flags, line.rest.as_str()), (flags.iter().map(|f| f.to_string()).collect(), rest));
    }
}

#[test]
fn heredocs_are_the_lines_up_to_their_word() {
    let line = one("RUN cat <<A >a && cat <<-'B' 3<<C\n a\n\nA\n\tb $x\n\tB\nc\nC\n");
    let all: Vec<_> = line.heredocs.iter().map(|h| (h.name.as_str(), h.text(), h.expand)).collect();
    let text = |t: &str| t.to_owned();
    assert_eq!(all, [("A", text(" a\n\n"), true), ("B", text("b $x\n"), false), ("C", text("c\n"), true)]);
    assert_eq!(one("COPY <<\"E O\" /x\ny\nE O\n").heredocs[0].name, "E O");
    assert_eq!(one("RUN cat << EOF\nx\nEOF").heredocs[0].content, "x\n");
    assert_eq!(one("ONBUILD RUN <<E\nx\nE").heredocs.len(), 1);
    for none in [
        "RUN echo $((1<<4))",
        "RUN cat <<<x",
        "CMD cat <<E",
        "RUN [\"a\", \"<<E\"]",
        "RUN a '<<E'",
        "RUN echo $((1 << 4))",
    ] {
        assert_eq!(one(none).heredocs, [], "{none}");
    }
    let (line, e) = read("FROM a\nRUN <<E\nx\n").unwrap_err();
    assert_eq!((line, e.to_string().as_str()), (2, "unterminated heredoc: E"));
    assert!(read("RUN <<E'\nx\nE").is_err());
}

#[test]
fn directives_are_read_at_the_top_and_once() {
    assert_eq!(read("# check=skip=all\nFROM a").unwrap().check.as_deref(), Some("skip=all"));
    for (text, why) in [
        ("#escape=\\\n#escape=`\nFROM a", "only one escape parser directive"),
        ("#escape=x\nFROM a", "invalid escape token 'x'"),
        ("#syntax=other/thing\nFROM a", "another language"),
        ("", "file with no instructions"),
        ("# c\n", "file with no instructions"),
    ] {
        let e = read(text).unwrap_err().1.to_string();
        assert!(e.contains(why), "{text:?}: {e}");
    }
}
