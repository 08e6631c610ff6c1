//! A container's life: in front of its caller, or in the background with a monitor.

use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_store::image::Healthcheck;
use coracle_sys::{Context, Error, Kind, Result};
use nix::unistd::execv;

use super::{Made, Planned, timeout};
use crate::attach::Client;
use crate::cgroups::Lifetime;
use crate::commands::exit_code;
use crate::commands::life::{Attach, Given, Life, Usage};
use crate::diary::{self, Event};
use crate::foreground::{Attended, Signals};
use crate::launch::{Ahead, Container};
use crate::monitor::restart::{self, Policy};
use crate::monitor::{self, Duties, Farewell, First, Probe, Starter, Watched};
use crate::network::{self, Who};
use crate::own_file;
use crate::record::{self, Exit, Record};
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
        attach: &'a Attach<'a>,
    ) -> Life<'a> {
        Life {
            plan: &planned.plan,
            groups: &planned.groups,
            states,
            home: &self.dir.path,
            streams,
            network,
            attach: planned.network.attaches().then_some(attach),
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
        let streams = Given::Pipes { input: self.flags.interactive };
        let kept = RefCell::new(self.record.clone());
        let attached = RefCell::new(network::Attached::default());
        let attach = |namespace: BorrowedFd<'_>| self.join(planned, namespace, &attached);
        let life = self.life(planned, &states, streams, network, &attach);
        let write = |runner, _| {
            let mut record = kept.borrow_mut();
            record.begins(runner, false);
            record.write(&self.dir.path)
        };
        let begun = |container, outputs| {
            self.tell(&[Event::plain("start")]);
            attend(container, outputs)
        };
        let over = |attended: &Attended, usage: &Usage| {
            let report = Report::of(&attended.ending, attended.timed_out, Duration::ZERO);
            let report = report.with_usage(&usage.stats, Vec::new(), usage.ran_out);
            self.over(&mut kept.borrow_mut(), &report, false);
        };
        let ended = life.live(write, begun, over);
        self.part(planned);
        let mut ended = ended.inspect_err(|_| self.remove())?;
        ended.1.confined = self.flags.untrusted.then(|| self.confined());
        self.record = kept.into_inner();
        if self.record.rm {
            self.remove();
        }
        Ok(ended)
    }

    /// Join its process to its network.
    fn join(
        &self,
        planned: &Planned,
        namespace: BorrowedFd<'_>,
        attached: &RefCell<network::Attached>,
    ) -> Result<()> {
        let (id, name) = (&self.record.id, &self.record.name);
        let who = Who { id, name, dir: &self.dir.path, namespace };
        attached.replace(planned.network.attach(&who)?);
        Ok(())
    }

    /// Take it off its network. What is left is for a sweep.
    fn part(&self, planned: &Planned) {
        if planned.network.attaches()
            && let Err(e) = network::detach(&self.record.id)
        {
            coracle_sys::warn!("runner: {}", e.wrap("take the container off its network"));
        }
    }

    /// It has ended: write down how, and whether it waits to begin again.
    fn over(&self, record: &mut Record, report: &Report, begins_again: bool) {
        record.take_changes(&self.dir.path);
        let exit = exit(report);
        self.tell_end(record, &exit);
        record.stopped = record::is_marked(&self.dir.path);
        let policy = Policy::parse(&record.restart).unwrap_or_default();
        if begins_again && !record.stopped && policy.again(exit.code, record.restarts) {
            record.waits();
        }
        record.exit = Some(exit);
        if !record.rm {
            self.write_end(record);
        }
    }

    /// Start it in the background. It runs when this comes back. A new one goes again where it cannot be started.
    pub(crate) fn background(self, new: bool) -> Result<()> {
        self.begin(new, None).map(drop)
    }

    /// [`Made::background`], attached from the beginning. What is owned ends with its owner.
    pub(crate) fn attached(self, new: bool, owned: bool) -> Result<Client> {
        let (client, first) = Client::pair(owned).inspect_err(|_| {
            if new {
                self.remove();
            }
        })?;
        let client = self.begin(new, Some((client, first)))?;
        client.ok_or_else(|| Error::invalid("nobody is attached"))
    }

    fn begin(mut self, new: bool, mut pair: Option<(Client, First)>) -> Result<Option<Client>> {
        // By a user it begins from the beginning.
        self.record.restarts = 0;
        let started = self.plan(Lifetime::Detached).and_then(|planned| {
            monitor::fork(&planned.aside, |starter| {
                // The monitor is not to hold the caller's end.
                let first = pair.take().map(|(_, first)| first);
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
        // The monitor has the lock on its directory by the same descriptor, and keeps it.
        self.held.leave();
        started.map(|()| pair.map(|(client, _)| client))
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
        first: Option<First>,
        last: Option<Duration>,
    ) -> Result<()> {
        let signals = Signals::hold()?;
        let states = States::of(Face::Image, None)?;
        let (ours, theirs) = monitor::Streams::make(self.flags.tty, self.flags.interactive)?;
        let duties = self.duties(first)?;
        self.policy()?;
        let began = Instant::now();
        let streams = Given::These(Box::<[OwnedFd; 3]>::new(theirs));
        let (kept, report) = (RefCell::new(self.record.clone()), Cell::new(Vec::new()));
        let attached = RefCell::new(network::Attached::default());
        let join = |namespace: BorrowedFd<'_>| self.join(planned, namespace, &attached);
        let life = self.life(planned, &states, streams, None, &join);
        // Who was told to end while it was about to begin again does not.
        let told = || last.is_some() && record::is_marked(&self.dir.path);
        let write = |runner: Identity, _| {
            if told() {
                return Err(Error::new(Kind::Busy, "it was told to end"));
            }
            if last.is_none() {
                record::unmark(&self.dir.path)?;
            }
            let mut record = kept.borrow_mut();
            record.begins(runner, true);
            record.write(&self.dir.path)
        };
        let attend = |container, _| {
            self.tell(&[Event::plain("start")]);
            monitor::attend(container, ours, duties, &signals, starter)
        };
        let over = |(watched, _): &(Watched, Farewell), usage: &Usage| {
            let told = Report::of(&watched.ending, watched.timed_out, began.elapsed());
            let mut told = told.with_usage(&usage.stats, usage.dropped.clone(), usage.ran_out);
            told.confined = self.flags.untrusted.then(|| self.confined());
            self.over(&mut kept.borrow_mut(), &told, true);
            report.set(told.json().unwrap_or_default());
        };
        let lived = life.live(write, attend, over);
        self.part(planned);
        let mut record = kept.into_inner();
        let ((watched, farewell), _) = match lived {
            Ok(ended) => ended,
            Err(_) if told() => return self.ended_for_good(record),
            Err(e) => {
                let code = exit_code(&e).into();
                record.exit = Some(Exit { code, at: record::now(), oom: false, error: Some(e.to_string()) });
                self.write_end(&mut record);
                return Err(e);
            }
        };
        self.record = record;
        if self.record.rm {
            self.remove();
        }
        farewell.say(watched.code(), &report.take());
        if !self.record.restarting {
            return Ok(());
        }
        let pause = restart::delay(last, began.elapsed());
        if monitor::pause(&signals, pause)? && !record::is_marked(&self.dir.path) {
            return self.replace(pause);
        }
        self.ended_for_good(self.record.clone())
    }

    /// It does not begin again.
    fn ended_for_good(&self, mut record: Record) -> Result<()> {
        record.take_changes(&self.dir.path);
        (record.restarting, record.boot, record.stopped) = (false, None, true);
        self.write_end(&mut record);
        Ok(())
    }

    /// The runner once more, in place of this process: what one life has left in memory is not the next one's.
    fn replace(&self, pause: Duration) -> Result<()> {
        let mut words = vec![own_file::path()?.display().to_string()];
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

    fn duties(&self, first: Option<First>) -> Result<Duties> {
        Ok(Duties {
            dir: self.dir.path.clone(),
            log: self.log()?,
            timeout: timeout(&self.flags)?,
            health: self.probe()?,
            input_once: self.flags.interactive && !self.flags.detach,
            first,
            kept: !self.record.rm,
        })
    }

    fn probe(&self) -> Result<Option<Probe>> {
        let Some(said) = &self.record.healthcheck else { return Ok(None) };
        let mut exec = vec![own_file::path()?.display().to_string()];
        exec.extend(self.store_words());
        exec.extend(["exec".to_owned(), self.record.id.clone()]);
        Probe::of(said, self.base.config().shell.as_deref().unwrap_or_default(), exec)
    }

    /// It has happened to it.
    pub(crate) fn tell(&self, events: &[Event<'_>]) {
        diary::tell(&self.dir.path, &self.record, events);
    }

    fn tell_end(&self, record: &Record, exit: &Exit) {
        let code = exit.code.to_string();
        let more = [("exitCode", code.as_str())];
        let die = Event { action: "die", more: &more };
        let mut events = vec![die];
        if exit.oom {
            events.insert(0, Event::plain("oom"));
        }
        if record.rm {
            events.push(Event::plain("destroy"));
        }
        diary::tell(&self.dir.path, record, &events);
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
    fn write_end(&self, record: &mut Record) {
        let dir = &self.dir.path;
        let written = record.write_end(dir).and_then(|()| match record.monitored {
            // Who has it brought back after a power cut does not want what has ended well once more.
            true => Record::keep(dir),
            false => Ok(()),
        });
        if let Err(e) = written {
            coracle_sys::warn!("runner: {}", e.wrap("write down how the container ended"));
        }
    }
}

fn exit(report: &Report) -> Exit {
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
        check.retries = Some(retries.try_into().unwrap_or(i64::MAX));
    }
    Ok(check.test.is_some().then_some(check))
}
