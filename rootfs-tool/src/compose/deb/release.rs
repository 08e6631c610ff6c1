//! Release: what a suite says of itself, and the sums of its indexes. Whether it may be believed is decided here too, but
//! for the signature.

use coracle_sys::{Error, Kind, Result};

use super::control;

/// What a Release says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// When it was made, in seconds since 1970.
    pub date: i64,
    /// Until when it counts.
    pub valid_until: Option<i64>,
    /// Its suite and its code name.
    pub names: Vec<String>,
    /// Who makes it.
    pub origin: String,
    /// Its indexes can be had by their sums.
    pub by_hash: bool,
    /// As apt's pins have it: 500, 100 for backports and 1 for what nobody gets without asking.
    pub priority: u16,
    /// The architectures that it has indexes for.
    pub architectures: Vec<String>,
    /// Packages for all architectures stand in an index of their own alone.
    pub separate_all: bool,
    /// Path, SHA-256 and size of each file.
    pub files: Vec<(String, String, u64)>,
}

impl Release {
    /// Read one.
    pub fn parse(text: &str) -> Result<Self> {
        let p = control::single(text)?;
        let date = |name: &str| {
            let value = p.get(name);
            let read = |v: &str| {
                parse_date(v).ok_or_else(|| Error::invalid(format!("its {name} is no date: {v:?}")))
            };
            value.map(read).transpose()
        };
        let words =
            |name: &str| p.get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let names = ["Suite", "Codename"].iter().filter_map(|n| p.get(n)).map(str::to_owned).collect();
        let mut files = Vec::new();
        for line in p.must("SHA256")?.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let [sum, size, path] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(Error::invalid(format!(
                    "a line of its SHA256 is no sum, size and path: {line:?}"
                )));
            };
            let size =
                size.parse().map_err(|_| Error::invalid(format!("the size of {path:?} is no number")))?;
            if !is_sum(sum) {
                return Err(Error::invalid(format!("the sum of {path:?} is none")));
            }
            files.push((path.to_owned(), sum.to_ascii_lowercase(), size));
        }
        Ok(Self {
            date: date("Date")?.ok_or_else(|| Error::invalid("it has no Date"))?,
            valid_until: date("Valid-Until")?,
            names,
            origin: p.get("Origin").unwrap_or_default().to_owned(),
            by_hash: p.says_yes("Acquire-By-Hash"),
            priority: match (p.says_yes("NotAutomatic"), p.says_yes("ButAutomaticUpgrades")) {
                (true, true) => 100,
                (true, false) => 1,
                _ => 500,
            },
            architectures: words("Architectures"),
            separate_all: p.get("No-Support-for-Architecture-all").is_some_and(|v| v.contains("Packages")),
            files,
        })
    }

    /// May it be used now, where one of `before` is known?
    pub fn check(&self, suite: &str, now: i64, check_valid_until: bool, before: Option<i64>) -> Result<()> {
        let denied = |why: String| Err(Error::new(Kind::Denied, why));
        let when = coracle_sys::time::rfc3339;
        let flat = suite.ends_with('/');
        // `bookworm/updates` of old calls itself by its first part.
        let base = suite.split('/').next().unwrap_or_default();
        if !flat && !self.names.is_empty() && !self.names.iter().any(|n| n == suite || n == base) {
            return denied(format!("it is that of {}, not of {suite}", self.names.join(", ")));
        }
        if let Some(before) = before.filter(|b| *b > self.date) {
            return denied(format!(
                "it is older ({}) than the one that was seen before ({}): somebody may be replaying it",
                when(self.date),
                when(before)
            ));
        }
        if !check_valid_until {
            return Ok(());
        }
        if self.date > now + 24 * 3600 {
            return denied(format!("it is from a time to come ({}): is the clock right?", when(self.date)));
        }
        match self.valid_until.filter(|until| *until < now) {
            Some(until) => {
                denied(format!("it has expired ({}): is the mirror kept up to date?", when(until)))
            }
            None => Ok(()),
        }
    }

    /// A file by its path, as it is or compressed, the smallest first: path, sum, size.
    pub fn index(&self, path: &str) -> Option<&(String, String, u64)> {
        ["xz", "zst", "gz", "bz2", ""].iter().find_map(|ending| {
            let wanted = if ending.is_empty() { path.to_owned() } else { format!("{path}.{ending}") };
            self.files.iter().find(|(p, _, _)| *p == wanted || p.strip_prefix("./") == Some(&wanted[..]))
        })
    }
}

/// Is it a SHA-256 in hexadecimal?
pub fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A date as RFC 2822 has it, in UTC: `Sat, 10 May 2025 09:53:06 UTC`.
pub fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let [day, month, year, time, zone] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    if !matches!(zone, "UTC" | "GMT" | "Z" | "+0000" | "-0000") || month.len() != 3 {
        return None;
    }
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
    let (year, day): (u16, u8) = (year.parse().ok()?, day.parse().ok()?);
    // An hour may be of one digit.
    let time = if time.len() == 7 { format!("0{time}") } else { time.to_owned() };
    coracle_sys::time::parse(&format!("{year:04}-{month:02}-{day:02}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(more: &str) -> String {
        let sum = "ab".repeat(32);
        format!(
            "Origin: X\nSuite: stable\nCodename: worm\nDate: Sat, 10 May 2025 09:53:06 UTC\n{more}Architectures: all amd64\n\
             SHA256:\n {sum} 7 main/binary-amd64/Packages.gz\n {sum} 9 main/binary-amd64/Packages\n"
        )
    }

    #[test]
    fn it_says_when_it_was_made_and_what_its_files_are() {
        let r = Release::parse(&text("NotAutomatic: yes\nAcquire-By-Hash: yes\n")).unwrap();
        assert_eq!((r.date, r.priority, r.by_hash, r.separate_all), (1_746_870_786, 1, true, false));
        assert_eq!(r.index("main/binary-amd64/Packages").unwrap().0, "main/binary-amd64/Packages.gz");
        assert!(r.index("main/binary-arm64/Packages").is_none());
        assert_eq!(parse_date("Mon, 01 Jan 2024 8:00:00 +0000"), Some(1_704_096_000));
        for bad in ["", "10 May 2025", "Sat, 10 Mai 2025 09:53:06 UTC", "Sat, 10 May 2025 09:53:06 CEST"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        for bad in
            ["Origin: X\n", "Date: x\nSHA256:\n", "SHA256:\n a b c\nDate: Sat, 10 May 2025 09:53:06 UTC\n"]
        {
            assert!(Release::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_that_is_old_or_of_another_suite_is_refused() {
        let r = Release::parse(&text("Valid-Until: Sat, 17 May 2025 09:53:06 UTC\n")).unwrap();
        let day = 24 * 3600;
        let check = |suite: &str, now, valid, before| match r.check(suite, now, valid, before) {
            Ok(()) => String::new(),
            Err(e) => e.to_string(),
        };
        for (suite, now, valid, before, says) in [
            ("stable", r.date, true, None, ""),
            ("worm", r.date + 7 * day, true, Some(r.date), ""),
            ("worm", r.date + 7 * day + 1, true, None, "expired"),
            ("worm", r.date + 70 * day, false, None, ""),
            ("worm", r.date - 2 * day, true, None, "to come"),
            ("sid", r.date, true, None, "not of sid"),
            ("stable", r.date, false, Some(r.date + 1), "older"),
            ("folder/", r.date, true, None, ""),
        ] {
            let said = check(suite, now, valid, before);
            assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{suite} {now}: {said}");
        }
    }
}
