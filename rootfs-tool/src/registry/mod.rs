//! Registries: a client of the OCI distribution specification, and docker's ways around it. What people have
//! already (docker's config.json and certs.d, containers' registries.conf) is read.

mod auth;
mod blob;
pub mod challenge;
mod client;
mod credentials;
mod dirs;
mod download;
mod endpoints;
mod fetch;
mod http;
mod insist;
mod keychain;
mod pace;
mod proxy;
mod search;
mod tls;
mod upload;

pub(crate) use client::{Access, Client, Repository};
pub(crate) use credentials::{Credentials, Login};
pub(crate) use download::Downloads;
pub(crate) use endpoints::host_of;
pub(crate) use fetch::fetch;
pub(crate) use proxy::Named;
pub(crate) use search::{Found, search};
pub(crate) use upload::Sent;

use coracle_sys::Result;

/// The registry at `host` itself, as `--tls-verify` and the configuration let it be spoken to.
pub(crate) fn client_of(host: &str, tls_verify: Option<bool>, login: Option<Login>) -> Result<Client> {
    Ok(Client::of(&endpoints::Endpoints::read()?.of_registry(host)?, tls_verify, login))
}
