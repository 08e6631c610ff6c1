//! The random seed: what the kernel's generator begins with is carried from one run of the machine to the next.

use super::settings::Settings;
use crate::sys::{self, Errno, machine};
use crate::text::{Path, cut};

const BYTES: usize = 512;
/// Magic numbers of file systems in memory, statfs(2).
const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// The file: on the data partition where there is one, else in /var/lib/coracle. None where that is in memory.
fn path(settings: &Settings) -> Option<Path> {
    let data = settings.get(b"data").and_then(|data| cut(data.to_bytes(), b':'));
    let mut path = Path::new(data.map_or(b"/var/lib/coracle", |(_, place)| place));
    let kind = machine::file_system(path.c()).ok()?;
    (!MEMORY.contains(&kind)).then(|| {
        path.text(b"/random-seed");
        path
    })
}

/// Credit the seed, once: it is written anew before it counts, for a machine whose power is cut must not begin with
/// the same numbers twice.
pub(crate) fn load(settings: &Settings) {
    let Some(path) = path(settings) else { return };
    let mut seed = [0; BYTES];
    let Ok(file) = sys::open(path.c(), libc::O_RDWR) else { return };
    let whole = machine::read_at(file, &mut seed, 0) == Ok(BYTES);
    if whole && let Ok(generator) = sys::open(c"/dev/urandom", libc::O_RDWR) {
        // Mixed in without being counted, what is drawn next depends on it.
        sys::write(generator, &seed);
        if renew(file).is_ok() {
            let _ = machine::add_entropy(generator, &seed);
        }
        sys::close(generator);
    }
    sys::close(file);
}

/// Write one for the next time.
pub(crate) fn save(settings: &Settings) {
    let Some(path) = path(settings) else { return };
    let flags = libc::O_WRONLY | libc::O_CREAT;
    if let Ok(file) = machine::open_at(libc::AT_FDCWD, path.c(), flags, 0o600) {
        let _ = renew(file);
        sys::close(file);
    }
}

fn renew(file: i32) -> Result<(), Errno> {
    let mut seed = [0; BYTES];
    // Not getrandom(2): that would wait for what the seed is to bring.
    let generator = sys::open(c"/dev/urandom", libc::O_RDONLY)?;
    let drawn = sys::read(generator, &mut seed);
    sys::close(generator);
    if drawn? < BYTES {
        return Err(Errno(libc::EIO));
    }
    machine::write_at(file, &seed, 0)?;
    machine::fsync(file)
}
