//! Groups that systemd makes and keeps in its books, for `--systemd-cgroup`: [`unit`] decides which unit a container is
//! and what it may use, [`bus`] says it to systemd. Limits are written into the group by us as everywhere; systemd is
//! told those that it would otherwise reset when it reads its units anew.
#![allow(dead_code)] // the flag itself comes with containers that outlive their runner

mod bus;
mod unit;
mod wire;

pub use bus::{Bus, Value};
pub use unit::{Unit, limits};
