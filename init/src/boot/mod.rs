//! The machine's PID 1: from what the kernel leaves until the power is off.
//!
//! ```text
//!   detect         is it the machine's?           filesystems    /proc, /sys, /dev, /run, groups
//!   settings       boot.conf, command line        modules        of the kernel
//!   root, disks    the root that is named         superblock, gpt  how disks tell what they are
//!   data, seed     what is kept                   network        loopback and one device
//!   attend         the loop over jobs             job, services  what they are, where they are
//!   launch         from a fork to a command       identity, console, ports, relay, readiness, output
//!   signs          power button, watchdog         end            unmounting, the power
//! ```
//!
//! It allocates nothing: what is read lies in one static buffer (`Room`), which a container's init never touches.

mod attend;
mod console;
mod data;
mod detect;
mod disks;
mod end;
mod entries;
mod fault;
mod filesystems;
mod gpt;
mod identity;
mod job;
mod launch;
mod modules;
mod network;
mod output;
mod ports;
mod readiness;
mod relay;
mod root;
mod seed;
mod services;
mod settings;
mod signs;
mod superblock;
mod waiting;

use core::ffi::CStr;

pub(crate) use detect::is_the_machines;

use attend::{Attendance, Outcome};
use entries::Entries;
use fault::{Doing, Fault, Result};
use job::Job;
use ports::Ports;
use relay::Relays;
use settings::{Exit, Plan, Settings};
use signs::Signs;

use crate::bytes;
use crate::log::Line;
use crate::sys::machine::{self, Room};
use crate::sys::{self, Env};
use crate::text;

const BOOT_CONF: &CStr = c"/etc/coracle/boot.conf";

/// Start the machine, attend it, and end it.
pub(crate) fn run(env: Env) -> ! {
    let mut machine = Machine {
        room: Room::new(),
        settings: Settings::NONE,
        plan: Plan::DEFAULT,
        ports: Ports::NONE,
        env,
        configured: false,
    };
    filesystems::mount_first();
    console::open();
    machine::take_ctrl_alt_del();
    let outcome = match machine.start() {
        Ok(outcome) => outcome,
        Err(fault) => machine.give_up(&fault),
    };
    seed::save(&machine.settings);
    end::unmount_all();
    if let Some(code) = outcome.0 {
        machine.ports.tell_code(code);
    }
    end::switch(outcome.1)
}

/// An exit code where there is one to be told, and what is to become of the machine.
type Ending = (Option<u8>, machine::Power);

struct Machine {
    room: Room,
    settings: Settings,
    plan: Plan,
    ports: Ports,
    /// What the kernel gave us.
    env: Env,
    /// A boot.conf was read.
    configured: bool,
}

impl Machine {
    fn start(&mut self) -> Result<Ending> {
        // First of all what an error is told by.
        modules::load_listed();
        self.ports = Ports::find();
        self.configure()?;
        self.step(b"modules are loaded");
        if self.plan.exit == Exit::Port && self.ports.exit().is_none() {
            return Err(Fault::value(b"exit", b"there is no port coracle.exit"));
        }
        let named = self.settings.get(b"modules");
        let loaded = named.map_or(Ok(true), modules::load_named)?;
        self.enter_root()?;
        if let (false, Some(names)) = (loaded, named)
            && !modules::load_named(names)?
        {
            return Err(Fault::text(
                b"load modules",
                names.to_bytes(),
                b"there is no list of this kernel's modules",
            ));
        }
        filesystems::mount_second();
        self.prepare()?;
        self.step(b"the machine is prepared");
        self.attend()
    }

    /// Read what is to be done.
    fn configure(&mut self) -> Result<()> {
        let mut file = Entries::NONE;
        if !self.configured && sys::exists(BOOT_CONF) {
            let name = BOOT_CONF.to_bytes();
            file = settings::read_lines(self.room.read(BOOT_CONF).doing(b"read", name)?, name)?;
            self.configured = true;
        }
        let line = self.kernel_words(b"init.")?;
        let both = self.room.join(file.bytes(), line.bytes()).doing(b"read", b"what is to be done")?;
        self.settings = Settings::of(Entries::of(both));
        self.plan = Plan::decide(&self.settings)?;
        Ok(())
    }

    /// Words of the kernel's command line that begin so.
    fn kernel_words(&mut self, prefix: &[u8]) -> Result<Entries<'static>> {
        let text = self.room.read(c"/proc/cmdline").doing(b"read", b"/proc/cmdline")?;
        entries::words(text, prefix).map_err(|word| Fault::value(word, b"a \" is not closed"))
    }

    /// Go to the root that is named, if one is and the kernel has not done so.
    fn enter_root(&mut self) -> Result<()> {
        let wanted = root::Wanted::read(self.kernel_words(b"")?, self.plan.wait);
        let overlay = self.settings.get(b"overlay");
        match wanted.filter(|_| root::is_initial()) {
            Some(wanted) => wanted.enter(overlay)?,
            None if overlay.is_some() && root::is_initial() => {
                return Err(Fault::value(b"overlay", b"no root= is named that it could be above"));
            }
            None => return Ok(()),
        }
        self.step(b"the root is entered");
        if self.configured { Ok(()) } else { self.configure() }
    }

    /// What commands find.
    fn prepare(&mut self) -> Result<()> {
        let settings = &self.settings;
        if let Some(name) = settings.get(b"hostname") {
            machine::set_host_name(name).doing(b"set the host name", name.to_bytes())?;
        }
        network::loopback();
        if let Some(text) = settings.get(b"data") {
            data::mount(text, self.plan.wait, &mut self.room)?;
        }
        for text in settings.all(b"mount") {
            mount(text, self.plan.wait, &mut self.room)?;
        }
        seed::load(settings);
        if let Some(text) = settings.get(b"ip") {
            network::configure(&network::read(text.to_bytes())?, self.plan.wait, &mut self.room)?;
        }
        Ok(())
    }

    /// Start CMD and the services, or another init where there is neither.
    fn attend(&mut self) -> Result<Ending> {
        let main = Job::command(self.settings, &self.plan)?;
        let mut jobs = services::Jobs::none(main);
        jobs.read(&self.settings, &mut self.room)?;
        let has_main = self.settings.all(b"arg").next().is_some();
        if has_main {
            jobs.add(main)?;
        } else if jobs.all().is_empty() {
            return Err(self.hand_over());
        } else if jobs.all().iter().all(Job::is_over) {
            return Err(Fault::text(b"start", b"services", b"none of them can be"));
        }
        let signs = Signs::open(self.plan.watchdog);
        let mut attendance = Attendance::new(jobs.all(), self.ports, &self.plan, signs);
        if self.plan.tty && has_main {
            attendance.terminal = console::terminal();
        } else if has_main {
            attendance.relays = Relays::to(&self.ports);
        }
        let Outcome { code, power } = attendance.run();
        jobs.all().iter_mut().for_each(output::close);
        Ok((Some(code), power))
    }

    /// Become the root's own init. Returns what is wrong when that cannot be.
    fn hand_over(&self) -> Fault {
        const INIT: &CStr = c"/sbin/init";
        let look = |path| machine::stat_at(libc::AT_FDCWD, path, true).ok();
        let init = look(INIT);
        if init.is_none() || init == look(c"/proc/self/exe") {
            return Fault::text(
                b"find a command",
                b"",
                b"no arg=, no services, and no other init at /sbin/init",
            );
        }
        self.ports.tell_up();
        launch::become_init(INIT, self.env)
    }

    /// Something is missing: say so everywhere, and open a shell where one was asked for.
    fn give_up(&self, fault: &Fault) -> Ending {
        fault.warn();
        let mut line = fault.line();
        let line = line.finish();
        self.ports.tell_error(line.strip_prefix(b"init: ").unwrap_or(line));
        if self.plan.rescue {
            self.rescue();
        } else if self.ports.exit().is_none() {
            // Whoever sits before the screen can read it.
            machine::sleep(5000);
        }
        (None, self.plan.exit.power())
    }

    /// A shell on the console; its end is the machine's.
    fn rescue(&self) {
        Line::new().text(b"a shell to rescue the machine, which ends with it").complain();
        let settings = Settings::of(Entries::of(b"arg=/bin/sh\0"));
        let terminal = console::terminal();
        let shell =
            launch::Launch { settings: &settings, streams: [None; 3], terminal, ready: None, entry: None };
        if let Ok(shell) = shell.start() {
            machine::wait_for(shell);
        }
    }

    /// How far it is, for who wants to know.
    fn step(&self, what: &[u8]) {
        if self.plan.verbosity > 1 {
            Line::new().seconds(sys::now() as i64).text(b" s: ").text(what).complain();
        }
    }
}

/// Mount what `SOURCE:/PLACE:KIND[:OPTIONS]` says. A device may take so many milliseconds to appear.
fn mount(text: &'static CStr, wait: u32, room: &mut Room) -> Result<()> {
    let text = text.to_bytes();
    let mut words = text::parts(text, b':');
    let mut word = || words.next().unwrap_or_default();
    let (source, place, kind, options) = (word(), word(), word(), word());
    if !place.starts_with(b"/") || kind.is_empty() || words.next().is_some() {
        return Err(Fault::text(b"read mount", text, b"takes SOURCE:/PLACE:KIND[:OPTIONS]"));
    }
    let mut keep = |bytes| room.keep(bytes).doing(b"mount", text);
    let (place, kind, options) = (keep(place)?, keep(kind)?, keep(options)?);
    let source_name = keep(source)?;
    let _ = machine::mkdir(place, 0o755);
    let is_device = source.starts_with(b"/dev/") || text::cut(source, b'=').is_some();
    let mounted = match is_device {
        true => root::mount_device(&disks::find(source, wait)?, Some(kind), place, 0, options),
        false => root::mount_with_options(source_name, place, kind, 0, options),
    };
    mounted.doing(b"mount", text)
}
