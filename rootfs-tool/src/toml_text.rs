//! TOML read into structs, in little code: the text becomes a tree of JSON first, and structs take their members out of
//! that, as [`json`] has it. What is wrong is said with its line. Of dates nothing here knows.

use coracle_sys::json::{self, Map, Number, Value, Wrong};
use coracle_sys::{Error, Result};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Read a text.
pub(crate) fn read<T: json::Read + Default>(text: &str) -> Result<T> {
    let document = DeTable::parse(text).map_err(|e| at(text, e.span().map(|s| s.start), e.message()))?;
    let tree = object(document.get_ref()).map_err(|(start, why)| at(text, Some(start), why))?;
    let mut read = T::default();
    read.read(tree).map_err(|wrong| at(text, place(document.get_ref(), &wrong), &wrong.brief()))?;
    Ok(read)
}

fn at(text: &str, start: Option<usize>, why: &str) -> Error {
    let line = start.and_then(|start| text.get(..start)).map(|before| before.matches('\n').count() + 1);
    let line = line.map_or_else(String::new, |line| format!("line {line}: "));
    Error::invalid(format!("{line}{}", why.replace('\n', " ")))
}

/// What cannot be in the tree: where it begins, and why.
type Odd = (usize, &'static str);

fn object(table: &DeTable<'_>) -> std::result::Result<Value, Odd> {
    let mut all = Map::new();
    for (key, item) in table.iter() {
        all.insert(key.get_ref().to_string(), value(item)?);
    }
    Ok(Value::Object(all))
}

fn value(item: &Spanned<DeValue<'_>>) -> std::result::Result<Value, Odd> {
    let odd = |why| (item.span().start, why);
    Ok(match item.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(on) => Value::Bool(*on),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => n.into(),
            Err(_) => {
                u64::from_str_radix(n.as_str(), n.radix()).map_err(|_| odd("the number is too large"))?.into()
            }
        },
        DeValue::Float(n) => {
            let n: Number = n
                .as_str()
                .trim_start_matches('+')
                .parse()
                .map_err(|_| odd("inf and nan are no numbers here"))?;
            Value::Number(n)
        }
        DeValue::Datetime(_) => return Err(odd("a date has no place here")),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(value).collect::<std::result::Result<_, Odd>>()?)
        }
        DeValue::Table(table) => object(table)?,
    })
}

/// Where the member begins that is wrong.
fn place(document: &DeTable<'_>, wrong: &Wrong) -> Option<usize> {
    enum Here<'a> {
        Table(&'a DeTable<'a>),
        List(&'a DeArray<'a>),
    }
    let mut here = Here::Table(document);
    let mut start = None;
    for step in wrong.steps() {
        let item = match here {
            Here::Table(table) => {
                let (key, item) = table.get_key_value(step)?;
                start = Some(key.span().start);
                item
            }
            Here::List(list) => {
                let n: usize = step.trim_matches(['[', ']']).parse().ok()?;
                let item = list.as_ref().get(n)?;
                start = Some(item.span().start);
                item
            }
        };
        here = match item.get_ref() {
            DeValue::Table(table) => Here::Table(table),
            DeValue::Array(list) => Here::List(list),
            _ => break,
        };
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sys::read_json;

    #[derive(Debug, Default)]
    struct Inner {
        id: u32,
        words: Vec<String>,
    }
    read_json!(Inner { id: must "id", words: may "words" } only);

    #[derive(Debug, Default)]
    struct Outer {
        inner: Vec<Inner>,
        far: i64,
        most: u64,
    }
    read_json!(Outer { inner: may "inner", far: may "far", most: may "most" } only);

    #[test]
    fn numbers_of_every_form_are_read() {
        let text = "far = -0x10\nmost = 18_446_744_073_709_551_615\n[[inner]]\nid = 0o17\nwords = ['a']\n";
        let outer: Outer = read(&text.replace("-0x10", "-16")).unwrap();
        assert_eq!((outer.far, outer.most), (-16, u64::MAX));
        assert_eq!((outer.inner[0].id, outer.inner[0].words.len()), (15, 1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, says) in [
            ("\nfar = 1\nfar = 2\n", "line 3: duplicate key"),
            ("far = 1\n\nwide = 2\n", "line 3: unknown field `wide`, expected one of `inner`, `far`, `most`"),
            (
                "[[inner]]\nid = 1\n[[inner]]\nid = -1\n",
                "line 4: id: expected a number from 0 to 4294967295, found -1",
            ),
            ("[[inner]]\nid = 1\n\n[[inner]]\n", "line 4: inner[1]: missing field `id`"),
            (
                "inner = [\n {id = 1},\n {id = 2, words = [\n'a',\n1]}]\n",
                "line 5: words[1]: expected a string, found 1",
            ),
            (
                "inner = [\n {id = 1},\n {id = 2, word = []}]\n",
                "line 3: unknown field `word`, expected one of `id`, `words`",
            ),
            ("far = 1.5\n", "line 1: far: expected a number from"),
            ("far = nan\n", "line 1: inf and nan are no numbers here"),
            ("\nfar = 1979-05-27\n", "line 2: a date has no place here"),
            ("far = 99999999999999999999\n", "line 1: the number is too large"),
            ("inner = 1\n", "line 1: inner: expected a list, found 1"),
        ] {
            let e = read::<Outer>(text).unwrap_err().to_string();
            assert!(e.starts_with(says), "{text:?}: {e}");
        }
    }
}
