//! Docker's credential helpers: `docker-credential-NAME get|store|erase`, which keep what a registry is shown out of
//! the file.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use coracle_sys::{Context, Error, Kind, Result};
use serde_json::Value;

use super::credentials::Login;

/// The longest answer.
const MOST: u64 = 1 << 20;

/// What a helper has for a registry.
pub(super) fn ask(helper: &str, key: &str) -> Result<Option<Login>> {
    let said = match run(helper, "get", key) {
        Ok(said) => said,
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let value: Value = serde_json::from_str(&said)
        .map_err(|_| Error::invalid(format!("run docker-credential-{helper}: its answer is no JSON")))?;
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(Some(match text("Username") {
        user if user == "<token>" => Login::Identity(text("Secret")),
        user => Login::Password { user, password: text("Secret") },
    }))
}

/// `docker-credential-HELPER VERB`, with `input`. That it has nothing is [`Kind::NotFound`].
pub(super) fn run(helper: &str, verb: &str, input: &str) -> Result<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if helper.is_empty() || !helper.chars().all(sound) {
        return Err(Error::invalid(format!("run the credential helper {helper:?}: its name is no name")));
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| format!("run {program}"))
        // Not the credentials, but who has them is missing.
        .map_err(|e| e.with_kind(Kind::System))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has its reasons, and tells them.
        let _ = stdin.write_all(input.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MOST + 1).read_to_end(&mut said).context(|| format!("read what {program} says"))?;
    }
    if said.len() as u64 > MOST {
        let _ = child.kill();
    }
    let status = child.wait().context(|| format!("wait for {program}"))?;
    if said.len() as u64 > MOST {
        return Err(Error::invalid(format!("run {program} {verb}: it says more than {MOST} bytes")));
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    if status.success() {
        return Ok(said);
    }
    let none = said.to_lowercase().contains("credentials not found");
    let kind = if none { Kind::NotFound } else { Kind::Denied };
    // An answer is a secret, also of one that has failed.
    let why = said.trim().lines().next().filter(|line| !line.starts_with(['{', '[']));
    Err(Error::new(kind, format!("run {program} {verb}: {}", why.unwrap_or("it has failed"))))
}
