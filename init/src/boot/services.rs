//! Services: a folder of plain files, one a service, called as its file.

use core::ffi::CStr;

use super::attend::JOBS;
use super::fault::{Doing, Fault, OrFault, Result};
use super::job::{Job, Ready};
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
        *slot.or_fault(b"read", job.name, b"more than 64 services")? = job;
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
            self.find(name.to_bytes())?;
        }
        self.check_order()
    }

    fn find(&self, name: &[u8]) -> Result<()> {
        let mut jobs = self.jobs.iter().take(self.count);
        jobs.any(|job| job.name == name).then_some(()).or_fault(
            b"find service",
            name,
            b"there is none of this name",
        )
    }

    fn read_one(&mut self, folder: &CStr, name: &CStr, room: &mut Room) -> Result<()> {
        let mut path = Path::new(folder.to_bytes());
        path.text(b"/").text(name.to_bytes());
        let name = room.keep(name.to_bytes()).doing(b"read", b"services")?.to_bytes();
        let file = read_lines(room.read(path.c()).doing(b"read service", name)?, name)?;
        let mut job = Job::service(name, Settings::of(file)).inspect_err(|_| {
            crate::log::Line::new().text(b"service ").text(name).text(b":").complain();
        })?;
        if job.manner.ready == Ready::Notify {
            let mut entry = Path::new(b"NOTIFY_SOCKET=");
            entry.text(readiness::socket(name).bytes());
            job.notify = Some(room.keep(entry.bytes()).doing(b"read", b"services")?);
        }
        self.add(job)
    }

    /// What one comes after has to be there. Whether it comes after itself by way of others is seen when it is to start.
    fn check_order(&self) -> Result<()> {
        for job in self.jobs.iter().take(self.count) {
            for name in job.settings.all(b"after") {
                self.find(name.to_bytes())?;
            }
        }
        Ok(())
    }
}
