//! A host of a test's own: a network namespace with a /run of its own, and beside it an outside machine on one wire. So
//! nothing of this machine's network is touched, and tests do not meet each other. A program in it, `talk`, tells
//! whoever comes the address that it came from.

use std::path::PathBuf;

use crate::command::Running;
use crate::rootfs::{self, Image};
use crate::{Cmd, Output, Privilege, Store, need};

/// The host's addresses on the wire, and the outside machine's.
pub const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
/// As above.
pub const OUTSIDE: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];

/// The host. All ends with it.
pub struct Host {
    inside: Running,
    outside: Running,
    /// With the image `box`: busybox, and `talk`.
    pub store: Store,
    talk: PathBuf,
}

const WIRE: &str = "set -e
mount -t tmpfs tmpfs /run
ip link set lo up
echo 0 > /proc/sys/net/ipv4/ip_forward
ip link add wire type veth peer name wire netns $1
ip addr add 198.51.100.1/24 dev wire
ip addr add 2001:db8:1::1/64 dev wire nodad
ip link set wire up
nsenter -t $1 -n ip addr add 198.51.100.2/24 dev wire
nsenter -t $1 -n ip addr add 2001:db8:1::2/64 dev wire nodad
nsenter -t $1 -n ip link set wire up
nsenter -t $1 -n ip route add 10.0.0.0/8 via 198.51.100.1
nsenter -t $1 -n ip route add fd00::/8 via 2001:db8:1::1
echo ready
exec sleep 1000";

impl Host {
    /// A new one; nothing where this machine cannot have it.
    pub fn new(name: &str) -> Option<Self> {
        Self::with(Store::new(name))
    }

    /// A new one whose containers are in this store.
    pub fn with(store: Store) -> Option<Self> {
        let has = need(Privilege::Root)
            && ["busybox", "ip", "nft", "nsenter", "unshare", "cc"].iter().all(|p| need(Privilege::Peer(p)));
        if !has {
            return None;
        }
        let source = include_str!("talk.c");
        Image::busybox()?.program("bin/talk", source)?.compose(&store, "box");
        let talk = store.scratch.join("talk");
        rootfs::compile(source, &talk)?;
        let outside =
            Cmd::new("unshare").args(["-n", "sh", "-c", "ip link set lo up; echo ready; exec sleep 1000"]);
        let outside = outside.spawn();
        outside.wait_for("ready");
        let inside =
            Cmd::new("unshare").args(["-nm", "sh", "-c", WIRE, "sh", &outside.pid().to_string()]).spawn();
        inside.wait_for("ready");
        Some(Self { inside, outside, store, talk })
    }

    /// The process that holds the host's namespaces.
    pub fn pid(&self) -> u32 {
        self.inside.pid()
    }

    /// The program `talk`, for [`Host::on`].
    pub fn talk(&self) -> &str {
        self.talk.to_str().expect("a path in UTF-8")
    }

    /// A command on the outside machine.
    pub fn on_the_outside(&self, program: &str) -> Cmd {
        Cmd::new("nsenter").args(["-t", &self.outside.pid().to_string(), "-n", program])
    }

    /// `talk` on the outside machine.
    pub fn outside_talk(&self) -> Cmd {
        self.on_the_outside(self.talk())
    }

    /// A command on the host.
    pub fn on(&self, program: &str) -> Cmd {
        let enter = ["-t", &self.inside.pid().to_string(), "-n", "-m", program];
        Cmd::new("nsenter").args(enter).env("CORACLE_STORE", self.store.locations())
    }

    /// `runner` on the host, with words that are split at white space.
    pub fn runner(&self, words: &str) -> Cmd {
        self.on(&crate::binaries::runner().display().to_string()).words(words)
    }

    /// A script on the host.
    pub fn sh(&self, script: &str) -> Output {
        self.on("sh").args(["-c", script]).run()
    }

    /// `run --rm FLAGS box sh -c SCRIPT`.
    pub fn script(&self, flags: &str, script: &str) -> Cmd {
        self.runner("run --rm").words(flags).args(["box", "sh", "-c", script])
    }

    /// A container that serves at port 80, once it does.
    #[track_caller]
    pub fn serve(&self, flags: &str) -> Running {
        let running = self.runner("run --rm").words(flags).words("box talk serve 80").spawn();
        running.wait_for("ready");
        running
    }

    /// Let the host itself serve.
    #[track_caller]
    pub fn serve_on_the_host(&self, port: u16) -> Running {
        let running = self.on(self.talk()).arg("serve").arg(port.to_string()).spawn();
        running.wait_for("ready");
        running
    }

    /// What the host is told at an address: `tcp 127.0.0.1 80`.
    pub fn ask(&self, words: &str) -> Output {
        self.on(self.talk()).arg("ask").words(words).run()
    }

    /// What the outside machine is told.
    pub fn ask_from_outside(&self, words: &str) -> Output {
        self.outside_talk().arg("ask").words(words).run()
    }

    /// Let the outside machine serve at port 80.
    #[track_caller]
    pub fn serve_outside(&self) -> Running {
        let running = self.outside_talk().words("serve 80").spawn();
        running.wait_for("ready");
        running
    }

    /// What there is of networks: devices, tables, files.
    pub fn left(&self) -> String {
        let shown = "ip -o link | grep -E 'coracle|br-|vc' ; nft list tables | grep coracle; ls -A /run/coracle/net 2>/dev/null | grep -v '^lock$'";
        self.sh(shown).stdout
    }
}

impl Drop for Host {
    /// What a test that failed has left in the background would live on: its monitors belong to nobody.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let runner = crate::binaries::runner().display().to_string();
            self.sh(&format!("ids=$({runner} ps -aq) && [ -z \"$ids\" ] || {runner} rm -f $ids"));
        }
    }
}
