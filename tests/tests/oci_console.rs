//! Terminals of OCI clients: the other side is sent over the client's socket, by `create`, `run -d` and `exec`, and carries
//! what the command reads and writes.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use coracle_tests::oci::Client;
use coracle_tests::{Cmd, Privilege, filters, need};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

/// A container with a terminal; none where it cannot be tried.
fn client(script: &str) -> Option<Client> {
    Client::of(|bundle| bundle.set("/process/terminal", json!(true)), script)
}

/// A client's socket, below the bundle.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    fn new(client: &Client, name: &str) -> Self {
        let path = client.file(name);
        Self { listener: UnixListener::bind(&path).expect("bind"), path }
    }

    /// The terminal that was sent, by a sender that has ended.
    #[track_caller]
    fn terminal(&self) -> File {
        let (stream, _) = self.listener.accept().expect("a connection");
        let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!([i32; 4]));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let got = got.expect("a message");
        let sent = got.cmsgs().expect("control messages").find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        coracle_tests::adopt(sent.expect("a descriptor"))
    }
}

/// Read from a terminal until this has come, or its end.
#[track_caller]
fn until(terminal: &mut File, text: &str) -> String {
    let (mut seen, mut part) = (String::new(), [0; 256]);
    while !seen.contains(text) {
        match terminal.read(&mut part) {
            Ok(n) if n > 0 => seen.push_str(&String::from_utf8_lossy(&part[..n])),
            _ => panic!("{text:?} did not come, but {seen:?}"),
        }
    }
    seen
}

#[test]
fn create_sends_the_terminal_and_the_command_speaks_through_it() {
    let Some(one) = client("test -t 0 && read word && echo got $word; stty size; exit 5") else { return };
    let socket = Socket::new(&one, "console");
    one.create(&["--console-socket", &socket.path.to_string_lossy()]);
    let mut terminal = socket.terminal();
    one.call("start").ok();
    terminal.write_all(b"tea\n").expect("type");
    until(&mut terminal, "got tea\r\n");
    one.wait_until("it has ended", || one.status() == "stopped");
    one.call("delete").ok();
}

#[test]
fn what_runs_in_the_background_has_its_terminal_too() {
    let Some(one) = client("echo up; read word; echo got $word; exec sleep 1000") else { return };
    let socket = Socket::new(&one, "console");
    let run = |flags: &str| one.call(&format!("run -d {flags} --bundle {}", one.bundle.path().display()));
    run("").fails(125).complains("without setting console socket");
    run(&format!("--console-socket {}", socket.path.display())).ok();
    let mut terminal = socket.terminal();
    until(&mut terminal, "up\r\n");
    terminal.write_all(b"tea\n").expect("type");
    until(&mut terminal, "got tea\r\n");
    assert_eq!(one.status(), "running");

    // One more of its own, left to the client, and one in front of the caller.
    let more = Socket::new(&one, "more");
    let flags = format!("exec -t -d --console-socket {}", more.path.display());
    one.call(&flags).args(["sh", "-c", "tty; read word; echo heard $word; sleep 1000"]).ok();
    let mut second = more.terminal();
    until(&mut second, "/dev/pts/");
    second.write_all(b"milk\n").expect("type");
    until(&mut second, "heard milk\r\n");
    let out = one.call("exec -t").args(["sh", "-c", "test -t 1 && tty; exit 6"]).fails(6);
    assert!(out.stdout.contains("/dev/pts/") && out.stdout.ends_with("\r\n"), "{out}");
    one.call("delete -f").ok();
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        filters::again_with_newer_calls_denied();
    }
}

#[test]
fn all_of_it_goes_on_an_older_kernel_without_files_in_memory_too() {
    if need(Privilege::Root) {
        filters::again_without_files_in_memory();
    }
}

#[test]
fn a_terminal_that_the_caller_has_not_is_refused_at_once_as_by_runc() {
    if !need(Privilege::Peer("script")) {
        return;
    }
    let Some(one) = client("echo shown") else { return };
    let run = format!(
        "{} --root {} run --bundle {} {}",
        coracle_tests::binaries::runner().display(),
        one.file("state").display(),
        one.bundle.path().display(),
        one.bundle.id()
    );
    // A session of its own has no /dev/tty.
    let alone = || Cmd::new("setsid").args(["-w", "sh", "-c", &run]).limit(Duration::from_secs(20));
    alone().fails(125).complains("process.terminal is true, and the caller has no terminal");
    one.call("state").fails(125);
    // With one, on whichever stream, it is shown.
    let seen = Cmd::new("script").args(["-qec", &format!("{run} </dev/null"), "/dev/null"]);
    seen.limit(Duration::from_secs(20)).ok().prints("shown");
}
