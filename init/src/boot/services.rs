//! Services: a folder of plain files, one a service, called as its file.

use core::ffi::CStr;

use super::attend::JOBS;
use super::entries::Entries;
use super::fault::{Doing, Fault, OrFault, Result};
use super::job::{Job, Ready, State};
use super::readiness;
use super::settings::{Settings, read_lines};
use crate::directory::each_name;
use crate::sys::machine::Room;
use crate::text::Path;

/// Where they are when nothing else is said.
const FOLDER: &CStr = c"/etc/coracle/services";

/// Jobs in the order of their names.
pub(crate) struct Jobs {
    jobs: [Job; JOBS],
    count: usize,
}

impl Jobs {
    /// None, with room for as many as there may be.
    pub(crate) fn none(filler: Job) -> Self {
        Self { jobs: [filler; JOBS], count: 0 }
    }

    /// All of them.
    pub(crate) fn all(&mut self) -> &mut [Job] {
        self.jobs.get_mut(..self.count).unwrap_or_default()
    }

    /// One more.
    pub(crate) fn add(&mut self, job: Job) -> Result<()> {
        let slot = self.jobs.get_mut(self.count);
        *slot.or_refusal(b"services", b"more than 64, with CMD")? = job;
        // In the order of their names, and CMD behind them.
        for at in (1..=self.count).rev().filter(|_| !job.main) {
            if let Some([one, next]) = self.jobs.get_mut(at - 1..=at)
                && next.name < one.name
            {
                core::mem::swap(one, next);
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Read the services of the folder. Where the settings name some, those alone.
    pub(crate) fn read(&mut self, settings: &Settings, room: &mut Room) -> Result<()> {
        let named = settings.get(b"services");
        let folder = named.unwrap_or(FOLDER);
        if named.is_some() && !crate::sys::exists(folder) {
            return Err(Fault::text(b"read services of", folder.to_bytes(), b"there is no such folder"));
        }
        let is_wanted = |name: &CStr| {
            settings.get(b"service").is_none() || settings.all(b"service").any(|one| one == name)
        };
        let mut result = Ok(());
        each_name(folder, &mut |name| {
            // Editors and package managers leave files that are none.
            let is_one = !name.to_bytes().starts_with(b".") && !name.to_bytes().ends_with(b"~");
            if result.is_ok() && is_one && is_wanted(name) {
                result = self.read_one(folder, name, room);
            }
        });
        result?;
        for name in settings.all(b"service") {
            self.find(b"service", name)?;
        }
        self.check_order();
        Ok(())
    }

    fn find(&self, key: &[u8], name: &CStr) -> Result<()> {
        let name = name.to_bytes();
        let mut jobs = self.jobs.iter().take(self.count);
        jobs.any(|job| job.name == name).then_some(()).or_fault(key, name, b"there is no such service")
    }

    /// One whose file is bad has failed, and keeps no other.
    fn read_one(&mut self, folder: &CStr, name: &CStr, room: &mut Room) -> Result<()> {
        let mut path = Path::new(folder.to_bytes());
        path.text(b"/").text(name.to_bytes());
        let name = room.keep(name.to_bytes()).doing(b"read", b"services")?.to_bytes();
        let job = read_file(path.c(), name, room).unwrap_or_else(|fault| {
            fault.of_service(name).warn();
            let [.., filler] = self.jobs;
            Job { name, settings: Settings::of(Entries::NONE), main: false, state: State::Failed, ..filler }
        });
        self.add(job)
    }

    /// What one comes after has to be there. Whether it comes after itself by way of others is seen when it is to start.
    fn check_order(&mut self) {
        for at in 0..self.count {
            let Some(job) = self.jobs.get(at) else { return };
            let missing = job.settings.all(b"after").find_map(|name| self.find(b"after", name).err());
            if let Some(fault) = missing
                && let Some(job) = self.jobs.get_mut(at)
            {
                fault.of_service(job.name).warn();
                job.state = State::Failed;
            }
        }
    }
}

fn read_file(path: &CStr, name: &'static [u8], room: &mut Room) -> Result<Job> {
    let file = room.read(path).doing(b"read", b"its file")?;
    let mut job = Job::service(name, Settings::of(read_lines(file, b"its file")?))?;
    if job.manner.ready == Ready::Notify {
        let mut entry = Path::new(b"NOTIFY_SOCKET=");
        entry.text(readiness::socket(name).bytes());
        job.notify = Some(room.keep(entry.bytes()).doing(b"read", b"services")?);
    }
    Ok(job)
}
