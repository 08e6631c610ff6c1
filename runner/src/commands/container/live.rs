//! A container's life: in front of its caller, or in the background with a monitor.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use coracle_store::image::Healthcheck;
use coracle_sys::{Context, Error, Result};
use nix::unistd::execv;

use super::{Made, Planned, timeout};
use crate::cgroups::Lifetime;
use crate::commands::exit_code;
use crate::commands::life::{Given, Life, Usage};
use crate::foreground::{Attended, Signals};
use crate::launch::{Ahead, Container, Ending};
use crate::monitor::{self, Duties, Farewell, Probe, Starter, Watched, restart};
use crate::record::{self, Exit};
use crate::relay::Output;
use crate::report::Report;
use crate::state::{Face, Identity, States};

impl Made {
    fn life<'a>(
        &'a self,
        planned: &'a Planned,
        states: &'a States,
        streams: Given,
        network: Option<Ahead>,
    ) -> Life<'a> {
        Life {
            plan: &planned.plan,
            groups: &planned.groups,
            states,
            home: &self.dir.path,
            streams,
            network,
            guarded: true,
            together: self.flags.oom_group,
            keep: false,
            oci: None,
        }
    }

    /// Live in front of the caller. What it leaves is written down, or goes.
    pub(crate) fn foreground(
        mut self,
        planned: &Planned,
        network: Option<Ahead>,
        attend: impl FnOnce(Container, Vec<Output>) -> Result<Attended>,
    ) -> Result<(Attended, Usage)> {
        let states = States::of(Face::Image, None)?;
        let streams = match self.flags.tty {
            true => Given::Terminal,
            false => Given::Pipes { input: self.flags.interactive },
        };
        let mut record = self.record.clone();
        let life = self.life(planned, &states, streams, network);
        let write = |runner| {
            record.begins(runner, false);
            record.write(&self.dir.path)
        };
        let mut ended = life.live(write, attend).inspect_err(|_| self.remove())?;
        ended.1.confined = self.flags.untrusted.then(|| self.confined());
        if self.flags.rm {
            self.remove();
        } else {
            record.exit = Some(exit(&ended.0.ending, ended.0.timed_out, &ended.1));
            self.record = record;
            self.write_end();
        }
        Ok(ended)
    }

    /// Start it in the background. It runs when this comes back.
    pub(crate) fn background(mut self, new: bool, first: Option<OwnedFd>) -> Result<()> {
        let started = self.plan(Lifetime::Detached).and_then(|planned| {
            monitor::fork(|starter| {
                let started = self.monitored(&planned, starter, first, None);
                if started.is_err() && new {
                    self.remove();
                }
                started
            })
        });
        if started.is_err() && new && self.dir.path.exists() {
            // Where there was no monitor to do it.
            self.remove();
        }
        // To let go of the lock on its directory would let go of the monitor's, who has it by the same descriptor.
        std::mem::forget(self);
        started
    }

    /// Begin again in place of the monitor, which has waited for `last` before.
    pub(crate) fn again(mut self, last: Duration) -> Result<()> {
        let planned = self.plan(Lifetime::Detached)?;
        self.record.restarts += 1;
        self.monitored(&planned, &mut Starter::nobody(), None, Some(last))
    }

    /// The whole life of a container with a monitor, which this process is.
    fn monitored(
        &mut self,
        planned: &Planned,
        starter: &mut Starter,
        first: Option<OwnedFd>,
        last: Option<Duration>,
    ) -> Result<()> {
        let signals = Signals::hold()?;
        let states = States::of(Face::Image, None)?;
        let (ours, theirs) = monitor::Streams::make(self.flags.tty, self.flags.interactive)?;
        let duties = self.duties(first)?;
        let policy = self.policy()?;
        let began = Instant::now();
        let streams = Given::These(Box::<[OwnedFd; 3]>::new(theirs));
        let mut record = self.record.clone();
        let life = self.life(planned, &states, streams, None);
        let write = |runner: Identity| {
            crate::record::unmark(&self.dir.path)?;
            record.begins(runner, true);
            record.write(&self.dir.path)
        };
        let attend = |container, _| monitor::attend(container, ours, duties, &signals, starter);
        let lived = life.live(write, attend);
        self.record = record;
        let ((watched, farewell), usage): ((Watched, Farewell), Usage) = match lived {
            Ok(ended) => ended,
            Err(e) => {
                let code = exit_code(&e).into();
                self.record.exit =
                    Some(Exit { code, at: record::now(), oom: false, error: Some(e.to_string()) });
                self.write_end();
                return Err(e);
            }
        };
        self.record.stopped = crate::record::is_marked(&self.dir.path);
        self.record.exit = Some(exit(&watched.ending, watched.timed_out, &usage));
        let again = !self.record.stopped && policy.again(watched.code(), self.record.restarts);
        if !again {
            match self.record.rm {
                true => self.remove(),
                false => self.write_end(),
            }
            farewell.say(watched.code());
            return Ok(());
        }
        let pause = restart::delay(last, began.elapsed());
        self.record.restarting = true;
        self.write_end();
        farewell.say(watched.code());
        if monitor::pause(&signals, pause)? && !crate::record::is_marked(&self.dir.path) {
            return self.replace(pause);
        }
        self.record.restarting = false;
        self.record.stopped = true;
        self.write_end();
        Ok(())
    }

    /// The runner once more, in place of this process: what one life has left in memory is not the next one's.
    fn replace(&self, pause: Duration) -> Result<()> {
        let mut words = vec!["runner".to_owned()];
        words.extend(self.store_words());
        words.extend([
            "start".into(),
            "--again".into(),
            pause.as_millis().to_string(),
            self.record.id.clone(),
        ]);
        let words: Vec<_> = words.into_iter().filter_map(|w| std::ffi::CString::new(w).ok()).collect();
        execv(c"/proc/self/exe", &words).map(|_| ()).context(|| "execve(/proc/self/exe)")
    }

    /// How a runner finds the same store.
    fn store_words(&self) -> Vec<String> {
        self.global.store.iter().flat_map(|store| ["--store".to_owned(), store.clone()]).collect()
    }

    fn duties(&self, first: Option<OwnedFd>) -> Result<Duties> {
        Ok(Duties {
            dir: self.dir.path.clone(),
            log: self.log()?,
            timeout: timeout(&self.flags)?,
            health: self.probe()?,
            input_once: self.flags.interactive && !self.flags.detach,
            first,
        })
    }

    fn probe(&self) -> Result<Option<Probe>> {
        let Some(said) = &self.record.healthcheck else { return Ok(None) };
        let mut exec = vec!["runner".to_owned()];
        exec.extend(self.store_words());
        exec.extend(["exec".to_owned(), self.record.id.clone()]);
        Probe::of(said, self.base.config().shell.as_deref().unwrap_or_default(), exec)
    }

    /// What a container that is not trusted was given, for the report.
    fn confined(&self) -> serde_json::Value {
        let (flags, spec) = (&self.flags, &self.record.spec);
        let linux = spec.linux.as_ref();
        let limits = linux.and_then(|l| l.resources.as_ref());
        let memory = limits.and_then(|r| r.memory.as_ref());
        let process = spec.process.as_ref();
        serde_json::json!({
            "uidMappings": linux.map(|l| &l.uid_mappings),
            "gidMappings": linux.map(|l| &l.gid_mappings),
            "capabilities": process.and_then(|p| p.capabilities.as_ref()).map(|c| &c.bounding),
            "noNewPrivileges": process.is_some_and(|p| p.no_new_privileges),
            "readonlyRoot": spec.root.as_ref().is_some_and(|r| r.readonly),
            "scratch": flags.scratch,
            "tmpfs": flags.tmpfs,
            "network": flags.network.as_ref().or(flags.net.as_ref()),
            "memory": memory.and_then(|m| m.limit),
            "memorySwap": memory.and_then(|m| m.swap),
            "oomGroup": flags.oom_group,
            "pids": limits.and_then(|r| r.pids.as_ref()).and_then(|p| p.limit),
        })
    }

    /// Write down how it ended. The command's own end is what the caller asked for: an error here is told, and no more.
    fn write_end(&self) {
        if let Err(e) = self.record.write(&self.dir.path) {
            coracle_sys::warn!("runner: {}", e.wrap("write down how the container ended"));
        }
    }
}

fn exit(ending: &Ending, timed_out: bool, usage: &Usage) -> Exit {
    let report =
        Report::of(ending, timed_out, Duration::ZERO).with_usage(&usage.stats, Vec::new(), usage.ran_out);
    Exit { code: report.code.into(), at: record::now(), oom: report.cause == "oom", error: None }
}

/// The health check that the flags and the image amount to.
pub(super) fn healthcheck(
    flags: &crate::from_image::flags::Flags,
    image: Option<&Healthcheck>,
) -> Result<Option<Healthcheck>> {
    use crate::from_image::units::duration;
    if flags.no_healthcheck {
        let said = flags.health_cmd.is_some() || flags.health_interval.is_some();
        return match said {
            true => Err(Error::usage("--no-healthcheck conflicts with --health-* options")),
            false => Ok(None),
        };
    }
    let mut check = image.cloned().unwrap_or_default();
    if let Some(command) = &flags.health_cmd {
        check.test = Some(vec!["CMD-SHELL".to_owned(), command.clone()]);
    }
    let times = [
        (&mut check.interval, &flags.health_interval, "--health-interval"),
        (&mut check.timeout, &flags.health_timeout, "--health-timeout"),
        (&mut check.start_period, &flags.health_start_period, "--health-start-period"),
        (&mut check.start_interval, &flags.health_start_interval, "--health-start-interval"),
    ];
    for (time, said, flag) in times {
        if let Some(text) = said.as_deref().filter(|t| *t != "0" && *t != "0s") {
            *time = i64::try_from(duration(text, flag)?.as_nanos()).ok();
        }
    }
    if let Some(retries) = flags.health_retries {
        check.retries = Some(i64::from(retries));
    }
    Ok(check.test.is_some().then_some(check))
}
