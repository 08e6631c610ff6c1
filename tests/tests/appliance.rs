//! The shipped appliance, as firmware starts it from its disk: its containers serve, and what they have written outlives
//! power cuts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle_tests::firmware::{self, FIRMWARE, STUB, VARIABLES};
use coracle_tests::{Cmd, Privilege, Store, machine, need, workspace};

/// What the container `web` serves of what `counter` counts; none while nobody answers.
fn count(port: u16) -> Option<u64> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"GET /count HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.trim().parse().ok())?
}

/// A machine that is on, and loses its power when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Switch it on, with this port of the host leading to its port 80.
fn switch_on(disk: &Path, variables: &Path, console: &Path, port: u16) -> Running {
    let mut qemu: Command = firmware::machine(disk, variables);
    qemu.args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:80")]);
    qemu.args(["-device", "virtio-net-pci,netdev=net"]);
    let console = std::fs::File::create(console).expect("make the console's file");
    Running(qemu.stdin(Stdio::null()).stdout(console).spawn().expect("start qemu"))
}

#[test]
fn the_appliance_serves_and_its_data_outlives_power_cuts() {
    let programs = ["qemu-system-x86_64", "busybox", "sgdisk", "e2fsck", STUB, FIRMWARE, VARIABLES];
    if !need(Privilege::Root) || !programs.iter().all(|peer| need(Privilege::Peer(peer))) {
        return;
    }
    let Some((kernel, modules)) = machine::need_kernel() else { return };
    let store = Store::new("appliance");
    let at = |name: &str| store.scratch.join(name);
    let (disk, variables, console) = (at("disk"), at("variables"), at("console"));
    let build = Cmd::new(workspace().join("images/appliance/build")).env("CORACLE_STORE", store.path());
    let build = build.arg(&disk).arg("--kernel").arg(kernel).arg("--modules-dir").arg(modules);
    let build = build.args(["--stub", STUB, "--cmdline", "console=ttyS0 quiet panic=-1"]);
    build.limit(Duration::from_secs(120)).ok();
    std::fs::copy(VARIABLES, &variables).expect("copy");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();

    let cuts = coracle_tests::rounds(2, 10);
    let mut last = 0;
    for boot in 0..=cuts {
        let power = switch_on(&disk, &variables, &console, port);
        let end = Instant::now() + Duration::from_secs(200);
        let mut first = None;
        // The power goes while it counts.
        while first.is_none_or(|first| last < first + 2) {
            let said = || std::fs::read_to_string(&console).unwrap_or_default();
            assert!(Instant::now() < end, "boot {boot}: it does not count on from {last}:\n{}", said());
            match count(port) {
                Some(now) if first.is_none() => {
                    assert!(
                        now >= last,
                        "boot {boot}: it counts {now} after it had shown {last}:\n{}",
                        said()
                    );
                    (first, last) = (Some(now), now);
                }
                Some(now) => last = now,
                None => {}
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(power);
    }
    let data = store.scratch.join("data");
    firmware::take(&disk, 3, &data);
    // What the journal has to say is done first: that is no fault, anything else is.
    let checked = Cmd::new("e2fsck").args(["-f", "-p"]).arg(&data).run();
    assert!(matches!(checked.code(), 0 | 1), "{checked:?}");
    Cmd::new("e2fsck").args(["-f", "-n"]).arg(&data).ok();
}
