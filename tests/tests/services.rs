//! Services as people run them: published, asked by the host, by a machine outside and by a container that knows the
//! name, while they are stopped, started, restarted, paused and updated. What was answered is in the log, and with the
//! address of who asked.

use std::collections::HashMap;
use std::time::Duration;

use coracle_tests::command::Running;
use coracle_tests::lan::{HOST, Host, OUTSIDE};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, eventually};

const HTTPD: &str = "mkdir -p /www; cd /www; for who in host outside box; do \
     touch $(seq 5000 | sed s/^/$who-/); done; exec busybox httpd -f -vv -p 80 -h /www";

/// Ask again and again, each time for a name of its own; say which were answered.
fn asking(who: &str, at: &str) -> String {
    format!(
        "n=1; while :; do if busybox timeout 3 busybox wget -qO- http://{at}/{who}-$n 2>/tmp/said; then echo {who}-$n; \
         n=$((n+1)); busybox usleep 5000; else busybox usleep 20000; fi; done"
    )
}

/// Who asks without an end.
struct Client {
    name: &'static str,
    running: Running,
}

impl Client {
    /// One that has no more than a folder with busybox: a static program does not get on with every host's resolver.
    fn new(name: &'static str, on: Cmd, tools: &Image) -> Self {
        let at = format!("{}:8080", HOST[0]);
        let running = on.arg(tools.rootfs()).args(["/bin/sh", "-c", &asking(name, &at)]).spawn();
        Self { name, running }
    }

    fn answered(&self) -> Vec<String> {
        let said = self.running.stdout_so_far();
        // What is being written has no end of line yet.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn is_answered(&self) {
        let before = self.answered().len();
        let heard = || self.running.stderr_so_far().to_string();
        eventually(&format!("{} is answered again {}", self.name, heard()), || {
            self.answered().len() > before + 5
        });
    }
}

/// The address of who asked for each name, as busybox' httpd says it: `[::ffff:10.84.0.3]:46556: url:/box-7`.
fn askers(log: &str) -> HashMap<String, String> {
    let asked = log.lines().filter_map(|line| line.split_once(": url:/"));
    asked.map(|(from, path)| (path.to_owned(), address(from))).collect()
}

fn address(from: &str) -> String {
    let inner = from.split(']').next().unwrap_or(from).trim_start_matches('[');
    inner.trim_start_matches("::ffff:").to_owned()
}

fn bytes_of_logs(host: &Host) -> u64 {
    let sizes = host.sh("cat $CORACLE_STORE/containers/*/log* | wc -c").stdout;
    sizes.trim().parse().expect("a number")
}

#[test]
fn a_service_is_asked_while_it_stops_and_starts_and_its_log_has_all_that_was_answered() {
    let Some(host) = Host::new("service") else { return };
    let tools = Image::busybox().expect("busybox");
    host.store.compose("busybox");
    host.runner("network create back").ok();
    let web =
        "run -d --name web --network back -p 8080:80 --stop-timeout 5 --log-opt max-size=32m busybox sh -c";
    host.runner(web).arg(HTTPD).ok();
    let inside = host.runner("run --rm --name box --network back busybox sh -c").arg(asking("box", "web"));
    let clients = [
        Client::new("host", host.on("chroot"), &tools),
        Client::new("outside", host.on_the_outside("chroot"), &tools),
        Client { name: "box", running: inside.spawn() },
    ];
    let all_are_answered = || clients.iter().for_each(Client::is_answered);
    let count = || clients.iter().map(|c| c.answered().len()).sum::<usize>();
    let nobody_is_answered = || {
        // What was under way when it ended may still be told.
        std::thread::sleep(Duration::from_millis(200));
        let before = count();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(count(), before);
    };
    all_are_answered();
    host.runner("stop web").ok();
    nobody_is_answered();
    host.runner("start web").ok();
    all_are_answered();
    host.runner("restart web").ok();
    all_are_answered();
    host.runner("update -m 64m --cpus 0.8 web").ok();
    all_are_answered();
    host.runner("pause web").ok();
    nobody_is_answered();
    host.runner("unpause web").ok();
    all_are_answered();

    let boxed = host.runner("inspect -f {{.NetworkSettings.Networks.back.IPAddress}} box").ok();
    let from = [HOST[0], OUTSIDE[0], boxed.text()];
    let answered: Vec<_> = clients.iter().map(Client::answered).collect();
    drop(clients);
    host.runner("stop web").ok();
    let log = host.runner("logs web").ok();
    let askers = askers(&format!("{}{}", log.stdout, log.stderr));
    for (answered, from) in answered.iter().zip(from) {
        for path in answered {
            assert_eq!(askers.get(path).map(String::as_str), Some(from), "{path} of {}", answered.len());
        }
    }
    host.runner("rm web").ok();
    eventually("nothing is left", || host.left().is_empty());
}

#[test]
fn a_log_that_may_have_two_small_files_has_the_last_that_was_said_and_stays_small() {
    let Some(host) = Host::new("service-log") else { return };
    let tools = Image::busybox().expect("busybox");
    host.store.compose("busybox");
    let web = "run -d --name web -p 8080:80 --log-opt max-size=4k --log-opt max-file=2 busybox sh -c";
    host.runner(web).arg(HTTPD).ok();
    let asks = Client::new("outside", host.on_the_outside("chroot"), &tools);
    // A hundred answers are ten thousand bytes and more.
    eventually("it is asked", || asks.answered().len() > 150);
    let answered = asks.answered();
    drop(asks);
    host.runner("stop -t 2 web").ok();
    let log = host.runner("logs web").ok();
    let askers = askers(&format!("{}{}", log.stdout, log.stderr));
    let kept: Vec<_> = answered.iter().skip_while(|path| !askers.contains_key(*path)).collect();
    assert!(kept.len() > 10 && kept.len() < answered.len(), "{} of {}", kept.len(), answered.len());
    assert!(kept.iter().all(|path| askers.contains_key(*path)), "what is kept has no gap: {log}");
    assert!(bytes_of_logs(&host) <= 8192 + 512, "{}", bytes_of_logs(&host));
    host.runner("rm web").ok();
}
