//! A docker daemon of a test's own: on a socket and a data folder of its own, without networks, so that
//! nothing of the machine's firewall is touched. It ends with the value.

use std::process::{Child, Command, Stdio};

use crate::{Cmd, Scratch, eventually};

/// The daemon.
pub struct Dockerd {
    child: Child,
    socket: String,
    /// The folder that holds all it writes.
    pub scratch: Scratch,
}

impl Dockerd {
    /// Start one with further options. The caller has asked `need(Privilege::Peer("dockerd"))` before.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        let scratch = Scratch::new("docker");
        let socket = format!("unix://{}", scratch.join("sock").display());
        let log = std::fs::File::create(scratch.join("log")).expect("make the log");
        let child = Command::new(crate::peer("dockerd").expect("need(Peer) comes first"))
            .arg("--data-root")
            .arg(scratch.join("data"))
            .arg("--exec-root")
            .arg(scratch.join("exec"))
            .arg("--pidfile")
            .arg(scratch.join("pid"))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "-H", &socket])
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start dockerd");
        let daemon = Self { child, socket, scratch };
        eventually("dockerd answers", || daemon.docker("version").run().code() == 0);
        daemon
    }

    /// Where it listens.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// `docker` and its words, split at white space.
    pub fn docker(&self, words: &str) -> Cmd {
        Cmd::new("docker").args(["-H", &self.socket]).words(words)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
