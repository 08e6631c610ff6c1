//! How a bridge goes. The kernel waits for much before a device is gone, and whoever started us need not.

use coracle_sys::process::{self, Cloned};
use coracle_sys::{Context, Result};
use nix::errno::Errno;

use super::link::{DELLINK, GETLINK, IFNAME, NEWLINK, head};
use super::netlink::{Batch, DUMP, Socket, attribute, c_name, find, number, text};

/// What a bridge is called that is about to go. Its own name is free then for the next one.
const GOING: &str = "coracle-old";

/// Take the name from a bridge. The kernel waits for much before a device is gone, and that need not be waited for.
pub(crate) fn disown(socket: &Socket, index: u32) -> Result<()> {
    let mut body = head(index, false);
    attribute(&mut body, IFNAME, &c_name(&format!("{GOING}%d")));
    let mut batch = Batch::default();
    batch.add("RTM_NEWLINK name", NEWLINK, 0, &body);
    socket.run(&batch)
}

/// Those whose name was taken, and that are still there.
pub(crate) fn disowned(socket: &Socket) -> Result<Vec<u32>> {
    let all = socket.ask("RTM_GETLINK", GETLINK, DUMP, &head(0, false))?;
    let old = |link: &Vec<u8>| {
        let name = find(link.get(16..)?, IFNAME)?;
        text(name).starts_with(GOING).then(|| number(link, 4)).flatten()
    };
    Ok(all.iter().filter_map(old).collect())
}

/// Take devices away beside ourselves: whoever has started us does not wait for it.
pub(crate) fn remove_beside(all: &[u32]) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    match process::clone(0, None)? {
        Cloned::Parent { .. } => Ok(()),
        Cloned::Child => {
            // A caller may wait for the end of our output; and a key for its group is not meant for this.
            let _ = nix::unistd::setsid();
            if let Ok(socket) = Socket::route() {
                let _ = process::close_all_but(0, &[socket.as_raw_fd()]);
                let _ = all.iter().try_for_each(|index| remove(&socket, *index));
            }
            process::exit_now(0)
        }
    }
}

/// Take a device away. It need not be there.
pub(crate) fn remove(socket: &Socket, index: u32) -> Result<()> {
    let body = head(index, false);
    let mut batch = Batch::default();
    batch.add("RTM_DELLINK", DELLINK, 0, &body);
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(()),
        other => other.context(|| format!("remove the network device {index}")),
    }
}
