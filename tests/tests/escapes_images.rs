//! The escape corpus: what an image's config, its labels and the filter's defaults must not let through.

use coracle_tests::canary::Canary;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

/// A line of /proc/self/status in a program's output.
#[track_caller]
fn field<'a>(out: &'a Output, name: &str) -> &'a str {
    let line = out.stdout.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}\n{out}")).trim()
}

/// A mount over the root itself would be in nobody's view, or in everybody's place.
#[test]
fn a_link_that_leads_to_the_root_is_nothing_to_mount_on() {
    if !ready() {
        return;
    }
    let store = Store::new("image-root-link");
    let image =
        Image::busybox().expect("busybox").link("data", "/").link("etc/up", "..").link("loop", "/bin/..");
    let _image = image.compose(&store, "image");
    store.scratch.write("host/mine", "");
    let host = store.scratch.join("host").display().to_string();
    for at in ["/data", "/etc/up", "/loop", "/data/etc/up"] {
        let out = store.run(&format!("-v {host}:{at} image ls /")).fails(125);
        assert!(
            out.stderr.contains(&format!("mount {at}: a link of the image leads from there to /")),
            "{out}"
        );
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
    }
    store.run("--tmpfs /data image true").fails(125).complains("the root cannot be covered");
    // Beside them they are places like any other.
    store.run(&format!("-v {host}:/data/here image ls /here")).ok().prints("mine");
}

// CVE-2024-40635, as an image says it
#[test]
fn an_images_user_that_is_out_of_range_is_refused() {
    if !ready() {
        return;
    }
    for user in ["4294967296", "-1", "2147483648:99999999999"] {
        let store = Store::new("image-user");
        let image = Image::busybox().expect("busybox").config(format!("user = \"{user}\""));
        if image.compose_command(&store, "image").run().code() == 0 {
            let out = store.run("image id").run();
            assert!(out.code() != 0 && !out.stdout.contains("uid=0"), "{user}: {out}");
        }
    }
}

// CVE-2026-53488
#[test]
fn a_label_of_an_image_is_inert() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("labels"), Canary::new());
    let touch = format!("touch {}/made", canary.path().display());
    let labels = ["run", "RUN", "INSTALL", "io.podman.annotations.privileged", "coracle.privileged"];
    let labels: Vec<String> = labels.iter().map(|l| format!("{l:?} = {touch:?}")).collect();
    let image = Image::busybox().expect("busybox").config(format!("labels = {{ {} }}", labels.join(", ")));
    let _image = image.compose(&store, "image");
    let out = store.run("image cat /proc/self/status").ok();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field(&out, "CapEff"), "00000000a80425fb");
    }
    store.rootfs_tool().words("inspect image").ok();
    canary.assert_untouched();
}

// CVE-2018-15664, CVE-2019-10152, CVE-2023-0778: what is taken out of an image
#[test]
fn nothing_that_is_taken_out_of_an_image_came_through_its_links() {
    if !need(Privilege::Peer("busybox")) {
        return;
    }
    let (store, canary) = (Store::new("links-out"), Canary::new());
    let image = Image::busybox().expect("busybox").link("dir", canary.path());
    let image = image.link("file", canary.path().join("secret")).link("etc", canary.path().join("etc"));
    let up = format!("../../../../../../../../..{}", canary.path().join("secret").display());
    let _image = image.link("up", up).compose(&store, "image");
    let _base = Image::busybox().expect("busybox").compose(&store, "base");
    for words in [
        "export image -o flat.tar",
        "save image -o saved.tar",
        "copy -q image dir:out",
        "diff base image",
        "du image",
        "verify image",
    ] {
        let out = store.rootfs_tool().words(words).ok();
        canary.assert_unread(&out.stdout);
        canary.assert_untouched();
    }
    for file in ["flat.tar", "saved.tar"] {
        let bytes = std::fs::read(store.scratch.join(file)).expect("the archive");
        canary.assert_unread(&String::from_utf8_lossy(&bytes));
    }
    let kept = std::fs::read_link(store.scratch.join("out/file")).expect("still a link");
    assert_eq!(kept, canary.path().join("secret"));
}

// CVE-2019-14271, CVE-2026-41567
#[test]
fn what_reads_an_image_starts_no_program_and_loads_no_library() {
    // An ordinary user's ids are mapped by the host's own programs, which load what they like.
    if !need(Privilege::Root) || !["strace", "zstd", "busybox"].map(Privilege::Peer).into_iter().all(need) {
        return;
    }
    let store = Store::new("no-programs");
    let traps = ["tar", "xz", "gzip", "zstd", "unpigz", "getent", "ldconfig", "sh"];
    let image = traps.iter().fold(Image::busybox().expect("busybox"), |image, name| {
        let _ = std::fs::remove_file(image.at(format!("bin/{name}")));
        image.script(&format!("bin/{name}"), "#!/bin/false\n")
    });
    let image =
        image.file("lib/libnss_files.so.2", "no library").file("etc/nsswitch.conf", "passwd: files\n");
    let image = image.compose(&store, "image");
    store.rootfs_tool().words("save image -o saved.tar").ok();
    for (program, name) in [("gzip -1", "gz"), ("zstd -q -1", "zst")] {
        let line = format!("{program} < saved.tar > saved.tar.{name}");
        Cmd::new("sh").args(["-c", &line]).dir(store.scratch.path()).ok();
    }
    let path = format!("{}:{}", image.at("bin").display(), std::env::var("PATH").expect("PATH"));
    for words in [
        "load -i saved.tar.gz",
        "load -i saved.tar.zst",
        "copy -q image dir:out",
        "export image -o flat.tar",
        "import flat.tar flat",
        "diff image flat",
        "verify",
    ] {
        let trace = store.scratch.join("trace");
        let strace =
            Cmd::new("strace").args(["-f", "-qq", "-e", "trace=execve,execveat,mmap,mprotect", "-o"]);
        let strace = strace.arg(&trace).arg(coracle_tests::binaries::rootfs_tool()).words(words);
        strace.env("CORACLE_STORE", store.path()).env("PATH", &path).dir(store.scratch.path()).ok();
        let trace = std::fs::read_to_string(&trace).expect("the trace");
        assert_eq!(trace.matches("execve").count(), 1, "{words}: {trace}");
        assert!(trace.contains("mmap("), "{words}: nothing was traced: {trace}");
        assert!(!trace.contains("PROT_EXEC"), "{words}: {trace}");
    }
}

// CVE-2024-9341, CVE-2024-9676, as a recipe reads its base
#[test]
fn the_user_files_of_a_base_are_read_with_suspicion() {
    if !need(Privilege::Peer("busybox")) {
        return;
    }
    let canary = Canary::new();
    type Make = fn(&Image, &Canary);
    let make: [(&str, Make); 4] = [
        ("a link", |image, canary| {
            std::os::unix::fs::symlink(canary.path().join("etc/passwd"), image.at("etc/passwd"))
                .expect("link");
        }),
        ("a fifo that nobody writes", |image, _| {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
            nix::unistd::mkfifo(&image.at("etc/passwd"), mode).expect("make a fifo");
        }),
        ("64 MiB of nothing", |image, _| {
            let huge = std::fs::File::create(image.at("etc/passwd")).expect("make a file");
            huge.set_len(64 << 20).expect("make it huge");
        }),
        ("a folder that is a link", |image, canary| {
            std::fs::remove_dir_all(image.at("etc")).expect("remove it");
            std::os::unix::fs::symlink(canary.path().join("etc"), image.at("etc")).expect("link");
        }),
    ];
    for (what, make) in make {
        let store = Store::new("user-files");
        let image = Image::busybox().expect("busybox");
        std::fs::remove_file(image.at("etc/passwd")).expect("remove it");
        make(&image, &canary);
        let _image = image.compose(&store, "base");
        let recipe = Scratch::new("user-files");
        recipe.write(
            "rootfs.toml",
            "[[layer]]\nimage = \"base\"\n[[layer]]\nusers = [{ name = \"somebody\", uid = 1000 }]\n",
        );
        let out = store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "image", "-q"]).run();
        if what.contains("MiB") {
            let out = out.fails(1).complains("etc/passwd");
            assert_eq!(out.stderr.trim_end().lines().count(), 1, "{what}: {out}");
            canary.assert_untouched();
            continue;
        }
        out.ok();
        store.rootfs_tool().args(["export", "image", "-o", "flat.tar"]).ok();
        let passwd = Cmd::new("tar").words("-xOf flat.tar etc/passwd").dir(store.scratch.path()).ok().stdout;
        let theirs = passwd.contains("root:x:0:0::/:/bin/sh");
        assert!(passwd.contains("somebody:x:1000") && !theirs, "{what}: {passwd:?}");
        canary.assert_untouched();
    }
}

// CVE-2026-31431
#[test]
fn sockets_of_the_kernels_crypto_and_of_the_hypervisor_are_refused() {
    if !ready() || !need(Privilege::Peer("cc")) {
        return;
    }
    let store = Store::new("sockets");
    let image = Image::busybox().expect("busybox").program("bin/sockets", SOCKETS).expect("a compiler");
    let _image = image.compose(&store, "image");
    let out = store.run("image sockets").ok();
    assert_eq!(out.text(), "38 1\n40 1\ninet 0", "EPERM is 1");
}

const SOCKETS: &str = "
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
int main(void) {
    int families[] = {38, 40};
    for (int i = 0; i < 2; i++)
        printf(\"%d %d\\n\", families[i], socket(families[i], SOCK_SEQPACKET, 0) < 0 ? errno : 0);
    printf(\"inet %d\\n\", socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0);
    return 0;
}";
