//! Proving who we are: the token protocol of docker's registries and basic authentication. A registry is asked
//! without, says what it wants, and is asked again with it. Credentials go to the registry itself and to the
//! token server that it names, by TLS unless the registry may be spoken to without.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result};
use serde_json::Value;
use ureq::http::Method;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};

use super::challenge::{self, Challenge};
use super::credentials::Login;
use super::endpoints::{host_of, is_loopback};
use super::http::{Answer, Ask, Http, SMALL, origin};
use super::insist::{Failure, insist};

/// What is known of a registry's wishes.
pub(super) struct Auth {
    login: Option<Login>,
    /// What goes into the header, by scope; without a scope it is good for all.
    headers: Mutex<HashMap<String, String>>,
}

impl Auth {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login, headers: Mutex::default() }
    }

    /// The header that has worked for a scope.
    fn known(&self, scope: &str) -> Option<String> {
        let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.get(scope).or_else(|| headers.get("")).cloned()
    }

    /// Ask the registry, for what `scope` names (`repository:a/b:pull`), proving who we are when it wants that.
    /// `ask` makes the request anew each time.
    pub(super) fn ask<'a>(
        &self,
        http: &Http,
        path: &str,
        scope: &str,
        ask: impl Fn() -> Result<Ask<'a>, Failure>,
    ) -> Result<Answer, Failure> {
        let known = self.known(scope);
        let with = |header: Option<&String>| {
            let ask = ask()?;
            http.ask(path, header.into_iter().fold(ask, |ask, h| ask.header(AUTHORIZATION, h)))
        };
        let answer = with(known.as_ref())?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let Some(header) = self.answer(http, scope, &answer)? else { return Ok(answer) };
        if known.as_ref() == Some(&header) {
            return Ok(answer);
        }
        let again = with(Some(&header))?;
        if again.status != 401 {
            let key = if header.starts_with("Basic ") { "" } else { scope };
            let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
            headers.insert(key.to_owned(), header);
        }
        Ok(again)
    }

    /// What the challenge wants; none when we have it not.
    fn answer(&self, http: &Http, scope: &str, refused: &Answer) -> Result<Option<String>, Failure> {
        let all: Vec<Challenge> = refused
            .headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        if origin(&refused.uri) != http.host {
            return Ok(None);
        }
        if let Some(bearer) = all.iter().find(|c| c.scheme == "bearer") {
            let token = self.token(http, scope, bearer)?;
            return Ok(Some(format!("Bearer {token}")));
        }
        if all.iter().any(|c| c.scheme == "basic")
            && let Some(Login::Password { user, password }) = &self.login
        {
            if refused.uri.scheme_str() != Some("https") && !http.is_insecure() {
                return Err(Error::new(
                    Kind::Denied,
                    format!("{}: it wants a password over plain HTTP", refused.asked),
                )
                .into());
            }
            return Ok(Some(basic(user, password)));
        }
        Ok(None)
    }

    /// A token for a scope, from the server that the challenge names.
    fn token(&self, http: &Http, scope: &str, bearer: &Challenge) -> Result<String> {
        let realm = bearer.get("realm").unwrap_or_default();
        let bad = |why: &str| {
            let shown: String = harmless(realm).chars().take(300).collect();
            Error::new(Kind::Denied, format!("get a token from {shown:?}: {why}"))
        };
        // That a registry may be spoken to without TLS is not for every host that it names.
        let is_own = || {
            let named = host_of(realm);
            host_alone(named) == host_alone(&http.host) || is_loopback(named)
        };
        if !(realm.starts_with("https://") || realm.starts_with("http://") && http.is_insecure() && is_own())
        {
            return Err(bad("the registry names no address of a token server that speaks TLS"));
        }
        let scope = if scope.is_empty() { bearer.get("scope").unwrap_or_default() } else { scope };
        let service = bearer.get("service").unwrap_or_default();
        let mut answer = match &self.login {
            Some(Login::Identity(token)) => insist(|| {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "coracle"),
                    ("service", service),
                    ("scope", scope),
                    ("refresh_token", token),
                ]
                .map(|(k, v)| format!("{k}={}", encode(v)))
                .join("&");
                let ask = Ask {
                    body: Some((Box::new(form.as_bytes()), form.len() as u64)),
                    ..Ask::new(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                };
                http.go(realm, ask)?.settled()
            })?,
            other => insist(|| {
                let mut ask = Ask::new(Method::GET);
                let mut url = realm.to_owned();
                let scopes = scope.split(' ').filter(|s| !s.is_empty()).map(|s| ("scope", s));
                for (key, value) in
                    [("service", service)].into_iter().filter(|(_, s)| !s.is_empty()).chain(scopes)
                {
                    url.push(if url.contains('?') { '&' } else { '?' });
                    url.push_str(&format!("{key}={}", encode(value)));
                }
                if let Some(Login::Password { user, password }) = other {
                    ask = ask.header(AUTHORIZATION, basic(user, password));
                }
                http.go(&url, ask)?.settled()
            })?,
        };
        if answer.status != 200 {
            return Err(answer.error().wrap("get a token"));
        }
        let text = answer.bytes(SMALL).map_err(Failure::error)?;
        let value: Value = serde_json::from_slice(&text).map_err(|_| bad("its answer is no JSON"))?;
        let token = ["token", "access_token"].into_iter().find_map(|key| value[key].as_str());
        let token = token.filter(|t| !t.is_empty()).ok_or_else(|| bad("its answer holds no token"))?;
        match token.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(token.to_owned()),
            false => Err(bad("its token is none")),
        }
    }
}

/// A host without its port.
fn host_alone(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((alone, port)) if port.bytes().all(|b| b.is_ascii_digit()) => alone,
        _ => host,
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// As a value of a query (RFC 3986, section 2.1).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(b));
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
