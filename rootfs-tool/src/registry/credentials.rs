//! Who we are to a registry: docker's config.json with its credential helpers, and containers' auth.json
//! (containers-auth.json(5)). `login` and `logout` change the first of them.

use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value, json};

use super::endpoints::without_scheme;
use super::{dirs, keeper};

/// What docker.io is called in these files.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token server gives access tokens for.
    Identity(String),
}

/// The files, the strongest first.
pub(crate) struct Credentials {
    files: Vec<(PathBuf, Map<String, Value>)>,
}

impl Credentials {
    /// Read what is there.
    pub(crate) fn read() -> Result<Self> {
        let mut files = Vec::new();
        for path in paths() {
            let bytes = match file::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)) => {
                    continue;
                }
                Err(e) => return Err(e.wrap("read the registries' credentials")),
            };
            files.push((path.clone(), parse(&bytes).context(|| format!("read {path:?}"))?));
        }
        Ok(Self { files })
    }

    /// What there is for `registry`, of which `path` is a repository.
    pub(crate) fn of(&self, registry: &str, path: &str) -> Result<Option<Login>> {
        for (file, config) in &self.files {
            let from = || format!("read the credentials of {registry} in {file:?}");
            for key in keys(registry, path) {
                if let Some(helper) =
                    config.get("credHelpers").and_then(|h| h.get(&key)).and_then(Value::as_str)
                    && let Some(login) = keeper::ask(helper, &key).context(from)?
                {
                    return Ok(Some(login));
                }
            }
            let auths = config.get("auths").and_then(Value::as_object);
            let entry = |key: &String| auths?.iter().find(|(k, _)| same(k, key)).map(|(_, v)| v);
            if let Some(login) = keys(registry, path).iter().find_map(|key| stored(entry(key)?).transpose()) {
                return login.map(Some).context(from);
            }
            if let Some(helper) = config.get("credsStore").and_then(Value::as_str) {
                let key = if is_docker(registry) { DOCKER_KEY } else { registry };
                if let Some(login) = keeper::ask(helper, key).context(from)? {
                    return Ok(Some(login));
                }
            }
        }
        Ok(None)
    }

    /// Keep a login. The file it was written to comes back, or the helper that has it.
    pub(crate) fn keep(&mut self, registry: &str, login: &Login) -> Result<String> {
        let path = written()?;
        let (mut config, _alone) = to_change(&path)?;
        let key = if is_docker(registry) { DOCKER_KEY } else { registry };
        if let Some(helper) = helper_of(&config, key) {
            let (user, secret) = match login {
                Login::Password { user, password } => (user.as_str(), password.as_str()),
                Login::Identity(token) => ("<token>", token.as_str()),
            };
            let text = json!({"ServerURL": key, "Username": user, "Secret": secret}).to_string();
            keeper::run(&helper, "store", &text)?;
            return Ok(format!("docker-credential-{helper}"));
        }
        let entry = match login {
            Login::Password { user, password } => {
                json!({"auth": STANDARD.encode(format!("{user}:{password}"))})
            }
            Login::Identity(token) => json!({"identitytoken": token}),
        };
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        let auths = auths
            .as_object_mut()
            .ok_or_else(|| Error::invalid(format!("read {path:?}: auths is no object")))?;
        auths.retain(|k, _| !same(k, key));
        auths.insert(key.to_owned(), entry);
        write(&path, &config)?;
        Ok(path.display().to_string())
    }

    /// Forget the login of a registry, or all of them. Was there one?
    pub(crate) fn forget(&mut self, registry: Option<&str>) -> Result<bool> {
        let path = written()?;
        let (mut config, _alone) = to_change(&path)?;
        let mut any = false;
        let key = registry.map(|r| if is_docker(r) { DOCKER_KEY } else { r });
        if let Some(key) = key
            && let Some(helper) = helper_of(&config, key)
        {
            any |= keeper::ask(&helper, key)?.is_some();
            if any {
                keeper::run(&helper, "erase", key)?;
            }
        }
        if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            auths.retain(|k, _| key.is_some_and(|key| !same(k, key)));
            if auths.len() != before {
                any = true;
                write(&path, &config)?;
            }
        }
        Ok(any)
    }
}

/// A file's JSON object.
fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(e.to_string()))
}

fn docker_config() -> Option<PathBuf> {
    Some(
        dirs::named_by("DOCKER_CONFIG")
            .or_else(|| Some(dirs::named_by("HOME")?.join(".docker")))?
            .join("config.json"),
    )
}

fn paths() -> Vec<PathBuf> {
    if let Some(one) = dirs::named_by("REGISTRY_AUTH_FILE") {
        return vec![one];
    }
    let runtime = dirs::named_by("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json"));
    let root = nix::unistd::geteuid().is_root().then(|| PathBuf::from("/run/containers/0/auth.json"));
    [docker_config(), runtime, root, dirs::config().map(|d| d.join("containers/auth.json"))]
        .into_iter()
        .flatten()
        .collect()
}

/// The file that `login` writes.
fn written() -> Result<PathBuf> {
    dirs::named_by("REGISTRY_AUTH_FILE")
        .or_else(docker_config)
        .ok_or_else(|| Error::usage("find docker's config.json: neither DOCKER_CONFIG nor HOME is set"))
}

/// The file as it is now, held against others who change it until what comes back is dropped. A link, as people have
/// who keep their files elsewhere, stays one.
fn to_change(path: &Path) -> Result<(Map<String, Value>, Flock<File>)> {
    use std::os::unix::fs::DirBuilderExt;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(|| format!("mkdir({dir:?})"))?;
    // The folder stands for the file, which is replaced.
    let folder = File::open(dir).context(|| format!("open({dir:?})"))?;
    let alone = Flock::lock(folder, FlockArg::LockExclusive);
    let alone = alone.map_err(|(_, e)| e).context(|| format!("flock({dir:?}, LOCK_EX)"))?;
    let config = match file::read(&path) {
        Ok(bytes) => parse(&bytes).context(|| format!("read {path:?}"))?,
        Err(e) if e.errno() == Some(Errno::ENOENT) => Map::new(),
        Err(e) => return Err(e.wrap("read the registries' credentials")),
    };
    Ok((config, alone))
}

fn write(path: &Path, config: &Map<String, Value>) -> Result<()> {
    let text = serde_json::to_vec_pretty(config).map_err(|e| Error::invalid(e.to_string()))?;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    file::write_atomic(&path, &text, 0o600)
}

fn is_docker(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// Under which keys a repository's credentials may be, the closest first.
fn keys(registry: &str, path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut path = path;
    while !path.is_empty() {
        out.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    out.push(registry.to_owned());
    if is_docker(registry) {
        out.extend([DOCKER_KEY, "docker.io", "index.docker.io"].map(str::to_owned));
    }
    out
}

/// Do two keys mean the same? Docker has written schemes and paths of its API into them.
fn same(a: &str, b: &str) -> bool {
    fn bare(key: &str) -> &str {
        let key = without_scheme(key).trim_end_matches('/');
        key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
    }
    bare(a) == bare(b) || is_docker(bare(a)) && is_docker(bare(b))
}

/// What an entry of `auths` holds. An empty one stands where a helper has it.
fn stored(entry: &Value) -> Result<Option<Login>> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Login::Identity(token.to_owned())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let bad = || Error::invalid("its auth is not the base64 of USER:PASSWORD");
    let plain = STANDARD.decode(auth.trim()).map_err(|_| bad())?;
    let plain = String::from_utf8(plain).map_err(|_| bad())?;
    let (user, password) = plain.split_once(':').ok_or_else(bad)?;
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Login::Password { user: user.to_owned(), password }))
}

fn helper_of(config: &Map<String, Value>, key: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|h| h.get(key));
    own.or_else(|| config.get("credsStore")).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, registry: &str, path: &str) -> Option<(String, String)> {
        let files = vec![(PathBuf::from("x"), parse(text.as_bytes()).unwrap())];
        match (Credentials { files }).of(registry, path).unwrap()? {
            Login::Password { user, password } => Some((user, password)),
            Login::Identity(token) => Some(("<token>".into(), token)),
        }
    }

    #[test]
    fn the_closest_entry_of_docker_s_and_containers_files_is_taken() {
        // a:1, b:2, c:3
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YToxBg=="},
            "r.example:5000":{"auth":"Yjoy"},"r.example:5000/team":{"auth":"Yzoz"},
            "t.example":{"identitytoken":"T"},"empty.example":{}},"other":1}"#;
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(of(text, "r.example:5000", "x"), pair("b", "2"));
        assert_eq!(of(text, "r.example:5000", "team/x"), pair("c", "3"));
        assert_eq!(of(text, "docker.io", "library/x"), pair("a", "1\u{6}"));
        assert_eq!(of(text, "t.example", "x"), pair("<token>", "T"));
        assert_eq!(of(text, "empty.example", "x"), None);
        assert_eq!(of(text, "r.example", "x"), None);
        assert_eq!(of("", "r.example", "x"), None);
    }

    #[test]
    fn what_is_no_credential_is_an_error_that_names_the_file() {
        for bad in [r#"{"auths":{"r":{"auth":"!"}}}"#, r#"{"auths":{"r":{"auth":"YQ=="}}}"#] {
            let files = vec![(PathBuf::from("/f"), parse(bad.as_bytes()).unwrap())];
            let e = Credentials { files }.of("r", "x").err().unwrap().to_string();
            assert!(e.contains("/f") && e.contains("USER:PASSWORD"), "{e}");
        }
        assert!(parse(b"[1]").is_err() && parse(b"{").is_err());
    }
}
