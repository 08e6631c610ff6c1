//! What an OCI client does with a container: each verb a call of its own, its states in the bundle's folder.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bundle::{self, Bundle};
use crate::{Cmd, Privilege, binaries, filters, need};

/// A bundle and what a client does with it.
pub struct Client {
    /// The bundle.
    pub bundle: Bundle,
}

impl Client {
    /// One that runs this script; none where it cannot be tried.
    pub fn new(script: &str) -> Option<Self> {
        Self::of(|bundle| bundle, script)
    }

    /// The same of a bundle that is changed before.
    pub fn of(change: impl FnOnce(Bundle) -> Bundle, script: &str) -> Option<Self> {
        if !need(Privilege::Root) || !bundle::works() {
            return None;
        }
        let bundle = change(Bundle::busybox(&["sh", "-c", script])?);
        bundle.write();
        Some(Self { bundle })
    }

    /// A name in the bundle.
    pub fn file(&self, name: &str) -> PathBuf {
        self.bundle.path().join(name)
    }

    /// What is in it.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// A verb with its flags, for this container.
    pub fn call(&self, words: &str) -> Cmd {
        Cmd::runner().arg("--root").arg(self.file("state")).words(words).arg(self.bundle.id())
    }

    /// `create`, whose streams are the container's as long as it lives: so they are files.
    pub fn creating(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(binaries::runner());
        let stream = |name: &str| File::create(self.file(name)).expect("create a stream");
        command.arg("--root").arg(self.file("state")).arg("create").args(flags).arg("--bundle");
        command.arg(self.bundle.path()).arg(self.bundle.id());
        filters::as_on_an_older_kernel(&mut command);
        command.stdin(Stdio::null()).stdout(stream("out")).stderr(stream("err"));
        command
    }

    /// `create`.
    #[track_caller]
    pub fn create(&self, flags: &[&str]) {
        let status = self.creating(flags).status().expect("run create");
        assert!(status.success(), "{status}: {}", self.read("err"));
    }

    /// The word of its state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.call("state").ok().json()["status"].as_str().expect("a status").to_owned()
    }

    /// Wait for something, and tell what it has written if that does not come.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{what}: {}{}",
                self.read("out"),
                self.read("err")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.call("delete --force").run();
    }
}
