//! What confines the process of a bundle: a filter that asks, and security modules that this kernel may not
//! have.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use coracle_tests::bundle::Bundle;
use coracle_tests::{Privilege, need};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

fn have() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

fn filter(listener: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": listener,
        "listenerMetadata": "what \"it\" is",
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
    })
}

#[test]
fn who_is_asked_by_the_filter_gets_its_listener_before_the_command_runs() {
    if !have() {
        return;
    }
    for user in [0, 1000] {
        let bundle =
            Bundle::busybox(&["sh", "-c", "mkdir /x; touch /tmp/x; echo $?; ps"]).expect("busybox-static");
        let socket = bundle.path().join("asked");
        let asked = UnixListener::bind(&socket).unwrap();
        let bundle = bundle
            .set("/linux/seccomp", filter(&socket.to_string_lossy()))
            .set("/process/user/uid", json!(user))
            .set("/annotations", json!({"a": "b"}));
        let id = bundle.id();
        let running = bundle.run().spawn();
        let (peer, _) = asked.accept().unwrap();
        let mut bytes = vec![0; 4096];
        let mut space = nix::cmsg_space!([i32; 2]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let said = recvmsg::<()>(peer.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let said = said.unwrap();
        let fds: Vec<i32> = said
            .cmsgs()
            .unwrap()
            .flat_map(|c| match c {
                ControlMessageOwned::ScmRights(fds) => fds,
                _ => Vec::new(),
            })
            .collect();
        let length = said.bytes;
        let told: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!(fds.len(), 1);
        assert_eq!((&told["fds"], &told["metadata"]), (&json!(["seccompFd"]), &json!("what \"it\" is")));
        assert_eq!((&told["state"]["id"], &told["state"]["status"]), (&json!(id), &json!("creating")));
        assert_eq!((&told["state"]["annotations"]["a"], &told["state"]["pid"]), (&json!("b"), &told["pid"]));
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fds[0])).unwrap();
        assert!(link.to_string_lossy().contains("seccomp"), "{link:?}");
        // With nobody to ask the kernel says that there is no such call.
        nix::unistd::close(fds[0]).unwrap();
        let output = running.wait(std::time::Duration::from_secs(30)).unwrap();
        assert!(output.stderr.contains("Function not implemented"), "{}", output.stderr);
        assert!(
            !output.stdout.contains("[runner]") && !output.stdout.contains("runner "),
            "{}",
            output.stdout
        );
    }
}

#[test]
fn a_listener_that_accepts_nobody_is_not_waited_for_without_an_end() {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    if !have() {
        return;
    }
    let bundle = Bundle::busybox(&["sh", "-c", "echo ran"]).expect("busybox-static");
    let path = bundle.path().join("deaf");
    let deaf = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(deaf.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&deaf, Backlog::new(0).unwrap()).unwrap();
    // It takes one that it does not accept, and no other.
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let output = bundle.set("/linux/seccomp", filter(&path.to_string_lossy())).run().fails(125);
    assert!(output.stderr.contains("listenerPath: nobody has accepted a connection"), "{output}");
    assert!(output.stderr.lines().count() == 1 && output.stdout.is_empty(), "{output}");
}

#[test]
fn a_listener_that_nobody_hears_is_an_error_before_the_command_runs() {
    if !have() {
        return;
    }
    let bundle = Bundle::busybox(&["sh", "-c", "echo ran"]).expect("busybox-static");
    let output = bundle.set("/linux/seccomp", filter("/no/such/socket")).run().fails(125);
    assert!(output.stderr.contains("listenerPath") && output.stdout.is_empty(), "{}", output.stderr);
    for (change, says) in [
        (json!({"listenerPath": "", "listenerMetadata": ""}), "needs listenerPath"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY is for single calls"),
        (json!({"syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}), "no names"),
        (
            json!({"syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ALLOW", "errnoRet": 7}]}),
            "errnoRet means nothing",
        ),
    ] {
        let mut profile = filter("/x");
        profile.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let bundle = Bundle::busybox(&["true"]).expect("busybox-static").set("/linux/seccomp", profile);
        bundle.run().fails(125).complains(says);
    }
}

#[test]
fn a_security_module_that_the_kernel_lacks_is_named() {
    if !have() {
        return;
    }
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    for (module, pointer, value) in [
        ("apparmor", "/process/apparmorProfile", "no-such-profile"),
        ("selinux", "/process/selinuxLabel", "a:b:c:s0"),
        ("selinux", "/linux/mountLabel", "a:b:c:s0"),
    ] {
        if modules.contains(module) {
            continue;
        }
        let bundle = Bundle::busybox(&["true"]).expect("busybox-static").set(pointer, json!(value));
        let e = bundle.run().fails(125).stderr;
        assert!(e.contains(&pointer[1..].replace('/', ".")) && e.lines().count() == 1, "{e}");
    }
    let bundle = Bundle::busybox(&["echo", "ran"]).expect("busybox-static");
    bundle.set("/process/apparmorProfile", json!("unconfined")).run().ok().prints("ran");
}

#[test]
fn a_class_of_cache_where_there_is_no_resctrl_is_refused() {
    if !have() || std::fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - resctrl ") {
        return;
    }
    for (rdt, says) in [
        (json!({}), "linux.intelRdt: no resctrl file system is mounted"),
        (json!({"closID": "gold"}), "linux.intelRdt: no resctrl file system is mounted"),
        (json!({"closID": "a/b"}), "linux.intelRdt.closID \"a/b\""),
        (json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
    ] {
        let bundle = Bundle::busybox(&["echo", "ran"]).expect("busybox-static").set("/linux/intelRdt", rdt);
        let out = bundle.run().fails(125);
        assert!(
            out.stderr.contains(says) && out.stderr.lines().count() == 1 && out.stdout.is_empty(),
            "{out}"
        );
    }
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
