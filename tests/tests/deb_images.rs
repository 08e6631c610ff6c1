//! The shipped images of Debian packages, composed from the repositories that this machine's apt is configured for, and
//! used. They take a network and minutes: `CORACLE_TEST_ALL=1`, which `make test-all` sets.

use std::path::Path;
use std::time::Duration;

use coracle_tests::{Cmd, Privilege, Scratch, Store, eventually, need, shipped, workspace};

const PATIENCE: Duration = Duration::from_secs(600);

fn all() -> bool {
    let wanted = coracle_tests::test_all();
    if !wanted {
        eprintln!("skipped: the images of Debian packages are for CORACLE_TEST_ALL=1");
    }
    wanted && need(Privilege::Root) && need(Privilege::Peer("apt-get"))
}

/// A shipped recipe in a folder of its own, so that its lock is not left in the sources.
fn recipe(name: &str) -> Scratch {
    let folder = Scratch::new("recipe");
    let text = std::fs::read(workspace().join("images").join(name).join("rootfs.toml")).expect("the recipe");
    folder.write("rootfs.toml", text);
    folder
}

fn compose(store: &Store, folder: &Path, name: &str) -> Cmd {
    store.rootfs_tool().arg("compose").arg(folder).args(["-t", name]).limit(PATIENCE)
}

#[test]
fn debian_is_the_same_twice_and_apt_and_dpkg_work_inside() {
    if !all() {
        return;
    }
    let (a, b) = (Store::new("debian"), Store::new("debian"));
    let folder = recipe("debian");
    compose(&a, folder.path(), "debian").ok();
    compose(&b, folder.path(), "debian").arg("--locked").ok();
    assert_eq!(a.image_id("debian"), b.image_id("debian"));
    compose(&a, folder.path(), "debian").ok().prints("cached");
    let inside = "test -z \"$(dpkg --audit)\" && apt-get update && apt-get install -y hello && hello && \
                  test -z \"$(dpkg --audit)\" && test -e /usr/share/doc/hello/copyright && test ! -e /usr/share/man/man1/hello.1.gz";
    let run = a.runner().words("run --rm --network host debian sh -c").arg(inside).limit(PATIENCE).ok();
    drop(run.prints("Hello, world!"));
    // No two packages have the file of one, and each file is what its package brought.
    a.run("debian sh -c").arg("dpkg --verify | grep -v /usr/share/ && exit 1; exit 0").ok();
}

#[test]
fn debian_has_what_mmdebstrap_has_and_is_no_larger() {
    if !all() || !need(Privilege::Peer("mmdebstrap")) {
        return;
    }
    let store = Store::new("debian");
    let folder = Scratch::new("recipe");
    folder.write(
        "rootfs.toml",
        "[[layer]]\ndeb = { suite = \"bookworm\", packages = [\"apt\", \"usrmerge\"] }\n",
    );
    compose(&store, folder.path(), "x").ok();
    let (ours, theirs) = (folder.join("ours.tar"), folder.join("theirs.tar"));
    store.rootfs_tool().args(["export", "-o"]).arg(&ours).arg("x").ok();
    Cmd::new("mmdebstrap")
        .args(["--variant=essential", "--include=apt,usr-is-merged", "bookworm"])
        .arg(&theirs)
        .limit(PATIENCE)
        .ok();
    let packages = |tar: &Path| {
        let status = Cmd::new("tar").arg("-xOf").arg(tar).arg("--wildcards").arg("*var/lib/dpkg/status").ok();
        let mut all: Vec<String> = Vec::new();
        for paragraph in status.stdout.split("\n\n") {
            let field = |name: &str| paragraph.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            all.push(format!("{} {} {}", field("Package: "), field("Version: "), field("Status: ")));
        }
        all.sort();
        all
    };
    assert_eq!(packages(&ours), packages(&theirs));
    let size = |tar: &Path| std::fs::metadata(tar).expect("stat").len();
    assert!(size(&ours) <= size(&theirs), "{} {}", size(&ours), size(&theirs));
}

#[test]
fn static_and_base_hold_what_programs_take_for_granted_and_no_shell() {
    if !all() || !need(Privilege::Peer("busybox")) {
        return;
    }
    let store = Store::new("debian");
    for name in ["static", "base"] {
        compose(&store, recipe(name).path(), name).ok();
        store.run(&format!("{name} sh -c true")).fails(127);
    }
    // A static program sees users, time zones and certificates.
    let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok().text().to_owned();
    let mount = format!("-v {busybox}:/busybox:ro");
    let inside = "/busybox id -un nonroot && /busybox test -s /etc/ssl/certs/ca-certificates.crt && \
                  TZ=Europe/Berlin /busybox date && /busybox test -e /usr/share/zoneinfo/Europe/Berlin";
    let run = |image: &str, words: &str| store.run(&format!("{mount} {words} {image}"));
    run("static", "--user nonroot").args(["/busybox", "sh", "-c", inside]).ok().prints("nonroot");
    // A dynamic one finds the C library, and OpenSSL's where the machine's own program is for that.
    let env = Cmd::new("sh").args(["-c", "command -v env"]).ok().text().to_owned();
    store.run(&format!("-v {env}:/env:ro base /env")).ok().prints("SSL_CERT_FILE=");
}

#[test]
fn python_gives_a_prompt_and_pip_installs_into_a_derived_image() {
    if !all() {
        return;
    }
    let Some(images) = shipped::images(&["python"]) else { return };
    let store = Store::new("python").reads(images);
    let typed = "import sys, ssl, sqlite3, readline; print(sys.stdin.isatty(), 6 * 7)\nexit()\n";
    let script = "script -qec \"$0 --root $1 run --rm -it python\" /dev/null";
    let prompt = Cmd::new("sh").args(["-c", script]).arg(Cmd::runner().shown()).arg(store.state());
    let prompt = prompt.env("CORACLE_STORE", store.locations()).stdin(typed).ok();
    drop(prompt.prints(">>> ").prints("True 42"));
    store.run("python python -m venv /venv").ok();
    // A wheel is a zip of files that name themselves.
    let folder = Scratch::new("wheel");
    let make = "import zipfile\nz = zipfile.ZipFile('said-1.0-py3-none-any.whl', 'w')\n\
                z.writestr('said.py', 'def main(): print(\"it was said\")\\n')\n\
                i = 'said-1.0.dist-info/'\n\
                z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: said\\nVersion: 1.0\\n')\n\
                z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                z.writestr(i + 'entry_points.txt', '[console_scripts]\\nsaid = said:main\\n')\n\
                z.writestr(i + 'RECORD', '')\n";
    Cmd::new("python3").args(["-c", make]).dir(folder.path()).ok();
    folder.write(
        "Dockerfile",
        "FROM python\nCOPY *.whl /tmp/\nRUN pip install --no-index /tmp/*.whl && rm /tmp/*.whl\nCMD [\"said\"]\n",
    );
    store.rootfs_tool().args(["build", "-t", "said"]).arg(folder.path()).limit(PATIENCE).ok();
    drop(store.run("said").ok().prints("it was said"));
    drop(store.run("said python -c").arg("import said; print(said.__file__)").ok().prints("/usr/local/"));
}

#[test]
fn an_ordinary_user_builds_postgres_and_runs_it() {
    if !all() || !need(Privilege::OrdinaryUser) || !need(Privilege::Peer("psql")) {
        return;
    }
    let store = Store::of_user("postgres-user");
    let folder = Scratch::of_user("recipe-user");
    for file in ["debian/rootfs.toml", "postgres/Dockerfile", "postgres/docker-entrypoint.sh"] {
        folder.write(file, std::fs::read(workspace().join("images").join(file)).expect("read"));
    }
    Cmd::new("chown")
        .args(["-R", &format!("--reference={}", folder.path().display())])
        .arg(folder.path())
        .ok();
    compose(&store, &folder.join("debian"), "debian").ok();
    let build = store.rootfs_tool().args(["build", "-t", "postgres"]).arg(folder.join("postgres"));
    build.limit(PATIENCE).ok();
    let run =
        "run -d --name db --network none -e POSTGRES_PASSWORD=x -v data:/var/lib/postgresql/data postgres";
    store.runner().words(run).ok();
    let psql = "exec -e PGPASSWORD=x db psql -h 127.0.0.1 -U postgres -Atc";
    let ask = |text: &str| store.runner().words(psql).arg(text).run();
    eventually("it answers", || ask("CREATE TABLE t AS SELECT 7 AS n").code() == 0);
    store.runner().words("restart db").ok();
    eventually("it answers", || ask("SELECT n FROM t").text() == "7");
    store.runner().words("rm -f db").ok();
    store.runner().words("volume rm data").ok();
}
