//! The escape corpus, part four: a container types into the terminal of whoever started it.

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, need};

/// Push a line into every terminal that it can reach, in both spellings of the request, and paste what is
/// selected on the console.
const INJECT: &str = "
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    const char *line = \"echo injected\\n\";
    int fds[] = {0, 1, 2, open(\"/dev/tty\", O_RDWR), open(\"/dev/console\", O_RDWR)};
    for (int i = 0; i < 5; i++) {
        for (const char *c = line; *c; c++) {
            syscall(SYS_ioctl, fds[i], 0x5412UL, c);
            syscall(SYS_ioctl, fds[i], 0x5412UL | 1UL << 32, c);
        }
        char paste[] = {3, 0};
        syscall(SYS_ioctl, fds[i], 0x541CUL, paste);
        syscall(SYS_ioctl, fds[i], 0x541CUL | 1UL << 32, paste);
    }
    puts(\"tried\");
    return 0;
}";

fn ready() -> bool {
    need(Privilege::Containers)
        && need(Privilege::Peer("busybox"))
        && need(Privilege::Peer("cc"))
        && need(Privilege::Peer("script"))
        && need(Privilege::Peer("bash"))
        && coracle_tests::rootfs::folder_works()
}

// CVE-2017-5226, CVE-2019-10063
#[test]
fn what_a_container_types_is_not_read_by_the_callers_shell() {
    if !ready() {
        return;
    }
    let store = Store::new("inject");
    let image = Image::busybox().expect("busybox").program("bin/inject", INJECT).expect("a compiler");
    let _image = image.plain(&store, "image");
    let runner = coracle_tests::binaries::runner();
    for flags in ["", "-t", "-it", "-i", "-u 1000 -it"] {
        let run = format!(
            "{} --root {} run --rm {flags} --rootfs image inject",
            runner.display(),
            store.state().display()
        );
        // A shell of the host on a terminal of its own: it reads what was typed there, if anything was.
        let shell = format!("{run}; IFS= read -r -t 1 line; echo \"host read: [$line]\"");
        let script = Cmd::new("script").args(["-qec", &format!("bash -c '{shell}'"), "/dev/null"]);
        let out =
            script.dir(store.scratch.path()).env("CORACLE_STORE", store.path()).env("SHELL", "/bin/sh").run();
        assert!(out.stdout.contains("tried"), "{flags}: {out}");
        // `script` types its own end of file, which may arrive when the command has ended.
        let read = out.stdout.replace('\u{4}', "");
        assert!(read.contains("host read: []"), "{flags}: {out}");
    }
}
