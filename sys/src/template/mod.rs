//! `--format`: Go's templates (text/template), as docker's users type them, over JSON: fields, pipes, variables, `if`,
//! `with`, `range`, Go's functions and docker's (`json`, `join`, `split`, `lower`, `upper`, `title`, `truncate`, `pad`).
//! `table` before a template makes columns with a head. Templates within templates are refused by name.

mod eval;
mod function;
mod lex;
mod parse;

use std::io::IsTerminal;

use serde_json::Value;

use crate::{Error, Result, table};

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    tree: Vec<parse::Node>,
    table: bool,
}

impl Template {
    /// Parse a template. `json` alone is the whole value, as in docker.
    pub fn parse(text: &str) -> Result<Self> {
        let (body, table) = match text.strip_prefix("table ") {
            Some(rest) => (rest.trim_start(), true),
            None => (text, false),
        };
        let body = match body {
            "json" if !table => "{{json .}}".to_owned(),
            body => body.replace("\\t", "\t").replace("\\n", "\n"),
        };
        let tree = lex::pieces(&body).and_then(parse::tree);
        let tree = tree.map_err(|e: Error| e.wrap(format!("read the format {text:?}")))?;
        Ok(Self { tree, table })
    }

    /// Print each value: a line of its own, or a row of the table.
    pub fn print(&self, values: &[Value]) -> Result<()> {
        self.print_under(values, title)
    }

    /// [`Template::print`], where a table has other heads than the names of its fields.
    pub fn print_under(&self, values: &[Value], heads: fn(&str) -> String) -> Result<()> {
        let lines = values.iter().map(|value| self.render(value)).collect::<Result<Vec<_>>>()?;
        if self.table {
            let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
            let rows = [self.head(heads)?].iter().chain(&lines).map(|line| cells(line)).collect::<Vec<_>>();
            table::print(&rows, false);
        } else {
            lines.iter().for_each(|line| crate::say!("{line}"));
        }
        Ok(())
    }

    /// The template with the name of each field in its place.
    fn head(&self, heads: fn(&str) -> String) -> Result<String> {
        eval::fill(&self.tree, &Value::Null, false, Some(heads))
    }

    /// Fill it in. A field that the value has not is an error. On a terminal no value is more than text.
    pub fn render(&self, value: &Value) -> Result<String> {
        self.fill(value, std::io::stdout().is_terminal())
    }

    fn fill(&self, value: &Value, harmless: bool) -> Result<String> {
        eval::fill(&self.tree, value, harmless, None).map_err(|e| e.wrap("fill in the format"))
    }
}

/// `CreatedBy` as `CREATED BY`, and as docker calls what it calls otherwise.
pub fn title(name: &str) -> String {
    if matches!(name, "RunningFor" | "CreatedSince") {
        return "CREATED".to_owned();
    }
    let mut out = String::new();
    let mut lower = false;
    for c in name.chars() {
        if lower && c.is_ascii_uppercase() {
            out.push(' ');
        }
        lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str, value: &Value) -> String {
        Template::parse(text).and_then(|t| t.render(value)).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// What docker prints for these was compared with docker itself.
    #[test]
    fn a_template_is_filled_in_as_go_does() {
        let v = json!({
            "Id": "sha256:x", "Size": 7, "Tags": ["a:1", "b:2"], "None": [], "E": "",
            "V": {"/d": {}}, "Hc": {"Interval": 90_000_000_000u64},
            "Config": {"Cmd": ["sh", "-c"], "User": null, "Labels": {"k": "v", "org.x/y": "z"}, "Env": null}
        });
        for (text, out) in [
            ("{{.Id}}", "sha256:x"),
            ("{{ .Id }}\\t{{.Size}}.", "sha256:x\t7."),
            ("{{json .Config.Cmd}}", "[\"sh\",\"-c\"]"),
            ("{{.Config.Cmd}}", "[sh -c]"),
            ("{{.Config.Labels}}", "map[k:v org.x/y:z]"),
            ("{{.Config.Env}} {{.Config.User}} {{json .Config.Env}}", "[] <nil> null"),
            ("{{index .Tags 1}}", "b:2"),
            ("{{index .Config.Labels \"org.x/y\"}}{{index .Config.Labels \"no\"}}", "z"),
            ("{{join .Tags \",\"}}", "a:1,b:2"),
            ("{{len .Tags}} {{.Tags | len}}", "2 2"),
            ("{{range .Tags}}{{.}};{{end}}", "a:1;b:2;"),
            ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{$.Size}},{{end}}", "0=a:1 7,1=b:2 7,"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "k=v org.x/y=z "),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{range .Tags}}{{if eq . \"b:2\"}}{{break}}{{end}}{{.}}{{end}}", "a:1"),
            ("{{range .Tags}}{{if eq . \"a:1\"}}{{continue}}{{end}}{{.}}{{end}}", "b:2"),
            ("{{if .Config.User}}u{{else if gt .Size 5}}big{{else}}small{{end}}", "big"),
            ("{{with .Config}}{{index .Cmd 0}}{{end}}", "sh"),
            ("{{with .Config.User}}{{.}}{{else}}root{{end}}", "root"),
            ("{{$x := .Size}}{{$x}} {{$x = 8}}{{$x}}", "7 8"),
            ("{{if and .Size (not .Config.User) (or .None .Tags)}}y{{end}}", "y"),
            ("{{printf \"%-4s|%04d|%q\" \"ab\" .Size \"c\"}}", "ab  |0007|\"c\""),
            ("{{.Id | printf \"%s!\" | upper}}", "SHA256:X!"),
            ("{{(index .Tags 0) | printf \"<%s>\"}}", "<a:1>"),
            ("{{pad .Id 1 2}}{{pad .E 1 2}}|{{.V}} {{.Hc.Interval}}", " sha256:x  |map[/d:{}] 1m30s"),
            ("{{index (split .Id \":\") 1}} {{slice .Id 0 6}} {{truncate .Id 3}}", "x sha256 sha"),
            ("{{println .Size}}{{/* nothing */}}{{title \"ab cd\"}}", "7\nAb Cd"),
            ("a  {{- .Size -}}  b", "a7b"),
            ("{{`raw \"x\"`}} {{true}} {{-3}}", "raw \"x\" true -3"),
            ("{{.Label \"a\"}}", ""),
        ] {
            assert_eq!(render(text, &v), out, "{text}");
        }
        assert_eq!(render("{{.Label \"b\"}}", &json!({"Labels": "a=1,b=2"})), "2");
        assert_eq!(render("json", &json!({"A": [1]})), "{\"A\":[1]}");
    }

    #[test]
    fn a_head_names_the_fields() {
        let table = Template::parse(
            "table {{.ID}}\\t{{.CreatedBy}} ({{json .Names}})\\t{{if .X}}{{upper .X}}{{end}}",
        );
        assert_eq!(table.unwrap().head(title).unwrap(), "ID\tCREATED BY (NAMES)\tX");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (bad, why) in [
            ("{{.Id", "}} is missing"),
            ("{{range .X}}", "{{range}} has no {{end}}"),
            ("{{if .X}}{{else}}", "{{if}} has no {{end}}"),
            ("{{end}}", "{{end}} closes nothing"),
            ("{{Id}}", "function \"Id\" not defined"),
            ("{{.Id | frob}}", "function \"frob\" not defined"),
            ("{{}}", "an action is empty"),
            ("{{\"a}}", "a string has no end"),
            ("{{(.A}}", "a parenthesis is not closed"),
            ("{{.A)}}", "a parenthesis closes nothing"),
            ("{{.A |}}", "a command is missing"),
            ("{{template \"x\"}}", "{{template}} is not known here"),
            ("{{break}}", "{{break}} stands in no range"),
            ("{{/* a}}", "a comment has no end"),
        ] {
            let e = Template::parse(bad).unwrap_err().to_string();
            assert!(e.contains(why), "{bad}: {e}");
        }
        let deep = "{{if .A}}".repeat(100) + &"{{end}}".repeat(100);
        assert!(Template::parse(&deep).unwrap_err().to_string().contains("too deeply"));
        let deep = format!("{{{{{}.A{}}}}}", "(".repeat(100), ")".repeat(100));
        assert!(Template::parse(&deep).unwrap_err().to_string().contains("too deeply"));
        let v = json!({"Id": "x", "Config": {}});
        for (bad, why) in [
            ("{{.Nope}}", "there is no .Nope, but Config, Id"),
            ("{{.Id.X}}", "there is no .X in x"),
            ("{{index .Id 3}}", "can't index x by 3"),
            ("{{$x}}", "undefined variable $x"),
            ("{{json}}", "wrong number of arguments"),
            ("{{lt .Id 3}}", "can't be compared"),
            ("{{range .Id}}{{end}}", "range can't iterate over x"),
        ] {
            let e = Template::parse(bad).unwrap().render(&v).unwrap_err().to_string();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }

    #[test]
    fn on_a_terminal_a_value_is_only_text() {
        let v = json!({"Id": "a\u{1b}[2Jb", "L": ["\n"]});
        for (text, harmless, out) in [
            ("{{.Id}}", true, "a [2Jb"),
            ("{{.Id}}", false, "a\u{1b}[2Jb"),
            ("{{range .L}}{{.}}|{{end}}", true, " |"),
        ] {
            assert_eq!(Template::parse(text).unwrap().fill(&v, harmless).unwrap(), out);
        }
    }

    #[test]
    fn no_mutation_of_a_template_makes_the_parser_panic() {
        let seed = "a{{- range $k, $v := .A }}{{ if eq $k \"x\" }}{{printf \"%5d\" (len $v) | json}}{{else}}{{.B.C}}{{end}}{{end -}} é";
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let letters: Vec<char> = "{}.$|()\"`:=,-/*% aéxif0".chars().collect();
        let v = json!({"A": {"x": [1], "y": []}, "B": {"C": 1}});
        let mut read = 0;
        for _ in 0..20_000 {
            let mut text: Vec<char> = seed.chars().collect();
            for _ in 0..1 + next() % 3 {
                let at = next() % text.len();
                match next() % 3 {
                    0 => text[at] = letters[next() % letters.len()],
                    1 => drop(text.remove(at)),
                    _ => text.insert(at, letters[next() % letters.len()]),
                }
            }
            let text: String = text.into_iter().collect();
            if let Ok(template) = Template::parse(&text) {
                read += 1;
                let _ = template.render(&v);
                let _ = template.head(title);
            }
        }
        assert!(read > 1000, "{read}");
    }
}
