//! A tree is filled in.

use serde_json::Value;

use super::function::{Function, call, is_true, text};
use super::parse::{Node, Pipe, Range, Term};
use crate::{Error, Result, print};

/// What a name stands for while a template is filled in.
pub(super) struct Filling<'a> {
    root: &'a Value,
    variables: Vec<(String, Value)>,
    /// Values are only text for a terminal.
    harmless: bool,
    /// It is the head of a table that is made: a field is its own title.
    title: Option<fn(&str) -> String>,
    out: String,
}

/// How a body has ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Fill in a tree. Of the head of a table, `title` says what a field is called there.
pub(super) fn fill(
    tree: &[Node],
    root: &Value,
    harmless: bool,
    title: Option<fn(&str) -> String>,
) -> Result<String> {
    let mut filling = Filling { root, variables: Vec::new(), harmless, title, out: String::new() };
    filling.nodes(tree, root)?;
    Ok(filling.out)
}

impl Filling<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        let visible = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(visible);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.set.is_none() {
                    let text = match &value {
                        Value::Null => nothing(pipe).to_owned(),
                        Value::Number(n) if is_duration(pipe) => duration(n.as_u64().unwrap_or(0)),
                        other => text(other),
                    };
                    let text = if self.harmless && !prints(pipe) { print::harmless(&text) } else { text };
                    self.out.push_str(&text);
                }
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    let visible = self.variables.len();
                    let holds = self.truth(condition, dot)?;
                    let flow = if holds { Some(self.nodes(body, dot)?) } else { None };
                    self.variables.truncate(visible);
                    if let Some(flow) = flow {
                        return Ok(flow);
                    }
                }
                return self.nodes(otherwise, dot);
            }
            Node::With(pipe, body, otherwise) => {
                let visible = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = match self.title.is_some() || is_true(&value) {
                    true => self.nodes(body, if self.title.is_some() { dot } else { &value }),
                    false => self.nodes(otherwise, dot),
                };
                self.variables.truncate(visible);
                return flow;
            }
            Node::Range(range) => return self.range(range, dot),
        }
        Ok(Flow::On)
    }

    fn truth(&mut self, pipe: &Pipe, dot: &Value) -> Result<bool> {
        let value = self.pipe(pipe, dot)?;
        Ok(self.title.is_some() || is_true(&value))
    }

    fn range(&mut self, range: &Range, dot: &Value) -> Result<Flow> {
        let over = self.pipe(&range.over, dot)?;
        let items: Vec<(Value, Value)> = match over {
            _ if self.title.is_some() => vec![(Value::Null, dot.clone())],
            Value::Array(items) => items.into_iter().enumerate().map(|(n, v)| (n.into(), v)).collect(),
            Value::Object(items) => items.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            Value::Null => Vec::new(),
            other => return Err(Error::usage(format!("range can't iterate over {}", text(&other)))),
        };
        if items.is_empty() {
            return self.nodes(&range.otherwise, dot);
        }
        let visible = self.variables.len();
        for (key, value) in items {
            let named = [(&range.key, key), (&range.value, value.clone())];
            self.variables.extend(named.into_iter().filter_map(|(name, v)| Some((name.clone()?, v))));
            let flow = self.nodes(&range.body, &value)?;
            self.variables.truncate(visible);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last: Option<Value> = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last.take(), dot)?);
        }
        let value = last.unwrap_or_default();
        if let Some((name, new)) = &pipe.set {
            let old = self.variables.iter_mut().rev().find(|(n, _)| n == name);
            match (new, old) {
                (true, _) => self.variables.push((name.clone(), value.clone())),
                (false, Some((_, old))) => *old = value.clone(),
                (false, None) => return Err(undefined(name)),
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &[Term], piped: Option<Value>, dot: &Value) -> Result<Value> {
        let (first, arguments) = command.split_first().ok_or_else(|| Error::usage("a command is missing"))?;
        let mut values = Vec::new();
        for argument in arguments {
            values.push(self.term(argument, dot)?);
        }
        values.extend(piped);
        match first {
            Term::Function(function) if self.title.is_some() => {
                // In a head there is nothing to reckon with.
                let of = if *function == Function::Join { values.first() } else { values.last() };
                Ok(of.cloned().unwrap_or_default())
            }
            Term::Function(function) => call(*function, &values),
            // Of docker's ps: `.Label "key"`.
            Term::Field(of, name) if name == "Label" && values.len() == 1 && self.title.is_none() => {
                let of = self.term(of, dot)?;
                Ok(label(&of["Labels"], &text(&values[0])).into())
            }
            _ if values.is_empty() => self.term(first, dot),
            _ if self.title.is_some() => self.term(first, dot),
            _ => Err(Error::usage("only a function takes arguments")),
        }
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value> {
        match term {
            Term::Dot => Ok(dot.clone()),
            Term::Literal(value) => Ok(value.clone()),
            Term::Variable(name) if name.is_empty() => Ok(self.root.clone()),
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| undefined(name))
            }
            Term::Function(function) => call(*function, &[]),
            Term::Pipe(pipe) => self.pipe(pipe, dot),
            Term::Field(of, name) => match self.title {
                Some(title) => Ok(title(name).into()),
                None => field(self.term(of, dot)?, name),
            },
        }
    }
}

fn field(of: Value, name: &str) -> Result<Value> {
    match of {
        Value::Object(mut fields) => fields.remove(name).ok_or_else(|| {
            let have: Vec<&str> = fields.keys().map(String::as_str).collect();
            Error::usage(format!("there is no .{name}, but {}", have.join(", ")))
        }),
        other => Err(Error::usage(format!("there is no .{name} in {}", text(&other)))),
    }
}

fn undefined(name: &str) -> Error {
    Error::usage(format!("undefined variable ${name}"))
}

/// A label, of an object or of `a=1,b=2`.
fn label(labels: &Value, key: &str) -> String {
    match labels {
        Value::Object(labels) => labels.get(key).map(text).unwrap_or_default(),
        other => {
            let all = text(other);
            let found = all.split(',').find_map(|l| l.split_once('=').filter(|(k, _)| *k == key));
            found.map(|(_, v)| v.to_owned()).unwrap_or_default()
        }
    }
}

/// How nothing is printed. JSON has one word for it; Go's lists and maps keep their form, as docker's users see.
fn nothing(pipe: &Pipe) -> &'static str {
    let last = pipe.commands.last().and_then(|c| c.first());
    let Some(Term::Field(_, name)) = last else { return "<no value>" };
    match name.as_str() {
        "Labels" | "Volumes" | "ExposedPorts" | "Ports" | "PortBindings" | "Networks" | "Options" => "map[]",
        "Cmd" | "Entrypoint" | "Env" | "Mounts" | "OnBuild" | "Shell" | "RepoTags" | "RepoDigests"
        | "Binds" => "[]",
        _ => "<nil>",
    }
}

/// Is it one of a health check's times? They are nanoseconds.
fn is_duration(pipe: &Pipe) -> bool {
    let [command] = &pipe.commands[..] else { return false };
    let [Term::Field(_, name)] = &command[..] else { return false };
    matches!(name.as_str(), "Interval" | "Timeout" | "StartPeriod" | "StartInterval")
}

/// As Go prints it: `1m30s`, `1.5s`, `250ms`.
fn duration(nanoseconds: u64) -> String {
    let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let decimal = |n: u64, digits: usize| format!("{n:0digits$}").trim_end_matches('0').to_owned();
    let point = |whole: u64, rest: u64, digits: usize| match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{}", decimal(rest, digits)),
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n if n < 1000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", point(n / 1000, n % 1000, 3)),
        n if n < 1_000_000_000 => format!("{}ms", point(n / 1_000_000, n % 1_000_000, 6)),
        _ => {
            let (hours, minutes) = (whole / 3600, whole / 60 % 60);
            let seconds = point(whole % 60, rest, 9);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// Has the user asked for line breaks by name?
fn prints(pipe: &Pipe) -> bool {
    let last = pipe.commands.last().and_then(|c| c.first());
    matches!(last, Some(Term::Function(Function::Println | Function::Printf)))
}
