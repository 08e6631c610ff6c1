//! The Dockerfile that every tutorial of containers begins with, on our own `debian`: each RUN is one layer above those of
//! the base, which lie on the disk and in the page cache once, and what was installed works.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use coracle_tests::lan::{HOST, Host};
use coracle_tests::{Cmd, Privilege, Store, eventually, need, shipped};

/// Word by word; the editor is large, so it is the full thing for `CORACLE_TEST_ALL=1` alone.
fn tutorial(editor: &str) -> String {
    format!(
        "FROM debian\nMAINTAINER mylinux\nRUN apt-get update && apt-get install -y {editor}\nRUN apt-get install -y apache2\n\
         CMD [\"/bin/bash\"]\n"
    )
}

fn build_and_use(editor: &str, batch: &str) {
    if !need(Privilege::Peer("fincore")) {
        return;
    }
    let name = format!("tutorial-{editor}");
    let Some(images) = shipped::dockerfile(&name, &tutorial(editor)) else { return };
    let Some(host) = Host::with(Store::new("tutorial").reads(images)) else { return };
    let store = &host.store;
    let inspect = |image: &str, format: &str| {
        store.rootfs_tool().args(["inspect", "-f", format, image]).ok().text().to_owned()
    };

    let history = ["history", "--no-trunc", "--format", "{{.Bytes}} {{.CreatedBy}}", &name];
    let history = store.rootfs_tool().args(history).ok().stdout;
    let steps: Vec<(u64, &str)> = history
        .lines()
        .map(|l| l.split_once(' ').map(|(n, by)| (n.parse().expect("bytes"), by)).expect("two words"))
        .collect();
    let install = format!("RUN /bin/sh -c apt-get update && apt-get install -y {editor}");
    let expected =
        ["CMD [\"/bin/bash\"]", "RUN /bin/sh -c apt-get install -y apache2", &install, "MAINTAINER mylinux"];
    for (step, by) in steps.iter().zip(expected) {
        assert!(step.1.starts_with(by), "{history}");
        assert_eq!(step.0 > 0, by.starts_with("RUN"), "a RUN is one layer, and nothing else is: {history}");
    }
    assert_eq!(steps.len(), 5, "{history}");
    assert_eq!(inspect(&name, "{{.Author}}"), "mylinux");

    // The base's one layer is the lowest of three, the same folder.
    let layers = |image: &str| inspect(image, "{{range .RootFS.Layers}}{{.}} {{end}}");
    let (base, derived) = (layers("debian"), layers(&name));
    assert!(derived.starts_with(&base), "{base} {derived}");
    assert_eq!((base.split(' ').count(), derived.split(' ').count()), (1, 3));
    let folders = |image: &str| {
        let data =
            store.rootfs_tool().args(["inspect", "-f", "{{json .GraphDriver.Data}}", image]).ok().json();
        let dirs = ["UpperDir", "LowerDir"].map(|key| data[key].as_str().unwrap_or_default().to_owned());
        dirs.join(":").split(':').filter(|f| !f.is_empty()).map(PathBuf::from).collect::<Vec<_>>()
    };
    let (own, all) = (folders("debian"), folders(&name));
    assert_eq!((own.len(), all.len()), (1, 3));
    assert_eq!(own[0], all[2], "the base lies on the disk once");
    // What a container of one image has read is in memory for those of the other: it is one inode.
    let program = own[0].join("usr/bin/perl");
    let file = program.metadata().expect("stat");
    for image in ["debian", &name] {
        let seen = host.runner("run --rm").arg(image).words("stat -c %i /usr/bin/perl").ok();
        assert_eq!(seen.text(), file.ino().to_string(), "{image}");
    }
    Cmd::new("dd").arg(format!("if={}", program.display())).words("of=/dev/null iflag=nocache count=0").ok();
    host.runner("run --rm").arg(&name).words("cat /usr/bin/perl").arg("/dev/null").ok();
    let cached = Cmd::new("fincore").args(["-nb", "-o", "RES"]).arg(&program).ok();
    assert!(cached.text().parse::<u64>().is_ok_and(|n| n >= file.size()), "{cached}");

    let shell = host.runner("run --rm -i").arg(&name).stdin("echo $0 is the command\n").ok();
    drop(shell.prints("/bin/bash is the command"));
    drop(host.runner("run --rm").arg(&name).args(["sh", "-c", batch]).ok().prints("42"));
    host.runner("run -d --name web -p 8080:80").arg(&name).words("apache2ctl -D FOREGROUND").ok();
    let page = ["wget", "-qO-", &format!("http://{}:8080/", HOST[0])];
    let served = || host.on_the_outside("busybox").args(page).run();
    eventually("apache2 serves its page", || served().stdout.contains("Apache2 Debian Default Page"));
    host.runner("stop web").ok();
    host.runner("rm web").ok();
}

#[test]
fn the_tutorials_dockerfile_with_a_small_editor_makes_a_layer_a_step_and_serves_a_page() {
    build_and_use("ed", "printf 'a\\n42\\n.\\n1p\\nQ\\n' | ed -s");
}

#[test]
fn the_tutorials_dockerfile_word_by_word_gives_emacs_and_apache2() {
    if std::env::var_os("CORACLE_TEST_ALL").is_none() {
        eprintln!("skipped: emacs is for CORACLE_TEST_ALL=1");
        return;
    }
    build_and_use("emacs", "emacs --batch --eval '(princ (* 6 7))'");
}
