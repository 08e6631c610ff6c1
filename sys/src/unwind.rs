//! No walk over the stack of a program that panics. The binaries are stripped and keep no tables for unwinding, so
//! std's backtrace could not name a single frame; yet its readers of DWARF, of symbols and of compressed sections, and
//! the C unwinder below them, weigh a tenth of the runner. They hang on the functions here, which libunwind would
//! give. A panic prints its one line and aborts.
//!
//! Only builds that abort on panic have this: tests unwind, and have their backtraces. Only musl: glibc has uses of its
//! own for an unwinder. Only the machines whose binaries are linked here: 32-bit ARM unwinds by other names.

#![allow(unsafe_code)] // no_mangle: these names are looked up by std's precompiled code

use std::ffi::{c_int, c_void};
use std::process::abort;

/// `_URC_END_OF_STACK`: the walk is over.
const END_OF_STACK: c_int = 5;

/// The walk: there is no frame to call `_trace` for.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What std's own code refers to for the case that something unwinds. Nothing does, so none of these is ever called.
macro_rules! never {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            abort()
        }
    )* };
}

never! {
    _Unwind_GetDataRelBase _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart
    _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}
