//! What a machine's init takes of the root that it enters: its DHCP client, the kernel's modules by name, its own init.

use coracle_tests::guest::{self, Guest};
use coracle_tests::{Cmd, Scratch, machine};

/// As the shells of busybox and Debian have it, without what this machine does not need.
const CONFIGURES: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
ifconfig \"$interface\" \"$ip\" netmask \"$subnet\" && route add default gw \"$router\"
echo \"nameserver $dns\" >/etc/resolv.conf
";

#[test]
fn an_address_is_asked_for_by_the_root_s_own_client() {
    let scratch = Scratch::new("boot-dhcp");
    let conf = "arg=/check\nip=dhcp\nwait=30\n";
    let Some(guest) = Guest::new(&scratch, "dhcp", conf, &["failover", "net_failover", "virtio_net"]) else {
        return;
    };
    let network = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="];
    let guest = network.into_iter().fold(guest, Guest::argument);
    let guest = guest.file("etc/udhcpc/default.script", CONFIGURES).file(
        "check",
        "#!/bin/sh\nifconfig eth0 | grep -o 'addr:10[0-9.]*'; route -n | awk '/^0.0.0.0/ { print $2 }'; cat /etc/resolv.conf",
    );
    let said = guest.boot("");
    said.told("up\n0\n");
    assert_eq!(said.stdout, "addr:10.0.2.15\n10.0.2.2\nnameserver 10.0.2.3\n", "{said:#?}");
    // Nothing answers a client that cannot be found, and no device is another's.
    let said = guest.boot("init.ip=eth9:dhcp init.wait=0.5");
    said.told("error configure eth9: there is no such network device\n");
    std::fs::remove_file(guest.tree().join("bin/udhcpc")).expect("take the client away");
    guest.boot("").told("error get an address: the root has no udhcpc, dhclient or dhcpcd\n");
}

/// The kernel that a module is for.
fn release(module: &[u8]) -> String {
    let begin = module.windows(9).position(|part| part == b"vermagic=").expect("its kernel") + 9;
    let text = module[begin..].split(|byte| *byte == b' ').next().expect("a word");
    String::from_utf8(text.to_vec()).expect("a release")
}

#[test]
fn modules_are_loaded_by_name_with_what_they_need() {
    let scratch = Scratch::new("boot-modules");
    let conf = "arg=cat\narg=/proc/modules\n";
    let Some(guest) = Guest::new(&scratch, "modules", conf, &[]) else { return };
    let beside = machine::kernel().expect("a kernel");
    let read = |name: &str| std::fs::read(beside.with_file_name(name)).expect("a module");
    let folder = format!("lib/modules/{}", release(&read("softdog.ko")));
    let list = "kernel/softdog.ko: kernel/watchdog.ko\nkernel/watchdog.ko:\nkernel/garbage.ko:\n";
    let guest = guest
        .file(&format!("{folder}/kernel/softdog.ko"), read("softdog.ko"))
        .file(&format!("{folder}/kernel/watchdog.ko"), read("watchdog.ko"))
        .file(&format!("{folder}/kernel/garbage.ko"), "no module")
        .file(&format!("{folder}/modules.dep"), list);
    let said = guest.boot("init.modules=softdog,garbage");
    said.told("up\n0\n");
    for module in ["softdog ", "watchdog "] {
        assert!(said.stdout.lines().any(|line| line.starts_with(module)), "{module}: {said:#?}");
    }
    let line = format!("init: load module /{folder}/kernel/garbage.ko: it is no module of this kernel\n");
    assert!(said.console.contains(&line), "{line}: {said:#?}");
    guest.boot("init.modules=nowhere").told("error load module nowhere: the kernel has none of this name\n");
}

#[test]
fn where_there_is_nothing_to_run_the_root_s_own_init_takes_over() {
    let scratch = Scratch::new("boot-hand-over");
    let Some(guest) = Guest::new(&scratch, "hand-over", "", &[]) else { return };
    let tree = scratch.mkdir("content");
    guest::tools(&tree);
    for place in ["proc", "sys", "dev", "run"] {
        std::fs::create_dir(tree.join(place)).expect("make a folder");
    }
    let script = "#!/bin/sh\necho \"the root's init is $$, under $(awk '$2 == \"/\" { kind = $3 } END { print kind }' /proc/mounts)\"\n\
                  umount -r / 2>/dev/null\npoweroff -f\n";
    guest::put(&tree.join("sbin/init"), script);
    let disk = scratch.join("ext4");
    Cmd::new("truncate").args(["-s", "16M"]).arg(&disk).ok();
    Cmd::new("mkfs.ext4").args(["-q", "-L", "the-root", "-d"]).arg(&tree).arg(&disk).ok();
    let said = guest.disk(&disk).boot("root=LABEL=the-root rw PATH=/bin");
    said.told("up\n");
    assert!(said.console.contains("the root's init is 1, under ext4\n"), "{said:#?}");
}
