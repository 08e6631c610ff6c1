//! Searching: docker's `/v1/search` where the registry has it, else the names of its catalog.

use coracle_sys::{Error, Kind, Result};
use serde_json::Value;
use ureq::http::Method;

use super::auth::encode;
use super::client::Client;
use super::http::{Ask, SMALL};
use super::insist::insist;

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name, as it is pulled.
    pub(crate) name: String,
    /// What its owner says of it.
    pub(crate) description: String,
    /// How many people like it.
    pub(crate) stars: u64,
    /// It is docker's own.
    pub(crate) official: bool,
}

/// Search a registry for `term`, for at most `limit` repositories. Names are as the registry gives them.
pub(crate) fn search(client: &Client, term: &str, limit: usize) -> Result<Vec<Found>> {
    match by_api(client, term, limit) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            let wanted = term.to_lowercase();
            let mut names = client.catalog()?;
            names.retain(|n| n.to_lowercase().contains(&wanted));
            names.truncate(limit);
            Ok(names.into_iter().map(|name| Found { name, ..Found::default() }).collect())
        }
        Err(e) => Err(e),
    }
}

/// None where the registry has no such API.
fn by_api(client: &Client, term: &str, limit: usize) -> Result<Option<Vec<Found>>> {
    if term.is_empty() {
        return Ok(None);
    }
    let path = format!("/v1/search?q={}&n={limit}", encode(term));
    let mut answer = insist(|| client.http.ask(&path, Ask::new(Method::GET)))?;
    if answer.status != 200 {
        return match answer.status {
            400..500 => Ok(None),
            _ => Err(answer.error()),
        };
    }
    let bytes = answer.bytes(SMALL).map_err(super::insist::Failure::error)?;
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return Ok(None) };
    let Some(results) = value["results"].as_array() else {
        return Err(Error::new(Kind::Invalid, format!("{}: the answer holds no results", answer.asked)));
    };
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let found = results.iter().map(|v| Found {
        name: text(v, "name"),
        description: text(v, "description"),
        stars: v["star_count"].as_u64().unwrap_or(0),
        official: v["is_official"].as_bool().unwrap_or(false),
    });
    Ok(Some(found.filter(|f| !f.name.is_empty()).take(limit).collect()))
}
