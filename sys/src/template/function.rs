//! What a template may call by name.

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// What is known by name: Go's own, and what docker adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Compare(&'static str),
    Index,
    Join,
    Json,
    Len,
    Lower,
    Not,
    Or,
    Pad,
    Print,
    Printf,
    Println,
    Slice,
    Split,
    Title,
    Truncate,
    Upper,
}

impl FromStr for Function {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "and" => Self::And,
            "eq" => Self::Compare("eq"),
            "ne" => Self::Compare("ne"),
            "lt" => Self::Compare("lt"),
            "le" => Self::Compare("le"),
            "gt" => Self::Compare("gt"),
            "ge" => Self::Compare("ge"),
            "index" => Self::Index,
            "join" => Self::Join,
            "json" => Self::Json,
            "len" => Self::Len,
            "lower" => Self::Lower,
            "not" => Self::Not,
            "or" => Self::Or,
            "pad" => Self::Pad,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "slice" => Self::Slice,
            "split" => Self::Split,
            "title" => Self::Title,
            "truncate" => Self::Truncate,
            "upper" => Self::Upper,
            _ => return Err(Error::usage(format!("function {word:?} not defined"))),
        })
    }
}

/// What comes of it.
pub(super) fn call(function: Function, values: &[Value]) -> Result<Value> {
    use Function as F;
    let wrong = || Error::usage(format!("wrong number of arguments for {function:?}").to_ascii_lowercase());
    let one = || values.first().filter(|_| values.len() == 1).ok_or_else(wrong);
    let joined = || values.iter().map(text).collect::<Vec<_>>();
    Ok(match function {
        F::Json => serde_json::to_string(one()?).map_err(|e| Error::invalid(e.to_string()))?.into(),
        F::Lower => text(one()?).to_ascii_lowercase().into(),
        F::Upper => text(one()?).to_ascii_uppercase().into(),
        F::Title => capitals(&text(one()?)).into(),
        F::Not => (!is_true(one()?)).into(),
        F::And => values.iter().find(|v| !is_true(v)).or(values.last()).ok_or_else(wrong)?.clone(),
        F::Or => values.iter().find(|v| is_true(v)).or(values.last()).ok_or_else(wrong)?.clone(),
        F::Print => joined().join(" ").into(),
        F::Println => format!("{}\n", joined().join(" ")).into(),
        F::Printf => formatted(values)?.into(),
        F::Len => match one()? {
            Value::Array(items) => items.len().into(),
            Value::Object(items) => items.len().into(),
            Value::String(text) => text.len().into(),
            Value::Null => 0.into(),
            other => return Err(Error::usage(format!("len of {} is not known", text(other)))),
        },
        F::Index => {
            let (first, keys) = values.split_first().ok_or_else(wrong)?;
            keys.iter().try_fold(first.clone(), index)?
        }
        F::Slice => {
            let (first, ends) = values.split_first().ok_or_else(wrong)?;
            let at = |n: usize, otherwise: usize| {
                ends.get(n).map_or(Some(otherwise), |v| Some(v.as_u64()? as usize))
            };
            let bad = || Error::usage(format!("slice: there is no such part of {}", text(first)));
            match first {
                Value::Array(items) => {
                    let (from, to) = (at(0, 0).ok_or_else(bad)?, at(1, items.len()).ok_or_else(bad)?);
                    items.get(from..to).ok_or_else(bad)?.to_vec().into()
                }
                other => {
                    let text = text(other);
                    let (from, to) = (at(0, 0).ok_or_else(bad)?, at(1, text.len()).ok_or_else(bad)?);
                    text.get(from..to).ok_or_else(bad)?.into()
                }
            }
        }
        F::Join => match values {
            [Value::Array(items), between] => {
                items.iter().map(text).collect::<Vec<_>>().join(&text(between)).into()
            }
            [Value::Null, _] => "".into(),
            _ => return Err(wrong()),
        },
        F::Split => match values {
            [whole, at] => text(whole).split(&text(at)).collect::<Vec<_>>().into(),
            _ => return Err(wrong()),
        },
        F::Pad => match values {
            [whole, Value::Number(before), Value::Number(after)] => {
                let blanks = |n: &serde_json::Number| " ".repeat(n.as_u64().unwrap_or(0).min(1000) as usize);
                let text = text(whole);
                let padded = format!("{}{text}{}", blanks(before), blanks(after));
                if text.is_empty() { text } else { padded }.into()
            }
            _ => return Err(wrong()),
        },
        F::Truncate => match values {
            [whole, Value::Number(n)] => {
                text(whole).chars().take(n.as_u64().unwrap_or(0) as usize).collect::<String>().into()
            }
            _ => return Err(wrong()),
        },
        F::Compare(how) => compare(how, values)?.into(),
    })
}

fn index(of: Value, key: &Value) -> Result<Value> {
    match (of, key) {
        (Value::Array(items), Value::Number(n)) => {
            let found = n.as_u64().and_then(|n| items.get(n as usize));
            found.cloned().ok_or_else(|| Error::usage(format!("index out of range: {n} of {}", items.len())))
        }
        // What a map has not is empty.
        (Value::Object(items), Value::String(key)) => {
            Ok(items.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (of, key) => Err(Error::usage(format!("can't index {} by {}", text(&of), text(key)))),
    }
}

fn compare(how: &str, values: &[Value]) -> Result<bool> {
    let [first, others @ ..] = values else { return Err(Error::usage(format!("{how} compares two"))) };
    let order = |a: &Value, b: &Value| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if how == "eq" || how == "ne" => Some(if a == b { Ordering::Equal } else { Ordering::Less }),
        _ => None,
    };
    match (how, others) {
        ("eq", [_, ..]) => Ok(others.iter().any(|o| order(first, o) == Some(Ordering::Equal))),
        (_, [other]) => {
            let order = order(first, other).ok_or_else(|| {
                Error::usage(format!("{how}: {} and {} can't be compared", text(first), text(other)))
            })?;
            Ok(match how {
                "ne" => order.is_ne(),
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        _ => Err(Error::usage(format!("{how} compares two"))),
    }
}

/// `printf`, with the verbs that are about values as they are.
fn formatted(values: &[Value]) -> Result<String> {
    let [Value::String(format), arguments @ ..] = values else {
        return Err(Error::usage("printf begins with a string"));
    };
    let mut arguments = arguments.iter();
    let mut out = String::new();
    let mut rest = format.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let digits = after.trim_start_matches(['-', '0']);
        let spec = after.len() - digits.len();
        let width = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let verb = digits[width..].chars().next();
        let mut next = || arguments.next().ok_or_else(|| Error::usage("printf: an argument is missing"));
        let word = match verb {
            Some('%') => "%".to_owned(),
            Some('s' | 'v' | 'd') => text(next()?),
            Some('q') => format!("{:?}", text(next()?)),
            other => return Err(Error::usage(format!("printf: %{} is not known", other.unwrap_or(' ')))),
        };
        // Wider than any line is nobody's wish.
        let wide: usize = digits[..width].parse().unwrap_or(0).min(1000);
        out.push_str(&match &after[..spec] {
            "-" => format!("{word:<wide$}"),
            "0" => format!("{word:0>wide$}"),
            _ => format!("{word:>wide$}"),
        });
        rest = &digits[width + verb.map_or(0, char::len_utf8)..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Does a condition hold?
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

fn capitals(text: &str) -> String {
    let mut first = true;
    let capital = |c: char| {
        let upper = std::mem::replace(&mut first, c.is_whitespace());
        if upper { c.to_ascii_uppercase() } else { c }
    };
    text.chars().map(capital).collect()
}

/// As Go prints it: `[a b]`, `map[k:v]`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(items) => {
            // Go's sets are maps to nothing.
            let inner = |v: &Value| if *v == Value::Object(Map::new()) { "{}".to_owned() } else { text(v) };
            let items: Vec<String> = items.iter().map(|(k, v)| format!("{k}:{}", inner(v))).collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}
