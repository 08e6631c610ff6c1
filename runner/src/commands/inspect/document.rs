//! A container as docker's inspect tells it: its shape is written down once, and what is known of the container is put into
//! it. Members of what does not exist here (links, swarm, Windows) are docker's words for none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_store::image::ProcessConfig;
use coracle_sys::Result;
use coracle_sys::quantity;
use serde_json::{Map, Value, json};

use crate::commands::container::made::asked;
use crate::commands::container::seen::Seen;
use crate::from_image::flags::Flags;
use crate::from_image::mounts::{Asked, Origin};
use crate::from_image::{self, short, units};
use crate::json::{set_all, shape, value};
use crate::monitor::Health;
use crate::monitor::restart::Policy;
use crate::record::moment;

/// A time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

const SHAPE: &str = r#"{"State":{"Dead":false,"Error":"","FinishedAt":"0001-01-01T00:00:00Z","StartedAt":"0001-01-01T00:00:00Z"},
"Platform":"linux","MountLabel":"","ProcessLabel":"","AppArmorProfile":"","ExecIDs":null,"LogPath":"",
"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"local","Config":{}},"PortBindings":{},
"VolumeDriver":"","VolumesFrom":null,"CapAdd":null,"CapDrop":null,"CgroupnsMode":"private","Dns":[],"DnsOptions":[],
"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"Cgroup":"","Links":null,"OomScoreAdj":0,"PublishAllPorts":false,
"SecurityOpt":null,"UsernsMode":"","ShmSize":67108864,"Runtime":"coracle","ConsoleSize":[0,0],"Isolation":"",
"CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],
"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,
"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,
"DeviceRequests":null,"KernelMemory":0,"KernelMemoryTCP":0,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,
"OomKillDisable":false,"PidsLimit":null,"Ulimits":[]},
"Config":{"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"OnBuild":null,"Domainname":"","Cmd":null,
"Entrypoint":null,"Volumes":null},
"NetworkSettings":{"Bridge":"","SandboxID":"","HairpinMode":false,"LinkLocalIPv6Address":"","LinkLocalIPv6PrefixLen":0,
"Ports":{},"SandboxKey":"","SecondaryIPAddresses":null,"SecondaryIPv6Addresses":null,"EndpointID":"","Gateway":"",
"GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","MacAddress":"","Networks":{}}}"#;

/// All of it.
pub(super) fn of(store: &Store, seen: &Seen, sizes: bool) -> Result<Value> {
    let record = &seen.record;
    let flags = &Flags::read(&record.flags)?;
    let image = store.image_of(&seen.dir).ok();
    let config = image.as_ref().and_then(|i| i.config.config.clone()).unwrap_or_default();
    let asked = asked(flags, &config, &record.directory)?;
    let mut all = shape(SHAPE);
    let args = record.spec.process.as_ref().map_or(&[][..], |p| &p.args);
    let (path, rest) = args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let upper =
        json!({"UpperDir": seen.dir.upper(), "WorkDir": seen.dir.work(), "LowerDir": lower(store, seen)});
    set_all(
        &mut all,
        vec![
            ("/Id", seen.dir.id.as_str().into()),
            ("/Created", moment(record.created).into()),
            ("/Path", path.into()),
            ("/Args", rest.into()),
            ("/Image", record.image_id.clone().unwrap_or_default().into()),
            ("/Name", format!("/{}", record.name).into()),
            ("/RestartCount", record.restarts.into()),
            ("/Driver", store.driver().name().into()),
            ("/GraphDriver", json!({"Name": store.driver().name(), "Data": upper})),
            ("/Mounts", asked.iter().filter_map(|a| mount(seen, a)).collect()),
        ],
    );
    for (member, file) in
        [("ResolvConfPath", "resolv.conf"), ("HostnamePath", "hostname"), ("HostsPath", "hosts")]
    {
        // They are the container's own, and lie in its root while it runs.
        let path = seen.state.as_ref().map(|s| format!("/proc/{}/root/etc/{file}", s.init.pid));
        all[member] = path.unwrap_or_default().into();
    }
    if record.monitored {
        all["LogPath"] = seen.dir.path.join("log").to_string_lossy().into();
    }
    state(seen, &mut all);
    process(seen, flags, &config, &mut all)?;
    host(seen, flags, &asked, &mut all)?;
    if sizes {
        let own = store.written_by(&seen.dir);
        let below: u64 = image.map_or(0, |i| store.layer_sizes(&i).into_iter().sum());
        set_all(&mut all, vec![("/SizeRw", own.into()), ("/SizeRootFs", (own + below).into())]);
    }
    Ok(all)
}

fn lower(store: &Store, seen: &Seen) -> String {
    let image = store.image_of(&seen.dir).ok();
    let mut dirs: Vec<PathBuf> = image.and_then(|i| store.stack_paths(i.diff_ids()).ok()).unwrap_or_default();
    dirs.reverse();
    let dirs: Vec<_> = dirs.iter().map(|d| d.to_string_lossy()).collect();
    dirs.join(":")
}

fn state(seen: &Seen, all: &mut Value) {
    let record = &seen.record;
    let exit = record.exit.as_ref();
    let running = matches!(seen.status, "running" | "paused" | "restarting");
    set_all(
        all,
        vec![
            ("/State/Status", seen.status.into()),
            ("/State/Running", running.into()),
            ("/State/Paused", (seen.status == "paused").into()),
            ("/State/Restarting", (seen.status == "restarting").into()),
            ("/State/OOMKilled", exit.is_some_and(|e| e.oom).into()),
            ("/State/Pid", seen.pid().into()),
            ("/State/ExitCode", seen.code().into()),
            ("/State/Error", exit.and_then(|e| e.error.clone()).unwrap_or_default().into()),
            ("/State/StartedAt", record.started.map_or(NEVER.to_owned(), moment).into()),
            ("/State/FinishedAt", exit.map_or(NEVER.to_owned(), |e| moment(e.at)).into()),
        ],
    );
    if let Some(health) = seen.health.as_ref() {
        let none = || json!({"Status": health, "FailingStreak": 0, "Log": []});
        all["State"]["Health"] = Health::read(&seen.dir.path).unwrap_or_else(none);
    }
}

/// What the container is, as the image would say it.
fn process(seen: &Seen, flags: &Flags, config: &ProcessConfig, all: &mut Value) -> Result<()> {
    let record = &seen.record;
    let process = record.spec.process.clone().unwrap_or_default();
    let own = config.entrypoint.clone().unwrap_or_default();
    let entrypoint = match flags.entrypoint.as_deref() {
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
        None if process.args.starts_with(&own) => own,
        None => Vec::new(),
    };
    let command = process.args[entrypoint.len().min(process.args.len())..].to_vec();
    let list = |words: Vec<String>| if words.is_empty() { Value::Null } else { words.into() };
    // What the runner itself puts into every container is not the container's.
    let said = |name: &str| {
        let of = |text: &String| text.split('=').next() == Some(name);
        flags.env.iter().any(of) || config.env.iter().flatten().any(of)
    };
    let env = process.env.iter().filter(|text| {
        let name = text.split('=').next().unwrap_or_default();
        !matches!(name, "PATH" | "HOSTNAME" | "HOME" | "TERM") || said(name)
    });
    let user = flags.user.clone().or_else(|| config.user.clone()).unwrap_or_default();
    let host_name = record.spec.hostname.clone().unwrap_or_else(|| short(&record.id).to_owned());
    let attached = |stream: &str, of_all: bool| {
        let said = flags.attach.iter().any(|word| word.eq_ignore_ascii_case(stream));
        let input = stream == "stdin" && flags.interactive;
        !flags.detach && (said || input || of_all && flags.attach.is_empty())
    };
    let mut labels = Map::new();
    for (name, label) in &record.labels {
        labels.insert(name.clone(), label.as_str().into());
    }
    set_all(
        all,
        vec![
            ("/Config/Hostname", host_name.into()),
            ("/Config/Domainname", record.spec.domainname.clone().unwrap_or_default().into()),
            ("/Config/User", user.into()),
            ("/Config/AttachStdout", attached("stdout", true).into()),
            ("/Config/AttachStderr", attached("stderr", true).into()),
            ("/Config/AttachStdin", attached("stdin", false).into()),
            ("/Config/StdinOnce", (flags.interactive && !flags.detach).into()),
            ("/Config/Tty", process.terminal.into()),
            ("/Config/OpenStdin", flags.interactive.into()),
            ("/Config/Env", env.cloned().collect::<Vec<_>>().into()),
            ("/Config/Cmd", list(command)),
            ("/Config/Entrypoint", list(entrypoint)),
            ("/Config/Image", record.image.as_str().into()),
            ("/Config/WorkingDir", working_dir(&process.cwd).into()),
            ("/Config/Labels", labels.into()),
        ],
    );
    all["Config"]["Volumes"] = object(&config.volumes);
    all["Config"]["OnBuild"] = config.on_build.clone().map_or(Value::Null, Value::from);
    if config.exposed_ports.is_some() {
        all["Config"]["ExposedPorts"] = object(&config.exposed_ports);
    }
    // As it was said.
    if let Some(signal) = flags.stop_signal.as_ref().or(config.stop_signal.as_ref()) {
        all["Config"]["StopSignal"] = signal.as_str().into();
    }
    if let Some(seconds) = record.stop_timeout {
        all["Config"]["StopTimeout"] = seconds.into();
    }
    if let Some(check) = &record.healthcheck {
        all["Config"]["Healthcheck"] = value(check)?;
    }
    Ok(())
}

/// Members that are there or not.
fn object(members: &Option<BTreeMap<String, Value>>) -> Value {
    let Some(members) = members else { return Value::Null };
    let mut all = Map::new();
    for (name, value) in members {
        all.insert(name.clone(), value.clone());
    }
    all.into()
}

fn working_dir(cwd: &Path) -> String {
    if cwd == Path::new("/") { String::new() } else { cwd.to_string_lossy().into_owned() }
}

/// What the flags ask of the host. Limits are told as they are now: they may have been changed.
fn host(seen: &Seen, flags: &Flags, asked: &[Asked], all: &mut Value) -> Result<()> {
    let record = &seen.record;
    let [network, pid, ipc, uts] = from_image::shared_words(flags)?.map(|(_, _, word)| word);
    let shared = |word: &str| if matches!(word, "own" | "private") { String::new() } else { word.to_owned() };
    let (restart, most) = Policy::parse(&record.restart).unwrap_or_default().told();
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { words.into() };
    let caps = |words: &[String]| {
        let named = |w: &String| match w.to_uppercase() {
            w if w == "ALL" || w.starts_with("CAP_") => w,
            w => format!("CAP_{w}"),
        };
        list(&words.iter().map(named).collect::<Vec<_>>())
    };
    let binds: Vec<String> = flags.volume.iter().filter(|v| v.contains(':')).cloned().collect();
    let mut tmpfs = Map::new();
    for text in &flags.tmpfs {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        tmpfs.insert(path.to_owned(), options.into());
    }
    let security: Vec<String> = flags.security_opt.clone();
    set_all(
        all,
        vec![
            ("/HostConfig/Binds", list(&binds)),
            ("/HostConfig/ContainerIDFile", flags.cidfile.clone().unwrap_or_default().into()),
            ("/HostConfig/NetworkMode", network.into()),
            ("/HostConfig/PidMode", shared(pid).into()),
            ("/HostConfig/IpcMode", if ipc == "own" { "private" } else { ipc }.into()),
            ("/HostConfig/UTSMode", shared(uts).into()),
            ("/HostConfig/RestartPolicy", json!({"Name": restart, "MaximumRetryCount": most})),
            ("/HostConfig/AutoRemove", record.rm.into()),
            ("/HostConfig/CapAdd", caps(&flags.cap_add)),
            ("/HostConfig/CapDrop", caps(&flags.cap_drop)),
            ("/HostConfig/GroupAdd", list(&flags.group_add)),
            ("/HostConfig/SecurityOpt", list(&security)),
            ("/HostConfig/OomScoreAdj", flags.oom_score_adj.unwrap_or(0).into()),
            ("/HostConfig/Privileged", flags.privileged.into()),
            ("/HostConfig/ReadonlyRootfs", flags.read_only.into()),
            ("/HostConfig/OomKillDisable", flags.oom_kill_disable.into()),
            ("/HostConfig/Init", matches!(flags.init_mode.as_deref(), None | Some("auto" | "always")).into()),
        ],
    );
    if let Some(linux) = &record.spec.linux {
        let list =
            |paths: &[PathBuf]| paths.iter().map(|p| p.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let paths = vec![
            ("/HostConfig/MaskedPaths", list(&linux.masked_paths).into()),
            ("/HostConfig/ReadonlyPaths", list(&linux.readonly_paths).into()),
        ];
        set_all(all, paths);
    }
    super::network::tell(seen, network, all);
    super::network::asked(flags, all);
    if !tmpfs.is_empty() {
        all["HostConfig"]["Tmpfs"] = tmpfs.into();
    }
    if let Some(size) = &flags.shm_size {
        all["HostConfig"]["ShmSize"] = quantity::size(size, "--shm-size")?.into();
    }
    if let Some(driver) = &flags.log_driver {
        all["HostConfig"]["LogConfig"]["Type"] = driver.as_str().into();
    }
    for option in &flags.log_opt {
        let (name, text) = option.split_once('=').unwrap_or((option, ""));
        all["HostConfig"]["LogConfig"]["Config"][name] = text.into();
    }
    for option in &flags.storage_opt {
        let (name, text) = option.split_once('=').unwrap_or((option, ""));
        all["HostConfig"]["StorageOpt"][name] = text.into();
    }
    for device in &flags.device {
        let mut words = device.split(':');
        let outside = words.next().unwrap_or_default();
        let inside = words.next().unwrap_or(outside);
        let row = json!({"PathOnHost": outside, "PathInContainer": inside, "CgroupPermissions": words.next().unwrap_or("rwm")});
        if let Some(devices) = all["HostConfig"]["Devices"].as_array_mut() {
            devices.push(row);
        }
    }
    for limit in &flags.ulimit {
        let limit = units::ulimit(limit)?;
        let name = limit.kind.trim_start_matches("RLIMIT_").to_lowercase();
        let row = json!({"Name": name, "Soft": limit.soft.cast_signed(), "Hard": limit.hard.cast_signed()});
        if let Some(limits) = all["HostConfig"]["Ulimits"].as_array_mut() {
            limits.push(row);
        }
    }
    for mounted in asked.iter().filter(|a| a.origin == Origin::Volume(None)) {
        // Docker lists the places of volumes without a name, as an image does.
        all["Config"]["Volumes"][mounted.at.to_string_lossy().as_ref()] = json!({});
    }
    limits(seen, flags, all)
}

/// docker's member, and ours.
const LIMITS: [(&str, &str); 10] = [
    ("CpuShares", "/cpu/shares"),
    ("CpuPeriod", "/cpu/period"),
    ("CpuQuota", "/cpu/quota"),
    ("CpusetCpus", "/cpu/cpus"),
    ("CpusetMems", "/cpu/mems"),
    ("Memory", "/memory/limit"),
    ("MemorySwap", "/memory/swap"),
    ("MemoryReservation", "/memory/reservation"),
    ("MemorySwappiness", "/memory/swappiness"),
    ("BlkioWeight", "/blockIO/weight"),
];

fn limits(seen: &Seen, flags: &Flags, all: &mut Value) -> Result<()> {
    let resources = seen.record.spec.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default();
    let given = value(&resources)?;
    for (member, path) in LIMITS {
        if let Some(limit) = given.pointer(path) {
            all["HostConfig"][member] = limit.clone();
        }
    }
    if let Some(limit) = given.pointer("/pids/limit") {
        all["HostConfig"]["PidsLimit"] = limit.clone();
    }
    // What was said as processors is told so, and not as a quota.
    let quota = given.pointer("/cpu/quota").and_then(Value::as_u64);
    let period = given.pointer("/cpu/period").and_then(Value::as_u64);
    if let (Some(_), Some(quota), Some(period @ 1..)) = (&flags.cpus, quota, period) {
        let cpus = quota * 1_000_000_000 / period;
        let rows = vec![("/NanoCpus", cpus.into()), ("/CpuQuota", 0.into()), ("/CpuPeriod", 0.into())];
        set_all(&mut all["HostConfig"], rows);
    }
    Ok(())
}

/// One of `Mounts`. A tmpfs is told elsewhere.
fn mount(seen: &Seen, asked: &Asked) -> Option<Value> {
    let mounted = seen.record.spec.mounts.iter().find(|m| m.destination == asked.at);
    let source = mounted.and_then(|m| m.source.clone()).unwrap_or_default();
    let is = |word: &str| asked.options.iter().any(|o| o == word);
    let spread = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];
    let spread = spread.iter().find(|word| is(word)).copied().unwrap_or("rprivate");
    let mut row = json!({"Source": source, "Destination": asked.at, "Mode": mode(asked), "RW": !is("ro"), "Propagation": spread});
    match &asked.origin {
        Origin::Host(_) | Origin::HostMade(_) => row["Type"] = "bind".into(),
        Origin::Volume(name) => {
            // Without a name it is called by its container and its number there.
            let number = source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let own = || format!("{}-{number}", seen.dir.id);
            let name = name.clone().unwrap_or_else(own);
            set_all(
                &mut row,
                vec![
                    ("/Type", "volume".into()),
                    ("/Name", name.into()),
                    ("/Driver", "local".into()),
                    ("/Propagation", "".into()),
                ],
            );
        }
        Origin::Tmpfs => return None,
    }
    Some(row)
}

/// The options as they were typed.
fn mode(asked: &Asked) -> String {
    let typed = asked.options.iter().filter(|o| !o.contains("private"));
    typed.cloned().collect::<Vec<_>>().join(",")
}

/// What `ps` tells of mounts and volumes: the names, and how many of them are volumes.
pub(crate) fn mounts(store: &Store, seen: &Seen) -> Result<(Vec<String>, usize)> {
    let flags = Flags::read(&seen.record.flags)?;
    let config = store.image_of(&seen.dir).ok().and_then(|i| i.config.config).unwrap_or_default();
    let asked = asked(&flags, &config, &seen.record.directory)?;
    let rows: Vec<Value> = asked.iter().filter_map(|a| mount(seen, a)).collect();
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    let names = rows.iter().filter_map(|r| text(r, "Name").or_else(|| text(r, "Source"))).collect();
    Ok((names, rows.iter().filter(|r| r["Type"] == "volume").count()))
}
