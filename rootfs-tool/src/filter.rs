//! `--filter` of what lists and removes images, in docker's words. Which of them a verb has, it says itself.

use std::collections::{HashMap, HashSet};

use coracle_store::image::{CREATED, Descriptor};
use coracle_store::{Digest, Image, Store};
use coracle_sys::{Error, Result};

use coracle_sys::time;

/// One filter, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Made before this, seconds since the epoch.
    Until(i64),
    /// It has, or has not, a label.
    Label {
        key: String,
        value: Option<String>,
        is: bool,
    },
    /// It has no name, or it has one.
    Dangling(bool),
    /// Made before this image, or after it.
    Before(String),
    Since(String),
    /// Its name is of this pattern.
    Reference(String),
}

/// When an image was made, in RFC 3339: as it says itself, or, of a reproducible one, as the store has noted it.
pub(crate) fn created(image: &Image) -> Option<String> {
    let own = image.config.created.clone().filter(|t| time::parse(t).is_some_and(|t| t > 0));
    own.or_else(|| image.descriptor.annotations.as_ref()?.get(CREATED).cloned())
}

/// The images that have a name. One that lies here under several manifests has it when one of those has: compressed,
/// as it came, and plain, as it was loaded, it is the same image.
pub(crate) struct Named(HashSet<Digest>);

impl Named {
    /// Of entries of an index, with the images that they lead to, as far as those can be read.
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = (&'a Descriptor, Option<&'a Image>)>) -> Self {
        let named = all.into_iter().filter(|(d, _)| d.ref_name().is_some());
        Self(named.flat_map(|(d, i)| [Some(d.digest), i.map(Image::id)]).flatten().collect())
    }

    /// Has the image a name?
    pub(crate) fn has(&self, image: &Image) -> bool {
        self.0.contains(&image.descriptor.digest) || self.0.contains(&image.id())
    }
}

fn seconds(image: &Image) -> Option<i64> {
    time::parse(&created(image)?)
}

/// Filters of which an image must pass all; of several references it need be but one.
pub(crate) struct Filters {
    all: Vec<Filter>,
    /// When the images were made that others name.
    times: HashMap<String, i64>,
}

impl Filters {
    /// Read filters. `known` are the names that the verb takes.
    pub(crate) fn read(typed: &[String], known: &[&str]) -> Result<Self> {
        let all = typed.iter().map(|f| parse(f, known)).collect::<Result<_>>()?;
        Ok(Self { all, times: HashMap::new() })
    }

    /// The earliest of the times before which it is to be.
    pub(crate) fn until(&self) -> Option<i64> {
        let time = |filter: &Filter| match filter {
            Filter::Until(then) => Some(*then),
            _ => None,
        };
        self.all.iter().filter_map(time).min()
    }

    /// Does it take all?
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Add a reference.
    pub(crate) fn and_reference(&mut self, pattern: &str) {
        self.all.push(Filter::Reference(pattern.to_owned()));
    }

    /// Look up the images that filters name.
    pub(crate) fn look_up(&mut self, store: &Store) -> Result<()> {
        for filter in &self.all {
            if let Filter::Before(named) | Filter::Since(named) = filter {
                let image = store.resolve(named)?;
                self.times.insert(named.clone(), seconds(&image).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Does an image pass?
    pub(crate) fn take(&self, image: &Image, named: &Named) -> bool {
        let name = image.name.as_deref().unwrap_or_default();
        let mut references = self.all.iter().filter_map(|f| match f {
            Filter::Reference(pattern) => Some(pattern),
            _ => None,
        });
        let any = references.clone().next().is_none() || references.any(|p| name_matches(p, name));
        any && self.all.iter().all(|filter| match filter {
            Filter::Reference(_) => true,
            Filter::Until(then) => seconds(image).is_some_and(|t| t < *then),
            Filter::Before(of) => seconds(image) < self.times.get(of).copied(),
            Filter::Since(of) => seconds(image) > self.times.get(of).copied(),
            Filter::Dangling(is) => named.has(image) != *is,
            Filter::Label { key, value, is } => {
                let labels = image.config.process().labels.unwrap_or_default();
                let found = labels.get(key).is_some_and(|v| value.as_ref().is_none_or(|w| w == v));
                found == *is
            }
        })
    }
}

fn parse(typed: &str, known: &[&str]) -> Result<Filter> {
    let bad = || Error::usage(format!("filter by {typed:?}: there are {}", known.join(", ")));
    let label = |text: &str, is| {
        let (key, value) = text.split_once('=').map_or((text, None), |(k, v)| (k, Some(v.to_owned())));
        Filter::Label { key: key.to_owned(), value, is }
    };
    let (key, value) = match typed.strip_prefix("label!=") {
        Some(value) => ("label!", value),
        None => typed.split_once('=').ok_or_else(bad)?,
    };
    if value.is_empty() || !known.iter().any(|k| k.split('=').next() == Some(key)) {
        return Err(bad());
    }
    match key {
        "label" => Ok(label(value, true)),
        "label!" => Ok(label(value, false)),
        "reference" => Ok(Filter::Reference(value.to_owned())),
        "before" => Ok(Filter::Before(value.to_owned())),
        "since" => Ok(Filter::Since(value.to_owned())),
        "dangling" => match value {
            "true" | "1" => Ok(Filter::Dangling(true)),
            "false" | "0" => Ok(Filter::Dangling(false)),
            _ => Err(bad()),
        },
        "until" => {
            let ago = duration(value).map(|d| time::now() - d);
            ago.or_else(|| time::parse(value))
                .or_else(|| value.parse().ok())
                .map(Filter::Until)
                .ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}

/// Go's durations: `1h30m`, in seconds.
fn duration(text: &str) -> Option<i64> {
    let mut sum = 0i64;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        sum = sum.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && !text.is_empty()).then_some(sum)
}

/// Does a pattern mean this name? As in docker, the registry may be left out, and the tag.
fn name_matches(pattern: &str, name: &str) -> bool {
    let repository = |n: &str| match n.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
        _ => n.to_owned(),
    };
    let repository = repository(name);
    let short = |n: &str| {
        n.split_once('/').map_or(n.to_owned(), |(_, rest)| rest.trim_start_matches("library/").to_owned())
    };
    let names = [name.to_owned(), repository.clone(), short(name), short(&repository)];
    names.iter().any(|n| glob(pattern.as_bytes(), n.as_bytes()))
}

/// `*` and `?`, in time that grows with both lengths alone.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_may_leave_registry_and_tag_out() {
        for (pattern, fits) in [
            ("shell", true),
            ("shell:latest", true),
            ("localhost/shell", true),
            ("sh*", true),
            ("s?ell", true),
            ("*:v1", false),
            ("bash", false),
            ("*a*a*a*a*a*a*a*a*b", false),
        ] {
            assert_eq!(name_matches(pattern, "localhost/shell:latest"), fits, "{pattern}");
        }
        assert!(name_matches("debian:*", "docker.io/library/debian:12"));
        assert!(glob(b"*a**b?", b"xxaybz") && !glob(b"a*b", b"ab c"));
    }

    #[test]
    fn a_filter_that_a_verb_has_not_is_refused_with_those_that_it_has() {
        let known = ["label=KEY[=VALUE]", "label!=KEY[=VALUE]", "until=TIME", "dangling=BOOL"];
        let read = |f: &str| Filters::read(&[f.to_owned()], &known);
        let label = |value: Option<&str>, is| Filter::Label {
            key: "a".to_owned(),
            value: value.map(str::to_owned),
            is,
        };
        for (typed, filter) in [
            ("label=a", label(None, true)),
            ("label=a=b=c", label(Some("b=c"), true)),
            ("label!=a=b", label(Some("b"), false)),
            ("until=1970-01-01T00:01:00Z", Filter::Until(60)),
            ("until=1700000000", Filter::Until(1_700_000_000)),
            ("dangling=false", Filter::Dangling(false)),
        ] {
            assert_eq!(read(typed).map(|f| f.all).unwrap(), [filter], "{typed}");
        }
        for bad in ["reference=x", "label", "label=", "until=soon", "dangling=maybe", "x=y", ""] {
            let e = read(bad).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains("until=TIME, dangling=BOOL"), "{bad}: {e}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        for (text, seconds) in [
            ("24h", Some(86400)),
            ("1h30m5s", Some(5405)),
            ("10", None),
            ("", None),
            ("h", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
