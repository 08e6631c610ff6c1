//! The plan's tables.

use serde_json::json;

use super::super::layout::{Node, V1, V2};
use super::*;

fn v1(controllers: &[&str], files: &[&str]) -> V1 {
    let own = PathBuf::from(format!("/cg/{}/own", controllers.join(",")));
    V1 {
        controllers: controllers.iter().map(|c| c.to_string()).collect(),
        mount: own.parent().unwrap().into(),
        own,
        writable: true,
        files: files.iter().map(|f| f.to_string()).collect(),
    }
}

fn host_v1() -> Layout {
    let mut hierarchies =
        vec![v1(&["memory"], &["memory.memsw.limit_in_bytes"]), v1(&["cpu", "cpuacct"], &[])];
    hierarchies
        .extend(["pids", "freezer", "devices", "blkio", "cpuset", "name=systemd"].map(|c| v1(&[c], &[])));
    Layout { v1: hierarchies, v2: None, privileged: true }
}

fn node(dir: &str, controllers: &str, enabled: &str) -> Node {
    let words = |s: &str| s.split_whitespace().map(str::to_owned).collect();
    Node { dir: dir.into(), controllers: words(controllers), enabled: words(enabled), ..Node::default() }
}

/// A user's terminal under systemd: its scope, the slice above, the user's manager, what root has.
fn host_v2() -> Layout {
    let scope = Node {
        populated: true,
        writable: true,
        delegated: true,
        ..node("/cg/u/app/term.scope", "memory pids", "")
    };
    let app = Node { writable: true, delegated: true, ..node("/cg/u/app", "memory pids", "") };
    let manager = Node { writable: true, delegated: true, ..node("/cg/u", "memory pids cpu", "memory pids") };
    let root = Node { root: true, populated: true, ..node("/cg", "memory pids cpu io", "memory pids cpu") };
    Layout {
        v1: vec![],
        v2: Some(V2 { mount: "/cg".into(), chain: vec![scope, app, manager, root] }),
        privileged: false,
    }
}

fn ask(layout: &Layout, resources: serde_json::Value, best_effort: bool) -> Result<Plan> {
    let resources: LinuxResources = coracle_sys::json::from_value(resources).unwrap();
    let request = Request {
        name: "coracle-x",
        path: None,
        resources: Some(&resources),
        lifetime: Lifetime::ForegroundRun,
        best_effort,
        device_rules: !resources.devices.is_empty(),
    };
    plan(&request, layout)
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.groups.iter().flat_map(|g| g.writes.iter().map(|w| format!("{}={}", w.file, w.value))).collect()
}

#[test]
fn a_foreground_run_makes_only_what_its_limits_need() {
    let p = ask(&host_v1(), json!({"pids": {"limit": 5}}), false).unwrap();
    assert_eq!(p.groups.len(), 1);
    assert_eq!(p.groups[0].dir, Path::new("/cg/pids/own/coracle-x"));
    for host in [host_v1(), host_v2()] {
        assert_eq!(ask(&host, json!({}), false).unwrap(), Plan::default());
    }
}

#[test]
fn beside_v1_the_device_filter_has_a_group_of_v2_to_be_born_into() {
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let unified = Node { writable: true, ..node("/cg/unified/own", "", "") };
    let v2 = V2 { mount: "/cg/unified".into(), chain: vec![unified] };
    let p = ask(&Layout { v2: Some(v2.clone()), ..host_v1() }, rules.clone(), false).unwrap();
    let [group] = &p.groups[..] else { panic!("{p:?}") };
    assert!(group.unified && group.devices.is_some() && group.controllers.is_empty());
    assert_eq!(group.dir, Path::new("/cg/unified/own/coracle-x"));
    assert_eq!(group.otherwise.as_ref().unwrap().dir, Path::new("/cg/devices/own/coracle-x"));
    // One that we may not use is as good as none.
    let closed = V2 { chain: vec![node("/cg/unified/own", "", "")], ..v2 };
    let p = ask(&Layout { v2: Some(closed), ..host_v1() }, rules, false).unwrap();
    assert_eq!(p.groups[0].dir, Path::new("/cg/devices/own/coracle-x"));
}

#[test]
fn a_detached_container_is_accounted_from_its_first_moment() {
    let request = Request {
        name: "coracle-x",
        path: None,
        resources: None,
        lifetime: Lifetime::Detached,
        best_effort: false,
        device_rules: false,
    };
    let p = plan(&request, &host_v1()).unwrap();
    let names: Vec<_> = p.groups.iter().map(|g| g.controllers.join(",")).collect();
    assert_eq!(names, ["memory", "cpu,cpuacct", "pids", "freezer", "cpuset", "blkio", "name=systemd"]);
    assert!(p.groups.iter().all(|g| g.soft));
    let p = plan(&request, &host_v2()).unwrap();
    assert_eq!(p.groups[0].controllers, ["cpu", "memory", "pids"]);
    assert_eq!(p.groups[0].dir, Path::new("/cg/u/coracle-x"));
}

#[test]
fn limits_become_writes_in_the_words_of_each_version() {
    let asked = json!({
        "memory": {"limit": 64, "swap": 96, "reservation": 32},
        "pids": {"limit": -1}
    });
    assert_eq!(
        lines(&ask(&host_v1(), asked.clone(), false).unwrap()),
        [
            "memory.limit_in_bytes=64",
            "memory.memsw.limit_in_bytes=96",
            "memory.soft_limit_in_bytes=32",
            "pids.max=max"
        ]
    );
    assert_eq!(
        lines(&ask(&host_v2(), asked, false).unwrap()),
        ["memory.max=64", "memory.swap.max=32", "memory.low=32", "pids.max=max"]
    );
    let cpu = json!({"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "burst": 10, "idle": 1}});
    assert_eq!(
        lines(&ask(&host_v1(), cpu.clone(), false).unwrap()),
        [
            "cpu.shares=1024",
            "cpu.cfs_period_us=200000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=10",
            "cpu.idle=1"
        ]
    );
    assert_eq!(
        lines(&ask(&host_v2(), cpu, false).unwrap()),
        ["cpu.weight=100", "cpu.max=50000 200000", "cpu.max.burst=10", "cpu.idle=1"]
    );
}

#[test]
fn the_nearest_group_that_can_give_the_controllers_is_the_parent() {
    for (asked, parent) in [
        (json!({"memory": {"limit": 64}}), "/cg/u/app/coracle-x"),
        (json!({"cpu": {"shares": 2}}), "/cg/u/coracle-x"),
    ] {
        assert_eq!(ask(&host_v2(), asked, false).unwrap().groups[0].dir, Path::new(parent));
    }
}

#[test]
fn a_limit_that_cannot_be_given_names_its_controller_or_is_dropped() {
    let mut without_swap = host_v1();
    without_swap.v1[0].files.clear();
    let mut ordinary = host_v1();
    ordinary.v1[2].writable = false;
    let mut inside = host_v2();
    inside.v2.as_mut().unwrap().chain.truncate(1);
    let weight = json!({"blockIO": {"weight": 100}});
    let cases = [
        (
            &host_v1(),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}),
            "controller hugetlb is missing",
        ),
        (&host_v1(), json!({"unified": {"memory.high": "1"}}), "cgroup v2"),
        (&host_v1(), weight, "blkio.weight = 100: the kernel weighs"),
        (&without_swap, json!({"memory": {"limit": 64, "swap": 96}}), "does not account swap"),
        (&ordinary, json!({"pids": {"limit": 5}}), "controller pids is not ours"),
        (&inside, json!({"memory": {"limit": 64}}), "processes of its own"),
        (&host_v2(), json!({"blockIO": {"weight": 100}}), "controller io is not delegated"),
        (&host_v2(), json!({"unified": {"misc.max": "1"}}), "controller misc is missing"),
        (&host_v2(), json!({"memory": {"swappiness": 5}}), "cgroup v2 does not have it"),
    ];
    for (host, asked, words) in cases {
        let e = ask(host, asked.clone(), false).unwrap_err();
        assert!(e.kind() == Kind::Unsupported && e.to_string().contains(words), "{e}");
        let dropped = ask(host, asked, true).unwrap().dropped;
        assert!(dropped.len() == 1 && dropped[0].contains(words), "{dropped:?}");
    }
}

#[test]
fn what_is_dropped_does_not_take_the_rest_with_it() {
    let p = ask(&host_v2(), json!({"blockIO": {"weight": 100}, "pids": {"limit": 5}}), true).unwrap();
    assert_eq!((lines(&p), p.dropped.len()), (vec!["pids.max=5".to_string()], 1));
}

#[test]
fn zero_asks_for_nothing() {
    let asked = json!({"blockIO": {"weight": 0}, "pids": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}, "memory": {"limit": 0}});
    for host in [host_v1(), host_v2()] {
        assert_eq!(lines(&ask(&host, asked.clone(), false).unwrap()), [""; 0]);
    }
}

#[test]
fn a_path_is_below_the_mount_or_below_our_own_group_and_never_leads_out() {
    for (path, dir) in [
        ("/a/b", "/cg/pids/a/b"),
        ("a/b", "/cg/pids/own/a/b"),
        ("/../../a", "/cg/pids/a"),
        ("../a", "/cg/pids/own/a"),
        ("a/../../b", "/cg/pids/own/b"),
    ] {
        let resources = coracle_sys::json::from_value(json!({"pids": {"limit": 5}})).unwrap();
        let request = Request {
            name: "coracle-x",
            path: Some(path),
            resources: Some(&resources),
            lifetime: Lifetime::ForegroundRun,
            best_effort: false,
            device_rules: true,
        };
        assert_eq!(plan(&request, &host_v1()).unwrap().groups[0].dir, Path::new(dir), "{path}");
    }
    for hostile in ["/", "..", "a/.."] {
        assert!(clean(hostile).is_err(), "{hostile}");
    }
    assert!(clean("user.slice:coracle:x").unwrap_err().to_string().contains("systemd"));
}

#[test]
fn device_rules_are_for_root() {
    let asked = json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]});
    let p = ask(&host_v1(), asked.clone(), false).unwrap();
    assert_eq!(lines(&p)[..3], ["devices.deny=a", "devices.allow=c 1:3 rw", "devices.allow=c *:* m"]);
    let root = Layout { privileged: true, ..host_v2() };
    assert!(ask(&root, asked.clone(), false).unwrap().groups[0].devices.is_some());
    assert_eq!(ask(&host_v2(), asked, false).unwrap(), Plan::default());
    let everything = json!({"devices": [{"allow": true, "access": "rwm"}]});
    assert_eq!(ask(&host_v1(), everything, false).unwrap(), Plan::default());
}

#[test]
fn without_a_list_of_devices_all_but_the_default_ones_are_denied_where_that_can_be_had() {
    let request = Request {
        name: "coracle-x",
        path: None,
        resources: None,
        lifetime: Lifetime::ForegroundRun,
        best_effort: false,
        device_rules: true,
    };
    assert_eq!(lines(&plan(&request, &host_v1()).unwrap())[0], "devices.deny=a");
    let none = Layout { v1: vec![v1(&["memory"], &[])], ..host_v1() };
    let p = plan(&request, &none).unwrap();
    assert!(p.groups.is_empty() && p.dropped[0].contains("device"), "{:?}", p.dropped);
    let user = Request { device_rules: false, ..request };
    assert_eq!(plan(&user, &host_v1()).unwrap(), Plan::default());
}

#[test]
fn a_plan_survives_the_way_through_json() {
    let p = ask(&host_v2(), json!({"memory": {"limit": 64}, "blockIO": {"weight": 9}}), true).unwrap();
    let text = serde_json::to_string(&p).unwrap();
    assert_eq!(coracle_sys::json::from_slice::<Plan>(text.as_bytes()).unwrap(), p);
}
