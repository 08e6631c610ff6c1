//! Configuring: the maintainer scripts of the packages run inside a container, by the system's own dpkg. It has no
//! network, no services are started, and what it writes is made the same each time.

use std::fs::{self, File};
use std::io::pipe;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_store::layer::Owners;
use coracle_store::layer::pack::{Archive, Content, FromDir, Meta};
use coracle_store::layer::unpack::{Lowers, Options, unpack};
use coracle_sys::print::harmless;
use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Kind, Result, file};
use serde_json::{Value, json};

use super::order::{Step, steps};
use super::paths::Paths;
use super::unpack::Unpacked;
use super::{clean, foreign};

/// What a package installation does, and no more.
const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Configure the packages of an archive; what came of it takes the archive's place.
pub(crate) fn configure(
    archive: &mut Archive,
    packages: &[Unpacked],
    scratch: &Path,
    architecture: &str,
    paths: &Paths,
    latest: i64,
) -> Result<()> {
    if archive.get("usr/bin/dpkg").is_none()
        || archive.get("bin/sh").is_none() && archive.get("usr/bin/sh").is_none()
    {
        return Err(Error::invalid(
            "configure the packages: there is no dpkg or no sh among them (configure = false leaves them as unpacked)",
        ));
    }
    if Owners::of_this_process() == Owners::Table {
        return Err(Error::new(
            Kind::Denied,
            "configure the packages: files of other owners need subordinate ids (/etc/subuid, /etc/subgid), \
             or configure = false",
        ));
    }
    foreign::check(architecture)?;
    let script = script(packages)?;
    let no_services = Content::Bytes(b"#!/bin/sh\nexit 101\n".to_vec());
    archive.put("usr/sbin/policy-rc.d", Meta::new(0o755), no_services)?;
    for (dir, mode) in [("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777), ("run", 0o755)] {
        if archive.get(dir).is_none() {
            archive.put(dir, Meta { mtime: (latest, 0), ..Meta::new(mode) }, Content::Dir)?;
        }
    }
    archive.put_parents();
    let bundle = scratch.join("bundle");
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root).context(|| format!("mkdir({root:?})"))?;
    lay_out(archive, &root)?;
    let config = serde_json::to_vec(&config(&script, latest)).map_err(|e| Error::invalid(e.to_string()))?;
    let path = bundle.join("config.json");
    fs::write(&path, config).context(|| format!("write({path:?})"))?;
    run(&bundle).context(|| "configure the packages")?;
    let mut made = Archive::new();
    let how = FromDir { owner: None, latest: Some(latest), xattrs: true };
    made.put_dir(&root, "/", how)?;
    clean::clean(&mut made, paths, latest)?;
    *archive = made;
    Ok(())
}

/// Write the entries to a directory.
fn lay_out(archive: &Archive, root: &Path) -> Result<()> {
    let (reader, writer) = pipe().context(|| "pipe()")?;
    let options = Options { plain: true, ..Options::of_this_process() };
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let out = std::io::BufWriter::with_capacity(256 << 10, writer);
            archive.write(out).map(drop)
        });
        let dir = file::open_dir(root)?;
        let reader = std::io::BufReader::with_capacity(256 << 10, reader);
        let applied = unpack(reader, dir, Lowers::from(Vec::new()), Vec::new(), options);
        let packed = packing.join().map_err(|_| Error::invalid("lay out the packages: it was broken off"))?;
        // Who writes to a pipe that nobody reads hears of that, and not why.
        applied.map(drop).and(packed)
    })
    .context(|| "lay out the packages")
}

/// What the container runs.
fn script(packages: &[Unpacked]) -> Result<String> {
    let mut out = String::from(PROLOGUE);
    let full = |n: usize| -> Result<String> {
        let p = packages[n].paragraph()?;
        Ok(match p.get("Multi-Arch") {
            Some("same") => format!("{}:{}", p.must("Package")?, p.must("Architecture")?),
            _ => p.must("Package")?.to_owned(),
        })
    };
    for step in steps(packages)? {
        match step {
            Step::Prepare(n) => {
                let p = packages[n].paragraph()?;
                let (name, architecture) = (p.must("Package")?, p.must("Architecture")?);
                out.push_str(&format!("prepare {name} {architecture} {}\n", full(n)?));
            }
            Step::Configure(all) => {
                let names = all.into_iter().map(full).collect::<Result<Vec<_>>>()?;
                out.push_str(&format!("/usr/bin/dpkg --force-unsafe-io --configure {}\n", names.join(" ")));
            }
            Step::Finish => out.push_str("/usr/bin/dpkg --force-unsafe-io --configure --pending\n"),
        }
    }
    out.push_str(EPILOGUE);
    Ok(out)
}

/// Names of packages and architectures are the only words that are put in: they hold nothing that a shell knows.
const PROLOGUE: &str = "set -e
umask 022
prepare() {
    export DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE=$1 DPKG_MAINTSCRIPT_ARCH=$2
    export DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT=
    \"/var/lib/dpkg/info/$3.preinst\" install ||
        { echo \"error: the preinst script of $1 ended with $?\" >&2; exit 1; }
    unset DPKG_MAINTSCRIPT_NAME DPKG_MAINTSCRIPT_PACKAGE DPKG_MAINTSCRIPT_ARCH DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT
    unset DPKG_ADMINDIR DPKG_ROOT
}
";
const EPILOGUE: &str = "test -z \"$(/usr/bin/dpkg --audit)\" || { /usr/bin/dpkg --audit >&2; exit 1; }\n";

fn config(script: &str, latest: i64) -> Value {
    let env = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "HOME=/root".into(),
        "LC_ALL=C.UTF-8".into(),
        "DEBIAN_FRONTEND=noninteractive".into(),
        "DEBCONF_NONINTERACTIVE_SEEN=true".into(),
        "DPKG_MAINTSCRIPT_DEBUG=0".into(),
        format!("SOURCE_DATE_EPOCH={latest}"),
        "PYTHONHASHSEED=0".into(),
    ];
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let namespaces: Vec<Value> =
        ["pid", "network", "ipc", "uts", "mount"].iter().map(|n| json!({"type": n})).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": env,
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "localhost",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "mode=1777", "size=65536k"]),
            mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        ],
        "linux": {"namespaces": namespaces},
    })
}

/// Run the bundle, and tell of a failure what dpkg said last.
fn run(bundle: &Path) -> Result<()> {
    let id = file::unique_name("compose-");
    let mut program = Program::new(&runner()?);
    // Whoever kills this program leaves no container behind.
    program.bound();
    program.word("--root");
    program.word(bundle.with_file_name("state"));
    program.word("run");
    program.word("--bundle");
    program.word(bundle);
    program.word(id);
    let path = bundle.with_file_name("log");
    let log = File::create(&path).context(|| format!("open({path:?}, O_CREAT)"))?;
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let status = program.run([Some(null.as_fd()), Some(log.as_fd()), Some(log.as_fd())])?;
    if status == Status::Exited(0) {
        return Ok(());
    }
    let said = fs::read(&path).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let telling = |l: &&&str| l.contains("error") || l.starts_with("runner:");
    let why = lines.iter().find(telling).or_else(|| lines.last()).copied().unwrap_or("it does not say why");
    // What a script said stands before dpkg's own words.
    let at = lines.iter().position(|l| *l == why).unwrap_or_default();
    let before = lines[..at].last().map_or(String::new(), |l| format!(" (after: {})", harmless(l)));
    let ended = match status {
        Status::Exited(code) => format!("ended with {code}"),
        Status::Signaled(signal) => format!("was killed by signal {signal}"),
    };
    Err(Error::new(Kind::System, format!("the container {ended}: {}{before}", harmless(why))))
}

/// Beside this program, then in ../libexec/coracle; CORACLE_RUNNER overrides.
fn runner() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CORACLE_RUNNER").filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let beside = std::env::current_exe().context(|| "readlink(\"/proc/self/exe\")")?;
    let beside = beside.parent().unwrap_or(Path::new("/"));
    let all = ["runner", "../libexec/coracle/runner"].map(|p| beside.join(p));
    all.into_iter().find(|p| p.exists()).ok_or_else(|| {
        Error::not_found(
            "find runner: it lies neither beside rootfs-tool nor in ../libexec/coracle (CORACLE_RUNNER names it elsewhere)",
        )
    })
}
