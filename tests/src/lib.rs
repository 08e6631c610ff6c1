//! What the end-to-end tests share. These tests drive the binaries in `dist/` as a user would and
//! link nothing of them.
//!
//! ```text
//!     binaries   where the three binaries, the recipes and the peers are
//!     command    run a program with a time limit, as root or as an ordinary user, leaking descriptors
//!     scratch    temporary folders whose mounts are undone, and a store in one of them
//!     privilege  what a test needs of the machine: missing, it is listed as skipped or it fails
//!     canary     a tree on the host that must be byte-identical afterwards
//!     racer      exchange two names as fast as the kernel can
//!     rootfs     root filesystems to be hostile with: a static busybox, a recipe around it
//!     shipped    the shipped images of Debian packages, made once for all tests
//!     dockerd    a docker daemon of a test's own
//!     debs       a repository of Debian packages on loopback
//!     registry   docker-registry on loopback: plain, TLS, with a password
//!     liar       a registry that lies as it is told
//!     proxy      a proxy that leads every name to one address
//!     tokens     a token server that signs what a client may do
//!     clients    a client's script under one OCI runtime after another
//!     lan        a host with an outside machine, apart from this one's network
//!     layout     is a folder an OCI image layout, to the letter?
//!     words      docker's command lines, typed to docker and to the runner
//!     nasty      an image of all that file systems differ over
//!     noise      bytes that do not compress
//!     bundle     an OCI bundle whose config.json is bent at will
//!     filters    seccomp filters, read back from a process
//!     leftovers  mounts, cgroups, processes and files before and after
//!     firmware   a machine that firmware starts from a disk
//!     machine    a machine to boot, whose power can be cut
//!     guest      a machine whose first process is our init
//!     bench      a program started again and again beside its peers
//! ```

pub mod bench;
pub mod binaries;
pub mod btrfs;
pub mod bundle;
pub mod canary;
pub mod clients;
pub mod command;
pub mod debs;
pub mod dockerd;
pub mod filters;
pub mod firmware;
pub mod guest;
pub mod lan;
pub mod layout;
pub mod leftovers;
pub mod legacy;
pub mod liar;
mod loopback;
pub mod machine;
pub mod nasty;
pub mod noise;
pub mod oci;
pub mod podman;
pub mod privilege;
pub mod proxy;
pub mod racer;
pub mod registry;
pub mod rootfs;
pub mod scratch;
pub mod shipped;
mod sys;
pub mod tokens;
pub mod words;

pub use binaries::{dist, peer, workspace};
pub use command::{Cmd, Output};
pub use privilege::{Privilege, need};
pub use scratch::{Scratch, Store};
pub use sys::{adopt, unread};

/// Whether everything is to be tested, however long that takes: `make test-all`.
pub fn test_all() -> bool {
    std::env::var_os("CORACLE_TEST_ALL").is_some()
}

/// How often a thing is done whose chance it is to meet a rare moment: `few` times, or when everything is tested `all` times.
pub fn rounds<T>(few: T, all: T) -> T {
    if test_all() { all } else { few }
}

/// Poll until `done` holds; panic with `what` after half a minute. No test asserts how long a thing
/// took: this waits for an event that must come.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < end, "{what}: did not come about in 30 s");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
