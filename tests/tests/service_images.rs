//! The shipped images `nginx` and `postgres` as services under load: from the host, from a machine outside and from a
//! container that knows the name, while they are stopped, started, restarted, updated and killed. Every request is in the
//! log with the address of who asked, and every transaction that somebody was told of is in the database.

use std::collections::HashSet;
use std::path::Path;

use coracle_tests::command::Running;
use coracle_tests::lan::{HOST, Host, OUTSIDE};
use coracle_tests::{Cmd, Privilege, Scratch, Store, eventually, need, shipped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Connections of one client.
const CONNECTIONS: usize = 4;

fn host(name: &str, image: &str) -> Option<Host> {
    Host::with(Store::new(name).reads(shipped::images(&[image])?))
}

#[track_caller]
fn nothing_is_left(host: &Host) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !host.left().is_empty() {
        assert!(std::time::Instant::now() < end, "left is {}{}", host.left(), host.runner("ps -a").ok());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The image `load`: this machine's own wrk, with the script that it reads.
fn compose_load(store: &Store) {
    let folder = Scratch::new("load");
    let script = include_str!("load.lua");
    folder.write(
        "rootfs.toml",
        format!(
            "[[layer]]\nbin = [\"wrk\"]\nnss = true\nstandard = true\nfile = {{ \"load.lua\" = '''\n{script}''' }}\n"
        ),
    );
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "load"]).ok();
}

/// wrk, asking without an end under a name.
struct Wrk {
    who: &'static str,
    running: Running,
}

impl Wrk {
    fn new(who: &'static str, cmd: Cmd, script: &Path, at: &str) -> Self {
        let cmd = cmd.words(&format!("-t 1 -c {CONNECTIONS} -d 300 -s")).arg(script);
        Self { who, running: cmd.words(&format!("http://{at}/ -- {who}")).spawn() }
    }

    /// How many were answered, as far as it has told.
    fn answered(&self) -> usize {
        let said = self.running.stdout_so_far();
        let last = said.lines().rev().find_map(|l| l.strip_prefix("answered "));
        last.and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    #[track_caller]
    fn is_answered(&self) {
        let before = self.answered();
        eventually(&format!("{} is answered {}", self.who, self.running.stderr_so_far()), || {
            self.answered() > before + 40
        });
    }

    /// How many were answered in all, once it has ended.
    #[track_caller]
    fn in_all(self) -> usize {
        let said = self.running.wait(std::time::Duration::from_secs(20)).expect("it ends");
        let all = said.stdout.lines().find_map(|l| l.strip_prefix("in all "));
        all.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    }
}

/// Address, name and number of each request of an access log that was answered with 200.
fn requests(log: &str) -> Vec<(&str, &str, usize)> {
    let one = |line| {
        let (address, rest): (&str, &str) = str::split_once(line, " - - [")?;
        let (_, rest) = rest.split_once("\"GET /?id=")?;
        let (name, rest) = rest.split_once(" HTTP/1.1\" ")?;
        let (who, n) = name.split_once('-')?;
        rest.starts_with("200 ").then_some((address, who, n.parse().ok()?))
    };
    log.lines().filter_map(one).collect()
}

#[test]
fn every_request_to_nginx_is_in_its_log_with_its_address_while_it_stops_starts_and_is_updated() {
    if !need(Privilege::Peer("wrk")) {
        return;
    }
    let Some(host) = host("nginx", "nginx") else { return };
    compose_load(&host.store);
    let script = host.store.scratch.write("load.lua", include_str!("load.lua"));
    host.runner("network create back").ok();
    host.runner("run -d --name web --network back -p 8080:80 --log-opt max-size=64m nginx").ok();
    let at = format!("{}:8080", HOST[0]);
    let page = || host.on("busybox").args(["wget", "-qO-", &format!("http://{at}/")]).run();
    eventually("it serves its page", || page().stdout.contains("Welcome to nginx"));
    let boxed = host.runner("run --rm --name box --network back load wrk");
    let clients = [
        Wrk::new("host", host.on("wrk"), &script, &at),
        Wrk::new("outside", host.on_the_outside("wrk"), &script, &at),
        Wrk::new("box", boxed, Path::new("/load.lua"), "web:80"),
    ];
    let all_are_answered = || clients.iter().for_each(Wrk::is_answered);
    all_are_answered();
    host.runner("stop web").ok();
    let ended = host.runner("inspect -f {{.State.ExitCode}} web").ok();
    assert_eq!(ended.text(), "0", "QUIT lets it finish what it has begun");
    assert!(page().code() != 0);
    host.runner("start web").ok();
    all_are_answered();
    host.runner("restart web").ok();
    all_are_answered();
    host.runner("update -m 96m --cpus 0.8 web").ok();
    all_are_answered();

    let address = host.runner("inspect -f {{.NetworkSettings.Networks.back.IPAddress}} box").ok();
    clients[..2].iter().for_each(|c| c.running.signal(Signal::SIGINT));
    host.runner("kill -s INT box").ok();
    let told: Vec<(&str, usize)> = clients.into_iter().map(|c| (c.who, c.in_all())).collect();
    host.runner("stop web").ok();
    let log = host.runner("logs web").ok();
    let requests = requests(&log.stdout);
    for ((who, answered), from) in told.iter().zip([HOST[0], OUTSIDE[0], address.text()]) {
        let own: Vec<_> = requests.iter().filter(|r| r.1 == *who).collect();
        let strange = own.iter().find(|r| r.0 != from);
        assert!(strange.is_none(), "{who} has the address {from}: {strange:?}");
        let names: HashSet<usize> = own.iter().map(|r| r.2).collect();
        assert_eq!(names.len(), own.len(), "none of {who} is there twice");
        // An answer may be lost on each connection whenever that ends.
        let most = answered + CONNECTIONS * 4;
        assert!((*answered..=most).contains(&own.len()), "{who}: {} for {answered}", own.len());
    }
    assert!(log.stderr.contains("[notice]") && !log.stderr.contains("[emerg]"), "{}", log.stderr);
    host.runner("rm web").ok();
    nothing_is_left(&host);
}

#[test]
fn what_a_rotated_log_of_nginx_keeps_has_no_gap_and_ends_with_the_last_request() {
    if !need(Privilege::Peer("wrk")) {
        return;
    }
    let Some(host) = host("nginx-log", "nginx") else { return };
    let script = host.store.scratch.write("load.lua", include_str!("load.lua"));
    host.runner("run -d --name web -p 8080:80 --log-opt max-size=16k --log-opt max-file=2 nginx").ok();
    let at = format!("{}:8080", HOST[0]);
    eventually("it serves", || {
        host.on("busybox").args(["wget", "-qO/dev/null", &format!("http://{at}/")]).run().code() == 0
    });
    let asks = Wrk::new("outside", host.on_the_outside("wrk"), &script, &at);
    eventually("it is asked", || asks.answered() > 600);
    asks.running.signal(Signal::SIGINT);
    let answered = asks.in_all();
    host.runner("stop web").ok();
    let log = host.runner("logs web").ok();
    // Requests on several connections may be answered in another order.
    let mut kept: Vec<usize> = requests(&log.stdout).iter().map(|r| r.2).collect();
    kept.sort_unstable();
    let (first, last) = (kept[0], kept[kept.len() - 1]);
    assert!(kept.len() > 50 && kept.len() < answered, "{} of {answered}", kept.len());
    let gaps = (last - first + 1) - kept.len();
    assert!(gaps <= CONNECTIONS && last + CONNECTIONS >= answered, "{first} to {last}, without {gaps}");
    let bytes = host.sh("cat ${CORACLE_STORE%%:*}/containers/*/log* | wc -c").stdout;
    let bytes: u64 = bytes.trim().parse().expect("a number");
    assert!(bytes <= 2 * 16384 + 512, "{bytes}");
    host.runner("rm web").ok();
}

/// pgbench again and again until a file is there: its clients give up when the server goes.
fn bench(at: &str, folder: &str) -> String {
    format!(
        "while [ ! -e {folder}/enough ]; do pgbench -n -c 2 -T 1 -h {at} -U app shop 2>{folder}/said || sleep 0.1; done"
    )
}

/// How many transactions pgbench was told of.
fn processed(said: &str) -> usize {
    let numbers = said.lines().filter_map(|l| l.strip_prefix("number of transactions actually processed: "));
    numbers.filter_map(|n| n.split('/').next()?.trim().parse::<usize>().ok()).sum()
}

#[test]
fn postgres_keeps_every_transaction_that_somebody_was_told_of_when_it_and_its_monitor_are_killed() {
    if !need(Privilege::Peer("pgbench")) || !need(Privilege::Peer("psql")) {
        return;
    }
    let Some(host) = host("postgres", "postgres") else { return };
    let init = Scratch::new("init");
    init.write("1-who.sh", "psql -U \"$POSTGRES_USER\" \"$POSTGRES_DB\" -c 'CREATE TABLE first (n int)'\n");
    init.write("2-rows.sql", "INSERT INTO first VALUES (1), (2);\n");
    let stop = Scratch::new("enough");
    let (init_at, stop_at) = (init.path().display(), stop.path().display());
    host.runner("network create back").ok();
    let refused = host.runner("run --rm postgres").fails(1);
    drop(refused.complains("POSTGRES_PASSWORD is not set"));
    let flags = "run -d --name db --network back -p 5432:5432 -e POSTGRES_PASSWORD=secret -e POSTGRES_USER=app \
                 -e POSTGRES_DB=shop -v data:/var/lib/postgresql/data";
    host.runner(flags).args(["-v", &format!("{init_at}:/docker-entrypoint-initdb.d:ro"), "postgres"]).ok();
    let outside = |program: &str| host.on_the_outside(program).env("PGPASSWORD", "secret");
    let query = |text: &str| {
        let psql = outside("psql").env("PGCONNECT_TIMEOUT", "3");
        psql.args(["-h", HOST[0], "-U", "app", "-d", "shop", "-qAtc", text]).run()
    };
    let answers = || eventually("it answers", || query("SELECT 1").code() == 0);
    answers();
    assert_eq!(query("SELECT count(*) FROM first").text(), "2");
    outside("pgbench").args(["-i", "-q", "-h", HOST[0], "-U", "app", "shop"]).ok();
    let wrong =
        outside("psql").env("PGPASSWORD", "guess").args(["-h", HOST[0], "-U", "app", "-c", "", "shop"]);
    wrong.fails(2).complains("password authentication failed");

    let own = Scratch::new("own");
    let own_at = own.path().display().to_string();
    std::os::unix::fs::symlink(stop.join("enough"), own.join("enough")).expect("link");
    let from_host = host.on("sh").env("PGPASSWORD", "secret").args(["-c", &bench(HOST[0], &own_at)]);
    let boxed = host.runner("run --rm --name box --network back -e PGPASSWORD=secret");
    let boxed = boxed.args(["-v", &format!("{stop_at}:/enough"), "postgres", "sh", "-c"]);
    let clients = [from_host.spawn(), boxed.arg(bench("db", "/enough")).spawn()];
    let told = || clients.iter().map(|c| processed(&c.stdout_so_far())).collect::<Vec<_>>();
    let go_on = || {
        let before = told();
        eventually("both go on", || told().iter().zip(&before).all(|(now, then)| now > then));
    };
    go_on();
    host.runner("restart db").ok();
    go_on();
    host.runner("update -m 512m --cpus 1.5 db").ok();
    go_on();
    let monitor = host.runner("inspect -f {{.Id}} db").ok();
    let record = host.store.path().join("containers").join(monitor.text()).join("container.json");
    let record = std::fs::read_to_string(record).expect("the record");
    let (_, rest) = record.split_once("\"runner\":{\"pid\":").expect("a monitor");
    let pid: i32 = rest.split(',').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the monitor");
    eventually("the container ends with its monitor", || {
        host.runner("inspect -f {{.State.Running}} db").ok().text() == "false"
    });
    host.runner("start db").ok();
    go_on();
    host.runner("kill -s KILL db").ok();
    host.runner("start db").ok();
    go_on();

    stop.write("enough", "");
    let wait = |c: Running| processed(&c.wait(std::time::Duration::from_secs(60)).expect("it ends").stdout);
    let told: usize = clients.into_iter().map(wait).sum();
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches), \
                (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)";
    assert_eq!(query(sums).text(), "t|t|t");
    let kept: usize = query("SELECT count(*) FROM pgbench_history").text().parse().expect("a number");
    // One may be done, and its client not told, whenever a connection breaks.
    assert!((told..=told + 4 * 4).contains(&kept), "{kept} for {told}");
    host.runner("stop db").ok();
    let log = host.runner("logs db").ok();
    assert!(log.stderr.contains("database system was not properly shut down"), "{log}");
    assert!(log.stderr.trim().ends_with("database system is shut down"), "INT is a fast shutdown: {log}");
    // Who makes the container anew has the same data.
    host.runner("rm db").ok();
    host.runner("run -d --name db -p 5432:5432 -v data:/var/lib/postgresql/data postgres").ok();
    answers();
    assert_eq!(query("SELECT count(*) FROM pgbench_history").text(), kept.to_string());
    host.runner("rm -f db").ok();
    nothing_is_left(&host);
}
