//! apt's lists of repositories (sources.list(5)): one a line, and as paragraphs. Nothing is fetched or looked up here.

use coracle_sys::{Error, Result};

use super::control;

/// A suite of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is, without a slash at the end.
    pub uri: String,
    /// Its suite; with a slash at the end a folder of a flat repository.
    pub suite: String,
    /// The components; none of a flat repository.
    pub components: Vec<String>,
    /// The architectures that it is for; all when there is none.
    pub architectures: Vec<String>,
    /// Files of keys, or a block of keys; those of apt when there is none.
    pub signed_by: Vec<String>,
    /// Is its age checked? Unless somebody says so, as the whole of apt is configured.
    pub check_valid_until: Option<bool>,
    /// What it may not be: an option that this program does not have, by name.
    pub refused: Option<String>,
}

impl Source {
    /// Of a repository and a suite alone.
    pub fn new(uri: &str, suite: &str, components: &[String]) -> Self {
        Self {
            uri: uri.trim_end_matches('/').to_owned(),
            suite: suite.to_owned(),
            components: components.to_vec(),
            architectures: Vec::new(),
            signed_by: Vec::new(),
            check_valid_until: None,
            refused: None,
        }
    }

    /// Where files of its index are.
    pub fn dists(&self) -> String {
        match self.suite.strip_suffix('/') {
            Some("" | ".") => self.uri.clone(),
            Some(folder) => format!("{}/{}", self.uri, folder.trim_start_matches("./")),
            None => format!("{}/dists/{}", self.uri, self.suite),
        }
    }

    /// Is it a folder without dists?
    pub fn is_flat(&self) -> bool {
        self.suite.ends_with('/')
    }

    /// Is it for this architecture?
    pub fn is_for(&self, architecture: &str) -> bool {
        self.architectures.is_empty() || self.architectures.iter().any(|a| a == architecture)
    }

    /// As a paragraph of `.sources`. Keys are named where the system `has` their file.
    pub fn paragraph(&self, checks_age: bool, has: impl Fn(&str) -> bool) -> String {
        let mut text = format!("Types: deb\nURIs: {}\nSuites: {}\n", self.uri, self.suite);
        if !self.is_flat() {
            text.push_str(&format!("Components: {}\n", self.components.join(" ")));
        }
        let keys: Vec<&str> = self.signed_by.iter().map(|k| &k[..]).filter(|k| has(k)).collect();
        if !keys.is_empty() {
            text.push_str(&format!("Signed-By: {}\n", keys.join(" ")));
        }
        if !self.check_valid_until.unwrap_or(checks_age) {
            text.push_str("Check-Valid-Until: no\n");
        }
        text
    }

    fn option(&mut self, name: &str, value: &str) {
        let words = || value.split([',', ' ', '\n', '\t']).filter(|w| !w.is_empty()).map(str::to_owned);
        let yes = matches!(&value.to_ascii_lowercase()[..], "yes" | "true" | "1" | "on" | "with" | "enable");
        match &name.to_ascii_lowercase()[..] {
            "arch" | "architectures" => self.architectures = words().collect(),
            // A block of keys has many lines, in which a dot stands for an empty one.
            "signed-by" if value.contains("-----BEGIN") => {
                let lines = value.lines().map(|l| match l.trim() {
                    "." => "",
                    other => other,
                });
                self.signed_by = vec![lines.collect::<Vec<_>>().join("\n")];
            }
            "signed-by" => self.signed_by = words().collect(),
            "check-valid-until" => self.check_valid_until = Some(yes),
            "trusted" | "allow-insecure" | "allow-weak" if yes => {
                self.refused = Some(format!("{name} = {value}: what nobody signed is not taken"));
            }
            // How apt fetches, and what it fetches beside packages; nothing of it changes what is taken.
            "trusted"
            | "allow-insecure"
            | "allow-weak"
            | "lang"
            | "languages"
            | "target"
            | "targets"
            | "pdiffs"
            | "by-hash"
            | "allow-downgrade-to-insecure"
            | "check-date"
            | "enabled" => {}
            _ => self.refused = Some(format!("the option {name} is not known")),
        }
    }
}

/// A list with one a line.
pub fn parse_list(text: &str, architecture: &str) -> Result<Vec<Source>> {
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let one =
            parse_line(line, architecture).map_err(|e| Error::invalid(format!("line {}: {e}", n + 1)))?;
        all.extend(one);
    }
    Ok(all)
}

fn parse_line(line: &str, architecture: &str) -> Result<Option<Source>> {
    let (kind, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match kind {
        "deb" => {}
        "deb-src" => return Ok(None),
        other => return Err(Error::invalid(format!("{other:?} is neither deb nor deb-src"))),
    }
    let mut rest = rest.trim_start();
    let mut options = "";
    if let Some(inner) = rest.strip_prefix('[') {
        let (inside, behind) =
            inner.split_once(']').ok_or_else(|| Error::invalid("its options do not end with a bracket"))?;
        (options, rest) = (inside, behind);
    }
    let mut words = rest.split_whitespace();
    let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
        return Err(Error::invalid("it is deb [OPTIONS] URI SUITE COMPONENT..."));
    };
    let components: Vec<String> = words.map(str::to_owned).collect();
    let mut source = Source::new(uri, &suite.replace("$(ARCH)", architecture), &components);
    for option in options.split_whitespace() {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("the option {option:?} has no value")))?;
        source.option(name.trim_end_matches(['+', '-']), value);
    }
    check(&source)?;
    Ok(Some(source))
}

/// A list of paragraphs.
pub fn parse_sources(text: &str, architecture: &str) -> Result<Vec<Source>> {
    let mut all = Vec::new();
    for paragraph in control::paragraphs(text)? {
        let words = |name: &str| {
            let value = paragraph.get(name).unwrap_or_default();
            value.split_whitespace().filter(|w| !w.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let off = |v: &str| matches!(&v.to_ascii_lowercase()[..], "no" | "false" | "0" | "off");
        if paragraph.get("Enabled").is_some_and(off) || !words("Types").iter().any(|t| t == "deb") {
            continue;
        }
        paragraph.must("URIs")?;
        paragraph.must("Suites")?;
        for uri in words("URIs") {
            for suite in words("Suites") {
                let mut source =
                    Source::new(&uri, &suite.replace("$(ARCH)", architecture), &words("Components"));
                for (name, value) in paragraph.fields() {
                    if !["types", "uris", "suites", "components"].contains(&&name.to_ascii_lowercase()[..])
                        && !name.to_ascii_lowercase().starts_with("x-")
                    {
                        source.option(name, value);
                    }
                }
                check(&source).map_err(|e| Error::invalid(format!("line {}: {e}", paragraph.line)))?;
                all.push(source);
            }
        }
    }
    Ok(all)
}

fn check(source: &Source) -> Result<()> {
    if !source.uri.contains(":/") {
        return Err(Error::invalid(format!("{:?} is no address", source.uri)));
    }
    match source.is_flat() == source.components.is_empty() {
        true => Ok(()),
        false if source.is_flat() => Err(Error::invalid("a flat repository has no components")),
        false => Err(Error::invalid(format!("the suite {:?} is without components", source.suite))),
    }
}

/// The sources that a system of this suite has, of those of this machine: the suite itself with its updates and its
/// security. Where there are none, those of the machine's own `codename` give their places.
pub fn of_suite(all: &[Source], suite: &str, codename: Option<&str>) -> Vec<Source> {
    let belong = |of: &str, source: &Source| {
        let rest = source.suite.strip_prefix(of)?;
        matches!(rest, "" | "-updates" | "-security" | "/updates").then(|| format!("{suite}{rest}"))
    };
    let chosen = |of: &str| -> Vec<Source> {
        all.iter()
            .filter_map(|source| Some(Source { suite: belong(of, source)?, ..source.clone() }))
            .collect()
    };
    let own = chosen(suite);
    if own.iter().any(|s| s.suite == suite) {
        return own;
    }
    codename.map(chosen).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let line = "# all\ndeb [arch=amd64,arm64 signed-by=/k.gpg check-valid-until=no] http://m.example/debian/ stable main contrib # x\n\
                    deb-src http://m.example/debian stable main\n";
        let paragraph = "Types: deb deb-src\nURIs: http://m.example/debian/\nSuites: stable\nComponents: main contrib\n\
                         Architectures: amd64 arm64\nSigned-By: /k.gpg\nCheck-Valid-Until: no\n\n\
                         Types: deb\nEnabled: no\nURIs: http://n.example\nSuites: x\nComponents: main\n";
        let list = parse_list(line, "amd64").unwrap();
        assert_eq!(list, parse_sources(paragraph, "amd64").unwrap());
        let [one] = &list[..] else { panic!("{list:?}") };
        assert_eq!(one.uri, "http://m.example/debian");
        assert_eq!(
            (one.check_valid_until, one.is_for("arm64"), one.is_for("i386")),
            (Some(false), true, false)
        );
        assert_eq!(one.dists(), "http://m.example/debian/dists/stable");
        let flat = &parse_list("deb file:/srv/r ./\ndeb file:/srv/r a/$(ARCH)/\n", "amd64").unwrap();
        assert_eq!((&flat[0].dists()[..], &flat[1].dists()[..]), ("file:/srv/r", "file:/srv/r/a/amd64"));
    }

    #[test]
    fn keys_may_stand_in_the_paragraph() {
        let text = "Types: deb\nURIs: http://m.example\nSuites: s\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let one = &parse_sources(text, "amd64").unwrap()[0];
        assert_eq!(
            one.signed_by,
            ["-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, says) in [
            ("deb http://m.example\n", "line 1: it is deb"),
            ("\nrpm http://m.example s main\n", "line 2: \"rpm\""),
            ("deb [arch=amd64 http://m.example s main\n", "bracket"),
            ("deb [arch] http://m.example s main\n", "has no value"),
            ("deb m.example s main\n", "no address"),
            ("deb http://m.example s\n", "without components"),
            ("deb http://m.example s/ main\n", "flat"),
        ] {
            let e = parse_list(text, "amd64").expect_err(text).to_string();
            assert!(e.contains(says), "{text:?}: {e}");
        }
        assert!(parse_sources("Types: deb\nSuites: s\n", "amd64").is_err());
        let refused = |text| parse_list(text, "amd64").unwrap()[0].refused.clone().unwrap_or_default();
        assert!(refused("deb [trusted=yes] http://m.example s main\n").starts_with("trusted = yes"));
        assert!(refused("deb [colour=red] http://m.example s main\n").contains("colour"));
    }

    #[test]
    fn a_suite_has_its_updates_and_takes_the_places_of_the_machine_s_own() {
        let main = ["main".to_owned()];
        let all = [
            Source::new("http://a.example", "bookworm", &main),
            Source::new("http://a.example", "bookworm-updates", &main),
            Source::new("http://s.example", "bookworm-security", &main),
            Source::new("http://t.example", "tools-bookworm", &main),
            Source::new("http://a.example", "bookworm-backports", &main),
        ];
        let suites = |suite, own| -> Vec<String> {
            of_suite(&all, suite, own).iter().map(|s| s.suite.clone()).collect()
        };
        assert_eq!(suites("bookworm", None), ["bookworm", "bookworm-updates", "bookworm-security"]);
        assert_eq!(suites("trixie", Some("bookworm")), ["trixie", "trixie-updates", "trixie-security"]);
        assert!(suites("trixie", None).is_empty());
    }
}
