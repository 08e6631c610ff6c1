//! Architectures: what Debian calls those of images, and whether this machine can run programs of another.

use std::path::Path;

use coracle_store::image::Platform;
use coracle_sys::{Error, Result};

/// Image's name and variant, Debian's name, qemu's name.
const NAMES: &[(&str, &str, &str, &str)] = &[
    ("amd64", "", "amd64", "x86_64"),
    ("386", "", "i386", "i386"),
    ("arm64", "", "arm64", "aarch64"),
    ("arm", "v7", "armhf", "arm"),
    ("arm", "v5", "armel", "arm"),
    ("ppc64le", "", "ppc64el", "ppc64le"),
    ("riscv64", "", "riscv64", "riscv64"),
    ("s390x", "", "s390x", "s390x"),
    ("loong64", "", "loong64", "loongarch64"),
    ("mips64le", "", "mips64el", "mips64el"),
];

/// Debian's name of an image's architecture.
pub(crate) fn debian(platform: &Platform) -> Result<&'static str> {
    let variant = platform.variant.as_deref().unwrap_or_default();
    let row = NAMES.iter().find(|(name, of, _, _)| {
        *name == platform.architecture && (of.is_empty() || variant.is_empty() || *of == variant)
    });
    match row.filter(|_| platform.os == "linux") {
        Some((_, _, debian, _)) => Ok(debian),
        None => Err(Error::unsupported(format!("compose for {platform}: Debian has no such architecture"))),
    }
}

/// Can programs of this architecture run here, by themselves or by an emulator that the kernel calls?
pub(crate) fn check(architecture: &str) -> Result<()> {
    let own = debian(&Platform::host())?;
    let by_itself = own == architecture || (own, architecture) == ("amd64", "i386");
    let qemu = NAMES.iter().find(|(_, _, debian, _)| *debian == architecture).map_or("", |row| row.3);
    // `F`: the kernel has opened the emulator already, so that the container need not have it.
    let called = |name: String| {
        let said =
            std::fs::read_to_string(Path::new("/proc/sys/fs/binfmt_misc").join(name)).unwrap_or_default();
        said.starts_with("enabled")
            && said.lines().any(|l| l.strip_prefix("flags:").is_some_and(|f| f.contains('F')))
    };
    if by_itself || called(format!("qemu-{qemu}")) {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "configure the packages: programs of {architecture} do not run here, for no emulator is registered \
         (qemu-user-static brings one), or configure = false"
    )))
}
