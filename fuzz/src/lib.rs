//! One function for each parser that reads what strangers write. A function panics when a promise is broken, and on
//! nothing else: errors are answers. `tests/` throws bent seeds at them on every toolchain; `libfuzzer/` lets
//! cargo-fuzz do it, on a nightly one.

pub mod boots;
pub mod builds;
pub mod bundles;
pub mod debs;
pub mod images;
pub mod networks;
pub mod packages;
pub mod seccomp;

/// A target: its name, the function, and something sound to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of them.
pub const TARGETS: [Target; 31] = [
    ("reference", images::reference, images::seeds::references),
    ("image_json", images::image_json, images::seeds::json),
    ("layer", images::layer, images::seeds::layers),
    ("docker_archive", images::docker_archive, images::seeds::docker),
    ("challenge", images::auth_header, images::seeds::challenges),
    ("change", images::change, images::seeds::changes),
    ("dockerfile", builds::dockerfile, builds::seeds::dockerfiles),
    ("dockerignore", builds::ignore, builds::seeds::ignores),
    ("word", builds::word, builds::seeds::words),
    ("platform", images::platform, images::seeds::platforms),
    ("config_json", bundles::config_json, bundles::seeds::configs),
    ("process_json", bundles::process_json, bundles::seeds::processes),
    ("container_id", bundles::container_id, bundles::seeds::ids),
    ("deb_control", debs::control, debs::seeds::control),
    ("deb_release", debs::release, debs::seeds::release),
    ("deb_versions", debs::versions, debs::seeds::versions),
    ("deb_relations", debs::relations, debs::seeds::relations),
    ("deb_signed", debs::signed, debs::seeds::signed),
    ("deb_package", debs::package, debs::seeds::packages),
    ("deb_patterns", debs::patterns, debs::seeds::patterns),
    ("packages", packages::packages, packages::seeds),
    ("seccomp", seccomp::profile, seccomp::seeds),
    ("publish", networks::publish, networks::seeds::ports),
    ("network_words", networks::words, networks::seeds::words),
    ("resolv_conf", networks::resolv_conf, networks::seeds::resolv),
    ("hosts", networks::hosts, networks::seeds::hosts),
    ("network_files", networks::files, networks::seeds::files),
    ("netlink", networks::netlink, networks::seeds::answers),
    ("boot_conf", boots::lines, boots::seeds::lines),
    ("kernel_words", boots::words, boots::seeds::words),
    ("disk", boots::disk, boots::seeds::disks),
];
