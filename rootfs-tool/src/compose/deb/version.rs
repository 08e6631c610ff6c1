//! Versions of Debian's packages, `[EPOCH:]UPSTREAM[-REVISION]`, and their order (deb-version(7)).

use std::cmp::Ordering;

use coracle_sys::{Error, Result};

/// Is it a version?
pub fn check(version: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::invalid(format!("{version:?} is no version: {why}")));
    let (epoch, upstream, revision) = split(version);
    if version.contains(':') && epoch.parse::<u32>().is_err() {
        return bad("its epoch is no number");
    }
    if !upstream.starts_with(|c: char| c.is_ascii_digit()) {
        return bad("it does not begin with a digit");
    }
    let sound =
        |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    if !sound(upstream, b".+-~:") || !sound(revision, b".+~") {
        return bad("there is a letter that versions do not have");
    }
    if version.ends_with('-') {
        return bad("its revision is empty");
    }
    Ok(())
}

/// Epoch, upstream version, revision.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Which of two versions is the newer? Texts that are no versions have an order too.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    numbers(a.0.as_bytes(), b.0.as_bytes())
        .then_with(|| parts(a.1.as_bytes(), b.1.as_bytes()))
        .then_with(|| parts(a.2.as_bytes(), b.2.as_bytes()))
}

/// Turn by turn what is no digit, by letters, and what is, by number.
fn parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (head_a, rest_a) = a.split_at(a.iter().position(u8::is_ascii_digit).unwrap_or(a.len()));
        let (head_b, rest_b) = b.split_at(b.iter().position(u8::is_ascii_digit).unwrap_or(b.len()));
        // One more than the longer: the end has a place in the order too.
        for n in 0..=head_a.len().max(head_b.len()) {
            let by = weight(head_a.get(n)).cmp(&weight(head_b.get(n)));
            if by != Ordering::Equal {
                return by;
            }
        }
        let digits = |t: &[u8]| t.iter().position(|b| !b.is_ascii_digit()).unwrap_or(t.len());
        let (number_a, rest_a) = rest_a.split_at(digits(rest_a));
        let (number_b, rest_b) = rest_b.split_at(digits(rest_b));
        match numbers(number_a, number_b) {
            Ordering::Equal => (a, b) = (rest_a, rest_b),
            other => return other,
        }
    }
    Ordering::Equal
}

/// A tilde is before the end, the end before letters, letters before all else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

/// Numbers of any length.
fn numbers(a: &[u8], b: &[u8]) -> Ordering {
    let bare = |t: &[u8]| t.iter().position(|b| *b != b'0').unwrap_or(t.len());
    let (a, b) = (&a[bare(a)..], &b[bare(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In order, and between two lines newer.
    const ASCENDING: &[&str] = &[
        "0~~",
        "0~",
        "0",
        "0+",
        "0.1~rc1-1",
        "0.1-1~deb12u1",
        "0.1-1",
        "0.1-1+b1",
        "0.1-1.1",
        "0.1-2",
        "0.1-10",
        "0.1a-1",
        "0.1+git-1",
        "0.1.1-1",
        "1.0~beta1~svn1245",
        "1.0~beta1",
        "1.0",
        "1.0-0.1",
        "1.0-1",
        "1.2.3",
        "1.2.10",
        "9",
        "10",
        "18446744073709551616",
        "18446744073709551617",
        "1:0",
        "2:0.1",
        "10:0",
    ];

    const EQUAL: &[(&str, &str)] =
        &[("1.0", "0:1.0"), ("1.00", "1.0"), ("1.0-0", "1.0"), ("01", "1"), ("1a0", "1a")];

    #[test]
    fn the_order_is_that_of_debian() {
        for (n, a) in ASCENDING.iter().enumerate() {
            for (m, b) in ASCENDING.iter().enumerate() {
                assert_eq!(compare(a, b), n.cmp(&m), "{a} {b}");
            }
        }
        EQUAL.iter().for_each(|(a, b)| assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}"));
    }

    #[test]
    fn dpkg_agrees_where_it_is_installed() {
        if std::process::Command::new("dpkg").arg("--version").output().is_err() {
            return;
        }
        let dpkg = |a: &str, op: &str, b: &str| {
            let status = std::process::Command::new("dpkg").args(["--compare-versions", a, op, b]).status();
            assert!(status.unwrap().success(), "{a} {op} {b}");
        };
        ASCENDING.windows(2).for_each(|pair| dpkg(pair[0], "lt", pair[1]));
        EQUAL.iter().for_each(|(a, b)| dpkg(a, "eq", b));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for good in ["1", "1:2.3-4", "1:2:3", "1-2-3", "2.36-9+deb12u14", "0~"] {
            check(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in ["", "a", "x:1", ":1", "1-", "1 2", "1_2", "1-ä", "-1", "99999999999:1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
