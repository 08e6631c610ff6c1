//! `--env-file` and `--label-file`, to docker's letter: a line a name, its value behind the first `=`; what stands before
//! the name does not count, all behind the `=` does.

use coracle_sys::{Error, Result};

const BLANKS: [char; 2] = [' ', '\t'];

/// The lines of a file called `path`. `without`: what a name without a value has, where that is something.
pub(crate) fn read(
    flag: &str,
    path: &str,
    bytes: &[u8],
    without: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let invalid = |why: String| Error::invalid(format!("invalid {flag} ({path}): {why}"));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut all = Vec::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| invalid(format!("invalid utf8 bytes at line {}: {line:?}", n + 1)))?;
        let line = line.trim_start_matches(BLANKS);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.contains(BLANKS) {
            return Err(invalid(format!("variable '{name}' contains whitespaces")));
        }
        if name.is_empty() {
            return Err(invalid(format!("no variable name on line '{line}'")));
        }
        match value {
            Some(value) => all.push(format!("{name}={value}")),
            None => all.extend(without(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let host = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let read = |text: &[u8]| read("env file", "e", text, &host);
        let all = read(b"\xef\xbb\xbfA=1 \n\t#c\n\nHOME\nNOPE\n  C=a=b\r\nD=").unwrap();
        assert_eq!(all, ["A=1 ", "HOME=/root", "C=a=b", "D="]);
        for (bad, says) in [
            (&b"  B = 2"[..], "invalid env file (e): variable 'B ' contains whitespaces"),
            (b"=x", "invalid env file (e): no variable name on line '=x'"),
            (b"A=1\nA\xff=1", "invalid env file (e): invalid utf8 bytes at line 2: [65, 255, 61, 49]"),
        ] {
            assert_eq!(read(bad).unwrap_err().to_string(), says);
        }
    }
}
