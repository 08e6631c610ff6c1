//! `info` and `doctor`: they tell the truth about this host, as root and as an ordinary user.

use coracle_tests::{Cmd, Privilege, need};

#[test]
fn doctor_says_that_containers_run_where_they_do_and_leaves_nothing() {
    if !need(Privilege::Containers) {
        return;
    }
    let told = Cmd::runner().words("doctor --json").ok().json();
    assert_eq!(told["runs"], true, "{told}");
    let findings = told["findings"].as_array().expect("a list");
    for f in findings {
        assert!(f["ok"] == true || f["remedy"].as_str().is_some_and(|r| !r.is_empty()), "no remedy: {f}");
    }
    let named = |name: &str| findings.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("pid namespace")["ok"], true);
}

#[test]
fn doctor_ends_with_1_where_no_container_can_run() {
    if !need(Privilege::Root) {
        return;
    }
    let setpriv = Cmd::new("setpriv").words("--bounding-set=-sys_admin --inh-caps=-sys_admin");
    let output = setpriv.arg(coracle_tests::binaries::runner()).arg("doctor").run();
    output.fails(1).prints("No container runs here.").prints("CAP_SYS_ADMIN is missing");
}

#[test]
fn info_is_for_scripts_too() {
    let told = Cmd::runner().words("--store /nowhere/store info --format json").ok().json();
    assert_eq!(told["store"], "/nowhere/store");
    assert!(told["cgroupVersion"].is_string() && told["controllers"].is_array(), "{told}");
    Cmd::runner().words("info").ok().prints("Kernel");
}
