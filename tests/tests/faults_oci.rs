//! Every verb of an OCI client killed at any moment: `delete --force` is always enough, and after it nothing is left.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use coracle_tests::bundle::{self, Bundle};
use coracle_tests::leftovers::Leftovers;
use coracle_tests::noise::noise;
use coracle_tests::{Cmd, Privilege, binaries, need};
use serde_json::json;

/// What is done first, and what is killed.
const FAULTS: [(&[&str], &str); 9] = [
    (&[], "create --bundle DIR"),
    (&[], "run --detach --bundle DIR"),
    (&["create --bundle DIR"], "start"),
    (&["create --bundle DIR"], "delete --force"),
    (&["create --bundle DIR", "start"], "exec --detach"),
    (&["create --bundle DIR", "start"], "update --pids-limit 50"),
    (&["create --bundle DIR", "start"], "pause"),
    (&["create --bundle DIR", "start", "pause"], "resume"),
    (&["create --bundle DIR", "start"], "delete --force"),
];

struct Client {
    bundle: Bundle,
}

impl Client {
    /// Its group is called by itself, or has a name that only the bundle knows, as podman's and docker's have.
    fn new(named: bool) -> Option<Self> {
        let bundle = Bundle::busybox(&["sleep", "1000"])?;
        let path = format!("/faults-{}", bundle.id());
        let bundle = if named { bundle.set("/linux/cgroupsPath", json!(path)) } else { bundle };
        bundle.write();
        Some(Self { bundle })
    }

    fn state(&self) -> PathBuf {
        self.bundle.path().join("state")
    }

    /// A verb whose streams are nobody's to wait for.
    fn verb(&self, line: &str) -> Command {
        let mut command = Command::new(binaries::runner());
        let log = || File::options().append(true).create(true).open(self.bundle.path().join("log"));
        command.arg("--root").arg(self.state());
        for word in line.split(' ') {
            match word {
                "DIR" => command.arg(self.bundle.path()),
                other => command.arg(other),
            };
        }
        command.arg(self.bundle.id());
        if line.starts_with("exec") {
            command.args(["sleep", "1000"]);
        }
        command.stdin(Stdio::null()).stdout(log().expect("a log")).stderr(log().expect("a log"));
        command
    }

    fn call(&self, line: &str) -> Cmd {
        Cmd::runner().arg("--root").arg(self.state()).words(line).arg(self.bundle.id())
    }

    fn states(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }
}

#[test]
fn a_verb_that_is_killed_at_any_moment_leaves_what_delete_takes_away() {
    if !need(Privilege::Root) || !bundle::works() {
        return;
    }
    let rounds = if std::env::var_os("CORACLE_TEST_ALL").is_some() { 200 } else { 6 };
    let delays = noise(7, 2 * rounds * FAULTS.len());
    let mut delays = delays.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(c[1]));
    let mut all = Vec::new();
    for (n, (before, killed)) in (0..rounds).flat_map(|n| FAULTS.map(|fault| (n, fault))) {
        let Some(client) = Client::new(n % 2 == 0) else { return };
        let leftovers = Leftovers::before(&client.bundle.id(), &[]);
        for line in before {
            let status = client.verb(line).status().expect("run a verb");
            let log = fs::read_to_string(client.bundle.path().join("log")).unwrap_or_default();
            assert!(status.success(), "{line}: {log}");
        }
        let mut verb = client.verb(killed).spawn().expect("run a verb");
        // As long as the slowest of them takes here.
        let delay = Duration::from_micros(delays.next().unwrap_or_default() % 9000);
        std::thread::sleep(delay);
        verb.kill().expect("kill -9");
        verb.wait().expect("wait");
        let what = format!("{killed}, killed after {delay:?}");
        // Whoever looks first cleans up as much as can be told from what is there.
        if n % 3 == 0 {
            client.call("list").run();
        }
        let deleted = client.call("delete --force").run();
        assert_eq!(deleted.code(), 0, "{what}: {deleted}");
        assert_eq!(client.states(), [""; 0], "{what}");
        client.call("state").fails(125);
        all.push(leftovers);
    }
    // At the end, for who reaps orphans may take its time.
    all.iter().for_each(Leftovers::assert_none);
}

#[test]
fn a_pid_file_in_a_folder_of_others_follows_no_link_and_waits_for_no_pipe() {
    let Some(client) = Client::new(true) else { return };
    let _leftovers = Leftovers::before(&client.bundle.id(), &[]);
    let victim = client.bundle.path().join("victim");
    fs::write(&victim, "untouched").expect("write a victim");
    for (n, set) in ["link", "pipe"].iter().enumerate() {
        let dir = client.bundle.path().join(format!("others{n}"));
        fs::create_dir(&dir).expect("make a folder");
        let temp = dir.join(".pid");
        match *set {
            "link" => std::os::unix::fs::symlink(&victim, &temp).expect("make a link"),
            _ => drop(Cmd::new("mkfifo").arg(&temp).ok()),
        }
        let create = format!("create --pid-file {}/pid --bundle DIR", dir.display());
        assert!(client.verb(&create).status().expect("run create").success());
        let pid = fs::read_to_string(dir.join("pid")).expect("a pid");
        assert!(pid.parse::<u32>().is_ok(), "{pid:?}");
        client.call("delete --force").ok();
        let names = fs::read_dir(&dir).expect("the folder").count();
        assert_eq!(names, 2, "the pid file and what was there");
    }
    assert_eq!(fs::read_to_string(&victim).expect("the victim"), "untouched");
}

#[test]
fn a_pipe_in_the_place_of_the_console_is_refused_and_not_waited_for() {
    let Some(client) = Client::new(true) else { return };
    let socket = client.bundle.path().join("console");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("listen");
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(client.bundle.path().join("config.json")).expect("config"))
            .expect("JSON");
    config["process"]["terminal"] = json!(true);
    // The image's own /dev, with devpts in it.
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| !matches!(m["destination"].as_str(), Some("/dev" | "/dev/shm")));
    fs::write(client.bundle.path().join("config.json"), config.to_string()).expect("write the config");
    fs::create_dir_all(client.bundle.rootfs("dev/pts")).expect("make a folder");
    Cmd::new("mkfifo").arg(client.bundle.rootfs("dev/console")).ok();
    let create = format!("create --console-socket {} --bundle DIR", socket.display());
    let mut create = client.verb(&create).spawn().expect("run create");
    let begun = std::time::Instant::now();
    let status = loop {
        match create.try_wait().expect("wait") {
            Some(status) => break status,
            None if begun.elapsed() > Duration::from_secs(10) => {
                create.kill().expect("kill");
                panic!("it waits");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(status.code(), Some(125));
    let log = fs::read_to_string(client.bundle.path().join("log")).unwrap_or_default();
    assert!(log.contains("/dev/console is neither a file nor a terminal"), "{log}");
    assert_eq!(client.states(), [""; 0]);
}

#[test]
fn who_listens_and_accepts_nobody_is_not_waited_for_for_ever() {
    use std::os::unix::net::UnixStream;
    let Some(client) = Client::new(true) else { return };
    let socket = client.bundle.path().join("deaf");
    // A queue of one, which is full.
    let listening = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .expect("a socket");
    let address = nix::sys::socket::UnixAddr::new(&socket).expect("an address");
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&listening), &address).expect("bind");
    nix::sys::socket::listen(&listening, nix::sys::socket::Backlog::new(0).expect("a backlog"))
        .expect("listen");
    let _waits = UnixStream::connect(&socket).expect("the one that there is room for");
    let create = format!("create --pidfd-socket {} --bundle", socket.display());
    let create = Cmd::runner().arg("--root").arg(client.state()).words(&create).arg(client.bundle.path());
    let out = create.arg(client.bundle.id()).limit(Duration::from_secs(30)).fails(125);
    out.complains("--pidfd-socket: nobody has accepted a connection");
    assert_eq!(client.states(), [""; 0]);
}
