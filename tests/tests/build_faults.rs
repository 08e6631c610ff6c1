//! Builds that are killed, that run out of disk, and those whose Dockerfile, context or base means harm: the store
//! verifies, nothing is left running or mounted, and nothing outside is read or written.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use coracle_tests::canary::Canary;
use coracle_tests::leftovers::Leftovers;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, need};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

struct Site {
    store: Store,
    _image: Image,
}

fn site(name: &str) -> Option<Site> {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return None;
    }
    let store = Store::new(name);
    let image = Image::busybox()?.compose(&store, "box");
    store.scratch.write("c/a.txt", "a\n");
    Some(Site { store, _image: image })
}

impl Site {
    fn command(&self, dockerfile: &str) -> Cmd {
        self.store.scratch.write("c/Dockerfile", dockerfile);
        let build = self.store.rootfs_tool().args(["build", "-t", "app"]).arg(self.store.scratch.join("c"));
        build.limit(Duration::from_secs(60))
    }

    #[track_caller]
    fn build(&self, dockerfile: &str) -> Output {
        self.command(dockerfile).run()
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_process_no_mount_and_a_store_that_verifies() {
    let Some(site) = site("build-killed") else { return };
    let text = "FROM box AS a\n\
        RUN --mount=type=cache,target=/c dd if=/dev/urandom of=/x bs=1k count=2000 2>/dev/null; sleep 0.05\n\
        FROM box AS b\nCOPY . /y/\nRUN --mount=type=secret,id=k sleep 0.05; echo 1 > /1\n\
        FROM a\nCOPY --from=b /y /1 /z/\nRUN sleep 0.05; rm /x\nWORKDIR /w\n";
    let key = site.store.scratch.write("key", "k");
    let token = site.store.scratch.path().file_name().expect("a name").to_string_lossy().into_owned();
    let all = std::env::var_os("CORACLE_TEST_ALL").is_some();
    let rounds: u64 = if all { 100 } else { 14 };
    for round in 0..rounds {
        let before = Leftovers::before(&token, &[]);
        let secret = format!("id=k,src={}", key.display());
        let running = site.command(text).args(["--no-cache", "-q", "--secret", &secret]).spawn();
        std::thread::sleep(Duration::from_millis(5 + round * 900 / rounds));
        running.signal(if round % 5 == 4 { Signal::SIGTERM } else { Signal::SIGKILL });
        let _ = running.wait(Duration::from_secs(20)).expect("it ends");
        before.assert_none();
        site.store.rootfs_tool().arg("verify").ok();
    }
    site.command(text).ok();
    site.store.rootfs_tool().arg("verify").ok();
    let left = fs::read_dir(site.store.path().join("tmp")).expect("read").count();
    assert_eq!(left, 0, "what was killed is swept by the next");
}

#[test]
fn a_disk_that_is_full_is_told_and_harms_nothing() {
    let Some(site) = site("build-full") else { return };
    let dir = site.store.scratch.mkdir("small");
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("size=16m")).expect("mount");
    let small = dir.join("store");
    let tar = site.store.scratch.join("box.tar");
    site.store.rootfs_tool().args(["save", "box", "-o"]).arg(&tar).ok();
    let tool = || Cmd::rootfs_tool().env("CORACLE_STORE", &small).dir(site.store.scratch.path());
    tool().args(["load", "-i"]).arg(&tar).ok();
    site.store.scratch.write("c/big", vec![7; 7 << 20]);
    for text in [
        "FROM box\nRUN dd if=/dev/zero of=/x bs=1M count=40\n",
        "FROM box\nCOPY big /a\nCOPY a.txt big /c/\n",
        "FROM box\nADD a.txt /a/\nRUN --mount=type=bind,target=/ctx cp /ctx/big /c && cp /ctx/big /d\n",
    ] {
        site.store.scratch.write("c/Dockerfile", text);
        let out = tool().args(["build", "-q", "-t", "app"]).arg(site.store.scratch.join("c")).run();
        assert_eq!(out.code(), 1, "{text}: {out}");
        out.complains("o space left on device");
        tool().arg("verify").ok();
        tool().words("prune -f").ok();
    }
    site.store.scratch.write("c/Dockerfile", "FROM box\nRUN echo 1 > /x\n");
    tool().args(["build", "-q", "-t", "app"]).arg(site.store.scratch.join("c")).ok();
}

#[test]
fn no_name_in_a_dockerfile_a_context_or_a_base_leads_out_of_it() {
    let Some(site) = site("build-hostile") else { return };
    let canary = Canary::new();
    let out = canary.path().display().to_string();
    let scratch = &site.store.scratch;
    symlink(canary.path(), scratch.join("c/out")).expect("symlink");
    symlink(canary.path().join("secret"), scratch.join("c/file")).expect("symlink");
    symlink(format!("../../../../../../..{out}"), scratch.join("c/up")).expect("symlink");
    // A tar that makes a link and writes through it, one whose names lead up, one with a device.
    let script = format!(
        "import tarfile,io
def e(t,n,ty=tarfile.REGTYPE,l='',b=b'',**k):
 i=tarfile.TarInfo(n); i.type=ty; i.linkname=l; i.size=len(b)
 for x in k: setattr(i,x,k[x])
 t.addfile(i,io.BytesIO(b))
t=tarfile.open('c/evil.tar','w')
e(t,'x',tarfile.SYMTYPE,'{out}'); e(t,'x/pwned',b=b'1'); t.close()
t=tarfile.open('c/hard.tar','w'); e(t,'h',tarfile.LNKTYPE,'{out}/secret'); t.close()
t=tarfile.open('c/up.tar','w'); e(t,'../../../../../../../..{out}/pwned',b=b'1'); t.close()
t=tarfile.open('c/dev.tar','w'); e(t,'null',tarfile.CHRTYPE,devmajor=1,devminor=3); e(t,'f',b=b'1'); t.close()
"
    );
    Cmd::new("python3").args(["-c", &script]).dir(scratch.path()).ok();
    // Whether it is built, where it stays inside, or refused, is of no matter for some.
    for (text, code) in [
        ("FROM box\nCOPY out /x\n", Some(1)),
        ("FROM box\nCOPY file /x\n", Some(1)),
        ("FROM box\nCOPY up/secret /x\n", Some(1)),
        ("FROM box\nCOPY ../../../../etc/passwd /x\n", Some(1)),
        ("FROM box\nADD evil.tar /e/\n", None),
        ("FROM box\nADD hard.tar /e/\n", Some(1)),
        ("FROM box\nADD up.tar /e/\n", None),
        ("FROM box\nADD dev.tar /e/\nRUN test -c /e/null\n", Some(0)),
        ("FROM box\nRUN ln -s OUT /l\nCOPY a.txt /l/pwned\n", Some(0)),
        ("FROM box\nRUN ln -s OUT /l\nWORKDIR /l/sub\nRUN touch x\n", Some(0)),
        ("FROM box\nRUN ln -s OUT /l\nADD dev.tar /l/\n", Some(0)),
        ("FROM box AS a\nRUN ln -s OUT /l\nFROM box\nCOPY --from=a /l/secret /x\n", Some(1)),
        ("FROM box AS a\nRUN ln -s ../../../../OUT /m\nFROM box\nCOPY --from=a /m/secret /x\n", Some(1)),
        ("FROM box AS a\nFROM box\nCOPY --from=a ../../../../OUT/secret /x\n", Some(1)),
        (
            "FROM box AS a\nRUN ln -s OUT /l\nFROM box\nRUN --mount=type=bind,from=a,source=/l,target=/b cat /b/secret\n",
            Some(1),
        ),
        ("FROM box\nRUN --mount=type=bind,source=out,target=/b cat /b/secret\n", Some(1)),
        ("FROM box\nRUN --mount=type=bind,source=../..OUT,target=/b cat /b/secret\n", Some(1)),
        ("FROM box\nRUN ln -s OUT /t\nRUN --mount=type=cache,target=/t touch /t/pwned\n", Some(0)),
        (
            "FROM box\nRUN rm /etc/passwd && ln -s OUT/etc/passwd /etc/passwd\nCOPY --chown=root a.txt /x\n",
            Some(1),
        ),
        ("FROM box\nRUN rm /etc/passwd && mkfifo /etc/passwd\nCOPY --chown=root a.txt /x\n", Some(1)),
        (
            "FROM box\nRUN dd if=/dev/zero of=/etc/passwd bs=1M count=0 seek=32\nCOPY --chown=root a.txt /x\n",
            Some(1),
        ),
        ("FROM box\nCOPY --chown=4294967296 a.txt /x\n", Some(1)),
        ("FROM box\nUSER 4294967295\nRUN id\n", Some(1)),
        ("FROM box\nRUN --mount=type=secret,id=../../x,target=/y,required cat /y\n", Some(1)),
        ("FROM box\nRUN --mount=type=bind,target=/x,source=a.txt,rslave true\n", Some(1)),
    ] {
        let text = text.replace("OUT", &out);
        let built = site.build(&text);
        assert!(code.is_none_or(|code| built.code() == code) && built.code() < 2, "{text}: {built}");
        canary.assert_unread(&built.stderr);
        canary.assert_untouched();
    }
    site.store.rootfs_tool().arg("verify").ok();
}

#[test]
fn a_dockerfile_that_is_no_plain_file_or_too_large_is_refused_at_once() {
    let Some(site) = site("build-odd") else { return };
    let dir = site.store.scratch.join("c");
    let build = || {
        let build = site.store.rootfs_tool().args(["build", "-t", "app"]).arg(&dir);
        build.limit(Duration::from_secs(30))
    };
    for name in ["Dockerfile", ".dockerignore"] {
        let path = dir.join(name);
        site.store.scratch.write("c/Dockerfile", "FROM box\n");
        let _ = fs::remove_file(&path);
        Cmd::new("mkfifo").arg(&path).ok();
        build().fails(1).complains("it is not a plain file");
        fs::remove_file(&path).expect("remove");
        symlink("/dev/zero", &path).expect("symlink");
        build().fails(1).complains("it is not a plain file");
        fs::remove_file(&path).expect("remove");
        site.store.scratch.write(format!("c/{name}"), vec![b'#'; 2 << 20]);
        build().fails(1).complains("more than");
        site.store.scratch.write(format!("c/{name}"), [b'#', 0xff]);
        build().fails(1).complains("it is not UTF-8");
        fs::remove_file(&path).expect("remove");
    }
    let grows: String = (0..40).map(|_| "ENV A=$A$A$A$A\n").collect();
    let grows = site.build(&format!("FROM box\nENV A=aaaaaaaaaaaaaaaa\n{grows}"));
    grows.fails(1).complains("it is longer than");
    site.build(&format!("FROM box\nENV A={}", "${B:-".repeat(10_000))).fails(1).complains("nested deeper");
    let deep = "d/".repeat(300);
    site.build(&format!("FROM box\nRUN true\nCOPY a.txt /{deep}x\n")).fails(1);
}
