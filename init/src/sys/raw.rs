//! The system call itself: the instruction where it is known here, the C library's function elsewhere. With the
//! instruction there is no errno, so nothing of the C library has to be set up.

use core::ffi::{c_int, c_long};

use super::Errno;

/// Calls by name. Where a machine of 32 bits has another call in the place of one, that is it.
pub(super) mod numbers {
    pub(crate) use libc::*;

    /// Its last argument counts pages, and is 0 here.
    #[cfg(target_arch = "arm")]
    #[allow(non_upper_case_globals)]
    pub(crate) const SYS_mmap: c_long = SYS_mmap2;
}

/// What a call of this many arguments returns: the kernel's answer, where -4095 to -1 are errors.
macro_rules! functions {
    ($($name:ident($($argument:ident $x86:tt $arm:tt),*))*) => { $(
        /// # Safety
        /// As the call has it: pointers lead to memory that outlives it and is as large as it expects.
        #[inline(always)]
        #[allow(clippy::too_many_arguments)]
        pub(super) unsafe fn $name(number: c_long, $($argument: c_long),*) -> c_long {
            #[cfg(target_arch = "x86_64")]
            {
                let answer;
                // SAFETY: the registers are those of syscall(2), which tells also what the kernel overwrites; the rest
                // is the caller's promise.
                unsafe {
                    core::arch::asm!("syscall", inlateout("rax") number => answer, $(in($x86) $argument,)*
                        lateout("rcx") _, lateout("r11") _, options(nostack));
                }
                answer
            }
            #[cfg(target_arch = "aarch64")]
            {
                functions!(@arm number $($argument $arm)*)
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                // SAFETY: the caller's promise; the location of errno is valid for as long as the thread lives.
                unsafe {
                    match libc::syscall(number, $($argument),*) {
                        -1 => -c_long::from(*libc::__errno_location()),
                        answer => answer,
                    }
                }
            }
        }
    )* };
    (@arm $number:ident $first:ident $register:tt $($argument:ident $arm:tt)*) => {{
        let answer;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("svc 0", in("x8") $number, inlateout("x0") $first => answer, $(in($arm) $argument,)*
                options(nostack));
        }
        answer
    }};
}

functions! {
    call1(a "rdi" "x0")
    call2(a "rdi" "x0", b "rsi" "x1")
    call3(a "rdi" "x0", b "rsi" "x1", c "rdx" "x2")
    call4(a "rdi" "x0", b "rsi" "x1", c "rdx" "x2", d "r10" "x3")
    call5(a "rdi" "x0", b "rsi" "x1", c "rdx" "x2", d "r10" "x3", e "r8" "x4")
    call6(a "rdi" "x0", b "rsi" "x1", c "rdx" "x2", d "r10" "x3", e "r8" "x4", f "r9" "x5")
}

/// The answer of a call whose answers are small: descriptors, process ids, counts.
#[inline(never)]
pub(super) fn check(answer: c_long) -> Result<c_int, Errno> {
    if (-4095..0).contains(&answer) { Err(Errno(-answer as c_int)) } else { Ok(answer as c_int) }
}

/// The answer of a call that returns no number.
#[inline(never)]
pub(super) fn done(answer: c_long) -> Result<(), Errno> {
    check(answer).map(drop)
}

/// The answer of a call that returns a size or an address.
pub(super) fn check_long(answer: c_long) -> Result<c_long, Errno> {
    check(answer).map(|_| answer)
}
