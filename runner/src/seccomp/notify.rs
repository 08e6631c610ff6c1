//! `SCMP_ACT_NOTIFY`: the kernel asks a process outside what becomes of a call. That process gets a descriptor
//! to hear it by, over the socket that the profile names, before the command runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use coracle_sys::{Context, Error, Kind, Result};
use serde_json::{Value, json};

use super::{Program, sys};
use crate::console::Console;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The socket.
    pub path: PathBuf,
    /// What goes with it, for the one who is asked to know by.
    pub metadata: String,
    /// The container's state, without its pid.
    pub state: Value,
}

impl Notify {
    /// Hand over the descriptor of a process.
    pub(crate) fn send(&self, listener: &OwnedFd, pid: i32) -> Result<()> {
        let mut state = self.state.clone();
        state["pid"] = pid.into();
        let text = json!({
            "ociVersion": crate::spec::VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": state,
        });
        let text = text.to_string();
        let socket = Console::connect(&self.path, "linux.seccomp.listenerPath")?;
        socket.send(listener.as_fd(), &text).context(|| "linux.seccomp.listenerPath")
    }
}

const NOT_YET: i32 = -1;
const GIVEN: i32 = -2;
const REFUSED: i32 = -3;

/// Install the filter and have `give` hand the listener over. Every call from then on may be one that is
/// asked about, with nobody there to answer: a thread without the filter does it, and this one makes no
/// call until that is done. The exec ends the thread.
pub(super) fn install(program: &Program, give: impl FnOnce(OwnedFd) -> bool + Send + 'static) -> Result<()> {
    // A few frames.
    const STACK: usize = 64 << 10;
    let ours = Arc::new(AtomicI32::new(NOT_YET));
    let theirs = ours.clone();
    let hand_over = move || {
        let number = loop {
            match theirs.load(Ordering::SeqCst) {
                NOT_YET => std::thread::sleep(Duration::from_micros(50)),
                REFUSED => return,
                number => break number,
            }
        };
        let given = give(sys::adopt(number));
        theirs.store(if given { GIVEN } else { REFUSED }, Ordering::SeqCst);
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(hand_over);
    let thread = thread.context(|| "clone(CLONE_THREAD)").context(|| "make what hands the listener over")?;
    // All threads are this one and that: the flag would put the filter on both.
    let flags = program.flags & !libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let number = sys::install(&program.code, flags).inspect_err(|_| ours.store(REFUSED, Ordering::SeqCst))?;
    ours.store(number, Ordering::SeqCst);
    while ours.load(Ordering::SeqCst) == number {
        std::hint::spin_loop();
    }
    std::mem::forget(thread);
    match ours.load(Ordering::SeqCst) {
        GIVEN => Ok(()),
        _ => Err(Error::new(Kind::System, "the runner is gone")),
    }
}
