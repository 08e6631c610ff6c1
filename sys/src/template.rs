//! `--format`: the part of Go's templates that docker's users type. `{{.A.B}}`, `{{json .A}}`,
//! `{{.}}` and plain text with `\t` and `\n`; `table` before it makes columns with a head. Anything else is refused by name.

use std::io::IsTerminal;

use crate::{Error, Result, print, table};
use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
    table: bool,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

impl Template {
    /// Parse a template. `json` alone is the whole value, as in docker.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "json" {
            return Ok(Self { parts: vec![Part::Field { path: Vec::new(), json: true }], table: false });
        }
        let (text, table) = match text.strip_prefix("table ") {
            Some(rest) => (rest.trim_start(), true),
            None => (text, false),
        };
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut parts = Vec::new();
        let mut rest = &text[..];
        while let Some((before, after)) = rest.split_once("{{") {
            let bad = |inner: &str| {
                Error::usage(format!(
                    "read the format {text:?}: {inner:?} is not known: there are {{{{.Field}}}} and {{{{json .Field}}}}"
                ))
            };
            let (inner, after) = after.split_once("}}").ok_or_else(|| bad(after))?;
            parts.push(Part::Text(before.to_owned()));
            let word = inner.trim();
            let (word, json) = match word.strip_prefix("json ") {
                Some(word) => (word.trim(), true),
                None => (word, false),
            };
            let path = word.strip_prefix('.').ok_or_else(|| bad(inner))?;
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
            if !path.chars().all(plain) {
                return Err(bad(inner));
            }
            let path = path.split('.').filter(|p| !p.is_empty()).map(str::to_owned).collect();
            parts.push(Part::Field { path, json });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts, table })
    }

    /// Print each value: a line of its own, or a row of the table.
    pub fn print(&self, values: &[Value]) -> Result<()> {
        let lines = values.iter().map(|value| self.render(value)).collect::<Result<Vec<_>>>()?;
        if self.table {
            let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
            let rows = [self.head()].iter().chain(&lines).map(|line| cells(line)).collect::<Vec<_>>();
            table::print(&rows, false);
        } else {
            lines.iter().for_each(|line| crate::say!("{line}"));
        }
        Ok(())
    }

    /// The template with the name of each field in its place.
    fn head(&self) -> String {
        let word = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { path, .. } => match path.last().map_or("", String::as_str) {
                // As docker calls them.
                "RunningFor" | "CreatedSince" => "CREATED".to_owned(),
                name => title(name),
            },
        };
        self.parts.iter().map(word).collect()
    }

    /// Fill it in. A field that the value has not is an error. On a terminal no value is more than text.
    pub fn render(&self, value: &Value) -> Result<String> {
        self.fill(value, std::io::stdout().is_terminal())
    }

    fn fill(&self, value: &Value, harmless: bool) -> Result<String> {
        let mut out = String::new();
        for part in &self.parts {
            let (path, json) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Field { path, json } => (path, *json),
            };
            let mut at = value;
            for name in path {
                at = at.get(name).ok_or_else(|| {
                    let have: Vec<&str> =
                        at.as_object().map_or_else(Vec::new, |o| o.keys().map(String::as_str).collect());
                    Error::usage(format!("fill in the format: there is no .{name}, but {}", have.join(", ")))
                })?;
            }
            match at {
                Value::String(text) if !json && harmless => out.push_str(&print::harmless(text)),
                Value::String(text) if !json => out.push_str(text),
                Value::Null if !json => {}
                other => out.push_str(&other.to_string()),
            }
        }
        Ok(out)
    }
}

/// `CreatedBy` as `CREATED BY`.
fn title(name: &str) -> String {
    let mut out = String::new();
    let mut lower = false;
    for c in name.chars() {
        if lower && c.is_uppercase() {
            out.push(' ');
        }
        lower = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_is_filled_in_or_refused_by_name() {
        let v = json!({"Id": "x", "Config": {"Cmd": ["sh"], "User": null}});
        for (text, out) in [
            ("{{.Id}}", "x"),
            ("{{ .Id }}\\t{{.Config.User}}.", "x\t."),
            ("{{json .Config.Cmd}}", "[\"sh\"]"),
            ("{{.Config.Cmd}}", "[\"sh\"]"),
            ("json", "{\"Config\":{\"Cmd\":[\"sh\"],\"User\":null},\"Id\":\"x\"}"),
        ] {
            assert_eq!(Template::parse(text).unwrap().render(&v).unwrap(), out, "{text}");
        }
        let table = Template::parse("table {{.ID}}\\t{{.CreatedBy}} ({{json .Names}})").unwrap();
        assert_eq!(table.head(), "ID\tCREATED BY (NAMES)");
        for bad in ["{{.Id", "{{range .X}}", "{{Id}}", "{{.Id | upper}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        let v = json!({"Id": "a\u{1b}[2Jb"});
        for (harmless, out) in [(true, "a [2Jb"), (false, "a\u{1b}[2Jb")] {
            assert_eq!(Template::parse("{{.Id}}").unwrap().fill(&v, harmless).unwrap(), out);
        }
        let v = json!({"Id": "x", "Config": {}});
        let e = Template::parse("{{.Nope}}").unwrap().render(&v).unwrap_err().to_string();
        assert!(e.contains(".Nope") && e.contains("Config, Id"), "{e}");
    }
}
