//! Debian's control files (deb822(5)): paragraphs of fields. Of Packages, Release, `control` and `.sources` alike; what
//! the fields mean is said elsewhere. Nothing is copied: an index has fifty megabytes.

use coracle_sys::{Error, Result};

/// A paragraph of a control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paragraph<'a> {
    text: &'a str,
    /// The line of the file at which it begins, the first being 1.
    pub line: usize,
}

/// The paragraphs of a file, checked: every line is a field, goes on with one, or is a comment.
pub fn paragraphs(text: &str) -> Result<Vec<Paragraph<'_>>> {
    let mut all = Vec::new();
    let mut begin: Option<(usize, usize)> = None;
    let mut at = 0;
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare.is_empty() {
            // An empty line ends a paragraph.
            if let Some((from, first)) = begin.take() {
                all.push(Paragraph { text: &text[from..at], line: first });
            }
        } else {
            let goes_on = line.starts_with([' ', '\t']);
            let sound = match begin {
                None if goes_on => false,
                _ => goes_on || bare.starts_with('#') || name_of(bare).is_some(),
            };
            if !sound {
                return Err(Error::invalid(format!("line {}: it is no field", n + 1)));
            }
            if !bare.starts_with('#') {
                begin.get_or_insert((at, n + 1));
            }
        }
        at += line.len();
    }
    all.extend(begin.map(|(from, line)| Paragraph { text: &text[from..], line }));
    Ok(all)
}

/// The one paragraph of a file that has no other.
pub fn single(text: &str) -> Result<Paragraph<'_>> {
    match paragraphs(text)?[..] {
        [one] => Ok(one),
        [] => Err(Error::invalid("it has no field")),
        [_, second, ..] => Err(Error::invalid(format!("line {}: it has a second paragraph", second.line))),
    }
}

/// The name of the field that a line begins.
fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(':')?;
    let sound = |b: u8| (0x21..=0x7e).contains(&b);
    (!name.is_empty() && !name.starts_with(['-', '#']) && name.bytes().all(sound)).then_some(name)
}

impl<'a> Paragraph<'a> {
    /// The fields in order: name, and value with the lines that go on with it, as they are written but for the spaces at
    /// both ends.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let text = self.text;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < text.len() {
                let from = at;
                let end = |from: usize| text[from..].find('\n').map_or(text.len(), |n| from + n + 1);
                at = end(at);
                let goes_on = |at: usize| text[at..].starts_with([' ', '\t', '#']);
                while at < text.len() && goes_on(at) {
                    at = end(at);
                }
                if let Some((name, value)) = text[from..at].split_once(':')
                    && !name.starts_with(['#', ' ', '\t'])
                {
                    return Some((name, value.trim()));
                }
            }
            None
        })
    }

    /// The value of a field; names are the same in letters of either size. Of several the first.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// The value of a field that has to be there.
    pub fn must(self, name: &str) -> Result<&'a str> {
        let missing = || Error::invalid(format!("line {}: it has no {name}", self.line));
        self.get(name).filter(|v| !v.is_empty()).ok_or_else(missing)
    }

    /// Does the field say yes?
    pub fn says_yes(self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v.eq_ignore_ascii_case("yes"))
    }

    /// The whole paragraph as it is written.
    pub fn text(self) -> &'a str {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_have_fields_that_go_on() {
        let text = "# a comment\nPackage: a\nDescription: short\n long\n .\n end\nX-Empty:\n\n\nPackage: b\nversion:1\n";
        let all = paragraphs(text).unwrap();
        assert_eq!(all.len(), 2);
        let fields: Vec<_> = all[0].fields().collect();
        assert_eq!(fields, [("Package", "a"), ("Description", "short\n long\n .\n end"), ("X-Empty", "")]);
        assert_eq!((all[0].line, all[1].line), (2, 10));
        assert_eq!(all[1].get("Version"), Some("1"));
        assert_eq!(all[1].get("Vers"), None);
        assert!(all[0].must("X-Empty").is_err());
        // A comment within a paragraph belongs to no value's beginning, and a file may end anywhere.
        let text = "A: 1\n# no\nB: 2";
        let fields: Vec<_> = paragraphs(text).unwrap()[0].fields().map(|(n, _)| n).collect();
        assert_eq!(fields, ["A", "B"]);
    }

    #[test]
    fn what_is_no_field_is_named_by_its_line() {
        for (text, says) in [
            ("Package: a\nnonsense\n", "line 2"),
            (" goes on\n", "line 1"),
            ("A: 1\n\n x\n", "line 3"),
            (": x\n", "line 1"),
            ("-A: x\n", "line 1"),
            ("A B: x\n", "line 1"),
        ] {
            let e = paragraphs(text).unwrap_err().to_string();
            assert!(e.contains(says), "{text:?}: {e}");
        }
        assert!(single("A: 1\n\nB: 2\n").unwrap_err().to_string().contains("line 3: it has a second"));
        assert!(single("\n").is_err());
    }
}
