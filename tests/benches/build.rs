//! A Dockerfile of five RUN and COPY steps, cold and with every step known, and a rebuild after one changed file in a
//! context of 10,000: ours beside docker's BuildKit, docker's older builder and buildah. Wall times, medians. Root alone;
//! what is not installed is said and left out.

use std::path::Path;
use std::time::Instant;

use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, peer, privilege};

const STEPS: &str =
    "FROM box\nRUN echo 1 > /1\nCOPY a /a\nRUN echo 2 > /2\nCOPY b /b\nRUN echo 3 > /3\nCMD [\"sh\"]\n";
const MANY: &str = "FROM box\nCOPY . /all/\n";

/// What is timed: a context, and whether steps may be known.
const MEASURES: [(&str, &str, bool); 3] = [
    ("five steps, cold", "few", false),
    ("five steps, cached", "few", true),
    ("one file of 10,000", "many", true),
];

fn main() {
    let Some(image) = Image::busybox().filter(|_| privilege::have(Privilege::Root)) else {
        println!("left out: build: it needs root and busybox-static");
        return;
    };
    let store = Store::new("bench-build");
    let _image = image.compose(&store, "box");
    let tar = store.scratch.join("box.tar");
    store.rootfs_tool().args(["save", "box", "-o"]).arg(&tar).ok();
    store.scratch.write("few/Dockerfile", STEPS);
    store.scratch.write("few/a", "a");
    store.scratch.write("few/b", "b");
    store.scratch.write("many/Dockerfile", MANY);
    for n in 0..10_000 {
        store.scratch.write(format!("many/d{}/f{n}", n % 100), format!("{n}\n"));
    }
    let daemon = peer("dockerd").map(|_| Dockerd::start(&[]));
    if let Some(daemon) = &daemon {
        daemon.docker("load -i").arg(&tar).ok();
        daemon.docker("tag localhost/box:latest box:latest").ok();
    }
    let roots = [store.scratch.join("b"), store.scratch.join("br")];
    let buildah = || Cmd::new("buildah").arg("--root").arg(&roots[0]).arg("--runroot").arg(&roots[1]);
    let has_buildah = peer("buildah").is_some();
    if has_buildah {
        buildah().arg("pull").arg(format!("docker-archive:{}", tar.display())).ok();
    }
    type Way<'a> = (&'a str, Box<dyn Fn(&Path, bool) -> Cmd + 'a>);
    let none = |known: bool| if known { "" } else { "--no-cache" };
    let mut field: Vec<Way<'_>> = vec![(
        "ours",
        Box::new(|dir, known| {
            store.rootfs_tool().words("build -q --network none -t bench").words(none(known)).arg(dir)
        }),
    )];
    if let Some(daemon) = &daemon {
        for (name, on) in [("BuildKit", "1"), ("docker's older", "0")] {
            field.push((
                name,
                Box::new(move |dir, known| {
                    let client = Cmd::new("/usr/bin/docker").args(["-H", daemon.socket()]);
                    let build = client.env("DOCKER_BUILDKIT", on).words("build -q --network none -t bench");
                    build.words(none(known)).arg(dir)
                }),
            ));
        }
    }
    if has_buildah {
        field.push((
            "buildah",
            Box::new(|dir, known| {
                let build = buildah().words("bud -q --isolation chroot --layers --pull=never -t bench");
                build.words(none(known)).arg(dir)
            }),
        ));
    }
    for absent in ["dockerd", "buildah"].into_iter().filter(|name| peer(name).is_none()) {
        println!("left out: {absent} is not installed");
    }
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    println!("{:<20} {:<16} {:>10} {:>8}", "", "", "median ms", "x ours");
    for (what, context, known) in MEASURES {
        let dir = store.scratch.join(context);
        let mut ours = 0.0;
        for (name, build) in &field {
            build(&dir, true).ok();
            let mut times = Vec::new();
            for round in 0..rounds {
                if context == "many" {
                    store.scratch.write("many/d7/f7", format!("{name} {round}\n"));
                }
                let began = Instant::now();
                build(&dir, known).ok();
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            if ours == 0.0 {
                ours = median;
            }
            println!("{what:<20} {name:<16} {median:>10.0} {:>7.1}x", median / ours);
        }
    }
}
