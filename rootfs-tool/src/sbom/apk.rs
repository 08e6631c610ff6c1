//! apk's database: `installed`, paragraphs of fields whose names are one letter.

use coracle_sys::{Error, Result};

use super::{Package, check_word, license, line};

/// The packages.
pub fn parse(text: &str) -> Result<Vec<Package>> {
    let mut out = Vec::new();
    let mut package = Package::default();
    let mut first = 0;
    for (n, row) in text.lines().chain([""]).enumerate() {
        if row.is_empty() {
            if first > 0 {
                let one = std::mem::take(&mut package);
                check(&one).map_err(|e| Error::invalid(format!("line {first}: {e}")))?;
                out.push(one);
            }
            first = 0;
            continue;
        }
        if first == 0 {
            first = n + 1;
        }
        let Some((name, value)) = row.split_once(':').filter(|(name, _)| name.len() == 1) else {
            return Err(Error::invalid(format!("line {}: it is no field", n + 1)));
        };
        match name {
            "P" => package.name = value.to_owned(),
            "V" => package.version = value.to_owned(),
            "A" => package.arch = value.to_owned(),
            "T" => package.summary = line(value),
            "U" => package.homepage = line(value),
            "L" => package.license = license::expression(value),
            "m" => package.maintainer = line(value),
            "o" => package.source = line(value),
            _ => {}
        }
    }
    Ok(out)
}

fn check(package: &Package) -> Result<()> {
    check_word("name of a package", &package.name)?;
    check_word("version", &package.version)?;
    check_word("architecture", &package.arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_of_letters_are_packages_and_what_is_wrong_is_said_with_its_line() {
        let text = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the libc\nL:MIT\no:musl\nF:lib\nR:ld.so\n\nP:b\nV:1\nA:x\n\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((&all[0].name[..], &all[0].license[..], &all[0].summary[..]), ("musl", "MIT", "the libc"));
        for (text, says) in
            [("P:a\nV:1\n", "line 1: \"\" is no architecture"), ("\nnonsense", "line 2: it is no field")]
        {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(says), "{text:?}: {e}");
        }
    }
}
