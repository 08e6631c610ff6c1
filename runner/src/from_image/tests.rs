//! What flags and an image amount to, as tables.

use super::*;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

fn found() -> Found {
    Found {
        id: "0123456789abcdef".to_owned(),
        who: Who { uid: 0, gid: 0, groups: vec![10], home: Some("/root".to_owned()) },
        mounts: Vec::new(),
        maps: None,
        ours: u64::MAX,
        swap_counted: true,
        window: (24, 80),
        modules: String::new(),
        cpus: 2,
        online: 2,
        joined: BTreeMap::new(),
        variable: |name| (name == "HERE").then(|| "there".to_owned()),
        env_files: Vec::new(),
    }
}

fn of(flags: &Flags) -> Result<Spec> {
    spec(&ProcessConfig::default(), flags, &words(&["sh"]), found())
}

fn process_of(flags: &Flags) -> Process {
    of(flags).unwrap().process.unwrap()
}

#[test]
fn the_command_is_put_together_as_docker_does() {
    // Entry point and command of the image, --entrypoint, what is typed, what is run.
    for (entry, cmd, flag, typed, run) in [
        (&[][..], &["sh"][..], None, &[][..], &["sh"][..]),
        (&[], &["sh"], None, &["ls", "-l"], &["ls", "-l"]),
        (&["tool"], &["help"], None, &[], &["tool", "help"]),
        (&["tool"], &["help"], None, &["go"], &["tool", "go"]),
        (&["tool"], &["help"], Some("sh"), &[], &["sh"]),
        (&["tool"], &["help"], Some("sh"), &["-c", "x"], &["sh", "-c", "x"]),
        (&["tool"], &["help"], Some(""), &["ls"], &["ls"]),
        (&["/bin/sh", "-c", "x y"], &[], None, &[], &["/bin/sh", "-c", "x y"]),
    ] {
        let config = ProcessConfig {
            entrypoint: Some(words(entry)),
            cmd: Some(words(cmd)),
            ..ProcessConfig::default()
        };
        let flags = Flags { entrypoint: flag.map(str::to_owned), ..Flags::default() };
        assert_eq!(
            command(&config, &flags, &words(typed)).unwrap(),
            run,
            "{entry:?} {cmd:?} {flag:?} {typed:?}"
        );
    }
    let nothing = ProcessConfig::default();
    assert!(command(&nothing, &Flags::default(), &[]).is_err());
    let config = ProcessConfig { cmd: Some(words(&["sh"])), ..nothing };
    assert!(command(&config, &Flags { entrypoint: Some(String::new()), ..Flags::default() }, &[]).is_err());
}

#[test]
fn a_variable_that_is_set_later_counts_and_none_is_set_twice() {
    let config = ProcessConfig {
        env: Some(words(&["PATH=/only", "A=image", "B=image", "TERM=dumb"])),
        ..ProcessConfig::default()
    };
    let flags = Flags { env: words(&["B=typed", "HERE", "NOWHERE", "C="]), tty: true, ..Flags::default() };
    let found = Found { env_files: words(&["A=file", "HERE=there", "D=x y "]), ..found() };
    let mut env = spec(&config, &flags, &words(&["sh"]), found).unwrap().process.unwrap().env;
    env.sort();
    let mut expected = words(&[
        "A=file",
        "B=typed",
        "C=",
        "D=x y ",
        "HERE=there",
        "HOME=/root",
        "HOSTNAME=0123456789ab",
        "PATH=/only",
        "TERM=dumb",
    ]);
    expected.sort();
    assert_eq!(env, expected);
    for wrong in ["", "=", "=x"] {
        assert!(of(&Flags { env: words(&[wrong]), ..Flags::default() }).is_err(), "{wrong:?}");
    }
}

#[test]
fn capabilities_are_held_by_root_and_by_whom_they_were_given_to_by_name() {
    let held = |flags: &Flags, uid: u32| {
        let found = Found { who: Who { uid, ..Who::default() }, ..found() };
        let process =
            spec(&ProcessConfig::default(), flags, &words(&["sh"]), found).unwrap().process.unwrap();
        let sets = process.capabilities.unwrap();
        [sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient].map(|s| s.len())
    };
    let one = Flags { cap_add: words(&["NET_ADMIN"]), ..Flags::default() };
    let privileged = Flags { privileged: true, ..Flags::default() };
    assert_eq!(held(&Flags::default(), 0), [14, 14, 14, 0, 0]);
    assert_eq!(held(&Flags::default(), 5), [14, 0, 0, 0, 0]);
    assert_eq!(held(&one, 0), [15, 15, 15, 0, 0]);
    assert_eq!(held(&one, 5), [15, 1, 1, 1, 1]);
    assert_eq!(held(&privileged, 0), [41, 41, 41, 0, 0]);
    assert_eq!(held(&privileged, 5), [41, 0, 0, 0, 0]);
}

#[test]
fn namespaces_are_the_containers_own_unless_a_flag_shares_them() {
    let kinds = |flags: &Flags| -> Vec<String> {
        let found = Found { joined: [("network".to_owned(), "/proc/7/ns/net".into())].into(), ..found() };
        let spec = spec(&ProcessConfig::default(), flags, &words(&["sh"]), found).unwrap();
        let mut all: Vec<String> = spec.linux.unwrap().namespaces.into_iter().map(|n| n.kind).collect();
        all.sort();
        all
    };
    let word = |w: &str| Some(w.to_owned());
    let own = ["cgroup", "ipc", "mount", "network", "pid", "uts"];
    assert_eq!(kinds(&Flags::default()), own);
    assert_eq!(kinds(&Flags { network: word("container:x"), ..Flags::default() }), own);
    assert_eq!(
        kinds(&Flags { network: word("host"), ..Flags::default() }),
        ["cgroup", "ipc", "mount", "pid", "uts"]
    );
    assert_eq!(
        kinds(&Flags { pid: word("host"), uts: word("host"), ..Flags::default() }),
        ["cgroup", "ipc", "mount", "network"]
    );
    for wrong in ["a/b", "none:", "container:", "", "ns:x"] {
        let e = of(&Flags { network: word(wrong), ..Flags::default() }).unwrap_err().to_string();
        assert!(e.contains("--network"), "{wrong:?}: {e}");
        assert!(of(&Flags { pid: word(wrong), ..Flags::default() }).is_err(), "{wrong:?}");
    }
    let both = Flags { network: word("none"), net: word("host"), ..Flags::default() };
    assert!(of(&both).is_err());
}

#[test]
fn what_is_masked_is_masked_unless_the_container_is_privileged() {
    let hidden = |privileged: bool| {
        let linux = of(&Flags { privileged, ..Flags::default() }).unwrap().linux.unwrap();
        (linux.masked_paths, linux.readonly_paths.len())
    };
    let (masked, readonly) = hidden(false);
    for path in
        ["/proc/kcore", "/proc/keys", "/sys/firmware", "/sys/devices/system/cpu/cpu1/thermal_throttle"]
    {
        assert!(masked.iter().any(|m| m == Path::new(path)), "{path}");
    }
    assert_eq!((masked.len(), readonly), (15, 5));
    assert_eq!(hidden(true), (Vec::new(), 0));
}

#[test]
fn a_mount_of_the_users_takes_the_place_of_ours() {
    let asked = |at: &str| mounts::tmpfs(&format!("{at}:size=1m")).unwrap().mount(None);
    let found = Found { mounts: vec![asked("/dev/shm"), asked("/a/b"), asked("/a")], ..found() };
    let spec = spec(&ProcessConfig::default(), &Flags::default(), &words(&["sh"]), found).unwrap();
    let places: Vec<String> = spec.mounts.iter().map(|m| m.destination.display().to_string()).collect();
    assert_eq!(places.iter().filter(|at| *at == "/dev/shm").count(), 1, "{places:?}");
    let place = |at: &str| places.iter().position(|p| p == at).unwrap();
    assert!(place("/dev") < place("/dev/shm"), "{places:?}");
    assert!(place("/a") < place("/a/b"), "{places:?}");
}

#[test]
fn names_and_folders_that_cannot_be_are_refused() {
    for name in ["", "a b", "a\n1.2.3.4 evil", "-a", "a/b", &"a".repeat(65)] {
        assert!(of(&Flags { hostname: Some(name.to_owned()), ..Flags::default() }).is_err(), "{name:?}");
    }
    for (dir, is) in [("/work", true), ("work", false), ("./x", false)] {
        assert_eq!(of(&Flags { workdir: Some(dir.to_owned()), ..Flags::default() }).is_ok(), is, "{dir}");
    }
    // What an image says is held to the same.
    let config = ProcessConfig { working_dir: Some("rel".to_owned()), ..ProcessConfig::default() };
    assert!(spec(&config, &Flags::default(), &words(&["sh"]), found()).is_err());
}

#[test]
fn a_user_who_is_not_in_the_namespace_is_refused_and_not_replaced() {
    let range = |size| vec![IdMapping { container_id: 0, host_id: 1000, size }];
    let with = |uid, gid, size| {
        let who = Who { uid, gid, ..Who::default() };
        let found = Found { who, maps: Some((range(size), range(size))), ..found() };
        spec(&ProcessConfig::default(), &Flags::default(), &words(&["sh"]), found).map(|s| s.linux.unwrap())
    };
    assert!(with(0, 0, 1).unwrap().namespaces.iter().any(|n| n.kind == "user"));
    assert!(with(65534, 65534, 65536).is_ok());
    assert!(with(1, 0, 1).unwrap_err().to_string().contains("user 1"));
    assert!(with(0, 1, 1).unwrap_err().to_string().contains("group 1"));
}

#[test]
fn security_options_are_kept_or_refused_by_name() {
    let read = |modules: &str, option: &str| {
        security(&Flags { security_opt: words(&[option]), ..Flags::default() }, modules)
            .map_err(|e| e.to_string())
    };
    for (option, fixed) in [
        ("no-new-privileges", true),
        ("no-new-privileges:true", true),
        ("no-new-privileges=true", true),
        ("no-new-privileges:false", false),
        ("seccomp=unconfined", false),
        ("label=disable", false),
        ("label:disable", false),
        ("apparmor=unconfined", false),
    ] {
        assert_eq!(read("capability,landlock\n", option), Ok(fixed), "{option}");
    }
    for (modules, option, says) in [
        ("", "label=type:x", "SELinux"),
        ("", "apparmor=docker-default", "AppArmor"),
        ("capability,selinux", "label=disable", "SELinux"),
        ("lockdown,apparmor\n", "apparmor=unconfined", "AppArmor"),
        ("", "seccomp", "unknown"),
        ("", "no-new-privileges=perhaps", "unknown"),
        ("", "mask=/x", "unknown"),
    ] {
        let e = read(modules, option).unwrap_err();
        assert!(e.contains(says) && e.contains(option), "{option}: {e}");
    }
}

#[test]
fn a_terminal_has_the_size_of_the_callers() {
    let process = process_of(&Flags { tty: true, ..Flags::default() });
    let size = process.console_size.unwrap();
    assert_eq!((process.terminal, size.height, size.width), (true, 24, 80));
    let process = process_of(&Flags::default());
    assert_eq!((process.terminal, process.console_size), (false, None));
}

#[test]
fn devices_are_whole_or_refused() {
    let device = |text: &str| of(&Flags { device: words(&[text]), ..Flags::default() });
    let made = device("/dev/null:/dev/nothing:rwm").unwrap().linux.unwrap().devices;
    assert_eq!(
        (made[0].path.as_path(), made[0].major, made[0].minor),
        (Path::new("/dev/nothing"), Some(1), Some(3))
    );
    let spec = device("/dev/null:/dev/x:r").unwrap().linux.unwrap();
    let rules = spec.resources.unwrap().devices;
    assert_eq!(rules.last().unwrap().access.as_deref(), Some("r"));
    for text in
        ["", "dev/null", "/dev/null:/dev/x:rx", "/dev/null:/a:/b:rwm", "/etc/passwd", "/no/such/device"]
    {
        assert!(device(text).is_err(), "{text:?}");
    }
}
