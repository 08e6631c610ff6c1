//! `rootfs-tool login` and `rootfs-tool logout`.

use std::io::{BufRead, IsTerminal, Read, Write};

use argh::{ArgsInfo, FromArgs};
use coracle_store::reference::DEFAULT;
use coracle_sys::terminal::{self, Hidden};
use coracle_sys::{Context, Error, Kind, Result};

use crate::registry::{self, Credentials};

/// Prove who you are to a registry, and keep what it was shown in docker's config.json, or with the helper
/// that it names.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "login",
    example = "rootfs-tool login -u me registry.example
rootfs-tool login -u me --password-stdin registry.example < token"
)]
pub(crate) struct Login {
    /// the name
    #[argh(option, short = 'u', long = "username", arg_name = "NAME")]
    username: Option<String>,
    /// the password, which others see in the list of processes
    #[argh(option, short = 'p', long = "password", arg_name = "PASSWORD")]
    password: Option<String>,
    /// read the password from standard input
    #[argh(switch, long = "password-stdin")]
    password_stdin: bool,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// its host, with its port; docker.io when none is named
    #[argh(positional, arg_name = "registry")]
    registry: Option<String>,
}

impl Login {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let registry = registry::host_of(self.registry.as_deref().unwrap_or(DEFAULT)).to_owned();
        let mut credentials = Credentials::read()?;
        let login = self.ask(&registry, &credentials)?;
        let client = registry::client_of(&registry, self.tls_verify, Some(login.clone()))?;
        client.ping().map_err(|e| match e.kind() {
            Kind::Denied if !e.to_string().contains("get a token from") => Error::new(
                Kind::Denied,
                format!("log in to {registry}: it does not let us in: the name or the password is wrong"),
            ),
            _ => e.wrap(format!("log in to {registry}")),
        })?;
        let place = credentials.keep(&registry, &login)?;
        if !place.starts_with("docker-credential-") {
            coracle_sys::warn!(
                "WARNING: the password is stored unencrypted in {place}; a credential helper hides it"
            );
        }
        coracle_sys::say!("Login Succeeded");
        Ok(())
    }

    fn ask(&self, registry: &str, credentials: &Credentials) -> Result<registry::Login> {
        if self.password_stdin && self.password.is_some() {
            return Err(Error::usage("--password and --password-stdin exclude each other"));
        }
        if self.password_stdin && self.username.is_none() {
            return Err(Error::usage("--password-stdin needs --username"));
        }
        let known = match (&self.username, &self.password) {
            (None, None) if !self.password_stdin => credentials.of(registry, "")?,
            _ => None,
        };
        if let Some(known) = known {
            coracle_sys::say!("Authenticating with existing credentials...");
            return Ok(known);
        }
        let interactive = std::io::stdin().is_terminal();
        let user = match &self.username {
            Some(user) => user.clone(),
            None if interactive => prompt("Username: ")?,
            None => return Err(Error::usage("login needs --username where there is no terminal to ask on")),
        };
        let password = match &self.password {
            Some(password) => password.clone(),
            None if self.password_stdin => {
                let mut text = String::new();
                std::io::stdin().take(1 << 20).read_to_string(&mut text).context(|| "read standard input")?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None if interactive => {
                let hidden = Hidden::begin(terminal::standard_input())?;
                let password = prompt("Password: ");
                drop(hidden);
                coracle_sys::warn!("");
                password?
            }
            None => {
                return Err(Error::usage(
                    "login needs --password-stdin where there is no terminal to ask on",
                ));
            }
        };
        if user.contains(':') {
            return Err(Error::usage(
                "log in: a user's name has no colon, which stands before the password (RFC 7617)",
            ));
        }
        if user.is_empty() || password.is_empty() {
            return Err(Error::usage("log in: the name or the password is empty"));
        }
        Ok(registry::Login::Password { user, password })
    }
}

/// Forget what a registry was shown.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logout", example = "rootfs-tool logout registry.example")]
pub(crate) struct Logout {
    /// of all registries
    #[argh(switch, short = 'a')]
    all: bool,
    /// its host, with its port; docker.io when none is named
    #[argh(positional, arg_name = "registry")]
    registry: Option<String>,
}

impl Logout {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.all && self.registry.is_some() {
            return Err(Error::usage("--all and a registry exclude each other"));
        }
        let registry = registry::host_of(self.registry.as_deref().unwrap_or(DEFAULT)).to_owned();
        let mut credentials = Credentials::read()?;
        let known = credentials.forget((!self.all).then_some(registry.as_str()))?;
        match (self.all, known) {
            (true, _) => coracle_sys::say!("Removed all login credentials"),
            (false, true) => coracle_sys::say!("Removing login credentials for {registry}"),
            (false, false) => coracle_sys::say!("Not logged in to {registry}"),
        }
        Ok(())
    }
}

fn prompt(what: &str) -> Result<String> {
    let mut err = std::io::stderr();
    err.write_all(what.as_bytes()).and_then(|()| err.flush()).context(|| "write to the terminal")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context(|| "read the terminal")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
