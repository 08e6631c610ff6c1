//! A bootfs: a kernel, its modules and a loader stub as an image like any other, of a package or of files, and the same
//! bytes each time.

use coracle_tests::debs::{PEERS, Repository};
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need};

/// A kernel module as far as its tables go, made by a compiler.
fn module(scratch: &Scratch, name: &str, says: &str) -> String {
    let path = scratch.join(name);
    let text = format!("static const char m[] __attribute__((section(\".modinfo\"), used)) = \"{says}\";");
    let source = scratch.write(format!("{name}.c"), text);
    Cmd::new("gcc").args(["-c", "-o"]).arg(&path).arg(source).ok();
    path.display().to_string()
}

fn listed(store: &Store, image: &str) -> Vec<String> {
    let tar = store.path().with_file_name("bootfs.tar");
    store.rootfs_tool().args(["export", "-o"]).arg(&tar).arg(image).ok();
    let out = Cmd::new("tar").arg("-tf").arg(&tar).ok();
    out.stdout.lines().filter(|l| !l.ends_with('/')).map(str::to_owned).collect()
}

fn shown(store: &Store, image: &str, path: &str) -> String {
    let tar = store.path().with_file_name("bootfs.tar");
    store.rootfs_tool().args(["export", "-o"]).arg(&tar).arg(image).ok();
    Cmd::new("tar").arg("-xOf").arg(&tar).arg(path).ok().stdout
}

fn label(store: &Store, image: &str) -> String {
    let format = "{{index .Config.Labels \"coracle.kernel.version\"}}";
    store.rootfs_tool().args(["inspect", "--format", format, image]).ok().stdout.trim().to_owned()
}

fn id(out: &Output) -> String {
    out.stdout.trim().to_owned()
}

#[test]
fn a_kernel_s_package_becomes_an_image_with_its_tables_and_is_the_same_in_every_store() {
    if !PEERS.iter().chain(&["gcc"]).all(|peer| need(Privilege::Peer(peer))) {
        return;
    }
    let repository = Repository::new();
    let made = Scratch::new("modules");
    let a = format!("@{}", module(&made, "a.ko", "depends=b-c\\0alias=virtio:*"));
    let b = format!("@{}", module(&made, "b-c.ko", "depends=\\0softdep=pre: crc"));
    repository.package(
        "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1-9-cloud (= 1)\n",
        &[],
        "xz",
    );
    let dir = "/lib/modules/6.1-9-cloud";
    repository.package(
        "Package: linux-image-6.1-9-cloud\nDepends: kmod, initramfs-tools | dracut\n",
        &[
            ("/boot/vmlinuz-6.1-9-cloud", "kernel"),
            ("/boot/config-6.1-9-cloud", "CONFIG_X=y\n"),
            ("/boot/System.map-6.1-9-cloud", "0 T x\n"),
            (&format!("{dir}/kernel/a.ko"), &a),
            (&format!("{dir}/kernel/b-c.ko"), &b),
            (&format!("{dir}/modules.builtin"), "kernel/crc.ko\n"),
            ("/usr/share/doc/linux/copyright", "GPL-2\n"),
        ],
        "xz",
    );
    let stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    repository.package(
        "Package: systemd-boot-efi\n",
        &[(stub, "stub"), ("/usr/lib/addonx64.efi.stub", "")],
        "zstd",
    );
    repository.package("Package: no-kernel\n", &[("/usr/share/x", "")], "xz");
    repository.publish("", Some("good"));
    let bootfs = |store: &Store| {
        let cmd = store.rootfs_tool().args(["bootfs", "--platform", "linux/amd64", "--suite", "test"]);
        cmd.args(["--mirror", &repository.url(), "--keyring"]).arg(repository.scratch.join("good.gpg"))
    };
    let (one, two) = (Store::new("bootfs"), Store::new("bootfs"));
    let said = bootfs(&one).ok().stdout;
    assert!(said.contains("6.1-9-cloud of linux-image-6.1-9-cloud 1"), "{said}");
    for name in ["localhost/bootfs:latest", "localhost/bootfs:6.1-9-cloud"] {
        assert!(said.contains(name), "{said}");
        assert_eq!(label(&one, name), "6.1-9-cloud");
    }
    let files = [
        "kernel/a.ko",
        "kernel/b-c.ko",
        "modules.alias",
        "modules.builtin",
        "modules.dep",
        "modules.softdep",
    ];
    let mut expected = ["boot/config", "boot/stub.efi", "boot/vmlinuz"].map(str::to_owned).to_vec();
    expected.extend(files.map(|file| format!("{}/{file}", &dir[1..])));
    assert_eq!(listed(&one, "bootfs"), expected);
    let dep = shown(&one, "bootfs", &format!("{}/modules.dep", &dir[1..]));
    assert_eq!(dep, "kernel/a.ko: kernel/b-c.ko\nkernel/b-c.ko:\n");
    assert_eq!(shown(&one, "bootfs", "boot/stub.efi"), "stub");

    let again = bootfs(&two).args(["-q", "-t", "other"]).ok();
    assert_eq!(id(&again), id(&bootfs(&one).arg("-q").ok()), "another store, another name, the same image");
    // As any image: it is saved, loaded, tagged and removed.
    let tar = one.path().with_file_name("saved.tar");
    one.rootfs_tool().args(["save", "-o"]).arg(&tar).arg("bootfs").ok();
    let three = Store::new("bootfs");
    three.rootfs_tool().args(["load", "-i"]).arg(&tar).ok();
    assert_eq!(label(&three, "bootfs"), "6.1-9-cloud");
    three.rootfs_tool().args(["rmi", "bootfs"]).ok();
    bootfs(&two).args(["--package", "linux-image-gone"]).run().complains("linux-image-gone: no index has it");
    let none = bootfs(&two).args(["--package", "no-kernel"]).run();
    none.complains("read the package no-kernel: it holds no boot/vmlinuz-VERSION");
}

/// A kernel's file as the x86 boot protocol has it.
fn bzimage(version: &str) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    file[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
    file
}

#[test]
fn a_kernel_s_file_and_the_folder_of_its_modules_become_a_bootfs_too() {
    let (store, scratch) = (Store::new("bootfs"), Scratch::new("kernel"));
    let kernel = scratch.write("vmlinuz", bzimage("6.9.1 (a@b) #1"));
    let modules = scratch.mkdir("modules");
    scratch.write("modules/modules.dep", "x.ko:\n");
    scratch.write("modules/modules.dep.bin", "of the host's kmod");
    scratch.write("modules/x.ko", "");
    std::os::unix::fs::symlink("/usr/src/linux", scratch.join("modules/build")).expect("symlink");
    let bootfs = || store.rootfs_tool().args(["bootfs", "-t", "own", "--kernel"]).arg(&kernel);
    bootfs().arg("--modules").arg(&modules).ok();
    let dir = "lib/modules/6.9.1";
    let expected = ["boot/vmlinuz".to_owned(), format!("{dir}/modules.dep"), format!("{dir}/x.ko")];
    assert_eq!(listed(&store, "own"), expected);
    assert_eq!(label(&store, "own"), "6.9.1");
    std::fs::remove_file(scratch.join("modules/modules.dep")).expect("rm");
    let broken = bootfs().arg("--modules").arg(&modules).run();
    broken.complains("read the module \"lib/modules/6.9.1/x.ko\": it is no kernel module");
    let none = scratch.mkdir("none");
    scratch.write("none/notes", "");
    for (words, says) in [
        (&["--kernel", "/dev/null"][..], "/dev/null"),
        (&["--kernel", "/nonexistent"], "/nonexistent"),
        (&["--modules", "/lib"], "--modules and --stub go with --kernel FILE"),
        (&["--kernel", "host", "--modules", "/lib"], "--kernel host has its own modules"),
        (&["--kernel", "x", "--package", "y"], "--kernel: no package is fetched for it"),
        (&["--platform", "linux/pdp11"], "pdp11"),
        (
            &["--kernel", kernel.to_str().expect("a path"), "--modules", none.to_str().expect("a path")],
            "has no *.ko: name the one of 6.9.1",
        ),
    ] {
        let out = store.rootfs_tool().arg("bootfs").args(words).run();
        assert_eq!(out.stderr.trim().lines().count(), 1, "{}", out.stderr);
        out.complains(says);
    }
    let text = scratch.write("text", "no kernel");
    let out = store.rootfs_tool().args(["bootfs", "--kernel"]).arg(text).run();
    out.complains("it is no kernel, or of a form that is not known");
}
