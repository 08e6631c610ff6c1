//! Command lines and environments that are made here, not given by the kernel.

use core::ffi::{CStr, c_char};
use core::ptr::null;

use super::super::{Argv, Env, Errno};

/// How many words there may be.
pub(crate) const WORDS: usize = 3071;

/// Words as execve(2) takes them: pointers, the last of which is null.
pub(crate) struct Words {
    pointers: [*const c_char; WORDS + 1],
    count: usize,
}

impl Words {
    /// None.
    pub(crate) fn new() -> Self {
        Self { pointers: [null(); WORDS + 1], count: 0 }
    }

    /// One more. It lives as long as the program.
    #[inline(never)]
    pub(crate) fn push(&mut self, word: &'static CStr) -> Result<(), Errno> {
        let slot = self.pointers.get_mut(self.count).filter(|_| self.count < WORDS);
        *slot.ok_or(Errno(libc::E2BIG))? = word.as_ptr();
        self.count += 1;
        Ok(())
    }

    /// One more entry of an environment, in the place of one of the same name.
    pub(crate) fn set(&mut self, entry: &'static CStr) -> Result<(), Errno> {
        let name = entry.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        match self.env().slot(name) {
            // SAFETY: `slot` is an element of this object's array, which is not borrowed otherwise.
            Some((slot, _)) => unsafe { *slot = entry.as_ptr().cast_mut() },
            None => self.push(entry)?,
        }
        Ok(())
    }

    /// As a command line; it is this object that it points into.
    pub(crate) fn argv(&self) -> Argv {
        Argv { words: self.pointers.as_ptr(), count: self.count }
    }

    /// As an environment; it is this object that it points into.
    pub(crate) fn env(&mut self) -> Env {
        Env { entries: self.pointers.as_mut_ptr().cast() }
    }
}
