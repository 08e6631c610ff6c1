//! Callers and hosts that are not as one would have them: closed streams, odd signals, full disks, deaths at
//! the wrong moment. Every verb still says what it did, and nothing is lost or left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_tests::binaries::runner;
use coracle_tests::bundle::Bundle;
use coracle_tests::oci::Client;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need};
use nix::sys::signal::Signal;
use serde_json::json;

/// A store with a busybox image called `box`.
fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Containers) {
        return None;
    }
    let store = Store::new(name);
    Image::busybox()?.compose(&store, "box");
    Some(store)
}

/// A shell's line in which `$R` is the runner on this store.
fn shell(store: &Store, line: &str) -> Cmd {
    let cmd = Cmd::new("sh").args(["-c", line]).dir(store.scratch.path());
    cmd.env("R", runner()).env("CORACLE_STORE", store.path())
}

fn containers(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.path().join("containers")).expect("containers/");
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_printed_to_nobody_ends_nothing() {
    let Some(store) = store("adversity-print") else { return };
    for verb in ["ps", "info", "doctor", "--help", "run --help", "images", "inspect box", "history box"] {
        let out = shell(&store, &format!("$R {verb} >/dev/full")).run();
        let lines: Vec<&str> = out.stderr.trim_end().lines().collect();
        assert!(out.code() != 0 && out.code() < 128 && lines.len() == 1, "{out}");
        assert!(lines[0].contains("No space left on device"), "{out}");
        // A reader that has seen enough.
        let out = shell(&store, &format!("$R {verb} | head -c 1 >/dev/null; $R {verb} | true")).ok();
        assert_eq!(out.stderr, "", "{out}");
    }
}

#[test]
fn an_ignored_sigchld_is_no_business_of_the_container() {
    let Some(store) = store("adversity-sigchld") else { return };
    shell(&store, "trap '' CHLD; $R run --rm box sh -c 'true; exit 7'").fails(7);
}

/// What the command that this is run in front of would do by itself: nothing at these signals.
const DEAF: &str = "trap '' HUP INT QUIT PIPE USR1 XFSZ RTMIN;";
const NONE_IGNORED: &str = "SigIgn:\t0000000000000000\n";

#[test]
fn what_the_caller_ignores_is_not_ignored_inside() {
    let Some(store) = store("adversity-ignoring") else { return };
    let look = "grep SigIgn /proc/self/status";
    shell(&store, &format!("{DEAF} {look}")).ok().prints("SigIgn:\t0000000");
    for flags in ["", "--init=never", "-t"] {
        let out = shell(&store, &format!("{DEAF} $R run --rm {flags} box {look}")).ok();
        assert_eq!(out.stdout.replace('\r', ""), NONE_IGNORED, "{flags}");
    }
    let line = format!("{DEAF} exec $R run --init=never --name deaf box sh -c 'echo up; exec sleep 1000'");
    let running = shell(&store, &line).spawn();
    running.wait_for("up");
    let seen = shell(&store, &format!("{DEAF} $R exec deaf {look}")).ok().stdout;
    assert_eq!(seen, NONE_IGNORED);
    running.signal(Signal::SIGKILL);
}

#[test]
fn what_the_caller_ignores_is_not_ignored_in_a_bundle() {
    let look = "grep SigIgn /proc/self/status";
    let sleep = |b: Bundle| b.set("/process/args", json!(["sleep", "1000"]));
    let Some(one) = Client::of(sleep, "") else { return };
    let typed = |words: &str| {
        let line = format!("{DEAF} $R --root {} {words}", one.file("state").display());
        Cmd::new("sh").arg("-c").arg(line).env("R", runner()).dir(one.bundle.path())
    };
    let id = one.bundle.id();
    typed(&format!("create {id} >out 2>&1")).ok();
    typed(&format!("start {id}")).ok();
    let seen = typed(&format!("exec {id} {look} /proc/1/status")).ok().stdout;
    assert_eq!(seen.matches(NONE_IGNORED).count(), 2, "{seen}");
    typed(&format!("exec -d {id} {look} >later")).ok();
    one.wait_until("what is detached has looked", || one.read("later").contains("SigIgn"));
    assert_eq!(one.read("later"), NONE_IGNORED);
    typed(&format!("delete -f {id}")).ok();
    typed(&format!("run -d {id} >out 2>&1")).ok();
    let seen = typed(&format!("exec {id} {look} /proc/1/status")).ok().stdout;
    typed(&format!("delete -f {id}")).ok();
    assert_eq!(seen.matches(NONE_IGNORED).count(), 2, "{seen}");
    let bundle = Bundle::busybox(&look.split(' ').collect::<Vec<_>>()).expect("busybox-static");
    bundle.write();
    let run = format!("{DEAF} $R run --bundle . {}", bundle.id());
    let out = Cmd::new("sh").args(["-c", &run]).env("R", runner()).dir(bundle.path()).ok();
    assert_eq!(out.stdout, NONE_IGNORED);
}

#[test]
fn a_runner_under_nohup_forwards_no_hang_up() {
    let Some(store) = store("adversity-nohup") else { return };
    let script = "trap 'echo hung up; exit 4' HUP; trap 'echo told; exit 5' USR1; echo up; while :; do sleep 0.1; done";
    // The tests themselves may run under nohup.
    let cases =
        [("trap '' HUP; exec", "up\ntold\n", 5), ("exec env --default-signal=HUP", "up\nhung up\n", 4)];
    for (before, seen, code) in cases {
        let line = format!("{before} $R run --rm box sh -c \"{script}\"");
        let running = shell(&store, &line).spawn();
        running.wait_for("up");
        running.signal(Signal::SIGHUP);
        running.signal(Signal::SIGUSR1);
        let out = running.wait(Duration::from_secs(20)).expect("it ends").fails(code);
        assert_eq!(out.stdout, seen);
    }
}

#[test]
fn a_strict_umask_is_not_the_containers() {
    let Some(store) = store("adversity-umask") else { return };
    if !need(Privilege::Root) {
        return;
    }
    let out =
        shell(&store, "umask 077; $R run --rm -u 1000 -v fresh:/fresh box sh -c 'cat /etc/hosts; ls /fresh'");
    out.ok().prints("localhost");
}

#[test]
fn a_link_of_the_images_that_leads_nowhere_is_followed_inside() {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Containers) {
        return;
    }
    let store = Store::new("adversity-link");
    let image = Image::busybox().expect("busybox").link("etc/resolv.conf", "../run/resolve/stub.conf");
    image.link("etc/hosts", "/nowhere/hosts").compose(&store, "linked");
    let out = store.run("linked sh -c").arg("cat /etc/hosts; ls /run/resolve /nowhere").ok();
    assert!(out.stdout.contains("localhost") && out.stdout.contains("stub.conf"), "{out}");
    assert!(!Path::new("/nowhere").exists() && !Path::new("/run/resolve").exists());
}

#[test]
fn nobody_gets_into_a_container_before_it_is_in_its_own_root() {
    let Some(store) = store("adversity-early") else { return };
    let mark = store.scratch.join("mark");
    for n in 0..20 {
        let name = format!("early{n}");
        let running = store.run(&format!("--name {name} box sleep 0.1")).spawn();
        let pid = running.pid();
        while Path::new(&format!("/proc/{pid}/stat")).exists() {
            let script = format!("echo out > {}", mark.display());
            store.runner().args(["exec", &name, "sh", "-c", &script]).run();
            if std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z ")) {
                break;
            }
        }
        drop(running);
        assert!(!mark.exists(), "a command of the container's ran on the host");
    }
}

#[test]
fn one_that_is_about_to_start_is_not_removed_and_one_that_never_did_is() {
    let Some(store) = store("adversity-half") else { return };
    let fifo = store.scratch.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    // It waits for its environment when its folder is made already.
    let running = store.run("--name half --env-file").arg(&fifo).words("box true").spawn();
    eventually("the container's folder", || {
        store.path().join("containers").is_dir() && containers(&store).len() == 1
    });
    let id = containers(&store).remove(0);
    store.runner().args(["rm", &id]).fails(1).complains("about to start");
    assert_eq!(containers(&store).len(), 1);
    running.signal(Signal::SIGKILL);
    drop(running);
    store.runner().args(["ps", "-a"]).ok();
    assert!(containers(&store).is_empty(), "the killed runner's folder is gone");
}

#[test]
fn a_container_that_gets_round_the_death_of_its_runner_is_swept() {
    let Some(_) = store("adversity-probe") else { return };
    let store = Store::new("adversity-orphan");
    let source = "#include <sys/prctl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
                  int main(void) { prctl(PR_SET_PDEATHSIG, 0); puts(\"free\"); fflush(stdout); sleep(1000); return 0; }";
    let Some(image) = Image::busybox().expect("busybox").program("bin/free", source) else { return };
    image.compose(&store, "free");
    let token = format!("orphan{}", std::process::id());
    let running = store.run(&format!("--no-init --name {token} free /bin/free")).spawn();
    running.wait_for("free");
    eventually("it is recorded", || store.runner().args(["exec", &token, "true"]).run().code() == 0);
    running.signal(Signal::SIGKILL);
    eventually("its runner is gone", || !Path::new(&format!("/proc/{}/exe", running.pid())).exists());
    eventually("a sweep ends it", || store.runner().args(["ps", "-aq"]).ok().stdout.is_empty());
    assert!(containers(&store).is_empty());
}

#[test]
fn while_nobody_reads_a_time_limit_is_kept() {
    let Some(store) = store("adversity-reader") else { return };
    let line = "($R run --rm -t --timeout 1 box sh -c 'while :; do echo xxxxxxxxxxxxxxxx; done'; echo $? >code) \
                | (while ! test -s code; do sleep 0.1; done)";
    shell(&store, line).limit(Duration::from_secs(60)).ok();
    let code = std::fs::read_to_string(store.scratch.join("code")).expect("the exit code");
    assert_eq!(code.trim(), "137");
}

#[test]
fn odd_states_keep_nobody_from_anything() {
    let Some(store) = store("adversity-states") else { return };
    store.runner().words("run --name kept box true").ok();
    let id = containers(&store).remove(0);
    let record = store.path().join("containers").join(&id).join("container.json");
    let text = std::fs::read_to_string(&record).expect("the record");
    // Another's record, half a record, nothing.
    for odd in [text.replace(&id, &"0".repeat(64)), text[..text.len() / 2].into(), String::new()] {
        let other = "1".repeat(64);
        let dir = store.path().join("containers").join(&other);
        std::fs::create_dir(&dir).expect("mkdir");
        std::fs::write(dir.join("container.json"), odd).expect("write");
        store.runner().args(["ps", "-a", "--format", "{{.Names}}"]).ok().prints("kept");
        store.runner().args(["rm", "-f", &other]).ok();
        assert_eq!(containers(&store), std::slice::from_ref(&id));
    }
    store.runner().args(["rm", "kept"]).ok();
    assert!(containers(&store).is_empty());
}

#[test]
fn what_would_be_ignored_is_refused() {
    let Some(store) = store("adversity-ignored") else { return };
    let folder = store.scratch.mkdir("folder");
    for (words, why) in [
        ("--scratch tmpfs:0 box true".to_owned(), "--scratch"),
        (format!("--scratch tmpfs --rootfs {} true", folder.display()), "--scratch"),
        (format!("--bundle {} -m 32m id", folder.display()), "--bundle"),
        (format!("--bundle {} --read-only id", folder.display()), "--bundle"),
        ("--mount type=bind,src=/no-such-source,dst=/x box true".into(), "bind source path does not exist"),
        ("-v /etc/passwd:/tmp box true".into(), "a file cannot be mounted on what is a folder"),
        (format!("-v {}:/etc/passwd box true", folder.display()), "a folder cannot be mounted"),
        ("--timeout soon box true".into(), "--timeout"),
        ("--cpus none box true".into(), "--cpus"),
    ] {
        let out = store.run(&words).fails(125).complains(why);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
    }
}

#[test]
fn a_working_directory_that_is_gone_is_missed_only_by_what_is_relative() {
    let Some(store) = store("adversity-cwd") else { return };
    shell(&store, "mkdir gone; cd gone; rmdir ../gone; exec $R run --rm box echo here").ok().prints("here");
    let relative = "mkdir gone; cd gone; rmdir ../gone; exec $R run --rm -v ./x:/x box true";
    shell(&store, relative).fails(125).complains("there is no working directory");
}

#[test]
fn a_script_that_names_init_as_its_interpreter_ends() {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Containers) {
        return;
    }
    let store = Store::new("adversity-interpreter");
    Image::busybox().expect("busybox").script("again", "#!/proc/self/exe\n").compose(&store, "again");
    store.run("again /again").fails(126).complains("no interpreter");
}

#[test]
fn an_environment_of_any_size_is_taken_or_refused_at_once() {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Containers) {
        return;
    }
    let store = Store::new("adversity-env");
    let env: Vec<String> = (0..60_000).map(|n| format!("VARIABLE{n} = \"{n}{}\"", "x".repeat(60))).collect();
    let image = Image::busybox().expect("busybox").config(format!("[config.env]\n{}", env.join("\n")));
    image.compose(&store, "huge");
    store.run("huge true").limit(Duration::from_secs(30)).fails(125).complains("longer than the kernel");
}

#[test]
fn a_runtime_directory_of_somebody_else_is_not_believed() {
    if !need(Privilege::OrdinaryUser) || !need(Privilege::UserNamespaces) {
        return;
    }
    let store = Store::of_user("adversity-xdg");
    for (dir, why) in [("/etc", "somebody else"), ("/no-such-folder", "XDG_RUNTIME_DIR")] {
        let out = store.runner().env("XDG_RUNTIME_DIR", dir).args(["ps"]).run();
        assert!(out.code() == 125 && out.stderr.contains(why), "{out}");
    }
}

#[test]
fn a_store_that_has_lost_its_index_loses_no_more() {
    let Some(store) = store("adversity-index") else { return };
    let (index, aside) = (store.path().join("index.json"), store.path().join("aside"));
    std::fs::rename(&index, &aside).expect("rename");
    for verb in ["images", "rmi box", "rmi nothing"] {
        store.rootfs_tool().words(verb).fails(1).complains("index.json");
    }
    std::fs::rename(&aside, &index).expect("rename");
    store.run("box true").ok();
}

/// A small file system that goes with the test.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).expect("mkdir");
        Cmd::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"]).arg(&at).ok();
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Cmd::new("umount").args(["-l"]).arg(&self.0).run();
    }
}

#[test]
fn a_container_that_fills_the_disk_keeps_its_exit_code_and_can_be_removed() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let store = Store::new("adversity-full");
    let _small = Small::mount(store.path(), "24m");
    Image::busybox().expect("busybox").compose(&store, "box");
    let fill =
        "dd if=/dev/zero of=/file bs=1M 2>/dev/null; dd if=/dev/zero of=/rest bs=1k 2>/dev/null; exit 7";
    store.runner().args(["run", "--name", "full", "box", "sh", "-c", fill]).fails(7);
    store.runner().args(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().prints("full exited");
    store.runner().args(["rm", "full"]).ok();
    store.run("box true").ok();
}
