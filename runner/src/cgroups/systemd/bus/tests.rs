//! Against a manager of the tests' own on a socket.

use super::*;

/// The members that were called, and what with.
type Called = Vec<(String, Vec<u8>)>;

/// The manager's connection, and somebody else's.
const MANAGERS: &str = ":1.1";
const OTHERS: &str = ":1.6";

/// Who is spoken to, and a manager behind it that lets in whoever greets it as the protocol has it. It answers each call
/// by a job, or by an error where `refuse` names one for the member and the number of the call; then somebody else tells
/// of an end of that job, and after it the manager, of `result`.
fn manager(
    refuse: fn(&str, usize) -> Option<&'static str>,
    result: &'static str,
) -> (Bus, std::thread::JoinHandle<Called>) {
    let (ours, mut socket) = UnixStream::pair().unwrap();
    let serve = move || {
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"BEGIN\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            greeting.extend(byte);
            match &greeting[..] {
                b"\0AUTH EXTERNAL\r\n" => socket.write_all(b"DATA\r\n").unwrap(),
                b"\0AUTH EXTERNAL\r\nDATA\r\n" => socket.write_all(b"OK 1234deadbeef\r\n").unwrap(),
                _ => {}
            }
        }
        let mut called = Called::new();
        // Who has the last answer may be gone before the signals that follow it.
        while let Ok(call) = Message::read(&mut socket) {
            let serial = called.len() as u32 + 1;
            let mut said = Body::default();
            said.text("/job/1");
            let answer = match refuse(&call.member, called.len()) {
                Some(error) => {
                    let error = format!("org.freedesktop.systemd1.{error}");
                    message(ERROR, 1, serial, &[(4, "s", &error), (7, "s", MANAGERS), (8, "g", "s")], &said)
                }
                None => message(RETURN, 1, serial, &[(7, "s", MANAGERS), (8, "g", "o")], &said),
            };
            let _ = socket.write_all(&answer);
            let ends =
                [(OTHERS, "/job/1", "lied"), (MANAGERS, "/job/0", "failed"), (MANAGERS, "/job/1", result)];
            for (sender, job, result) in ends {
                let mut body = Body::default();
                body.number(7);
                [job, "x.scope", result].iter().for_each(|text| body.text(text));
                let header = [(3, "s", "JobRemoved"), (7, "s", sender), (8, "g", "uoss")];
                let _ = socket.write_all(&message(4, 2, 0, &header, &body));
            }
            called.push((call.member, call.body));
        }
        called
    };
    let served = std::thread::spawn(serve);
    (Bus::greet(ours).unwrap(), served)
}

fn names(bus: Bus, served: std::thread::JoinHandle<Called>) -> Vec<String> {
    drop(bus);
    served.join().unwrap().into_iter().map(|(member, _)| member).collect()
}

#[test]
fn a_unit_is_started_with_its_properties_and_stopped() {
    let (mut bus, served) = manager(|_, _| None, "done");
    let properties = [
        ("Slice", Value::text("a.slice")),
        ("Delegate", Value::Flag(true)),
        ("TasksMax", Value::number(5)),
        ("PIDs", Value::List("u".into(), vec![Value::Number('u', 1)])),
        ("AllowedCPUs", Value::List("y".into(), vec![Value::Number('y', 3)])),
        ("DeviceAllow", Value::parse("[('/dev/null', 'rw')]").unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    bus.start("x.scope", &properties).unwrap();
    bus.set("x.scope", &properties[2..3]).unwrap();
    bus.stop("x.scope").unwrap();
    drop(bus);
    let called = served.join().unwrap();
    let names: Vec<&str> = called.iter().map(|c| c.0.as_str()).collect();
    let calls = "Hello AddMatch Subscribe StartTransientUnit SetUnitProperties AddMatch Subscribe StopUnit ResetFailedUnit";
    assert_eq!(names.join(" "), calls);
    let body = &called[3].1;
    let mut read = Reader::of(body);
    assert_eq!((read.text().unwrap(), read.text().unwrap()), ("x.scope".into(), "replace".into()));
    let length = read.number().unwrap() as usize;
    read.align(8);
    let end = read.at + length;
    let mut begins = |name: &str, signature: &str| {
        read.align(8);
        assert_eq!((read.text().unwrap(), read.signature().unwrap()), (name.into(), signature.into()));
        match signature {
            "s" => read.text().map(drop).unwrap(),
            "t" => {
                read.align(8);
                assert_eq!((read.number().unwrap(), read.number().unwrap()), (5, 0));
            }
            "b" => assert_eq!(read.number().unwrap(), 1),
            "au" => assert_eq!((read.number().unwrap(), read.number().unwrap()), (4, 1)),
            "ay" => {
                assert_eq!(read.number().unwrap(), 1);
                read.at += 1;
            }
            _ => {
                let length = read.number().unwrap() as usize;
                read.align(8);
                assert_eq!(read.at + length, end);
                assert_eq!((read.text().unwrap(), read.text().unwrap()), ("/dev/null".into(), "rw".into()));
            }
        }
        read.at
    };
    begins("Slice", "s");
    begins("Delegate", "b");
    begins("TasksMax", "t");
    begins("PIDs", "au");
    begins("AllowedCPUs", "ay");
    assert_eq!(begins("DeviceAllow", "a(ss)"), end);
    read = Reader::of(body);
    read.at = end;
    assert_eq!((read.number().unwrap(), read.at.next_multiple_of(8)), (0, body.len()));
}

#[test]
fn a_job_that_fails_is_an_error_and_a_unit_that_is_gone_is_none() {
    let (mut bus, served) = manager(|_, _| None, "failed");
    let e = bus.start("x.scope", &[]).unwrap_err().to_string();
    assert_eq!(e, "start the unit x.scope: systemd's job for it ended: failed");
    names(bus, served);
    let missing = |member: &str, _| (member == "StopUnit").then_some("NoSuchUnit");
    let (mut bus, served) = manager(missing, "done");
    bus.stop("x.scope").unwrap();
    assert_eq!(names(bus, served).last().unwrap(), "ResetFailedUnit");
}

#[test]
fn one_that_has_failed_before_is_forgotten_and_one_that_runs_is_left_alone() {
    let there = |member: &str, n| (member == "StartTransientUnit" && n < 4).then_some("UnitExists");
    let (mut bus, served) = manager(there, "done");
    bus.start("x.scope", &[]).unwrap();
    assert_eq!(names(bus, served)[3..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    let (mut bus, served) =
        manager(|member, _| (member == "StartTransientUnit").then_some("UnitExists"), "done");
    assert_eq!(bus.start("x.scope", &[]).unwrap_err().kind(), Kind::Exists);
    assert!(!names(bus, served).contains(&"StopUnit".to_owned()));
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
    assert_eq!(e, "systemd does not run here: there is no /run/systemd/system");
}
