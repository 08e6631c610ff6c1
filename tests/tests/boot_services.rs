//! Services of a machine whose files are bad: each is told by name and key, and keeps no other from its work.

use coracle_tests::Scratch;
use coracle_tests::guest::Guest;

/// A service that says that it was started.
fn starts(name: &str, keys: &str) -> String {
    format!("command=sh\narg=-c\narg=echo {name} was started; sleep 1000\n{keys}")
}

#[test]
fn a_bad_service_is_told_by_name_and_key_and_the_others_start() {
    let scratch = Scratch::new("boot-bad-services");
    let Some(guest) = Guest::new(&scratch, "bad-services", "arg=sleep\narg=1\n", &[]) else { return };
    let large = "#".repeat(2 << 20);
    let services = [
        ("bad-key", "command=x\ncolour=red\n".to_owned()),
        ("bad-line", "command\n".to_owned()),
        ("bad-value", starts("bad-value", "restart=sometimes\n")),
        ("bad-order", starts("bad-order", "after=nowhere\n")),
        ("large", large),
        ("good", starts("good", "")),
        ("later", starts("later", "after=bad-key\nafter=good\n")),
    ];
    let guest = services
        .iter()
        .fold(guest, |guest, (name, text)| guest.file(&format!("etc/coracle/services/{name}"), text));
    let said = guest.boot("");
    said.told("up\n0\n");
    for line in [
        "init: service bad-key: read colour: there is no such key\n",
        "init: service bad-line: read its file: is no key=value\n",
        "init: service bad-value: read restart: takes one of: no on-failure always\n",
        "init: service bad-order: after nowhere: there is no such service\n",
        "init: service large: read its file: more than 1 MiB in all\n",
        "good was started\n",
        "later was started\n",
    ] {
        assert!(said.console.contains(line), "{line}: {said:#?}");
    }
    for name in ["bad-value", "bad-order"] {
        assert!(!said.console.contains(&format!("{name} was started")), "{said:#?}");
    }
}

#[test]
fn a_log_is_no_way_to_another_s_file_and_nothing_to_wait_for() {
    let scratch = Scratch::new("boot-logs");
    let conf = "arg=sh\narg=-c\narg=sleep 3; cat /etc/victim; exit 5\n";
    let Some(guest) = Guest::new(&scratch, "logs", conf, &[]) else { return };
    let guest = guest.file("etc/victim", "whole\n");
    let guest =
        ["ln -s /etc/victim", "mkfifo"].iter().zip(["linked", "piped"]).fold(guest, |guest, (make, name)| {
            let keys = format!("arg={make} /{name}.log; echo evil; sleep 1000\nlog=/{name}.log\n");
            guest.file(&format!("etc/coracle/services/{name}"), format!("command=sh\narg=-c\n{keys}"))
        });
    let said = guest.boot("");
    said.told("up\n5\n");
    assert_eq!(said.stdout, "whole\n", "{said:#?}");
    for name in ["linked", "piped"] {
        assert!(said.console.contains(&format!("init: write the log of {name}: ")), "{name}: {said:#?}");
    }
}

#[test]
fn a_machine_without_anything_to_run_is_an_error() {
    let scratch = Scratch::new("boot-no-services");
    let Some(guest) = Guest::new(&scratch, "no-services", "", &[]) else { return };
    let guest = guest.file("etc/bad/only", "arg=x\n");
    let guest = (0..65).fold(guest, |guest, n| guest.file(&format!("etc/many/{n}"), "command=true\n"));
    let said = guest.boot("init.services=/etc/bad");
    said.told("error start services: none of them can be\n");
    assert!(said.console.contains("init: service only: read command: is missing\n"), "{said:#?}");
    guest.boot("init.services=/etc/many").told("error read services: more than 64, with CMD\n");
}
