//! What users of docker and of QEMU type, and what it is called here.

use std::ffi::OsString;
use std::path::Path;

use coracle_sys::{Error, Result};

use crate::boot::qemu::quoted;

/// Their words, which begin each group, and the hint for all of it.
const HINTS: &[(&[&str], &str)] = &[
    (&["-smp", "--smp", "-c", "--cpu-shares", "--cpuset-cpus"], "processors are --cpus NUMBER"),
    (&["--name", "-name"], "a machine is called by its --hostname NAME"),
    (&["-P", "--publish-all"], "ports are named one by one, -p HOST:GUEST"),
    (
        &["-d", "--detach", "-daemonize"],
        "a machine runs as long as this program: a shell's & or a service puts both aside",
    ),
    (&["--mount", "--volumes-from", "-fsdev"], "a folder is shared by -v DIR:/TARGET[:ro]"),
    (
        &["--net", "-net", "-nic", "-netdev", "--ip"],
        "the network is --network user or none, with ports by -p HOST:GUEST",
    ),
    (&["--env-file"], "variables are -e NAME=VALUE"),
    (&["-append", "--append"], "words for the kernel are --cmdline WORDS"),
    (&["-kernel"], "it is --kernel FILE, with two dashes"),
    (&["-initrd", "--initrd"], "the initramfs is made of the image"),
    (
        &["-hda", "-drive", "--drive", "-cdrom", "-bios"],
        "disks are booted by qemu-system itself; an image needs none",
    ),
    (
        &["-nographic", "-display", "-serial"],
        "the console is here with -t, and on standard error with --console",
    ),
    (&["--enable-kvm", "-accel", "-cpu", "-M"], "it is --kvm auto, on or off"),
    (
        &["-device", "-object", "-chardev"],
        "the machine's devices are decided; --dry-run prints the emulator's command line, to go on from",
    ),
    (&["--platform", "--pull"], "the image is pulled before, with rootfs-tool pull"),
    (
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--device",
            "--gpus",
            "--read-only",
            "--restart",
            "--ulimit",
            "--pids-limit",
            "--link",
        ],
        "that is for containers: a machine has a kernel to itself",
    ),
];

/// The same error, or a better one where the flag that it does not know is one of these words, or a letter of it.
pub(crate) fn hinted(typed: &[OsString], error: Error) -> Error {
    let text = error.to_string();
    let Some(flag) = text.strip_prefix("unknown flag: ").and_then(|rest| rest.split(' ').next()) else {
        return error;
    };
    let letter = flag.strip_prefix('-').filter(|letter| letter.len() == 1);
    let is_it = |word: &&str| {
        *word == flag
            || letter.is_some_and(|l| word.starts_with('-') && !word.starts_with("--") && word.contains(l))
    };
    let word = typed.iter().filter_map(|word| word.to_str()?.split('=').next()).find(is_it);
    match word.and_then(|word| Some((word, HINTS.iter().find(|(words, _)| words.contains(&word))?.1))) {
        Some((word, hint)) => Error::flag(format!("unknown flag: {word}: {hint}")),
        None => error,
    }
}

/// No program is called like a flag: where nothing but the tail says what runs, its first word is one that was typed too late.
pub(super) fn refuse_late_flag(tail: &[OsString], entrypoint: bool) -> Result<()> {
    match tail.first() {
        Some(word) if !entrypoint && word.as_encoded_bytes().starts_with(b"-") => {
            let word = word.display();
            Err(Error::usage(format!(
                "{word} is behind the image, where the command stands: flags come before it"
            )))
        }
        _ => Ok(()),
    }
}

/// A file is not an image of the store: what boots it is told.
pub(super) fn refuse_file(image: &str) -> Result<()> {
    if !Path::new(image).is_file() {
        return Ok(());
    }
    let ends = |all: &[&str]| all.iter().any(|end| image.to_ascii_lowercase().ends_with(end));
    let how = if ends(&[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"]) {
        format!(
            "rootfs-tool load -i {0}, or rootfs-tool import {0} NAME, makes an image of it",
            quoted(image)
        )
    } else {
        // qemu-system(1): options end at a comma.
        let file = image.replace(',', ",,");
        let disk = match () {
            () if ends(&[".iso"]) => format!("-cdrom {}", quoted(image)),
            () if ends(&[".qcow2"]) => {
                format!("-drive {}", quoted(&format!("if=virtio,format=qcow2,file={file}")))
            }
            () => format!("-drive {}", quoted(&format!("if=virtio,format=raw,file={file}"))),
        };
        let firmware = "/usr/share/ovmf/OVMF.fd";
        format!("qemu-system-x86_64 -M q35,accel=kvm:tcg -m 1G -nographic -bios {firmware} {disk} boots it")
    };
    Err(Error::usage(format!("boot {image:?}: it is a file, and no image of the store: {how}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_has_two_hints_and_none_is_a_flag_of_boot() {
        let own: Vec<String> = <super::super::Boot as argh::ArgsInfo>::get_args_info()
            .flags
            .iter()
            .flat_map(|f| [Some(f.long.to_owned()), f.short.map(|c| format!("-{c}"))])
            .flatten()
            .collect();
        let mut all: Vec<&str> = HINTS.iter().flat_map(|(words, _)| *words).copied().collect();
        assert!(all.iter().all(|word| !own.iter().any(|o| o == word)), "{own:?}");
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
