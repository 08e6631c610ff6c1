//! `volume ls --filter` and `volume prune --filter`: filters of one kind are alternatives, but for labels, all of which
//! have to hold.

use coracle_store::Store;
use coracle_store::volume_note::Note;
use coracle_sys::{Error, Result};

/// The kinds that a list knows.
pub(super) const LIST: &[&str] = &["dangling", "driver", "label", "label!", "name"];
/// Those of a prune.
pub(super) const PRUNE: &[&str] = &["all", "label", "label!"];

/// One filter, as docker has them.
#[derive(Debug, PartialEq)]
pub(super) enum Filter {
    /// No container uses it.
    Dangling(bool),
    Driver(String),
    /// Name and value, and whether it must be so.
    Label(String, Option<String>, bool),
    /// A part of the name.
    Name(String),
    /// Those with names too.
    All(bool),
}

impl Filter {
    /// Read them. `known` are the kinds that make sense here.
    pub(super) fn read(texts: &[String], known: &[&str]) -> Result<Vec<Self>> {
        texts.iter().map(|text| Self::one(text, known)).collect()
    }

    fn one(text: &str, known: &[&str]) -> Result<Self> {
        let Some((kind, word)) = text.split_once('=') else {
            return Err(Error::usage(format!("--filter {text:?}: it is NAME=VALUE")));
        };
        if !known.contains(&kind) {
            return Err(Error::usage(format!("Invalid filter '{kind}' (there are {})", known.join(", "))));
        }
        let truth = || match word {
            "1" | "true" | "True" | "TRUE" | "t" => Ok(true),
            "0" | "false" | "False" | "FALSE" | "f" => Ok(false),
            _ => Err(Error::usage(format!("Invalid filter '{kind}=[{word}]'"))),
        };
        Ok(match kind {
            "dangling" => Self::Dangling(truth()?),
            "all" => Self::All(truth()?),
            "driver" => Self::Driver(word.to_owned()),
            "name" => Self::Name(word.to_owned()),
            _ => {
                let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
                Self::Label(name.to_owned(), value.map(str::to_owned), kind == "label")
            }
        })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Dangling(_) => 0,
            Self::Driver(_) => 1,
            Self::Name(_) => 2,
            Self::All(_) => 3,
            Self::Label(..) => 4,
        }
    }

    fn holds(&self, store: &Store, volume: &str, note: &Note) -> Result<bool> {
        Ok(match self {
            Self::Dangling(wanted) => store.volume_users(volume)?.is_empty() == *wanted,
            Self::Driver(driver) => driver == "local",
            Self::Name(part) => volume.contains(part.as_str()),
            Self::All(_) => true,
            Self::Label(name, value, wanted) => {
                let has = note.labels.get(name).is_some_and(|v| value.as_ref().is_none_or(|w| w == v));
                has == *wanted
            }
        })
    }
}

/// Whether the volume passes.
pub(super) fn take(filters: &[Filter], store: &Store, name: &str, note: &Note) -> Result<bool> {
    for filter in filters {
        let alike = filters.iter().filter(|f| f.kind() == filter.kind() && filter.kind() != 4);
        let mut passes = filter.holds(store, name, note)?;
        for other in alike {
            passes = passes || other.holds(store, name, note)?;
        }
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_unknown_or_makes_no_sense_is_named() {
        for (text, known, says) in [
            ("foo=bar", LIST, "Invalid filter 'foo'"),
            ("dangling=maybe", LIST, "Invalid filter 'dangling=[maybe]'"),
            ("name=x", PRUNE, "Invalid filter 'name'"),
            ("label", LIST, "NAME=VALUE"),
        ] {
            let e = Filter::read(&[text.to_owned()], known).unwrap_err().to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
        let read = Filter::read(&["label!=a=b".to_owned()], PRUNE).unwrap();
        assert_eq!(read, [Filter::Label("a".to_owned(), Some("b".to_owned()), false)]);
    }
}
