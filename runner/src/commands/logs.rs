//! `logs`: what a container in the background has written.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use argh::CommandInfoWithArgs;
use coracle_sys::handle::Woken;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Global;
use super::container::{self};
use super::typed::{self, Typed};
use crate::from_image::flags::Flags;
use crate::log::{Line, Reader};
use crate::moment::moment;
use crate::record::Record;
use crate::relay::Stream;
use crate::state::{Face, Identity, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "logs",
    "Show what a container in the background has written.",
    typed::CONTAINER,
    &[
        typed::switch("--follow", Some('f'), "go on until it has ended"),
        typed::option(
            "--since",
            None,
            "time",
            "from this time on: RFC 3339, seconds since 1970, or how long ago: 10m",
        ),
        typed::option("--until", None, "time", "up to this time"),
        typed::option("--tail", Some('n'), "lines", "the last so many lines, or all"),
        typed::switch("--timestamps", Some('t'), "each line with its time"),
        typed::switch("--details", None, "nothing: no line has any"),
    ],
    &[
        "runner logs my-container",
        "runner logs -f --tail 10 my-container",
        "runner logs --since 10m my-container",
    ],
);

/// Show it. Who reads it from a pipe and has seen enough ends this.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    match show(global, words) {
        Err(e) if e.errno() == Some(Errno::EPIPE) => Ok(0),
        other => other,
    }
}

fn show(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let named = typed.one("logs", "the container")?;
    if typed.get("--details").is_some() {
        return Err(Error::unsupported("logs --details: the lines have none"));
    }
    let moment = |flag: &str| typed.get(flag).map(|text| moment(text, flag)).transpose();
    let tail = match typed.get("--tail") {
        None | Some("all" | "-1") => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Error::usage(format!("--tail {text:?}: it is a number of lines, or all")))?,
        ),
    };
    let mut view = View {
        since: moment("--since")?,
        until: moment("--until")?,
        times: typed.get("--timestamps").is_some(),
        goes_on: [false; 2],
    };
    let store = container::store(global)?;
    let dir = container::find(&store, named)?;
    let follow = typed.get("--follow").is_some();
    // Before the first look, so that nothing falls between.
    let watch = follow.then(|| Watch::of(&dir.path)).transpose()?;
    let mut log = Reader::open(&dir.path)?;
    if !log.is_there() {
        let record = Record::read(&dir.path)?;
        if !record.monitored && record.started.is_some() {
            return Err(Error::invalid(format!(
                "container {named} ran in front of its runner, which showed what it wrote and kept nothing (run -d keeps it)"
            )));
        }
        if Flags::read(&record.flags)?.log_driver.as_deref() == Some("none") {
            return Err(Error::invalid(format!("container {named} has no log: --log-driver none")));
        }
    }
    if let Some(lines) = tail {
        log.skip_to_last(lines)?;
    }
    let alive = alive(&dir.id, &dir.path);
    if !view.show(&mut log)? {
        return Ok(0);
    }
    let (Some(watch), Some(mut process)) = (watch, alive) else { return Ok(0) };
    loop {
        let over = watch.wait(process)?;
        if !log.is_there() {
            log = Reader::open(&dir.path)?;
        }
        if !view.show(&mut log)? {
            return Ok(0);
        }
        if over {
            match self::alive(&dir.id, &dir.path).filter(|next| *next != process) {
                Some(next) => process = next,
                None => return Ok(0),
            }
        }
    }
}

/// Whose end is the end of the log: its monitor.
fn alive(id: &str, dir: &Path) -> Option<Identity> {
    let monitor = States::of(Face::Image, None).ok()?.read(id).ok().and_then(|s| s.runner);
    let waiting = || Record::read(dir).ok().and_then(|r| r.waiting());
    monitor.filter(|m| m.is_alive()).or_else(waiting)
}

/// What tells that there may be more.
struct Watch(Inotify);

impl Watch {
    fn of(dir: &Path) -> Result<Self> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context(|| "inotify_init1()")?;
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_FROM;
        inotify.add_watch(dir, flags).context(|| format!("inotify_add_watch({dir:?})"))?;
        Ok(Self(inotify))
    }

    /// Wait for more, or the end of the monitor. Whether it was that.
    fn wait(&self, monitor: Identity) -> Result<bool> {
        let Ok(monitor) = monitor.hold() else { return Ok(true) };
        let over = monitor.wait(Some(self.0.as_fd()), None)? == Woken::Ended;
        while self.0.read_events().is_ok_and(|e| !e.is_empty()) {}
        Ok(over)
    }
}

/// Which lines are shown, and how.
struct View {
    since: Option<String>,
    until: Option<String>,
    times: bool,
    /// Of both streams, whether the next line goes on with one that was shown.
    goes_on: [bool; 2],
}

impl View {
    /// Show what there is. Whether there may be more.
    fn show(&mut self, log: &mut Reader) -> Result<bool> {
        let mut more = true;
        log.read(|line| {
            let Some(line) = Line::parse(line) else { return Ok(()) };
            if self.until.as_deref().is_some_and(|until| line.time > until) {
                more = false;
            }
            if more && self.since.as_deref().is_none_or(|since| line.time >= since) {
                self.print(&line)?;
            }
            Ok(())
        })?;
        Ok(more)
    }

    fn print(&mut self, line: &Line<'_>) -> Result<()> {
        let goes_on = &mut self.goes_on[usize::from(line.stream == Stream::Error)];
        let mut text = Vec::with_capacity(line.text.len() + 40);
        if self.times && !*goes_on {
            text.extend_from_slice(line.time.as_bytes());
            text.push(b' ');
        }
        *goes_on = line.partial;
        text.extend_from_slice(line.text);
        let written = match line.stream {
            Stream::Output => std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()),
            Stream::Error => std::io::stderr().write_all(&text),
        };
        written.context(|| "write(log)")
    }
}
