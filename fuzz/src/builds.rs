//! Builds: Dockerfiles, what is ignored of a context, and words with variables.

use coracle_rootfs_tool::dockerfile::fuzzed;

/// A Dockerfile is read, or refused with a line that it has.
pub fn dockerfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match fuzzed::dockerfile(text) {
        Ok(stages) => assert!(stages > 0),
        Err(line) => assert!(line >= 1 && line <= text.split_inclusive('\n').count().max(1)),
    }
}

/// What is ignored stays so below it, unless something is taken back.
pub fn ignore(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for path in ["a", "a/b", "a/b/c.go", "README.md", ".git/x", "\u{e9}/\u{fc}"] {
        let Some(ignored) = fuzzed::ignores(text, path) else { return };
        if ignored && !text.contains('!') {
            assert_eq!(fuzzed::ignores(text, &format!("{path}/more")), Some(true), "{text:?} {path}");
        }
    }
}

/// A word is expanded to something that is not too long, and a word without signs to itself.
pub fn word(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(out) = fuzzed::word(text) {
        assert!(out.len() <= 4 << 20);
        if !text.contains(['$', '"', '\'', '\\']) {
            assert_eq!(out, text);
        }
    }
}

pub(crate) mod seeds {
    fn texts(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    pub(crate) fn dockerfiles() -> Vec<Vec<u8>> {
        texts(&[
            "# syntax=docker/dockerfile:1\n# escape=`\nARG T=1\nFROM a:$T AS b\nRUN x `\n y\n",
            "FROM a\nRUN <<E cat && <<-\"F\" x\n1\nE\n\t2\n\tF\nCOPY --from=a --chown=1:2 <<G b /c/\nG\n",
            "FROM --platform=linux/arm64 a\nENV A=b C=\"d e\"\nENV F g\nLABEL h=i\nEXPOSE 80/tcp\nVOLUME [\"/a\"]\n",
            "FROM a\nHEALTHCHECK --interval=1m --retries=3 CMD [\"x\"]\nONBUILD RUN y\nSHELL [\"z\"]\nSTOPSIGNAL 9\n",
            "FROM a\nRUN --mount=type=cache,target=/x --network=none y\nADD --checksum=sha256:0 http://x /y\nUSER u\nWORKDIR /w\n",
        ])
    }

    pub(crate) fn ignores() -> Vec<Vec<u8>> {
        texts(&["# c\n*.md\n!README.md\n**/x\na/**/b\n[a-z]?\n/a/\n", "**\n!a/b\n\\*\n"])
    }

    pub(crate) fn words() -> Vec<Vec<u8>> {
        texts(&["$A ${B:-x} ${C#*/} ${D%%.*}", "\"${A/b/c}\" '$x' \\$y ${E:?no}", "${A//\\//_}${N-${A}}"])
    }
}
