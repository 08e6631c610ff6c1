//! How a run ended, for scripts: one JSON object to a file or a descriptor.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use coracle_sys::process::Status;
use coracle_sys::{Context, Error, Result, file};
use serde::Serialize;

use crate::cgroups::Stats;
use crate::launch::Ending;

/// The object.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// `exit`, `signal`, `oom`, `timeout` or `error`.
    pub(crate) cause: &'static str,
    /// The runner's exit code.
    pub(crate) code: u8,
    /// The signal that killed the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// The runner's own error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Seconds from the start to the end.
    pub(crate) wall_seconds: f64,
    /// Seconds of processor time, of all that was waited for.
    pub(crate) cpu_seconds: f64,
    /// Bytes: the cgroup's peak where there is one, else the largest process'.
    pub(crate) peak_memory: u64,
    /// The most tasks at once, where a cgroup counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_pids: Option<u64>,
    /// How many of its processes the kernel killed because memory ran out.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) oom_kills: u64,
    /// Limits that the host could not give.
    pub(crate) dropped: Vec<String>,
    /// How a container that is not trusted was confined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confined: Option<serde_json::Value>,
    /// The command was killed, or says of a child of its own that this was, and not since its time was over.
    #[serde(skip)]
    killed: bool,
    /// Somebody outside has done it.
    #[serde(skip)]
    from_outside: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Report {
    /// Of a container that ran.
    pub(crate) fn of(ending: &Ending, timed_out: bool, wall: Duration) -> Self {
        let (cause, code, signal) = match ending.command {
            Status::Exited(code) => ("exit", code, None),
            Status::Signaled(signal) => ("signal", 128 + signal, Some(signal)),
        };
        let ended = &ending.ended;
        Self {
            cause: if timed_out { "timeout" } else { cause },
            code: u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            signal,
            // A shell whose child was killed leaves with this code.
            killed: !timed_out && code == 128 + libc::SIGKILL,
            from_outside: ending.from_outside,
            wall_seconds: wall.as_secs_f64(),
            cpu_seconds: (ended.user_us + ended.system_us) as f64 / 1e6,
            peak_memory: ended.max_rss_kib * 1024,
            ..Self::default()
        }
    }

    /// With what the container's groups told. `ran_out`: all of it was killed because memory ran out.
    pub(crate) fn with_usage(mut self, stats: &Stats, dropped: Vec<String>, ran_out: bool) -> Self {
        self.oom_kills = stats.oom_kills.unwrap_or(0);
        let one = self.oom_kills > 0 && !self.from_outside;
        if self.killed && (one || ran_out) {
            self.cause = "oom";
        }
        if let Some(cpu) = stats.cpu_us {
            self.cpu_seconds = cpu as f64 / 1e6;
        }
        self.peak_memory = stats.memory_peak.unwrap_or(self.peak_memory);
        self.peak_pids = stats.pids_peak;
        self.dropped = dropped;
        self
    }

    /// As JSON, on one line.
    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::invalid(e.to_string()))
    }

    /// Of one that did not.
    pub(crate) fn of_error(error: &Error, code: u8) -> Self {
        Self { cause: "error", code, error: Some(error.to_string()), ..Self::default() }
    }
}

/// Whether a report as JSON is of a container whose time was over.
pub(crate) fn is_of_a_timeout(report: &[u8]) -> bool {
    serde_json::from_slice(report).is_ok_and(|told: serde_json::Value| told["cause"] == "timeout")
}

/// Where reports go: opened before the run, so that a wrong place is told before anything happens.
pub(crate) struct Sink(File);

impl Sink {
    /// `FILE` or `fd:N`.
    pub(crate) fn open(place: &str) -> Result<Self> {
        let open = || match place.strip_prefix("fd:") {
            Some(number) => {
                let fd: i32 = number
                    .parse()
                    .ok()
                    .filter(|fd| *fd >= 0)
                    .ok_or_else(|| Error::usage(format!("{place:?}: it is FILE or fd:NUMBER")))?;
                file::inherited_for_writing(fd).map(File::from)
            }
            None => File::create(place).context(|| format!("open({place:?}, O_WRONLY|O_CREAT|O_TRUNC)")),
        };
        open().context(|| "--report").map(Self)
    }

    /// Write one, on one line.
    pub(crate) fn write(&mut self, report: &[u8]) -> Result<()> {
        let line = [report, b"\n"].concat();
        self.0.write_all(&line).context(|| "write(report)").context(|| "--report")
    }
}
