//! `info`: this installation and what it stands on, for people and scripts. What is missing and how to
//! get it is `doctor`'s.

use std::ffi::OsString;
use std::path::Path;

use argh::CommandInfoWithArgs;
use coracle_store::driver::Driver;
use coracle_store::{Locations, Store};
use coracle_sys::template::Template;
use coracle_sys::{Kind, Result, print};
use serde::Serialize;
use serde_json::Value;

use super::Global;
use super::container::seen::Seen;
use super::typed::{self, Typed};
use crate::cgroups::Layout;
use crate::host::{self, Host};
use crate::json::{self, set_all};
use crate::survey;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "info",
    "Say what this installation is and what it stands on.",
    typed::NONE,
    &[
        typed::switch("--json", None, "one JSON object"),
        typed::option(
            "--format",
            Some('f'),
            "template",
            "a template, such as '{{.Driver}} {{.ContainersRunning}}', or json: docker's fields beside ours",
        ),
    ],
    &["runner info", "runner info --json"],
);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    version: &'static str,
    store: String,
    read_only_stores: Vec<String>,
    driver: &'static str,
    /// By whom layers become a container's root.
    mounted_by: String,
    containers: usize,
    cgroup_version: &'static str,
    /// Those that limits can be set with.
    controllers: Vec<&'static str>,
    rootless: bool,
    seccomp: bool,
    security_modules: Vec<String>,
    kernel: String,
    architecture: &'static str,
    cpus: usize,
    /// Bytes.
    memory: u64,
}

/// Ask and print.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let template = typed.get("--format").filter(|f| *f != "json").map(Template::parse).transpose()?;
    let info = ask(global)?;
    if typed.get("--format").is_some() {
        let all = with_docker_s(global, &info)?;
        match &template {
            Some(template) => template.print(&[all])?,
            None => print::json(&all, false),
        }
        return Ok(0);
    }
    if typed.get("--json").is_some() {
        print::json(&json::value(&info)?, true);
        return Ok(0);
    }
    let yes = |b| if b { "yes" } else { "no" };
    for (name, value) in [
        ("Version", info.version.to_owned()),
        ("Store", info.store),
        ("Read-only stores", info.read_only_stores.join(" ")),
        ("Driver", info.driver.to_owned()),
        ("Layers mounted by", info.mounted_by),
        ("Containers", info.containers.to_string()),
        ("Cgroup version", info.cgroup_version.to_owned()),
        ("Controllers", info.controllers.join(" ")),
        ("Rootless", yes(info.rootless).to_owned()),
        ("Seccomp", yes(info.seccomp).to_owned()),
        ("Security modules", info.security_modules.join(" ")),
        ("Kernel", info.kernel),
        ("Architecture", info.architecture.to_owned()),
        ("CPUs", info.cpus.to_string()),
        ("Memory", format!("{} MiB", info.memory >> 20)),
    ] {
        coracle_sys::say!("{name:<18} {value}");
    }
    Ok(0)
}

/// Docker's fields as well.
fn with_docker_s(global: &Global, info: &Info) -> Result<Value> {
    let mut all = json::value(info)?;
    let seen = match Path::new(&info.store).is_dir() {
        true => Seen::all(&super::container::store(global)?)?,
        false => Vec::new(),
    };
    let count = |status: &str| seen.iter().filter(|s| s.status == status).count();
    let (running, paused) = (count("running"), count("paused"));
    let images = super::image_verb::answer(global, &["images", "--quiet"])?.unwrap_or_default();
    let host = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = |line: &str| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned());
    let mut security = vec![];
    if info.seccomp {
        security.push("name=seccomp,profile=default");
    }
    if info.rootless {
        security.push("name=rootless");
    }
    set_all(
        &mut all,
        vec![
            ("/Name", host.into()),
            ("/ServerVersion", info.version.into()),
            ("/Driver", info.driver.into()),
            ("/DockerRootDir", info.store.as_str().into()),
            ("/Containers", seen.len().into()),
            ("/ContainersRunning", running.into()),
            ("/ContainersPaused", paused.into()),
            ("/ContainersStopped", (seen.len() - running - paused).into()),
            ("/Images", images.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count().into()),
            ("/KernelVersion", info.kernel.as_str().into()),
            ("/OperatingSystem", release.lines().find_map(pretty).unwrap_or_default().into()),
            ("/OSType", "linux".into()),
            ("/Architecture", info.architecture.into()),
            ("/NCPU", info.cpus.into()),
            ("/MemTotal", info.memory.into()),
            ("/CgroupVersion", if info.cgroup_version == "2" { "2" } else { "1" }.into()),
            ("/CgroupDriver", "cgroupfs".into()),
            ("/LoggingDriver", "local".into()),
            ("/DefaultRuntime", "coracle".into()),
            ("/SecurityOptions", security.into()),
        ],
    );
    Ok(all)
}

/// The store's driver, or the one that it would be made with; nothing where it could not be made.
fn driver(locations: &Locations) -> Result<Option<Driver>> {
    if let Some(driver) = Store::open(locations)?.main().driver() {
        return Ok(Some(driver));
    }
    let dir = locations.main.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    match Driver::choose(dir) {
        Err(e) if e.kind() != Kind::Usage => Ok(None),
        chosen => chosen.map(Some),
    }
}

fn ask(global: &Global) -> Result<Info> {
    let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
    let locations = Locations::from_env(global.store.as_deref())?;
    let layout = Layout::probe().unwrap_or_default();
    let usable = |c: &&str| layout.usable(c).is_ok();
    let modules = read("/sys/kernel/security/lsm");
    let driver = driver(&locations)?;
    Ok(Info {
        version: env!("CARGO_PKG_VERSION"),
        driver: driver.map_or("", Driver::name),
        mounted_by: driver.map(|driver| survey::mounted_by(&locations.main, driver)).unwrap_or_default(),
        containers: std::fs::read_dir(locations.main.join("containers")).map_or(0, Iterator::count),
        store: locations.main.display().to_string(),
        read_only_stores: locations.behind.iter().map(|p| p.display().to_string()).collect(),
        cgroup_version: layout.version(),
        controllers: ["memory", "pids", "cpu", "cpuset", "io", "freezer", "hugetlb", "rdma"]
            .into_iter()
            .filter(usable)
            .collect(),
        rootless: Host::probe()?.uid != 0,
        seccomp: !read("/proc/sys/kernel/seccomp/actions_avail").is_empty(),
        security_modules: modules.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
        kernel: read("/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH,
        cpus: host::usable_processors(),
        memory: memory(),
    })
}

/// Docker's word for this machine.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The host's memory in bytes.
pub(super) fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        |line: &str| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    text.lines().find_map(kib).unwrap_or(0) << 10
}
