//! Groups held for longer than a foreground run, as those of detached containers are: stopped, changed,
//! killed, found again by another process. Needs root; a machine without it says so.

use std::process::{Child, Command};

use coracle_runner::cgroups::{self, Cgroup, Layout, Lifetime, Request};
use coracle_runner::spec::LinuxResources;
use serde_json::json;

fn resources(value: serde_json::Value) -> LinuxResources {
    coracle_sys::json::from_value(value).expect("resources")
}

/// A group with a shell in it that has a child, or nothing where that cannot be.
fn container(id: &str, limits: serde_json::Value) -> Option<(Cgroup, Child, Layout)> {
    let layout = Layout::probe().expect("probe");
    if ["memory", "pids", "freezer"].iter().any(|c| layout.usable(c).is_err()) {
        assert!(
            !std::env::var("REQUIRE_ALL").is_ok_and(|v| v == "1"),
            "REQUIRE_ALL is set and no cgroup can be made"
        );
        eprintln!("skipped: {id}: no cgroup can be made");
        return None;
    }
    let name = cgroups::own_name(&format!("test-{id}-{}", std::process::id()));
    let limits = resources(limits);
    let request = Request {
        name: &name,
        path: None,
        resources: Some(&limits),
        lifetime: Lifetime::Detached,
        best_effort: false,
        device_rules: false,
    };
    let cgroup = cgroups::plan(&request, &layout).expect("plan").create().expect("create");
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; sleep 1000 & wait"]).stdin(std::process::Stdio::piped());
    let mut child = shell.spawn().expect("start a shell");
    cgroup.enter(child.id() as i32).expect("enter");
    std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), b"go\n").expect("let it go");
    while cgroup.processes().expect("list").len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Some((cgroup, child, layout))
}

#[test]
fn a_container_is_stopped_and_killed_with_all_that_it_forked() {
    let Some((cgroup, mut child, _)) = container("kill", json!({})) else { return };
    cgroup.freeze().expect("freeze");
    // Killed as it is, by a process that knows no more than the state.
    let found = Cgroup::open(cgroup.plan().clone()).expect("open");
    found.kill_all().expect("kill");
    assert_eq!(found.processes().expect("list"), [0; 0]);
    assert!(!child.wait().expect("wait").success());
    found.remove().expect("remove");
    assert!(cgroup.plan().groups.iter().all(|g| !g.dir.exists()));
    found.kill_all().and_then(|()| found.remove()).expect("what is gone may be removed again");
}

#[test]
fn what_is_stopped_goes_on() {
    let Some((cgroup, mut child, _)) = container("thaw", json!({})) else { return };
    for _ in 0..3 {
        cgroup.freeze().expect("freeze");
        cgroup.thaw().expect("thaw");
    }
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
}

#[test]
fn limits_change_in_both_directions_while_it_runs() {
    let first = json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 50}});
    let swap = cgroups::counts_swap();
    let first = if swap { first } else { json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}) };
    let Some((cgroup, mut child, layout)) = container("set", first) else { return };
    for mib in [128u64, 32, 256] {
        let mut asked = json!({"memory": {"limit": mib << 20}});
        if swap {
            asked["memory"]["swap"] = json!(mib << 20);
        }
        cgroup.set(&LinuxResources::default(), &resources(asked), &layout).expect("set");
        assert_eq!(cgroup.stats().memory_limit, Some(mib << 20));
    }
    let e = cgroup
        .set(&LinuxResources::default(), &resources(json!({"rdma": {"mlx": {"hcaHandles": 2}}})), &layout)
        .unwrap_err()
        .to_string();
    assert!(e.contains("controller rdma"), "{e}");
    let below = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    let e = cgroup.set(&LinuxResources::default(), &resources(below), &layout).unwrap_err().to_string();
    assert!(e.contains("bytes are in use"), "{e}");
    let stats = cgroup.stats();
    assert!(stats.pids == Some(2) && stats.memory_peak.is_some() && stats.cpu_us.is_some(), "{stats:?}");
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
}

#[test]
fn a_sweep_takes_the_groups_of_the_dead_and_no_others() {
    let Some((cgroup, mut child, layout)) = container("sweep", json!({})) else { return };
    let own = |id: &str| id.starts_with("test-sweep-");
    // The others of these tests run beside it.
    assert!(cgroups::sweep(&layout, |id, _| !own(id)).is_empty(), "it has processes");
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    let removed = cgroups::sweep(&layout, |id, _| !own(id));
    assert_eq!(removed.len(), cgroup.plan().groups.len());
}

#[test]
fn what_is_used_is_told_in_the_members_that_clients_of_runc_read() {
    let Some((cgroup, mut child, _)) = container("metrics", json!({"pids": {"limit": 77}})) else { return };
    let told = cgroup.metrics();
    assert_eq!((&told["pids"]["current"], &told["pids"]["limit"]), (&json!(2), &json!(77)));
    assert!(told["memory"]["usage"]["usage"].as_u64() > Some(0), "{told}");
    // The kernel adds these up when it finds the time.
    assert!(told["cpu"]["usage"]["user"].is_u64() && told["memory"]["raw"]["pgfault"].is_u64(), "{told}");
    assert!(told["hugetlb"].is_object(), "{told}");
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
}

#[test]
fn running_out_of_memory_is_told_and_so_is_the_end() {
    let mut limits = json!({"memory": {"limit": 16 << 20}});
    if cgroups::counts_swap() {
        limits["memory"]["swap"] = json!(16 << 20);
    }
    let Some((cgroup, mut child, _)) = container("oom", limits) else { return };
    let mut oom = cgroup.watch_oom().expect("watch");
    assert_eq!(oom.heard().expect("hear"), Some(0));
    let mut eater = Command::new("sh");
    let eater = eater.args(["-c", "read go; head -c 200000000 /dev/zero | tail -c 190000000 >/dev/null"]);
    let mut eater = eater.stdin(std::process::Stdio::piped()).spawn().expect("start a shell");
    cgroup.enter(eater.id() as i32).expect("enter");
    std::io::Write::write_all(eater.stdin.as_mut().expect("a pipe"), b"go\n").expect("let it go");
    let mut heard = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while heard == 0 && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
        heard = oom.heard().expect("hear").expect("the group is there");
    }
    assert!(heard > 0);
    eater.wait().expect("wait");
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
    assert_eq!(oom.heard().expect("hear"), None);
}

#[test]
fn quota_period_and_burst_change_in_whatever_order_the_kernel_takes() {
    let Some((cgroup, mut child, layout)) = container("cpu", json!({})) else { return };
    let steps = [
        json!({"quota": 100000, "period": 100000, "burst": 50000}),
        json!({"quota": 20000, "period": 20000, "burst": 1000, "shares": 512}),
        json!({"quota": 500000, "period": 1000000, "burst": 400000}),
        json!({"idle": 1, "shares": 512}),
        json!({"idle": 0, "shares": 256}),
        json!({"quota": -1, "burst": 0, "cpus": "0"}),
    ];
    for cpu in steps {
        cgroup
            .set(&LinuxResources::default(), &resources(json!({"cpu": cpu})), &layout)
            .unwrap_or_else(|e| panic!("{cpu}: {e}"));
    }
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
}

#[test]
fn what_cannot_be_changed_leaves_everything_as_it_was() {
    let had = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    let Some((cgroup, mut child, layout)) = container("back", had.clone()) else { return };
    let change = resources(json!({"memory": {"limit": 128 << 20}, "cpu": {"cpus": "4095"}}));
    let merged = cgroups::merge(&resources(had), &change).expect("merge");
    let e = cgroup.set(&LinuxResources::default(), &merged, &layout).unwrap_err().to_string();
    assert!(e.contains("cpuset.cpus"), "{e}");
    assert_eq!(cgroup.stats().memory_limit, Some(64 << 20));
    if layout.version() != "2" {
        let e = cgroup
            .set(&LinuxResources::default(), &resources(json!({"memory": {"limit": 4096}})), &layout)
            .unwrap_err()
            .to_string();
        assert!(e.contains("unable to set memory limit to 4096 (current usage: "), "{e}");
        assert!(e.contains(", peak usage: "), "{e}");
    }
    assert!(!cgroup.is_frozen().expect("ask"));
    cgroup.freeze().expect("freeze");
    assert!(cgroup.is_frozen().expect("ask"));
    cgroup.kill_all().expect("kill");
    child.wait().expect("wait");
    cgroup.remove().expect("remove");
    assert!(!cgroup.is_frozen().expect("ask"));
}
