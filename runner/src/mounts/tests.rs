//! The plan of mounts: tables.

use super::*;

fn mount(kind: &str, destination: &str, options: &[&str]) -> spec::Mount {
    spec::Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some("src".into()),
        options: options.iter().map(|o| o.to_string()).collect(),
        ..Default::default()
    }
}

fn plan_one(m: spec::Mount, user: bool, ns: &[Ns]) -> Result<Mount> {
    let namespaces = namespaces::Plan { new: ns.to_vec(), join: vec![] };
    let gids = [spec::IdMapping { container_id: 0, host_id: 1000, size: 1 }];
    let around = Around {
        label: Some("u:object_r:t:s0:c1,c2"),
        namespaces: &namespaces,
        bundle: Path::new("/b"),
        maps: user.then_some((&gids[..], &gids[..])),
        user: None,
        cgroup_v1: None,
    };
    Ok(plan(&[m], &around)?.remove(0))
}

#[test]
fn a_relative_bind_source_starts_from_the_bundle() {
    let m = plan_one(mount("none", "/a/../x", &["rbind", "ro"]), false, &[]).unwrap();
    assert_eq!(m.at, Path::new("/x"));
    assert_eq!(m.from, Source::Bind { path: "/b/src".into(), recursive: true });
}

#[test]
fn what_the_kernel_would_refuse_in_a_user_namespace_is_bound_from_the_host() {
    let bound = |kind, at, ns: &[Ns]| {
        matches!(plan_one(mount(kind, at, &["ro"]), true, ns).unwrap().from, Source::Bind { .. })
    };
    assert!(bound("sysfs", "/sys", &[Ns::Mount]) && !bound("sysfs", "/sys", &[Ns::Network]));
    assert!(bound("proc", "/proc", &[Ns::Mount]) && !bound("proc", "/proc", &[Ns::Pid]));
    assert!(bound("mqueue", "/dev/mqueue", &[]) && !bound("mqueue", "/dev/mqueue", &[Ns::Ipc]));
}

#[test]
fn the_terminals_group_is_asked_for_only_where_it_has_an_id() {
    let keys = |user| {
        let m = plan_one(mount("devpts", "/dev/pts", &["newinstance", "gid=5"]), user, &[]);
        m.unwrap().options.data.len()
    };
    assert_eq!((keys(false), keys(true)), (3, 2), "with the label");
}

#[test]
fn what_takes_its_label_from_the_mount_is_mounted_with_it() {
    let labels = |kind, at, options: &[&str]| {
        let data = plan_one(mount(kind, at, options), false, &[]).unwrap().options.data;
        data.into_iter()
            .filter(|(key, _)| key == "context")
            .filter_map(|(_, label)| label)
            .collect::<Vec<_>>()
    };
    for (kind, at) in [("tmpfs", "/t"), ("devpts", "/dev/pts"), ("mqueue", "/dev/mqueue"), ("overlay", "/o")]
    {
        assert_eq!(labels(kind, at, &[]), ["u:object_r:t:s0:c1,c2"], "{kind}");
    }
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("cgroup", "/sys/fs/cgroup"), ("bind", "/b")] {
        assert!(labels(kind, at, &[]).is_empty(), "{kind}");
    }
    assert_eq!(labels("tmpfs", "/t", &["context=\"u:object_r:own:s0\""]), ["u:object_r:own:s0"]);
}

#[test]
fn hostile_mounts_are_refused() {
    for m in [
        mount("tmpfs", "/proc", &[]),
        mount("bind", "/proc", &["bind"]),
        mount("tmpfs", "/", &[]),
        mount("tmpfs", "/a/..", &[]),
        mount("tmpfs", "", &[]),
        mount("none", "/a", &["bind", "size=5"]),
    ] {
        assert!(plan_one(m.clone(), false, &[]).is_err(), "{m:?}");
    }
}
