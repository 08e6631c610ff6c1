//! From the text of a Dockerfile to its instructions as lines: parser directives, comments, continued lines and
//! heredocs. What an instruction means is not known here.

use coracle_sys::{Error, Result};

/// A Dockerfile is refused beyond this size.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// The text of one heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it.
    pub(crate) name: String,
    /// Its lines, each with its end.
    pub(crate) content: String,
    /// Variables in it are expanded: its word has no quotes.
    pub(crate) expand: bool,
    /// `<<-`: tabs at the beginning of its lines go.
    pub(crate) chomp: bool,
}

impl Heredoc {
    /// The content as a file has it.
    pub(crate) fn text(&self) -> String {
        match self.chomp {
            true => self.content.split_inclusive('\n').map(|l| l.trim_start_matches('\t')).collect(),
            false => self.content.clone(),
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    /// Where it ends.
    pub(crate) last: usize,
    /// The instruction, in capitals.
    pub(crate) word: String,
    /// As it was typed.
    pub(crate) typed: String,
    /// `--name=value`, as words in quotes.
    pub(crate) flags: Vec<String>,
    /// What stands behind instruction and flags.
    pub(crate) rest: String,
    /// The whole of it, in one line.
    pub(crate) original: String,
    /// The heredocs that it opens.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// What a Dockerfile holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The instructions.
    pub(crate) lines: Vec<Line>,
    /// The escape character.
    pub(crate) escape: char,
    /// `# check=`.
    pub(crate) check: Option<String>,
    /// What is worth a word: line and text.
    pub(crate) warnings: Vec<(usize, String)>,
}

/// An error with the line where it is.
pub(crate) type Located = (usize, Error);

struct Directives {
    escape: char,
    done: bool,
    seen: Vec<(String, String)>,
}

/// Read a Dockerfile.
pub(crate) fn read(text: &str) -> Result<Lines, Located> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let mut directives = Directives { escape: '\\', done: false, seen: Vec::new() };
    let mut out = Lines { lines: Vec::new(), escape: '\\', check: None, warnings: Vec::new() };
    let mut at = 0;
    while at < all.len() {
        let start = at + 1;
        let raw = without_end(all[at]).trim_start();
        at += 1;
        directives.look(raw).map_err(|e| (start, e))?;
        if raw.starts_with('#') {
            continue;
        }
        let (first, mut more) = continued(raw, directives.escape);
        let mut line = first.to_owned();
        if !more && line.is_empty() {
            continue;
        }
        let mut empty = false;
        while more && at < all.len() {
            let raw = without_end(all[at]);
            at += 1;
            if raw.trim_start().starts_with('#') {
                continue;
            }
            if raw.trim().is_empty() {
                empty = true;
                continue;
            }
            let part;
            (part, more) = continued(raw, directives.escape);
            line.push_str(part);
        }
        if line.trim().is_empty() {
            continue;
        }
        if empty {
            out.warnings.push((start, "NoEmptyContinuation: Empty continuation line".to_owned()));
        }
        let mut line = split(&line, directives.escape, start);
        if line.can_have_heredocs() {
            for mut heredoc in heredocs(&line.rest, directives.escape).map_err(|e| (start, e))? {
                if !heredoc.fill(&all, &mut at) {
                    return Err((start, Error::invalid(format!("unterminated heredoc: {}", heredoc.name))));
                }
                line.heredocs.push(heredoc);
            }
        }
        line.last = at;
        out.lines.push(line);
    }
    out.escape = directives.escape;
    out.check = directives.seen.into_iter().find(|(name, _)| name == "check").map(|(_, value)| value);
    if out.lines.is_empty() {
        return Err((all.len().max(1), Error::invalid("file with no instructions")));
    }
    Ok(out)
}

impl Directives {
    /// `# name=value`, as long as nothing else has been there.
    fn look(&mut self, line: &str) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let parsed = line.strip_prefix('#').and_then(|l| l.split_once('='));
        let parsed = parsed.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        let Some((name, value)) =
            parsed.filter(|(n, v)| matches!(n.as_str(), "escape" | "syntax" | "check") && !v.is_empty())
        else {
            self.done = true;
            return Ok(());
        };
        if self.seen.iter().any(|(seen, _)| *seen == name) {
            return Err(Error::invalid(format!("only one {name} parser directive can be used")));
        }
        match (name.as_str(), value.as_str()) {
            ("escape", "\\" | "`") => self.escape = value.chars().next().unwrap_or('\\'),
            ("escape", _) => {
                return Err(Error::invalid(format!("invalid escape token '{value}' does not match ` or \\")));
            }
            ("syntax", frontend) if !is_ours(frontend) => {
                return Err(Error::unsupported(format!(
                    "# syntax={frontend}: it is another language; there is docker/dockerfile"
                )));
            }
            _ => {}
        }
        self.seen.push((name, value));
        Ok(())
    }
}

/// Is it the Dockerfile language, whichever version of it?
fn is_ours(frontend: &str) -> bool {
    let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
    let name = name.split('@').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The line without the sign that it goes on, and whether it does. Two escapes are one that is meant.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

fn split(line: &str, escape: char, number: usize) -> Line {
    let text = line.trim();
    let (typed, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (flags, rest) = flags(rest.trim(), escape);
    Line {
        number,
        last: number,
        word: typed.to_ascii_uppercase(),
        typed: typed.to_owned(),
        flags,
        rest: rest.trim().to_owned(),
        original: text.to_owned(),
        heredocs: Vec::new(),
    }
}

/// The words at the beginning that start with `--`; `--` alone ends them.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let (mut word, mut end, mut quote) = (String::new(), rest.len(), None);
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (None, c) if c.is_whitespace() => {
                    end = at;
                    break;
                }
                (None, '"' | '\'') => quote = Some(c),
                (Some(q), c) if c == q => quote = None,
                (None | Some('"'), c) if c == escape => {
                    if let Some((_, next)) = chars.next() {
                        word.push(next);
                    }
                }
                (_, c) => word.push(c),
            }
        }
        rest = rest[end..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

impl Line {
    fn can_have_heredocs(&self) -> bool {
        let of = |word: &str| matches!(word, "RUN" | "COPY" | "ADD");
        let inner = || self.rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let is_list = || serde_json::from_str::<Vec<String>>(&self.rest).is_ok();
        (of(&self.word) || self.word == "ONBUILD" && of(&inner())) && self.rest.contains("<<") && !is_list()
    }
}

impl Heredoc {
    /// Take its lines. False where nothing ends it.
    fn fill(&mut self, all: &[&str], at: &mut usize) -> bool {
        while let Some(raw) = all.get(*at) {
            *at += 1;
            let line = without_end(raw);
            let line = if self.chomp { line.trim_start_matches('\t') } else { line };
            if line == self.name {
                return true;
            }
            self.content.push_str(raw);
        }
        false
    }
}

/// The heredocs that a line opens.
fn heredocs(line: &str, escape: char) -> Result<Vec<Heredoc>> {
    let mut out = Vec::new();
    let mut words = raw_words(line, escape).into_iter().peekable();
    while let Some(mut word) = words.next() {
        // `<< EOF`, as shells take it too.
        let opens = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if matches!(opens, "<<" | "<<-")
            && let Some(next) = words.peek().filter(|next| is_name(next))
        {
            word.push_str(next);
        }
        out.extend(heredoc(&word)?);
    }
    Ok(out)
}

fn is_name(word: &str) -> bool {
    let plain = word.trim_matches(['"', '\'']);
    plain.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && plain.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

/// The heredoc that a word opens, without its content.
pub(crate) fn heredoc(word: &str) -> Result<Option<Heredoc>> {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    let quotes = |q: char| rest.matches(q).count();
    if quotes('"') % 2 != 0 || quotes('\'') % 2 != 0 {
        return Err(Error::invalid("quoted heredoc quotes do not match"));
    }
    Ok((!name.is_empty()).then(|| Heredoc { expand: name == rest, name, content: String::new(), chomp }))
}

/// Words with their quotes, split at spaces outside of them.
pub(crate) fn raw_words(line: &str, escape: char) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => out.push(std::mem::take(&mut word)),
            (q, c) if c == escape && q != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
            }
            (q, c) => {
                quote = match q {
                    None if matches!(c, '"' | '\'') => Some(c),
                    Some(open) if open == c => None,
                    other => other,
                };
                word.push(c);
            }
        }
    }
    out.push(word);
    out.retain(|w| !w.is_empty());
    out
}

#[cfg(test)]
mod tests;
