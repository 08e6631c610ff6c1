//! `pause ID` and `resume ID`: all processes of a container at once.

use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::oci::{Container, Status};

/// Stop them, or let them go on.
pub(crate) fn run(global: &Global, id: &str, pause: bool) -> Result<u8> {
    let mut container = Container::find(global, id)?;
    let _alone = container.hold()?;
    let refused = |why: &str| Err(Error::new(Kind::Invalid, why.to_owned()));
    match (container.status()?, pause) {
        (Status::Running | Status::Created, true) => container.cgroup()?.freeze()?,
        (Status::Paused, false) => container.cgroup()?.thaw()?,
        (_, true) => return refused("container not running"),
        (_, false) => return refused("container not paused"),
    }
    Ok(0)
}
