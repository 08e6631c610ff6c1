//! States on disk.

use super::*;

fn states(name: &str) -> States {
    let dir = std::env::temp_dir().join(format!("coracle-state-{}-{name}", std::process::id()));
    States::of(Face::Oci, Some(&dir)).unwrap()
}

fn state(id: &str, init: Identity, runner: Option<Identity>) -> State {
    State {
        version: VERSION,
        id: id.into(),
        init,
        runner,
        bundle: "/b".into(),
        namespaces: vec![Ns::Mount, Ns::Pid],
        cgroups: cgroups::Plan::default(),
        oci: None,
    }
}

#[test]
fn a_state_is_read_as_it_was_written_and_an_id_is_taken_once() {
    let all = states("rw");
    let me = Identity::of_this_process().unwrap();
    let s = state("a-1", me, Some(me));
    let reserved = all.reserve("a-1").unwrap();
    assert_eq!(all.reserve("a-1").unwrap_err().kind(), Kind::Exists);
    assert_eq!(all.read("a-1").unwrap_err().kind(), Kind::NotFound);
    reserved.write(&s).unwrap();
    assert_eq!(all.read("a-1").unwrap(), s);
    all.remove("a-1").unwrap();
    assert!(all.ids().unwrap().is_empty());
    fs::remove_dir(&all.dir).unwrap();
}

#[test]
fn an_id_is_taken_also_where_others_sweep_at_that_moment() {
    let all = states("taken");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    all.forget_unmade("a-1").unwrap();
                }
            });
        }
        for _ in 0..500 {
            let taken = all.reserve("a-1").map(drop);
            // They end whatever comes of it.
            if taken.is_err() {
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            taken.unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    all.remove("a-1").unwrap();
    fs::remove_dir(&all.dir).unwrap();
}

#[test]
fn a_sweep_takes_only_those_whose_runner_is_gone() {
    let all = states("sweep");
    let me = Identity::of_this_process().unwrap();
    let gone = Identity { pid: me.pid, start_time: me.start_time + 1 };
    for (id, init, runner) in [
        ("alive", me, Some(me)),
        ("orphan", me, Some(gone)),
        ("ended", gone, Some(me)),
        ("dead", gone, Some(gone)),
        ("oci", gone, None),
    ] {
        all.reserve(id).unwrap().write(&state(id, init, runner)).unwrap();
    }
    let mut cleaned = Vec::new();
    all.sweep(|s| {
        cleaned.push(s.id.clone());
        Ok(true)
    })
    .unwrap();
    assert_eq!(cleaned, ["dead", "orphan"]);
    assert_eq!(all.ids().unwrap(), ["alive", "ended", "oci"]);
    fs::remove_dir_all(&all.dir).unwrap();
}

#[test]
fn an_id_that_a_killed_runner_had_taken_is_free_again() {
    let all = states("reserved");
    let reserved = all.reserve("a").unwrap();
    all.sweep(|_| Ok(true)).unwrap();
    assert_eq!(all.ids().unwrap(), ["a"]);
    drop(reserved);
    all.sweep(|_| Ok(true)).unwrap();
    assert!(all.ids().unwrap().is_empty());
    fs::remove_dir_all(&all.dir).unwrap();
}

#[test]
fn a_state_is_replaced_again_and_again_and_its_file_stays_small() {
    let all = states("rewrite");
    let me = Identity::of_this_process().unwrap();
    let reserved = all.reserve("a").unwrap();
    reserved.begin(&cgroups::Plan::default()).unwrap();
    assert_eq!(all.read("a").unwrap_err().kind(), Kind::NotFound);
    reserved.write(&state("a", me, Some(me))).unwrap();
    assert_eq!(all.read("a").unwrap(), state("a", me, Some(me)));
    for _ in 0..1000 {
        all.rewrite(&state("a", me, None)).unwrap();
        assert_eq!(all.read("a").unwrap(), state("a", me, None));
    }
    assert!(fs::metadata(all.path("a")).unwrap().len() < 2 * LONG);
    fs::remove_dir_all(&all.dir).unwrap();
}

#[test]
fn what_a_killed_runner_had_begun_is_taken_away() {
    let all = states("begun");
    let reserved = all.reserve("a").unwrap();
    let dir = all.dir.join("group");
    fs::create_dir(&dir).unwrap();
    let group = cgroups::Group { dir: dir.clone(), ..cgroups::Group::default() };
    reserved.begin(&cgroups::Plan { groups: vec![group], ..cgroups::Plan::default() }).unwrap();
    let gate = reserved.make_gate(|dir, name| Ok(dir.join(name))).unwrap();
    fs::write(&gate, "").unwrap();
    all.forget_unmade("a").unwrap();
    assert!(gate.exists() && dir.exists(), "it is still being made");
    drop(reserved);
    all.forget_unmade("a").unwrap();
    assert_eq!(fs::read_dir(&all.dir).unwrap().count(), 0);
    fs::remove_dir(&all.dir).unwrap();
}

#[test]
fn a_state_of_a_newer_version_is_refused() {
    let all = states("newer");
    let me = Identity::of_this_process().unwrap();
    all.reserve("n").unwrap().write(&State { version: VERSION + 1, ..state("n", me, None) }).unwrap();
    assert!(all.read("n").unwrap_err().to_string().contains("newer"));
    fs::remove_dir_all(&all.dir).unwrap();
}

#[test]
fn an_id_is_never_a_path() {
    for bad in ["", ".", "..", "a/b", "/a", "../a", "a\0", "a b", "a\n", "é", &"x".repeat(201)] {
        assert!(check_id(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "A_b.c-d+e", "0", "-x", ".x", "+", "...", "_", &"f".repeat(64), &"x".repeat(200)] {
        assert!(check_id(good).is_ok(), "{good:?}");
    }
}

#[test]
fn a_state_whose_writer_was_killed_is_the_one_before_or_none() {
    let all = states("torn");
    let me = Identity::of_this_process().unwrap();
    let reserved = all.reserve("a").unwrap();
    reserved.begin(&cgroups::Plan::default()).unwrap();
    let before = fs::read(all.path("a")).unwrap().len() as u64;
    reserved.write(&state("a", me, None)).unwrap();
    let written = fs::read(all.path("a")).unwrap();
    all.rewrite(&state("a", me, Some(me))).unwrap();
    let twice = fs::read(all.path("a")).unwrap();
    for end in before as usize..twice.len() {
        fs::write(all.path("a"), &twice[..end]).unwrap();
        match all.read("a") {
            Ok(found) => assert!(end >= written.len() && found == state("a", me, None), "{end}"),
            Err(e) => assert!(end < written.len() && e.kind() == Kind::NotFound, "{end}: {e}"),
        }
    }
    fs::remove_dir_all(&all.dir).unwrap();
}
