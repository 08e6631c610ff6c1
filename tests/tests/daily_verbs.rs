//! The verbs of every day about containers of images, where more is to be seen than what they print: `docker_words.rs` compares
//! that with docker's.

use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, binaries, eventually, need};
use nix::sys::signal::Signal;

/// The runner, without the state folder of OCI clients.
#[track_caller]
fn runner(store: &Store, words: &str) -> Cmd {
    Cmd::runner().env("CORACLE_STORE", store.path()).dir(store.scratch.path()).words(words)
}

#[track_caller]
fn begin(store: &Store, flags: &str) {
    runner(store, &format!("run -d {flags} box sleep 1000")).ok();
}

#[track_caller]
fn inspect(store: &Store, format: &str, name: &str) -> String {
    runner(store, "inspect -f").args([format, name]).ok().text().to_owned()
}

/// Whatever a test has left runs no more.
fn end(store: &Store) {
    let ids = runner(store, "ps -aq").ok().stdout;
    if !ids.is_empty() {
        runner(store, "rm -f").words(&ids).ok();
    }
}

#[test]
fn what_is_changed_of_a_container_that_runs_is_kept_when_its_monitor_writes_the_end() {
    let Some(store) = Store::with_box("daily-change") else { return };
    begin(&store, "--name old --restart always");
    runner(&store, "rename old new").ok();
    runner(&store, "update --restart no new").ok();
    runner(&store, "inspect --type container old").fails(1).complains("No such container: old");
    begin(&store, "--name old");
    runner(&store, "rename old new").fails(125).complains("already in use");
    runner(&store, "kill new").ok();
    let state = "{{.Name}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}} {{.State.ExitCode}}";
    assert_eq!(inspect(&store, state, "new"), "/new exited no 137");
    runner(&store, "start new").ok();
    assert_eq!(inspect(&store, state, "new"), "/new running no 0");
    end(&store);
}

#[test]
fn a_container_that_goes_by_itself_gives_its_new_name_back() {
    let Some(store) = Store::with_box("daily-rm") else { return };
    begin(&store, "--rm --name one");
    runner(&store, "rename one two").ok();
    runner(&store, "stop -t 0 two").ok();
    begin(&store, "--name two");
    begin(&store, "--name one");
    end(&store);
}

#[test]
fn an_exec_ends_with_its_client_and_one_that_is_left_alone_does_not() {
    let Some(store) = Store::with_box("daily-exec") else { return };
    begin(&store, "--name c");
    let client = runner(&store, "exec c sh -c").arg("echo begun; exec sleep 987").spawn();
    client.wait_for("begun");
    let runs = |seconds: &str| {
        let top = runner(&store, "top c -o pid,args").ok().stdout;
        top.lines().any(|line| line.ends_with(&format!("sleep {seconds}")))
    };
    eventually("the command runs", || runs("987"));
    client.signal(Signal::SIGKILL);
    drop(client);
    eventually("the command is gone with its client", || !runs("987"));
    runner(&store, "exec -d c sleep 986").ok();
    eventually("the command that was left alone runs", || runs("986"));
    runner(&store, "exec --detach-keys ctrl-a c true").fails(125).complains("--detach-keys");
    runner(&store, "exec --env-file /nonexistent c true").fails(125).complains("--env-file");
    end(&store);
}

#[test]
fn what_is_no_name_is_told_in_one_line_before_anything_is_made() {
    let Some(store) = Store::with_box("daily-names") else { return };
    let long = "a".repeat(200);
    for name in ["../x", ".", "..", "a b", "", "a/b", "a\nb", "-x", &long] {
        for verb in [&["run", "--rm"][..], &["run", "-d"], &["create"]] {
            let out = runner(&store, "").args(verb).args(["--name", name, "box", "true"]).fails(125);
            assert_eq!(out.stderr.lines().count(), 1, "{name:?}: {out}");
            assert!(out.stderr.contains("is no name"), "{name:?}: {out}");
        }
    }
    assert_eq!(std::fs::read_dir(store.path().join("containers")).map_or(0, Iterator::count), 0);
}

#[test]
fn who_shows_a_container_ends_when_the_reader_of_its_pipe_has_seen_enough() {
    let Some(store) = Store::with_box("daily-pipe") else { return };
    let yes = "sh -c 'while :; do echo y; sleep 0.01; done'";
    runner(&store, "run -d --name c box").arg("sh").args(["-c", "while :; do echo y; sleep 0.01; done"]).ok();
    eventually("it writes", || !runner(&store, "logs c").ok().stdout.is_empty());
    for (verb, code) in [
        (format!("run -t --name seen box {yes}"), 141),
        (format!("exec -t c {yes}"), 129),
        ("attach --no-stdin c".to_owned(), 141),
        ("logs -f c".to_owned(), 0),
        ("stats".to_owned(), 0),
    ] {
        let line = format!(
            "{{ {} {verb}; echo $? >code; }} 2>said | head -n 1 >first",
            binaries::runner().display()
        );
        let cmd = Cmd::new("sh").arg("-c").arg(line).env("CORACLE_STORE", store.path());
        cmd.dir(store.scratch.path()).limit(Duration::from_secs(20)).ok();
        let file = |name: &str| std::fs::read_to_string(store.scratch.join(name)).unwrap();
        assert_eq!((file("code").trim(), &*file("said")), (&*code.to_string(), ""), "{verb}");
        assert!(!file("first").is_empty(), "{verb}");
    }
    assert_eq!(inspect(&store, "{{.State.Status}}", "c"), "running");
    eventually("what ran for the reader alone is gone", || {
        inspect(&store, "{{.State.Status}}", "seen") == "exited"
    });
    end(&store);
}

#[test]
fn a_command_with_a_terminal_that_nobody_looks_at_goes_on() {
    let Some(store) = Store::with_box("daily-unseen") else { return };
    begin(&store, "--name c");
    // More than the terminal holds, which nobody reads; then it asks whether it still has one.
    let own = store.path().display().to_string();
    let script = &format!("seq 50000; tty > /tty; echo done > /done; : {own}; exec sleep 985");
    for flags in ["-d -t", "-dt", "-dit"] {
        runner(&store, "exec c rm -f /done /tty").ok();
        let told = runner(&store, &format!("exec {flags} c sh -c")).arg(script).ok();
        assert_eq!((&*told.stdout, &*told.stderr), ("", ""), "{flags}");
        eventually("it goes on", || runner(&store, "exec c cat /done").run().stdout == "done\n");
        assert!(runner(&store, "exec c cat /tty").ok().stdout.starts_with("/dev/pts/"), "{flags}");
    }
    // Who keeps the terminal goes with the last who has it, also where that is the container's end.
    let keepers = || {
        let list = Cmd::new("ps").words("-eo args").ok().stdout;
        list.lines().filter(|l| l.contains("exec -d") && l.contains(&own)).count()
    };
    assert!(keepers() > 0);
    runner(&store, "rm -f c").ok();
    eventually("nobody keeps a terminal any more", || keepers() == 0);
    runner(&store, "exec -dt c true").fails(125);
    end(&store);
}

#[test]
fn a_paused_container_is_looked_at_ended_and_removed() {
    let Some(store) = Store::with_box("daily-pause") else { return };
    if !need(Privilege::Controller("freezer")) {
        return;
    }
    for (name, ending, code) in
        [("a", "stop -t 5", "exited 143"), ("b", "kill", "exited 137"), ("c", "rm -f", "")]
    {
        begin(&store, &format!("--name {name}"));
        runner(&store, &format!("pause {name}")).ok();
        assert_eq!(inspect(&store, "{{.State.Status}} {{.State.Paused}}", name), "paused true");
        assert!(runner(&store, "ps").ok().stdout.contains("(Paused)"));
        runner(&store, &format!("exec {name} true")).fails(125).complains("is paused");
        runner(&store, &format!("{ending} {name}")).ok();
        if !code.is_empty() {
            assert_eq!(inspect(&store, "{{.State.Status}} {{.State.ExitCode}}", name), code);
        }
    }
    runner(&store, "pause a").fails(1).complains("not running");
    runner(&store, "ps -a --filter name=c -q").ok();
    end(&store);
}

#[test]
fn events_are_told_while_they_happen_and_of_this_store_alone() {
    let (Some(store), Some(other)) = (Store::with_box("daily-events"), Store::with_box("daily-events-other"))
    else {
        return;
    };
    let follower = runner(&store, "events -f container=told").spawn();
    // It is there once it tells of something.
    let shell = |store: &Store, name: &str, code: &str| {
        runner(store, &format!("run --name {name} -l tier=front box sh -c")).arg(format!("exit {code}")).run()
    };
    let mut n = 0;
    eventually("the follower tells of something", || {
        n += 1;
        shell(&store, "told", "3");
        shell(&other, "told", "4");
        runner(&store, "rm told").ok();
        runner(&other, "rm told").ok();
        follower.stdout_so_far().contains("destroy")
    });
    let text = follower.stdout_so_far();
    assert!(text.contains("exitCode=3") && !text.contains("exitCode=4"), "{text}");
    let line = text.lines().find(|l| l.contains(" container die ")).expect("its end");
    assert!(line.ends_with("name=told, tier=front)") && line.contains("T"), "{line}");
    follower.signal(Signal::SIGTERM);
    let past = |words: &str| runner(&store, "events --since 1h --until 0s").words(words).run();
    let kinds: Vec<String> = past("--format {{.Action}}").ok().stdout.lines().map(str::to_owned).collect();
    assert_eq!(&kinds[..4], ["create", "start", "die", "destroy"]);
    assert_eq!(past("-f event=die -f label=tier=back").ok().stdout, "");
    let json = past("-f event=die --format json").ok().stdout;
    let first: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["Actor"]["Attributes"]["exitCode"], "3");
    past("-f sort=x").fails(125).complains("sort=x");
    past("--stats").fails(125).complains("--stats");
}

#[test]
fn stats_tell_what_a_container_uses() {
    let Some(store) = Store::with_box("daily-stats") else { return };
    if !need(Privilege::Controller("memory")) {
        return;
    }
    runner(&store, "run -d --name busy -m 64m box sh -c").arg("while :; do :; done").ok();
    let told = |words: &str| -> Output { runner(&store, "stats --no-stream").words(words).ok() };
    let json: serde_json::Value = told("--format json busy").json();
    let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
    assert!(text("MemUsage").ends_with(" / 64MiB"), "{json}");
    assert!(text("CPUPerc").ends_with('%') && text("CPUPerc") != "0.00%", "{json}");
    assert_eq!(text("Name"), "busy");
    let table = told("").stdout;
    assert!(table.starts_with("CONTAINER ID   NAME   CPU %"), "{table}");
    let stream = runner(&store, "stats busy").spawn();
    eventually("the table is drawn anew", || stream.stdout_so_far().matches("busy").count() > 2);
    runner(&store, "stats --no-stream nosuch").fails(125).complains("nosuch");
    end(&store);
}

#[test]
fn a_prune_removes_what_does_not_run_and_nothing_of_an_oci_client() {
    let Some(store) = Store::with_box("daily-prune") else { return };
    begin(&store, "--name stays");
    runner(&store, "run --name goes -l a=b box true").ok();
    runner(&store, "create --name made box true").ok();
    let kept = runner(&store, "prune").stdin("n\n").ok();
    assert!(kept.stdout.contains("Are you sure"), "{kept}");
    runner(&store, "prune -f --filter label!=a --filter until=1h").ok();
    let names = || runner(&store, "ps -a --format {{.Names}}").ok().stdout;
    assert_eq!(names(), "made\ngoes\nstays\n");
    runner(&store, "prune -f --filter label=a").ok().prints("Total reclaimed space:");
    assert_eq!(names(), "made\nstays\n");
    runner(&store, "prune").stdin("y\n").ok().prints("Deleted Containers:");
    assert_eq!(names(), "stays\n");
    runner(&store, "prune -f --filter name=x").fails(125).complains("name=x");
    end(&store);
}

#[test]
fn inspect_tells_of_containers_and_of_images() {
    let Some(store) = Store::with_box("daily-inspect") else { return };
    begin(&store, "--name c -v vol:/data -e A=b -w /tmp");
    let told = runner(&store, "inspect c box").ok().json();
    assert_eq!((&told[0]["Name"], &told[0]["Config"]["WorkingDir"]), (&"/c".into(), &"/tmp".into()));
    let env = told[0]["Config"]["Env"].as_array().expect("variables");
    assert!(
        env.last() == Some(&"A=b".into()) && !env.iter().any(|v| v.to_string().contains("HOSTNAME=")),
        "{env:?}"
    );
    assert_eq!((&told[0]["Mounts"][0]["Name"], &told[0]["Mounts"][0]["RW"]), (&"vol".into(), &true.into()));
    assert_eq!(told[1]["RepoTags"][0], "localhost/box:latest");
    let pid = inspect(&store, "{{.State.Pid}}", "c");
    assert!(std::path::Path::new("/proc").join(&pid).exists(), "{pid}");
    runner(&store, "exec c sh -c").arg("head -c 5000 /dev/zero >/written").ok();
    let sizes = runner(&store, "inspect -s -f").args(["{{.SizeRw}}", "c"]).ok();
    assert_eq!(sizes.text(), "5000");
    let both = runner(&store, "inspect -f").args(["{{.Id}}", "c", "nosuch"]).fails(1);
    assert!(both.text().len() == 64 && both.stderr.contains("No such object: nosuch"), "{both}");
    runner(&store, "inspect --type volume c").fails(125).complains("--type");
    runner(&store, "inspect --type image c").fails(1);
    end(&store);
}

#[test]
fn a_link_named_docker_is_docker() {
    let Some(store) = Store::with_box("daily-docker") else { return };
    let docker = |words: &str| store.docker().words(words);
    // A bundle in this folder is nothing to docker.
    store.scratch.write("config.json", "{}");
    assert_eq!(docker("run --rm box echo hi").ok().stdout, "hi\n");
    docker("create --name c box true").ok();
    docker("start -a c").ok();
    docker("-D container ls -a").ok().prints("Exited (0)");
    docker("--config /tmp images").ok().prints("box");
    for (words, code, says) in [
        ("-H tcp://x ps", 1, "-H"),
        ("--context x ps", 1, "--context"),
        ("state c", 1, "not a docker command"),
        ("ps c", 1, "docker top c"),
        ("exec nosuch true", 1, "nosuch"),
        ("container inspect nosuch", 1, "nosuch"),
        ("run --nosuch box", 125, "--nosuch"),
        ("container run box nosuch", 127, "nosuch"),
        ("frobnicate", 1, "frobnicate"),
    ] {
        docker(words).fails(code).complains(says);
    }
    docker("ps").env("DOCKER_HOST", "tcp://elsewhere").fails(1).complains("DOCKER_HOST=tcp://elsewhere");
    docker("rm c").ok();
}

#[test]
fn an_ordinary_user_has_the_same_verbs() {
    if !need(Privilege::OrdinaryUser) || !need(Privilege::UserNamespaces) || !need(Privilege::Peer("busybox"))
    {
        return;
    }
    let store = Store::of_user("daily-user");
    let Some(image) = Image::busybox() else { return };
    image.compose(&store, "box");
    // No --root: it would be an OCI client's.
    let run = |words: &str| {
        let cmd =
            Cmd::runner().as_user().env("CORACLE_STORE", store.path()).env("XDG_RUNTIME_DIR", store.state());
        cmd.dir(store.scratch.path()).words(words)
    };
    store.rootfs_tool().words("images").ok();
    let made = Cmd::new("mkdir").as_user().arg(store.state()).run();
    assert!(made.code() == 0 && Cmd::new("chmod").as_user().arg("700").arg(store.state()).run().code() == 0);
    run("run -d --name mine --health-cmd true box sleep 1000").ok();
    run("rename mine yours").ok();
    assert_eq!(run("inspect -f {{.State.Status}} yours").ok().text(), "running");
    run("top yours -o pid,args").ok().prints("sleep 1000");
    run("stats --no-stream yours").limit(Duration::from_secs(20)).ok().prints("yours");
    run("events --since 1h --until 0s --format {{.Action}}").ok().prints("rename");
    run("stop -t 0 yours").ok();
    run("system df").ok().prints("Containers");
    run("prune -f").ok().prints("Deleted Containers:");
}
