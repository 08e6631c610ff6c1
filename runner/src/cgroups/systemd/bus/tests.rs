//! Against a manager of the tests' own on a socket.

use std::os::unix::net::UnixListener;

use super::*;

/// The members that were called, and what with.
type Called = Vec<(String, Vec<u8>)>;

/// A manager that lets in whoever says hello as the protocol has it, answers each call by a job, and ends the job
/// with `result`.
fn manager(name: &str, result: &'static str) -> (PathBuf, std::thread::JoinHandle<Called>) {
    let path = std::env::temp_dir().join(format!("bus-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let serve = move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"BEGIN\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            line.extend(byte);
            if line.ends_with(b"\r\n") && line.starts_with(b"\0AUTH EXTERNAL ") && line.len() < 80 {
                socket.write_all(b"OK 1234deadbeef\r\n").unwrap();
                line.truncate(1);
            }
        }
        let mut called = Vec::new();
        // Who has the last answer may be gone before the signals that follow it.
        while let Ok(call) = Message::read(&mut socket) {
            let mut job = Body::default();
            job.text("/job/1");
            if call.member == "StopUnit" && result == "missing" {
                let mut said = Body::default();
                said.text("not loaded");
                let error = error(call.serial, "org.freedesktop.systemd1.NoSuchUnit", &said);
                let _ = socket.write_all(&error);
            } else {
                let _ = socket.write_all(&message(RETURN, 1, call.serial, None, "", "o", &job));
            }
            for (path, result) in [("/job/0", "failed"), ("/job/1", result)] {
                let mut body = Body::default();
                body.number(7);
                [path, "x.scope", result].iter().for_each(|text| body.text(text));
                let _ = socket.write_all(&message(4, 2, 0, None, "JobRemoved", "uoss", &body));
            }
            called.push((call.member, call.body));
        }
        called
    };
    (path, std::thread::spawn(serve))
}

fn error(answers: u32, name: &str, body: &Body) -> Vec<u8> {
    // The field of a member has the form of that of an error's name, and another number.
    let mut bytes = message(ERROR, 1, answers, None, name, "s", body);
    assert_eq!(bytes[16], 3);
    bytes[16] = 4;
    bytes
}

#[test]
fn a_unit_is_started_with_its_properties_and_stopped() {
    let (path, served) = manager("done", "done");
    let mut bus = Bus::open(&path, true).unwrap();
    let properties = [
        ("Slice", Value::Text("a.slice".into())),
        ("Delegate", Value::Flag(true)),
        ("TasksMax", Value::Number(5)),
        ("PIDs", Value::Numbers(vec![1, 2])),
    ];
    bus.start("x.scope", &properties).unwrap();
    bus.set("x.scope", &properties[2..3]).unwrap();
    bus.stop("x.scope").unwrap();
    drop(bus);
    std::fs::remove_file(path).unwrap();
    let called = served.join().unwrap();
    let names: Vec<&str> = called.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(names, ["StartTransientUnit", "SetUnitProperties", "StopUnit", "ResetFailedUnit"]);
    let mut read = Reader::of(&called[0].1);
    assert_eq!((read.text().unwrap(), read.text().unwrap()), ("x.scope".into(), "replace".into()));
    let length = read.number().unwrap() as usize;
    read.align(8);
    let end = read.at + length;
    assert_eq!(
        (read.text().unwrap(), read.signature().unwrap(), read.text().unwrap()),
        ("Slice".into(), "s".into(), "a.slice".into())
    );
    read.align(8);
    assert_eq!(
        (read.text().unwrap(), read.signature().unwrap(), read.number().unwrap()),
        ("Delegate".into(), "b".into(), 1)
    );
    read.at = end;
    assert_eq!((read.number().unwrap(), read.at.next_multiple_of(8)), (0, called[0].1.len()));
}

#[test]
fn a_job_that_fails_is_an_error_and_a_unit_that_is_gone_is_none() {
    let (path, served) = manager("failed", "failed");
    let mut bus = Bus::open(&path, true).unwrap();
    let e = bus.start("x.scope", &[]).unwrap_err().to_string();
    assert_eq!(e, "start the unit x.scope: systemd's job for x.scope ended: failed");
    drop(bus);
    served.join().unwrap();
    std::fs::remove_file(path).unwrap();
    let (path, served) = manager("missing", "missing");
    let mut bus = Bus::open(&path, true).unwrap();
    bus.stop("x.scope").unwrap();
    drop(bus);
    served.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_a_liar_sends_is_refused() {
    let long = [&b"l\x02\0\x01\xff\xff\xff\x7f"[..], &[0; 8]].concat();
    let big_endian = [&b"B\x02\0\x01"[..], &[0; 12]].concat();
    let cut = [&b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0"[..], &b"\x03\x01s\0\xff\0\0\0"[..]].concat();
    for bytes in [long, big_endian, cut, vec![b'l']] {
        assert!(Message::read(&mut &bytes[..]).is_err(), "{bytes:?}");
    }
}

#[test]
fn without_systemd_one_line_says_so() {
    if Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let e = Bus::connect(false).unwrap_err().to_string();
    assert!(e.starts_with("systemd cgroup flag passed, but systemd support"), "{e}");
}
