//! `run --untrusted`: what it sets, that each part can be said otherwise, and that it holds.

use coracle_tests::rootfs::Image;
use coracle_tests::{Privilege, Store, eventually, need};

/// Takes memory until it is killed.
const EATER: &str = "#include <stdlib.h>\n#include <string.h>\nint main(void) { for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); } }\n";

fn ready() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox")) && need(Privilege::Controller("memory"))
}

fn image(store: &Store) -> Image {
    Image::busybox().expect("busybox").folder("tmp").compose(store, "image")
}

/// `run --rm --untrusted FLAGS image sh -c SCRIPT`.
fn script(store: &Store, flags: &str, script: &str) -> String {
    store.run("--untrusted").words(flags).args(["image", "sh", "-c", script]).ok().stdout
}

const SEEN: &str = "id -u; cut -c1- /proc/self/uid_map | tr -s ' ' | cut -d' ' -f4; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNew' /proc/self/status | tr -d '\\t'; \
     touch /x 2>/dev/null || echo ro; touch /tmp/x && df -k /tmp | tail -1 | tr -s ' ' | cut -d' ' -f2; ls /sys/class/net";

#[test]
fn all_that_it_sets_is_set() {
    if !ready() {
        return;
    }
    let store = Store::new("untrusted");
    let _image = image(&store);
    let none = "0000000000000000";
    let expected = format!(
        "0\n65536\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{none}\nCapAmb:{none}\nNoNewPrivs:1\nro\n65536\nlo\n"
    );
    assert_eq!(script(&store, "", SEEN), expected);
    // The report says so too.
    store.run("--untrusted --report report image true").ok();
    let report = std::fs::read_to_string(store.scratch.join("report")).expect("the report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let confined = &report["confined"];
    assert_eq!(confined["memory"], 512 << 20);
    assert_eq!(confined["pids"], 256);
    assert_eq!(confined["capabilities"], serde_json::json!([]));
    assert_eq!(confined["network"], "none");
    assert_eq!(confined["uidMappings"][0]["size"], 65536);
    for (name, value) in [("noNewPrivileges", true), ("readonlyRoot", true), ("oomGroup", true)] {
        assert_eq!(confined[name], value, "{name}");
    }
    // And so does what would be done.
    let shown = store.run("--untrusted --dry-run image true").ok().json();
    assert_eq!(shown["root"]["readonly"], true);
    assert_eq!(shown["process"]["noNewPrivileges"], true);
    assert_eq!(shown["linux"]["resources"]["pids"]["limit"], 256);
    assert!(shown["mounts"].as_array().is_some_and(|all| all.iter().any(|m| m["destination"] == "/tmp")));
    let left = std::fs::read_dir(store.path().join("ids")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "ids are given back");
}

#[test]
fn every_part_is_overridden_by_its_own_flag() {
    if !ready() {
        return;
    }
    let store = Store::new("untrusted-flags");
    let _image = image(&store);
    let status = |name: &str| format!("grep {name} /proc/self/status | tr -d '\\t'");
    for (flags, script_text, expected) in [
        ("--userns host", "tr -s ' ' </proc/self/uid_map".to_owned(), " 0 0 4294967295\n"),
        ("--cap-add CHOWN", status("CapBnd"), "CapBnd:0000000000000001\n"),
        ("--cap-drop CHOWN --cap-add ALL", "touch /tmp/x; chown 5 /tmp/x || echo no".to_owned(), "no\n"),
        ("--security-opt no-new-privileges=false", status("NoNewPrivs"), "NoNewPrivs:0\n"),
        (
            "--read-only=false",
            "touch /x && df -k / | tail -1 | tr -s ' ' | cut -d' ' -f2".to_owned(),
            "262144\n",
        ),
        ("--tmpfs /tmp:size=1m", "df -k /tmp | tail -1 | tr -s ' ' | cut -d' ' -f2".to_owned(), "1024\n"),
        ("-u 5:6", "id -u".to_owned(), "5\n"),
    ] {
        let out = store.run("--untrusted").words(flags).args(["image", "sh", "-c", &script_text]).run();
        assert_eq!(out.stdout, expected, "{flags}: {out}");
    }
    let shown = store.run("--untrusted -m 64m --pids-limit 7 --dry-run image true").ok().json();
    let limits = &shown["linux"]["resources"];
    assert_eq!((&limits["memory"]["limit"], &limits["pids"]["limit"]), (&(64 << 20).into(), &7.into()));
    let devices = script(&store, "--network host", "ls /sys/class/net");
    assert_ne!(devices, "lo\n");
    store.run("--untrusted --privileged image true").fails(125).complains("exclude each other");
}

#[test]
fn the_whole_of_it_is_killed_when_memory_runs_out() {
    if !ready() || !need(Privilege::Peer("gcc")) {
        return;
    }
    let store = Store::new("untrusted-oom");
    let image = Image::busybox().expect("busybox").folder("tmp").program("eater", EATER).expect("a compiler");
    let _image = image.compose(&store, "image");
    let eat = ["image", "sh", "-c", "sleep 1000 & /eater; echo survived"];
    let out = store.run("--untrusted -m 32m --report report").args(eat).fails(137);
    assert!(out.stderr.contains("more than its memory limit") && !out.stdout.contains("survived"), "{out}");
    let report = std::fs::read_to_string(store.scratch.join("report")).expect("the report");
    assert!(report.contains("\"cause\":\"oom\""), "{report}");
    let out = store.run("--untrusted -m 32m --oom-group=false image sh -c").arg("/eater; echo survived").ok();
    assert_eq!(out.text(), "survived");
    // In the background as well, where a monitor has it.
    store.runner().words("run -d --name eats --untrusted -m 32m").args(eat).ok();
    eventually("it is killed", || store.runner().words("ps -q").ok().stdout.is_empty());
    let ended = store.runner().words("ps -a --format {{.Status}}").ok();
    assert!(ended.stdout.starts_with("Exited (137)"), "{ended}");
    store.runner().words("rm eats").ok();
}

#[test]
fn a_bomb_of_processes_is_one_containers_own() {
    if !ready() || !need(Privilege::Controller("pids")) {
        return;
    }
    let store = Store::new("untrusted-bomb");
    let _image = image(&store);
    let bomb = "f() { f | f & }; f 2>/dev/null; sleep 1; echo alive";
    let out = store.run("--untrusted --pids-limit 40 --timeout 20s image sh -c").arg(bomb).run();
    assert!(out.code() == 0 || out.code() == 2 || out.code() == 137, "{out}");
    store.run("--untrusted image true").ok();
}

#[test]
fn what_it_writes_is_bounded() {
    if !ready() {
        return;
    }
    let store = Store::new("untrusted-disk");
    let _image = image(&store);
    let fill = "dd if=/dev/zero of=/tmp/x bs=1M count=200 2>/dev/null; stat -c %s /tmp/x";
    assert_eq!(script(&store, "", fill), format!("{}\n", 64 << 20));
    store.run("--untrusted --storage-opt size=1g image true").fails(125).complains("--scratch tmpfs:1g");
}

#[test]
fn an_ordinary_user_has_all_of_it_but_what_the_host_keeps_to_root() {
    if !need(Privilege::OrdinaryUser)
        || !need(Privilege::UserNamespaces)
        || !need(Privilege::Peer("busybox"))
        || !need(Privilege::Peer("newuidmap"))
    {
        return;
    }
    let store = Store::of_user("untrusted-user");
    let _image = image(&store);
    let strict = store.run("--untrusted image true").run();
    assert!(strict.code() == 0 || strict.stderr.contains("--best-effort goes on without"), "{strict}");
    let none = "0000000000000000";
    let expected = format!(
        "0\n1024\n1\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{none}\nCapAmb:{none}\nNoNewPrivs:1\nro\n65536\nlo\n"
    );
    assert_eq!(script(&store, "--best-effort", SEEN), expected);
    // What the host could not give is in the report.
    store.run("--untrusted --best-effort --report report image true").ok();
    let report = std::fs::read_to_string(store.scratch.join("report")).expect("the report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let dropped = report["dropped"].as_array().expect("a list");
    assert_eq!(dropped.is_empty(), strict.code() == 0, "{report}");
}
