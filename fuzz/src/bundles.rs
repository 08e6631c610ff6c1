//! Bundles of OCI clients: config.json down to what would be done, the process that joins a container, and ids. Nothing
//! of the host is changed, and of the root and the groups nothing is looked at: both are made up.

use std::path::{Path, PathBuf};

use coracle_runner::cgroups::{self, Layout, Lifetime, Node, Request, V1, V2};
use coracle_runner::devfilter;
use coracle_runner::host::Host;
use coracle_runner::plan::{self, Options};
use coracle_runner::process::{self, Init};
use coracle_runner::rootfs::Source;
use coracle_runner::spec::{Process, Spec};
use coracle_runner::state::check_id;
use coracle_sys::json;

/// A config.json is planned for root and for an ordinary user, on cgroups of either version, or refused in one line.
/// What was read is written and read again as the same, and no group lies outside of its hierarchy.
pub fn config_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let spec = match Spec::parse(text) {
        Ok(spec) => spec,
        Err(e) => return told_in_one_line(&e),
    };
    let written = serde_json::to_string(&spec).expect("what was read can be written");
    assert_eq!(Spec::parse(&written).expect("and read again"), spec);
    for (uid, capabilities) in [(0, u64::MAX), (1000, 0)] {
        let options = Options {
            id: "id".into(),
            bundle: "/bundle".into(),
            root: Some(Source::Directory("/bundle/rootfs".into())),
            init: Init::ExecOnly,
            die_with_parent: false,
            new_keyring: true,
            preserve_fds: 0,
            cgroup_v1: None,
            seccomp: None,
        };
        match plan::plan(&spec, &options, &Host { uid, gid: uid, capabilities }) {
            Ok(plan) => drop(serde_json::to_vec(&plan).expect("a plan can be printed")),
            Err(e) => told_in_one_line(&e),
        }
    }
    for layout in [&separate(), &unified()] {
        groups(&spec, layout);
    }
}

/// The groups of a spec.
fn groups(spec: &Spec, layout: &Layout) {
    let linux = spec.linux.as_ref();
    let request = Request {
        name: "id",
        path: linux.and_then(|l| l.cgroups_path.as_deref()).filter(|p| !p.is_empty()),
        resources: linux.and_then(|l| l.resources.as_ref()),
        lifetime: Lifetime::Detached,
        best_effort: true,
        device_rules: true,
    };
    let plan = match cgroups::plan(&request, layout) {
        Ok(plan) => plan,
        Err(e) => return told_in_one_line(&e),
    };
    let beneath = |dir: &Path, above: &Path| {
        dir != above
            && dir.starts_with(above)
            && dir.components().all(|c| c != std::path::Component::ParentDir)
    };
    for group in &plan.groups {
        assert!(beneath(&group.dir, &group.mount), "{:?} is not beneath {:?}", group.dir, group.mount);
        for write in &group.writes {
            let files = [Some(&write.file), write.rather.as_ref().map(|(file, _)| file)];
            assert!(files.into_iter().flatten().all(|f| !f.contains('/')), "{write:?}");
        }
        if let Some(rules) = &group.devices {
            let program = devfilter::assemble(rules);
            assert!(
                program.len() < 1 << 15 && program.iter().all(|i| i.offset >= 0),
                "a jump that misses its place"
            );
        }
    }
}

/// `exec --process FILE`.
pub fn process_json(data: &[u8]) {
    let process = match json::from_slice::<Process>(data) {
        Ok(process) => process,
        Err(e) => return told_in_one_line(&e),
    };
    let written = serde_json::to_vec(&process).expect("what was read can be written");
    assert_eq!(json::from_slice::<Process>(&written).expect("and read again"), process);
    match process::plan(&process, Init::ExecOnly, &mut Vec::new()) {
        // Nothing that cannot be an argument is left for the moment when it is too late to tell.
        Ok(plan) => assert!(plan.init_argv(Some(3)).is_ok() && plan.c_env().is_ok(), "{plan:?}"),
        Err(e) => told_in_one_line(&e),
    }
}

/// An id is a file name in whatever directory it is put, and no other text is an id.
pub fn container_id(data: &[u8]) {
    let Ok(id) = std::str::from_utf8(data) else { return };
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    let sound = (1..=200).contains(&id.len()) && id.bytes().all(letters) && id != "." && id != "..";
    assert_eq!(check_id(id).is_ok(), sound, "{id:?}");
    if sound {
        let path = PathBuf::from("/states").join(id);
        assert_eq!((path.parent(), path.file_name()), (Some(Path::new("/states")), Some(id.as_ref())));
    }
}

fn told_in_one_line(e: &coracle_sys::Error) {
    let text = e.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}

/// A machine with version 1.
fn separate() -> Layout {
    let hierarchy = |name: &str| V1 {
        controllers: vec![name.into()],
        mount: Path::new("/cg").join(name),
        own: Path::new("/cg").join(name).join("own"),
        writable: true,
        files: vec![],
    };
    let names =
        "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb rdma net_cls net_prio name=systemd";
    Layout { v1: names.split(' ').map(hierarchy).collect(), v2: None, privileged: true }
}

/// One with version 2 alone.
fn unified() -> Layout {
    let words = || "cpuset cpu io memory hugetlb pids rdma".split(' ').map(str::to_owned).collect();
    let root = Node {
        dir: "/cg".into(),
        controllers: words(),
        enabled: words(),
        root: true,
        populated: true,
        writable: true,
        delegated: true,
    };
    Layout { v1: vec![], v2: Some(V2 { mount: "/cg".into(), chain: vec![root] }), privileged: true }
}

/// What is sound.
pub(crate) mod seeds {
    use serde_json::Value;

    /// What `spec` writes, what podman and docker write, and one with every member.
    const CONFIGS: [&str; 4] = [
        include_str!("../../runner/src/commands/spec.json"),
        include_str!("../seeds/podman.json"),
        include_str!("../seeds/docker.json"),
        include_str!("../seeds/everything.json"),
    ];

    pub(crate) fn configs() -> Vec<Vec<u8>> {
        CONFIGS.map(|text| text.as_bytes().to_vec()).to_vec()
    }

    pub(crate) fn processes() -> Vec<Vec<u8>> {
        let process = |text| {
            let config: Value = serde_json::from_str(text).expect("a seed is JSON");
            config["process"].to_string().into_bytes()
        };
        CONFIGS.map(process).to_vec()
    }

    pub(crate) fn ids() -> Vec<Vec<u8>> {
        let hex = "0123456789abcdef".repeat(4);
        let all = ["a", "k8s_pause+1.2-b", "_", ".a", "-a", "..a", "a/../b", "..", &hex, &"x".repeat(200)];
        all.iter().map(|id| id.as_bytes().to_vec()).collect()
    }
}
