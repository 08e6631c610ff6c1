//! CMD's streams where there are ports for them. A port can be opened once, but CMD may open /dev/stdout again: so it has
//! pipes, and what they hold is carried on here. Nothing waits: for who is slow, the loop does, beside all else.

use super::ports::Ports;
use super::waiting;
use crate::sys;
use crate::sys::machine::{self, PollFd};

/// No descriptor: poll(2) says nothing of it.
const NONE: i32 = -1;

/// For standard input, output and error: what is read from and written to, and CMD's end of the pipe.
pub(crate) struct Relays {
    ways: [(i32, i32); 3],
    theirs: [Option<i32>; 3],
}

impl Relays {
    /// None.
    pub(crate) const NONE: Self = Self { ways: [(NONE, NONE); 3], theirs: [None; 3] };

    /// Pipes for those ports that are there.
    pub(crate) fn to(ports: &Ports) -> Self {
        let mut relays = Self::NONE;
        let mut input = true;
        for ((way, theirs), port) in relays.ways.iter_mut().zip(&mut relays.theirs).zip(ports.streams()) {
            if let Some(port) = port
                && let Ok([read, write]) = machine::pipe(0)
            {
                (*way, *theirs) =
                    if input { ((port, write), Some(read)) } else { ((read, port), Some(write)) };
            }
            input = false;
        }
        relays
    }

    /// CMD's descriptors 0 to 2; the console where there is none.
    pub(crate) fn streams(&self) -> [Option<i32>; 3] {
        self.theirs
    }

    /// What is to be waited for: that there is something to read, and where there is, that it can be written.
    pub(crate) fn await_in(&self, slots: [&mut PollFd; 3]) {
        for (slot, (from, to)) in slots.into_iter().zip(self.ways) {
            (slot.fd, slot.events) = if holds(from) { (to, libc::POLLOUT) } else { (from, libc::POLLIN) };
        }
    }

    /// Carry as much of each as a pipe takes at once, if that can be done now.
    pub(crate) fn carry(&mut self) {
        let mut input = true;
        for way in &mut self.ways {
            if !carry(*way) {
                // Who reads finds the end of it, and who writes that nobody reads.
                sys::close(if input { way.1 } else { way.0 });
                *way = (NONE, NONE);
            }
            input = false;
        }
    }

    /// Carry what CMD has written before it ended, for so many milliseconds.
    pub(crate) fn drain(&mut self, millis: u32) {
        let _ = waiting::until(millis, &mut || {
            // A pipe's worth, before anybody sleeps.
            for _ in 0..16 {
                self.carry();
            }
            let [_, output, error] = self.ways;
            !holds(output.0) && !holds(error.0)
        });
    }
}

/// Whether there is something to read, if only the end.
fn holds(from: i32) -> bool {
    machine::poll_one(from, libc::POLLIN, 0) != 0
}

/// Whether it goes on.
fn carry((from, to): (i32, i32)) -> bool {
    let room = machine::poll_one(to, libc::POLLOUT, 0);
    if room & libc::POLLOUT == 0 || !holds(from) {
        return room & !libc::POLLOUT == 0;
    }
    // PIPE_BUF: where there is room at all there is room for that.
    let mut buffer = [0; 4096];
    let count = sys::read(from, &mut buffer).unwrap_or(0);
    count > 0 && machine::write_all(to, buffer.get(..count).unwrap_or_default()).is_ok()
}
