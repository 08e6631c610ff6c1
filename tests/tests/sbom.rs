//! `rootfs-tool sbom`: what an image is made of, layer by layer, as an SPDX document that says the same each time.

use std::collections::BTreeSet;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need, shipped};
use serde_json::Value;

const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

fn busybox() -> Option<Image> {
    need(Privilege::Peer("busybox")).then(Image::busybox).flatten()
}

fn sbom(store: &Store, image: &str) -> Cmd {
    store.rootfs_tool().args(["sbom", image])
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

/// What every SPDX 2.3 document has to be, as far as this one goes; its packages by what they are called.
#[track_caller]
fn checked(output: &Output) -> Vec<Value> {
    let document = output.json();
    assert_eq!(text(&document, "spdxVersion"), "SPDX-2.3");
    assert_eq!(text(&document, "dataLicense"), "CC0-1.0");
    assert_eq!(text(&document, "SPDXID"), "SPDXRef-DOCUMENT");
    assert!(text(&document, "documentNamespace").starts_with("https://"));
    assert!(!text(&document, "documentNamespace").contains('#'));
    let created = text(&document["creationInfo"], "created");
    assert!(document["creationInfo"]["creators"][0].as_str().is_some_and(|who| who.starts_with("Tool: ")));
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
    let packages = document["packages"].as_array().expect("packages").clone();
    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    let own = document["hasExtractedLicensingInfos"].as_array().cloned().unwrap_or_default();
    for package in &packages {
        let id = text(package, "SPDXID");
        let tail = id.strip_prefix("SPDXRef-").expect("an id");
        assert!(tail.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'), "{id}");
        assert!(ids.insert(id), "{id} is there twice");
        assert!(!text(package, "name").is_empty());
        assert_eq!(text(package, "downloadLocation"), "NOASSERTION");
        assert_eq!(package["filesAnalyzed"], false);
        let license = text(package, "licenseDeclared");
        for word in license.split([' ', '(', ')']).filter(|w| w.starts_with("LicenseRef-")) {
            assert!(
                own.iter().any(|o| text(o, "licenseId") == word && !text(o, "extractedText").is_empty()),
                "{word}"
            );
        }
        for sum in package["checksums"].as_array().into_iter().flatten() {
            assert_eq!((text(sum, "algorithm"), text(sum, "checksumValue").len()), ("SHA256", 64));
        }
        for reference in package["externalRefs"].as_array().into_iter().flatten() {
            assert_eq!(text(reference, "referenceCategory"), "PACKAGE-MANAGER");
            assert!(text(reference, "referenceLocator").starts_with("pkg:"));
        }
    }
    let relations = document["relationships"].as_array().expect("relationships");
    assert_eq!(text(&relations[0], "relationshipType"), "DESCRIBES");
    for relation in relations {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(ids.contains(text(relation, end)), "{relation}");
        }
    }
    // All but the document is contained in something, or described.
    let contained: BTreeSet<&str> = relations.iter().map(|r| text(r, "relatedSpdxElement")).collect();
    assert_eq!(contained.len() + 1, ids.len());
    packages
}

/// `NAME VERSION ARCH TYPE LAYER LICENCE` of each package.
fn table(store: &Store, image: &str) -> Vec<String> {
    let table = sbom(store, image).args(["--format", "table"]).ok();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    table.stdout.lines().skip(1).map(words).collect()
}

#[test]
fn packages_are_told_by_the_layer_that_brought_them_the_same_each_time() {
    let Some(image) = busybox() else { return };
    let store = Store::new("sbom");
    let status = "Package: libold\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.0~a-1\n\n\
                  Package: both\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nMaintainer: M <m@x.example>\n\n";
    let copyright = format!("{FORMAT}Files: *\nLicense: Expat or GPL-2+\n\nFiles: b\nLicense: strange\n");
    let image =
        image.file("var/lib/dpkg/status", status).file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    let image = image
        .file("usr/share/doc/both/copyright", copyright)
        .file("usr/share/doc/libold/copyright", "prose\n");
    let _image = image.compose(&store, "base");
    let upper = Scratch::new("upper");
    let more = "Package: new\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\nSource: src (2-1)\n\n\
                Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 2\n";
    upper.write("status", format!("{status}{more}"));
    upper.write("Dockerfile", "FROM base\nCOPY status /var/lib/dpkg/status\nRUN rm -f /bin/head\n");
    store.rootfs_tool().args(["build", "-t", "app"]).arg(upper.path()).ok();
    assert_eq!(
        table(&store, "app"),
        [
            "both 1 all deb 1 LicenseRef-strange AND (MIT OR GPL-2.0-or-later)",
            "libold 1:1.0~a-1 amd64 deb 1",
            "new 2 amd64 deb 2"
        ]
    );
    let first = sbom(&store, "app").ok();
    let packages = checked(&first);
    assert_eq!(packages.len(), 1 + 3 + 3);
    let of = |name: &str| packages.iter().find(|p| text(p, "name") == name).expect("the package");
    let purl = |name: &str| text(&of(name)["externalRefs"][0], "referenceLocator").to_owned();
    assert_eq!(purl("libold"), "pkg:deb/debian/libold@1:1.0~a-1?arch=amd64&distro=debian-12");
    assert_eq!(text(of("libold"), "licenseDeclared"), "NOASSERTION");
    assert_eq!(text(of("both"), "originator"), "Person: M (m@x.example)");
    assert_eq!(text(of("new"), "sourceInfo"), "built from the source package src 2-1");
    let digest = store.rootfs_tool().args(["inspect", "-f", "{{index .RootFS.Layers 0}}", "app"]).ok();
    let layer = of(digest.text());
    assert_eq!(text(&layer["checksums"][0], "checksumValue"), digest.text().trim_start_matches("sha256:"));
    let document = first.json();
    let relation = |from: &str, name: &str| {
        let (from, to) = (from.to_owned(), text(of(name), "SPDXID").to_owned());
        let all = document["relationships"].as_array().expect("relationships");
        all.iter().any(|r| text(r, "spdxElementId") == from && text(r, "relatedSpdxElement") == to)
    };
    assert!(relation("SPDXRef-Layer-1", "both") && relation("SPDXRef-Layer-2", "new"));
    assert!(relation("SPDXRef-DOCUMENT", "localhost/app:latest"));

    assert_eq!(first.stdout, sbom(&store, "app").ok().stdout);
    let file = store.scratch.join("sbom.json");
    drop(store.runner().args(["sbom", "-o"]).arg(&file).arg("app").ok());
    assert_eq!(std::fs::read_to_string(file).expect("the file"), first.stdout, "the runner hands over");
    let dated = sbom(&store, "app").env("SOURCE_DATE_EPOCH", "1700000000").ok();
    assert_eq!(text(&dated.json()["creationInfo"], "created"), "2023-11-14T22:13:20Z");
    drop(sbom(&store, "nothing").fails(1).complains("No such image: nothing"));
    drop(sbom(&store, "app").args(["--format", "yaml"]).fails(2).complains("spdx-json or table"));
}

#[test]
fn databases_of_images_without_dpkg_and_of_apk_are_read_and_rpms_is_named() {
    let Some(image) = busybox() else { return };
    let store = Store::new("sbom-others");
    let image = image
        .file("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n")
        .file("var/lib/dpkg/status.d/tzdata.md5sums", "0 usr/share/zoneinfo/UTC\n")
        .file("usr/lib/apk/db/installed", "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nF:lib\nR:ld\n\n")
        .link("lib", "usr/lib")
        .file("var/lib/rpm/rpmdb.sqlite", "x");
    let _image = image.compose(&store, "image");
    assert_eq!(table(&store, "image"), ["tzdata 2024a-0 all deb 1", "musl 1.2.4-r2 x86_64 apk 1 MIT"]);
    let output = sbom(&store, "image").ok();
    assert_eq!(checked(&output).len(), 4);
    drop(output.complains("the database of rpm is not read"));
    // An image without packages is a document too.
    let _image = busybox().expect("busybox").compose(&store, "none");
    assert_eq!(checked(&sbom(&store, "none").ok()).len(), 2);
}

#[test]
fn a_hostile_database_is_one_line_and_nothing_of_the_host_is_read() {
    if busybox().is_none() {
        return;
    }
    const STATUS: &str = "var/lib/dpkg/status";
    let store = Store::new("sbom-hostile");
    let with = |content: &[u8]| busybox().expect("busybox").file(STATUS, content);
    let huge = with(b"");
    let file = std::fs::File::options().write(true).open(huge.at(STATUS)).expect("open");
    file.set_len((64 << 20) + 1).expect("truncate");
    let link = |to: &str| with(b"").link(STATUS, to);
    let fifo = with(b"");
    std::fs::remove_file(fifo.at(STATUS)).expect("remove");
    Cmd::new("mkfifo").arg(fifo.at(STATUS)).ok();
    for (n, (image, says)) in [
        (huge, "64"),
        (with(b"Package: \xff\n"), "no text in UTF-8"),
        (with(b"Package: a\nVersion: \x1b[2J\n"), "is no version"),
        (with(b"Package: ../../x y\nVersion: 1\n"), "is no name of a package"),
        (with(b"Package: a\n"), "line 1: it has no Version"),
        (with(&[b'x'; 100_000]), "line 1: it is no field"),
        (link("status"), "too many links"),
        (fifo, "it is no file"),
        (busybox().expect("busybox").folder(STATUS), "it is no file"),
        (
            busybox().expect("busybox").file("lib/apk/db/installed", "P:a\nnonsense\n"),
            "line 2: it is no field",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("hostile{n}");
        let _image = image.compose(&store, &name);
        let refused = sbom(&store, &name).fails(1).complains(says);
        assert_eq!((refused.stderr.lines().count(), &refused.stdout[..]), (1, ""), "{refused}");
        assert!(
            refused.stderr.contains("/var/lib/dpkg/status") || refused.stderr.contains("/lib/apk/db"),
            "{refused}"
        );
        assert!(!refused.stderr.contains('\x1b'), "{refused}");
    }
    // Out of the image leads nothing: there is no such file in it.
    let secret = store.scratch.write("secret", "Package: of-the-host\nVersion: 1\n");
    for to in [
        secret.clone(),
        std::path::Path::new("../../../..").join(secret.strip_prefix("/").expect("absolute")),
    ] {
        let _image = link(to.to_str().expect("a path in UTF-8")).compose(&store, "out");
        assert_eq!(table(&store, "out"), [""; 0]);
    }
}

#[test]
fn the_packages_of_debian_are_those_that_its_own_dpkg_knows() {
    let Some(images) = shipped::images(&[]) else { return };
    let store = Store::new("sbom-debian").reads(images);
    let query = ["debian", "dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n"];
    let mut theirs: Vec<String> = store.run("").args(query).ok().stdout.lines().map(str::to_owned).collect();
    theirs.sort();
    let ours = table(&store, "debian");
    let mut ours: Vec<String> =
        ours.iter().map(|l| l.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    ours.sort();
    assert_eq!(ours, theirs);
    assert!(ours.len() > 50);
    let packages = checked(&sbom(&store, "debian").ok());
    let told = packages.iter().filter(|p| text(p, "licenseDeclared") != "NOASSERTION").count();
    assert!(told * 2 > packages.len(), "{told} of {}", packages.len());
}
