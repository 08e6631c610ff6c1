//! More of what hands type to docker every day, line by line as in `docker_words.rs`: who is attached to what, and the lines of
//! scripts and of pages.

use coracle_tests::words::{ready, same};

#[test]
fn streams_are_attached_to_as_dockers_are() {
    if !ready() {
        return;
    }
    same(
        "daily-attach",
        r#"
        docker run --rm -a stdout box sh -c 'echo out; echo err >&2'
        docker run --rm -a stderr box sh -c 'echo out; echo err >&2' 2>&1
        docker run --rm -a STDOUT box sh -c 'echo out; echo err >&2' 2>&1
        docker run --rm -a stdout -a stderr box sh -c 'echo out; echo err >&2; exit 3' | cat
        echo typed | docker run --rm -a stdin -a stdout box cat
        echo typed | docker run --rm -i -a stdin -a stdout box cat
        echo typed | docker run --rm -i -a stdout box cat
        docker run --name fed -i -a stdin box sh -c 'cat; exit 3' </dev/null
        docker run --rm -a stdin -d box cat
        docker run --rm -a nosuch box true
        docker run --rm -t -a stdout box echo hi
        docker run --rm -t -a stderr box echo hi
        docker run --rm --attach=stdout --sig-proxy=false box echo hi
        docker run --rm --sig-proxy=maybe box true
        docker run -d --rm --sig-proxy=false box true
        docker create -a stdout --name made box sh -c 'echo out; echo err >&2; exit 4'
        docker start -a made 2>&1 | sort
        docker inspect -f '{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.StdinOnce}}' made fed
        docker create -i --name cat box cat
        echo typed | docker start -ai cat
        echo typed | docker start -i cat
        echo typed | docker start --attach --interactive cat
        docker start -a cat made
        docker start -i cat made
        docker run -d --name talk box sh -c 'sleep 1; echo x; exit 4'; docker attach --no-stdin --sig-proxy=false talk
        docker attach nosuch
        docker attach --sig-proxy=maybe talk
        docker attach --detach-keys
        docker ps -n x
        docker ps --no-trunc=x
        docker rm made fed cat talk
        docker --version | grep -c '^Docker version [0-9.]*, build [a-z0-9]'
        docker -v | grep -c '^Docker version [0-9.]*, build [a-z0-9]'
        docker builder prune -f
        docker builder prune -af --filter until=24h
        docker builder prune -f --filter nosuch=x
        echo n | docker builder prune >/dev/null
        "#,
        &[],
    );
}

#[test]
fn limits_that_the_host_cannot_give_are_refused_as_docker_refuses_them() {
    if !ready() {
        return;
    }
    same(
        "daily-limits",
        r#"
        docker run --rm --cpus 500 box true
        docker create --cpus 500 box true
        docker run --rm --cpus $(nproc).01 box true
        docker run --rm --cpus $(nproc) box true
        docker run --rm --cpus 0 box true
        docker run --rm --cpus 0.001 box true
        docker run --rm --cpus x box true
        docker run --rm --cpuset-cpus 9999 box true
        docker run --rm --cpuset-cpus x box true
        docker run --rm --cpuset-cpus 0 box nproc
        docker run --rm --cpuset-mems 99 box true
        docker run --rm --memory 1k box true
        docker run --rm --memory 6m box true
        docker run --rm --memory x box true
        docker run --rm --memory-reservation 1k box true
        docker run --rm --memory 32m --memory-reservation 64m box true
        docker run --rm --memory-swap 64m box true
        docker run --rm --memory-swappiness 200 box true
        docker run --rm --cpu-quota 50000 --cpus 1 box true
        docker run --rm --cpu-period 10 box true
        docker run --rm --pids-limit 0 box true
        docker run --rm --pids-limit -1 box true
        docker run --rm --oom-score-adj 2000 box true
        docker run --rm --ulimit nofile=20:10 box true
        docker run --rm --ulimit nofile=x box true
        docker run --rm --shm-size x box true
        docker run -d --name web box sleep 100
        docker update --cpus 500 web
        docker update --cpuset-cpus 9999 web
        docker update --cpuset-mems 99 web
        docker update --memory 1k web
        docker update --cpu-period 10 web
        docker update --cpus 0.5 --memory 64m --memory-swap -1 web
        docker inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}' web
        docker rm -f web
        "#,
        &[],
    );
}
