//! `events`: what happens to containers of images, as docker tells it; `events ID`: what a container of an OCI client uses,
//! as runc tells it.

mod oci;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;

use argh::CommandInfoWithArgs;
use coracle_sys::template::Template;
use coracle_sys::{Context, Error, Result, print, time};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::Value;

use super::typed::{self, Typed};
use super::{Global, container};
use crate::diary;
use crate::from_image::units;
use crate::guise::Guise;
use crate::log::Reader;
use crate::record;
use crate::state::{Face, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "events",
    "Tell what happens to containers; of one of an OCI client what it uses, a JSON object a line.",
    typed::PERHAPS_ID,
    &[
        typed::option(
            "--since",
            None,
            "time",
            "also what has happened since then: RFC 3339, seconds since 1970, or how long ago: 10m",
        ),
        typed::option("--until", None, "time", "up to this time, which may lie ahead"),
        typed::list(
            "--filter",
            Some('f'),
            "filter",
            "only those for which it holds: container=, event=, image=, label=NAME[=VALUE], type=container",
        ),
        typed::option(
            "--format",
            None,
            "template",
            "a template for each, such as '{{.Action}} {{.ID}}', or json",
        ),
        typed::switch("--stats", None, "events ID: what it uses, once"),
        typed::option("--interval", None, "time", "events ID: how often it is told, 5s if not said"),
    ],
    &[
        "runner events",
        "runner events --since 1h --until 0s -f event=die",
        "runner events --stats my-container",
    ],
);

/// Print them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let ours = ["--since", "--until", "--filter", "--format"].iter().find(|flag| typed.get(flag).is_some());
    let theirs = ["--stats", "--interval"].iter().find(|flag| typed.get(flag).is_some());
    match (typed.words.is_empty(), ours, theirs) {
        (false, Some(flag), _) => Err(Error::usage(format!("events ID takes no {flag}"))),
        (false, ..) if global.guise == Guise::Docker => {
            Err(Error::usage("events takes no arguments (see events --help)"))
        }
        (false, None, _) => oci::run(global, &typed),
        (true, _, Some(flag)) => Err(Error::usage(format!("events {flag} needs the id of a container"))),
        (true, ..) => follow(global, &typed),
    }
}

/// What is shown of it, and how.
struct View {
    since: u64,
    until: Option<u64>,
    filters: Vec<(String, String)>,
    template: Option<Template>,
    json: bool,
    store: String,
}

fn follow(global: &Global, typed: &Typed) -> Result<u8> {
    let moment = |flag: &str| typed.get(flag).map(|text| moment(text, flag)).transpose();
    let format = typed.get("--format");
    let now = record::now();
    let view = View {
        since: moment("--since")?.unwrap_or(now),
        until: moment("--until")?,
        filters: typed.all("--filter").iter().map(|text| filter(text)).collect::<Result<_>>()?,
        template: format.filter(|f| *f != "json").map(Template::parse).transpose()?,
        json: format == Some("json"),
        store: container::store(global)?.main().root().to_string_lossy().into_owned(),
    };
    let watch =
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context(|| "inotify_init1()")?;
    let states = States::of(Face::Image, None)?;
    states.make_parents()?;
    // Before the first look, so that nothing falls between.
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_FROM;
    watch.add_watch(states.dir(), flags).context(|| format!("inotify_add_watch({:?})", states.dir()))?;
    let path = diary::path()?;
    let mut diary = Reader::of(&path)?;
    loop {
        if !diary.is_there() {
            diary = Reader::of(&path)?;
        }
        if !view.show(&mut diary)? {
            return Ok(0);
        }
        let left = match view.until {
            None => PollTimeout::NONE,
            Some(until) => match until.saturating_sub(record::now()) {
                0 => return Ok(0),
                left => PollTimeout::try_from(left / 1_000_000 + 1).unwrap_or(PollTimeout::MAX),
            },
        };
        let mut set = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut set, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| "poll(events)"),
        }
        while watch.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl View {
    /// Show what there is. Whether somebody still looks.
    fn show(&self, diary: &mut Reader) -> Result<bool> {
        let mut out = Ok(true);
        diary.read(|line| {
            let Ok(mut event) = serde_json::from_slice::<Value>(line) else { return Ok(()) };
            let time = event["timeNano"].as_u64().unwrap_or(0);
            let timely = time >= self.since && self.until.is_none_or(|until| time <= until);
            if !timely || event["store"] != self.store.as_str() || !self.holds(&event) {
                return Ok(());
            }
            if let Some(event) = event.as_object_mut() {
                event.remove("store");
            }
            let text = match (&self.template, self.json) {
                (Some(template), _) => template.render(&with_docker_s_names(event))?,
                (None, true) => event.to_string(),
                (None, false) => line_of(&event),
            };
            // Who follows is told at once, and who has seen enough ends this.
            let mut to = std::io::stdout().lock();
            if out.as_ref().is_ok_and(|looks| *looks) {
                match to
                    .write_all(format!("{}\n", print::harmless(&text)).as_bytes())
                    .and_then(|()| to.flush())
                {
                    Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => out = Ok(false),
                    Err(e) => out = Err(e),
                    Ok(()) => {}
                }
            }
            Ok(())
        })?;
        out.context(|| "write(standard output)")
    }

    fn holds(&self, event: &Value) -> bool {
        self.filters.iter().all(|(name, _)| {
            let mut same = self.filters.iter().filter(|(other, _)| other == name);
            match name.as_str() {
                "label" => same.all(|(_, value)| is(event, name, value)),
                _ => same.any(|(_, value)| is(event, name, value)),
            }
        })
    }
}

fn is(event: &Value, name: &str, value: &str) -> bool {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match name {
        "type" => value == "container",
        "container" => text("/Actor/Attributes/name") == value || text("/id").starts_with(value),
        "image" => text("/from") == value,
        // Docker takes the word before a colon too: health_status, exec_start.
        "event" => text("/Action") == value || text("/Action").split(':').next() == Some(value),
        _ => {
            let (label, wanted) = value.split_once('=').map_or((value, None), |(l, w)| (l, Some(w)));
            let has = event["Actor"]["Attributes"].get(label).and_then(Value::as_str);
            has.is_some_and(|has| wanted.is_none_or(|wanted| wanted == has))
        }
    }
}

fn filter(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name @ ("container" | "event" | "image" | "label" | "type"), value)) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Error::usage(format!(
            "--filter {text:?} is unknown: there are container=, event=, image=, label= and type="
        ))),
    }
}

/// A template may say `.ID`, `.Time` and `.From` as well.
fn with_docker_s_names(mut event: Value) -> Value {
    for (ours, docker) in [
        ("id", "ID"),
        ("status", "Status"),
        ("from", "From"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
        ("scope", "Scope"),
    ] {
        event[docker] = event[ours].clone();
    }
    event
}

/// `TIME container die ID (exitCode=0, image=shell, name=web)`.
fn line_of(event: &Value) -> String {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let attributes = event["Actor"]["Attributes"].as_object();
    let pairs: Vec<String> =
        attributes.into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let time = record::moment(event["timeNano"].as_u64().unwrap_or(0));
    format!("{time} container {} {} ({})", text(&event["Action"]), text(&event["id"]), pairs.join(", "))
}

/// Nanoseconds since 1970.
fn moment(text: &str, flag: &str) -> Result<u64> {
    let wrong = || {
        Error::usage(format!(
            "{flag} {text:?}: it is RFC 3339, seconds since 1970, or how long ago, such as 10m"
        ))
    };
    if matches!(text, "0s" | "0") {
        return Ok(record::now());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if let (Ok(seconds), true) = (whole.parse::<u64>(), digits(fraction)) {
        let nanos = format!("{fraction:0<9.9}").parse::<u64>().map_err(|_| wrong())?;
        return seconds.checked_mul(1_000_000_000).map(|s| s + nanos).ok_or_else(wrong);
    }
    if let Ok(ago) = units::ago(text, flag) {
        return Ok(record::now().saturating_sub(ago));
    }
    let full = if text.len() >= 19 && !text[19..].contains(['Z', '+', '-']) {
        format!("{text}Z")
    } else {
        text.to_owned()
    };
    let seconds = time::parse(&full).and_then(|s| u64::try_from(s).ok()).ok_or_else(wrong)?;
    let fraction = full.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
    let fraction: String = fraction.chars().take_while(char::is_ascii_digit).collect();
    let nanos = format!("{fraction:0<9.9}").parse::<u64>().map_err(|_| wrong())?;
    Ok(seconds.saturating_mul(1_000_000_000) + nanos)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_docker_s() {
        let event = json!({"Action": "die", "id": "abc", "timeNano": 1_700_000_000_500_000_000u64,
            "Actor": {"Attributes": {"name": "web", "image": "bb", "exitCode": "3", "a": "b"}}});
        assert_eq!(
            line_of(&event),
            "2023-11-14T22:13:20.500000000Z container die abc (a=b, exitCode=3, image=bb, name=web)"
        );
        for (name, value, fits) in [
            ("container", "web", true),
            ("container", "ab", true),
            ("container", "we", false),
            ("event", "die", true),
            ("label", "a", true),
            ("label", "a=b", true),
            ("label", "a=c", false),
            ("type", "image", false),
        ] {
            assert_eq!(is(&event, name, value), fits, "{name}={value}");
        }
        assert!(filter("sort=a").is_err() && filter("event").is_err());
    }

    #[test]
    fn times_are_read_as_docker_reads_them() {
        for (text, nanos) in [
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.25", 1_700_000_000_250_000_000),
            ("2023-11-14T22:13:20.5Z", 1_700_000_000_500_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000_000_000),
        ] {
            assert_eq!(moment(text, "--since").unwrap(), nanos, "{text}");
        }
        assert!(moment("10m", "--since").unwrap() < record::now());
        assert!(moment("soon", "--since").is_err());
    }
}
