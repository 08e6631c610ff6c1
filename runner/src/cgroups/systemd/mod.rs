//! Groups that systemd makes and keeps in its books, for `--systemd-cgroup`: [`unit`] decides which unit a container is
//! and [`properties`] what it may use, [`bus`] says it to systemd. Limits are written into the group by us as everywhere;
//! systemd is told those that it would otherwise reset when it reads its units anew.

mod address;
mod bus;
mod properties;
mod unit;
mod value;
mod wire;

use std::path::{Path, PathBuf};

use coracle_sys::{Context, Result};

use super::layout::Layout;
use crate::spec::{LinuxResources, Spec};
use bus::Bus;
use value::Value;

pub use unit::Unit;

/// What an error about it begins with.
const FLAG: &str = "--systemd-cgroup";

/// The unit of a spec's container, and its group below the one that systemd itself has in every hierarchy. The layout
/// becomes that of systemd's place.
pub(super) fn prepare(spec: &Spec, id: &str, layout: &mut Layout) -> Result<(Unit, PathBuf)> {
    let linux = spec.linux.as_ref();
    let mut unit = Unit::parse(linux.and_then(|l| l.cgroups_path.as_deref()), id, !layout.privileged)?;
    let below = unit.dir()?;
    let mut bus = unit.connect()?;
    let place = bus.property("ControlGroup").context(|| FLAG)?;
    let version = version(&bus.property("Version").context(|| FLAG)?);
    layout.move_to(Path::new(place.trim_start_matches('/')));
    let resources = linux.and_then(|l| l.resources.as_ref());
    let mut all = unit.about(id);
    all.extend(unit.limits(
        resources.unwrap_or(&LinuxResources::default()),
        layout.version() == "2",
        version,
    )?);
    all.extend(properties::of_annotations(&spec.annotations)?);
    unit.properties = all;
    Ok((unit, below))
}

impl Unit {
    /// Start it around a process.
    pub(super) fn start(&self, pid: i32) -> Result<()> {
        let mut all = self.properties.clone();
        if !self.is_slice() {
            all.push(("PIDs".into(), Value::List("u".into(), vec![Value::Number('u', pid as u64)])));
        }
        self.connect()?.start(&self.name, &all).context(|| FLAG)
    }

    /// Stop it, whatever is in it.
    pub(super) fn stop(&self) -> Result<()> {
        self.connect()?.stop(&self.name)
    }

    /// Tell systemd of other limits.
    pub(super) fn set(&self, resources: &LinuxResources, unified: bool) -> Result<()> {
        let mut bus = self.connect()?;
        let version = version(&bus.property("Version")?);
        bus.set(&self.name, &self.limits(resources, unified, version)?)
    }

    fn connect(&self) -> Result<Bus> {
        Bus::connect(self.user).context(|| FLAG)
    }
}

/// The number in systemd's version, such as `252.38-1~deb12u1` or `v245`.
fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
