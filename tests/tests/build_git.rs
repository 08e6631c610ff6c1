//! `rootfs-tool build` of git repositories, as contexts and by ADD: over git's own protocol, and over HTTP by git's
//! program for web servers.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use coracle_tests::command::Running;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, eventually, need};

/// A store with an image `box`, and two servers of one repository.
struct Site {
    store: Store,
    _image: Image,
    _servers: [Running; 2],
    /// `git://127.0.0.1:PORT/`, and the same of HTTP.
    git: String,
    web: String,
}

const REPOSITORY: &str = r#"set -e
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z'
umask 077
git config --global user.name n; git config --global user.email n@example.org
git config --global init.defaultBranch main; git config --global protocol.file.allow always
git init -q lib; cd lib; echo lib > l; git add .; git commit -qm 1; cd ..
git clone -q --bare lib srv/lib.git
git init -q app; cd app
mkdir sub; echo 1 > top; echo s > sub/f; printf '#!/bin/sh\n' > run; chmod +x run; ln -s /etc out; ln -s .. sub/up
printf 'FROM box\nCOPY . /x/\nRUN --network=none cat /x/top\n' > Dockerfile
printf 'FROM box\nCOPY f /y\n' > sub/Dockerfile
git add .; git commit -qm 1; git tag v1; git tag -a -m note noted
git checkout -q -b side; echo side > top; git commit -qam side
git checkout -q main; git tag side; echo 2 > top; git commit -qam 2
git submodule add -q "$1/lib.git" dep; git commit -qam sub; git tag with-sub; git reset -q --hard HEAD~1
rm -rf dep
git checkout -q -b bad; printf '[submodule "x"]\n\tpath = x\n\turl = file:///etc\n' > .gitmodules
git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),x; git add .gitmodules; git commit -qm bad; git checkout -qf main
cd ..; git clone -q --bare app srv/app.git; git -C srv/app.git fetch -q ../../app bad:bad with-sub:refs/tags/with-sub
git -C app rev-parse v1 main
"#;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Site {
    fn new(name: &str) -> Option<(Self, Vec<String>)> {
        let peers = ["busybox", "git"].iter().all(|p| need(Privilege::Peer(p)));
        if !peers || !need(Privilege::Root) {
            return None;
        }
        let store = Store::new(name);
        let image = Image::busybox()?.compose(&store, "box");
        let (git, web) = (free_port(), free_port());
        let root = store.scratch.mkdir("srv");
        for (file, exports) in [("git", ""), ("private", "")] {
            let script = format!(
                "#!/bin/sh\n{exports}export GIT_PROJECT_ROOT={} GIT_HTTP_EXPORT_ALL=1\nexec git -c safe.directory='*' http-backend\n",
                root.display()
            );
            let path = store.scratch.write(format!("www/cgi-bin/{file}"), &script);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let conf = store.scratch.write("httpd.conf", "/cgi-bin/private:x-access-token:s3cret\n");
        store.scratch.write("www/Dockerfile.txt", "FROM box\nRUN --network=none echo web > /w\n");
        let path = Cmd::new("git").arg("--exec-path").ok().stdout;
        let daemon = Cmd::new(format!("{}/git-daemon", path.trim()))
            .args(["--listen=127.0.0.1", "--export-all", "--informative-errors"])
            .arg(format!("--port={git}"))
            .arg(format!("--base-path={}", root.display()))
            .arg(&root)
            .spawn();
        let httpd = Cmd::new("busybox")
            .args(["httpd", "-f", "-p", &format!("127.0.0.1:{web}"), "-h", "www", "-c"])
            .arg(&conf)
            .dir(store.scratch.path())
            .spawn();
        for port in [git, web] {
            eventually("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        let (git, web) = (format!("git://127.0.0.1:{git}"), format!("http://127.0.0.1:{web}"));
        let made = Cmd::new("sh").args(["-c", REPOSITORY, "sh", &git]).dir(store.scratch.path()).ok().stdout;
        let commits = made.lines().map(str::to_owned).collect();
        Some((Self { store, _image: image, _servers: [daemon, httpd], git, web }, commits))
    }

    fn build(&self, words: &str, context: &str) -> Output {
        self.store.rootfs_tool().words("build -t app").words(words).arg(context).run()
    }

    fn add(&self, dockerfile: &str) -> Output {
        self.store.scratch.write("c/Dockerfile", dockerfile);
        self.build("", &self.store.scratch.join("c").display().to_string())
    }

    #[track_caller]
    fn say(&self, script: &str) -> String {
        self.store.run("app sh -c").arg(script).ok().stdout
    }
}

#[test]
fn a_repository_is_a_context_at_each_of_its_refs_and_folders() {
    let Some((site, commits)) = Site::new("git-context") else { return };
    let (git, web) = (format!("{}/app.git", site.git), format!("{}/cgi-bin/git/app.git", site.web));
    let all = "cat /x/top; ls -A /x; stat -c '%a %u' /x/top /x/run /x/sub; readlink /x/out";
    let files = "Dockerfile\nout\nrun\nsub\ntop\n644 0\n755 0\n755 0\n/etc\n";
    for (context, top) in [
        (git.clone(), "2"),
        (web.clone(), "2"),
        (format!("{git}#v1"), "1"),
        (format!("{git}#noted"), "1"),
        (format!("{web}#main"), "2"),
        // A branch and a tag of one name.
        (format!("{git}#side"), "side"),
        (format!("{git}#refs/tags/side"), "1"),
        (format!("{git}#{}", commits[0]), "1"),
        (format!("{web}#{}", &commits[0][..9]), "1"),
    ] {
        let out = site.build("", &context).ok();
        assert!(out.stderr.contains("[internal] load git source"), "{out}");
        assert_eq!(site.say(all), format!("{top}\n{files}"), "{context}");
    }
    // The same commit is the same input, wherever it was fetched to.
    let again = site.build("", &format!("{git}#v1")).ok();
    assert_eq!(again.stderr.lines().filter(|l| l.ends_with(" CACHED")).count(), 2, "{again}");
    site.build("", &format!("{git}#:sub")).ok();
    assert_eq!(site.say("cat /y"), "s\n");
    site.build("-f sub/Dockerfile", &format!("{git}#v1:sub/up")).fails(1).complains("COPY");
    site.build("-f sub/Dockerfile", &format!("{git}#v1:sub/up/sub"))
        .fails(1)
        .complains("\"/sub/Dockerfile\": not found");
    site.build("--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &git).ok();
    assert!(site.say("cat /x/.git/config").contains(&git));
    // Submodules come along, without what is git's own.
    site.build("", &format!("{git}#with-sub")).ok();
    assert_eq!(site.say("cat /x/dep/l; ls -A /x/dep"), "lib\nl\n");
    site.build("", &format!("{}/Dockerfile.txt", site.web)).ok();
    assert_eq!(site.say("cat /w"), "web\n");
    site.store.rootfs_tool().arg("verify").ok();
}

#[test]
fn add_takes_a_repository_its_history_and_its_checksum() {
    let Some((site, commits)) = Site::new("git-add") else { return };
    let web = format!("{}/cgi-bin/git/app.git", site.web);
    let (v1, short) = (&commits[0], &commits[0][..7]);
    site.add(&format!(
        "FROM box\nADD {web}#v1 /src\nADD --chown=7:8 --exclude=sub --checksum={short} {web}#v1 /o\n"
    ))
    .ok();
    assert_eq!(
        site.say("cat /src/top; ls -A /src | wc -l; ls -A /o | wc -l; stat -c '%u %g' /o/top"),
        "1\n5\n4\n7 8\n"
    );
    site.add(&format!(
        "FROM box\nARG REF=v1\nADD --keep-git-dir=true --checksum={v1} {web}#${{REF}} /src/\n"
    ))
    .ok();
    assert_eq!(site.say("cut -c1-40 /src/.git/HEAD"), format!("{v1}\n"));
    site.add(&format!("FROM scratch\nADD --link {}/app.git#v1:sub /\nADD {web}#v1:sub /two/\n", site.git))
        .ok();
    site.add(&format!("FROM box\nADD --checksum={v1} {web} /src\n"))
        .fails(1)
        .complains(&format!("expected checksum to match {v1}, got {}", commits[1]));
    // Whoever has no key is told so, and the key is in no layer and no message.
    let private = format!("{}/cgi-bin/private/app.git", site.web);
    site.build("", &private).fails(1).complains("could not read Username");
    site.store.scratch.write("token", "s3cret\n");
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", site.store.scratch.join("token").display());
    let keep = "--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1 --secret";
    let out = site.build(&format!("{keep} {secret}"), &private).ok();
    assert!(!out.stderr.contains("s3cret"), "{out}");
    assert_eq!(site.say("grep -r s3cret /x; cat /x/top"), "2\n");
    let host = secret.replace("GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.127.0.0.1:1");
    site.build(&format!("--secret {host}"), &private).fails(1).complains("could not read Username");
}

#[test]
fn no_repository_and_no_address_leads_to_a_file_or_a_command_of_the_host() {
    let Some((site, _)) = Site::new("git-hostile") else { return };
    let git = format!("{}/app.git", site.git);
    let trap = site.store.scratch.join("trap");
    let touch = format!("touch {}", trap.display());
    for (context, complaint) in [
        (format!("{git}#--upload-pack={touch}"), "no name of a branch"),
        (format!("{git}#v1..v2"), "no name of a branch"),
        (format!("{git}#nowhere"), "repository does not contain ref nowhere"),
        (format!("{git}#0123456789abcdef0123456789abcdef01234567"), "does not contain ref 0123456789"),
        (format!("{git}#:nowhere"), "not found"),
        (format!("{git}#:top"), "no folder"),
        // A link of the repository leads nowhere else.
        (format!("{git}#:out"), "not found"),
        (format!("{git}#bad"), "transport 'file' not allowed"),
        (format!("{}/none.git", site.git), "git fetch: fatal: remote error"),
        (format!("ssh://-oProxyCommand={touch}/r"), "its host is none"),
        (format!("-oProxyCommand={}@h:r", trap.display()), "unrecognized"),
        (format!("ext::sh -c '{touch}'"), "open("),
        (format!("file://{}", site.store.scratch.join("srv/app.git").display()), "open("),
    ] {
        let context = context.replace(&touch, &touch.replace(' ', "${IFS}"));
        let out = site.build("", &context);
        assert!(
            out.code() != 0 && (out.stderr.contains(complaint) || complaint == "unrecognized"),
            "{context}: {out}"
        );
        assert!(!trap.exists(), "{context}");
    }
    for (source, complaint) in [
        (format!("{git}#-x"), "no name of a branch"),
        (format!("{git}#bad"), "transport 'file' not allowed"),
        ("git@-oProxyCommand:r".to_owned(), "its host is none"),
    ] {
        site.add(&format!("FROM box\nADD {source} /x\n")).fails(1).complains(complaint);
    }
    // What the caller has set for a repository of his own is not for this one.
    let build = site.store.rootfs_tool().words("build -t app").arg(&git);
    build.env("GIT_DIR", "/nonexistent").env("GIT_WORK_TREE", "/").env("GIT_ALLOW_PROTOCOL", "file:ext").ok();
    let empty = site.store.scratch.mkdir("empty");
    let without = site.store.rootfs_tool().words("build -t app").arg(&git).env("PATH", &empty);
    without.fails(1).complains("it is not installed (the package git)");
}
