//! What is asked of devices by ioctl(2). The numbers are those of include/uapi/linux of the kernel, the same on every
//! machine that this is built for.

use core::ffi::{CStr, c_int, c_long};

use super::super::Errno;

/// A disk's or a partition's size in bytes.
pub(crate) fn device_size(fd: c_int) -> Result<u64, Errno> {
    // Its number has the size of a size_t in it.
    const BLKGETSIZE64: u32 = 0x8000_1272 | (size_of::<usize>() as u32) << 16;
    let mut size = 0u64;
    call!(SYS_ioctl, fd, BLKGETSIZE64, &raw mut size).map(|_| size)
}

/// The size of its sectors in bytes, which tables of partitions count in.
pub(crate) fn sector_size(fd: c_int) -> Result<u32, Errno> {
    const BLKSSZGET: c_long = 0x1268;
    let mut size: c_int = 0;
    call!(SYS_ioctl, fd, BLKSSZGET, &raw mut size).map(|_| size as u32)
}

/// Tell the kernel that a partition of this disk has grown: its number, and start and length in bytes.
pub(crate) fn resize_partition(disk: c_int, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    const BLKPG: c_long = 0x1269;
    const RESIZE: c_int = 3;
    // struct blkpg_partition: two numbers of 64 bits, one of 32, and two names of 64 bytes that are not used.
    let mut partition = [0u64; 19];
    for (slot, value) in partition.iter_mut().zip([start, length, u64::from(number)]) {
        *slot = value;
    }
    #[repr(C)]
    struct Argument {
        operation: c_int,
        flags: c_int,
        length: c_int,
        data: *const u64,
    }
    let argument = Argument { operation: RESIZE, flags: 0, length: 152, data: partition.as_ptr() };
    done!(SYS_ioctl, disk, BLKPG, &raw const argument)
}

/// Let the mounted ext4 that `fd` is in have so many blocks.
pub(crate) fn resize_ext4(fd: c_int, blocks: u64) -> Result<(), Errno> {
    const EXT4_IOC_RESIZE_FS: c_long = 0x4008_6610;
    done!(SYS_ioctl, fd, EXT4_IOC_RESIZE_FS, &raw const blocks)
}

/// Give the kernel's random generator a seed, and let it count every bit of it.
pub(crate) fn add_entropy(fd: c_int, seed: &[u8; 512]) -> Result<(), Errno> {
    const RNDADDENTROPY: c_long = 0x4008_5203;
    #[repr(C)]
    struct Pool {
        bits: c_int,
        size: c_int,
        bytes: [u8; 512],
    }
    let pool = Pool { bits: 512 * 8, size: 512, bytes: *seed };
    done!(SYS_ioctl, fd, RNDADDENTROPY, &raw const pool)
}

/// Let a watchdog wait for so many seconds.
pub(crate) fn set_watchdog(fd: c_int, seconds: u32) -> Result<(), Errno> {
    const WDIOC_SETTIMEOUT: u32 = 0xC004_5706;
    let seconds = seconds as c_int;
    done!(SYS_ioctl, fd, WDIOC_SETTIMEOUT, &raw const seconds)
}

/// Whether an input device has this key.
pub(crate) fn has_key(fd: c_int, key: u16) -> bool {
    // EVIOCGBIT(EV_KEY, 96): one bit for each key.
    const EVIOCGBIT_KEYS: u32 = 0x8060_4521;
    let mut bits = [0u8; 96];
    call!(SYS_ioctl, fd, EVIOCGBIT_KEYS, bits.as_mut_ptr()).is_ok()
        && bits.get(usize::from(key / 8)).is_some_and(|byte| byte >> (key % 8) & 1 == 1)
}

/// Let a terminal behave as people expect of one whose last user has left it in any state: lines, echo, keys that send
/// signals.
pub(crate) fn make_terminal_sane(fd: c_int) {
    // struct termios of the kernel: four words of flags, a line discipline, and at most 19 keys.
    let mut termios = [0u32; 16];
    if call!(SYS_ioctl, fd, libc::TCGETS, termios.as_mut_ptr()).is_err() {
        return;
    }
    let [input, output, control, local, ..] = &mut termios;
    *input = *input & !(libc::IGNBRK | libc::INLCR | libc::IGNCR) | libc::ICRNL | libc::IXON;
    *output |= libc::OPOST | libc::ONLCR;
    *control |= libc::CREAD;
    *local |=
        libc::ISIG | libc::ICANON | libc::IEXTEN | libc::ECHO | libc::ECHOE | libc::ECHOK | libc::ECHOCTL;
    let _ = call!(SYS_ioctl, fd, libc::TCSETS, termios.as_ptr());
    // A serial line has no size, which many programs do not expect: lines and columns.
    let mut size = [0u16; 4];
    if call!(SYS_ioctl, fd, libc::TIOCGWINSZ, size.as_mut_ptr()).is_ok() && size[0] == 0 {
        let _ = call!(SYS_ioctl, fd, libc::TIOCSWINSZ, [24u16, 80, 0, 0].as_ptr());
    }
}

/// The number of the terminal's end of a path such as /dev/ttyS0, opened without taking it.
pub(crate) fn open_terminal(path: &CStr) -> Result<c_int, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0).map(|fd| fd as c_int)
}
