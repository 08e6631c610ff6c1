//! The stack of a program's first thread. It is as large as the caller's RLIMIT_STACK lets it become, and who sets that
//! low (`ulimit -s`) means the programs that they start, not a crash of the one that starts them.
#![allow(unsafe_code)] // a stack is entered by instructions

/// What a program of ours has enough of, in any build.
const ROOMY: usize = 8 << 20;

/// A limit from which on the first thread's own stack does.
const ENOUGH: u64 = 2 << 20;

/// Run a program's `main` with enough stack: the one it has, else one of its own. The limit itself stays what it is, for
/// those who inherit it. On an architecture for which nobody has written the few instructions it is the one it has.
pub fn roomy(main: fn() -> u8) -> u8 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for one rlimit, which outlives the call.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) } == 0;
    // One width on some architectures, another on others.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let small = told && (limit.rlim_cur as u64) < ENOUGH;
    if !small {
        return main();
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: a new mapping where the kernel likes; nothing is replaced.
    let bottom =
        unsafe { libc::mmap(std::ptr::null_mut(), ROOMY, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if bottom == libc::MAP_FAILED {
        return main();
    }
    // SAFETY: the lowest page of our own new mapping: whoever runs over the end meets it, and nothing else.
    unsafe { libc::mprotect(bottom, 4096, libc::PROT_NONE) };
    // SAFETY: `bottom` and the length are those of the mapping, which stays: the end is a multiple of 16.
    unsafe { switch::onto(bottom.cast::<u8>().add(ROOMY), main) }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod switch {
    use std::arch::asm;

    /// What is called on the other stack, and its answer.
    struct Call {
        main: fn() -> u8,
        answer: u8,
    }

    extern "C" fn call(it: &mut Call) {
        it.answer = (it.main)();
    }

    /// # Safety
    /// `top` is the end of memory that is a stack's, and a multiple of 16.
    pub(super) unsafe fn onto(top: *mut u8, main: fn() -> u8) -> u8 {
        let mut it = Call { main, answer: 0 };
        // SAFETY: the stack pointer is kept in a register that the callee preserves, and is put back; what else the call
        // may change is named. `call` does not unwind: with panic=abort nothing does, and extern "C" ends it elsewhere.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov r12, rsp", "mov rsp, {top}", "call {call}", "mov rsp, r12",
                top = in(reg) top, call = sym call, in("rdi") &raw mut it,
                out("r12") _, clobber_abi("C"),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "mov x20, sp", "mov sp, {top}", "bl {call}", "mov sp, x20",
                top = in(reg) top, call = sym call, in("x0") &raw mut it,
                out("x20") _, clobber_abi("C"),
            );
        }
        it.answer
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod switch {
    /// # Safety
    /// None is needed.
    pub(super) unsafe fn onto(_top: *mut u8, main: fn() -> u8) -> u8 {
        main()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep() -> u8 {
        fn down(n: u64) -> u64 {
            let room = std::hint::black_box([n; 512]);
            if n == 0 { room[7] } else { down(n - 1) + room[n as usize % 512] }
        }
        // Four megabytes of frames.
        let sum = down(1000);
        u8::try_from(sum % 251).unwrap()
    }

    #[test]
    fn a_call_on_another_stack_has_its_room_and_comes_back() {
        let want = (0..=1000u64).sum::<u64>() % 251;
        let mut memory = vec![0u128; (8 << 20) / 16];
        let top = memory.as_mut_ptr_range().end.cast::<u8>();
        // SAFETY: the end of a vector's memory that lives on, and its elements are 16 bytes each.
        assert_eq!(u64::from(unsafe { switch::onto(top, deep) }), want);
    }
}
