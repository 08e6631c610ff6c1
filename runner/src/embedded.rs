//! The `init` that the runner carries. It is never looked up on the host, where PATH has another,
//! and the two never disagree in version.

/// The bytes of the static `init` program.
pub fn init_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/init"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_embedded_is_an_elf_program() {
        assert_eq!(super::init_image().get(..4), Some(&b"\x7fELF"[..]));
    }
}
