//! `rootfs-tool build`: what BuildKit has that its older brother in docker has not, and what is ours.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, need};

/// A store with an image `box`, and a context beside it.
struct Site {
    store: Store,
    _image: Image,
}

impl Site {
    fn on(store: Store) -> Option<Self> {
        let image = Image::busybox()?.compose(&store, "box");
        let site = Self { store, _image: image };
        site.file("a.txt", "a\n").file("d/c.txt", "c\n").file("d/x.log", "l\n");
        Some(site)
    }

    fn file(&self, name: &str, content: &str) -> &Self {
        self.store.scratch.write(format!("c/{name}"), content);
        self
    }

    fn context(&self) -> PathBuf {
        self.store.scratch.join("c")
    }

    /// `build` of a Dockerfile, with words before the context.
    #[track_caller]
    fn build(&self, dockerfile: &str, words: &str) -> Output {
        self.file("Dockerfile", dockerfile);
        let build = self.store.rootfs_tool().args(["build", "-t", "app"]).words(words);
        build.arg(self.context()).run()
    }

    /// What a command says in what was built.
    #[track_caller]
    fn say(&self, script: &str) -> String {
        self.store.run("app sh -c").arg(script).ok().stdout
    }
}

fn site(name: &str) -> Option<Site> {
    let ready = need(Privilege::Root) && need(Privilege::Peer("busybox"));
    ready.then(|| Site::on(Store::new(name))).flatten()
}

fn cached(out: &Output) -> usize {
    out.stderr.lines().filter(|l| l.ends_with(" CACHED")).count()
}

#[test]
fn a_step_whose_input_is_as_it_was_is_not_done_again() {
    let Some(site) = site("build-cache") else { return };
    let text = "FROM box\nRUN echo 1 > /one\nCOPY a.txt /a\nRUN date +%N > /when\nCMD [\"sh\"]\n";
    let first = site.build(text, "").ok();
    assert_eq!(cached(&first), 0, "{first}");
    let id = site.store.image_id("app");
    // Another time, and another name in the context, are not another input.
    site.file("a.txt", "a\n").file("other", "x");
    assert_eq!(cached(&site.build(text, "").ok()), 3);
    assert_eq!(site.store.image_id("app"), id);
    site.file("a.txt", "b\n");
    assert_eq!(cached(&site.build(text, "").ok()), 1);
    assert_eq!(site.say("cat /a"), "b\n");
    assert_eq!(cached(&site.build(text, "--no-cache").ok()), 0);
    assert_eq!(cached(&site.build(text, "--no-cache-filter stage-0").ok()), 0);
    let changed = text.replace("echo 1", "echo 2");
    assert_eq!(cached(&site.build(&changed, "").ok()), 0);
    // An argument counts from where it is declared, and only where it is.
    let with = |arg: &str| {
        let text = "FROM box\nRUN echo 1 > /x\nARG A\nRUN echo $A > /y\n";
        cached(&site.build(text, &format!("--build-arg A={arg} --build-arg HTTP_PROXY=http://{arg}")).ok())
    };
    assert_eq!((with("1"), with("1"), with("2"), with("1")), (0, 2, 1, 2));
    // What prune has taken away is made again.
    site.store.rootfs_tool().words("rmi app").ok();
    site.store.rootfs_tool().words("prune -f").ok();
    assert!(!site.store.path().join("cache/build").exists());
    assert_eq!(cached(&site.build(text, "").ok()), 0);
    site.store.rootfs_tool().arg("verify").ok();
}

#[test]
fn a_change_that_neither_size_nor_time_tells_is_seen() {
    let Some(site) = site("build-racy") else { return };
    let text = "FROM box\nCOPY a.txt d /all/\n";
    let file = site.context().join("a.txt");
    let mtime = fs::metadata(&file).expect("stat").modified().expect("a time");
    for n in 0..10 {
        // As soon as can be after the build that has looked at it last.
        site.file("a.txt", &format!("{n}\n"));
        fs::File::options().write(true).open(&file).expect("open").set_modified(mtime).expect("set its time");
        assert_eq!(cached(&site.build(text, "").ok()), 0);
        let id = site.store.image_id("app");
        assert_eq!(cached(&site.build(text, "").ok()), 1);
        assert_eq!(site.store.image_id("app"), id);
        assert_eq!(site.say("cat /all/a.txt"), format!("{n}\n"));
    }
}

#[test]
fn an_error_shows_the_file_and_the_line() {
    let Some(site) = site("build-errors") else { return };
    for (text, line, why) in [
        (
            "FROM box\nRUNN x",
            2,
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM box # the base", 1, "a comment needs a line of its own"),
        ("FROM box\nENV A=b # c", 2, "a comment needs a line of its own"),
        (
            "FROM box\n\nRUN exit 7",
            3,
            "process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7",
        ),
        ("FROM box\nCOPY nope /", 2, "\"/nope\": not found"),
        ("FROM box\nCOPY --from=1 /x /", 2, "invalid stage index 1"),
        ("FROM box AS a\nCOPY --from=b /x /\nFROM box AS b\nFROM a", 2, "needs to be defined before"),
        ("FROM box\nWORKDIR /etc/passwd", 2, "not a directory"),
        ("FROM box\nRUN --mount=type=frob,target=/x true", 2, "unsupported mount type \"frob\""),
        ("FROM box\nRUN --mount=type=secret,id=k,required true", 2, "secret k: not found"),
        (
            "FROM box\nADD --checksum=sha256:00 a.txt /x",
            2,
            "checksum can't be specified for sources that are neither HTTP(S) nor git",
        ),
        ("FROM box\nADD git@-example.com:a/b.git /x", 2, "its host is none"),
        ("ARG A\nFROM $A", 2, "base name ($A) should not be blank"),
        ("FROM box\nENV A=\"${B:?is needed}\"", 2, "B: is needed"),
    ] {
        let out = site.build(text, "");
        let shown = text.lines().nth(line - 1).expect("a line");
        assert_eq!(out.code(), 1, "{text}: {out}");
        let out = out.complains(&format!("Dockerfile:{line}")).complains(why);
        assert!(out.stderr.contains(&format!("{line} | >>> {shown}")), "{out}");
        assert_eq!(
            out.stderr.lines().filter(|l| l.starts_with("rootfs-tool: Dockerfile:")).count(),
            1,
            "{out}"
        );
    }
    for (words, code, why) in [
        ("--frob", 2, "--frob"),
        ("--target nope", 2, "target stage \"nope\" could not be found"),
        ("--network bridge", 2, "there are default, none and host"),
        ("--progress tty", 2, "there are auto, plain and quiet"),
        ("--output type=registry", 2, "the type registry is not known"),
        ("--secret src=x", 2, "id is missing"),
        ("--add-host x", 2, "it is NAME:ADDRESS"),
        ("--build-arg =x", 2, "--build-arg"),
        ("--platform linux/frob", 2, "unknown operating system or architecture"),
    ] {
        let out = site.build("FROM box", words);
        assert_eq!(out.code(), code, "{words}: {out}");
        out.complains(why);
    }
    site.build("FROM box\nMAINTAINER x # y\nCMD a", "--build-arg U=1")
        .ok()
        .complains("MaintainerDeprecated")
        .complains("a comment needs a line of its own")
        .complains("JSONArgsRecommended")
        .complains("One or more build-args [U] were not consumed");
}

#[test]
fn heredocs_are_scripts_and_files() {
    let Some(site) = site("build-heredocs") else { return };
    let text = r##"FROM box
ENV A=1
RUN <<EOF
echo "$A" > /one
echo two >> /one
EOF
RUN <<-"X"
	#!/bin/sh
	echo "from $0" > /two
	X
RUN cat <<A > /three && cat <<B >> /three
first $A
A
second
B
COPY <<FILE /four
$A "quoted" '$A' \$A
FILE
COPY <<-"A" <<B /d/
	$A
A
b
B
"##;
    site.build(text, "").ok();
    let said = site.say("cat /one /two /three /four /d/A /d/B; stat -c %a /four");
    assert_eq!(said, "1\ntwo\nfrom /dev/pipes/X\nfirst 1\nsecond\n1 \"quoted\" '1' $A\n$A\nb\n644\n");
}

#[test]
fn what_is_mounted_for_a_run_is_not_in_its_layer() {
    let Some(site) = site("build-mounts") else { return };
    let secret = site.store.scratch.write("secret", "the key");
    let text = "FROM box AS src\nRUN mkdir /o && echo out > /o/f && ln -s /o /l\nFROM box\n\
        RUN --mount=type=cache,target=/cache,id=c echo x >> /cache/n; wc -l < /cache/n > /lines\n\
        RUN --mount=type=tmpfs,target=/t touch /t/x && grep -c ' /t tmpfs' /proc/mounts > /tmpfs\n\
        RUN --mount=type=secret,id=key cat /run/secrets/key | tr a-z A-Z > /upper\n\
        RUN --mount=type=secret,id=key,target=/deep/er/k,mode=0444,uid=5 stat -c '%a %u' /deep/er/k > /stat\n\
        RUN --mount=type=secret,id=key,env=KEY echo ${#KEY} > /length\n\
        RUN --mount=type=bind,source=d,target=/b ls /b > /ls; touch /b/no 2>/dev/null || echo read only >> /ls\n\
        RUN --mount=type=bind,from=src,source=/l/f,target=/file cat /file > /file-said\n\
        RUN --mount=type=bind,from=src,source=/o,target=/w,rw echo more >> /w/f && cat /w/f > /rw\n\
        RUN --mount=type=bind,from=src,source=/o,target=/w cat /w/f >> /rw\n\
        RUN --mount=type=ssh echo \"[$SSH_AUTH_SOCK]\" > /ssh\n";
    site.file(".dockerignore", "**/*.log\n");
    let words = format!("--secret id=key,src={}", secret.display());
    let out = site.build(text, &words).ok();
    assert!(!format!("{out}").contains("the key"), "{out}");
    assert_eq!(
        site.say("cat /lines /tmpfs /upper; echo; cat /stat /length /ls /file-said /rw /ssh"),
        "1\n1\nTHE KEY\n444 5\n7\nc.txt\nread only\nout\nout\nmore\nout\n[]\n"
    );
    let tar = site.store.scratch.join("app.tar");
    site.store.rootfs_tool().args(["export", "app", "-o"]).arg(&tar).ok();
    let names = Cmd::new("tar").arg("-tf").arg(&tar).ok().stdout;
    for gone in ["cache/", "t/", "run/secrets", "deep/", "b/", "w/", "file\n", "dev/pipes", "etc/hosts\n"] {
        assert!(!names.lines().any(|l| format!("{l}\n").starts_with(gone)), "{gone}: {names}");
    }
    // The cache stays from build to build, and is seen by no other id.
    let text = "FROM box\nRUN --mount=type=cache,target=/x,id=c cat /x/n > /n\nRUN --mount=type=cache,target=/x ls /x > /ls";
    site.build(text, "").ok();
    assert_eq!(site.say("cat /n /ls"), "x\n");
    let all = fs::read(&tar).expect("read");
    assert!(!all.windows(7).any(|w| w == b"the key"), "the secret is in the image");
}

#[test]
fn a_cache_begins_as_it_is_asked_to_and_what_mounts_say_may_have_variables() {
    let Some(site) = site("build-caches") else { return };
    let text = "FROM box AS src\nRUN mkdir -m 750 /o && echo first > /o/f && chown -R 4:5 /o\nFROM box\nARG T=cache D=/c M=700\n\
        RUN --mount=type=$T,id=c,from=src,source=/o,target=$D/x cat /c/x/f > /one; stat -c '%a %u %g' /c/x >> /one; touch /c/x/new\n\
        RUN --mount=type=CACHE,id=c,from=src,source=/o,target=/q ls /q > /two\n\
        RUN --mount=type=cache,id=c,target=/q ls /q > /three; touch /q/plain\n\
        RUN --mount=type=cache,id=c,target=/q,uid=7,mode=$M ls /q > /four; stat -c '%a %u %g' /q >> /four\n\
        RUN --mount=type=cache,id=c,target=/q,uid=0,mode=0755 ls /q >> /four\n\
        RUN --mount=from=,source=a.txt,target=/q cat /q > /five\n\
        WORKDIR /w\n\
        RUN --mount=type=tmpfs,size=1m mknod null c 1 3 && echo gone > null && grep -c ' /w tmpfs' /proc/mounts > /six\n";
    site.build(text, "").ok();
    let said = site.say("cat /one /two /three /four /five /six; ls /w");
    assert_eq!(said, "first\n750 4 5\nf\nnew\n700 7 0\na\n1\n");
    for (text, why) in [
        ("FROM box\nRUN --mount=type=cache true\n", "invalid mount target"),
        ("FROM box\nARG S=src\nRUN --mount=from=$S,target=/x true\n", "doesn't support variable expansion"),
        ("FROM box\nRUN --mount=target=/x,uid=5 true\n", "uid does not go with this type"),
        ("FROM box\nRUN --mount=type=cache,from=box,source=/etc/passwd,target=/x true\n", "no directory"),
    ] {
        let said = site.build(text, "").fails(1).stderr;
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn a_build_goes_where_it_is_told_to() {
    let Some(site) = site("build-outputs") else { return };
    let text = "FROM scratch\nCOPY a.txt /x/y\n";
    site.build(text, "-o out").ok();
    assert_eq!(fs::read_to_string(site.store.scratch.join("out/x/y")).expect("read"), "a\n");
    site.build(text, "-o type=tar,dest=t.tar").ok();
    let names = Cmd::new("tar").words("-tf t.tar").dir(site.store.scratch.path()).ok().stdout;
    assert_eq!(names, "x/\nx/y\n");
    let id = site.build(text, "-q").ok().text().to_owned();
    assert_eq!(id, site.store.image_id("app"));
    for kind in ["oci", "docker"] {
        site.build(text, &format!("-o type={kind},dest={kind}.tar --iidfile iid --metadata-file meta")).ok();
        let other = Store::new("build-other");
        other.rootfs_tool().args(["load", "-i"]).arg(site.store.scratch.join(format!("{kind}.tar"))).ok();
        assert_eq!(other.image_id("app"), id, "{kind}");
        assert_eq!(fs::read_to_string(site.store.scratch.join("iid")).expect("read"), id);
        assert!(fs::read_to_string(site.store.scratch.join("meta")).expect("read").contains(&id));
    }
    let words = "-t two:x -t three --label a=b --label c";
    site.build(text, words).ok().prints("localhost/two:x").prints("localhost/three:latest");
    let labels = site.store.rootfs_tool().args(["inspect", "-f", "{{json .Config.Labels}}", "three"]).ok();
    labels.prints("{\"a\":\"b\",\"c\":\"\"}");
}

#[test]
fn a_context_is_a_folder_a_tar_or_standard_input() {
    let Some(site) = site("build-contexts") else { return };
    site.file("Dockerfile", "FROM box\nCOPY a.txt /x\n").file("other/D", "FROM box\nCOPY d/c.txt /x\n");
    site.file("other/D.dockerignore", "").file(".dockerignore", "a.txt\n");
    let dir = site.context();
    let build =
        |words: &str| site.store.rootfs_tool().args(["build", "-q", "-t", "app"]).words(words).dir(&dir);
    build(".").fails(1).complains("\"/a.txt\": not found");
    build("-f other/D .").ok();
    assert_eq!(site.say("cat /x"), "c\n");
    // Its own list of what is ignored is in the place of the context's.
    site.file("other/D", "FROM box\nCOPY a.txt /x\n");
    build("-f other/D .").ok();
    site.file(".dockerignore", "");
    let tar = |flags: &str| {
        let path = site.store.scratch.join("ctx.tar");
        Cmd::new("tar").arg("-C").arg(&dir).words(flags).arg(&path).arg(".").ok();
        (fs::read(&path).expect("read"), path)
    };
    for flags in ["-cf", "-czf", "-cJf", "-cjf"] {
        let (bytes, path) = tar(flags);
        build("-").stdin(bytes).ok();
        assert_eq!(site.say("cat /x; stat -c %u /x"), "a\n0\n", "{flags}");
        build("").arg(&path).ok();
        build("-f other/D").arg(&path).ok();
        build("-f ../../../etc/passwd").arg(&path).fails(1);
    }
    build("-").stdin("FROM box\nRUN echo in > /x\n").ok();
    assert_eq!(site.say("cat /x"), "in\n");
    build("-").stdin("FROM box\nCOPY a.txt /\n").fails(1).complains("not found");
    build("-f - .").stdin("FROM box\nCOPY d /x\n").ok();
    assert_eq!(site.say("ls /x"), "c.txt\nx.log\n");
    build("-f - -").stdin("FROM box\n").fails(2).complains("can't both be standard input");
    build("nowhere").fails(1).complains("nowhere");
    build("-f nope .").fails(1).complains("there is no such Dockerfile");
}

#[test]
fn copy_has_buildkits_newer_flags() {
    let Some(site) = site("build-copy") else { return };
    site.file("p/q/r.txt", "r\n").file("p/q/s.log", "s\n");
    let text = "FROM box AS base\nRUN mkdir /real && ln -s real /l\n\
        COPY --parents p/q/r.txt d/c.txt /one/\nCOPY --parents p/./q/*.txt /two/\n\
        COPY --exclude=*.log --exclude=sub d /three/\nCOPY --chmod=u=rw,go= a.txt /four\n\
        COPY --link --chown=7:8 a.txt /five/a\nADD --unpack=false pack.tar /six/\nCOPY --link a.txt /l/x\n";
    let pack = site.context().join("pack.tar");
    Cmd::new("tar").arg("-C").arg(site.context()).args(["-cf"]).arg(pack).arg("a.txt").ok();
    site.build(text, "").ok();
    let said = site.say(
        "cd /; find one two three four five six -type f | sort | xargs stat -c '%n %a %u'; ls -ld /l | cut -c1; ls /l",
    );
    let expected = "five/a 644 7\nfour 600 0\none/d/c.txt 644 0\none/p/q/r.txt 644 0\nsix/pack.tar 644 0\n\
        three/c.txt 644 0\ntwo/q/r.txt 644 0\nd\nx\n";
    assert_eq!(said, expected);
}

#[test]
fn a_file_of_the_web_is_fetched_and_checked() {
    let Some(site) = site("build-web") else { return };
    let server = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = server.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for peer in server.incoming() {
            let mut peer = peer.expect("a peer");
            let mut asked = [0; 4096];
            let n = peer.read(&mut asked).unwrap_or(0);
            let missing = String::from_utf8_lossy(&asked[..n]).contains("/missing");
            let (status, body) = if missing { ("404 Not Found", "") } else { ("200 OK", "from the web\n") };
            let dated = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\n";
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{dated}", body.len());
            let _ = peer.write_all((head + body).as_bytes());
        }
    });
    let url = format!("http://127.0.0.1:{port}/deep/name.txt");
    site.build(&format!("FROM box\nADD {url} /x/\nADD --chmod=755 {url} /y\n"), "").ok();
    let said = site.say("cat /x/name.txt; stat -c '%a %Y' /x/name.txt /y");
    assert_eq!(said, "from the web\n600 1445412480\n755 1445412480\n");
    let sum = "0".repeat(64);
    let wrong = site.build(&format!("FROM box\nADD --checksum=sha256:{sum} {url} /x\n"), "");
    let said = wrong.fails(1).complains("digest mismatch sha256:").stderr;
    let real =
        said.split("digest mismatch sha256:").nth(1).and_then(|t| t.split(':').next()).expect("a digest");
    site.build(&format!("FROM box\nADD --checksum=sha256:{real} {url} /x\n"), "").ok();
    let missing = format!("FROM box\nADD http://127.0.0.1:{port}/missing /x\n");
    site.build(&missing, "").fails(1).complains("404");
}

#[test]
fn triggers_of_a_base_run_and_the_same_input_is_the_same_image_everywhere() {
    let Some(site) = site("build-again") else { return };
    let text = "FROM box\nONBUILD COPY a.txt /triggered\nONBUILD ARG T=x\nONBUILD RUN echo $T > /t\n";
    site.build(text, "-t base:1").ok();
    let built = site.build("FROM base:1\nRUN cat /triggered /t\n", "").ok();
    built.complains("ONBUILD COPY a.txt /triggered");
    let left = site.store.rootfs_tool().args(["inspect", "-f", "{{json .Config.OnBuild}}", "app"]).ok();
    left.prints("null");
    // A stage that nothing but a trigger copies from.
    let text =
        "FROM box AS b\nRUN echo 1 > /x\nFROM box AS a\nONBUILD COPY --from=b /x /y\nFROM a\nRUN cat /y\n";
    site.build(text, "").ok();
    let text = "FROM box AS a\nRUN echo 1 > /1\nFROM box AS b\nRUN echo 2 > /2\nFROM box\nCOPY --from=a /1 /\n\
        COPY --from=b /2 /\nRUN mkdir /d && touch /d/x\nWORKDIR /w\nCOPY . /c/\n";
    let other = Site::on(Store::new("build-elsewhere")).expect("as the first");
    let ids = [&site, &other].map(|site| {
        site.file("Dockerfile", text);
        let build = site.store.rootfs_tool().args(["build", "-q", "-t", "app"]).arg(site.context());
        build.env("SOURCE_DATE_EPOCH", "1000000000").ok().text().to_owned()
    });
    assert_eq!(ids[0], ids[1]);
    assert_eq!(site.say("stat -c %Y /1 /d/x /w"), "1000000000\n1000000000\n1000000000\n");
    site.store.rootfs_tool().arg("verify").ok();
}

#[test]
fn a_folder_with_a_recipe_is_composed_and_the_runner_hands_the_verb_over() {
    let Some(site) = site("build-recipe") else { return };
    let recipe = site.store.scratch.mkdir("recipe");
    fs::write(recipe.join("rootfs.toml"), "[[layer]]\nfile = { \"x\" = \"1\" }\n").expect("write");
    site.store.rootfs_tool().args(["build", "-t", "made"]).arg(&recipe).ok().prints("localhost/made:latest");
    let flag = site.store.rootfs_tool().args(["build", "--target", "x"]).arg(&recipe);
    flag.fails(2).complains("--target goes with Dockerfiles");
    site.file("Dockerfile", "FROM box\nRUN true\n");
    site.store.runner().args(["build", "-q", "-t", "app"]).arg(site.context()).ok();
}

#[test]
fn networks_hosts_limits_and_rights_are_those_that_were_asked_for() {
    let Some(site) = site("build-limits") else { return };
    let text = "FROM box\nRUN --network=none ls /sys/class/net > /none\nRUN ls /sys/class/net | wc -l > /all\n\
        RUN grep box1 /etc/hosts > /hosts; df -k /dev/shm | tail -n 1 | awk '{print $2}' > /shm\n\
        RUN ulimit -n > /files; hostname > /name\n\
        RUN grep CapEff /proc/self/status > /caps\nRUN --security=insecure grep CapEff /proc/self/status >> /caps\n";
    let flags = "--add-host box1:10.1.2.3 --shm-size 1m --ulimit nofile=100:200";
    // A Dockerfile that somebody else wrote has no right over the host that was not given to it.
    for (steps, given) in [
        ("RUN --security=insecure true", ""),
        ("RUN --security=insecure true", "--allow network.host"),
        ("RUN --network=host true", ""),
        ("RUN --network=host true", "--allow security.insecure"),
        ("RUN --network=host true", "--network none"),
        ("RUN --network=host --security=insecure true", "--allow network.host"),
    ] {
        let out = site.build(&format!("FROM box\n{steps}\n"), given).fails(1);
        assert!(out.stderr.contains(" is not allowed (--allow "), "{steps} {given}: {out}");
    }
    site.build("FROM box\nRUN --network=host true\n", "--network host").ok();
    site.build(text, flags).fails(1).complains("security.insecure is not allowed");
    site.build(text, &format!("{flags} --allow security.insecure")).ok();
    assert_eq!(
        site.say("cat /none /hosts /shm /files /name"),
        "lo\n10.1.2.3\tbox1\n1024\n100\nbuildkitsandbox\n"
    );
    let caps = site.say("cut -f2 /caps");
    let caps: Vec<&str> = caps.lines().collect();
    assert_eq!(caps[0], "00000000a80425fb");
    assert_ne!(caps[0], caps[1]);
    // Others come and go at this moment; the container's own loopback would be one.
    assert_ne!(site.say("cat /all").trim(), "1", "the host has more than its loopback device");
    site.build(
        &text.replace("RUN ls", "RUN echo none >/dev/null; ls"),
        "--network none --allow security.insecure",
    )
    .ok();
    assert_eq!(site.say("cat /all"), "1\n");
}

#[test]
fn an_ordinary_user_builds() {
    let ready = need(Privilege::OrdinaryUser) && need(Privilege::UserNamespaces);
    if !ready || !need(Privilege::Peer("busybox")) {
        return;
    }
    let Some(site) = Site::on(Store::of_user("build-user")) else { return };
    let text = "FROM box\nRUN mkdir /d && chown 5:6 /d && echo 1 > /x\nUSER 1000\nWORKDIR /w\nRUN id -u > who\n\
        COPY --chown=7:8 a.txt /y\nRUN --mount=type=cache,target=/c,uid=1000 touch /c/x\nRUN --network=none true\n";
    site.build(text, "").ok();
    let said = site.say("cat /x /w/who; stat -c '%u %g' /d /w /y");
    assert_eq!(said, "1\n1000\n5 6\n1000 1000\n7 8\n");
    assert_eq!(cached(&site.build(text, "").ok()), 6);
    site.store.rootfs_tool().arg("verify").ok();
}

#[test]
fn a_store_that_copies_and_one_on_an_overlay_build_the_same() {
    let Some(site) = site("build-drivers") else { return };
    let text = "FROM box\nRUN mkdir /d && echo 1 > /d/x && echo 2 > /y && chmod 4711 /y\n\
        RUN rm -r /d /y && mkdir /d && ln -s / /d/l\nCOPY d /e/\nWORKDIR /w\n";
    let look = |store: &Store| {
        let tar = store.scratch.join("flat.tar");
        store.rootfs_tool().args(["export", "app", "-o"]).arg(&tar).ok();
        let list = Cmd::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar).ok().stdout;
        let columns = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {} {}\n", words[0], words[1], words[2], words[5..].join(" "))
        };
        // Of a copied tree the root is told as well.
        list.lines().filter(|l| !l.ends_with(" ./")).map(columns).collect::<String>()
    };
    site.build(text, "").ok();
    let expected = look(&site.store);
    let image = site.store.scratch.join("box.tar");
    site.store.rootfs_tool().args(["save", "box", "-o"]).arg(&image).ok();
    for driver in ["vfs", "on-overlay"] {
        let other = Store::new("build-driver");
        if driver == "on-overlay" {
            for dir in ["lower", "upper", "work", "store"] {
                other.scratch.mkdir(dir);
            }
            let at = |name: &str| other.scratch.join(name).display().to_string();
            let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
            let words = ["-t", "overlay", "overlay", "-o", &options, &at("store")];
            Cmd::new("mount").args(words).ok();
        }
        let tool = || match driver {
            "vfs" => other.rootfs_tool().env("CORACLE_STORAGE_DRIVER", "vfs"),
            _ => other.rootfs_tool(),
        };
        tool().args(["load", "-i"]).arg(&image).ok();
        tool().args(["build", "-q", "-t", "app"]).arg(site.context()).ok();
        assert_eq!(look(&other), expected, "{driver}");
    }
}
