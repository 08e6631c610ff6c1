//! Directories, and small files of the kernel's own file systems.

use core::ffi::CStr;

use crate::sys;

/// Call `found` with every name in a directory, `.` and `..` left out. Nothing happens where there is no directory.
pub(crate) fn each_name(path: &CStr, found: &mut dyn FnMut(&CStr)) {
    if let Ok(directory) = sys::open(path, libc::O_RDONLY | libc::O_DIRECTORY) {
        each_name_in(directory, found);
        sys::close(directory);
    }
}

/// The same of an open directory.
pub(crate) fn each_name_in(directory: i32, found: &mut dyn FnMut(&CStr)) {
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = sys::read_directory(directory, &mut buffer) {
        let mut entries = buffer.get(..count).unwrap_or_default();
        // struct linux_dirent64: the record's length at 16, the name from 19 on.
        while let Some(&[low, high]) = entries.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([low, high])).min(entries.len());
            let (entry, rest) = entries.split_at(length);
            let name = sys::text_of(entry.get(19..).unwrap_or_default());
            if !matches!(name.to_bytes(), b"" | b"." | b"..") {
                found(name);
            }
            entries = rest;
        }
    }
}

/// The beginning of a file, without the newline at its end; nothing where there is no such file.
pub(crate) fn read_small<'a>(path: &CStr, buffer: &'a mut [u8]) -> &'a [u8] {
    let Ok(fd) = sys::open(path, libc::O_RDONLY) else { return b"" };
    let count = sys::read(fd, buffer).unwrap_or(0);
    sys::close(fd);
    trimmed(buffer.get(..count).unwrap_or_default())
}

/// Without blanks and line ends at its end.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !matches!(b, b' ' | b'\n' | b'\t' | 0)).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_at_the_end() {
        assert_eq!((trimmed(b" a b \n\0"), trimmed(b" \n")), (&b" a b"[..], &b""[..]));
    }

    #[test]
    fn every_name_is_found_once() {
        let mut names = Vec::new();
        each_name(c"/proc/self/ns", &mut |name| names.push(name.to_owned()));
        assert_eq!(names.iter().filter(|name| name.as_c_str() == c"pid").count(), 1);
        assert!(!names.iter().any(|name| name.as_c_str() == c"." || name.as_c_str() == c".."));
        each_name(c"/nowhere", &mut |name| panic!("{name:?}"));
        assert_eq!(read_small(c"/proc/self/comm", &mut [0; 4]), b"cora");
    }
}
