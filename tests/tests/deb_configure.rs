//! `deb` layers that are configured, on a system of the test's own: a static shell, and a dpkg that writes down what it is
//! asked for. And where the repositories come from when nobody names one.

use coracle_tests::debs::{PEERS, Repository};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

fn can() -> bool {
    need(Privilege::Root)
        && PEERS.iter().all(|peer| need(Privilege::Peer(peer)))
        && need(Privilege::Peer("busybox"))
}

const DPKG: &str = "#!/bin/sh\ncase \"$*\" in\n--audit) ;;\n*) echo \"dpkg $*\" >> /etc/record ;;\nesac\n";

/// A repository with such a system in it.
fn system() -> Repository {
    let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok().text().to_owned();
    let repository = Repository::new();
    repository.package(
        "Package: dpkg\nEssential: yes\nDepends: sh",
        &[("/usr/bin/dpkg", DPKG), ("/etc/x", "1")],
        "gzip",
    );
    repository.package("Package: sh", &[("/bin/sh", &format!("@{busybox}"))], "gzip");
    let preinst = "#!/bin/sh\necho \"preinst $DPKG_MAINTSCRIPT_PACKAGE $1 $(/bin/sh -c 'echo $SOURCE_DATE_EPOCH')\" >> /etc/record\n";
    repository.package(
        "Package: app\nPre-Depends: lib",
        &[("DEBIAN/preinst", preinst), ("/etc/app", "1")],
        "gzip",
    );
    repository.package("Package: lib\nDepends: sh\nMulti-Arch: same", &[("/usr/lib/lib", "1")], "gzip");
    let broken = "#!/bin/sh\necho a reason\nexit 7\n";
    repository.package("Package: broken", &[("DEBIAN/preinst", broken)], "gzip");
    let slow = "#!/bin/sh\necho waits > /etc/waits\nexec sleep 987654\n";
    repository.package("Package: slow", &[("DEBIAN/preinst", slow)], "gzip");
    repository.publish("Date: Sat, 10 May 2025 09:53:06 UTC\n", Some("good"));
    repository
}

fn recipe(packages: &str) -> Scratch {
    let folder = Scratch::new("recipe");
    folder
        .write("rootfs.toml", format!("[[layer]]\ndeb = {{ suite = \"test\", packages = [{packages}] }}\n"));
    folder
}

#[test]
fn scripts_run_in_order_in_a_container_and_what_they_say_of_a_failure_is_told() {
    if !can() {
        return;
    }
    let repository = system();
    let (a, b) = (Store::new("debs"), Store::new("debs"));
    let folder = recipe("\"app\"");
    let compose = |store: &Store, folder: &Scratch| {
        let cmd = store.rootfs_tool().arg("compose").arg(folder.path()).args([
            "-t",
            "x",
            "--mirror",
            &repository.url(),
        ]);
        cmd.arg("--keyring").arg(repository.scratch.join("good.gpg"))
    };
    compose(&a, &folder).ok();
    let record = a.run("x sh -c").arg("while read l; do echo \"$l\"; done < /etc/record").ok();
    assert_eq!(
        record.text(),
        "dpkg --force-unsafe-io --configure sh dpkg\ndpkg --force-unsafe-io --configure lib:amd64\n\
         preinst app install 1746870786\ndpkg --force-unsafe-io --configure --pending"
    );
    compose(&b, &folder).ok();
    assert_eq!(a.image_id("x"), b.image_id("x"));
    let failed = compose(&a, &recipe("\"broken\"")).fails(1);
    assert_eq!(failed.stderr.trim().lines().count(), 1, "{}", failed.stderr);
    drop(failed.complains("the preinst script of broken ended with 7 (after: a reason)"));
    // Nothing is left of it: no mount, no process, nothing half-made.
    assert!(std::fs::read_dir(a.path().join("tmp")).expect("tmp").next().is_none());
    a.rootfs_tool().words("verify x").ok();
}

#[test]
fn a_compose_that_is_killed_while_scripts_run_leaves_no_process_no_mount_and_a_sound_store() {
    if !can() {
        return;
    }
    let repository = system();
    let (store, folder) = (Store::new("debs"), recipe("\"slow\""));
    let running = store
        .rootfs_tool()
        .arg("compose")
        .arg(folder.path())
        .args(["-t", "x", "--mirror", &repository.url(), "--keyring"])
        .arg(repository.scratch.join("good.gpg"))
        .spawn();
    let sleeps = || {
        let all = Cmd::new("ps").args(["-eo", "args"]).ok();
        all.stdout.lines().filter(|l| l.trim() == "sleep 987654").count()
    };
    coracle_tests::eventually("the script runs", || sleeps() == 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid() as i32), nix::sys::signal::SIGKILL)
        .expect("kill");
    coracle_tests::eventually("nothing of it runs", || sleeps() == 0);
    drop(running);
    assert!(coracle_tests::scratch::mounts_beneath(&store.path()).is_empty());
    let other = recipe("\"lib\"");
    let again =
        store.rootfs_tool().arg("compose").arg(other.path()).args(["-t", "y", "--mirror", &repository.url()]);
    again.arg("--keyring").arg(repository.scratch.join("good.gpg")).ok();
    assert!(
        std::fs::read_dir(store.path().join("tmp")).expect("tmp").next().is_none(),
        "what was left is swept"
    );
    store.rootfs_tool().words("verify y").ok();
}

#[test]
fn repositories_keys_and_proxies_are_those_that_apt_is_configured_for() {
    if !can() || !need(Privilege::Peer("apt-config")) {
        return;
    }
    let repository = system();
    let (store, etc, folder) = (Store::new("debs"), Scratch::new("apt"), recipe("\"lib\""));
    let key = repository.scratch.join("good.gpg").display().to_string();
    let compose = |list: &str, more: &str| {
        let list = etc.write("sources.list", list);
        let text =
            format!("Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\n{more}", list.display());
        let conf = etc.write("apt.conf", text);
        store
            .rootfs_tool()
            .arg("compose")
            .arg(folder.path())
            .args(["-t", "x", "--update"])
            .env("APT_CONFIG", conf)
    };
    let line = |options: &str| format!("deb [{options}] {} test main\n", repository.url());
    compose(&line(&format!("signed-by={key}")), "").ok();
    compose(&line("arch=amd64"), &format!("Dir::Etc::trusted \"{key}\";\n")).ok();
    compose(&line("arch=amd64"), "").fails(1).complains("no keyring has the key that signed it");
    compose(&line(&format!("trusted=yes signed-by={key}")), "")
        .fails(1)
        .complains("what nobody signed is not taken");
    compose(&line("colour=red"), "").fails(1).complains("the option colour is not known");
    compose("rpm x\n", "").fails(1).complains("line 1: \"rpm\" is neither deb nor deb-src");
    compose("", "").fails(1).complains("apt is configured for none here");
    // A proxy that nobody answers at is asked all the same.
    let refusing = coracle_tests::proxy::Proxy::refusing(403);
    let proxy = format!("Acquire::http::Proxy \"http://{}\";\n", refusing.host);
    compose(&line(&format!("signed-by={key}")), &proxy).fails(1).complains("the proxy refuses it (403)");
    assert!(!refusing.asked().is_empty());
}
