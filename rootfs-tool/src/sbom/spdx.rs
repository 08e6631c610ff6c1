//! An inventory as an SPDX document, version 2.3, in JSON. It says the same each time: its time is the image's, its
//! namespace is made of the image's digest, and everything in it has an order.

use std::collections::BTreeSet;

use coracle_store::{Digest, Image};
use coracle_sys::time;
use serde_json::{Map, Value, json};

use super::{Found, Inventory, Kind, license};

const NONE: &str = "NOASSERTION";

/// The document. `when` is SOURCE_DATE_EPOCH, where that is set.
pub fn document(image: &Image, inventory: &Inventory, when: Option<i64>) -> Value {
    let own = image.config.created.as_deref().and_then(time::parse);
    let created = time::rfc3339(when.or(own).unwrap_or(0).clamp(0, LAST));
    let id = image.manifest_digest;
    let name = image.name.clone().unwrap_or_else(|| id.to_string());
    let mut packages = vec![root(image, &name)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    for (n, diff_id) in image.diff_ids().iter().enumerate() {
        packages.push(layer(n, diff_id));
        relations.push(relation(IMAGE, "CONTAINS", &layer_id(n)));
    }
    let mut own_names: BTreeSet<&str> = BTreeSet::new();
    for found in &inventory.packages {
        let purl = purl(found, &inventory.distribution);
        let id = format!(
            "SPDXRef-Package-{}-{}",
            plain(&found.package.name),
            &Digest::of(purl.as_bytes()).hex()[..12]
        );
        relations.push(relation(&layer_id(found.layer), "CONTAINS", &id));
        packages.push(package(found, &id, &purl));
        own_names.extend(license::references(&found.package.license));
    }
    let mut out = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", plain(&name), id.hex()),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: rootfs-tool-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relations,
    });
    if !own_names.is_empty() {
        let said = |id: &&str| {
            let name = &id["LicenseRef-".len()..];
            json!({"licenseId": id, "name": name, "extractedText": format!("What the packages call {name}.")})
        };
        out["hasExtractedLicensingInfos"] = own_names.iter().map(said).collect();
    }
    out
}

/// The last second of the year 9999: SPDX has four digits for a year.
const LAST: i64 = 253_402_300_799;
const IMAGE: &str = "SPDXRef-Image";

fn layer_id(n: usize) -> String {
    format!("SPDXRef-Layer-{}", n + 1)
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn sum(digest: &Digest) -> Value {
    json!([{"algorithm": "SHA256", "checksumValue": digest.hex()}])
}

/// Of what nothing is known but what is added.
fn bare(id: &str, name: &str) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in [
        ("SPDXID", id),
        ("name", name),
        ("downloadLocation", NONE),
        ("licenseConcluded", NONE),
        ("licenseDeclared", NONE),
        ("copyrightText", NONE),
    ] {
        out.insert(key.into(), value.into());
    }
    out.insert("filesAnalyzed".into(), false.into());
    out
}

fn root(image: &Image, name: &str) -> Value {
    let mut out = bare(IMAGE, name);
    out.insert("versionInfo".into(), image.manifest_digest.to_string().into());
    out.insert("primaryPackagePurpose".into(), "CONTAINER".into());
    out.insert("checksums".into(), sum(&image.manifest_digest));
    let tail = name.rsplit('/').next().unwrap_or(name);
    let tail = tail.split([':', '@']).next().unwrap_or(tail);
    let locator = format!(
        "pkg:oci/{}@{}?arch={}",
        encoded(tail),
        image.manifest_digest.to_string().replace(':', "%3A"),
        encoded(&image.config.architecture)
    );
    out.insert("externalRefs".into(), purl_reference(&locator));
    Value::Object(out)
}

fn layer(n: usize, diff_id: &Digest) -> Value {
    let mut out = bare(&layer_id(n), &diff_id.to_string());
    out.insert("comment".into(), format!("layer {} of the image, by its diff id", n + 1).into());
    out.insert("checksums".into(), sum(diff_id));
    Value::Object(out)
}

fn package(found: &Found, id: &str, purl: &str) -> Value {
    let package = &found.package;
    let mut out = bare(id, &package.name);
    out.insert("versionInfo".into(), package.version.clone().into());
    if !package.license.is_empty() {
        out.insert("licenseDeclared".into(), package.license.clone().into());
    }
    if !package.source.is_empty() {
        out.insert("sourceInfo".into(), format!("built from the source package {}", package.source).into());
    }
    if let Some(who) = person(&package.maintainer) {
        out.insert("originator".into(), who.into());
    }
    let web = ["https://", "http://"].iter().any(|scheme| package.homepage.starts_with(scheme));
    if web && package.homepage.chars().all(|c| c.is_ascii_graphic()) {
        out.insert("homepage".into(), package.homepage.clone().into());
    }
    if !package.summary.is_empty() {
        out.insert("summary".into(), package.summary.clone().into());
    }
    out.insert("externalRefs".into(), purl_reference(purl));
    Value::Object(out)
}

fn purl_reference(locator: &str) -> Value {
    json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}])
}

/// `NAME <ADDRESS>` as SPDX writes it.
fn person(text: &str) -> Option<String> {
    let (name, rest) = text.split_once('<').unwrap_or((text, ""));
    let (name, address) = (name.trim(), rest.trim_end().trim_end_matches('>'));
    let clean = |text: &str| !text.contains(['(', ')', '<', '>']);
    match (name, address) {
        ("", _) => None,
        (name, _) if !clean(name) || !clean(address) => None,
        (name, "") => Some(format!("Person: {name}")),
        (name, address) => Some(format!("Person: {name} ({address})")),
    }
}

/// A package's URL: what databases of faults look it up by.
pub(super) fn purl(found: &Found, distribution: &(String, String)) -> String {
    let package = &found.package;
    let (kind, usual) = match found.kind {
        Kind::Deb => ("deb", "debian"),
        Kind::Apk => ("apk", "alpine"),
    };
    let (id, version) = distribution;
    let id = if id.is_empty() { usual } else { id };
    let mut out = format!(
        "pkg:{kind}/{}/{}@{}?arch={}",
        encoded(&id.to_ascii_lowercase()),
        encoded(&package.name.to_ascii_lowercase()),
        encoded(&package.version),
        encoded(&package.arch)
    );
    if !version.is_empty() {
        out += &format!("&distro={}", encoded(&format!("{id}-{version}")));
    }
    out
}

/// With everything escaped that has a meaning in a URL.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(b))
            }
            _ => out += &format!("%{b:02X}"),
        }
    }
    out
}

/// Of the characters that an identifier may have.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::Package;

    #[test]
    fn urls_of_packages_name_distribution_and_machine_and_escape_the_rest() {
        let package = Package {
            name: "libstdc++6".into(),
            version: "1:12.2~rc1+b1".into(),
            arch: "amd64".into(),
            ..Package::default()
        };
        let found = Found { kind: Kind::Deb, package, layer: 0 };
        assert_eq!(
            purl(&found, &("debian".into(), "12".into())),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2~rc1%2Bb1?arch=amd64&distro=debian-12"
        );
        let found = Found { kind: Kind::Apk, ..found };
        assert!(purl(&found, &Default::default()).starts_with("pkg:apk/alpine/libstdc%2B%2B6@"));
    }

    #[test]
    fn who_maintains_a_package_is_written_as_spdx_has_it() {
        for (text, expected) in [
            ("A B <a@b>", Some("Person: A B (a@b)")),
            ("A B", Some("Person: A B")),
            ("A (x) <a@b>", None),
            ("", None),
        ] {
            assert_eq!(person(text).as_deref(), expected, "{text:?}");
        }
    }
}
