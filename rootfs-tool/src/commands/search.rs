//! `rootfs-tool search`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::reference::{DEFAULT, is_registry};
use coracle_sys::print::harmless;
use coracle_sys::table;
use coracle_sys::template::Template;
use coracle_sys::{Error, Result};
use serde_json::{Value, json};

use crate::registry::{self, Credentials, Found};

/// Search a registry for repositories. TERM may begin with a registry: localhost:5000/web.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "search",
    example = "rootfs-tool search debian
rootfs-tool search --filter is-official=true --limit 5 localhost:5000/web"
)]
pub(crate) struct Search {
    /// at most so many, 1 to 100 (default 25)
    #[argh(option, arg_name = "N")]
    limit: Option<usize>,
    /// stars=N or is-official=true|false
    #[argh(option, short = 'f', arg_name = "FILTER")]
    filter: Vec<String>,
    /// print each by a Go template, or json for one object a line
    #[argh(option, arg_name = "TEMPLATE")]
    format: Option<String>,
    /// whole descriptions
    #[argh(switch, long = "no-trunc")]
    no_trunc: bool,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// what to look for
    #[argh(positional, arg_name = "term")]
    term: String,
}

impl Search {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let limit = self.limit.unwrap_or(25);
        if !(1..=100).contains(&limit) {
            return Err(Error::usage(format!("--limit {limit}: it is 1 to 100")));
        }
        let template = self.format.as_deref().map(Template::parse).transpose()?;
        let filters: Vec<Filter> = self.filter.iter().map(|f| f.parse()).collect::<Result<_>>()?;
        let (registry, term) = match self.term.split_once('/') {
            Some((first, term)) if is_registry(first) => (first, term),
            // A host with its port is nothing to tell docker.io: all that is there is asked for.
            None if is_registry(&self.term) && self.term.contains(':') => (self.term.as_str(), ""),
            _ => (DEFAULT, self.term.as_str()),
        };
        let login = Credentials::read()?.of(registry, "")?;
        let client = match registry {
            // Docker searches its index, which is no registry.
            DEFAULT => registry::Client::new("index.docker.io", self.tls_verify == Some(false), None),
            registry => registry::client_of(registry, self.tls_verify, login)?,
        };
        let mut found = registry::search(&client, term, limit)
            .map_err(|e| e.wrap(format!("search {registry} for {:?}", harmless(term))))?;
        found.retain(|f| filters.iter().all(|filter| filter.takes(f)));
        let rows: Vec<Value> = found.iter().map(|f| row(registry, f, self.no_trunc)).collect();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
        } else if let Some(template) = template {
            template.print(&rows)?;
        } else {
            let head = ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|r| {
                let official = if r["IsOfficial"] == "true" { "[OK]" } else { "" };
                vec![text(r, "Name"), text(r, "Description"), text(r, "StarCount"), official.to_owned()]
            }));
            table::print(&lines, !self.no_trunc);
        }
        Ok(())
    }
}

/// The fields are docker's; its values are text.
fn row(registry: &str, f: &Found, whole: bool) -> Value {
    let name = if registry == DEFAULT { f.name.clone() } else { format!("{registry}/{}", f.name) };
    let mut description = f.description.split_whitespace().collect::<Vec<_>>().join(" ");
    if !whole && description.chars().count() > 45 {
        description = description.chars().take(44).collect::<String>() + "…";
    }
    json!({
        "Name": name,
        "Description": description,
        "StarCount": f.stars.to_string(),
        "IsOfficial": f.official.to_string(),
        "IsAutomated": "false",
    })
}

enum Filter {
    Stars(u64),
    Official(bool),
}

impl Filter {
    fn takes(&self, f: &Found) -> bool {
        match self {
            Self::Stars(least) => f.stars >= *least,
            Self::Official(wanted) => f.official == *wanted,
        }
    }
}

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::usage(format!("filter by {s:?}: there are stars=N and is-official=true|false"));
        match s.split_once('=') {
            Some(("stars", n)) => n.parse().map(Self::Stars).map_err(|_| bad()),
            Some(("is-official", b)) => b.parse().map(Self::Official).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}
