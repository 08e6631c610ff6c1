//! A registry of a test's own: Debian's docker-registry on loopback, its data in a scratch folder. It ends with
//! the value.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::tokens::Tokens;
use crate::{Cmd, Scratch, Store, eventually};

/// The registry.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// The folder with its data, its log and its certificates.
    pub scratch: Scratch,
}

/// The name and the password of [`Registry::with_password`].
pub const LOGIN: (&str, &str) = ("tester", "secret");
/// bcrypt of the password.
const HTPASSWD: &str = "tester:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

impl Registry {
    /// By plain HTTP, for everybody. The caller has asked `need(Privilege::Peer("docker-registry"))` before.
    #[track_caller]
    pub fn plain() -> Self {
        Self::start(Scratch::new("registry"), "", "")
    }

    /// By plain HTTP, for who knows [`LOGIN`].
    #[track_caller]
    pub fn with_password() -> Self {
        let scratch = Scratch::new("registry");
        let path = scratch.write("htpasswd", HTPASSWD);
        let auth = format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", path.display());
        Self::start(scratch, &auth, "")
    }

    /// By plain HTTP, for who brings a token that `tokens` has signed.
    #[track_caller]
    pub fn with_tokens(tokens: &Tokens) -> Self {
        Self::start(Scratch::new("registry"), &tokens.section(), "")
    }

    /// By TLS, with a certificate of the authority `ca.crt` in its folder; for clients with `client.cert` and
    /// `client.key` alone, where that is wanted. The caller has asked for `openssl` before.
    #[track_caller]
    pub fn tls(client_certificate: bool) -> Self {
        let scratch = Scratch::new("registry");
        certificates(&scratch);
        let at = |name: &str| scratch.join(name).display().to_string();
        let clients = match client_certificate {
            true => format!(", clientcas: [{}]", at("ca.crt")),
            false => String::new(),
        };
        let tls = format!(", tls: {{certificate: {}, key: {}{clients}}}", at("server.crt"), at("server.key"));
        Self::start(scratch, "", &tls)
    }

    #[track_caller]
    fn start(scratch: Scratch, top: &str, http: &str) -> Self {
        // Somebody else may take the port before the registry does: then it ends, and another is tried.
        for _ in 0..10 {
            let port = free_port();
            let host = format!("127.0.0.1:{port}");
            let config = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
                 {top}http: {{addr: \"{host}\"{http}}}\n",
                scratch.join("data").display()
            );
            let config = scratch.write("config.yml", config);
            let log = std::fs::File::create(scratch.join("log")).expect("make the log");
            let mut child = Command::new(crate::peer("docker-registry").expect("need(Peer) comes first"))
                .arg("serve")
                .arg(config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("share the log"))
                .stderr(log)
                .spawn()
                .expect("start docker-registry");
            let mut ended = false;
            eventually("docker-registry answers", || {
                ended = child.try_wait().expect("wait").is_some();
                ended || TcpStream::connect(&host).is_ok()
            });
            if !ended {
                return Self { child, host, scratch };
            }
        }
        panic!(
            "docker-registry does not start: {}",
            std::fs::read_to_string(scratch.join("log")).unwrap_or_default()
        );
    }

    /// The full name of a repository with a tag.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// What it has been asked, a line each: `GET /v2/... 200`.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("ask for the port").port()
}

/// `rootfs-tool` on a store, with a home and a configuration of registries of its own.
#[track_caller]
pub fn tool(store: &Store) -> Cmd {
    apart(store, store.rootfs_tool())
}

/// A command of ours with a home and a configuration of registries of its own.
pub fn apart(store: &Store, cmd: Cmd) -> Cmd {
    let conf = store.scratch.join("registries.conf");
    if !conf.exists() {
        std::fs::write(&conf, "").expect("write registries.conf");
    }
    let home = store.scratch.join("home");
    cmd.env("HOME", &home)
        .env("DOCKER_CONFIG", home.join(".docker"))
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("CONTAINERS_REGISTRIES_CONF", conf)
        .env_remove("REGISTRY_AUTH_FILE")
        .env_remove("XDG_RUNTIME_DIR")
}

/// `ca.crt`, `server.crt` with its key, `client.cert` with its key.
fn certificates(scratch: &Scratch) {
    let openssl = |line: &str| Cmd::new("openssl").words(line).dir(scratch.path()).ok();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=tests"));
    scratch.write("ext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test\n");
    for (name, cert) in [("server", "server.crt"), ("client", "client.cert")] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let sign =
            format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {cert} -days 30");
        openssl(&format!("{sign} -extfile ext"));
    }
}
