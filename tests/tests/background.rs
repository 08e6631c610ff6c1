//! Containers that live on: `run -d`, their logs, their ends, their monitors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Start one in the background; its id.
#[track_caller]
fn begin(store: &Store, flags: &str, script: &str) -> String {
    let output = store.runner().words(&format!("run -d {flags} box sh -c")).arg(script).ok();
    let id = output.stdout.trim().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{output:?}");
    id
}

fn ps(store: &Store, format: &str) -> String {
    store.runner().args(["ps", "-a", "--format", format]).ok().stdout
}

fn dir(store: &Store, id: &str) -> PathBuf {
    store.path().join("containers").join(id)
}

/// The whole id of one that begins so.
fn whole_id(store: &Store, begin: &str) -> String {
    let entries = std::fs::read_dir(store.path().join("containers")).expect("containers");
    let ids = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    ids.into_iter().find(|id| id.starts_with(begin)).expect("the container")
}

/// The pid of a container's monitor.
fn monitor(store: &Store, id: &str) -> i32 {
    let record = std::fs::read_to_string(dir(store, id).join("container.json")).expect("the record");
    let (_, rest) = record.split_once("\"runner\":{\"pid\":").expect("a monitor");
    rest.split(',').next().and_then(|pid| pid.parse().ok()).expect("a pid")
}

#[test]
fn a_container_in_the_background_is_told_by_its_id_and_kept_in_its_log() {
    let Some(store) = Store::with_box("background-log") else { return };
    let id = begin(&store, "--name log", "echo one; echo two >&2; sleep 0.1; printf three; exit 7");
    store.runner().words("wait log").ok().prints("7");
    let logs = store.runner().words("logs log").ok();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("one\nthree", "two\n"));
    assert_eq!(ps(&store, "{{.Names}} {{.Status}}").split(" Less").next(), Some("log Exited (7)"));
    let times = store.runner().args(["logs", "-t", &id[..12]]).ok().stdout;
    assert!(times.lines().all(|l| l.len() > 30 && l[..30].ends_with('Z')), "{times}");
    assert_eq!(store.runner().words("logs --tail 1 log").ok().stdout, "three");
    assert_eq!(store.runner().words("logs --tail 0 log").ok().stdout, "");
    let moment = times.split(' ').next().expect("a time");
    assert_eq!(store.runner().args(["logs", "--until", moment, "log"]).ok().stdout, "one\n");
    assert_eq!(store.runner().words("logs --since 1h log").ok().stdout, "one\nthree");
    assert_eq!(store.runner().words("logs --since 2999-01-01 log").ok().stdout, "");
    store.runner().words("rm log").ok();
    let gone = store.runner().words("logs log").fails(125);
    assert!(gone.stderr.contains("No such container: log"), "{}", gone.stderr);
}

#[test]
fn who_follows_a_log_sees_all_of_it_until_the_end() {
    let Some(store) = Store::with_box("background-follow") else { return };
    let id = begin(
        &store,
        "--name f --log-opt max-size=2k --log-opt max-file=2",
        "i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; sleep 1; echo end",
    );
    let followed = store.runner().words("logs -f f").limit(Duration::from_secs(60)).ok().stdout;
    assert!(followed.ends_with("end\n"), "{followed}");
    let numbers: Vec<u32> = followed.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "nothing between is missing: {numbers:?}");
    let kept: u64 = ["log", "log.1", "log.2"]
        .iter()
        .filter_map(|name| std::fs::metadata(dir(&store, &id).join(name)).ok())
        .map(|m| m.len())
        .sum();
    assert!(kept <= 2 * 2048 + 4096 && !dir(&store, &id).join("log.2").exists(), "{kept}");
}

#[test]
fn nobody_waits_for_a_container_that_was_left_in_the_background() {
    let Some(store) = Store::with_box("background-tie") else { return };
    // A caller's descriptors, its pipes and its folder are not held by anybody afterwards.
    let script =
        "cd $D && exec 7>$D/held && x=$($R run -d --name tie box sleep 1000) && test ${#x} = 64 && echo done";
    let folder = store.scratch.join("folder");
    std::fs::create_dir(&folder).expect("mkdir");
    let output = Cmd::new("sh")
        .args(["-c", script])
        .env("D", &folder)
        .env("R", coracle_tests::binaries::runner())
        .env("CORACLE_STORE", store.path())
        .limit(Duration::from_secs(20))
        .ok();
    assert_eq!(output.stdout, "done\n");
    let id = ps(&store, "{{.ID}}");
    let pid = monitor(&store, &whole_id(&store, id.trim()));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("fds");
    let held: Vec<PathBuf> = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
    assert!(!held.contains(&folder.join("held")), "{held:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd"), Path::new("/"));
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let own = memory.lines().find_map(|l| l.strip_prefix("Private_Dirty:")).expect("Private_Dirty");
    let own: u64 = own.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(own <= 384, "a monitor has {own} KiB of its own");
    store.runner().words("rm -f tie").ok();
    assert!(!Path::new(&format!("/proc/{pid}/fd/0")).exists());
}

#[test]
fn stop_asks_and_then_kills_all_at_once() {
    let Some(store) = Store::with_box("background-stop") else { return };
    begin(&store, "--name asked", "trap 'echo bye; exit 5' TERM; while :; do sleep 0.1; done");
    for n in 0..4 {
        begin(
            &store,
            &format!("--name deaf{n} --stop-timeout 2"),
            "trap '' TERM; while :; do sleep 0.1; done",
        );
    }
    begin(&store, "--name own --stop-signal USR1", "trap 'exit 6' USR1; while :; do sleep 0.1; done");
    eventually("the traps are set", || store.runner().words("exec own true").run().code() == 0);
    std::thread::sleep(Duration::from_millis(300));
    let began = std::time::Instant::now();
    let stopped = store.runner().words("stop asked deaf0 deaf1 deaf2 deaf3 own").ok();
    assert_eq!(stopped.stdout, "asked\ndeaf0\ndeaf1\ndeaf2\ndeaf3\nown\n");
    assert!(began.elapsed() < Duration::from_secs(8), "one after the other takes eight seconds");
    let states = ps(&store, "{{.Names}} {{.Status}}");
    for (name, code) in [("asked", 5), ("deaf0", 137), ("deaf3", 137), ("own", 6)] {
        assert!(states.contains(&format!("{name} Exited ({code})")), "{states}");
    }
    assert_eq!(store.runner().words("logs asked").ok().stdout, "bye\n");
    // What has ended stays so, as docker has it.
    store.runner().words("stop asked").ok().prints("asked");
    let none = store.runner().words("stop nobody asked").fails(1);
    assert!(none.stderr.contains("No such container: nobody") && none.stdout == "asked\n", "{none:?}");
    store.runner().words("stop -t soon asked").fails(125);
}

#[test]
fn a_container_starts_again_as_it_was_made() {
    let Some(store) = Store::with_box("background-start") else { return };
    let folder = store.scratch.join("given");
    std::fs::create_dir(&folder).expect("mkdir");
    let created = store
        .runner()
        .words("create --name c -e A=b --hostname inside -w /tmp -v given:/data -v ./given:/given --init-opt grace=1 box sh -c")
        .arg("echo $A $HOSTNAME $PWD $(hostname); echo x >>/given/runs; echo x >>/count; cat /count | wc -l")
        .dir(store.scratch.path())
        .ok();
    assert_eq!(created.stdout.trim().len(), 64);
    assert_eq!(ps(&store, "{{.Status}}"), "Created\n");
    for n in 1..=3 {
        let said = store.runner().words("start -a c").dir("/").ok().stdout;
        assert_eq!(said, format!("b inside /tmp inside\n{n}\n"), "what it wrote is still there");
        // Who was attached has heard of its end: its files are to be had at once.
        let count = store.runner().words("cp c:/count counted").dir(store.scratch.path());
        count.ok();
        let counted = std::fs::read_to_string(store.scratch.join("counted")).expect("counted");
        assert_eq!(counted.lines().count(), n);
    }
    assert_eq!(std::fs::read_to_string(folder.join("runs")).expect("runs"), "x\nx\nx\n");
    store.runner().words("start c").ok().prints("c");
    store.runner().words("wait c").ok().prints("0");
    // One that runs is left alone.
    begin(&store, "--name runs", "sleep 1000");
    let pid = ps(&store, "{{.Pid}}");
    store.runner().words("start runs").ok().prints("runs");
    assert_eq!(ps(&store, "{{.Pid}}"), pid);
    store.runner().words("restart -t 0 runs").ok().prints("runs");
    assert_ne!(ps(&store, "{{.Pid}}"), pid);
    store.runner().words("start nobody runs").fails(1);
    store.runner().words("start").fails(125);
    store.runner().words("rm -f c runs").ok();
}

#[test]
fn keys_and_what_is_written_go_through_the_monitor() {
    let Some(store) = Store::with_box("background-attach") else { return };
    store.runner().words("create -i --name cat box cat").ok();
    let said = store.runner().words("start -ai cat").stdin("to and fro\n").ok();
    assert_eq!(said.stdout, "to and fro\n");
    begin(&store, "-i --name reads", "while read line; do echo got $line; test $line = end && exit 3; done");
    let first = store.runner().words("attach reads").stdin("one\n").spawn();
    first.wait_for("got one");
    drop(first);
    let second = store.runner().words("attach reads").stdin("two\nend\n").fails(3);
    assert!(second.stdout.ends_with("got two\ngot end\n"), "{}", second.stdout);
    assert_eq!(store.runner().words("logs reads").ok().stdout, "got one\ngot two\ngot end\n");
    let ended = store.runner().words("attach reads").fails(125);
    assert!(ended.stderr.contains("container reads is not running"), "{}", ended.stderr);
    // Both streams, to their places.
    store.runner().words("create --name both box sh -c").arg("echo out; echo err >&2; exit 4").ok();
    let both = store.runner().words("start -a both").fails(4);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_policy_brings_a_container_back_until_it_is_stopped() {
    let Some(store) = Store::with_box("background-restart") else { return };
    begin(&store, "--name twice --restart on-failure:2", "echo run; exit 3");
    eventually("it has tried three times", || ps(&store, "{{.Status}}").starts_with("Exited (3)"));
    assert_eq!(store.runner().words("logs twice").ok().stdout, "run\nrun\nrun\n");
    begin(&store, "--name well --restart on-failure", "echo run; exit 0");
    store.runner().words("wait well").ok().prints("0");
    assert_eq!(store.runner().words("logs well").ok().stdout, "run\n");
    let id = begin(&store, "--name ever --restart always", "echo run; sleep 0.05");
    eventually("it comes back", || store.runner().words("logs ever").ok().stdout.lines().count() > 3);
    store.runner().words("stop -t 0 ever").ok();
    let logged = store.runner().words("logs ever").ok().stdout;
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(store.runner().words("logs ever").ok().stdout, logged, "it was stopped");
    assert!(ps(&store, "{{.Names}} {{.Status}}").contains("ever Exited"));
    // One that waits to begin again is stopped, and removed, as any other.
    begin(&store, "--name waits --restart always", "exit 1");
    eventually("it waits for long", || {
        dir(&store, &id).exists() && ps(&store, "{{.Names}} {{.State}}").contains("waits restarting")
    });
    store.runner().words("stop waits").ok();
    assert!(ps(&store, "{{.Names}} {{.State}}").contains("waits exited"));
    store.runner().words("start waits").ok();
    eventually("it waits again", || ps(&store, "{{.Names}} {{.State}}").contains("waits restarting"));
    store.runner().words("rm -f waits ever twice well").ok();
    assert_eq!(ps(&store, "{{.Names}}"), "");
    for (flags, says) in [
        ("--restart sometimes", "there are no, on-failure[:N], always and unless-stopped"),
        ("--restart always --rm", "cannot specify both --restart and --rm"),
        ("--log-driver syslog", "there are local"),
        ("--no-healthcheck --health-cmd x", "--no-healthcheck conflicts"),
        ("--stop-timeout -2", "--stop-timeout"),
    ] {
        let refused = store.runner().words(&format!("run -d {flags} box true")).fails(125);
        assert!(refused.stderr.contains(says), "{flags}: {}", refused.stderr);
        assert_eq!(ps(&store, "{{.Names}}"), "", "{flags}: nothing is left");
    }
}

#[test]
fn a_container_dies_with_its_monitor_and_comes_back_after_a_reboot() {
    let Some(store) = Store::with_box("background-killed") else { return };
    let ids: Vec<String> = ["always", "unless-stopped", "on-failure", "no"]
        .iter()
        .map(|policy| begin(&store, &format!("--name {policy} --restart {policy}"), "exec sleep 1000"))
        .collect();
    begin(&store, "--name stopped --restart unless-stopped", "exec sleep 1000");
    store.runner().words("stop -t 0 stopped").ok();
    for id in &ids {
        kill(Pid::from_raw(monitor(&store, id)), Signal::SIGKILL).expect("kill the monitor");
    }
    eventually("ps tells the truth", || !ps(&store, "{{.State}}").contains("running"));
    assert_eq!(ps(&store, "{{.Status}}").lines().filter(|l| l.starts_with("Exited (137)")).count(), 5);
    let mut back: Vec<String> =
        store.runner().words("start --all").ok().stdout.lines().map(str::to_owned).collect();
    back.sort();
    assert_eq!(back, ["always", "on-failure", "unless-stopped"]);
    assert_eq!(ps(&store, "{{.Names}} {{.State}}").lines().filter(|l| l.ends_with("running")).count(), 3);
    assert_eq!(store.runner().words("start --all").ok().stdout, "");
    store.runner().words("rm -f always unless-stopped on-failure no stopped").ok();
}

#[test]
fn health_is_looked_after_while_it_runs() {
    let Some(store) = Store::with_box("background-health") else { return };
    let flags =
        ["--health-interval", "100ms", "--health-retries", "2", "--health-cmd", "echo look; test -e /well"];
    store.runner().words("run -d --name h").args(flags).words("box sleep 1000").ok();
    let id = whole_id(&store, ps(&store, "{{.ID}}").trim());
    let health = || std::fs::read_to_string(dir(&store, &id).join("health")).unwrap_or_default();
    eventually("it is ill", || health().contains("\"Status\":\"unhealthy\""));
    assert!(
        health().contains("\"Output\":\"look\\n\"") && health().contains("\"ExitCode\":1"),
        "{}",
        health()
    );
    store.runner().words("exec h touch /well").ok();
    eventually("it is well", || health().contains("\"Status\":\"healthy\""));
    let slow = [
        "--health-interval",
        "100ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
        "--health-cmd",
        "sleep 100",
    ];
    store.runner().words("run -d --name slow").args(slow).words("box sleep 1000").ok();
    let id = whole_id(&store, store.runner().words("ps -q --filter name=slow").ok().stdout.trim());
    let health = || std::fs::read_to_string(dir(&store, &id).join("health")).unwrap_or_default();
    eventually("a check that does not end is one that fails", || health().contains("exceeded timeout"));
    store.runner().words("rm -f h slow").ok();
}

#[test]
fn what_cannot_be_started_leaves_nothing_and_is_told() {
    let Some(store) = Store::with_box("background-wrong") else { return };
    let none = store.runner().words("run -d box nosuchprogram").fails(127);
    assert!(none.stderr.contains("\"nosuchprogram\": executable file not found in $PATH"), "{}", none.stderr);
    store.runner().words("run -d box /etc").fails(126);
    store.runner().words("run -d -w relative box true").fails(125);
    assert_eq!(ps(&store, "{{.Names}}"), "");
    begin(&store, "--name taken --rm", "exec sleep 1000");
    let twice = store.runner().words("run -d --name taken box true").fails(125);
    assert!(twice.stderr.contains("already in use"), "{}", twice.stderr);
    assert_eq!(ps(&store, "{{.Names}}"), "taken\n");
    store.runner().words("kill taken").ok();
    eventually("it goes when it has ended", || ps(&store, "{{.Names}}").is_empty());
    // In front of its runner nothing is kept, and that is said.
    store.runner().words("run --name front box echo shown").ok();
    let front = store.runner().words("logs front").fails(125);
    assert!(front.stderr.contains("ran in front of its runner"), "{}", front.stderr);
    store.runner().words("create --name wrong box nosuchprogram").ok();
    let wrong = store.runner().words("start wrong").fails(1);
    assert!(wrong.stderr.contains("executable file not found"), "{}", wrong.stderr);
    assert!(ps(&store, "{{.Names}} {{.Status}}").contains("wrong Exited (127)"));
}

#[test]
fn an_ordinary_users_containers_live_in_the_background_as_well() {
    if !need(Privilege::OrdinaryUser) || !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(image) = Image::busybox() else { return };
    let store = Store::of_user("background-user");
    image.compose(&store, "box");
    let run = |line: &str| store.runner().words(line);
    run("run -d --name mine box sh -c").arg("echo hello; exec sleep 1000").ok();
    eventually("it has written", || run("logs mine").ok().stdout == "hello\n");
    run("exec mine id -u").ok().prints("0");
    run("restart -t 0 mine").ok().prints("mine");
    run("stop -t 0 mine").ok().prints("mine");
    run("rm mine").ok();
}
