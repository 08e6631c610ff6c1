//! The machine's PID 1: boot.conf, services' files and the kernel's command line, and what disks say of themselves.
//!
//! init brings its own `main`, so nothing links it; its parsers are files that lean on nothing.

#[path = "../../init/src/bytes.rs"]
mod bytes;
#[allow(dead_code)]
#[path = "../../init/src/boot/entries.rs"]
mod entries;
#[allow(dead_code)]
#[path = "../../init/src/boot/gpt.rs"]
mod gpt;
#[allow(dead_code)]
#[path = "../../init/src/boot/superblock.rs"]
mod superblock;

/// Keys and values of entries, each value without its NUL.
fn all(mut entries: entries::Entries<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((key, value)) = entries.next() {
        let (last, value) = value.split_last().expect("a NUL");
        assert!(*last == 0 && !value.contains(&0) && !key.contains(&b'='));
        found.push((key.to_vec(), value.to_vec()));
    }
    found
}

/// Lines are read or refused by their number. What was read and is written again is the same.
pub fn lines(data: &[u8]) {
    let mut text = [data, &[0]].concat();
    let read = match entries::lines(&mut text) {
        Ok(read) => all(read),
        Err(refusal) => {
            assert!((1..=data.split(|byte| *byte == b'\n').count()).contains(&refusal.line));
            return assert!(!refusal.why.is_empty());
        }
    };
    let mut again = Vec::new();
    for (key, value) in &read {
        again.extend_from_slice(key);
        again.push(b'=');
        for byte in value {
            match byte {
                b'\\' => again.extend_from_slice(b"\\\\"),
                b'\n' => again.extend_from_slice(b"\\n"),
                byte => again.push(*byte),
            }
        }
        again.push(b'\n');
    }
    again.push(0);
    assert_eq!(entries::lines(&mut again).map(all), Ok(read));
}

/// Of a command line those words are kept that have the prefix, which is taken off.
pub fn words(data: &[u8]) {
    let read =
        |prefix: &[u8]| entries::words(&mut [data, &[0]].concat(), prefix).map(all).map_err(<[u8]>::to_vec);
    let (every, ours) = match (read(b""), read(b"init.")) {
        (Ok(every), Ok(ours)) => (every, ours),
        // Whoever's word it is that does not end.
        refused => return assert!(matches!(&refused, (Err(a), Err(b)) if a == b), "{refused:?}"),
    };
    let count = every.iter().filter(|(key, value)| {
        let word = [&key[..], if value.is_empty() { b"" } else { b"=" }, value].concat();
        word.starts_with(b"init.") && word.len() > b"init.".len()
    });
    // A word that ends with its `=` looks like one that has none, so of those there may be one more.
    assert!(ours.len() >= count.count() && ours.len() <= every.len());
}

/// The beginning of a disk: a superblock, or the header of a table of partitions with an entry.
pub fn disk(data: &[u8]) {
    let part = |at: usize, size: usize| -> Vec<u8> {
        (at..at + size).map(|at| data.get(at).copied().unwrap_or(0)).collect()
    };
    let bytes: [u8; superblock::SIZE] = part(0, superblock::SIZE).try_into().expect("its size");
    if let Some(found) = superblock::Superblock::read(&bytes) {
        assert!(found.label.len() <= 16 && !found.label.contains(&0) && !found.has_uuid(b""));
    }
    let mut header: [u8; gpt::HEADER] = part(512, gpt::HEADER).try_into().expect("its size");
    if let Some(read) = gpt::Header::read(&header) {
        read.write(&mut header);
        assert_eq!(gpt::Header::read(&header), Some(read));
    }
    let entry = part(1024, gpt::ENTRY);
    assert!(!gpt::Entry(&entry).has_name(b"") && !gpt::Entry(&entry).has_uuid(b""));
    gpt::is_mbr_id(&bytes[..512], 1, data.get(..11).unwrap_or_default());
}

pub(crate) mod seeds {
    pub(crate) fn lines() -> Vec<Vec<u8>> {
        let conf =
            "# a machine\narg=sh\narg=-c\narg=echo \\\\a\\nb\nenv=A=b c\nhostname=x\nuser=1:2\n\ntty=1\n";
        let service =
            "command=/bin/x\nafter=a\nrestart=always\nready=fd:3\nlog=/var/log/x:64k\nstop-signal=INT\n";
        vec![conf.into(), service.into(), b"a=".to_vec()]
    }

    pub(crate) fn words() -> Vec<Vec<u8>> {
        let line =
            "quiet root=UUID=a-b ro init.arg=\"a b\" \"init.env=A=b c\" init.tty=1 init. console=ttyS0\n";
        vec![line.into(), b"init.a init.b= x\ty".to_vec()]
    }

    pub(crate) fn disks() -> Vec<Vec<u8>> {
        let image = |parts: &[(usize, &[u8])]| {
            let mut bytes = vec![0; 2048];
            parts.iter().for_each(|(at, part)| bytes[*at..*at + part.len()].copy_from_slice(part));
            bytes
        };
        let mut header = [0; super::gpt::HEADER];
        header[..8].copy_from_slice(b"EFI PART");
        (header[12], header[80], header[84]) = (92, 128, 128);
        super::gpt::Header { own: 1, other: 99, last_usable: 66, entries: 2, count: 128, checksum: 7 }
            .write(&mut header);
        vec![
            image(&[(1080, &[0x53, 0xEF]), (1144, b"root")]),
            image(&[(1024, &[0xE2, 0xE1, 0xF5, 0xE0])]),
            image(&[(82, b"FAT32   "), (71, b"EFI        ")]),
            image(&[(510, &[0x55, 0xAA]), (512, &header), (1024, &[1; 32]), (1080, b"d\0a\0t\0a\0")]),
        ]
    }
}
