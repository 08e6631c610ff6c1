//! Where the program begins: with what the kernel put on the stack. In release builds for musl that is here, for no
//! function that is used of the C library needs it to be set up, which costs two system calls and a kilobyte; elsewhere
//! the C runtime comes first and calls `main`.

use core::ffi::{c_char, c_int};

use super::{Argv, Env, exit};

/// What the C runtime calls.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(any(test, bare), expect(dead_code, reason = "nobody calls it"))]
extern "C" fn main(count: c_int, words: *const *const c_char, entries: *mut *mut c_char) -> c_int {
    begin(count, words, entries)
}

fn begin(count: c_int, words: *const *const c_char, entries: *mut *mut c_char) -> ! {
    let argv = Argv { words, count: usize::try_from(count).unwrap_or(0) };
    exit(crate::run(argv, Env { entries }))
}

#[cfg(all(bare, target_arch = "x86_64"))]
core::arch::global_asm!(
    ".globl _coracle_start",
    "_coracle_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {}",
    "ud2",
    sym from_stack
);

#[cfg(all(bare, target_arch = "aarch64"))]
core::arch::global_asm!(
    ".globl _coracle_start",
    "_coracle_start:",
    "mov x29, #0",
    "mov x0, sp",
    "bl {}",
    "udf #0",
    sym from_stack
);

/// The stack begins with the number of words, the words, a null, the environment, a null.
#[cfg(bare)]
extern "C" fn from_stack(stack: *mut usize) -> ! {
    // SAFETY: the kernel lays the initial stack out so (System V ABI, Process Initialization), and it lives as long as the
    // process.
    let (count, words, entries) = unsafe {
        let count = *stack;
        (count, stack.add(1).cast(), stack.add(count + 2).cast())
    };
    begin(count as c_int, words, entries)
}
