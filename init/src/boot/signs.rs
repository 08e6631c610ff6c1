//! Signs of life both ways: the power button, which is pressed by people, and the watchdog, which is told that all is
//! well.

use super::fault::Fault;
use crate::directory::each_name;
use crate::sys::{self, machine};
use crate::text::Path;

/// How many there may be.
pub(crate) const BUTTONS: usize = 4;
/// linux/input-event-codes.h.
const KEY_POWER: u16 = 116;
const EV_KEY: u16 = 1;

/// What is open of them.
pub(crate) struct Signs {
    buttons: [Option<i32>; BUTTONS],
    watchdog: Option<i32>,
    /// How often the watchdog is told, and when next, in microseconds.
    every: u64,
    next: u64,
}

impl Signs {
    /// Open them; a watchdog of so many seconds, or none when 0.
    pub(crate) fn open(seconds: u32) -> Self {
        let mut signs = Self { buttons: [None; BUTTONS], watchdog: None, every: 0, next: 0 };
        each_name(c"/dev/input", &mut |name| {
            if name.to_bytes().starts_with(b"event") {
                signs.add_button(Path::new(b"/dev/input/").text(name.to_bytes()));
            }
        });
        if seconds > 0 {
            signs.start_watchdog(seconds);
        }
        signs
    }

    fn add_button(&mut self, path: &Path) {
        let Some(free) = self.buttons.iter_mut().find(|slot| slot.is_none()) else { return };
        let Ok(fd) = sys::open(path.c(), libc::O_RDONLY | libc::O_NONBLOCK) else { return };
        if machine::has_key(fd, KEY_POWER) {
            *free = Some(fd);
        } else {
            sys::close(fd);
        }
    }

    fn start_watchdog(&mut self, seconds: u32) {
        let started = sys::open(c"/dev/watchdog", libc::O_WRONLY).and_then(|fd| {
            self.watchdog = Some(fd);
            self.every = u64::from(seconds) * 500_000;
            machine::set_watchdog(fd, seconds)
        });
        if let Err(errno) = started {
            Fault::new(b"start", b"/dev/watchdog", errno).warn();
        }
    }

    /// The buttons' descriptors.
    pub(crate) fn buttons(&self) -> impl Iterator<Item = Option<i32>> {
        self.buttons.into_iter()
    }

    /// When the watchdog is to be told, in microseconds; 0 is never.
    pub(crate) fn due(&self) -> u64 {
        if self.watchdog.is_some() { self.next.max(1) } else { 0 }
    }

    /// Tell the watchdog, if it is time.
    pub(crate) fn pet(&mut self) {
        let now = sys::now();
        if let Some(fd) = self.watchdog.filter(|_| now >= self.next) {
            sys::write(fd, b"w");
            self.next = now + self.every;
        }
    }

    /// Whether one of the buttons, of which these can be read, was pressed.
    pub(crate) fn is_pressed(&self, readable: &mut dyn Iterator<Item = bool>) -> bool {
        let mut pressed = false;
        for (button, readable) in self.buttons.iter().flatten().zip(readable) {
            // struct input_event: a time of two words, then type, code and value.
            let mut events = [0; 24 * 8];
            let count = if readable { sys::read(*button, &mut events).unwrap_or(0) } else { 0 };
            let events = events.get(..count).unwrap_or_default();
            let size = size_of::<[usize; 2]>() + 8;
            for event in events.chunks_exact(size) {
                if let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event {
                    pressed |= u16::from_ne_bytes([t0, t1]) == EV_KEY
                        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
                        && i32::from_ne_bytes([v0, v1, v2, v3]) == 1;
                }
            }
        }
        pressed
    }
}
