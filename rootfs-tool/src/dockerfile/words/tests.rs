//! Words and their variables.

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a",
        "E" => "",
        "P" => "/usr/local/bin",
        "S" => "one two",
        "F" => "foobarbaz",
        "W" => "2.17.0",
        "Q" => "a*b",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn a_word_is_expanded_as_buildkit_does() {
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("x${A}y$A", "xaya"),
        ("$A$E$N", "a"),
        ("$AB", ""),
        ("$A.b", "a.b"),
        ("'$A'", "$A"),
        ("\"$A\"", "a"),
        ("\\$A", "$A"),
        ("\"\\$A\"", "$A"),
        ("\"a\\b\"", "a\\b"),
        ("\"a\\\"b\"", "a\"b"),
        ("a\\b", "ab"),
        ("a\\\\b", "a\\b"),
        ("a\\", "a"),
        ("$", "$"),
        ("$ x", "$ x"),
        ("a$", "a$"),
        ("$/", "$/"),
        ("$1x", "x"),
        ("$$", ""),
        ("${A:-x}", "a"),
        ("${E:-x}", "x"),
        ("${E-x}", ""),
        ("${N:-x}", "x"),
        ("${N-x}", "x"),
        ("${N:-}", ""),
        ("${N:-$A}", "a"),
        ("${N:-${E:-${A}}}", "a"),
        ("${N:-'$A'}", "$A"),
        ("${N:-a b}", "a b"),
        ("${N:-\\}}", "}"),
        ("${A:+x}", "x"),
        ("${E:+x}", ""),
        ("${E+x}", "x"),
        ("${N+x}", ""),
        ("${N:+x}", ""),
        ("${A:?no}", "a"),
        ("${E?no}", ""),
        ("${P#*/}", "usr/local/bin"),
        ("${P##*/}", "bin"),
        ("${P%/*}", "/usr/local"),
        ("${P%%/*}", ""),
        ("${P#/usr}", "/local/bin"),
        ("${P#x}", "/usr/local/bin"),
        ("${W%.*}", "2.17"),
        ("${W%%.*}", "2"),
        ("${W#?}", ".17.0"),
        ("${Q#a\\*}", "b"),
        ("${F/ba/X}", "fooXrbaz"),
        ("${F//ba/X}", "fooXrXz"),
        ("${F/ba?/}", "foobaz"),
        ("${F//o/}", "fbarbaz"),
        ("${P//\\//_}", "_usr_local_bin"),
        ("${F/f*r/-}", "-baz"),
        ("${N/a/b}", ""),
        ("ö$A", "öa"),
    ] {
        let got = Lexer::new('\\').word(text, &lookup);
        assert_eq!(got.as_deref().ok(), Some(expected), "{text:?}: {got:?}");
    }
}

#[test]
fn what_cannot_be_expanded_is_an_error_that_says_why() {
    for (text, why) in [
        ("${", "missing '}'"),
        ("${A", "missing '}'"),
        ("${A:", "missing '}'"),
        ("${A:-x", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${{A}}", "bad substitution"),
        ("${A:x}", "unsupported modifier (:x) in substitution"),
        ("${A^}", "unsupported modifier (^) in substitution"),
        ("${A/x}", "missing '/'"),
        ("${A/x/y", "missing '}'"),
        ("'a", "matching single-quote"),
        ("\"a", "matching double-quote"),
        ("${N:?is needed}", "N: is needed"),
        ("${N?}", "N: is not allowed to be unset"),
        ("${E:?}", "E: is not allowed to be empty"),
        ("${A#\\x}", "invalid escape"),
    ] {
        let e = Lexer::new('\\').word(text, &lookup).unwrap_err().to_string();
        assert!(e.contains(why) && e.starts_with("expand "), "{text:?}: {e}");
    }
    let deep = "${N:-".repeat(5000);
    assert!(Lexer::new('\\').word(&deep, &lookup).unwrap_err().to_string().contains("nested"));
    let long = |_: &str| Some("x".repeat(1 << 19));
    assert!(Lexer::new('\\').word("$a$a$a", &long).unwrap_err().to_string().contains("longer"));
}

#[test]
fn words_are_split_after_they_are_expanded() {
    for (text, expected) in [
        ("a b", vec!["a", "b"]),
        ("  a   b  ", vec!["a", "b"]),
        ("$S", vec!["one", "two"]),
        ("\"$S\"", vec!["one two"]),
        ("'a b' c", vec!["a b", "c"]),
        ("a\\ b c", vec!["a b", "c"]),
        ("x$S", vec!["xone", "two"]),
        ("$N", vec![]),
    ] {
        assert_eq!(Lexer::new('\\').words(text, &lookup).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn another_escape_and_plain_quotes() {
    assert_eq!(Lexer::new('`').word("C:\\x`$A", &lookup).unwrap(), "C:\\x$A");
    let heredoc = Lexer { escape: '\\', plain_quotes: true };
    assert_eq!(heredoc.word("'$A' \"$A\" it's \\$A", &lookup).unwrap(), "'a' \"a\" it's $A");
}
