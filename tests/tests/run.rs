//! `runner run IMAGE` and the verbs around it, as hands used to docker type them.

use std::path::Path;

use coracle_tests::canary::hash;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, binaries, eventually, need};

/// A store with a busybox image called `box`.
fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Peer("busybox")) {
        return None;
    }
    let store = Store::new(name);
    Image::busybox()?.config("cmd = [\"sh\", \"-c\", \"echo the image says so\"]").compose(&store, "box");
    Some(store)
}

/// `run --rm FLAGS box sh -c SCRIPT`.
fn script(store: &Store, flags: &str, script: &str) -> Output {
    store.run(flags).args(["box", "sh", "-c", script]).run()
}

#[test]
fn the_command_is_the_images_unless_one_is_typed() {
    let Some(store) = store("run-command") else { return };
    assert_eq!(store.run("box").ok().stdout, "the image says so\n");
    assert_eq!(store.run("box echo no I do").ok().stdout, "no I do\n");
    assert_eq!(store.run("--entrypoint echo box a b").ok().stdout, "a b\n");
    assert_eq!(store.run("box -- echo behind").ok().stdout, "behind\n");
}

#[test]
fn a_caller_with_a_small_stack_starts_containers_that_have_its_limit() {
    let Some(store) = store("run-stack") else { return };
    let small = "ulimit -s 64; exec \"$0\" \"$@\"";
    let within = |program: std::path::PathBuf, words: &str| {
        let cmd = Cmd::new("sh").args(["-c", small]).arg(program).words(words);
        cmd.env("CORACLE_STORE", store.path()).dir(store.scratch.path()).ok()
    };
    let run = "run --rm box sh -c";
    let seen = Cmd::new("sh").args(["-c", small]).arg(binaries::runner()).words(run).arg("ulimit -s");
    assert_eq!(seen.env("CORACLE_STORE", store.path()).ok().stdout, "64\n");
    within(binaries::runner(), "doctor");
    within(binaries::rootfs_tool(), "images").prints("box");
    within(binaries::rootfs_tool(), "build --help");
}

#[test]
fn init_is_pid_1_and_the_command_its_child() {
    let Some(store) = store("run-init") else { return };
    let seen = "echo $$; tr '\\0' ' ' </proc/1/cmdline";
    let output = script(&store, "", seen).ok();
    assert!(output.stdout.starts_with("2\ninit "), "{output}");
    assert_eq!(script(&store, "--init=never", "echo $$").ok().stdout, "1\n");
    assert_eq!(script(&store, "--no-init", "echo $$").ok().stdout, "1\n");
    script(&store, "--no-init --init", "true").fails(125);
    for option in ["frob", "grace", "grace=x", "--grace=1", "wait-all=1", "rewrite=TERM", "error-fd=1"] {
        script(&store, &format!("--init-opt {option}"), "true").fails(125).complains(option);
    }
    script(&store, "--init-opt grace=0.5 --init-opt rewrite=TERM:QUIT --init-opt wait-all", "true").ok();
}

#[test]
fn help_is_had_before_the_verb_and_behind_it() {
    let help = |line: &str| Cmd::runner().words(line).ok().stdout;
    assert!(help("run --help").contains(" IMAGE [CMD...]\n"));
    assert_eq!(help("help run"), help("run --help"));
    assert_eq!(help("help"), help("--help"));
    Cmd::runner().words("help nonsense").fails(125);
}

#[test]
fn exit_codes_are_dockers() {
    let Some(store) = store("run-codes") else { return };
    for (words, code) in [
        ("box true", 0),
        ("box false", 1),
        ("box no-such-program", 127),
        ("box /etc", 126),
        ("--pull never no-such-image true", 125),
        ("--no-such-flag box true", 125),
        ("--memory lots box true", 125),
        ("-u nobody-at-all box true", 125),
        ("--network mesh box true", 125),
    ] {
        let output = store.run(words).fails(code);
        if code >= 125 {
            assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output}");
        }
    }
    script(&store, "", "exit 77").fails(77);
    script(&store, "", "kill -9 $$").fails(137);
    script(&store, "--init=never", "exit 3").fails(3);
}

#[test]
fn environment_user_directory_and_host_name_are_what_the_flags_say() {
    let Some(store) = store("run-flags") else { return };
    let scratch = Scratch::new("run-env");
    let file = scratch.write("env", "# a note\nB=from a file\n\nC\n");
    let flags = format!("-e A=1 -e A=2 --env-file {}", file.display());
    assert_eq!(script(&store, &flags, "echo $A $B").ok().stdout, "2 from a file\n");
    assert_eq!(
        script(&store, "-h box.example", "hostname; echo $HOSTNAME").ok().stdout,
        "box.example\nbox.example\n"
    );
    let seen =
        "hostname; env | grep -c ^HOSTNAME=; cat /etc/hostname 2>/dev/null | grep -c box.example; true";
    assert_eq!(script(&store, "-h box.example", seen).ok().stdout, "box.example\n1\n1\n");
    assert_eq!(script(&store, "-h box.example --no-hostname", seen).ok().stdout, "box.example\n0\n0\n");
    assert_eq!(script(&store, "-w /made/here", "pwd").ok().stdout, "/made/here\n");
    if need(Privilege::Root) {
        assert_eq!(script(&store, "-u 5:6", "id -u; id -g; id -G").ok().stdout, "5\n6\n6\n");
    }
    let output = script(&store, "-u 4294967296", "id");
    assert_eq!(output.code(), 125, "{output}");
}

#[test]
fn capabilities_are_dockers_and_reach_an_ordinary_user_who_is_given_them() {
    let Some(store) = store("run-caps") else { return };
    let seen = "grep -E 'CapEff|CapInh|CapBnd' /proc/self/status | cut -f2";
    let lines = |flags: &str| script(&store, flags, seen).ok().stdout;
    assert_eq!(lines(""), "0000000000000000\n00000000a80425fb\n00000000a80425fb\n");
    assert_eq!(
        lines("--cap-drop ALL --cap-add chown"),
        "0000000000000000\n0000000000000001\n0000000000000001\n"
    );
    if need(Privilege::Root) {
        assert_eq!(lines("-u 7"), "0000000000000000\n0000000000000000\n00000000a80425fb\n");
        let granted = lines("-u 7 --cap-drop ALL --cap-add NET_BIND_SERVICE");
        assert!(granted.contains("0000000000000400\n0000000000000400"), "{granted}");
    }
    script(&store, "--cap-add FROB", "true").fails(125);
}

#[test]
fn folders_are_mounted_as_asked() {
    let Some(store) = store("run-volumes") else { return };
    let scratch = Scratch::new("run-volumes-host");
    scratch.write("in/file", "hello");
    let at = scratch.join("in");
    let flags = |options: &str| format!("-v {}:/mnt/deep{options}", at.display());
    assert_eq!(script(&store, &flags(""), "cat /mnt/deep/file").ok().stdout, "hello");
    script(&store, &flags(":ro"), "echo x >/mnt/deep/file").fails(1);
    script(&store, &flags(":frob"), "true").fails(125);
    let output = script(&store, "-v data:/data", "echo kept >/data/file; cat /data/file").ok();
    assert_eq!(output.stdout, "kept\n");
    assert_eq!(script(&store, "-v data:/other", "cat /other/file").ok().stdout, "kept\n");
    script(&store, "--mount type=bind,src=/no/such/place,dst=/x", "true").fails(125);
    script(&store, "--tmpfs /scratch:size=1m", "dd if=/dev/zero of=/scratch/x bs=1M count=2").fails(1);
    script(&store, "--read-only", "echo x >/file").fails(1);
    script(&store, "--read-only --tmpfs /tmp", "echo x >/tmp/file").ok();
    script(&store, "--scratch tmpfs:1m", "dd if=/dev/zero of=/x bs=1M count=2").fails(1);
}

#[test]
fn a_limit_is_the_commands_and_not_the_runners() {
    let Some(store) = store("run-limits") else { return };
    for flag in ["--ulimit fsize=0", "--ulimit nofile=3", "--ulimit nofile=3 -m 64m --no-init"] {
        if flag.contains("-m") && !need(Privilege::Root) {
            continue;
        }
        store.run(flag).words("box true").ok();
    }
    let seen = script(&store, "--ulimit fsize=8192 --ulimit nofile=99", "ulimit -f; ulimit -n").ok().stdout;
    assert_eq!(seen, "16\n99\n");
    let running = sleeper(&store, "limited", "--ulimit fsize=0 --ulimit nofile=99");
    assert_eq!(store.runner().words("exec limited sh -c").arg("ulimit -n").ok().stdout, "99\n");
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn what_a_container_destroys_is_its_own() {
    let Some(store) = store("run-destroy") else { return };
    let layers = store.path().join("layers");
    let before = hash(&layers);
    script(&store, "", "rm -rf /bin/* /etc /usr /root 2>/dev/null; echo over").run_or_not();
    script(&store, "", "echo two >/etc/new; test -e /bin/ls").ok();
    script(&store, "", "test ! -e /etc/new").ok();
    assert_eq!(hash(&layers), before, "the layers have changed");
}

/// An output that is looked at for its effects alone.
trait RunOrNot {
    fn run_or_not(self);
}

impl RunOrNot for Output {
    fn run_or_not(self) {}
}

#[test]
fn the_report_tells_how_it_ended() {
    let Some(store) = store("run-report") else { return };
    let scratch = Scratch::new("run-report-file");
    let file = scratch.join("report");
    let report = |flags: &str, command: &str| -> String {
        script(&store, &format!("--report {} {flags}", file.display()), command).run_or_not();
        std::fs::read_to_string(&file).unwrap()
    };
    for (flags, command, holds) in [
        ("", "exit 3", r#""cause":"exit","code":3"#),
        ("", "kill -15 $$", r#""cause":"signal","code":143,"signal":15"#),
        ("", "exit 143", r#""cause":"exit","code":143,"wall"#),
        ("", "exit 192", r#""cause":"exit","code":192,"wall"#),
        ("", "exit 255", r#""cause":"exit","code":255,"wall"#),
        ("--no-init", "exit 143", r#""cause":"exit","code":143,"wall"#),
        ("--timeout 0.2", "sleep 60", r#""cause":"timeout""#),
        ("-u nobody-at-all", "true", r#""cause":"error","code":125"#),
    ] {
        let text = report(flags, command);
        assert!(text.contains(holds) && text.ends_with("}\n"), "{command}: {text}");
    }
    store.run("--report /no/such/folder/x box true").fails(125);
}

#[test]
fn a_file_that_comes_in_pieces_is_read_to_its_end_and_one_without_an_end_is_refused() {
    let Some(store) = store("run-pieces") else { return };
    let scratch = Scratch::new("run-pieces-fifo");
    let run = |flag: &str, first: &str, second: &str| {
        let fifo = scratch.join("fifo");
        let _ = std::fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let running = store.run(&format!("{flag}{} box env", fifo.display())).spawn();
        let mut writer = std::fs::File::create(&fifo).unwrap();
        std::io::Write::write_all(&mut writer, first.as_bytes()).unwrap();
        // The reader has taken the first piece before there is a second.
        eventually("the first piece is read", || coracle_tests::unread(&writer) == 0);
        std::io::Write::write_all(&mut writer, second.as_bytes()).unwrap();
        drop(writer);
        running.wait(std::time::Duration::from_secs(20)).unwrap().ok().stdout
    };
    let seen = run("--env-file ", "A=1\nB", "=2\nC=3\n");
    assert!(["A=1", "B=2", "C=3"].iter().all(|line| seen.lines().any(|l| l == *line)), "{seen}");
    run("--security-opt seccomp=", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",", "\"syscalls\":[]}");
    let output = store.run("--env-file /dev/zero box true").fails(125);
    assert!(output.stderr.contains("/dev/zero") && output.stderr.contains("more than"), "{output}");
}

#[test]
fn a_report_goes_to_the_very_descriptor_that_was_passed() {
    let Some(store) = store("run-report-fd") else { return };
    let scratch = Scratch::new("run-report-fd-file");
    let report = |to: &str, redirected: &str| {
        let runner =
            format!("{} run --rm --report {to} box true {redirected}", binaries::ours("runner").display());
        Cmd::new("sh").arg("-c").arg(runner).env("CORACLE_STORE", store.path()).dir(scratch.path()).run()
    };
    let text = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap();
    scratch.write("log", "a line\n");
    report("fd:3", "3>>log").ok();
    assert!(text("log").starts_with("a line\n{\"cause\":\"exit\""), "{}", text("log"));
    scratch.write("read", "a line\n");
    let output = report("fd:0", "<read").fails(125);
    assert!(output.stderr.contains("descriptor 0 is not open for writing"), "{output}");
    assert_eq!(text("read"), "a line\n");
    report("fd:9", "").fails(125);
    report("fd:-1", "").fails(125);
    let output = report("fd:1", "| cat").ok();
    assert!(output.stdout.starts_with("{\"cause\""), "{output}");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = std::process::Command::new(binaries::ours("runner"));
    command.args("run --rm --report fd:0 box true".split(' ')).env("CORACLE_STORE", store.path());
    assert!(command.stdin(std::os::fd::OwnedFd::from(theirs)).status().unwrap().success());
    drop(command);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut { ours }, &mut said).unwrap();
    assert!(said.ends_with("}\n"), "{said}");
}

#[test]
fn a_container_without_rm_stays_until_it_is_removed() {
    let Some(store) = store("run-ps") else { return };
    store.runner().words("run --name first --label a=b box sh -c").arg("echo x >/mark; exit 4").fails(4);
    store.runner().words("run --name first box true").fails(125);
    let list = store.runner().words("ps -a").ok();
    assert!(list.stdout.contains("Exited (4)") && list.stdout.contains("first"), "{list}");
    assert_eq!(store.runner().words("ps -q").ok().stdout, "");
    assert!(
        store.runner().words("ps -a --json --filter label=a=b").ok().stdout.contains("\"Names\":\"first\"")
    );
    let format = |text: &str| store.runner().words("ps -a --format").arg(text).run();
    assert_eq!(format("{{.Names}}\\t{{.Image}} {{.Labels}}").ok().stdout, "first\tbox a=b\n");
    let table = format("table {{.Names}}\\t{{.Image}}").ok().stdout;
    assert_eq!(table, "NAMES   IMAGE\nfirst   box\n");
    assert!(format("{{.Frob}}").fails(125).stderr.contains(".Frob"));
    assert_eq!(store.runner().words("rm first").ok().stdout, "first\n");
    let output = store.runner().words("rm first").fails(1);
    assert!(output.stderr.contains("No such container: first"), "{output}");
    let output = store.runner().words("rm -f first").ok();
    assert!(output.stdout.is_empty() && output.stderr.contains("No such container: first"), "{output}");
    assert_eq!(std::fs::read_dir(store.path().join("containers")).unwrap().count(), 0);
    store.runner().words("run --name first --rm box true").ok();
}

/// Start `sleep` under a name and wait until its command runs.
fn sleeper(store: &Store, name: &str, flags: &str) -> coracle_tests::command::Running {
    let words = format!("run --rm --name {name} {flags} box sh -c");
    let running =
        store.runner().words(&words).arg("trap 'exit 9' USR1; echo ready; sleep 600 & wait").spawn();
    running.wait_for("ready");
    running
}

#[test]
fn exec_runs_beside_the_command_with_its_rights() {
    let Some(store) = store("run-exec") else { return };
    let running = sleeper(&store, "target", "-e FROM=run");
    let exec = |words: &str| store.runner().words("exec").words(words);
    assert_eq!(exec("target sh -c").arg("echo $FROM; cat /proc/1/comm >/dev/null").ok().stdout, "run\n");
    assert_eq!(exec("-e X=1 -w /tmp target sh -c").arg("echo $X; pwd").ok().stdout, "1\n/tmp\n");
    let caps = exec("target sh -c").arg("grep -E 'CapEff|Seccomp:' /proc/self/status | cut -f2").ok().stdout;
    assert_eq!(caps, "00000000a80425fb\n2\n");
    exec("target sh -c").arg("exit 5").fails(5);
    exec("target no-such-program").fails(127);
    let output = exec("target bash").fails(127);
    assert!(output.stderr.contains("may only have sh"), "{output}");
    if need(Privilege::Root) {
        assert_eq!(exec("-u 1 target id -u").ok().stdout, "1\n");
        assert_eq!(
            exec("-u 1 target grep CapEff /proc/self/status").ok().stdout,
            "CapEff:\t0000000000000000\n"
        );
    }
    assert_eq!(exec("-i target cat").stdin("through").ok().stdout, "through");
    exec("nobody true").fails(125);
    store.runner().words("kill -s USR1 target").ok();
    assert_eq!(running.wait(std::time::Duration::from_secs(20)).unwrap().code(), 9);
    exec("target true").fails(125);
}

#[test]
fn a_signal_to_the_runner_reaches_the_command() {
    let Some(store) = store("run-signal") else { return };
    let running = sleeper(&store, "signalled", "");
    running.signal(nix::sys::signal::Signal::SIGUSR1);
    assert_eq!(running.wait(std::time::Duration::from_secs(20)).unwrap().code(), 9);
}

#[test]
fn after_a_kill_of_the_runner_the_container_is_gone_and_one_sweep_leaves_nothing() {
    let Some(store) = store("run-kill") else { return };
    let limit = if nix::unistd::geteuid().is_root() { "-m 64m" } else { "" };
    let running = sleeper(&store, "doomed", limit);
    let state = store.runner().words("ps --no-trunc -q").ok().stdout.trim().to_owned();
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = running.wait(std::time::Duration::from_secs(20));
    let alive = || {
        let found = coracle_tests::Cmd::new("pgrep").args(["-f", "trap 'exit 9' USR1; echo ready"]).run();
        found.stdout.lines().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(&state))
        })
    };
    eventually("the container ends with its runner", || !alive());
    eventually("the sweep leaves nothing", || {
        store.runner().words("ps -a").ok();
        std::fs::read_dir(store.path().join("containers")).unwrap().count() == 0
    });
    let groups = coracle_tests::Cmd::new("find").args(["/sys/fs/cgroup", "-name"]).arg(format!("*{state}*"));
    assert_eq!(groups.run().stdout, "");
    assert!(!store.state().join(&state).exists() && !Path::new("/run/coracle/image").join(&state).exists());
}

#[test]
fn a_container_can_live_in_the_network_of_another() {
    if !need(Privilege::Root) {
        return;
    }
    let Some(store) = store("run-join") else { return };
    let running = sleeper(&store, "host-of", "");
    let own = store.runner().words("exec host-of readlink /proc/self/ns/net").ok().stdout;
    let joined = store.run("--network container:host-of box readlink /proc/self/ns/net").ok().stdout;
    assert_eq!(own, joined);
    store.run("--network container:nobody box true").fails(125);
    running.signal(nix::sys::signal::Signal::SIGUSR1);
    let _ = running.wait(std::time::Duration::from_secs(20));
}

#[test]
fn a_dry_run_prints_a_config_and_makes_nothing() {
    let Some(store) = store("run-dry") else { return };
    let output = store.run("--dry-run -u 0 -e A=1 box true").ok();
    let config: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(config["process"]["args"][0], "true");
    assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    serde_json::from_str::<serde_json::Value>(&store.run("--dry-run=plan box true").ok().stdout).unwrap();
    assert!(
        !store.path().join("containers").exists()
            || std::fs::read_dir(store.path().join("containers")).unwrap().count() == 0
    );
}

#[test]
fn states_that_somebody_else_could_have_planted_are_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    if !need(Privilege::Root) || !need(Privilege::OrdinaryUser) {
        return;
    }
    let store = Store::of_user("run-planted");
    let scratch = Scratch::new("run-planted-tmp");
    let uid = coracle_tests::Cmd::new("id").arg("-u").as_user().ok().stdout;
    let runtime = scratch.join(format!("coracle-{}", uid.trim()));
    // Another user comes first, in a /tmp that all share.
    std::fs::create_dir_all(runtime.join("image")).unwrap();
    for (dir, mode) in [(scratch.path(), 0o1777), (&runtime, 0o777), (&runtime.join("image"), 0o777)] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for words in ["ps -a", "rm anything"] {
        let output = store.runner().words(words).env("TMPDIR", scratch.path()).run();
        assert!(
            output.code() != 0 && output.stderr.contains("belongs to somebody else"),
            "{words}: {output}"
        );
    }
}

#[test]
fn only_a_command_that_the_kernel_killed_for_memory_is_said_to_have_needed_too_much() {
    let Some(store) = store("run-oom") else { return };
    if !need(Privilege::Root) {
        return;
    }
    let scratch = Scratch::new("run-oom-file");
    let file = scratch.join("report");
    // One process alone takes memory: another would be refused while the first dies, and killed as well.
    let eater = "true | tail /dev/zero >/dev/null";
    for (command, holds) in [
        ("exit 137".into(), r#""cause":"exit","code":137,"wall"#),
        (format!("{eater}; exit 3"), r#""cause":"exit","code":3,"wall"#),
        // A shell tells of its child's end as of its own.
        (eater.into(), r#""cause":"oom","code":137,"wall"#),
        (
            "x=$(head -c 200m /dev/zero | tr '\\0' x); echo $x".into(),
            r#""cause":"oom","code":137,"signal":9"#,
        ),
    ] {
        let flags = format!("-m 32m --memory-swap 32m --report {}", file.display());
        let output = script(&store, &flags, &command);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(holds), "{command}: {text}{output}");
        assert_eq!(output.stderr.contains("more than its memory limit"), holds.contains("oom"), "{output}");
        // Who lives on without a child is warned, and no one else.
        let warned = output.stderr.contains("a process of the container was killed");
        assert_eq!(warned, command.ends_with("exit 3"), "{output}");
        // The last one's reader may be refused memory while its child is being killed, and die as well.
        let killed = [r#""oomKills":1"#, r#""oomKills":2"#].iter().any(|n| text.contains(n));
        assert_eq!(killed, command.contains("zero"), "{text}");
    }
    let flags = format!("-m 32m --memory-swap 32m --report {}", file.display());
    let running = sleeper(&store, "fed", &flags);
    store.runner().words("exec fed sh -c").arg(format!("{eater}; true")).ok();
    store.runner().words("kill fed").ok();
    let output = running.wait(std::time::Duration::from_secs(20)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""cause":"signal","code":137,"signal":9"#), "{text}{output}");
}

#[test]
fn a_privileged_container_has_the_hosts_devices_and_its_own_terminals() {
    if !need(Privilege::Root) {
        return;
    }
    let Some(store) = store("run-devices") else { return };
    let nodes = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let find =
        "find /dev -type c -o -type b | grep -vE '^/dev/(pts|shm|mqueue|hugepages|ptmx|console)' | sort";
    let host = nodes(&Cmd::new("sh").args(["-c", find]).ok().stdout);
    let inside = nodes(&script(&store, "--privileged", find).ok().stdout);
    let missing: Vec<_> = host.difference(&inside).collect();
    assert!(missing.is_empty() && inside.contains("/dev/null"), "{missing:?}");
    let plain = nodes(&script(&store, "", find).ok().stdout);
    assert_eq!(plain.len(), 6, "{plain:?}");
    let out = script(&store, "--privileged", "readlink /dev/ptmx; dd if=/dev/zero of=/dev/null count=1").ok();
    assert!(out.stdout.starts_with("pts/ptmx"), "{out}");
}
