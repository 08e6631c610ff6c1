//! Taking containers off their networks: one that has ended, one that goes on, all that a killed runner left.

use coracle_sys::{Error, Kind, Result};

use super::bridge::down;
use super::config::{Network, table_of};
use super::lease::{Attachment, Home};
use super::netlink::Socket;
use super::nft::{Change, INET};
use super::ports::Port;
use super::{going, link, names, rules, tracked};

/// Take a container off all its networks. It need not be on any.
pub(crate) fn detach(id: &str) -> Result<()> {
    detach_from(None, id)
}

pub(super) fn detach_from(only: Option<&str>, id: &str) -> Result<()> {
    let home = Home::of_this_user()?;
    let Some(held) = home.lock(false)? else { return Ok(()) };
    let mut old = Vec::new();
    let keys = home.keys()?;
    let mut keys = keys.iter().filter(|key| only.is_none_or(|only| only == *key));
    let left = keys.try_for_each(|key| leave(&home, key, id, &mut old));
    drop(held);
    going::remove_beside(&old)?;
    left
}

/// Take a container that goes on running off one network.
pub(crate) fn disconnect(network: &Network, id: &str) -> Result<()> {
    let home = Home::of_this_user()?;
    let none = || Error::not_found(format!("it is not connected to the network {}", network.name));
    let Some(held) = home.lock(false)? else { return Err(none()) };
    let key = network.key();
    let had = home.read(key, id)?.ok_or_else(none)?;
    let mut old = Vec::new();
    leave(&home, key, id, &mut old)?;
    names::write(&had.hosts, None, &block(&world(&home)?, id))?;
    drop(held);
    // Those who are on it see it gone when this returns.
    remove_all(&old)
}

fn remove_all(old: &[u32]) -> Result<()> {
    let socket = Socket::route()?;
    old.iter().try_for_each(|index| going::remove(&socket, *index))
}

/// The device of one on a network, where it is there still. It would go with its namespace; but the kernel keeps that for
/// a minute and longer where a connection ends that nobody answers, and it speaks for an address that the next may get.
fn device(home: &Home, key: &str, id: &str) -> Result<Option<u32>> {
    match home.read(key, id) {
        Ok(Some(had)) => link::index(&Socket::route()?, &had.device),
        _ => Ok(None),
    }
}

/// Take off all networks whoever does not run any more.
pub(crate) fn forget_all_over() -> Result<()> {
    let home = Home::of_this_user()?;
    let Some(held) = home.lock(false)? else { return Ok(()) };
    let mut old = going::disowned(&Socket::route()?)?;
    for key in home.keys()? {
        for id in home.ids(&key)?.iter().filter(|id| home.is_over(id)) {
            leave(&home, &key, id, &mut old)?;
        }
        // One who made the network, and was killed before anything was on it.
        if home.ids(&key)?.is_empty() && home.keys()?.contains(&key) {
            down(&home, &key, &mut old)?;
        }
    }
    drop(held);
    going::remove_beside(&old)
}

/// Take one off a network, tell the others, and take the network away after the last. Its device, and the bridge, without
/// its name, are left to be removed.
fn leave(home: &Home, key: &str, id: &str, old: &mut Vec<u32>) -> Result<()> {
    let ids = home.ids(key)?;
    if !ids.iter().any(|other| other == id) {
        return Ok(());
    }
    let own = device(home, key, id)?;
    if ids.len() == 1 {
        let had = home.read(key, id).ok().flatten();
        down(home, key, old)?;
        // The bridge first: as long as it has the network's route, the next one is made elsewhere.
        old.extend(own);
        had.iter().for_each(tracked::forget);
        return Ok(());
    }
    release(home, key, id)?;
    old.extend(own);
    let name = home.network(key)?.map(|network| network.name).unwrap_or_default();
    tell(&world(home)?, &name, id);
    Ok(())
}

/// Free what a container has of a network, but for its device.
fn release(home: &Home, key: &str, id: &str) -> Result<()> {
    // What cannot be read leads no port anywhere that a rule could be found by.
    let had = home.read(key, id).ok().flatten().unwrap_or_default();
    if !had.ports.is_empty() {
        let filter = Socket::netfilter()?;
        let no_longer = |ports: &[Port]| {
            let mut change = Change::of(INET);
            ports.iter().for_each(|port| rules::port(&mut change, &table_of(key), port, None));
            match change.make(&filter) {
                Err(e) if e.kind() == Kind::NotFound => Ok(false),
                other => other.map(|()| true),
            }
        };
        // At once: each change takes the kernel as long as a start. One by one where some are gone already.
        if !no_longer(&had.ports)? {
            had.ports.iter().try_for_each(|port| no_longer(std::slice::from_ref(port)).map(drop))?;
        }
        tracked::forget(&had);
    }
    home.forget(key, id)
}

/// Those on a network that run. What is over is taken away first.
pub(super) fn living(home: &Home, key: &str) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    for id in home.ids(key)? {
        match home.is_over(&id) {
            true => {
                let old = device(home, key, &id)?;
                release(home, key, &id)?;
                remove_all(old.as_slice())?;
            }
            false => all.extend(home.read(key, &id)?),
        }
    }
    Ok(all)
}

/// What all containers have of all networks.
pub(super) fn world(home: &Home) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    for key in home.keys()? {
        all.extend(home.all(&key)?);
    }
    Ok(all)
}

/// What a container's /etc/hosts says of it and of the others on its networks.
pub(super) fn block(world: &[Attachment], id: &str) -> String {
    let (own, others): (Vec<_>, Vec<_>) = world.iter().partition(|a| a.id == id);
    let shared = |a: &&Attachment| own.iter().any(|o| o.network == a.network);
    names::block(&own, &others.into_iter().filter(shared).collect::<Vec<_>>())
}

/// Tell those on a network who is on it now; `but` has been told.
pub(super) fn tell(world: &[Attachment], network: &str, but: &str) {
    for one in world.iter().filter(|one| one.network == network && one.id != but) {
        match names::write(&one.hosts, None, &block(world, &one.id)) {
            // One that is about to go. One that has filled its file is nobody whom the others wait for.
            Err(e) if e.kind() != Kind::NotFound => {
                coracle_sys::warn!("runner: {}", e.wrap(format!("tell {} who is on its network", one.name)));
            }
            _ => {}
        }
    }
}
