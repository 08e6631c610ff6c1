//! A repository of Debian packages of a test's own, on loopback: made by dpkg-deb, apt-ftparchive and gpg, so that what is
//! read here is what those write. It ends with the value.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::loopback::Loopback;
use crate::{Cmd, Scratch};

/// The programs that make it.
pub const PEERS: [&str; 3] = ["dpkg-deb", "apt-ftparchive", "gpg"];

/// The repository; its suite is `test`.
pub struct Repository {
    /// `pool`, `dists`, `key.gpg` and `other.gpg` are in it.
    pub scratch: Scratch,
    server: Loopback,
}

impl Repository {
    /// An empty one. The caller has asked for its peers.
    pub fn new() -> Self {
        let scratch = Scratch::new("debs");
        for dir in ["dists/test/main/binary-amd64", "pool", "gpg"] {
            scratch.mkdir(dir);
        }
        std::fs::set_permissions(scratch.join("gpg"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("chmod");
        let root = scratch.path().to_owned();
        let server = Loopback::serve(move |stream| {
            let _ = answer(stream, &root);
        });
        let new = Self { scratch, server };
        for (name, algorithm) in [("good", "ed25519"), ("other", "rsa2048")] {
            new.gpg(&["--passphrase", "", "--quick-gen-key", name, algorithm, "sign", "never"]);
            let file = new.scratch.join(format!("{name}.gpg"));
            new.gpg(&["--output", &file.display().to_string(), "--export", name]);
        }
        new
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.host)
    }

    /// gpg with the keys of this repository.
    #[track_caller]
    pub fn gpg(&self, words: &[&str]) {
        let home = self.scratch.join("gpg");
        Cmd::new("gpg").args(["--batch", "--yes", "--quiet", "--homedir"]).arg(home).args(words).ok();
    }

    /// Put a package into the pool: lines of its control but for what every package has, files with their content or `@`
    /// and a path of this machine, and how dpkg-deb compresses it.
    #[track_caller]
    pub fn package(&self, control: &str, files: &[(&str, &str)], compression: &str) -> PathBuf {
        let mut text = String::new();
        for (field, value) in
            [("Maintainer", "tests"), ("Architecture", "amd64"), ("Version", "1"), ("Priority", "optional")]
        {
            if !control.lines().any(|l| l.starts_with(field)) {
                let _ = writeln!(text, "{field}: {value}");
            }
        }
        text.push_str(control.trim_end());
        text.push_str("\nDescription: of a test\n");
        let field =
            |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().to_owned();
        let name = format!("{}_{}", field("Package: "), field("Version: ").replace(':', "%3a"));
        let tree = self.scratch.path().join("trees").join(&name);
        let put = |path: &str, content: &str| {
            let path = tree.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            match content.strip_prefix('@') {
                Some(host) => drop(std::fs::copy(host, &path).expect("copy")),
                None => std::fs::write(&path, content).expect("write"),
            }
            let mode = if content.starts_with("#!") || content.starts_with('@') { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .expect("chmod");
        };
        put("DEBIAN/control", &text);
        files.iter().for_each(|(path, content)| put(path, content));
        let out = self.scratch.join("pool").join(format!("{name}.deb"));
        Cmd::new("dpkg-deb")
            .args(["--root-owner-group", &format!("-Z{compression}"), "-b"])
            .arg(&tree)
            .arg(&out)
            .ok();
        out
    }

    /// Write the index and its Release with these fields more, signed by `key`; by nobody where there is none.
    #[track_caller]
    pub fn publish(&self, fields: &str, key: Option<&str>) {
        self.index();
        self.release(fields, key);
    }

    /// Write Packages, plain and compressed by gzip.
    #[track_caller]
    pub fn index(&self) {
        let packages = Cmd::new("apt-ftparchive").args(["packages", "pool"]).dir(self.scratch.path()).ok();
        let dir = self.scratch.join("dists/test/main/binary-amd64");
        let plain = dir.join("Packages");
        std::fs::write(&plain, &packages.stdout).expect("write");
        Cmd::new("gzip").args(["-9nfk"]).arg(&plain).ok();
    }

    /// Write Release, and sign it.
    #[track_caller]
    pub fn release(&self, fields: &str, key: Option<&str>) {
        let dists = self.scratch.join("dists/test");
        for old in ["InRelease", "Release", "Release.gpg"] {
            let _ = std::fs::remove_file(dists.join(old));
        }
        let made = Cmd::new("apt-ftparchive").args(["release", "."]).dir(&dists).ok();
        let own: Vec<&str> = fields.lines().filter_map(|l| l.split(':').next()).collect();
        let mut text = fields.to_owned();
        for (name, value) in [("Suite", "test"), ("Architectures", "amd64"), ("Components", "main")] {
            if !own.contains(&name) {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        for line in made.stdout.lines() {
            if !own.iter().any(|name| line.starts_with(&format!("{name}:"))) {
                text.push_str(line);
                text.push('\n');
            }
        }
        let path = dists.join("Release");
        std::fs::write(&path, text).expect("write");
        if let Some(key) = key {
            let (path, out) = (path.display().to_string(), dists.join("InRelease").display().to_string());
            self.gpg(&["-u", key, "--output", &out, "--clear-sign", &path]);
        }
    }
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
    }
}

/// One request: a file, or 404.
fn answer(mut stream: &TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    match std::fs::read(root.join(path)) {
        Ok(bytes) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            )?;
            stream.write_all(&bytes)
        }
        Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
