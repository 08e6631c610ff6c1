//! Hooks without a container: real processes, no privilege.

use super::*;

fn hook(path: &str, args: &[&str], timeout: Option<i64>) -> spec::Hook {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    spec::Hook { path: path.into(), args, env: vec!["A=b".into()], timeout }
}

fn shell(script: &str, timeout: Option<i64>) -> spec::Hook {
    hook("/bin/sh", &["sh", "-c", script], timeout)
}

fn planned(list: Vec<spec::Hook>) -> Vec<Hook> {
    plan(Some(&spec::Hooks { poststart: list, ..spec::Hooks::default() })).unwrap()
}

fn scene<'a>(state: &'a str) -> Scene<'a> {
    Scene { state, cwd: Path::new("/"), become_it: None }
}

fn failure(hook: spec::Hook) -> String {
    let e = run(&planned(vec![hook]), Kind::Poststart, scene("{}")).unwrap_err();
    e.to_string()
}

#[test]
fn a_hook_that_cannot_be_one_is_refused_by_name() {
    for (hook, words) in [
        (hook("bin/true", &[], None), "hooks.poststop[1]: the path \"bin/true\" is not absolute"),
        (hook("/bin/true", &[], Some(0)), "the timeout of 0 s is not above 0"),
        (hook("/bin/true", &["a\0b"], Some(1)), "holds a NUL byte"),
    ] {
        let hooks = spec::Hooks { poststop: vec![shell("", None), hook], ..spec::Hooks::default() };
        let e = plan(Some(&hooks)).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    assert_eq!(plan(None).unwrap(), []);
    let without_args = &planned(vec![hook("/bin/true", &[], Some(5))])[0];
    assert_eq!((&without_args.args[..], without_args.timeout), (&["/bin/true".to_owned()][..], Some(5)));
}

#[test]
fn the_state_is_on_standard_input_and_nothing_else_is_open_or_in_the_environment() {
    let _held = std::fs::File::open("/dev/null").unwrap();
    // 3 is ls's own, for the folder.
    let script = "read state; test \"$state\" = '{\"id\":\"x\"}' || { echo $state; exit 1; }
        test \"$(/bin/ls /proc/self/fd | /usr/bin/tr '\\n' ' ')\" = '0 1 2 3 ' || { /bin/ls -l /proc/self/fd; exit 2; }
        test \"$A\" = b && test -z \"$HOME\" && test \"$PWD\" = /tmp";
    let hooks = planned(vec![shell(script, Some(20))]);
    run(&hooks, Kind::Poststart, Scene { cwd: Path::new("/tmp"), ..scene("{\"id\":\"x\"}\n") }).unwrap();
    run(&hooks, Kind::Poststop, scene("")).unwrap();
}

#[test]
fn one_that_does_not_read_its_input_is_none_the_worse() {
    let state = "x".repeat(1 << 20);
    run(&planned(vec![hook("/bin/true", &[], None)]), Kind::Poststart, scene(&state)).unwrap();
}

#[test]
fn a_failure_says_how_it_ended_and_what_it_said() {
    assert_eq!(
        failure(shell("echo out; echo err >&2; exit 3", None)),
        "run the poststart hooks: error running hook #0: exit status 3, stdout: out, stderr: err"
    );
    assert!(failure(shell("kill -9 $$", None)).contains("killed by signal 9"));
    let much = failure(shell("while :; do echo 0123456789abcdef; done | head -c 100000; exit 1", None));
    assert!(much.len() > SHOWN && much.len() < SHOWN + 200, "{}", much.len());
    assert!(failure(hook("/nonexistent", &[], None)).contains("execve(\"/nonexistent\"): No such file"));
    let hooks = planned(vec![hook("/bin/true", &[], None)]);
    let nowhere = Scene { cwd: Path::new("/nowhere"), ..scene("") };
    let e = run(&hooks, Kind::Poststart, nowhere).unwrap_err().to_string();
    assert!(e.contains("chdir(\"/nowhere\")"), "{e}");
}

#[test]
fn one_that_takes_too_long_is_killed_with_all_that_it_started() {
    let said = failure(shell("sleep 1000 & sleep 1000", Some(1)));
    assert!(said.contains("hook ran past specified timeout of 1.0s"), "{said}");
}

#[test]
fn one_that_leaves_a_process_behind_is_not_waited_for_beyond_its_own_end() {
    run(&planned(vec![shell("sleep 3 & echo $! >/dev/null", None)]), Kind::Poststart, scene("")).unwrap();
}

#[test]
fn the_first_failure_ends_a_kind_unless_each_is_asked_for() {
    let list = || planned(vec![shell("exit 1", None), shell("exit 2", None), shell("", None)]);
    let e = run(&list(), Kind::Poststart, scene("")).unwrap_err().to_string();
    assert!(e.contains("#0: exit status 1"), "{e}");
    let all = list();
    let ended: Vec<bool> = each(&all, Kind::Poststart, scene("")).map(|r| r.is_ok()).collect();
    assert_eq!(ended, [false, false, true]);
}

#[test]
fn what_the_process_does_last_can_fail_too() {
    let denied = || Err(Error::syscall("capset()", Errno::EPERM));
    let hooks = planned(vec![hook("/bin/true", &[], None)]);
    let e = run(&hooks, Kind::Poststart, Scene { become_it: Some(&denied), ..scene("") }).unwrap_err();
    assert!(e.to_string().contains("take the container's capabilities"), "{e}");
}
